/* pool.h - a few threads that share out the jobs of calls: how they are made; vcllm.h has the rest. */
#ifndef VCL_POOL_H
#define VCL_POOL_H

#include "mem.h"
#include "vcllm.h"

/* threads as in vcl_options.  NULL if memory runs out; threads that cannot be started are done without. */
struct vcl_pool *vcl_pool_make(const struct vcl_mem *mem, unsigned threads);

#endif
