/* product.h - a coded matrix times vectors. */
#ifndef VCL_PRODUCT_H
#define VCL_PRODUCT_H

#include "codec/matrix.h"

/* y = x times the matrix' transpose, n vectors, or (`transposed`) times the matrix (vcllm.h). */
enum vcl_status vcl_product(const struct vcl_env *env, const struct vcl_matrix *matrix, int transposed,
                            const float *x, size_t n, size_t x_stride, float *y, size_t y_stride);

#endif
