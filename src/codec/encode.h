/* encode.h - a whole tensor to a frame. */
#ifndef VCL_ENCODE_H
#define VCL_ENCODE_H

#include "codec/env.h"

enum vcl_status vcl_encode_frame(const struct vcl_env *env, const struct vcl_tensor *tensor,
                                 const struct vcl_source *source, const struct vcl_params *params,
                                 const struct vcl_sink *sink, struct vcl_report *report);

#endif
