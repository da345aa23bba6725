/* curve.c - rates and errors of samples: rows from the middle of a tensor, coded by the real coder. */
#include <math.h>
#include <stdlib.h>

#include "curve.h"

enum { SAMPLE = 1 << 18, VIDEO_SAMPLE = 1 << 16 }; /* values */
static const double RATES[VCL_CURVE_POINTS - 1] = { 0.25, 0.5, 1, 1.5, 2, 2.5, 3, 4, 5, 6.5, 8 };

struct curve_job {
    const struct vcl_allocation *allocation;
    const struct vcl_model *model;
    const struct vcl_choice *choices;
    const struct vcl_params *params;
    const size_t *entries;
    struct vcl_curve *curves;
};

struct curve_sample {
    struct vcl_tensor tensor;
    unsigned char *values, *frame;
    size_t bytes, room;
    double power; /* mean square */
};

/* Whole rows, as many as the sample holds, from the middle on; one row is cut to what it holds. */
static uint64_t choose_sample(const struct vcl_tensor *tensor, uint64_t values, uint64_t most,
                              struct vcl_tensor *sample)
{
    const uint64_t last = tensor->rank ? tensor->dims[tensor->rank - 1] : 1, all = values / last;
    const uint64_t cols = last < most ? last : most, rows = most / cols < all ? most / cols : all;
    *sample = (struct vcl_tensor){ tensor->dtype, 2, { rows, cols } };
    return (all - rows) / 2 * last;
}

static double mean_square(const struct curve_sample *sample)
{
    const size_t n = (size_t)(sample->tensor.dims[0] * sample->tensor.dims[1]);
    float *floats = vcl_zeros(n, sizeof *floats);
    double sum = 0;
    vcl_convert(sample->tensor.dtype, sample->values, VCL_DTYPE_F32, floats, n);
    for (size_t i = 0; i < n; i++)
        if (isfinite(floats[i]))
            sum += (double)floats[i] * (double)floats[i];
    free(floats);
    return sum / (double)n;
}

static enum vcl_status read_sample(const struct curve_job *job, size_t i, struct curve_sample *sample)
{
    const struct vcl_entry *entry = vcl_model_entry(job->model, job->entries[i]);
    const uint64_t most = job->params->codec == VCL_CODEC_TENSOR ? SAMPLE : VIDEO_SAMPLE;
    const uint64_t first =
        choose_sample(&entry->tensor, job->choices[job->entries[i]].values, most, &sample->tensor);
    const size_t size = vcl_dtype_bits(entry->tensor.dtype) / 8;
    struct vcl_error error = { 0 };
    uint64_t bytes;
    vcl_tensor_size(&sample->tensor, NULL, &bytes);
    sample->bytes = (size_t)bytes;
    sample->room = (size_t)vcl_bound(&sample->tensor);
    sample->values = vcl_zeros(sample->bytes, 1);
    sample->frame = vcl_zeros(sample->room, 1);
    const enum vcl_status status =
        vcl_model_read(job->model, entry, first * size, sample->values, sample->bytes, &error);
    if (status != VCL_OK)
        return vcl_errand_check(vcl_cli_errand(), status, &error);
    sample->power = mean_square(sample);
    return VCL_OK;
}

static void add_point(struct vcl_curve *curve, double bits, double error)
{
    const size_t n = curve->count;
    if (n && (bits <= curve->bits[n - 1] || !(error < curve->error[n - 1]) || !(error > 0)))
        return;
    curve->bits[n] = bits;
    curve->error[n] = error;
    curve->count++;
}

/* A rate that the sample cannot have, for its header or since it is exact below, is no point. */
static enum vcl_status measure(void *user, size_t i, struct vcl_context *ctx)
{
    const struct curve_job *job = user;
    struct vcl_curve *curve = &job->curves[i];
    struct curve_sample sample = { 0 };
    struct vcl_params params = *job->params;
    enum vcl_status status = read_sample(job, i, &sample);
    params.goal = VCL_GOAL_BITS;
    params.transpose = job->allocation->matrices[job->entries[i]]->transposed;
    if (!status)
        add_point(curve, 0, sample.power);
    for (size_t p = 0; p < sizeof RATES / sizeof *RATES && !status; p++) {
        struct vcl_report report = { .size = sizeof report };
        size_t bytes = sample.room;
        params.target = RATES[p];
        status =
            vcl_encode_buffer(ctx, &sample.tensor, sample.values, &params, sample.frame, &bytes, &report);
        if (status == VCL_OK)
            add_point(curve, report.bits, sample.power * pow(10, -report.snr / 10));
        else if (status == VCL_E_RATE)
            status = VCL_OK;
        else
            vcl_errand_fail(vcl_cli_errand(), status, "%s: %s",
                            vcl_model_entry(job->model, job->entries[i])->name, vcl_context_message(ctx));
    }
    free(sample.values);
    free(sample.frame);
    vcl_progress_add(1, 1);
    return status;
}

static uint64_t memory(void *user, size_t i)
{
    (void)user;
    (void)i;
    return 16 * SAMPLE;
}

enum vcl_status vcl_curves_measure(const struct vcl_allocation *allocation, const struct vcl_model *model,
                                   const struct vcl_choice *choices, const struct vcl_params *params,
                                   const size_t *entries, size_t count, struct vcl_curve *curves,
                                   struct vcl_work *work)
{
    struct curve_job job = { allocation, model, choices, params, entries, curves };
    const struct vcl_task task = { &job, memory, measure, NULL };
    return vcl_work_run(work, &task, 0, count);
}
