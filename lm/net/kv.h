/* kv.h - keys and values of the positions seen so far. */
#ifndef VCL_RUN_KV_H
#define VCL_RUN_KV_H

#include "config.h"

/* In f32.  Keys stand after rotation. */
struct vcl_kv {
    size_t positions; /* room */
    size_t length;    /* positions filled */
    size_t layers, heads, head_dim;
    float *keys, *values; /* [layer][head][position][head_dim] */
};

enum vcl_status vcl_kv_create(const struct vcl_config *config, size_t positions, struct vcl_kv *kv,
                              struct vcl_error *error);
void vcl_kv_destroy(struct vcl_kv *kv);

/* Keys (before rotation) and values of one layer: those of `count` tokens, the first at `position`,
 * [count][heads][head_dim] each. */
struct vcl_cache_tokens {
    size_t layer, position, count;
    float *keys, *values;
};

/* Where a layer's earlier tokens are wanted: put turns their keys and copies them to where attention reads
 * them.  It may be called from the pool's threads at once, for other positions. */
struct vcl_cache_place {
    void (*put)(const void *flow, const struct vcl_cache_tokens *tokens);
    const void *flow;
};

/* What keys and values go through on their way into the cache, and where they are kept.  Layers come in order,
 * on the caller's thread; another status than VCL_OK ends the reading, which returns it. */
struct vcl_cache_hook {
    /* A batch's, which it may change.  NULL: they stay as they are. */
    enum vcl_status (*pass)(void *user, const struct vcl_cache_tokens *tokens);
    /* NULL: the cache keeps all layers plain.  Else it has room for one, the hook keeps what pass was given, and
     * puts the tokens from position `from` to the batch's first into place. */
    enum vcl_status (*fill)(void *user, size_t layer, size_t from, const struct vcl_cache_place *place);
    /* With fill: the batch is through all layers.  Batches end where a multiple of `page` tokens from `first` on
     * does, and there. */
    enum vcl_status (*end)(void *user);
    size_t first, page;
    void *user;
};

/* Of one layer and head, from position 0. */
float *vcl_kv_keys(const struct vcl_kv *kv, size_t layer, size_t head);
float *vcl_kv_values(const struct vcl_kv *kv, size_t layer, size_t head);

#endif
