/* model_cache.c - a cache's shape and texts, from the model's configuration and norms. */
#include <stdio.h>
#include <string.h>

#include "common/mix.h"
#include "model_cache.h"

static uint64_t add_floats(uint64_t hash, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        hash = vcl_mix(hash + VCL_MIX_STEP + bits);
    }
    return hash;
}

static uint64_t hash_norms(const struct vcl_network *network)
{
    const size_t width = network->config.width;
    uint64_t hash = add_floats(0, network->norm.weight, width);
    for (size_t layer = 0; layer < network->config.layers; layer++) {
        hash = add_floats(hash, network->layers[layer].attention_norm.weight, width);
        hash = add_floats(hash, network->layers[layer].ffn_norm.weight, width);
    }
    return hash;
}

static void describe_rope(const struct vcl_config *c, char *text, size_t room)
{
    if (c->rotary == 0)
        snprintf(text, room, "none: positions are embedded");
    else if (c->rope_scaling == VCL_ROPE_PLAIN)
        snprintf(text, room, "keys before it; base %.9g", c->rope_theta);
    else if (c->rope_scaling == VCL_ROPE_LINEAR)
        snprintf(text, room, "keys before it; base %.9g, linear, factor %.9g", c->rope_theta, c->rope_factor);
    else
        snprintf(text, room, "keys before it; base %.9g, llama3, factor %.9g, %.9g to %.9g of %.9g",
                 c->rope_theta, c->rope_factor, c->rope_low, c->rope_high, c->rope_original);
}

struct vcl_model_cache vcl_model_cache_of(const struct vcl_network *network)
{
    const struct vcl_config *c = &network->config;
    const uint32_t dim = (uint32_t)c->head_dim;
    struct vcl_model_cache cache = { .shape = { (uint32_t)c->layers, (uint32_t)c->kv_heads, dim, dim } };
    snprintf(cache.revision, sizeof cache.revision, "%016llx", (unsigned long long)hash_norms(network));
    describe_rope(c, cache.rope, sizeof cache.rope);
    snprintf(cache.layout, sizeof cache.layout, "rotated pairs (i, i + %zu)", c->rotary / 2);
    return cache;
}

enum vcl_status vcl_model_cache_check(const struct vcl_network *network, const struct vcl_kv_recipe *recipe,
                                      struct vcl_error *error)
{
    const struct vcl_model_cache own = vcl_model_cache_of(network);
    struct vcl_kv_recipe_info info = { .size = sizeof info };
    vcl_kv_recipe_describe(recipe, &info);
    if (memcmp(&own.shape, &info.shape, sizeof own.shape) == 0
        && strcmp(own.revision, info.identity.revision) == 0 && strcmp(own.rope, info.identity.rope) == 0
        && strcmp(own.layout, info.identity.layout) == 0)
        return VCL_OK;
    return vcl_fault(error, VCL_E_ARGUMENT,
                     "was learned for another model, '%s': %lu layers of %lu heads of %lu, revision %s; this "
                     "one has %lu of %lu of %lu, revision %s",
                     info.identity.model, (unsigned long)info.shape.layers, (unsigned long)info.shape.heads,
                     (unsigned long)info.shape.key_dim, info.identity.revision,
                     (unsigned long)own.shape.layers, (unsigned long)own.shape.heads,
                     (unsigned long)own.shape.key_dim, own.revision);
}
