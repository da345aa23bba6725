/* vcllm_pack.c - the public API of whole models: every argument is checked here, the work is below.
 *
 * Each call is an errand of its own; what it says is in its hooks and its error. */
#include "vcllm_pack.h"

#include <math.h>

#include "common/grown.h"
#include "front.h"
#include "jobs/compress.h"
#include "jobs/decompress.h"
#include "jobs/verify.h"

/* ---- what all calls share -------------------------------------------------------------------- */

static enum vcl_status check_paths(struct vcl_errand *job, const char *input, const char *output)
{
    const enum vcl_status status = vcl_front_check_path(job, "input", input);
    return status ? status : vcl_front_check_path(job, "output", output);
}

static enum vcl_status check_reading(struct vcl_errand *job, enum vcl_io io, struct vcl_reading *reading)
{
    if (io != VCL_IO_PREAD && io != VCL_IO_MMAP)
        return vcl_errand_fail(job, VCL_E_ARGUMENT, "io: %d is no enum vcl_io", (int)io);
    reading->io = io == VCL_IO_MMAP;
    return VCL_OK;
}

/* ---- compressing ----------------------------------------------------------------------------- */

static void default_params(struct vcl_params *params)
{
    vcl_params_init(params);
    params->objective = VCL_OBJECTIVE_MODEL;
}

void vcl_compress_options_init_sized(struct vcl_compress_options *options, size_t size)
{
    const struct vcl_compress_options defaults = { .size = sizeof defaults, .row_floor = -1 };
    vcl_grown_init(&defaults, sizeof defaults, options, size);
}

static enum vcl_status check_goal(struct vcl_errand *job, const struct vcl_compress_options *options,
                                  const struct vcl_params *params)
{
    const int by_rate = params->goal == VCL_GOAL_BITS && !options->lossless;
    const char *range = vcl_target_range(params->goal, params->target);
    if ((options->lossless && options->file_bytes) || (options->file_bytes && params->goal != VCL_GOAL_BITS))
        return vcl_errand_fail(job, VCL_E_ARGUMENT,
                               "file_bytes: goes with VCL_GOAL_BITS alone, without lossless");
    if (range)
        return vcl_errand_fail(job, VCL_E_ARGUMENT, "params.target must be %s, not %g", range,
                               params->target);
    if (isnan(options->row_floor) || options->row_floor > 60)
        return vcl_errand_fail(job, VCL_E_ARGUMENT, "row_floor: %g is not from 0 to 60, nor below 0",
                               options->row_floor);
    if (options->row_floor > 0 && (!by_rate || params->codec != VCL_CODEC_TENSOR || params->rotate))
        return vcl_errand_fail(job, VCL_E_ARGUMENT,
                               "row_floor: goes with a goal in bits, the tensor codec, and without rotate");
    return VCL_OK;
}

static enum vcl_status check_codec(struct vcl_errand *job, const struct vcl_params *params)
{
    const int video = params->codec == VCL_CODEC_H264 || params->codec == VCL_CODEC_H265;
    if (!video && params->codec != VCL_CODEC_TENSOR)
        return vcl_errand_fail(job, VCL_E_ARGUMENT, "params: a model is coded by tensor, h264 or h265");
    if (video && (params->goal == VCL_GOAL_ERROR || params->goal == VCL_GOAL_STEP))
        return vcl_errand_fail(job, VCL_E_ARGUMENT,
                               "params: VCL_GOAL_ERROR and VCL_GOAL_STEP are the tensor codec's");
    return VCL_OK;
}

static enum vcl_status add_rules(struct vcl_errand *job, const struct vcl_compress_options *options,
                                 struct vcl_policy *policy)
{
    const int video = policy->params.codec != VCL_CODEC_TENSOR;
    for (size_t i = 0; i < options->rule_count; i++) {
        const enum vcl_status status = vcl_rules_add(job, &policy->rules, options->rules[i], "rules");
        if (status)
            return status;
        const struct vcl_rule *rule = &policy->rules.at[i];
        if (policy->size && !rule->exact && rule->goal != VCL_GOAL_BITS)
            return vcl_errand_fail(job, VCL_E_ARGUMENT,
                                   "rules: '%s': its size is not known beforehand, as file_bytes needs it",
                                   rule->text);
        if (video && !rule->exact && rule->goal == VCL_GOAL_ERROR)
            return vcl_errand_fail(job, VCL_E_ARGUMENT, "rules: '%s': error: is of the tensor codec",
                                   rule->text);
    }
    return VCL_OK;
}

