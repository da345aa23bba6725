/* ties.c - finds tensors with the same bytes, so that they are stored once.
 *
 * In: choices.  Out: later ones of equal dtype, shape, plan and bytes become aliases of the first.  The
 * layers of a model all have the same shapes, so samples of 3 KiB sort out nearly every pair; those whose
 * samples agree are compared in full, each with few others, so that no made-up file costs more than some
 * passes over its bytes. */
#include <stdlib.h>
#include <string.h>

#include "choose.h"
#include "common/texts.h"

enum { SAMPLE = 1024, CHUNK = 1 << 20, TRIES = 8 };

struct candidate {
    const struct vcl_entry *entry;
    const struct vcl_choice *choice;
    size_t index;
    uint64_t hash;
};

static int order(uint64_t a, uint64_t b) { return (a > b) - (a < b); }

static int order_plans(const struct candidate *a, const struct candidate *b)
{
    const struct vcl_tensor *s = &a->entry->tensor, *t = &b->entry->tensor;
    int d = order(a->entry->shard, b->entry->shard);
    if (!d)
        d = order(s->dtype, t->dtype);
    if (!d)
        d = order(s->rank, t->rank);
    for (unsigned i = 0; i < s->rank && !d; i++)
        d = order(s->dims[i], t->dims[i]);
    if (!d)
        d = order(a->choice->action, b->choice->action);
    if (!d && a->choice->action == VCL_ACTION_LOSSY) {
        d = order(a->choice->goal, b->choice->goal);
        if (!d)
            d = (a->choice->target > b->choice->target) - (a->choice->target < b->choice->target);
    }
    return d;
}

static int by_plan(const void *x, const void *y)
{
    const struct candidate *a = x, *b = y;
    const int d = order_plans(a, b);
    return d ? d : order(a->index, b->index);
}

static int by_hash(const void *x, const void *y)
{
    const struct candidate *a = x, *b = y;
    const int d = order(a->hash, b->hash);
    return d ? d : order(a->index, b->index);
}

struct tie_search {
    struct vcl_errand *job;
    const struct vcl_model *model;
    struct vcl_choice *choices;
    struct candidate *candidates;
    unsigned char *buffers; /* two chunks */
};

static enum vcl_status read_bytes(const struct tie_search *search, const struct vcl_entry *entry,
                                  uint64_t offset, void *dst, size_t n)
{
    struct vcl_error error = { 0 };
    return vcl_errand_check(search->job, vcl_model_read(search->model, entry, offset, dst, n, &error),
                            &error);
}

/* FNV-1a over the first, middle and last KiB: candidates have more than one. */
static enum vcl_status hash_samples(const struct tie_search *search, struct candidate *candidate)
{
    const uint64_t last = candidate->entry->bytes - SAMPLE;
    const uint64_t offsets[] = { 0, last / 2, last };
    unsigned char sample[SAMPLE];
    uint64_t hash = 0xcbf29ce484222325;

    for (size_t i = 0; i < 3; i++) {
        const enum vcl_status status = read_bytes(search, candidate->entry, offsets[i], sample, SAMPLE);
        if (status)
            return status;
        for (size_t j = 0; j < SAMPLE; j++)
            hash = (hash ^ sample[j]) * 0x100000001b3;
    }
    candidate->hash = hash;
    return VCL_OK;
}

static enum vcl_status compare_bytes(const struct tie_search *search, const struct vcl_entry *a,
                                     const struct vcl_entry *b, int *equal)
{
    unsigned char *one = search->buffers, *other = search->buffers + CHUNK;
    enum vcl_status status = VCL_OK;
    *equal = 1;
    for (uint64_t at = 0; at < a->bytes && *equal && !status; at += CHUNK) {
        const size_t n = a->bytes - at < CHUNK ? (size_t)(a->bytes - at) : CHUNK;
        status = read_bytes(search, a, at, one, n);
        if (!status)
            status = read_bytes(search, b, at, other, n);
        if (!status)
            *equal = memcmp(one, other, n) == 0;
        if (vcl_errand_cancelled(search->job))
            return VCL_E_CANCELLED;
    }
    return status;
}

static void make_alias(struct vcl_choice *choice, const struct candidate *alias,
                       const struct candidate *target)
{
    unsigned char frame[VCL_MAX_NAME + 256];
    size_t bytes = sizeof frame;
    if (vcl_alias_encode(&alias->entry->tensor, target->entry->name, frame, &bytes) != VCL_OK)
        return; /* a name that no alias can carry: stored twice */
    choice->action = VCL_ACTION_ALIAS;
    choice->same_as = target->index;
    choice->room = choice->bound = bytes;
}

/* Candidates of one plan and one hash: each is compared with the first of every set of equals found
 * so far. */
static enum vcl_status tie_equals(const struct tie_search *search, const struct candidate *run, size_t n)
{
    const struct candidate *firsts[TRIES];
    size_t count = 0;
    for (size_t i = 0; i < n; i++) {
        int equal = 0;
        for (size_t j = 0; j < count && !equal; j++) {
            const enum vcl_status status = compare_bytes(search, firsts[j]->entry, run[i].entry, &equal);
            if (status)
                return status;
            if (equal)
                make_alias(&search->choices[run[i].index], &run[i], firsts[j]);
        }
        if (!equal && count < TRIES)
            firsts[count++] = &run[i];
    }
    return VCL_OK;
}

static enum vcl_status tie_run(const struct tie_search *search, struct candidate *run, size_t n)
{
    enum vcl_status status = VCL_OK;
    for (size_t i = 0; i < n && !status; i++)
        status = hash_samples(search, &run[i]);
    qsort(run, n, sizeof *run, by_hash);
    for (size_t first = 0, last; first < n && !status; first = last) {
        for (last = first + 1; last < n && run[last].hash == run[first].hash;)
            last++;
        status = tie_equals(search, run + first, last - first);
    }
    return status;
}

static enum vcl_status tie_all(const struct tie_search *search)
{
    struct candidate *candidates = search->candidates;
    enum vcl_status status = VCL_OK;
    size_t n = 0;
    for (size_t i = 0; i < vcl_model_count(search->model); i++) {
        const struct vcl_entry *entry = vcl_model_entry(search->model, i);
        if (entry->bytes > SAMPLE)
            candidates[n++] = (struct candidate){ entry, &search->choices[i], i, 0 };
    }
    qsort(candidates, n, sizeof *candidates, by_plan);
    for (size_t first = 0, last; first < n && !status; first = last) {
        for (last = first + 1; last < n && order_plans(&candidates[first], &candidates[last]) == 0;)
            last++;
        if (last - first > 1)
            status = tie_run(search, candidates + first, last - first);
    }
    return status;
}

enum vcl_status vcl_choose_ties(struct vcl_errand *job, const struct vcl_model *model,
                                struct vcl_choice *choices)
{
    const struct tie_search search = { job, model, choices,
                                       vcl_calloc(vcl_model_count(model), sizeof *search.candidates),
                                       malloc((size_t)2 * CHUNK) };
    const enum vcl_status status =
        search.candidates && search.buffers ? tie_all(&search) : vcl_errand_memory(job);
    free(search.buffers);
    free(search.candidates);
    return status;
}
