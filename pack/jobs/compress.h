/* compress.h - a model to its compressed form: what was asked for, what was decided, what became of it.
 *
 * vcl_compress_open, _decide, _write and _result, in this order, until one fails; then _release. */
#ifndef VCL_COMPRESS_H
#define VCL_COMPRESS_H

#include "encoding.h"
#include "folder/folder.h"
#include "folder/opened.h"
#include "policy/choose.h"
#include "totals.h"

struct vcl_compress {
    struct vcl_errand *job;
    const char *input, *output; /* output NULL: only up to _decide */
    struct vcl_reading reading;
    struct vcl_policy policy;
    unsigned threads;      /* 0: as many as CPUs */
    struct vcl_pool *pool; /* in place of them, or NULL */
    int resume, force;
    void *user; /* for the following, which may be NULL */
    /* Moves targets, and tells choices what errors in their columns cost, once all else is decided but
     * floors. */
    enum vcl_status (*allot)(void *user, struct vcl_compress *c);
    void (*on_tensor)(void *user, size_t i); /* is in its file, and in results */

    struct vcl_model *model;
    int is_folder;
    struct vcl_folder folder;
    struct vcl_choice *choices; /* one per entry */
    struct vcl_result *results; /* the same, once it is written */
    struct vcl_work work;
};

struct vcl_tally {
    size_t coded, saturated, fell_back, missed, zero, weighed;
    double trials;
};

enum vcl_status vcl_compress_open(struct vcl_compress *c);
/* All that can be known before the work: a run that cannot succeed ends here, and nothing is written. */
enum vcl_status vcl_compress_decide(struct vcl_compress *c);
enum vcl_status vcl_compress_write(struct vcl_compress *c);
/* From the file or folder just written: notes what did not become as it was asked for.  *written: the caller
 * closes it. */
enum vcl_status vcl_compress_result(const struct vcl_compress *c, struct vcl_totals *totals,
                                    struct vcl_model **written);
/* VCL_E_RATE where the output is larger than --size. */
enum vcl_status vcl_compress_check_size(const struct vcl_compress *c, const struct vcl_totals *totals);
struct vcl_tally vcl_compress_tally(const struct vcl_compress *c);
void vcl_compress_release(struct vcl_compress *c);
/* What coding a shard takes of it; model, choices, results and work are there. */
struct vcl_encoding vcl_compress_encoding(struct vcl_compress *c, int overwrite);

/* compress_folder.c: what a folder is compressed from and how, for --resume to compare; json_decref it.
 * NULL: out of memory. */
json_t *vcl_compress_journal(const struct vcl_compress *c);
/* A folder to a folder; model, choices, results and work are there. */
enum vcl_status vcl_compress_folder(struct vcl_compress *c);

#endif
