/* errand.c - hooks, faults and progress of one long call.
 *
 * Names in model files are foreign text: control characters with which a name could move the cursor are
 * replaced before any hook or message has them.  A hook that is called from several threads would have to be
 * written for that; here one lock keeps them apart. */
#include "errand.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "grown.h"
#include "words.h"

enum { LONGEST = 4096 };

enum vcl_status vcl_errand_init(struct vcl_errand *job, const struct vcl_hooks *hooks)
{
    const struct vcl_hooks none = { .size = sizeof none };
    *job = (struct vcl_errand){ .hooks = none };
    if (hooks && !vcl_grown_take(hooks, &job->hooks, sizeof job->hooks))
        return VCL_E_ARGUMENT;
    atomic_init(&job->cancelled, 0);
    return pthread_mutex_init(&job->lock, NULL) ? VCL_E_MEMORY : VCL_OK;
}

void vcl_errand_release(struct vcl_errand *job) { pthread_mutex_destroy(&job->lock); }

/* ---- what is told ---------------------------------------------------------------------------- */

static void compose_line(char line[LONGEST], const char *format, va_list arguments)
{
    vsnprintf(line, LONGEST, format, arguments);
    vcl_make_printable(line);
}

/* As much of the line as there is room for, no character cut through. */
static void keep_text(struct vcl_error *error, const char *line)
{
    size_t used = 0;
    for (size_t n; line[used] && used + (n = vcl_printable_length(line + used)) < sizeof error->text;)
        used += n;
    memcpy(error->text, line, used);
    error->text[used] = '\0';
}

static void tell_fault(struct vcl_errand *job, enum vcl_status status, const char *line)
{
    pthread_mutex_lock(&job->lock);
    if (job->error.status == VCL_OK) {
        job->error.status = status;
        keep_text(&job->error, line);
    }
    if (job->hooks.fault)
        job->hooks.fault(job->hooks.user, line);
    pthread_mutex_unlock(&job->lock);
}

enum vcl_status vcl_errand_fail(struct vcl_errand *job, enum vcl_status status, const char *format, ...)
{
    char line[LONGEST];
    va_list arguments;
    if (status == VCL_E_CANCELLED)
        return status;
    va_start(arguments, format);
    compose_line(line, format, arguments);
    va_end(arguments);
    tell_fault(job, status, line);
    return status;
}

void vcl_errand_add_fault(struct vcl_errand *job, const char *format, ...)
{
    char line[LONGEST];
    va_list arguments;
    va_start(arguments, format);
    compose_line(line, format, arguments);
    va_end(arguments);
    tell_fault(job, VCL_E_CANCELLED, line); /* else there is an error already */
}

enum vcl_status vcl_errand_check(struct vcl_errand *job, enum vcl_status status,
                                 const struct vcl_error *error)
{
    return status == VCL_OK ? VCL_OK : vcl_errand_fail(job, status, "%s", error->text);
}

enum vcl_status vcl_errand_memory(struct vcl_errand *job)
{
    return vcl_errand_fail(job, VCL_E_MEMORY, "out of memory");
}

void vcl_errand_forget(struct vcl_errand *job)
{
    pthread_mutex_lock(&job->lock);
    job->error = (struct vcl_error){ 0 };
    pthread_mutex_unlock(&job->lock);
}

void vcl_errand_note(struct vcl_errand *job, const char *format, ...)
{
    char line[LONGEST];
    va_list arguments;
    if (!job->hooks.note)
        return;
    va_start(arguments, format);
    compose_line(line, format, arguments);
    va_end(arguments);
    pthread_mutex_lock(&job->lock);
    job->hooks.note(job->hooks.user, line);
    pthread_mutex_unlock(&job->lock);
}

const char *vcl_why(enum vcl_status status, const struct vcl_context *ctx)
{
    const char *message = vcl_context_message(ctx);
    return *message ? message : vcl_status_text(status);
}

/* ---- how far it is --------------------------------------------------------------------------- */

/* What is begun of a large item is included: a search that takes longer than expected stands still just
 * before its end.  The lock is held. */
static void tell_progress(struct vcl_errand *job)
{
    const double part = job->steps ? (double)job->step / (double)job->steps : 0;
    job->progress.done = job->ended + (uint64_t)((double)job->large * (part < 0.98 ? part : 0.98));
    if (job->hooks.progress)
        job->hooks.progress(job->hooks.user, &job->progress);
}

void vcl_errand_start(struct vcl_errand *job, const char *stage, const char *things, size_t count,
                      const char *unit, uint64_t work)
{
    pthread_mutex_lock(&job->lock);
    job->progress = (struct vcl_progress){ .size = sizeof job->progress,
                                           .stage = stage,
                                           .things = things,
                                           .count = count,
                                           .unit = unit,
                                           .work = work };
    job->ended = job->large = job->steps = job->step = 0;
    tell_progress(job);
    pthread_mutex_unlock(&job->lock);
}

void vcl_errand_advance(struct vcl_errand *job, size_t items, uint64_t work)
{
    pthread_mutex_lock(&job->lock);
    job->progress.counted += items;
    job->ended += work;
    job->large = job->steps = job->step = 0;
    if (job->progress.stage)
        tell_progress(job);
    pthread_mutex_unlock(&job->lock);
}

void vcl_errand_large(struct vcl_errand *job, uint64_t work, uint64_t steps)
{
    pthread_mutex_lock(&job->lock);
    job->large = work;
    job->steps = steps;
    job->step = 0;
    pthread_mutex_unlock(&job->lock);
}

void vcl_errand_stop(struct vcl_errand *job)
{
    pthread_mutex_lock(&job->lock);
    if (job->progress.stage) {
        job->progress.stage = NULL;
        tell_progress(job);
    }
    pthread_mutex_unlock(&job->lock);
}

int vcl_errand_cancelled(struct vcl_errand *job)
{
    if (!atomic_load(&job->cancelled) && job->hooks.cancel && job->hooks.cancel(job->hooks.user))
        atomic_store(&job->cancelled, 1);
    return atomic_load(&job->cancelled);
}

int vcl_errand_poll(void *user)
{
    struct vcl_errand *job = user;
    if (pthread_mutex_trylock(&job->lock) == 0) { /* else somebody else is telling */
        job->step++;
        if (job->progress.stage)
            tell_progress(job);
        pthread_mutex_unlock(&job->lock);
    }
    return vcl_errand_cancelled(job);
}

/* ---- files ----------------------------------------------------------------------------------- */

void vcl_errand_writing(struct vcl_errand *job, const struct vcl_writer *writer)
{
    pthread_mutex_lock(&job->lock);
    if (job->hooks.writing)
        job->hooks.writing(job->hooks.user, writer ? vcl_writer_temporary(writer) : NULL);
    pthread_mutex_unlock(&job->lock);
}

enum vcl_status vcl_errand_finish(struct vcl_errand *job, struct vcl_writer *writer, enum vcl_status status)
{
    struct vcl_error error = { 0 };
    if (status != VCL_OK)
        vcl_writer_abandon(writer);
    else
        status = vcl_errand_check(job, vcl_writer_commit(writer, &error), &error);
    vcl_errand_writing(job, NULL);
    return status;
}
