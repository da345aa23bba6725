/* exact_size.c - how many bytes exact frames take, for --size: what they save goes to the others.
 *
 * Tensors that are kept exactly are coded once, to nowhere.  So are those that would be coded lossily but
 * whose first values say that their exact frame may fit into their share: values on few levels. */
#include "choose.h"
#include "layout/values.h"

enum { SAMPLE_VALUES = 1 << 16 };

struct measure {
    struct vcl_errand *job;
    const struct vcl_model *model;
    struct vcl_choice *choices;
    double bits; /* a share is no more */
};

enum vcl_status vcl_encode_nowhere(struct vcl_errand *job, const struct vcl_model *model,
                                   const struct vcl_entry *entry, const struct vcl_tensor *tensor,
                                   const struct vcl_params *params, struct vcl_context *ctx,
                                   struct vcl_report *report)
{
    struct vcl_entry_handle handle = { .model = model, .entry = entry };
    const struct vcl_source source = vcl_model_source(&handle);
    struct vcl_window nowhere = { 0 };
    const struct vcl_sink sink = vcl_window_sink(&nowhere);
    const enum vcl_status status = vcl_encode(ctx, tensor, &source, params, &sink, report);
    if (status == VCL_OK || status == VCL_E_RATE)
        return VCL_OK;
    return handle.error.status != VCL_OK
             ? vcl_errand_check(job, handle.error.status, &handle.error)
             : vcl_errand_fail(job, status, "%s: %s", entry->name, vcl_why(status, ctx));
}

/* Bytes of the exact frame of the first values; of all where `values` is all. */
static enum vcl_status measure_frame(const struct measure *measure, size_t i, uint64_t values,
                                     struct vcl_context *ctx, uint64_t *bytes)
{
    const struct vcl_entry *const entry = vcl_model_entry(measure->model, i);
    const struct vcl_tensor first = { entry->tensor.dtype, 1, { values } };
    const int all = values == measure->choices[i].values;
    struct vcl_report report = { .size = sizeof report };
    struct vcl_params params;

    vcl_params_init(&params);
    params.codec = measure->choices[i].exact;
    const enum vcl_status status = vcl_encode_nowhere(measure->job, measure->model, entry,
                                                      all ? &entry->tensor : &first, &params, ctx, &report);
    *bytes = report.frame_bytes;
    return status;
}

/* Of a tensor that would be coded lossily, where its first values say that it may be exact within its share
 * (the codec's own rule, src/codec/encode.c). */
static enum vcl_status measure_free(const struct measure *measure, size_t i, struct vcl_context *ctx,
                                    uint64_t *bytes)
{
    const uint64_t all = measure->choices[i].values, n = all < SAMPLE_VALUES ? all : SAMPLE_VALUES;
    const enum vcl_status status = measure_frame(measure, i, n, ctx, bytes);
    const int may = !status && 8 * (double)*bytes / (double)n <= 1.3 * measure->bits + 0.2;
    if (may && n < all)
        return measure_frame(measure, i, all, ctx, bytes);
    *bytes = may ? *bytes : 0;
    return status;
}

static uint64_t measure_memory(void *user, size_t i)
{
    const struct measure *const measure = user;
    return measure->choices[i].values > VCL_WORK_LARGE ? VCL_WORK_ALONE : 0;
}

static enum vcl_status measure_run(void *user, size_t i, struct vcl_context *ctx)
{
    const struct measure *const measure = user;
    struct vcl_choice *const choice = &measure->choices[i];
    enum vcl_status status = VCL_OK;
    if (vcl_choice_is_free(choice))
        status = measure_free(measure, i, ctx, &choice->exact_bytes);
    else if (choice->action == VCL_ACTION_EXACT)
        status = measure_frame(measure, i, choice->values, ctx, &choice->exact_bytes);
    if (!status && choice->action == VCL_ACTION_EXACT)
        choice->bound = choice->exact_bytes;
    vcl_errand_advance(measure->job, 1, vcl_model_entry(measure->model, i)->bytes);
    return status;
}

enum vcl_status vcl_choose_exact_sizes(struct vcl_work *work, const struct vcl_model *model,
                                       const struct vcl_policy *policy, struct vcl_choice *choices)
{
    const size_t count = vcl_model_count(model);
    struct measure measure = { .job = work->job, .model = model, .choices = choices };
    const struct vcl_task task = { &measure, measure_memory, measure_run, NULL };
    uint64_t values = 0;
    for (size_t i = 0; i < count; i++)
        values += vcl_choice_is_free(&choices[i]) ? choices[i].values : 0;
    measure.bits = values > 0 ? 8 * (double)policy->size / (double)values : 0;
    vcl_work_start(work->job, "measure", model);
    const enum vcl_status status = vcl_work_run(work, &task, 0, count);
    vcl_errand_stop(work->job);
    return status;
}
