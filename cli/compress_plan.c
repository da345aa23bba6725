/* compress_plan.c - --dry-run: what a run would do to each tensor, how large, how long, with how much
 * memory.
 *
 * Sizes are upper bounds, exact for tensors kept exactly.  Time and memory are measured: half a million
 * values of the largest tensor go through the real encoder. */
#include <stdlib.h>

#include "packing.h"

enum { SAMPLE_VALUES = 1 << 19, SAMPLE_COLS = 1024 };
static const double COPY_SPEED = 5e8; /* bytes a second that exact tensors are assumed to pass at */

struct estimate {
    double seconds, memory;
};

/* ---- estimates ------------------------------------------------------------------------------- */

static size_t largest_lossy(const struct vcl_packing *job)
{
    size_t largest = SIZE_MAX;
    for (size_t i = 0; i < vcl_model_count(job->c.model); i++)
        if (job->c.choices[i].action == VCL_ACTION_LOSSY
            && (largest == SIZE_MAX || job->c.choices[i].values > job->c.choices[largest].values))
            largest = i;
    return largest;
}

static struct vcl_tensor sample_shape(const struct vcl_tensor *tensor, uint64_t values)
{
    const uint64_t n = values < SAMPLE_VALUES ? values : SAMPLE_VALUES;
    const uint64_t last = tensor->rank ? tensor->dims[tensor->rank - 1] : 1;
    const uint64_t cols = last <= n / 64 ? last : n < SAMPLE_COLS ? n : SAMPLE_COLS;
    return (struct vcl_tensor){ tensor->dtype, 2, { n / cols, cols } };
}

/* Seconds to code the sample with one thread. */
static int time_sample(struct vcl_packing *job, size_t index, uint64_t *values, double *seconds)
{
    const struct vcl_entry *entry = vcl_model_entry(job->c.model, index);
    const struct vcl_tensor sample = sample_shape(&entry->tensor, job->c.choices[index].values);
    struct vcl_params params = job->c.policy.params;

    params.goal = job->c.choices[index].goal;
    params.target = job->c.choices[index].target;
    const double started = vcl_seconds();
    const int code = vcl_exit_of(
        vcl_encode_nowhere(job->c.job, job->c.model, entry, &sample, &params, job->c.work.narrow[0], NULL));
    *seconds = vcl_seconds() - started;
    *values = sample.dims[0] * sample.dims[1];
    return code;
}

static int make_estimate(struct vcl_packing *job, struct estimate *estimate)
{
    const size_t sample = largest_lossy(job);
    const double before = (double)vcl_memory_peak();
    double seconds = 0, lossy = 0, exact = 0;
    uint64_t values = 1;
    const int code = sample == SIZE_MAX ? VCL_EXIT_OK : time_sample(job, sample, &values, &seconds);
    for (size_t i = 0; i < vcl_model_count(job->c.model); i++) {
        if (job->c.choices[i].action == VCL_ACTION_LOSSY)
            lossy += (double)job->c.choices[i].values;
        else
            exact += (double)vcl_model_entry(job->c.model, i)->bytes;
    }
    const double after = (double)vcl_memory_peak();
    estimate->seconds = lossy / (double)values * seconds / job->c.work.threads + exact / COPY_SPEED;
    /* the sample had one thread; a tile has up to twice its values; small tensors wait for their turn in
     * memory */
    estimate->memory = after + (2.0 * job->c.work.threads - 1) * (after - before) + 0x1p25;
    return code;
}

/* ---- output ---------------------------------------------------------------------------------- */

static const char *action_name(enum vcl_action action)
{
    return action == VCL_ACTION_LOSSY ? "lossy" : action == VCL_ACTION_ALIAS ? "tied" : "exact";
}

static char *explain(const struct vcl_packing *job, const struct vcl_choice *choice)
{
    if (choice->action == VCL_ACTION_ALIAS)
        return vcl_text("same as %s", vcl_model_entry(job->c.model, choice->same_as)->name);
    if (choice->reason)
        return vcl_text("%s", choice->reason);
    if (choice->rule)
        return vcl_text("rule %s", choice->rule->text);
    if (choice->goal == VCL_GOAL_ERROR)
        return vcl_text("largest error %.4g", choice->target);
    return choice->goal == VCL_GOAL_SNR ? vcl_text("at least %.4g dB", choice->target)
                                        : vcl_text("at most %.4g bits", choice->target);
}

