/* pool.h - a few threads that share out the jobs of one call. */
#ifndef VCL_POOL_H
#define VCL_POOL_H

#include <stddef.h>

#include "mem.h"

struct vcl_pool;

/* threads: 1 or more, the caller's own counted; 1 starts none.  NULL if memory or threads run out. */
struct vcl_pool *vcl_pool_create(const struct vcl_mem *mem, unsigned threads);
void vcl_pool_destroy(struct vcl_pool *pool);
unsigned vcl_pool_threads(const struct vcl_pool *pool);

/* Calls job(user, i) once for every i below count, from any thread, and returns when all are done. */
void vcl_pool_run(struct vcl_pool *pool, size_t count, void (*job)(void *user, size_t i), void *user);

#endif
