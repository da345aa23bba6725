/* work.c - runs a verb's tensors on N threads with bounded memory, results in file order.
 *
 * In: items with a cost in bytes.  Large ones run alone, all threads inside one tensor.  Runs of small ones
 * go in waves over the same pool: each item on one thread with a context of its own, its result kept in
 * memory; then all are finished in order.  Waves rather than a queue: memory is bounded by construction and
 * the output does not depend on the number of threads. */
#include "work.h"

#include <stdlib.h>

#include "texts.h"

/* A wave holds this much, or a single item: the same for the calling program whatever the model's size. */
enum { WAVE_BYTES = 32 << 20, WAVE_BYTES_PER_THREAD = 8 << 20, ITEM_BYTES = 16 << 10 };
enum { TILE_SHIFT = 20 }; /* tiles of large tensors have about a million values */

struct wave {
    struct vcl_work *work;
    const struct vcl_task *task;
    size_t first;
    atomic_int status;
};

uint64_t vcl_work_steps(const struct vcl_work *work, uint64_t values, unsigned passes)
{
    return passes * ((values >> TILE_SHIFT) / work->threads + 1);
}

static enum vcl_status create(struct vcl_work *work, struct vcl_options *options)
{
    enum vcl_status status = options->pool ? VCL_OK : vcl_pool_create(options, &work->own);
    if (status)
        return status;
    work->pool = options->pool = options->pool ? options->pool : work->own;
    work->threads = vcl_pool_threads(work->pool);
    work->narrow = vcl_calloc(work->threads, sizeof *work->narrow);
    status = work->narrow ? vcl_context_create(options, &work->wide) : VCL_E_MEMORY;
    options->pool = NULL;
    options->threads = 1;
    for (unsigned i = 0; i < work->threads && status == VCL_OK; i++)
        status = vcl_context_create(options, &work->narrow[i]);
    return status;
}

enum vcl_status vcl_work_create(struct vcl_work *work, struct vcl_errand *job, unsigned threads,
                                struct vcl_pool *pool)
{
    struct vcl_options options;

    vcl_options_init(&options);
    options.cancel = vcl_errand_poll;
    options.user = job;
    options.threads = threads;
    options.pool = pool;
    *work = (struct vcl_work){ .job = job };
    const enum vcl_status status = create(work, &options);
    if (status == VCL_OK)
        return VCL_OK;
    vcl_work_destroy(work);
    return vcl_errand_fail(job, status, "cannot make contexts: %s", vcl_status_text(status));
}

void vcl_work_destroy(struct vcl_work *work)
{
    vcl_context_destroy(work->wide);
    for (unsigned i = 0; work->narrow && i < work->threads; i++)
        vcl_context_destroy(work->narrow[i]);
    free(work->narrow);
    vcl_pool_destroy(work->own);
    *work = (struct vcl_work){ 0 };
}

/* After a failure, or once the job is cancelled, what is left of the wave is passed over. */
static void run_item(void *user, size_t i, unsigned thread)
{
    struct wave *wave = user;
    if (atomic_load(&wave->status) || vcl_errand_cancelled(wave->work->job))
        return;
    const enum vcl_status status =
        wave->task->run(wave->task->user, wave->first + i, wave->work->narrow[thread]);
    if (status)
        atomic_store(&wave->status, status);
}

static enum vcl_status run_wave(struct vcl_work *work, const struct vcl_task *task, size_t first, size_t last)
{
    struct wave wave = { .work = work, .task = task, .first = first };
    vcl_pool_run(work->pool, last - first, run_item, &wave);
    return vcl_errand_cancelled(work->job) ? VCL_E_CANCELLED : (enum vcl_status)atomic_load(&wave.status);
}

/* The end of the wave that starts at `first`, whose item does not run alone. */
static size_t wave_end(const struct vcl_work *work, const struct vcl_task *task, size_t first, size_t last)
{
    const uint64_t room = WAVE_BYTES + (uint64_t)work->threads * WAVE_BYTES_PER_THREAD;
    uint64_t held = 0;
    size_t i = first;
    for (; i < last; i++) {
        const uint64_t bytes = task->memory(task->user, i);
        if (bytes == VCL_WORK_ALONE || (i > first && bytes + ITEM_BYTES > room - held))
            break;
        held = bytes + ITEM_BYTES < room - held ? held + bytes + ITEM_BYTES : room;
    }
    return i;
}

enum vcl_status vcl_work_run(struct vcl_work *work, const struct vcl_task *task, size_t first, size_t last)
{
    while (first < last) {
        size_t end = wave_end(work, task, first, last);
        enum vcl_status status;
        if (end == first)
            status = task->run(task->user, end++, work->wide);
        else
            status = run_wave(work, task, first, end);
        for (; first < end && !status; first++)
            status = task->finish ? task->finish(task->user, first) : VCL_OK;
        if (vcl_errand_cancelled(work->job))
            return VCL_E_CANCELLED;
        if (status)
            return status;
    }
    return VCL_OK;
}

void vcl_work_start(struct vcl_errand *job, const char *stage, const struct vcl_model *model)
{
    const size_t count = vcl_model_count(model);
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += vcl_model_entry(model, i)->bytes;
    vcl_errand_start(job, stage, "tensors", count, "bytes", bytes);
}

enum vcl_status vcl_work_over(struct vcl_work *work, const char *stage, const struct vcl_model *model,
                              const struct vcl_task *task)
{
    struct vcl_errand *job = work->job;
    vcl_work_start(job, stage, model);
    const enum vcl_status status = vcl_work_run(work, task, 0, vcl_model_count(model));
    vcl_errand_stop(job);
    vcl_work_destroy(work);
    return status;
}
