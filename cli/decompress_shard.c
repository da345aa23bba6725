/* decompress_shard.c - writes one shard's tensors as they were: large ones straight into the file, small
 * ones decoded many at a time into memory and written in order. */
#include <stdlib.h>

#include "decompress.h"
#include "shard.h"
#include "values.h"

struct restored_shard {
    struct vcl_decompress *job;
    struct vcl_shard shard;
    struct vcl_writer *writer;
    unsigned char **values; /* of small tensors until they are written */
};

static const struct vcl_entry *output_entry(const struct restored_shard *work, size_t i)
{
    return &work->shard.entries[i - work->shard.first];
}

static uint64_t decode_memory(void *user, size_t i)
{
    const struct vcl_entry *entry = output_entry(user, i);
    uint64_t values = 0;
    vcl_tensor_size(&entry->tensor, &values, NULL); /* checked when the layout was made */
    return values > VCL_WORK_LARGE ? VCL_WORK_ALONE : entry->bytes;
}

static int decode_run(void *user, size_t i, struct vcl_context *ctx)
{
    struct restored_shard *work = user;
    const struct vcl_entry *entry = output_entry(work, i);
    struct vcl_sink sink = vcl_writer_sink(work->writer);
    struct vcl_window window = { .bytes = entry->bytes, .strict = 1 };
    struct vcl_values values;
    int code =
        vcl_values_open(&values, work->job->model, vcl_model_entry(work->job->model, i), work->job->decoder);
    if (code)
        return code;

    if (decode_memory(user, i) != VCL_WORK_ALONE) {
        window.at = work->values[i - work->shard.first] = vcl_zeros((size_t)entry->bytes, 1);
        sink = vcl_window_sink(&window);
    } else {
        vcl_progress_large(vcl_model_entry(work->job->model, i)->bytes,
                           vcl_work_steps(&work->job->work, values.count, 1));
    }
    struct vcl_converter converter = { values.tensor.dtype, entry->tensor.dtype, sink };
    if (converter.from != converter.dtype)
        sink = vcl_converter_sink(&converter);
    code = vcl_values_decode(&values, ctx, 0, UINT64_MAX, &sink, work->writer);
    vcl_progress_add(1, vcl_model_entry(work->job->model, i)->bytes);
    return code;
}

static int decode_finish(void *user, size_t i)
{
    struct restored_shard *work = user;
    const struct vcl_entry *entry = output_entry(work, i);
    unsigned char **values = &work->values[i - work->shard.first];
    const struct vcl_sink sink = vcl_writer_sink(work->writer);
    struct vcl_error error = { 0 };

    if (*values && entry->bytes && sink.write(sink.user, 0, *values, (size_t)entry->bytes))
        return vcl_tell(VCL_E_IO, "%s", vcl_writer_failure(work->writer));
    free(*values);
    *values = NULL;
    const enum vcl_status status = vcl_writer_end(work->writer, entry->bytes, &error);
    if (status != VCL_OK)
        return vcl_tell(status, "%s", error.text);
    work->job->tensors++;
    work->job->bytes += entry->bytes;
    return VCL_EXIT_OK;
}

static int decode_tensors(struct restored_shard *work)
{
    const struct vcl_task task = { work, decode_memory, decode_run, decode_finish };
    work->values = vcl_zeros(work->shard.layout.count, sizeof *work->values);
    const int code = vcl_work_run(&work->job->work, &task, work->shard.first, work->shard.last);
    for (size_t i = 0; i < work->shard.layout.count; i++)
        free(work->values[i]);
    free(work->values);
    return code;
}

int vcl_decompress_shard(struct vcl_decompress *job, size_t number, const char *path, int overwrite)
{
    struct vcl_error error = { 0 };
    struct restored_shard work = { .job = job };
    enum vcl_status status = vcl_model_check_original(job->model, number, &error);
    if (status != VCL_OK)
        return vcl_tell(status, "%s", error.text);
    int code = vcl_shard_describe_plain(&work.shard, job->model, number, job->dtype);
    if (code)
        return code;

    work.shard.layout.overwrite = overwrite;
    status = vcl_writer_create(path, &work.shard.layout, vcl_shard_bytes(&work.shard), &work.writer, &error);
    if (status == VCL_OK) {
        vcl_interrupt_guard(vcl_writer_temporary(work.writer));
        code = decode_tensors(&work);
        code = vcl_file_finish(work.writer, code);
    }
    vcl_shard_free(&work.shard);
    return status == VCL_OK ? code : vcl_tell(status, "%s", error.text);
}
