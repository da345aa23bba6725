/* mem.h - the allocator a context was given. */
#ifndef VCL_MEM_H
#define VCL_MEM_H

#include <stddef.h>

struct vcl_mem {
    void *user;
    void *(*allocate)(void *user, size_t bytes);
    void (*release)(void *user, void *block);
};

/* malloc and free */
struct vcl_mem vcl_mem_default(void);

/* count x size bytes, zeroed; NULL if there is no room or the product overflows.  A size of 0 gives a
 * valid block. */
void *vcl_alloc(const struct vcl_mem *mem, size_t count, size_t size);
void vcl_free(const struct vcl_mem *mem, void *block);

#endif
