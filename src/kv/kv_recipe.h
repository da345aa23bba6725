/* kv_recipe.h - what all pages of a model's KV cache share. */
#ifndef VCL_KV_RECIPE_H
#define VCL_KV_RECIPE_H

#include "codec/recipe.h"
#include "kv/basis.h"
#include "vcllm_kv.h"

enum { VCL_KV_TEXTS = 4, VCL_KV_TEXT = 256 };

/* Values that are coded together. */
struct vcl_kv_coding {
    uint32_t layer, sides;
    struct vcl_basis basis;
    struct vcl_recipe *recipe; /* for matrices of as many columns as there are components that are coded */
};

struct vcl_kv_recipe {
    struct vcl_mem mem;
    uint8_t *bytes; /* as docs/format.md has them */
    size_t size;
    struct vcl_kv_shape shape;
    char text[VCL_KV_TEXTS][VCL_KV_TEXT]; /* in the order of struct vcl_kv_identity */
    uint64_t hash;
    size_t count;
    struct vcl_kv_coding *parts; /* by layer, keys before values */
};

/* Values of a token in these sides of a layer. */
uint32_t vcl_kv_width(const struct vcl_kv_shape *shape, uint32_t sides);

enum vcl_status vcl_kv_learn(const struct vcl_env *env, const struct vcl_kv_shape *shape,
                             const struct vcl_kv_identity *identity, const struct vcl_kv_part *parts,
                             size_t count, double step, struct vcl_kv_recipe **recipe, double *bits);
enum vcl_status vcl_kv_recipe_make(const struct vcl_env *env, const uint8_t *bytes, size_t size,
                                   struct vcl_kv_recipe **recipe);
void vcl_kv_recipe_unmake(struct vcl_kv_recipe *recipe);

#endif
