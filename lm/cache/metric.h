/* metric.h - what an error in a key or a value costs, as far as one layer's attention tells: without
 * gradients. */
#ifndef VCL_RUN_METRIC_H
#define VCL_RUN_METRIC_H

#include "net/layer.h"

/* Both for one KV head, dim x dim, row-major, symmetric, the mean of the diagonal 1. */

/* An error e in a key changes the score of a query q by (R q) e, R the rotation over the distance between
 * them.  In: squares, the sum of q q^T before rotation over the head's queries.  Out: the mean of R q (R q)^T
 * over the distances in a text of `length` tokens, each query sharing itself out evenly among the keys that
 * it sees.  scratch: dim x dim. */
void vcl_metric_of_keys(const struct vcl_flow *flow, const double *squares, size_t length, double *scratch,
                        double *metric);
/* An error e in a value adds shares of W e to the sum that layers read, W being the output matrix' columns of
 * the head's query heads: the sum of W^T W.  VCL_E_MEMORY, or what products fail with. */
enum vcl_status vcl_metric_of_values(const struct vcl_flow *flow, size_t layer, size_t head, double *metric);

#endif
