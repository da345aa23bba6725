/* grown.h - structs that begin with `size` and may grow (vcllm.h, "Conventions"), as callers give and get
 * them. */
#ifndef VCL_GROWN_H
#define VCL_GROWN_H

#include <stddef.h>

/* From the caller's struct to ours of `known` bytes, which holds the defaults.  0 where it cannot be one, or
 * where what this library does not know of it is not 0. */
int vcl_grown_take(const void *given, void *ours, size_t known);
/* From ours to the caller's, which says its size.  0 where it cannot be given. */
int vcl_grown_give(const void *ours, size_t known, void *theirs);
/* What an _init does: the defaults to a struct of `size` bytes, whatever is there. */
void vcl_grown_init(const void *defaults, size_t known, void *theirs, size_t size);

#endif
