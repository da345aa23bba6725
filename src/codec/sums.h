/* sums.h - sums over rows of a tile, the same to the last bit on every CPU. */
#ifndef VCL_SUMS_H
#define VCL_SUMS_H

#include <stddef.h>

float vcl_absmax(const float *x, size_t n);
/* Sum of x^2, and of x^2 times weight. */
double vcl_energy(const float *x, size_t n);
double vcl_weighted_energy(const float *x, const double *weight, size_t n);

#endif
