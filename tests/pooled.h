/* pooled.h - a pool of so many threads, for tests of what takes one. */
#ifndef VCL_POOLED_H
#define VCL_POOLED_H

#include "vcllm.h"

/* NULL where memory is out; vcl_pool_destroy. */
static inline struct vcl_pool *pool_of(unsigned threads)
{
    struct vcl_options options;
    struct vcl_pool *pool;
    vcl_options_init(&options);
    options.threads = threads;
    return vcl_pool_create(&options, &pool) == VCL_OK ? pool : NULL;
}

#endif
