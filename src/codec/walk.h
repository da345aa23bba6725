/* walk.h - all tiles of a tensor through the pool, finished in order. */
#ifndef VCL_WALK_H
#define VCL_WALK_H

#include "codec/env.h"
#include "codec/tile.h"

struct vcl_walk {
    const struct vcl_env *env;
    const struct vcl_frame *frame;
    size_t slots; /* one set of buffers each */
    struct vcl_tile_work *works;
};

/* room as in vcl_tile_work_create */
enum vcl_status vcl_walk_create(const struct vcl_env *env, const struct vcl_frame *frame, size_t room,
                                struct vcl_walk *walk);
void vcl_walk_destroy(struct vcl_walk *walk);

/* For the tiles first, first + step, ... (count of them): `work` in any thread, any order; then `done`
 * (may be NULL) in this thread, in order.  Stops at the first failure, whose tile and words go to the
 * message. */
enum vcl_status
vcl_walk_run(struct vcl_walk *walk, uint64_t first, uint64_t step, uint64_t count,
             enum vcl_status (*work)(void *user, uint64_t tile, struct vcl_tile_work *buffers),
             enum vcl_status (*done)(void *user, uint64_t tile, struct vcl_tile_work *buffers), void *user);

#endif
