/* mix_c.c - a vector times a matrix in portable C. */
#include "kernels/mix_loops.h"

#include <math.h>

void vcl_mix_c(const struct vcl_mix *m, const float *x, size_t x_stride, size_t rows, float *y,
               size_t y_stride)
{
    for (size_t r = 0; r < rows; r++, x += x_stride, y += y_stride)
        for (size_t i = 0; i < m->terms; i++)
            for (size_t c = 0; c < m->cols && x[i] != 0; c++)
                y[c] = fmaf(x[i], m->a[i * m->a_stride + c], y[c]);
}
