/* walk.c - all tiles of a tensor through the pool, finished in order.
 *
 * Tiles go in batches of one per thread.  A batch waits for its slowest tile; tiles are of equal size,
 * so that costs little, and it bounds memory and keeps the bytes independent of the number of threads. */
#include "walk.h"

#include "base/common.h"

#include <stdarg.h>
#include <stdio.h>

enum vcl_status vcl_env_fail(const struct vcl_env *env, enum vcl_status status, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(env->message, VCL_ENV_MESSAGE, format, args);
    va_end(args);
    return status;
}

enum vcl_status vcl_walk_create(const struct vcl_env *env, const struct vcl_frame *frame, size_t room,
                                struct vcl_walk *walk)
{
    walk->env = env;
    walk->frame = frame;
    const size_t slots = (size_t)vcl_min(vcl_pool_threads(env->pool), frame->plan.tiles);
    walk->works = vcl_alloc(env->mem, slots, sizeof *walk->works);
    for (walk->slots = 0; walk->works && walk->slots < slots; walk->slots++)
        if (vcl_tile_work_create(env->mem, frame, room, &walk->works[walk->slots]))
            break;
    if (walk->works && walk->slots == slots)
        return VCL_OK;
    vcl_walk_destroy(walk);
    return vcl_env_fail(env, VCL_E_MEMORY, "no memory for the buffers of a tile");
}

void vcl_walk_destroy(struct vcl_walk *walk)
{
    if (!walk->works)
        return;
    for (size_t i = 0; i < walk->slots; i++)
        vcl_tile_work_destroy(walk->env->mem, &walk->works[i]);
    vcl_free(walk->env->mem, walk->works);
    walk->works = NULL;
}

struct batch {
    struct vcl_walk *walk;
    uint64_t first, step;
    enum vcl_status (*work)(void *user, uint64_t tile, struct vcl_tile_work *buffers);
    void *user;
};

static void work_slot(void *user, size_t slot, unsigned thread)
{
    const struct batch *const batch = user;
    (void)thread; /* a batch has a place for each of its tiles */
    struct vcl_tile_work *const buffers = &batch->walk->works[slot];
    buffers->message[0] = 0;
    buffers->status = batch->work(batch->user, batch->first + slot * batch->step, buffers);
}

enum vcl_status
vcl_walk_run(struct vcl_walk *walk, uint64_t first, uint64_t step, uint64_t count,
             enum vcl_status (*work)(void *user, uint64_t tile, struct vcl_tile_work *buffers),
             enum vcl_status (*done)(void *user, uint64_t tile, struct vcl_tile_work *buffers), void *user)
{
    const struct vcl_env *const env = walk->env;
    struct batch batch = { walk, first, step, work, user };
    while (count > 0) {
        const size_t n = (size_t)vcl_min(walk->slots, count);
        if (env->cancel && env->cancel(env->user))
            return vcl_env_fail(env, VCL_E_CANCELLED, "cancelled");
        vcl_pool_run(env->pool, n, work_slot, &batch);
        for (size_t i = 0; i < n; i++) {
            const uint64_t tile = batch.first + i * step;
            struct vcl_tile_work *const buffers = &walk->works[i];
            enum vcl_status status = buffers->status;
            if (!status && done)
                status = done(user, tile, buffers);
            if (status)
                return vcl_env_fail(env, status, "tile %llu: %s", (unsigned long long)tile,
                                    buffers->message[0] ? buffers->message : vcl_status_text(status));
        }
        batch.first += n * step;
        count -= n;
    }
    return VCL_OK;
}
