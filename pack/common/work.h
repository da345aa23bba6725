/* work.h - one tensor after the other, or many at once: the loop of compress, decompress, verify and
 * compare. */
#ifndef VCL_WORK_H
#define VCL_WORK_H

#include "errand.h"

struct vcl_work {
    struct vcl_errand *job;
    unsigned threads;            /* of the pool */
    struct vcl_pool *pool, *own; /* own: NULL where pool is the caller's */
    struct vcl_context *wide;    /* on the pool, over the tiles of one tensor */
    struct vcl_context **narrow; /* of one thread each, for each of the pool's */
};

/* Tensors of more values than this run alone, on the wide context: they have tiles enough for every
 * thread. */
#define VCL_WORK_LARGE (UINT64_C(1) << 22)
#define VCL_WORK_ALONE UINT64_MAX

struct vcl_task {
    void *user;
    /* Bytes that run(i) holds until finish(i); VCL_WORK_ALONE: it streams and runs by itself, after all
     * before it. */
    uint64_t (*memory)(void *user, size_t i);
    /* Any thread.  What fails has been told. */
    enum vcl_status (*run)(void *user, size_t i, struct vcl_context *ctx);
    /* The calling thread, i ascending; may be NULL. */
    enum vcl_status (*finish)(void *user, size_t i);
};

/* The library polls once for as many tiles as the wide context has threads: steps for the progress of a
 * tensor of so many values whose tiles are coded `passes` times. */
uint64_t vcl_work_steps(const struct vcl_work *work, uint64_t values, unsigned passes);

/* pool: the caller's, or NULL: one of so many threads; 0 = as many as CPUs this process may use. */
enum vcl_status vcl_work_create(struct vcl_work *work, struct vcl_errand *job, unsigned threads,
                                struct vcl_pool *pool);
void vcl_work_destroy(struct vcl_work *work);
/* Runs items first to last-1.  Stops at the first failure and returns it; VCL_E_CANCELLED once the job is
 * cancelled. */
enum vcl_status vcl_work_run(struct vcl_work *work, const struct vcl_task *task, size_t first, size_t last);
/* All tensors of a model, as a stage; then destroys the work. */
enum vcl_status vcl_work_over(struct vcl_work *work, const char *stage, const struct vcl_model *model,
                              const struct vcl_task *task);
/* The stage of all tensors of a model, by the bytes that they have in the file. */
void vcl_work_start(struct vcl_errand *job, const char *stage, const struct vcl_model *model);

#endif
