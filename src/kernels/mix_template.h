/* mix_template.h - a vector times a matrix, with sums in registers; compiled once per level of CPU with
 * vectors.
 *
 * A panel of the matrix is copied to where it stays in the first cache, and serves all vectors before the next. */
#include "kernels/mix_loops.h"

#include <string.h>

enum { MOST_SUMS = 8, TERMS = 32, PANEL_COLS = MOST_SUMS * WIDTH };

/* A bit for each of `count` terms that is not 0; what is no number counts. */
INLINE uint32_t terms_of(const float *x, size_t count)
{
    const uint32_t all = UINT32_MAX >> (32 - WIDTH);
    uint32_t terms = 0;
    size_t i = 0;
    for (; i + WIDTH <= count; i += WIDTH)
        terms |= (~bits_of(f_less_equal(f_abs(f_load(x + i)), f_set(0))) & all) << i;
    for (; i < count; i++)
        terms |= (uint32_t)(x[i] != 0) << i;
    return terms;
}

/* `sums` vectors side by side of one row of y. */
INLINE void mix_terms(const float *panel, const float *x, uint32_t terms, int sums, float *y)
{
    vf sum[MOST_SUMS];
    UNROLL
    for (int s = 0; s < sums; s++)
        sum[s] = f_load(y + (size_t)s * WIDTH);
    for (; terms; terms &= terms - 1) {
        const size_t i = (size_t)__builtin_ctz(terms);
        const float *const row = panel + i * PANEL_COLS;
        const vf factor = f_set(x[i]);
        UNROLL
        for (int s = 0; s < sums; s++)
            sum[s] = f_fused(factor, f_load(row + (size_t)s * WIDTH), sum[s]);
    }
    UNROLL
    for (int s = 0; s < sums; s++)
        f_store(y + (size_t)s * WIDTH, sum[s]);
}

/* `sums` vectors of columns from `col` on, of all rows. */
INLINE void mix_columns(const struct vcl_mix *m, const float *x, size_t x_stride, size_t rows, size_t col,
                        int sums, float *y, size_t y_stride)
{
    _Alignas(64) float panel[TERMS * PANEL_COLS];
    for (size_t i = 0; i < m->terms; i += TERMS) {
        const size_t count = m->terms - i < TERMS ? m->terms - i : TERMS;
        for (size_t k = 0; k < count; k++)
            memcpy(panel + k * PANEL_COLS, m->a + (i + k) * m->a_stride + col,
                   (size_t)sums * WIDTH * sizeof *panel);
        for (size_t r = 0; r < rows; r++) {
            const float *const from = x + r * x_stride + i;
            mix_terms(panel, from, terms_of(from, count), sums, y + r * y_stride + col);
        }
    }
}

TARGET void KERNEL(mix)(const struct vcl_mix *m, const float *x, size_t x_stride, size_t rows, float *y,
                        size_t y_stride)
{
    size_t col = 0;
    for (; col + PANEL_COLS <= m->cols; col += PANEL_COLS)
        mix_columns(m, x, x_stride, rows, col, MOST_SUMS, y, y_stride);
    for (; col + 2 * WIDTH <= m->cols; col += 2 * WIDTH)
        mix_columns(m, x, x_stride, rows, col, 2, y, y_stride);
    for (; col < m->cols; col += WIDTH)
        mix_columns(m, x, x_stride, rows, col, 1, y, y_stride);
}
