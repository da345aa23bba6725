/* trellis.h - stage 4: the quantiser, scalar and trellis-coded. */
#ifndef VCL_TRELLIS_H
#define VCL_TRELLIS_H

#include <stddef.h>
#include <stdint.h>

enum { VCL_TRELLIS_BITS_MAX = 8, VCL_STRIPE_LANES = 32 };

/* State s of v bits: union codebook g = s & 1; branch b = k & 1.  v = 0 is the scalar quantiser. */
unsigned vcl_trellis_next(int v, unsigned state, unsigned branch);

/* A stripe of `lanes` rows whose columns run in sequence; all arrays are [column][lane]. */
struct vcl_stripe {
    int lanes; /* 8 or 32 */
    uint32_t cols;
    const float *u;            /* values in half-steps, magnitude below 2^15 */
    const uint8_t *class;      /* [column][lane]: probability class */
    const float *const *costs; /* by class: vcl_model_costs */
    int v;
    unsigned shift; /* low bits of k the model does not see */
    float lambda;   /* squared half-steps a bit is worth; 0 = nearest, unbiased */
};

/* Bytes of scratch the search needs. */
size_t vcl_trellis_scratch(int v, int lanes, uint32_t cols);

/* The path of least squared error plus lambda x bits: j[column][lane]. */
void vcl_trellis_search(const struct vcl_stripe *stripe, void *scratch, int16_t *j);

#endif
