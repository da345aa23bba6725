/* errand.h - one long call: whom it tells, what went wrong first, how far it is.
 *
 * Everything in pack/ that can fail takes the job and returns a status.  Any thread; calls of its hooks come
 * one at a time, but for cancel. */
#ifndef VCL_ERRAND_H
#define VCL_ERRAND_H

#include <pthread.h>
#include <stdatomic.h>

#include "vcllm_file.h"

struct vcl_errand {
    struct vcl_hooks hooks;
    struct vcl_error error; /* of the first fault; VCL_OK: none so far */
    struct vcl_progress progress;
    uint64_t ended; /* work of the items that have ended; progress.done adds the large one's part */
    uint64_t large, steps, step; /* the item that runs alone: its work, expected and counted polls */
    atomic_int cancelled;
    pthread_mutex_t lock; /* of all above and of the hooks */
};

/* hooks NULL: none.  VCL_E_ARGUMENT where they cannot be a struct vcl_hooks. */
enum vcl_status vcl_errand_init(struct vcl_errand *job, const struct vcl_hooks *hooks);
void vcl_errand_release(struct vcl_errand *job);

/* ---- what is told ---------------------------------------------------------------------------- */

/* Tells a fault, keeps the first, and returns the status, so that `return vcl_errand_fail(...)` reads well.
 * Silent for VCL_E_CANCELLED: who cancels knows. */
enum vcl_status vcl_errand_fail(struct vcl_errand *job, enum vcl_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* More words about what has failed already. */
void vcl_errand_add_fault(struct vcl_errand *job, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* What a call of the library returned: VCL_OK, or its own words as a fault. */
enum vcl_status vcl_errand_check(struct vcl_errand *job, enum vcl_status status,
                                 const struct vcl_error *error);
enum vcl_status vcl_errand_memory(struct vcl_errand *job);
/* The faults so far were told and got over. */
void vcl_errand_forget(struct vcl_errand *job);
void vcl_errand_note(struct vcl_errand *job, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Why a call with this context failed: its message, or what the status says. */
const char *vcl_why(enum vcl_status status, const struct vcl_context *ctx);

/* ---- how far it is --------------------------------------------------------------------------- */

/* A stage of `count` items; `things` are what is counted, `unit` what work is measured in. */
void vcl_errand_start(struct vcl_errand *job, const char *stage, const char *things, size_t count,
                      const char *unit, uint64_t work);
void vcl_errand_advance(struct vcl_errand *job, size_t items, uint64_t work);
/* An item of this work begins that takes about `steps` polls; the next vcl_errand_advance ends it. */
void vcl_errand_large(struct vcl_errand *job, uint64_t work, uint64_t steps);
void vcl_errand_stop(struct vcl_errand *job);
/* Once cancelled, for ever. */
int vcl_errand_cancelled(struct vcl_errand *job);
/* vcl_options' cancel, with the job as its user: counts a step of a large item as well. */
int vcl_errand_poll(void *job);

/* ---- files ----------------------------------------------------------------------------------- */

/* Tells the temporary file of a writer, then that there is none any more. */
void vcl_errand_writing(struct vcl_errand *job, const struct vcl_writer *writer);
/* The file takes its place, or is given up where filling it ended with another status than VCL_OK. */
enum vcl_status vcl_errand_finish(struct vcl_errand *job, struct vcl_writer *writer, enum vcl_status status);

#endif
