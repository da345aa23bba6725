/* check.c - decodes all tensors of a compressed model and drops the values: the checksums are what counts.
 *
 * Whether the codecs are there is tried first, on one tensor of each: it is one message and no fault of the
 * file. */
#include "check.h"

#include "values.h"

static enum vcl_status try_codec(const struct vcl_model *model, const struct vcl_entry *entry,
                                 struct vcl_work *work, const char *decoder)
{
    struct vcl_entry_handle handle = { .model = model, .entry = entry };
    const struct vcl_source source = vcl_model_source(&handle);
    const enum vcl_status status = vcl_decode(work->wide, &source, entry->bytes, 0, 1, decoder, NULL);
    if (status != VCL_E_CODEC)
        return VCL_OK; /* a fault is found again, and said, below */
    return vcl_errand_fail(work->job, status, "%s: cannot be decoded here: %s",
                           vcl_model_shard_path(model, entry->shard), vcl_why(status, work->wide));
}

static enum vcl_status try_codecs(const struct vcl_model *model, struct vcl_work *work, const char *decoder)
{
    unsigned char tried[VCL_CODEC_COUNT] = { [VCL_CODEC_ALIAS] = 1 };
    enum vcl_status status = VCL_OK;
    for (size_t i = 0; i < vcl_model_count(model) && !status; i++) {
        const struct vcl_entry *entry = vcl_model_entry(model, i);
        struct vcl_info info = { .size = sizeof info };
        if (!vcl_model_is_compressed(model, entry->shard)
            || vcl_model_frame(model, entry, &info, NULL, NULL) != VCL_OK || tried[info.codec]
            || info.values == 0)
            continue;
        tried[info.codec] = 1;
        status = try_codec(model, entry, work, decoder);
    }
    return status;
}

static uint64_t check_memory(void *user, size_t i)
{
    const struct vcl_check *check = user;
    const struct vcl_entry *entry = vcl_model_entry(check->model, i);
    struct vcl_info info = { .size = sizeof info };
    return vcl_model_is_compressed(check->model, entry->shard)
                && vcl_model_frame(check->model, entry, &info, NULL, NULL) == VCL_OK
                && info.values > VCL_WORK_LARGE
             ? VCL_WORK_ALONE
             : 0;
}

static enum vcl_status check_run(void *user, size_t i, struct vcl_context *ctx)
{
    struct vcl_check *check = user;
    const struct vcl_entry *entry = vcl_model_entry(check->model, i);
    struct vcl_values values;
    enum vcl_status status = VCL_OK;
    if (vcl_model_is_compressed(check->model, entry->shard)) {
        status = vcl_values_open(check->work->job, &values, check->model, entry, check->decoder);
        if (!status && check->progress && values.count > VCL_WORK_LARGE)
            vcl_errand_large(check->work->job, entry->bytes, vcl_work_steps(check->work, values.count, 1));
        if (!status && values.stored == entry) /* an alias' target is checked where it stands */
            status = vcl_values_decode(&values, ctx, 0, UINT64_MAX, NULL, NULL);
    }
    const int no_verdict = status == VCL_E_IO || status == VCL_E_MEMORY || status == VCL_E_CANCELLED;
    check->bad[i] = status != VCL_OK && !no_verdict;
    if (check->progress)
        vcl_errand_advance(check->work->job, 1, entry->bytes);
    return no_verdict ? status : VCL_OK;
}

static enum vcl_status check_finish(void *user, size_t i)
{
    struct vcl_check *check = user;
    check->checked = i + 1;
    return VCL_OK;
}

enum vcl_status vcl_check_tensors(struct vcl_check *check, struct vcl_work *work)
{
    check->work = work;
    const struct vcl_task task = { check, check_memory, check_run, check_finish };
    const enum vcl_status status = try_codecs(check->model, work, check->decoder);
    return status ? status : vcl_work_run(work, &task, 0, vcl_model_count(check->model));
}
