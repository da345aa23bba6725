/* values_loops.h - the loops over values: those of base/loops.h, once for every level of CPU. */
#ifndef VCL_VALUES_LOOPS_H
#define VCL_VALUES_LOOPS_H

#include "base/cpu.h"
#include "vcllm.h"

#define VCL_VALUES_LEVEL(LEVEL, L, has)                                                \
    void vcl_to_f32_##L(enum vcl_dtype dtype, const void *src, float *dst, size_t n);  \
    void vcl_compare_##L(enum vcl_dtype dtype, const void *x, const void *y, size_t n, \
                         struct vcl_error_sums *sums);                                 \
    double vcl_energy_##L(const float *x, const double *weight, size_t n);

VCL_CPU_LEVELS(VCL_VALUES_LEVEL)

#endif
