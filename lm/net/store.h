/* store.h - a model's weights, plain or compressed, and the one place where a matrix is multiplied. */
#ifndef VCL_RUN_STORE_H
#define VCL_RUN_STORE_H

#include "common/fault.h"
#include "loops16.h"

struct vcl_store;
struct vcl_weight; /* one matrix (rows, cols); belongs to the store */

/* How many bytes of a compressed model's matrices may be kept decoded: a number, or this.  By default what
 * the fused products read stays coded, and all else is decoded: products would decode it each time, at
 * less speed. */
#define VCL_MEMORY_DEFAULT UINT64_MAX

/* path as vcl_model_open.  The pool must outlive the store. */
enum vcl_status vcl_store_open(const char *path, struct vcl_pool *pool, struct vcl_store **store,
                               struct vcl_error *error);
void vcl_store_close(struct vcl_store *store); /* NULL is fine */
int vcl_store_has(const struct vcl_store *store, const char *name);
/* The name of tensor i of the file; NULL beyond the last. */
const char *vcl_store_name(const struct vcl_store *store, size_t i);

/* After all weights are there, once: decodes those that are coded as far as `memory` says, first what the
 * fused products do not read, then from the last that was loaded to the first: embeddings, of which only
 * some rows are read, come last.  What takes no more memory decoded than coded is decoded always. */
enum vcl_status vcl_store_settle(struct vcl_store *store, uint64_t memory, struct vcl_error *error);

uint64_t vcl_store_bytes(const struct vcl_store *store);       /* of the weights in memory */
uint64_t vcl_store_coded_bytes(const struct vcl_store *store); /* of them those that stay coded */

/* The tensor of this name, which must have this shape.  *vector is n floats and belongs to the store.  Two
 * names of one compressed tensor are one weight. */
enum vcl_status vcl_store_matrix(struct vcl_store *store, const char *name, size_t rows, size_t cols,
                                 const struct vcl_weight **weight, struct vcl_error *error);
/* The same of a tensor stored as its transpose, (cols, rows). */
enum vcl_status vcl_store_transposed(struct vcl_store *store, const char *name, size_t rows, size_t cols,
                                     const struct vcl_weight **weight, struct vcl_error *error);
enum vcl_status vcl_store_vector(struct vcl_store *store, const char *name, size_t n, const float **vector,
                                 struct vcl_error *error);

/* Its bytes, decoded but as its dtype has them, which the store does not keep: free() *values.  values NULL:
 * only looks it up.  The shape's dtype is not looked at. */
enum vcl_status vcl_store_read(struct vcl_store *store, const char *name, const struct vcl_tensor *shape,
                               enum vcl_dtype *dtype, void **values, struct vcl_error *error);
/* Whether two matrices of this shape hold the same values.  Reads both, but for an alias, until they differ,
 * some MiB at a time. */
enum vcl_status vcl_store_same(struct vcl_store *store, const char *a, const char *b,
                               const struct vcl_tensor *shape, int *same, struct vcl_error *error);
/* VCL_E_FORMAT: "FILE: tensor 'NAME' WORDS". */
enum vcl_status vcl_store_blame(const struct vcl_store *store, const char *name, const char *words,
                                struct vcl_error *error);

/* y[rows i + r] = sum over c of W[r][c] x[cols i + c], for n >= 1 vectors.  Weights are read once for all
 * of them.  The same for any number of threads; one vector may differ from the same among others in the
 * last bits, and a product of a weight that stays coded from that of the decoded one.  VCL_E_MEMORY; of a
 * coded weight also what vcl_multiply fails with. */
enum vcl_status vcl_store_multiply(struct vcl_store *store, const struct vcl_weight *weight, const float *x,
                                   size_t n, float *y);
/* The same with several matrices, which may be multiplied side by side. */
struct vcl_multiplication {
    const struct vcl_weight *weight;
    float *y;
};
enum vcl_status vcl_store_multiply_all(struct vcl_store *store, const struct vcl_multiplication *list,
                                       size_t count, const float *x, size_t n);
/* y[cols i + c] = sum over r of W[r][c] x[rows i + r]: the way back of a gradient.  Not observed; else as
 * vcl_store_multiply. */
enum vcl_status vcl_store_multiply_transposed(struct vcl_store *store, const struct vcl_weight *weight,
                                              const float *x, size_t n, float *y);
/* out: n rows, by their numbers, as floats.  Fails as vcl_store_multiply; not for transposed weights. */
enum vcl_status vcl_store_rows(struct vcl_store *store, const struct vcl_weight *weight, const uint32_t *rows,
                               size_t n, float *out);
/* Words for a failure of either: of a coded weight its file and name. */
const char *vcl_store_words(const struct vcl_store *store, enum vcl_status status);

/* ---- measuring ------------------------------------------------------------------------------- */

/* The matrices, the last that was loaded first; NULL begins, and ends. */
struct vcl_weight *vcl_store_next(const struct vcl_store *store, const struct vcl_weight *weight);
struct vcl_weight_info {
    const char *name;
    size_t rows, cols; /* outputs, inputs */
    int transposed;    /* stored (cols, rows) in the file */
};
struct vcl_weight_info vcl_store_describe(const struct vcl_weight *weight);

/* Sees every product's weight and vectors before it is made; see NULL: nobody. */
struct vcl_observer {
    void (*see)(void *user, const struct vcl_weight *weight, const float *x, size_t n);
    void *user;
};
void vcl_store_observe(struct vcl_store *store, struct vcl_observer observer);

/* Until vcl_store_restore the weight has white noise added, uniform, `ratio` times its mean square; *energy:
 * the sum of its squares.  Takes a copy in f32.  VCL_E_MEMORY.  Not for weights that stay coded. */
enum vcl_status vcl_store_perturb(struct vcl_weight *weight, double ratio, uint64_t seed, double *energy);
void vcl_store_restore(struct vcl_weight *weight);

const struct vcl_loops16 *vcl_store_loops(const struct vcl_store *store);
struct vcl_pool *vcl_store_pool(const struct vcl_store *store);

#endif
