/* mix_loops.h - a vector times a matrix whose rows are passed over where the vector is 0: the transforms of KV
 * caches, once for every level of CPU. */
#ifndef VCL_MIX_LOOPS_H
#define VCL_MIX_LOOPS_H

#include "base/cpu.h"

#include <stddef.h>

enum { VCL_MIX_COLS = 16 }; /* columns are a multiple of so many */

struct vcl_mix {
    const float *a; /* terms x cols, rows a_stride apart */
    size_t terms, cols, a_stride;
};

/* y[r][c] += x[r][i] a[i][c] for i from 0 on, x[r][i] not being 0; product and sum are rounded once together. */
#define VCL_MIX_LEVEL(LEVEL, L, has)                                                                  \
    void vcl_mix_##L(const struct vcl_mix *m, const float *x, size_t x_stride, size_t rows, float *y, \
                     size_t y_stride);

VCL_CPU_LEVELS(VCL_MIX_LEVEL)

#endif
