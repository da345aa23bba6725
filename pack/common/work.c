/* work.c - runs a verb's tensors on N threads with bounded memory, results in file order.
 *
 * In: items with a cost in bytes.  Large ones run alone, all threads inside one tensor.  Runs of small ones
 * go in waves: each item on one thread with a context of its own, its result kept in memory; then all are
 * finished in order.  Waves rather than a queue: memory is bounded by construction and the output does not
 * depend on the number of threads. */
#include "work.h"

#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include "texts.h"

/* A wave holds this much, or a single item: the same for the calling program whatever the model's size. */
enum { WAVE_BYTES = 32 << 20, WAVE_BYTES_PER_THREAD = 8 << 20, ITEM_BYTES = 16 << 10 };
enum { TILE_SHIFT = 20 }; /* tiles of large tensors have about a million values */

struct wave {
    struct vcl_work *work;
    const struct vcl_task *task;
    size_t last;
    atomic_size_t next;
    atomic_int status;
    atomic_uint worker;
};

uint64_t vcl_work_steps(const struct vcl_work *work, uint64_t values, unsigned passes)
{
    return passes * ((values >> TILE_SHIFT) / work->threads + 1);
}

unsigned vcl_work_threads(unsigned asked)
{
    cpu_set_t cpus;
    if (asked > 0)
        return asked;
    if (sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) > 0)
        return (unsigned)CPU_COUNT(&cpus);
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (unsigned)online : 1;
}

enum vcl_status vcl_work_create(struct vcl_work *work, struct vcl_errand *job, unsigned threads)
{
    struct vcl_options options;

    vcl_options_init(&options);
    options.cancel = vcl_errand_poll;
    options.user = job;
    options.threads = threads = vcl_work_threads(threads);
    *work = (struct vcl_work){ .job = job, .threads = threads };
    work->narrow = vcl_calloc(threads, sizeof *work->narrow);
    enum vcl_status status = work->narrow ? vcl_context_create(&options, &work->wide) : VCL_E_MEMORY;
    options.threads = 1;
    for (unsigned i = 0; i < threads && status == VCL_OK; i++)
        status = vcl_context_create(&options, &work->narrow[i]);
    if (status == VCL_OK)
        return VCL_OK;
    vcl_work_destroy(work);
    return vcl_errand_fail(job, status, "cannot start %u threads: %s", threads, vcl_status_text(status));
}

void vcl_work_destroy(struct vcl_work *work)
{
    if (!work->narrow)
        return;
    vcl_context_destroy(work->wide);
    for (unsigned i = 0; i < work->threads; i++)
        vcl_context_destroy(work->narrow[i]);
    free(work->narrow);
    *work = (struct vcl_work){ 0 };
}

static void *wave_thread(void *argument)
{
    struct wave *wave = argument;
    struct vcl_context *ctx = wave->work->narrow[atomic_fetch_add(&wave->worker, 1)];
    while (atomic_load(&wave->status) == 0 && !vcl_errand_cancelled(wave->work->job)) {
        const size_t i = atomic_fetch_add(&wave->next, 1);
        if (i >= wave->last)
            break;
        const enum vcl_status status = wave->task->run(wave->task->user, i, ctx);
        if (status)
            atomic_store(&wave->status, status);
    }
    return NULL;
}

/* The calling thread works too; threads that cannot be started are done without. */
static enum vcl_status run_wave(struct vcl_work *work, const struct vcl_task *task, size_t first, size_t last)
{
    struct wave wave = { .work = work, .task = task, .last = last };
    pthread_t *threads = vcl_calloc(work->threads, sizeof *threads);
    unsigned started = 0;
    if (!threads)
        return vcl_errand_memory(work->job);

    atomic_init(&wave.next, first);
    while (started + 1 < work->threads && started + 1 < last - first
           && pthread_create(&threads[started], NULL, wave_thread, &wave) == 0)
        started++;
    wave_thread(&wave);
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    free(threads);
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
