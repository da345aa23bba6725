/* transform.c - stage 2: a DCT down the columns, along the rows, or both.
 *
 * In: a tile of floats, smooth along an axis (position embeddings along positions, keys along tokens).
 * Out: as many coefficients, whose energy lies in few frequencies; rows or columns of one frequency are
 * alike, which the scale classes then find out.  Plain products with the orthonormal DCT-II's matrix in a
 * fixed order of additions: every machine decodes the same bits.  Lengths of 32 take what there is to
 * gain, and Hadamard's transform and prediction from the row before gain less (docs/design.md). */
#include "transform.h"

#include <string.h>

enum { LONGEST = 32, WIDTH = 64 }; /* columns transformed side by side */

/* 2^23 cos(pi m / 64) */
static const int32_t cosines[33] = { 8388608, 8378504, 8348215, 8297814, 8227423, 8137212, 8027397,
                                     7898244, 7750063, 7583212, 7398092, 7195149, 6974873, 6737793,
                                     6484482, 6215549, 5931642, 5633445, 5321677, 4997088, 4660461,
                                     4312606, 3954362, 3586592, 3210181, 2826037, 2435084, 2038265,
                                     1636536, 1230864, 822227,  411609,  0 };

static int32_t cosine(unsigned m)
{
    m %= 128;
    m = m > 64 ? 128 - m : m;
    return m > 32 ? -cosines[64 - m] : cosines[m];
}

/* W[k][i]: frequency k at place i. */
static void make_matrix(unsigned log2, float w[LONGEST][LONGEST])
{
    static const float scales[] = { 0x1.6a09e6p-24f, 0x1p-24f, 0x1.6a09e6p-25f,
                                    0x1p-25f }; /* 2^-23 sqrt(2/n) */
    const unsigned n = 1u << log2;
    for (unsigned k = 0; k < n; k++)
        for (unsigned i = 0; i < n; i++)
            w[k][i] = (float)cosine(k > 0 ? (2 * i + 1) * k * (32 >> log2) : 16) * scales[log2 - 2];
}

static void transpose_matrix(unsigned n, float w[LONGEST][LONGEST])
{
    for (unsigned k = 0; k < n; k++)
        for (unsigned i = 0; i < k; i++) {
            const float t = w[k][i];
            w[k][i] = w[i][k], w[i][k] = t;
        }
}

/* Output i is the sum over k of input k times w[k][i], k ascending; inputs and outputs are `stride` apart and
 * `width` of them lie side by side. */
static void multiply_down(unsigned n, float w[LONGEST][LONGEST], float *x, uint32_t stride, uint32_t width)
{
    float in[LONGEST][WIDTH], out[WIDTH];
    for (unsigned k = 0; k < n; k++)
        memcpy(in[k], x + (size_t)k * stride, width * sizeof *x);
    for (unsigned i = 0; i < n; i++) {
        for (uint32_t c = 0; c < width; c++)
            out[c] = in[0][c] * w[0][i];
        for (unsigned k = 1; k < n; k++)
            for (uint32_t c = 0; c < width; c++)
                out[c] += in[k][c] * w[k][i];
        memcpy(x + (size_t)i * stride, out, width * sizeof *x);
    }
}

static void multiply_along(unsigned n, float w[LONGEST][LONGEST], float *x)
{
    float out[LONGEST];
    for (unsigned i = 0; i < n; i++)
        out[i] = x[0] * w[0][i];
    for (unsigned k = 1; k < n; k++)
        for (unsigned i = 0; i < n; i++)
            out[i] += x[k] * w[k][i];
    memcpy(x, out, n * sizeof *x);
}

static void transform_down(unsigned log2, float w[LONGEST][LONGEST], float *x, uint32_t rows, uint32_t cols)
{
    const uint32_t n = 1u << log2;
    for (uint32_t r = 0; r + n <= rows; r += n)
        for (uint32_t c = 0; c < cols; c += WIDTH)
            multiply_down(n, w, x + (size_t)r * cols + c, cols, cols - c < WIDTH ? cols - c : WIDTH);
}

static void transform_along(unsigned log2, float w[LONGEST][LONGEST], float *x, uint32_t rows, uint32_t cols)
{
    const uint32_t n = 1u << log2;
    for (uint32_t r = 0; r < rows; r++)
        for (uint32_t c = 0; c + n <= cols; c += n)
            multiply_along(n, w, x + (size_t)r * cols + c);
}

void vcl_transform_tile(struct vcl_transform t, float *x, uint32_t rows, uint32_t cols)
{
    float w[LONGEST][LONGEST];
    if (t.down) {
        make_matrix(t.down, w);
        transpose_matrix(1u << t.down, w);
        transform_down(t.down, w, x, rows, cols);
    }
    if (t.along) {
        make_matrix(t.along, w);
        transpose_matrix(1u << t.along, w);
        transform_along(t.along, w, x, rows, cols);
    }
}

void vcl_transform_tile_back(struct vcl_transform t, float *x, uint32_t rows, uint32_t cols)
{
    float w[LONGEST][LONGEST];
    if (t.along) {
        make_matrix(t.along, w);
        transform_along(t.along, w, x, rows, cols);
    }
    if (t.down) {
        make_matrix(t.down, w);
        transform_down(t.down, w, x, rows, cols);
    }
}
