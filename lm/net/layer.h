/* layer.h - one layer of the network in steps: what the forward and the backward pass share. */
#ifndef VCL_RUN_LAYER_H
#define VCL_RUN_LAYER_H

#include "kv.h"
#include "network.h"

/* Tokens on their way through a layer: what every step reads and leaves. */
struct vcl_flow {
    const struct vcl_network *network;
    struct vcl_store *store;
    const struct vcl_loops16 *loops;
    struct vcl_kv kv; /* of all layers; or of one, whose place each layer takes in turn */
    struct vcl_cache_hook hook;
    size_t batch;              /* most tokens at a time */
    float *cosine, *sine;      /* [position][rotary / 2] */
    float *x, *normed, *delta; /* [batch][width] */
    float *q, *mixed;          /* [batch][heads][head_dim]; q is rotated */
    float *k, *v;              /* [batch][kv_heads][head_dim]; k is not, in the cache it is */
    float *fused;              /* [batch][3][heads][head_dim], or as the family has it */
    float *gate, *up;          /* [batch][ffn] */
    float *lanes;              /* per thread: 16 queries, their scores and sums */
};

/* layers: how many the cache holds, all or one.  VCL_E_MEMORY; VCL_E_ARGUMENT where the model has fewer
 * positions.  vcl_flow_destroy takes what failed, too. */
enum vcl_status vcl_flow_create(const struct vcl_network *network, size_t positions, size_t batch,
                                size_t layers, struct vcl_flow *flow, struct vcl_error *error);
void vcl_flow_destroy(struct vcl_flow *flow);
/* Blocks of zeros, each in memory or NULL.  0: one is NULL. */
struct vcl_floats {
    float **at;
    size_t count, each;
};
int vcl_floats_allocate(const struct vcl_floats *blocks, size_t count);

/* ---- steps of n tokens, at most a batch, at the positions from kv.length on ------------------- */

enum vcl_status vcl_flow_embed(struct vcl_flow *flow, const uint32_t *tokens, size_t n); /* to x */
/* From x to x: all steps below. */
enum vcl_status vcl_flow_layer(struct vcl_flow *flow, size_t layer, size_t n);
/* y: n x width. */
void vcl_flow_normalise(const struct vcl_flow *flow, const struct vcl_norm *norm, const float *x, size_t n,
                        float *y);
/* From normed to delta. */
enum vcl_status vcl_flow_attention(struct vcl_flow *flow, size_t layer, size_t n);
/* From normed to up and, where the family has one, gate; then to gate what enters the last product. */
enum vcl_status vcl_flow_widen(struct vcl_flow *flow, const struct vcl_layer *w, size_t n);
void vcl_flow_activate(struct vcl_flow *flow, size_t n);

/* ---- what steps are made of ------------------------------------------------------------------- */

/* Of a row: what comes off, 0 for an RMS norm, and what it is multiplied with. */
void vcl_norm_measure(const float *x, const struct vcl_norm *norm, size_t width, double eps, double *mean,
                      float *scale);
/* Turns `count` heads of each token by its position's angles; back: the other way. */
void vcl_flow_rotate(const struct vcl_flow *flow, float *heads, size_t count, size_t n, int back);
/* Of a token's fused row: the head that has part 0 (q), 1 (k) or 2 (v) of head h. */
size_t vcl_fused_head(const struct vcl_config *config, size_t h, size_t part);
void vcl_add(float *x, const float *delta, size_t n);

/* Up to sixteen queries of positions and heads that share the keys of one KV head, side by side. */
struct vcl_queries {
    const struct vcl_flow *flow;
    size_t count;         /* those left over repeat the first */
    size_t at[VCL_LANES]; /* where a lane's floats are in q and mixed */
    size_t from, keys;    /* what they see together; and each, from `from` on: */
    size_t begin[VCL_LANES], end[VCL_LANES];
    const float *key_rows, *value_rows; /* [keys][head_dim] */
};
size_t vcl_queries_blocks(const struct vcl_flow *flow, size_t n); /* of a KV head, for n tokens */
struct vcl_queries vcl_queries_of(const struct vcl_flow *flow, size_t layer, size_t head, size_t n,
                                  size_t block);
/* Rows, as q or mixed has them, to lanes: to[16 c + l]. */
void vcl_queries_gather(const struct vcl_queries *lanes, const float *rows, float *to);
void vcl_queries_scatter(const struct vcl_queries *lanes, const float *from, float *rows);
/* shares[16 j + l]: what lane l takes of key j's value, 0 for those it does not see. */
void vcl_queries_weigh(const struct vcl_queries *lanes, const float *queries, float *shares);
/* y[16 r + l] = sum over c < cols of w[r row + c col] x[16 c + l] for all rows. */
void vcl_block_rows(const struct vcl_loops16 *loops, const float *w, size_t row, size_t col, size_t rows,
                    size_t cols, const float *x, float *y);

#endif
