/* transpose.c - matrices of values of 2, 4 or 8 bytes, turned over. */
#include "transpose.h"

#include <string.h>

/* A constant size lets a compiler make one load and one store of each copy. */
static inline __attribute__((always_inline)) void transpose(const uint8_t *src, size_t rows, size_t cols,
                                                            size_t size, size_t src_stride, uint8_t *dst,
                                                            size_t dst_stride)
{
    for (size_t c = 0; c < cols; c++)
        for (size_t r = 0; r < rows; r++)
            memcpy(dst + (c * dst_stride + r) * size, src + (r * src_stride + c) * size, size);
}

void vcl_transpose(const void *src, size_t rows, size_t cols, size_t size, size_t src_stride, void *dst,
                   size_t dst_stride)
{
    if (size == 2)
        transpose(src, rows, cols, 2, src_stride, dst, dst_stride);
    else if (size == 4)
        transpose(src, rows, cols, 4, src_stride, dst, dst_stride);
    else
        transpose(src, rows, cols, 8, src_stride, dst, dst_stride);
}
