/* decompress_shard.c - writes one shard's tensors as they were: large ones straight into the file, small
 * ones decoded many at a time into memory and written in order. */
#include <stdlib.h>

#include "common/texts.h"
#include "decompress.h"
#include "layout/shard.h"
#include "layout/values.h"

struct restored_shard {
    struct vcl_decompress *decompress;
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

static enum vcl_status make_window(const struct restored_shard *work, size_t i, struct vcl_window *window)
{
    *window = (struct vcl_window){ .bytes = output_entry(work, i)->bytes, .strict = 1 };
    window->at = work->values[i - work->shard.first] = vcl_calloc((size_t)window->bytes, 1);
    return window->at ? VCL_OK : vcl_errand_memory(work->decompress->job);
}

static enum vcl_status decode_run(void *user, size_t i, struct vcl_context *ctx)
{
    struct restored_shard *work = user;
    const struct vcl_decompress *d = work->decompress;
    const struct vcl_entry *from = vcl_model_entry(d->model, i);
    struct vcl_sink sink = vcl_writer_sink(work->writer);
    struct vcl_window window;
    struct vcl_values values;
    enum vcl_status status = vcl_values_open(d->job, &values, d->model, from, d->decoder);
    if (!status && decode_memory(user, i) == VCL_WORK_ALONE) {
        vcl_errand_large(d->job, from->bytes, vcl_work_steps(&d->work, values.count, 1));
    } else if (!status) {
        status = make_window(work, i, &window);
        sink = vcl_window_sink(&window);
    }
    if (status)
        return status;
    struct vcl_converter converter = { values.tensor.dtype, output_entry(work, i)->tensor.dtype, sink };
    if (converter.from != converter.dtype)
        sink = vcl_converter_sink(&converter);
    status = vcl_values_decode(&values, ctx, 0, UINT64_MAX, &sink, work->writer);
    vcl_errand_advance(d->job, 1, from->bytes);
    return status;
}

static enum vcl_status decode_finish(void *user, size_t i)
{
    struct restored_shard *work = user;
    struct vcl_decompress *d = work->decompress;
    const struct vcl_entry *entry = output_entry(work, i);
    unsigned char **values = &work->values[i - work->shard.first];
    const struct vcl_sink sink = vcl_writer_sink(work->writer);
    struct vcl_error error = { 0 };

    if (*values && entry->bytes && sink.write(sink.user, 0, *values, (size_t)entry->bytes))
        return vcl_errand_fail(d->job, VCL_E_IO, "%s", vcl_writer_failure(work->writer));
    free(*values);
    *values = NULL;
    const enum vcl_status status = vcl_writer_end(work->writer, entry->bytes, &error);
    if (status != VCL_OK)
        return vcl_errand_check(d->job, status, &error);
    d->tensors++;
    d->bytes += entry->bytes;
    return VCL_OK;
}

static enum vcl_status decode_tensors(struct restored_shard *work)
{
    const struct vcl_task task = { work, decode_memory, decode_run, decode_finish };
    work->values = vcl_calloc(work->shard.layout.count, sizeof *work->values);
    if (!work->values)
        return vcl_errand_memory(work->decompress->job);
    const enum vcl_status status =
        vcl_work_run(&work->decompress->work, &task, work->shard.first, work->shard.last);
    for (size_t i = 0; i < work->shard.layout.count; i++)
        free(work->values[i]);
    free(work->values);
    return status;
}

enum vcl_status vcl_decompress_shard(struct vcl_decompress *d, size_t number, const char *path, int overwrite)
{
    struct vcl_error error = { 0 };
    struct restored_shard work = { .decompress = d };
    enum vcl_status status =
        vcl_errand_check(d->job, vcl_model_check_original(d->model, number, &error), &error);
    if (!status)
        status = vcl_shard_describe_plain(d->job, &work.shard, d->model, number, d->dtype);
    if (status)
        return status;

    work.shard.layout.overwrite = overwrite;
    status = vcl_writer_create(path, &work.shard.layout, vcl_shard_bytes(&work.shard), &work.writer, &error);
    if (status == VCL_OK) {
        vcl_errand_writing(d->job, work.writer);
        status = vcl_errand_finish(d->job, work.writer, decode_tensors(&work));
    } else {
        vcl_errand_check(d->job, status, &error);
    }
    vcl_shard_free(&work.shard);
    return status;
}
