/* converted.c - values of a converted tensor: any slice of it, its rows where they belong.
 *
 * In: a tensor of a GGUF file, as the library presents it.  Out: bytes of the checkpoint's tensor.  They are
 * read in strips, which are whole rows of the output: rows that move come one by one, those of a transpose
 * column by column. */
#include "converted.h"

#include <stdlib.h>
#include <string.h>

#include "common/texts.h"

enum { ROOM = 8 << 20 }; /* bytes of a strip, as it is presented; one row at least */

struct strip {
    struct vcl_errand *job;
    const struct vcl_model *model;
    const struct vcl_converted *tensor;
    size_t size, to_size; /* of a value as it is presented, and as it will be */
    uint64_t rows, cols;  /* of the output's matrix */
    uint64_t most;        /* rows in a strip */
    unsigned char *values, *column, *converted;
};

static enum vcl_status read_slice(const struct strip *s, uint64_t offset, void *dst, size_t n)
{
    struct vcl_error error = { 0 };
    return vcl_errand_check(s->job, vcl_model_read(s->model, s->tensor->from, offset, dst, n, &error),
                            &error);
}

/* Where the output's row is in the input: of a head's rows, number j of half p is pair j's p-th. */
static uint64_t source_row(const struct strip *s, uint64_t row)
{
    const uint64_t head_rows = s->rows / s->tensor->heads, half = head_rows / 2, at = row % head_rows;
    return row - at + 2 * (at % half) + at / half;
}

static enum vcl_status read_moved(const struct strip *s, uint64_t first, uint64_t count)
{
    const size_t row = s->cols * s->size;
    enum vcl_status status = VCL_OK;
    for (uint64_t i = 0; i < count && !status; i++)
        status = read_slice(s, source_row(s, first + i) * row, s->values + i * row, row);
    return status;
}

/* Columns first to first+count-1 of the input as rows. */
static enum vcl_status read_transposed(const struct strip *s, uint64_t first, uint64_t count)
{
    enum vcl_status status = VCL_OK;
    for (uint64_t c = 0; c < s->cols && !status; c++) {
        status = read_slice(s, (c * s->rows + first) * s->size, s->column, count * s->size);
        for (uint64_t i = 0; i < count && !status; i++)
            memcpy(s->values + (i * s->cols + c) * s->size, s->column + i * s->size, s->size);
    }
    return status;
}

/* Its exponent's bits are set, and no other but the sign. */
static int is_infinite(enum vcl_dtype dtype, const unsigned char *value)
{
    const size_t size = vcl_dtype_bits(dtype) / 8;
    const int top = (value[size - 1] << 8 | value[size - 2]) & 0x7FFF;
    int low = 0;
    if (top != (dtype == VCL_DTYPE_F16 ? 0x7C00 : dtype == VCL_DTYPE_F64 ? 0x7FF0 : 0x7F80))
        return 0;
    for (size_t i = 0; i + 2 < size; i++)
        low |= value[i];
    return low == 0;
}

/* A finite value that is too large for the dtype asked for would become infinite. */
static enum vcl_status convert_values(const struct strip *s, size_t values)
{
    const enum vcl_dtype from = s->tensor->from->tensor.dtype, to = s->tensor->tensor.dtype;
    vcl_convert(from, s->values, to, s->converted, values);
    for (size_t i = 0; i < values; i++)
        if (is_infinite(to, s->converted + i * s->to_size) && !is_infinite(from, s->values + i * s->size))
            return vcl_errand_fail(
                s->job, VCL_E_FORMAT,
                "%s: tensor '%s' has values beyond the range of %s; another --dtype holds them",
                vcl_model_shard_path(s->model, 0), s->tensor->from->name, vcl_dtype_name(to));
    return VCL_OK;
}

/* Rows first to first+count-1 into s->converted. */
static enum vcl_status read_strip(const struct strip *s, uint64_t first, uint64_t count)
{
    const size_t row = s->cols * s->size;
    const enum vcl_status status = s->tensor->transposed ? read_transposed(s, first, count)
                                 : s->tensor->heads      ? read_moved(s, first, count)
                                                         : read_slice(s, first * row, s->values, count * row);
    return status || s->converted == s->values ? status : convert_values(s, count * s->cols);
}

static enum vcl_status read_strips(const struct strip *s, uint64_t offset, unsigned char *dst, size_t n)
{
    const uint64_t row = s->cols * s->to_size, end = (offset + n + row - 1) / row;
    enum vcl_status status = VCL_OK;
    while (n > 0 && !status) {
        const uint64_t first = offset / row, count = end - first < s->most ? end - first : s->most;
        const size_t before = offset - first * row, there = count * row - before,
                     part = n < there ? n : there;
        status = read_strip(s, first, count);
        if (!status)
            memcpy(dst, s->converted + before, part);
        offset += part;
        dst += part;
        n -= part;
    }
    return status;
}

enum vcl_status vcl_converted_read(struct vcl_errand *job, const struct vcl_model *model,
                                   const struct vcl_converted *tensor, uint64_t offset, void *dst, size_t n)
{
    struct strip s = { .job = job, .model = model, .tensor = tensor, .cols = 1 };
    const struct vcl_tensor *from = &tensor->from->tensor, *to = &tensor->tensor;
    if (n == 0)
        return VCL_OK;
    if (!tensor->transposed && !tensor->heads && from->dtype == to->dtype)
        return read_slice(&s, offset, dst, n);
    s.size = vcl_dtype_bits(from->dtype) / 8;
    s.to_size = vcl_dtype_bits(to->dtype) / 8;
    s.cols = to->rank > 0 ? to->dims[to->rank - 1] : 1;
    s.rows = tensor->bytes / s.to_size / s.cols;
    const uint64_t row = s.cols * s.size, touched = n / (s.cols * s.to_size) + 2;
    s.most = row < ROOM ? ROOM / row : 1;
    if (s.most > touched)
        s.most = touched;
    s.values = vcl_calloc(s.most, row);
    s.column = vcl_calloc(s.most, s.size);
    s.converted = from->dtype == to->dtype ? s.values : vcl_calloc(s.most * s.cols, s.to_size);
    const enum vcl_status status =
        s.values && s.column && s.converted ? read_strips(&s, offset, dst, n) : vcl_errand_memory(job);
    if (s.converted != s.values)
        free(s.converted);
    free(s.values);
    free(s.column);
    return status;
}
