/* cache_recipe.h - how a KV cache is coded: learned from a model, or read from a file. */
#ifndef VCL_CLI_CACHE_RECIPE_H
#define VCL_CLI_CACHE_RECIPE_H

#include "language.h"
#include "vcllm_kv.h"

struct vcl_cache_recipe {
    struct vcl_context *ctx;
    struct vcl_kv_recipe *recipe;
};

/* What may be chosen; the rest is settled. */
struct vcl_cache_lesson {
    double bits;
    int local, apart; /* as vcl_learn_options' */
    double seed;
};

/* Each prints why it fails and returns an exit code.  Free what they filled with the last, after a failure,
 * too. */
int vcl_cli_learn_cache(const char *folder, const struct vcl_network *network,
                        const struct vcl_cache_lesson *lesson, struct vcl_cache_recipe *to);
int vcl_cli_read_cache_recipe(const char *path, struct vcl_cache_recipe *to);
void vcl_cli_free_cache_recipe(struct vcl_cache_recipe *recipe);

#endif
