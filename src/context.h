/* context.h - what is behind a context, for the files of the public API. */
#ifndef VCL_CONTEXT_H
#define VCL_CONTEXT_H

#include "codec/env.h"
#include "video/loader.h"

#include <stdio.h>

struct vcl_context {
    struct vcl_mem mem;
    struct vcl_pool *pool;
    const struct vcl_kernels *kernels;
    struct vcl_options options;
    char *module_dir;                /* a copy; NULL = default */
    struct vcl_video_library module; /* loaded at first need */
    char message[VCL_ENV_MESSAGE];
};

/* Leaves the words for vcl_context_message and returns status. */
static inline enum vcl_status vcl_context_fail(struct vcl_context *ctx, enum vcl_status status,
                                               const char *why)
{
    snprintf(ctx->message, sizeof ctx->message, "%s", why);
    return status;
}

/* What a call needs that is not for a video codec. */
static inline struct vcl_env vcl_context_env(struct vcl_context *ctx)
{
    return (struct vcl_env){ &ctx->mem,         ctx->pool,    NULL,        ctx->options.cancel,
                             ctx->options.user, ctx->message, ctx->kernels };
}

#endif
