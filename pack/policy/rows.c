/* rows.c - rows that decode to nothing but zeros.
 *
 * A tensor is coded to an error that is small against the whole of it: rows far below the others can become
 * zero while its SNR stays good.  Where a norm follows, as behind an embedding, such a row is lost. */
#include "rows.h"

#include <stdlib.h>

#include "common/texts.h"
#include "common/work.h"
#include "layout/values.h"

enum { SHORTEST = 16 };

struct count {
    const struct vcl_model *model;
    const char *decoder;
    uint64_t *zero; /* per entry */
    const struct vcl_work *work;
};

uint64_t vcl_row_length(const struct vcl_tensor *tensor)
{
    const uint64_t length = tensor->rank < 2 ? 0 : tensor->dims[tensor->rank - 1];
    return length < SHORTEST ? 0 : length;
}

int vcl_all_zero(enum vcl_dtype dtype, const void *values, size_t n)
{
    const size_t size = vcl_dtype_bits(dtype) / 8;
    const unsigned char *bytes = values;
    for (size_t i = 0; i < n * size; i++)
        if (bytes[i] & ((i + 1) & (size - 1) ? 0xFF : 0x7F)) /* little-endian: the sign is on top */
            return 0;
    return 1;
}

int vcl_rows_may_vanish(const struct vcl_info *info)
{
    return info->codec != VCL_CODEC_ALIAS && info->codec != VCL_CODEC_EXACT
        && info->codec != VCL_CODEC_LOSSLESS && vcl_dtype_is_float(info->tensor.dtype)
        && vcl_row_length(&info->tensor);
}

/* A row may be longer than a stretch that is decoded at a time. */
static enum vcl_status count_zero_rows(const struct vcl_values *values, struct vcl_context *ctx,
                                       uint64_t *rows)
{
    const enum vcl_dtype dtype = values->tensor.dtype;
    const size_t size = vcl_dtype_bits(dtype) / 8, step = vcl_values_step(values);
    const uint64_t row = vcl_row_length(&values->tensor) * size;
    unsigned char *buffer = vcl_calloc(step, 1);
    enum vcl_status status = buffer ? VCL_OK : vcl_errand_memory(values->job);
    int zero = 1;

    for (uint64_t at = 0; at < values->bytes && !status && !vcl_errand_cancelled(values->job); at += step) {
        const size_t n = values->bytes - at < step ? (size_t)(values->bytes - at) : step;
        status = vcl_values_read(values, ctx, at, buffer, n);
        for (size_t i = 0, piece; i < n && !status; i += piece) {
            const uint64_t left = row - (at + i) % row;
            piece = left < n - i ? (size_t)left : n - i;
            zero = (left == row || zero) && vcl_all_zero(dtype, buffer + i, piece / size);
            *rows += zero && piece == left;
        }
    }
    free(buffer);
    return status;
}

/* A frame that is no frame is said where it is listed. */
static int is_counted(const struct count *count, size_t i, struct vcl_info *info)
{
    return vcl_model_frame(count->model, vcl_model_entry(count->model, i), info, NULL, NULL) == VCL_OK
        && vcl_rows_may_vanish(info);
}

static uint64_t count_memory(void *user, size_t i)
{
    struct vcl_info info = { .size = sizeof info };
    if (!is_counted(user, i, &info))
        return 0;
    return info.values > VCL_WORK_LARGE ? VCL_WORK_ALONE
                                        : info.values * (vcl_dtype_bits(info.tensor.dtype) / 8);
}

static enum vcl_status count_run(void *user, size_t i, struct vcl_context *ctx)
{
    const struct count *count = user;
    const struct vcl_entry *entry = vcl_model_entry(count->model, i);
    struct vcl_values values;
    struct vcl_info info = { .size = sizeof info };
    enum vcl_status status = VCL_OK;
    if (is_counted(count, i, &info)) {
        status = vcl_values_open(count->work->job, &values, count->model, entry, count->decoder);
        if (info.values > VCL_WORK_LARGE)
            vcl_errand_large(count->work->job, entry->bytes, vcl_work_steps(count->work, info.values, 1));
        if (!status)
            status = count_zero_rows(&values, ctx, &count->zero[i]);
    }
    vcl_errand_advance(count->work->job, 1, entry->bytes);
    return status;
}

enum vcl_status vcl_zero_rows_count(struct vcl_errand *job, const struct vcl_model *model,
                                    const char *decoder, unsigned threads, uint64_t *zero)
{
    struct vcl_work work;
    struct count count = { model, decoder, zero, &work };
    const struct vcl_task task = { &count, count_memory, count_run, NULL };
    const enum vcl_status status = vcl_work_create(&work, job, threads, NULL);
    return status ? status : vcl_work_over(&work, "info", model, &task);
}
