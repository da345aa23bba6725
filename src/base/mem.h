/* mem.h - the allocator a context was given, and the blocks it keeps for its next call. */
#ifndef VCL_MEM_H
#define VCL_MEM_H

#include <stddef.h>

/* Blocks freed and not given back: fresh pages cost as much as coding what goes into them. */
struct vcl_spares;

struct vcl_mem {
    void *user;
    void *(*allocate)(void *user, size_t bytes);
    void (*release)(void *user, void *block);
    struct vcl_spares *spares; /* NULL: none are kept */
};

/* malloc and free */
struct vcl_mem vcl_mem_default(void);

/* From now on mem keeps large blocks when they are freed, `most` bytes of them, for one thread at a time;
 * 0 where there is no room.  And gives them all back. */
int vcl_mem_keep(struct vcl_mem *mem, size_t most);
void vcl_mem_drop(struct vcl_mem *mem);

/* count x size bytes, zeroed (vcl_alloc) or of whatever they held (vcl_alloc_raw), aligned to 64; NULL if
 * there is no room or the product overflows.  A size of 0 gives a valid block. */
void *vcl_alloc(const struct vcl_mem *mem, size_t count, size_t size);
void *vcl_alloc_raw(const struct vcl_mem *mem, size_t count, size_t size);
void vcl_free(const struct vcl_mem *mem, void *block);

#endif
