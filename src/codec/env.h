/* env.h - what a context lends to one call. */
#ifndef VCL_ENV_H
#define VCL_ENV_H

#include "base/mem.h"
#include "base/pool.h"
#include "kernels/kernels.h"
#include "video/video.h"

#define VCL_ENV_MESSAGE 512

struct vcl_env {
    const struct vcl_mem *mem;
    struct vcl_pool *pool;
    const struct vcl_video *video; /* NULL unless the codec needs it */
    int (*cancel)(void *user);     /* may be NULL */
    void *user;
    char *message; /* VCL_ENV_MESSAGE bytes */
    const struct vcl_kernels *kernels;
};

/* Writes env->message and returns status. */
enum vcl_status vcl_env_fail(const struct vcl_env *env, enum vcl_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
