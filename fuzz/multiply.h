/* multiply.h - products as vcllm.h defines them, term by term: what those of a coded matrix are held against.
 *
 * In: a matrix' values as they decode, w[row * cols + col].  The fuzzers and tests/test_product.c share
 * it. */
#ifndef VCL_MULTIPLY_H
#define VCL_MULTIPLY_H

#include "vcllm.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { CALL_GAP = 3 }; /* values between two vectors: nobody may write there */

static const float call_unwritten = 1234;

/* Arguments of one product, and what y must be afterwards. */
struct call {
    int transposed;
    size_t n;
    uint64_t terms, outputs;
    float *x, *expected;
    size_t x_stride, y_stride;
};

static inline float multiply_one(const float *w, uint64_t rows, uint64_t cols, int transposed, const float *x,
                                 uint64_t output)
{
    const uint64_t terms = transposed ? rows : cols;
    float all = 0;
    for (uint64_t k = 0; k < terms; k += 32) {
        float sum = 0;
        for (uint64_t i = k; i < terms && i < k + 32; i++)
            sum += w[transposed ? i * cols + output : output * cols + i] * x[i];
        all += sum;
    }
    return all;
}

/* Of either sign, 2^-24 to 2^8 in size, and now and then 0. */
static inline float call_input(uint64_t seed, uint64_t i)
{
    uint64_t z = (seed << 32 ^ i) + 0x9E3779B97F4A7C15;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9;
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    z ^= z >> 31;
    const float x = (float)(z >> 40) - (float)(1 << 23);
    return z % 64 == 0 ? 0 : ldexpf(x, (int)(z >> 8 & 7) - 22);
}

/* Floats that end where their bytes do, so that a sanitizer sees every access beyond. */
static inline float *call_block(size_t n)
{
    float *const block = malloc(n > 0 ? n * sizeof *block : 1);
    if (!block)
        abort();
    return block;
}

/* n vectors of a seed.  w may be NULL where no product is expected. */
static inline struct call make_call(const float *w, uint64_t rows, uint64_t cols, int transposed, size_t n,
                                    uint64_t seed)
{
    struct call c = { .transposed = transposed, .n = n };
    c.terms = transposed ? rows : cols;
    c.outputs = transposed ? cols : rows;
    c.x_stride = (size_t)c.terms + (n > 1 ? CALL_GAP : 0);
    c.y_stride = (size_t)c.outputs + (n > 1 ? CALL_GAP : 0);
    c.x = call_block(n * c.x_stride);
    c.expected = call_block(n * c.y_stride);
    for (size_t i = 0; i < n * c.x_stride; i++)
        c.x[i] = call_input(seed, i);
    for (size_t v = 0; v < n; v++)
        for (size_t o = 0; o < c.y_stride; o++)
            c.expected[v * c.y_stride + o] =
                w && o < c.outputs ? multiply_one(w, rows, cols, transposed, c.x + v * c.x_stride, o)
                                   : call_unwritten;
    return c;
}

static inline void free_call(struct call *c)
{
    free(c->x);
    free(c->expected);
}

static inline enum vcl_status multiply(struct vcl_context *ctx, const struct vcl_matrix *m,
                                       const struct call *c, float *y)
{
    return c->transposed ? vcl_multiply_transposed(ctx, m, c->x, c->n, c->x_stride, y, c->y_stride)
                         : vcl_multiply(ctx, m, c->x, c->n, c->x_stride, y, c->y_stride);
}

static inline int same_float(float a, float b)
{
    return (isnan(a) && isnan(b)) || memcmp(&a, &b, sizeof a) == 0;
}

/* Multiplies into y, n * y_stride values.  *at: the first that is not what it should be, n * y_stride
 * where all are; 0 where it fails. */
static inline enum vcl_status multiply_checked(struct vcl_context *ctx, const struct vcl_matrix *m,
                                               const struct call *c, float *y, size_t *at)
{
    *at = 0;
    for (size_t i = 0; i < c->n * c->y_stride; i++)
        y[i] = call_unwritten;
    const enum vcl_status status = multiply(ctx, m, c, y);
    while (!status && *at < c->n * c->y_stride && same_float(y[*at], c->expected[*at]))
        ++*at;
    return status;
}

#endif
