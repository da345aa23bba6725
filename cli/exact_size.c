/* exact_size.c - how many bytes exact frames take, for --size: what they save goes to the others.
 *
 * Tensors that are kept exactly are coded once, to nowhere.  So are those that would be coded lossily but
 * whose first values say that their exact frame may fit into their share: values on few levels. */
#include "shard.h"
#include "values.h"

enum { SAMPLE_VALUES = 1 << 16 };

struct measure {
    const struct vcl_model *model;
    struct vcl_choice *choices;
    double bits; /* a share is no more */
};

/* Bytes of the exact frame of the first values; of all where `values` is all. */
static int measure_frame(const struct measure *measure, size_t i, uint64_t values, struct vcl_context *ctx,
                         uint64_t *bytes)
{
    const struct vcl_entry *const entry = vcl_model_entry(measure->model, i);
    const struct vcl_tensor first = { entry->tensor.dtype, 1, { values } };
    const int all = values == measure->choices[i].values;
    struct vcl_report report = { .size = sizeof report };
    struct vcl_params params;

    vcl_params_init(&params);
    params.codec = measure->choices[i].exact;
    const int code =
        vcl_encode_nowhere(measure->model, entry, all ? &entry->tensor : &first, &params, ctx, &report);
    *bytes = report.frame_bytes;
    return code;
}

/* Of a tensor that would be coded lossily, where its first values say that it may be exact within its share (the
 * codec's own rule, src/codec/encode.c). */
static int measure_free(const struct measure *measure, size_t i, struct vcl_context *ctx, uint64_t *bytes)
{
    const uint64_t all = measure->choices[i].values, n = all < SAMPLE_VALUES ? all : SAMPLE_VALUES;
    const int code = measure_frame(measure, i, n, ctx, bytes);
    const int may = !code && 8 * (double)*bytes / (double)n <= 1.3 * measure->bits + 0.2;
    if (may && n < all)
        return measure_frame(measure, i, all, ctx, bytes);
    *bytes = may ? *bytes : 0;
    return code;
}

static uint64_t measure_memory(void *user, size_t i)
{
    const struct measure *const measure = user;
    return measure->choices[i].values > VCL_WORK_LARGE ? VCL_WORK_ALONE : 0;
}

static int measure_run(void *user, size_t i, struct vcl_context *ctx)
{
    const struct measure *const measure = user;
    struct vcl_choice *const choice = &measure->choices[i];
    int code = VCL_EXIT_OK;
    if (vcl_choice_is_free(choice))
        code = measure_free(measure, i, ctx, &choice->exact_bytes);
    else if (choice->action == VCL_ACTION_EXACT)
        code = measure_frame(measure, i, choice->values, ctx, &choice->exact_bytes);
    if (!code && choice->action == VCL_ACTION_EXACT)
        choice->bound = choice->exact_bytes;
    vcl_progress_add(1, vcl_model_entry(measure->model, i)->bytes);
    return code;
}

int vcl_choose_exact_sizes(const struct vcl_model *model, const struct vcl_policy *policy,
                           struct vcl_choice *choices, struct vcl_work *work)
{
    const size_t count = vcl_model_count(model);
    struct measure measure = { .model = model, .choices = choices };
    const struct vcl_task task = { &measure, measure_memory, measure_run, NULL };
    uint64_t bytes = 0, values = 0;
    for (size_t i = 0; i < count; i++) {
        bytes += vcl_model_entry(model, i)->bytes;
        values += vcl_choice_is_free(&choices[i]) ? choices[i].values : 0;
    }
    measure.bits = values > 0 ? 8 * (double)policy->size / (double)values : 0;
    vcl_progress_start("measure", count, bytes);
    const int code = vcl_work_run(work, &task, 0, count);
    vcl_progress_stop();
    return code;
}