static enum vcl_status read_options(struct vcl_compress *c, const struct vcl_compress_options *given)
{
    struct vcl_compress_options options;
    struct vcl_policy *policy = &c->policy;
    vcl_compress_options_init(&options);
    default_params(&policy->params);
    enum vcl_status status = vcl_front_take(c->job, given, &options, sizeof options);
    if (!status && options.params)
        status = vcl_front_take(c->job, options.params, &policy->params, sizeof policy->params);
    if (!status)
        status = check_goal(c->job, &options, &policy->params);
    if (!status)
        status = check_codec(c->job, &policy->params);
    if (!status)
        status = check_reading(c->job, options.io, &c->reading);
    policy->params.columns = 0;
    policy->params.col_weight = policy->params.feedback = NULL;
    policy->lossless = options.lossless != 0;
    policy->size = options.file_bytes;
    policy->row_floor = options.row_floor;
    c->reading.header_limit = options.header_limit;
    c->threads = options.threads;
    c->pool = options.pool;
    c->force = options.overwrite;
    c->resume = options.resume;
    return status ? status : add_rules(c->job, &options, policy);
}

static void give_totals(const struct vcl_compress *c, const struct vcl_totals *totals,
                        struct vcl_pack_totals *given)
{
    const struct vcl_tally tally = vcl_compress_tally(c);
    const struct vcl_pack_totals ours = {
        .tensors = totals->tensors,
        .lossy = totals->lossy,
        .exact = totals->exact,
        .tied = totals->aliases,
        .values = totals->values,
        .lossy_values = totals->lossy_values,
        .lossy_bytes = totals->lossy_bytes,
        .raw_bytes = totals->raw_bytes,
        .file_bytes = totals->file_bytes,
        .bits = vcl_totals_bits(totals),
        .file_bits = vcl_totals_file_bits(totals),
        .worst_snr = totals->worst_snr,
        .missed = tally.missed,
        .zero = tally.zero,
    };
    if (given)
        vcl_grown_give(&ours, sizeof ours, given);
}

static enum vcl_status compress(struct vcl_compress *c, struct vcl_pack_totals *result)
{
    struct vcl_totals totals;
    struct vcl_model *written;
    enum vcl_status status = vcl_compress_open(c);
    if (!status)
        status = vcl_compress_decide(c);
    if (!status)
        status = vcl_compress_write(c);
    if (!status)
        status = vcl_compress_result(c, &totals, &written);
    if (status)
        return status;
    give_totals(c, &totals, result);
    vcl_model_close(written);
    return vcl_compress_check_size(c, &totals);
}

enum vcl_status vcl_compress_model(const char *input, const char *output,
                                   const struct vcl_compress_options *options, const struct vcl_hooks *hooks,
                                   struct vcl_pack_totals *totals, struct vcl_error *error)
{
    struct vcl_errand job;
    struct vcl_compress c = { .job = &job, .input = input, .output = output };
    enum vcl_status status = vcl_front_begin(&job, hooks, error);
    if (status)
        return status;
    status = check_paths(&job, input, output);
    if (!status)
        status = vcl_front_check_result(&job, totals);
    if (!status)
        status = read_options(&c, options);
    if (!status)
        status = compress(&c, totals);
    vcl_compress_release(&c);
    vcl_rules_free(&c.policy.rules);
    return vcl_front_end(&job, status, error);
}

/* ---- bringing back --------------------------------------------------------------------------- */

