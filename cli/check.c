/* check.c - decodes all tensors of a compressed model and drops the values: the checksums are what counts.
 *
 * Whether the codecs are there is tried first, on one tensor of each: it is one message and no fault of the
 * file. */
#include "check.h"

#include "values.h"

static int try_codec(const struct vcl_model *model, const struct vcl_entry *entry, struct vcl_context *ctx,
                     const char *decoder)
{
    struct vcl_entry_handle handle = { .model = model, .entry = entry };
    const struct vcl_source source = vcl_model_source(&handle);
    const enum vcl_status status = vcl_decode(ctx, &source, entry->bytes, 0, 1, decoder, NULL);
    if (status != VCL_E_CODEC)
        return VCL_EXIT_OK; /* a fault is found again, and said, below */
    return vcl_tell(status, "%s: cannot be decoded here: %s", vcl_model_shard_path(model, entry->shard),
                    vcl_why(status, ctx));
}

static int try_codecs(const struct vcl_model *model, struct vcl_work *work, const char *decoder)
{
    unsigned char tried[VCL_CODEC_COUNT] = { [VCL_CODEC_ALIAS] = 1 };
    int code = VCL_EXIT_OK;
    for (size_t i = 0; i < vcl_model_count(model) && !code; i++) {
        const struct vcl_entry *entry = vcl_model_entry(model, i);
        struct vcl_info info = { .size = sizeof info };
        if (!vcl_model_is_compressed(model, entry->shard)
            || vcl_model_frame(model, entry, &info, NULL, NULL) != VCL_OK || tried[info.codec]
            || info.values == 0)
            continue;
        tried[info.codec] = 1;
        code = try_codec(model, entry, work->wide, decoder);
    }
    return code;
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

static int check_run(void *user, size_t i, struct vcl_context *ctx)
{
    struct vcl_check *check = user;
    const struct vcl_entry *entry = vcl_model_entry(check->model, i);
    struct vcl_values values;
    int code = VCL_EXIT_OK;
    if (vcl_model_is_compressed(check->model, entry->shard)) {
        code = vcl_values_open(&values, check->model, entry, check->decoder);
        if (!code && check->progress && values.count > VCL_WORK_LARGE)
            vcl_progress_large(entry->bytes, vcl_work_steps(check->work, values.count, 1));
        if (!code && values.stored == entry) /* an alias' target is checked where it stands */
            code = vcl_values_decode(&values, ctx, 0, UINT64_MAX, NULL, NULL);
    }
    check->bad[i] = code != VCL_EXIT_OK && code != VCL_EXIT_INTERRUPTED && code != VCL_EXIT_IO;
    if (check->progress)
        vcl_progress_add(1, entry->bytes);
    return code == VCL_EXIT_IO ? code : VCL_EXIT_OK;
}

static int check_finish(void *user, size_t i)
{
    struct vcl_check *check = user;
    check->checked = i + 1;
    return VCL_EXIT_OK;
}

int vcl_check_tensors(struct vcl_check *check, struct vcl_work *work)
{
    check->work = work;
    const struct vcl_task task = { check, check_memory, check_run, check_finish };
    const int code = try_codecs(check->model, work, check->decoder);
    return code ? code : vcl_work_run(work, &task, 0, vcl_model_count(check->model));
}
