/* store.h - a model's weights, plain or compressed, and the one place where a matrix is multiplied. */
#ifndef VCL_RUN_STORE_H
#define VCL_RUN_STORE_H

#include "fault.h"
#include "loops16.h"
#include "team.h"

struct vcl_store;
struct vcl_weight; /* one matrix (rows, cols); belongs to the store */

/* path as vcl_model_open.  The team must outlive the store. */
enum vcl_status vcl_store_open(const char *path, struct vcl_team *team, struct vcl_store **store,
                               struct vcl_error *error);
void vcl_store_close(struct vcl_store *store); /* NULL is fine */
int vcl_store_has(const struct vcl_store *store, const char *name);
uint64_t vcl_store_bytes(const struct vcl_store *store); /* of the weights in memory */

/* The tensor of this name, which must have this shape.  *vector is n floats and belongs to the store. */
enum vcl_status vcl_store_matrix(struct vcl_store *store, const char *name, size_t rows, size_t cols,
                                 const struct vcl_weight **weight, struct vcl_error *error);
/* The same of a tensor stored as its transpose, (cols, rows). */
enum vcl_status vcl_store_transposed(struct vcl_store *store, const char *name, size_t rows, size_t cols,
                                     const struct vcl_weight **weight, struct vcl_error *error);
enum vcl_status vcl_store_vector(struct vcl_store *store, const char *name, size_t n, const float **vector,
                                 struct vcl_error *error);

/* y[rows i + r] = sum over c of W[r][c] x[cols i + c], for n >= 1 vectors.  Weights are read once for all of
 * them.  The same for any number of threads; one vector may differ from the same among others in the last
 * bits. */
enum vcl_status vcl_store_multiply(struct vcl_store *store, const struct vcl_weight *weight, const float *x,
                                   size_t n, float *y);
/* Row r as floats. */
void vcl_store_row(const struct vcl_weight *weight, size_t r, float *row);

const struct vcl_loops16 *vcl_store_loops(const struct vcl_store *store);
struct vcl_team *vcl_store_team(const struct vcl_store *store);

#endif
