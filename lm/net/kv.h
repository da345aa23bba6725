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
uint64_t vcl_kv_bytes(const struct vcl_kv *kv);

/* What a layer's keys (before rotation) and values go through on their way into the cache: those of `count`
 * tokens, the first at `position`, [count][heads][head_dim] each.  They may be changed.  Layers come in order,
 * on the caller's thread; another status than VCL_OK ends the reading, which returns it. */
struct vcl_cache_tokens {
    size_t layer, position, count;
    float *keys, *values;
};
struct vcl_cache_hook {
    enum vcl_status (*pass)(void *user,
                            const struct vcl_cache_tokens *tokens); /* NULL: they stay as they are */
    void *user;
};

/* Of one layer and head, from position 0. */
float *vcl_kv_keys(const struct vcl_kv *kv, size_t layer, size_t head);
float *vcl_kv_values(const struct vcl_kv *kv, size_t layer, size_t head);

#endif
