/* sized.h - structs of the public headers that may grow.
 *
 * They begin with `size`, sizeof as the caller was compiled.  A caller's may be shorter than the library's,
 * whose later fields then keep their defaults, or longer, where the caller is newer: what the library does
 * not know must be 0, or it would be passed over in silence. */
#ifndef VCL_SIZED_H
#define VCL_SIZED_H

#include "base/common.h"

#include <stddef.h>

enum { VCL_SIZED_MOST = 4096 }; /* a larger one has never been written to */

static inline size_t vcl_sized_bytes(const void *given)
{
    size_t size;
    memcpy(&size, given, sizeof size);
    return size;
}

/* Can it be one? */
static inline int vcl_is_sized(const void *given)
{
    const size_t size = vcl_sized_bytes(given);
    return size > sizeof size && size <= VCL_SIZED_MOST;
}

/* From the caller's struct to ours of `known` bytes, which holds the defaults.  0 where it cannot be. */
static inline int vcl_take_sized(const void *given, void *ours, size_t known)
{
    if (!vcl_is_sized(given))
        return 0;
    const size_t size = vcl_sized_bytes(given);
    for (size_t i = known; i < size; i++)
        if (((const uint8_t *)given)[i] != 0)
            return 0;
    memcpy(ours, given, size < known ? size : known);
    memcpy(ours, &known, sizeof known);
    return 1;
}

/* From ours to the caller's, which says its size.  0 where it cannot be given. */
static inline int vcl_give_sized(const void *ours, size_t known, void *theirs)
{
    if (!vcl_is_sized(theirs))
        return 0;
    const size_t size = vcl_sized_bytes(theirs);
    memset(theirs, 0, size);
    memcpy(theirs, ours, size < known ? size : known);
    memcpy(theirs, &size, sizeof size);
    return 1;
}

/* What an _init does: the defaults to a struct of `size` bytes, whatever is there. */
static inline void vcl_init_sized(const void *defaults, size_t known, void *theirs, size_t size)
{
    if (size < sizeof size)
        return;
    memcpy(theirs, &size, sizeof size);
    vcl_give_sized(defaults, known, theirs);
}

#endif
