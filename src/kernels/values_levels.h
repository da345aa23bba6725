/* values_levels.h - the loops over values at every level, for kernels.c alone to choose from. */
#ifndef VCL_VALUES_LEVELS_H
#define VCL_VALUES_LEVELS_H

#include "kernels/kernels.h"

#define VCL_VALUES_LEVEL(L)                                                            \
    void vcl_to_f32_##L(enum vcl_dtype dtype, const void *src, float *dst, size_t n);  \
    void vcl_compare_##L(enum vcl_dtype dtype, const void *x, const void *y, size_t n, \
                         struct vcl_error_sums *sums);                                 \
    double vcl_energy_##L(const float *x, const double *weight, size_t n);

/* The levels of base/cpu.h. */
VCL_VALUES_LEVEL(c)
VCL_VALUES_LEVEL(avx2)
VCL_VALUES_LEVEL(avx512)

#endif
