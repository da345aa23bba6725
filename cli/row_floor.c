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
#include "allot/sensitivity.h"

#define VCL_ROW_FLOOR 10.0 /* where none is asked for; docs/experiments.md */

enum { MOST_ROWS = 1 << 20 }; /* steps of all rows stand in a frame's header */

/* The module's own name: what stands before ".weight". */
static int is_embedding(const char *name)
{
    size_t end = strlen(name);
    if (end > 7 && strcmp(name + end - 7, ".weight") == 0)
        end -= 7;
    size_t begin = end;
    while (begin > 0 && name[begin - 1] != '.')
        begin--;
    char *module = vcl_text("%.*s", (int)(end - begin), name + begin);
    const int found = strcmp(module, "wte") == 0 || strcmp(module, "wpe") == 0
                   || strcmp(module, "shared") == 0 /* T5's */ || strstr(module, "embd") /* GGUF's */
                   || (strstr(module, "embed") && strcmp(module, "embed_out") != 0);
    free(module);
    return found;
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

static void choose_asked(const struct vcl_model *model, const struct vcl_policy *policy,
                         struct vcl_choice *choices)
{
    size_t found = 0;
    for (size_t i = 0; i < vcl_model_count(model); i++) {
        const struct vcl_entry *entry = vcl_model_entry(model, i);
        if (choices[i].action != VCL_ACTION_LOSSY || !is_embedding(entry->name))
            continue;
        const char *reason = why_not(&entry->tensor, &choices[i]);
        found++;
        if (reason)
            vcl_note("warning: --row-floor leaves '%s' out: %s", entry->name, reason);
        else
            choices[i].row_floor = policy->row_floor;
    }
    if (!found)
        vcl_note(
            "warning: --row-floor decides nothing: no tensor coded lossily has the name of an embedding");
}

/* ---- without being asked ----------------------------------------------------------------------- */

/* Squares of rows, a few rows at a time; a NaN or an infinity is a row of no size. */
static int sum_rows(const struct vcl_model *model, const struct vcl_entry *entry, uint64_t rows, double *sums)
{
    const size_t cols = (size_t)entry->tensor.dims[entry->tensor.rank - 1];
    const size_t bytes = cols * (vcl_dtype_bits(entry->tensor.dtype) / 8);
    unsigned char *raw = vcl_zeros(1, bytes);
    double *values = vcl_zeros(cols, sizeof *values);
    struct vcl_error error = { 0 };
    enum vcl_status status = VCL_OK;
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
    return status == VCL_OK ? VCL_EXIT_OK : vcl_tell(status, "%s", error.text);
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
    return choice->inputs || (choice->matrix && choice->matrix->moments && choice->matrix->moments->feedback);
}

static int choose_one(const struct vcl_model *model, const struct vcl_entry *entry, struct vcl_choice *choice)
{
    const uint64_t rows = choice->values / entry->tensor.dims[entry->tensor.rank - 1];
    double *sums = vcl_zeros((size_t)rows, sizeof *sums);
    const int code = sum_rows(model, entry, rows, sums);
    if (!code && is_spread(sums, rows))
        choice->row_floor = VCL_ROW_FLOOR;
    free(sums);
    return code;
}

int vcl_choose_floors(const struct vcl_model *model, const struct vcl_policy *policy,
                      struct vcl_choice *choices)
{
    int code = VCL_EXIT_OK;
    if (policy->row_floor > 0)
        choose_asked(model, policy, choices);
    if (policy->row_floor >= 0 || policy->params.codec != VCL_CODEC_TENSOR || policy->params.rotate)
        return VCL_EXIT_OK;
    for (size_t i = 0; i < vcl_model_count(model) && !code; i++) {
        const struct vcl_entry *entry = vcl_model_entry(model, i);
        if (choices[i].action == VCL_ACTION_LOSSY && is_embedding(entry->name) && !is_shaped(&choices[i])
            && !why_not(&entry->tensor, &choices[i]))
            code = choose_one(model, entry, &choices[i]);
    }
    return code;
}
