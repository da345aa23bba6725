/* basis.h - the transform of a part of a KV cache: values to components and back. */
#ifndef VCL_BASIS_H
#define VCL_BASIS_H

#include "codec/env.h"

enum { VCL_BASIS_MOST = 4096, VCL_BASIS_LEAST_COLS = 64 }; /* values of a part; fewer get components of 0 */

struct vcl_basis {
    uint32_t n, cols; /* values of a token; components, of which those from n on are 0: a multiple of 16 */
    float *mean;      /* cols, as all rows */
    float *forward;   /* [n][cols]: what a value adds to each component */
    float *inverse;   /* [n][cols]: what a component adds to each value */
};

/* n and cols as bytes have them; 0 for an n that cannot be. */
uint32_t vcl_basis_cols(uint32_t n);
size_t vcl_basis_bytes(uint32_t n);

/* mean[n] and basis[n][n] to bytes, in 8 bits a number; 0 where one is not finite or a component's are all 0. */
int vcl_basis_write(const float *mean, const float *basis, uint32_t n, uint8_t *dst);

/* From bytes that nobody vouches for, and inverted.  basis->n is set; the rest is made. */
enum vcl_status vcl_basis_make(const struct vcl_env *env, const struct vcl_mem *mem, const uint8_t *src,
                               struct vcl_basis *basis);
void vcl_basis_unmake(const struct vcl_mem *mem, struct vcl_basis *basis);

/* tokens x cols values, from which the mean has been taken, to tokens x used components; and back, the mean
 * added.  used: a multiple of 16. */
void vcl_basis_forward(const struct vcl_kernels *kernels, const struct vcl_basis *basis, const float *x,
                       size_t tokens, uint32_t used, float *z);
void vcl_basis_inverse(const struct vcl_kernels *kernels, const struct vcl_basis *basis, const float *z,
                       size_t tokens, uint32_t used, float *x);

#endif
