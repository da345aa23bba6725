/* vcllm_kv.h - pages of a KV cache to bytes and back.
 *
 * A page is the keys and values of some tokens, of one layer, some or all.  What is the same for all pages of a
 * model is in a recipe, which is learned once: for every part (the keys of a layer, its values, or both
 * together) a basis in which errors count alike, and how its components are coded.  A page holds no more than
 * which recipe, which tokens and layers, and the indices.
 *
 *     struct vcl_kv_recipe *recipe;
 *     struct vcl_kv_coder *coder;
 *     vcl_kv_recipe_load(ctx, file, file_bytes, &recipe);
 *     vcl_kv_coder_create(ctx, recipe, 64, &coder);
 *     struct vcl_kv_range range = { .size = sizeof range, .tokens = 64 };
 *     struct vcl_kv_view keys = { k, VCL_DTYPE_F16, 64 * heads * dim, heads * dim, dim };
 *     struct vcl_kv_view values = { v, VCL_DTYPE_F16, 64 * heads * dim, heads * dim, dim };
 *     size_t bytes = vcl_kv_bound(recipe, &range);
 *     void *page = malloc(bytes);
 *     vcl_kv_encode(coder, &range, &keys, &values, page, &bytes);
 *     vcl_kv_decode(coder, page, bytes, NULL, &keys, &values);
 *
 * Conventions are those of vcllm.h.  Keys stand before their rotation (RoPE): there they take about half a bit a
 * value less for the same effect, and a page does not depend on where it stands.  A host that keeps rotated keys
 * turns them back first and again after decoding.
 *
 * Method: a transform coder in the metric of the model's own loss.  The error of a vector x counts (x - y)^T M
 * (x - y), where M are the second moments of the gradients with respect to it (the Fisher information; Kunstner
 * et al., arXiv 1905.12558).  In the basis that whitens M and diagonalises the covariance one step for all
 * layers, keys and values is the best allocation under squared error (reverse water-filling). */
#ifndef VCLLM_KV_H
#define VCLLM_KV_H

#include "vcllm.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- recipes --------------------------------------------------------------------------------- */

enum { VCL_KV_KEYS = 1, VCL_KV_VALUES = 2 };

/* Of the cache.  All layers are alike. */
struct vcl_kv_shape {
    uint32_t layers;             /* 1 to 65535 */
    uint32_t heads;              /* of keys and values, 1 to 65535 */
    uint32_t key_dim, value_dim; /* of a head, 1 to 65535; a part has at most 4096 values */
};

/* What a recipe was learned for: equal texts, or decoding is refused.  At most 255 bytes each; empty: not said. */
struct vcl_kv_identity {
    const char *model, *revision; /* a name, a hash */
    const char *rope;             /* kind, base and scaling, and that keys stand before it */
    const char *layout;           /* what the caller means by heads and dims */
};

/* Values that are coded together: those of one layer's keys, of its values, or both, the keys of all heads
 * first; n for one token.  With components z, value i is mean[i] + sum over c of z[c] basis[c * n + i].  Squared
 * errors of components count alike; those of largest variance come first. */
struct vcl_kv_part {
    uint32_t layer;
    uint32_t sides;       /* VCL_KV_KEYS, VCL_KV_VALUES, or both */
    const float *mean;    /* n */
    const float *basis;   /* n x n */
    const float *vectors; /* tokens x n typical vectors, as keys and values stand */
    size_t tokens;        /* 32 and more */
};

struct vcl_kv_recipe;

/* Learns from parts, in any order, that together are all layers' keys and values once each.  The basis is kept
 * in 8 bits a number and a scale for each component; what is coded is the exact inverse of that.  step: the
 * half-step, of all components.  Of `vectors`, *bits tells how many bits a value they take.  VCL_E_ARGUMENT for
 * parts that do not make up the cache, for numbers that are not finite, for a basis that cannot be inverted. */
VCL_API enum vcl_status vcl_kv_recipe_learn(struct vcl_context *ctx, const struct vcl_kv_shape *shape,
                                            const struct vcl_kv_identity *identity,
                                            const struct vcl_kv_part *parts, size_t count, double step,
                                            struct vcl_kv_recipe **recipe, double *bits);
VCL_API void vcl_kv_recipe_destroy(struct vcl_kv_recipe *recipe); /* NULL is fine */

