/* row_floor.c - --row-floor: which tensors are looked up by row, and what their rows have come to.
 *
 * In: names and shapes.  Out: choices with a floor for each row.  A row that is looked up goes by itself into
 * what follows, mostly a norm, so that its error counts against its own size.  That a matrix is looked up is no
 * property of its values: names of embeddings tell it, as every family of models has them.  Without being asked
 * for, a floor is set where row norms are far apart: there it is worth much, elsewhere nothing. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "choose.h"
#include "common/texts.h"

#define VCL_ROW_FLOOR 10.0 /* where none is asked for; docs/experiments.md */

enum { MOST_ROWS = 1 << 20 }; /* steps of all rows stand in a frame's header */

static int is_word(const char *text, size_t length, const char *word)
{
    return strlen(word) == length && memcmp(text, word, length) == 0;
}

static int holds(const char *text, size_t length, const char *word)
{
    return memmem(text, length, word, strlen(word)) != NULL;
}

/* By the module's own name: what stands before ".weight". */
static int is_embedding(const char *name)
{
    size_t end = strlen(name);
    if (end > 7 && strcmp(name + end - 7, ".weight") == 0)
        end -= 7;
    size_t begin = end;
    while (begin > 0 && name[begin - 1] != '.')
        begin--;
    const char *module = name + begin;
    const size_t length = end - begin;
    return is_word(module, length, "wte") || is_word(module, length, "wpe")
        || is_word(module, length, "shared") /* T5's */ || holds(module, length, "embd") /* GGUF's */
        || (holds(module, length, "embed") && !is_word(module, length, "embed_out"));
}

/* Why a tensor that is looked up gets no floor, NULL if it does. */
static const char *why_not(const struct vcl_tensor *tensor, const struct vcl_choice *choice)
{
    enum { SHORTEST = 64, FEWEST = 32 };
    const uint64_t length = tensor->rank ? tensor->dims[tensor->rank - 1] : 0;
    if (choice->goal != VCL_GOAL_BITS)
        return "its rule gives it no bits to keep to";
    if (length < SHORTEST || choice->values / length < FEWEST)
        return "fewer than 32 rows, or rows of fewer than 64 values";
    return choice->values / length > MOST_ROWS ? "more rows than a frame's header has room for" : NULL;
}

static void choose_asked(struct vcl_errand *job, const struct vcl_model *model,
                         const struct vcl_policy *policy, struct vcl_choice *choices)
{
    size_t found = 0;
    for (size_t i = 0; i < vcl_model_count(model); i++) {
        const struct vcl_entry *entry = vcl_model_entry(model, i);
        if (choices[i].action != VCL_ACTION_LOSSY || !is_embedding(entry->name))
            continue;
        const char *reason = why_not(&entry->tensor, &choices[i]);
        found++;
        if (reason)
            vcl_errand_note(job, "warning: --row-floor leaves '%s' out: %s", entry->name, reason);
        else
            choices[i].row_floor = policy->row_floor;
    }
    if (!found)
        vcl_errand_note(
            job,
            "warning: --row-floor decides nothing: no tensor coded lossily has the name of an embedding");
}

/* ---- without being asked ----------------------------------------------------------------------- */

/* Squares of rows, a few rows at a time; a NaN or an infinity is a row of no size. */
static enum vcl_status sum_rows(struct vcl_errand *job, const struct vcl_model *model,
                                const struct vcl_entry *entry, uint64_t rows, double *sums)
{
    const size_t cols = (size_t)entry->tensor.dims[entry->tensor.rank - 1];
    const size_t bytes = cols * (vcl_dtype_bits(entry->tensor.dtype) / 8);
    unsigned char *raw = vcl_calloc(1, bytes);
    double *values = vcl_calloc(cols, sizeof *values);
    struct vcl_error error = { 0 };
    enum vcl_status status = raw && values ? VCL_OK : VCL_E_MEMORY;
    for (uint64_t r = 0; r < rows && status == VCL_OK; r++) {
        status = vcl_model_read(model, entry, r * bytes, raw, bytes, &error);
        if (status == VCL_OK)
            vcl_convert(entry->tensor.dtype, raw, VCL_DTYPE_F64, values, cols);
        for (size_t c = 0; c < cols; c++)
            sums[r] += values[c] * values[c];
        if (!isfinite(sums[r]))
            sums[r] = 0;
    }
    free(raw);
    free(values);
    return status == VCL_E_MEMORY ? vcl_errand_memory(job) : vcl_errand_check(job, status, &error);
}

static int by_size(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Do norms differ by more than a factor of 4, those of the least and of the largest hundredth left out?  Not
 * where rows are all 0: with a floor they would come back as something small, and a norm makes it large. */
static int is_spread(double *sums, uint64_t rows)
{
    const double most = 4.0 * 4.0;
    const uint64_t aside = rows / 100;
    qsort(sums, (size_t)rows, sizeof *sums, by_size);
    return sums[0] > 0 && sums[rows - 1 - aside] > most * sums[aside];
}

/* Errors of a tied head are shaped for its inputs already, which a floor would undo. */
static int is_shaped(const struct vcl_choice *choice)
{
    return choice->inputs.weight || choice->products.feedback;
}

static enum vcl_status choose_one(struct vcl_errand *job, const struct vcl_model *model,
                                  const struct vcl_entry *entry, struct vcl_choice *choice)
{
    const uint64_t rows = choice->values / entry->tensor.dims[entry->tensor.rank - 1];
    double *sums = vcl_calloc((size_t)rows, sizeof *sums);
    const enum vcl_status status = sums ? sum_rows(job, model, entry, rows, sums) : vcl_errand_memory(job);
    if (!status && is_spread(sums, rows))
        choice->row_floor = VCL_ROW_FLOOR;
    free(sums);
    return status;
}

enum vcl_status vcl_choose_floors(struct vcl_errand *job, const struct vcl_model *model,
                                  const struct vcl_policy *policy, struct vcl_choice *choices)
{
    enum vcl_status status = VCL_OK;
    if (policy->row_floor > 0)
        choose_asked(job, model, policy, choices);
    if (policy->row_floor >= 0 || policy->params.codec != VCL_CODEC_TENSOR || policy->params.rotate)
        return VCL_OK;
    for (size_t i = 0; i < vcl_model_count(model) && !status; i++) {
        const struct vcl_entry *entry = vcl_model_entry(model, i);
        if (choices[i].action == VCL_ACTION_LOSSY && is_embedding(entry->name) && !is_shaped(&choices[i])
            && !why_not(&entry->tensor, &choices[i]))
            status = choose_one(job, model, entry, &choices[i]);
    }
    return status;
}
