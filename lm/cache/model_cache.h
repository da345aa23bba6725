/* model_cache.h - what a recipe says of the model that it is for. */
#ifndef VCL_RUN_MODEL_CACHE_H
#define VCL_RUN_MODEL_CACHE_H

#include "net/network.h"
#include "vcllm_kv.h"

struct vcl_model_cache {
    struct vcl_kv_shape shape;
    char revision[20], rope[128], layout[64]; /* of the identity */
};
/* The revision is a hash of the norms' weights: the same for a compressed copy, which keeps them exactly. */
struct vcl_model_cache vcl_model_cache_of(const struct vcl_network *network);
/* VCL_E_ARGUMENT where the recipe is another model's. */
enum vcl_status vcl_model_cache_check(const struct vcl_network *network, const struct vcl_kv_recipe *recipe,
                                      struct vcl_error *error);

#endif