void vcl_decompress_options_init_sized(struct vcl_decompress_options *options, size_t size)
{
    const struct vcl_decompress_options defaults = { .size = sizeof defaults, .dtype = VCL_DTYPE_COUNT };
    vcl_grown_init(&defaults, sizeof defaults, options, size);
}

static enum vcl_status take_decompress(struct vcl_decompress *d, const struct vcl_decompress_options *given)
{
    struct vcl_decompress_options options;
    vcl_decompress_options_init(&options);
    const enum vcl_status status = vcl_front_take(d->job, given, &options, sizeof options);
    if (status)
        return status;
    if (options.dtype != VCL_DTYPE_COUNT && !vcl_dtype_is_float(options.dtype))
        return vcl_errand_fail(d->job, VCL_E_ARGUMENT, "dtype: %d is none of F16, BF16, F32 and F64",
                               (int)options.dtype);
    d->dtype = options.dtype;
    d->decoder = options.decoder;
    d->threads = options.threads;
    d->pool = options.pool;
    d->force = options.overwrite;
    d->reading.header_limit = options.header_limit;
    return check_reading(d->job, options.io, &d->reading);
}

enum vcl_status vcl_decompress_model(const char *input, const char *output,
                                     const struct vcl_decompress_options *options,
                                     const struct vcl_hooks *hooks, struct vcl_decompressed *result,
                                     struct vcl_error *error)
{
    struct vcl_errand job;
    struct vcl_decompress d = { .job = &job, .input = input, .output = output };
    enum vcl_status status = vcl_front_begin(&job, hooks, error);
    if (status)
        return status;
    status = check_paths(&job, input, output);
    if (!status)
        status = vcl_front_check_result(&job, result);
    if (!status)
        status = take_decompress(&d, options);
    if (!status)
        status = vcl_decompress_open(&d);
    if (!status)
        status = vcl_decompress_write(&d);
    if (!status && result) {
        const struct vcl_decompressed ours = { .tensors = d.tensors, .bytes = d.bytes };
        vcl_grown_give(&ours, sizeof ours, result);
    }
    vcl_decompress_release(&d);
    return vcl_front_end(&job, status, error);
}

/* ---- verifying ------------------------------------------------------------------------------- */

void vcl_verify_options_init_sized(struct vcl_verify_options *options, size_t size)
{
    const struct vcl_verify_options defaults = { .size = sizeof defaults };
    vcl_grown_init(&defaults, sizeof defaults, options, size);
}

static enum vcl_status take_verify(struct vcl_verification *v, const struct vcl_verify_options *given)
{
    struct vcl_verify_options options;
    vcl_verify_options_init(&options);
    const enum vcl_status status = vcl_front_take(v->job, given, &options, sizeof options);
    if (status)
        return status;
    v->check.decoder = options.decoder;
    v->threads = options.threads;
    v->pool = options.pool;
    v->reading.header_limit = options.header_limit;
    return check_reading(v->job, options.io, &v->reading);
}

static void give_verified(const struct vcl_verification *v, struct vcl_verified *result)
{
    const struct vcl_verified ours = {
        .compressed = v->compressed > 0,
        .tensors = v->check.checked,
        .side_files = v->sides,
        .faults = vcl_verify_faults(v),
    };
    if (result)
        vcl_grown_give(&ours, sizeof ours, result);
}

enum vcl_status vcl_verify_model(const char *input, const struct vcl_verify_options *options,
                                 const struct vcl_hooks *hooks, struct vcl_verified *result,
                                 struct vcl_error *error)
{
    struct vcl_errand job;
    struct vcl_verification v = { .job = &job, .input = input };
    enum vcl_status status = vcl_front_begin(&job, hooks, error);
    if (status)
        return status;
    status = vcl_front_check_path(&job, "input", input);
    if (!status)
        status = vcl_front_check_result(&job, result);
    if (!status)
        status = take_verify(&v, options);
    if (!status) {
        status = vcl_verify_run(&v);
        give_verified(&v, result);
    }
    if (!status)
        status = job.error.status; /* of the first fault */
    vcl_verify_release(&v);
    return vcl_front_end(&job, status, error);
}
