/* values.c - reads stretches of a tensor from plain and compressed models alike, and the sinks this needs.
 *
 * A frame decodes by whole indices of dims[0].  A stretch that begins or ends inside one is cut out by a
 * window: rows of any size pass through bounded memory, and a row larger than the window is decoded once per
 * window. */
#include "values.h"

#include <string.h>

enum { STEP = 16 << 20, STEP_LIMIT = 64 << 20, CONVERT = 4096 };

enum vcl_status vcl_fail_at(struct vcl_errand *job, enum vcl_status status, const struct vcl_model *model,
                            const struct vcl_entry *entry, const char *why)
{
    return vcl_errand_fail(job, status, "%s: tensor '%s' at offset %llu: %s",
                           vcl_model_shard_path(model, entry->shard), entry->name,
                           (unsigned long long)entry->offset, why);
}

/* ---- sinks ----------------------------------------------------------------------------------- */

static int window_write(void *user, uint64_t offset, const void *src, size_t bytes)
{
    const struct vcl_window *window = user;
    const uint64_t end = window->base + window->bytes;
    const uint64_t from = offset > window->base ? offset : window->base;
    const uint64_t to = offset + bytes < end ? offset + bytes : end;
    if (window->strict && (offset < window->base || bytes > end - offset || offset > end))
        return 1;
    if (from < to)
        memcpy(window->at + (from - window->base), (const unsigned char *)src + (from - offset), to - from);
    return 0;
}

struct vcl_sink vcl_window_sink(struct vcl_window *window)
{
    return (struct vcl_sink){ .user = window, .write = window_write };
}

static int convert_write(void *user, uint64_t offset, const void *src, size_t bytes)
{
    const struct vcl_converter *converter = user;
    const size_t from = vcl_dtype_bits(converter->from) / 8, to = vcl_dtype_bits(converter->dtype) / 8;
    const unsigned char *values = src;
    double converted[CONVERT]; /* 8 bytes a value are enough for every dtype */

    offset = offset / from * to;
    for (size_t left = bytes / from; left;) {
        const size_t n = left < CONVERT ? left : CONVERT;
        if (vcl_convert(converter->from, values, converter->dtype, converted, n) != VCL_OK
            || converter->to.write(converter->to.user, offset, converted, n * to))
            return 1;
        values += n * from;
        offset += n * to;
        left -= n;
    }
    return 0;
}

struct vcl_sink vcl_converter_sink(struct vcl_converter *converter)
{
    return (struct vcl_sink){ .user = converter, .write = convert_write };
}

/* ---- values ---------------------------------------------------------------------------------- */

enum vcl_status vcl_values_open(struct vcl_errand *job, struct vcl_values *values,
                                const struct vcl_model *model, const struct vcl_entry *entry,
                                const char *decoder)
{
    struct vcl_error error = { 0 };

    *values = (struct vcl_values){ .job = job,
                                   .model = model,
                                   .entry = entry,
                                   .info = { .size = sizeof values->info },
                                   .decoder = decoder };
    enum vcl_status status = vcl_model_resolve(model, entry, &values->info, &values->stored, &error);
    values->compressed = vcl_model_is_compressed(model, entry->shard);
    values->tensor = values->info.tensor;
    if (status != VCL_OK)
        return vcl_errand_check(job, status, &error);
    status = vcl_tensor_size(&values->tensor, &values->count, &values->bytes);
    return status == VCL_OK
             ? VCL_OK
             : vcl_errand_fail(job, status, "tensor '%s': %s", entry->name, vcl_status_text(status));
}

enum vcl_status vcl_values_decode(const struct vcl_values *values, struct vcl_context *ctx, uint64_t first,
                                  uint64_t count, const struct vcl_sink *sink,
                                  const struct vcl_writer *writer)
{
    struct vcl_entry_handle handle = { .model = values->model, .entry = values->stored };
    const struct vcl_source source = vcl_model_source(&handle);
    const enum vcl_status status =
        vcl_decode(ctx, &source, values->stored->bytes, first, count, values->decoder, sink);
    if (status == VCL_OK)
        return VCL_OK;
    if (handle.error.status != VCL_OK)
        return vcl_errand_check(values->job, handle.error.status, &handle.error);
    if (writer && *vcl_writer_failure(writer))
        return vcl_errand_fail(values->job, VCL_E_IO, "%s", vcl_writer_failure(writer));
    return vcl_fail_at(values->job, status, values->model, values->entry, vcl_why(status, ctx));
}

/* Bytes of one index of dims[0], 0 where there is none or it does not fill whole bytes (F4 and F6). */
static uint64_t row_bytes(const struct vcl_values *values)
{
    const uint64_t rows = values->tensor.rank ? values->tensor.dims[0] : 1;
    return rows && values->bytes % rows == 0
                && values->count / rows * vcl_dtype_bits(values->tensor.dtype) % 8 == 0
             ? values->bytes / rows
             : 0;
}

static enum vcl_status read_plain(const struct vcl_values *values, uint64_t offset, void *dst, size_t n)
{
    struct vcl_error error = { 0 };
    return vcl_errand_check(values->job, vcl_model_read(values->model, values->entry, offset, dst, n, &error),
                            &error);
}

enum vcl_status vcl_values_read(const struct vcl_values *values, struct vcl_context *ctx, uint64_t offset,
                                void *dst, size_t n)
{
    const uint64_t row = row_bytes(values);
    uint64_t first = 0, count = UINT64_MAX;
    struct vcl_window window = { .at = dst, .base = offset, .bytes = n };

    if (n == 0)
        return VCL_OK;
    if (!values->compressed)
        return read_plain(values, offset, dst, n);
    if (row) {
        first = offset / row;
        count = (offset + n - 1) / row - first + 1;
        window.base -= first * row;
    }
    const struct vcl_sink sink = vcl_window_sink(&window);
    return vcl_values_decode(values, ctx, first, count, &sink, NULL);
}

size_t vcl_values_step(const struct vcl_values *values)
{
    const uint64_t row = row_bytes(values);
    const uint64_t band = values->compressed && values->count
                            ? values->bytes / values->count * values->info.cols * values->info.tile_rows
                            : 0;
    if (values->bytes <= STEP)
        return values->bytes ? (size_t)values->bytes : 1;
    if (row && band && band <= STEP_LIMIT && band % row == 0)
        return (size_t)(band > STEP ? band : STEP / band * band);
    return row && row <= STEP ? (size_t)(STEP / row * row) : STEP;
}
