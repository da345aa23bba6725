/* mem.c - the allocator a context was given, and the blocks it keeps for its next call. */
#include "mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "sanitize.h"

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
    const struct vcl_mem mem = { NULL, from_malloc, to_free, NULL };
    return mem;
}

/* Stands before every block, which is aligned. */
enum { ALIGNMENT = 64 };
struct head {
    void *allocation;
    size_t bytes;
};
_Static_assert(sizeof(struct head) <= ALIGNMENT, "the head fits before the block");

static struct head *head_of(void *block) { return (struct head *)((uint8_t *)block - sizeof(struct head)); }

/* From a block to the end of its allocation. */
static size_t reach_of(void *block)
{
    const struct head *const head = head_of(block);
    return head->bytes + 2 * ALIGNMENT - (size_t)((uint8_t *)block - (uint8_t *)head->allocation);
}

/* ---- blocks kept ------------------------------------------------------------------------------- */

enum { SPARES = 64, LEAST = 1 << 14 };
struct vcl_spares {
    size_t most, bytes;
    void *block[SPARES]; /* oldest first */
    int count;
};

static void *take(struct vcl_spares *spares, int i)
{
    void *const block = spares->block[i];
    spares->bytes -= head_of(block)->bytes;
    spares->count--;
    memmove(spares->block + i, spares->block + i + 1, (size_t)(spares->count - i) * sizeof *spares->block);
    return block;
}

/* The smallest that is large enough, unless it is far too large. */
static void *find_spare(struct vcl_spares *spares, size_t bytes)
{
    int best = -1;
    for (int i = 0; spares && i < spares->count; i++) {
        const size_t size = head_of(spares->block[i])->bytes;
        if (size >= bytes && size / 4 <= bytes && (best < 0 || size < head_of(spares->block[best])->bytes))
            best = i;
    }
    return best < 0 ? NULL : take(spares, best);
}

static void give_back(const struct vcl_mem *mem, void *block)
{
    vcl_unpoison(block, reach_of(block));
    mem->release(mem->user, head_of(block)->allocation);
}

static void keep(const struct vcl_mem *mem, void *block)
{
    struct vcl_spares *const spares = mem->spares;
    const size_t bytes = head_of(block)->bytes;
    while (spares->count > 0 && (spares->count == SPARES || spares->bytes + bytes > spares->most))
        give_back(mem, take(spares, 0));
    if (bytes > spares->most) {
        give_back(mem, block);
        return;
    }
    vcl_poison(block, bytes);
    spares->block[spares->count++] = block;
    spares->bytes += bytes;
}

int vcl_mem_keep(struct vcl_mem *mem, size_t most)
{
    mem->spares = vcl_alloc(mem, 1, sizeof *mem->spares);
    if (mem->spares)
        mem->spares->most = most;
    return mem->spares != NULL;
}

static void give_all_back(const struct vcl_mem *mem)
{
    while (mem->spares && mem->spares->count > 0)
        give_back(mem, take(mem->spares, 0));
}

void vcl_mem_drop(struct vcl_mem *mem)
{
    struct vcl_spares *const spares = mem->spares;
    give_all_back(mem);
    mem->spares = NULL;
    vcl_free(mem, spares);
}

/* ---- blocks ------------------------------------------------------------------------------------ */

static void *allocate(const struct vcl_mem *mem, size_t bytes)
{
    size_t all;
    if (__builtin_add_overflow(bytes, 2 * ALIGNMENT, &all))
        return NULL;
    uint8_t *const allocation = mem->allocate(mem->user, all);
    if (!allocation)
        return NULL;
    uint8_t *const block = allocation + 2 * ALIGNMENT - (uintptr_t)allocation % ALIGNMENT;
    *head_of(block) = (struct head){ allocation, bytes };
    vcl_poison(block, reach_of(block));
    return block;
}

void *vcl_alloc_raw(const struct vcl_mem *mem, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    bytes = bytes ? bytes : 1;
    void *block = bytes >= LEAST ? find_spare(mem->spares, bytes) : NULL;
    if (!block)
        block = allocate(mem, bytes);
    if (!block && mem->spares) { /* perhaps there is room without them */
        give_all_back(mem);
        block = allocate(mem, bytes);
    }
    if (block)
        vcl_unpoison(block, bytes);
    return block;
}

void *vcl_alloc(const struct vcl_mem *mem, size_t count, size_t size)
{
    void *const block = vcl_alloc_raw(mem, count, size);
    if (block)
        memset(block, 0, count * size);
    return block;
}

void vcl_free(const struct vcl_mem *mem, void *block)
{
    if (!block)
        return;
    if (mem->spares && head_of(block)->bytes >= LEAST)
        keep(mem, block);
    else
        give_back(mem, block);
}
