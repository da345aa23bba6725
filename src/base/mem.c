/* mem.c - the allocator a context was given. */
#include "mem.h"

#include <stdlib.h>
#include <string.h>

static void *from_malloc(void *user, size_t bytes)
{
    (void)user;
    return malloc(bytes);
}

static void to_free(void *user, void *block)
{
    (void)user;
    free(block);
}

struct vcl_mem vcl_mem_default(void)
{
    const struct vcl_mem mem = { NULL, from_malloc, to_free };
    return mem;
}

void *vcl_alloc(const struct vcl_mem *mem, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    if (bytes == 0)
        bytes = 1;
    void *block = mem->allocate(mem->user, bytes);
    if (block)
        memset(block, 0, bytes);
    return block;
}

void vcl_free(const struct vcl_mem *mem, void *block)
{
    if (block)
        mem->release(mem->user, block);
}