static void plan_text(const struct vcl_packing *job, const struct estimate *estimate, uint64_t before,
                      uint64_t after)
{
    int width = 4;
    for (size_t i = 0; i < vcl_model_count(job->c.model); i++) {
        const int name = vcl_name_width(vcl_model_entry(job->c.model, i)->name);
        width = name > width && name <= 60 ? name : width;
    }
    printf("%-*s  %-6s %12s    %12s  %-6s %s\n", width, "name", "dtype", "size", "at most", "action",
           "because");
    for (size_t i = 0; i < vcl_model_count(job->c.model); i++) {
        const struct vcl_entry *entry = vcl_model_entry(job->c.model, i);
        char *why = explain(job, &job->c.choices[i]);
        vcl_print_name(entry->name, width);
        printf("  %-6s %12s -> %12s  %-6s ", vcl_dtype_name(entry->tensor.dtype),
               vcl_words_size(entry->bytes).text, vcl_words_size(job->c.choices[i].bound).text,
               action_name(job->c.choices[i].action));
        vcl_print_name(why, 0);
        putchar('\n');
        free(why);
    }
    if (job->allocation.how != VCL_ALLOCATE_FIXED)
        printf(
            "allocate: %s takes about %s more and gives these tensors bits of their own, the same in sum\n",
            vcl_allocation_name(&job->allocation), vcl_words_time(job->allocation.seconds).text);
    printf("tensors: %s -> at most %s; about %s with %u threads and %s of memory; nothing was written\n",
           vcl_words_size(before).text, vcl_words_size(after).text, vcl_words_time(estimate->seconds).text,
           job->c.work.threads, vcl_words_size((uint64_t)estimate->memory).text);
}

static json_t *tensor_json(const void *user, size_t i)
{
    const struct vcl_packing *job = user;
    const struct vcl_entry *entry = vcl_model_entry(job->c.model, i);
    const struct vcl_choice *choice = &job->c.choices[i];
    json_t *object = json_object();
    vcl_json_set(object, "name", vcl_json_text(entry->name));
    vcl_json_set(object, "shape", vcl_json_shape(&entry->tensor));
    vcl_json_set(object, "dtype", json_string(vcl_dtype_name(entry->tensor.dtype)));
    vcl_json_set(object, "raw_bytes", json_integer((json_int_t)entry->bytes));
    vcl_json_set(object, "bytes_at_most", json_integer((json_int_t)choice->bound));
    vcl_json_set(object, "action", json_string(action_name(choice->action)));
    if (choice->action == VCL_ACTION_ALIAS)
        vcl_json_set(object, "same_as", vcl_json_text(vcl_model_entry(job->c.model, choice->same_as)->name));
    vcl_packing_set_choice(object, choice);
    return object;
}

static void plan_json(const struct vcl_packing *job, const struct estimate *estimate, uint64_t before,
                      uint64_t after)
{
    json_t *document = vcl_json_document("compress");
    vcl_json_set(document, "dry_run", json_true());
    vcl_json_set(document, "input", vcl_json_text(job->c.input));
    vcl_json_set(document, "raw_bytes", json_integer((json_int_t)before));
    vcl_json_set(document, "bytes_at_most", json_integer((json_int_t)after));
    vcl_json_set(document, "threads", json_integer(job->c.work.threads));
    vcl_json_set(document, "estimated_seconds", vcl_json_real(estimate->seconds));
    vcl_json_set(document, "allocate", json_string(vcl_allocation_name(&job->allocation)));
    vcl_json_set(document, "allocate_seconds", vcl_json_real(job->allocation.seconds));
    vcl_json_set(document, "estimated_memory", json_integer((json_int_t)estimate->memory));
    vcl_json_print_list(document, "tensors", vcl_model_count(job->c.model), tensor_json, job);
}

int vcl_packing_plan(struct vcl_packing *job)
{
    struct estimate estimate;
    uint64_t before = 0, after = 0;
    const int code = make_estimate(job, &estimate);
    if (code)
        return code;
    for (size_t i = 0; i < vcl_model_count(job->c.model); i++) {
        before += vcl_model_entry(job->c.model, i)->bytes;
        after += job->c.choices[i].bound;
    }
    if (job->json)
        plan_json(job, &estimate, before, after);
    else
        plan_text(job, &estimate, before, after);
    return VCL_EXIT_OK;
}
