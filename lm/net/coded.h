/* coded.h - a matrix that stays a frame in memory: multiplied by the library's fused products. */
#ifndef VCL_RUN_CODED_H
#define VCL_RUN_CODED_H

#include "common/fault.h"

struct vcl_coded;

/* Takes frame, `bytes` bytes from malloc, whatever comes of it.  transposed: the frame holds the matrix'
 * transpose.  Fails as vcl_matrix_open, whose words the context has.  ctx must outlive the matrix.  Here
 * and below a context serves one call at a time; products by several contexts may go on side by side. */
enum vcl_status vcl_coded_open(struct vcl_context *ctx, void *frame, size_t bytes, int transposed,
                               struct vcl_coded **coded);
void vcl_coded_close(struct vcl_coded *coded); /* NULL is fine */

uint64_t vcl_coded_bytes(const struct vcl_coded *coded); /* of memory: the frame and its tables */
const struct vcl_tensor *vcl_coded_tensor(const struct vcl_coded *coded); /* as it decodes */
/* The product's kernels read its tiles; else every product decodes them as vcl_decode does. */
int vcl_coded_is_fast(const struct vcl_coded *coded);

/* How many jobs a product of one vector is, each of about the same time; 0 where it is no fused one. */
uint64_t vcl_coded_jobs(const struct vcl_coded *coded);

/* As vcl_store_multiply, and vcl_store_multiply_transposed. */
enum vcl_status vcl_coded_multiply(struct vcl_context *ctx, const struct vcl_coded *coded, const float *x,
                                   size_t n, float *y);
enum vcl_status vcl_coded_multiply_transposed(struct vcl_context *ctx, const struct vcl_coded *coded,
                                              const float *x, size_t n, float *y);
/* out: n rows of the frame's tensor, by their numbers; not of a transpose.  Decodes each tile that they
 * are in once; the last stays decoded for the next call. */
enum vcl_status vcl_coded_rows(struct vcl_context *ctx, struct vcl_coded *coded, const uint32_t *rows,
                               size_t n, float *out);
/* All values in the tensor's own dtype and order. */
enum vcl_status vcl_coded_decode(struct vcl_context *ctx, const struct vcl_coded *coded, void *values,
                                 size_t room);

#endif
