/* scarce.h - memory hooks for vcl_options that fail at a given allocation and count blocks. */
#ifndef VCL_TESTS_SCARCE_H
#define VCL_TESTS_SCARCE_H

#include <stdlib.h>

struct scarce {
    long left; /* allocations until one fails; below 0 = never */
    long blocks;
};

static inline void *scarce_allocate(void *user, size_t bytes)
{
    struct scarce *const s = user;
    if (s->left == 0)
        return NULL;
    if (s->left > 0)
        s->left--;
    s->blocks++;
    return malloc(bytes);
}

static inline void scarce_release(void *user, void *block)
{
    ((struct scarce *)user)->blocks--;
    free(block);
}

#endif
