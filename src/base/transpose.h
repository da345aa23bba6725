/* transpose.h - matrices of values of 2, 4 or 8 bytes, turned over. */
#ifndef VCL_TRANSPOSE_H
#define VCL_TRANSPOSE_H

#include <stddef.h>
#include <stdint.h>

/* rows x cols values of `size` bytes (2, 4 or 8), rows `src_stride` values apart, to cols rows
 * `dst_stride` values apart. */
void vcl_transpose(const void *src, size_t rows, size_t cols, size_t size, size_t src_stride, void *dst,
                   size_t dst_stride);

#endif