struct vcl_kv_recipe_info {
    size_t size; /* of this struct; the caller sets it */
    struct vcl_kv_shape shape;
    struct vcl_kv_identity identity; /* texts of the recipe's */
    uint64_t hash;                   /* that pages carry */
    size_t parts;
    size_t bytes; /* that vcl_kv_recipe_save writes */
    double step;
};
VCL_API enum vcl_status vcl_kv_recipe_describe(const struct vcl_kv_recipe *recipe,
                                               struct vcl_kv_recipe_info *info);

/* To bytes and back (docs/format.md), as vcl_recipe_save and _load. */
VCL_API enum vcl_status vcl_kv_recipe_save(const struct vcl_kv_recipe *recipe, void *bytes, size_t *size);
VCL_API enum vcl_status vcl_kv_recipe_load(struct vcl_context *ctx, const void *bytes, size_t size,
                                           struct vcl_kv_recipe **recipe);

/* ---- pages ----------------------------------------------------------------------------------- */

/* What a page holds, or what of it is wanted. */
struct vcl_kv_range {
    size_t size;                  /* of this struct; the caller sets it */
    uint32_t first_layer, layers; /* layers 0: all from the first on */
    uint32_t first_token,
        tokens;        /* decoding: of the page; 0 tokens: all from the first on.  Encoding: 1 to the
                                    * coder's, first_token 0 */
    uint64_t position; /* of the page's first token in its sequence, kept for the host, below 2^32 */
    uint32_t sides;    /* VCL_KV_*; 0: both.  A part is coded as a whole or not at all */
};

/* Where keys or values lie: value d of head h, token t (of the range), layer l (of the range) at data[l
 * layer_stride + t token_stride + h head_stride + d].  F16, BF16 or F32; strides in values. */
struct vcl_kv_view {
    void *data;
    enum vcl_dtype dtype;
    size_t layer_stride, token_stride, head_stride;
};

/* Most bytes of a page with this range, whatever the values; 0 for a range that cannot be. */
VCL_API size_t vcl_kv_bound(const struct vcl_kv_recipe *recipe, const struct vcl_kv_range *range);

/* Buffers for pages of at most so many tokens, 1 to 4096, made once: encoding and decoding allocate nothing.  The
 * recipe and ctx must outlive it; many coders may share a recipe.  One thread at a time, and not while another
 * call runs in ctx, whose message tells of failures. */
struct vcl_kv_coder;
VCL_API enum vcl_status vcl_kv_coder_create(struct vcl_context *ctx, const struct vcl_kv_recipe *recipe,
                                            uint32_t tokens, struct vcl_kv_coder **coder);
VCL_API void vcl_kv_coder_destroy(struct vcl_kv_coder *coder); /* NULL is fine */

/* *bytes: in, the room at page; out, the page's size.  A side that is not in the range may be NULL.  The same
 * bytes on every machine.  Non-finite values: VCL_E_ARGUMENT with layer and token; the host keeps such a page as
 * it is. */
VCL_API enum vcl_status vcl_kv_encode(struct vcl_kv_coder *coder, const struct vcl_kv_range *range,
                                      const struct vcl_kv_view *keys, const struct vcl_kv_view *values,
                                      void *page, size_t *bytes);

/* To the views that are not NULL.  range NULL: the whole page.  VCL_E_ARGUMENT for a range that the page does not hold; VCL_E_FORMAT for a page
 * of another recipe; VCL_E_TRUNCATED, _CHECKSUM, _FORMAT, _VERSION for damage.  On failure nothing is promised of
 * what the views hold. */
VCL_API enum vcl_status vcl_kv_decode(struct vcl_kv_coder *coder, const void *page, size_t bytes,
                                      const struct vcl_kv_range *range, const struct vcl_kv_view *keys,
                                      const struct vcl_kv_view *values);

struct vcl_kv_info {
    size_t size; /* of this struct; the caller sets it */
    struct vcl_kv_range range;
    uint64_t recipe; /* its hash */
    size_t bytes;    /* of the page */
};
/* Reads a page's header: no more than that is checked.  Failures as vcl_kv_decode's, without a message. */
VCL_API enum vcl_status vcl_kv_peek(const void *page, size_t bytes, struct vcl_kv_info *info);

#ifdef __cplusplus
}
#endif
#endif
