/* learn.h - how a model's KV cache is to be coded (vcllm_kv.h), from text that the model writes itself. */
#ifndef VCL_RUN_LEARN_H
#define VCL_RUN_LEARN_H

#include "gather.h"
#include "vcllm_kv.h"

/* *bits: what was reached, within 1 % of what was asked for.  ctx keeps the recipe's memory and must outlive
 * it.  VCL_E_CODEC where this build has no LAPACK; VCL_E_RATE where no step gives so many bits; else as
 * vcl_facts_gather. */
enum vcl_status vcl_learn_cache(const struct vcl_network *network, const struct vcl_learn_options *options,
                                struct vcl_context *ctx, struct vcl_kv_recipe **recipe, double *bits,
                                struct vcl_error *error);

#endif
