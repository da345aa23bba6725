/* moments.h - second moments of what a matrix is multiplied with, and what follows from them for its
 * coding. */
#ifndef VCL_RUN_MOMENTS_H
#define VCL_RUN_MOMENTS_H

#include "net/loops16.h"
#include "vcllm.h"

/* Sums over `count` vectors x of x x^T.  Weights that read the same vectors share one. */
struct vcl_moments {
    size_t cols, count;
    const float *squares; /* the inputs' mean squares where they are better known, in ratio; or NULL */
    float *sums;          /* cols x cols, row-major; only its lower triangle is filled.  NULL once factored */
    /* Factored: what vcl_params asks for, and the geometric mean of D over the mean of H's diagonal: what
     * feedback and steps leave of white noise's cost. */
    float *feedback, *col_weight;
    double gain;
};

struct vcl_moments *vcl_moments_create(size_t cols);   /* NULL: out of memory */
void vcl_moments_destroy(struct vcl_moments *moments); /* NULL is fine */
/* n more vectors.  The same sums for any number of threads and at every level of CPU. */
void vcl_moments_add(struct vcl_moments *moments, const struct vcl_loops16 *loops, struct vcl_pool *pool,
                     const float *x, size_t n);

/* H = sums / count + damping (above 0) times the mean of its diagonal becomes (I + U) D (I + U)^T, in
 * place of the sums; 8 bytes an element are needed meanwhile.  VCL_E_MEMORY. */
enum vcl_status vcl_moments_factor(struct vcl_moments *moments, struct vcl_pool *pool, double damping);

#endif
