/* loops16.h - the runtime's hot loops, sixteen lanes wide.
 *
 * Every sum is taken in one written order, so that a result is the same at every level of CPU and for any
 * number of threads; only the time differs. */
#ifndef VCL_RUN_LOOPS16_H
#define VCL_RUN_LOOPS16_H

#include <stddef.h>
#include <stdint.h>

enum { VCL_LANES = 16, VCL_GROUP = 8 };

struct vcl_loops16 {
    /* y[16 r + l] = sum over c of w[r row + c col] x[16 c + l] for `rows` rows, at most VCL_GROUP, and 16
     * lanes. */
    void (*block)(const float *w, size_t row, size_t col, size_t rows, size_t cols, const float *x, float *y);
    /* Sum of w[c] x[c]; w of f32 or, by its upper halves, bf16. */
    float (*dot_f32)(const void *w, const float *x, size_t n);
    float (*dot_bf16)(const void *w, const float *x, size_t n);
    /* Softmax down each of the 16 lanes of s[16 j + l], j < n, of scale times the values; lane l only of
     * those from first[l] to before end[l], at least one, zero beside them. */
    void (*softmax)(float *s, size_t n, float scale, const size_t *first, const size_t *end);
    /* gate[i] = silu(gate[i]) up[i]. */
    void (*swiglu)(float *gate, const float *up, size_t n);
};

/* The widest loops that this CPU runs; VCLLM_CPU=c or avx2 in the environment keeps them narrower. */
const struct vcl_loops16 *vcl_loops16_choose(void);

#endif
