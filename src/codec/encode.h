/* encode.h - a whole tensor to a frame. */
#ifndef VCL_ENCODE_H
#define VCL_ENCODE_H

#include "codec/recipe.h"

enum vcl_status vcl_encode_frame(const struct vcl_env *env, const struct vcl_tensor *tensor,
                                 const struct vcl_source *source, const struct vcl_params *params,
                                 const struct vcl_sink *sink, struct vcl_report *report);

/* The search alone: what it finds for these values and this target. */
enum vcl_status vcl_learn_recipe(const struct vcl_env *env, const struct vcl_tensor *tensor,
                                 const struct vcl_source *source, const struct vcl_params *params,
                                 struct vcl_recipe **recipe, struct vcl_report *report);
/* One pass with what was found. */
enum vcl_status vcl_encode_with_recipe(const struct vcl_env *env, const struct vcl_recipe *recipe,
                                       const struct vcl_tensor *tensor, const struct vcl_source *source,
                                       const struct vcl_sink *sink, struct vcl_report *report);

#endif
