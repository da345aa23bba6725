/* convert_weights.c - model.safetensors: each tensor under its new name, its rows where they belong.
 *
 * A tensor comes by rows of the output, as many as fit a buffer: rows that move are read one by one, those of
 * a transpose column by column in strips. */
#include <stdlib.h>
#include <string.h>

#include "convert.h"

enum { ROOM = 8 << 20 }; /* bytes of a strip, as it is presented; one row at least */

struct strip {
    const struct vcl_convert *job;
    const struct vcl_converted *tensor;
    size_t size;         /* of a value as it is presented */
    uint64_t rows, cols; /* of the output's matrix */
    unsigned char *values, *column;
};

static int read_slice(const struct strip *s, uint64_t offset, void *dst, size_t n)
{
    struct vcl_error error = { 0 };
    const enum vcl_status status = vcl_model_read(s->job->model, s->tensor->from, offset, dst, n, &error);
    return status == VCL_OK ? VCL_EXIT_OK : vcl_tell(status, "%s", error.text);
}

/* Where the output's row is in the input: of a head's rows, number j of half p is pair j's p-th. */
static uint64_t source_row(const struct strip *s, uint64_t row)
{
    const uint64_t head_rows = s->rows / s->tensor->heads, half = head_rows / 2, at = row % head_rows;
    return row - at + 2 * (at % half) + at / half;
}

static int read_moved(const struct strip *s, uint64_t first, uint64_t count)
{
    const size_t row = s->cols * s->size;
    int code = VCL_EXIT_OK;
    for (uint64_t i = 0; i < count && !code; i++)
        code = read_slice(s, source_row(s, first + i) * row, s->values + i * row, row);
    return code;
}

/* Columns first to first+count-1 of the input as rows. */
static int read_transposed(const struct strip *s, uint64_t first, uint64_t count)
{
    int code = VCL_EXIT_OK;
    for (uint64_t c = 0; c < s->cols && !code; c++) {
        code = read_slice(s, (c * s->rows + first) * s->size, s->column, count * s->size);
        for (uint64_t i = 0; i < count; i++)
            memcpy(s->values + (i * s->cols + c) * s->size, s->column + i * s->size, s->size);
    }
    return code;
}

static int read_strip(const struct strip *s, uint64_t first, uint64_t count)
{
    const size_t row = s->cols * s->size;
    return s->tensor->transposed ? read_transposed(s, first, count)
         : s->tensor->heads      ? read_moved(s, first, count)
                                 : read_slice(s, first * row, s->values, count * row);
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
static int check_range(const struct strip *s, const unsigned char *converted, size_t values)
{
    const enum vcl_dtype from = s->tensor->from->tensor.dtype, to = s->tensor->tensor.dtype;
    const size_t size = vcl_dtype_bits(to) / 8;
    for (size_t i = 0; i < values; i++)
        if (is_infinite(to, converted + i * size) && !is_infinite(from, s->values + i * s->size))
            return vcl_tell(VCL_E_FORMAT,
                            "%s: tensor '%s' has values beyond the range of %s; another --dtype holds them",
                            s->job->input, s->tensor->from->name, vcl_dtype_name(to));
    return VCL_EXIT_OK;
}

static int write_strip(const struct strip *s, uint64_t first, uint64_t count, struct vcl_writer *writer)
{
    const struct vcl_tensor *from = &s->tensor->from->tensor, *to = &s->tensor->tensor;
    const struct vcl_sink sink = vcl_writer_sink(writer);
    const size_t values = count * s->cols, size = vcl_dtype_bits(to->dtype) / 8;
    unsigned char *converted = s->values;
    int code = VCL_EXIT_OK;
    if (from->dtype != to->dtype) {
        converted = vcl_zeros(values, size);
        vcl_convert(from->dtype, s->values, to->dtype, converted, values);
        code = check_range(s, converted, values);
    }
    if (!code && sink.write(sink.user, first * s->cols * size, converted, values * size))
        code = vcl_tell(VCL_E_IO, "%s", vcl_writer_failure(writer));
    if (converted != s->values)
        free(converted);
    return code;
}

static int write_values(struct strip *s, struct vcl_writer *writer)
{
    const uint64_t row = s->cols * s->size;
    int code = VCL_EXIT_OK;
    if (s->rows == 0 || row == 0)
        return VCL_EXIT_OK;
    const uint64_t most = row < ROOM ? ROOM / row : 1;
    s->values = vcl_zeros(most, row);
    s->column = vcl_zeros(most, s->size);
    for (uint64_t first = 0; first < s->rows && !code; first += most) {
        const uint64_t count = s->rows - first < most ? s->rows - first : most;
        code = vcl_interrupted() ? VCL_EXIT_INTERRUPTED : read_strip(s, first, count);
        if (!code)
            code = write_strip(s, first, count, writer);
    }
    free(s->values);
    free(s->column);
    return code;
}

static int write_tensor(const struct vcl_convert *job, const struct vcl_converted *tensor,
                        struct vcl_writer *writer)
{
    struct vcl_error error = { 0 };
    uint64_t values;
    vcl_tensor_size(&tensor->tensor, &values, NULL);
    struct strip s = { .job = job, .tensor = tensor, .cols = 1 };
    s.size = vcl_dtype_bits(tensor->from->tensor.dtype) / 8;
    s.cols = tensor->tensor.rank > 0 ? tensor->tensor.dims[tensor->tensor.rank - 1] : 1;
    s.rows = s.cols ? values / s.cols : 0;
    const int code = write_values(&s, writer);
    if (code)
        return code;
    const enum vcl_status status = vcl_writer_end(writer, tensor->bytes, &error);
    vcl_progress_add(1, tensor->from->bytes);
    return status == VCL_OK ? VCL_EXIT_OK : vcl_tell(status, "%s", error.text);
}

static int write_tensors(const struct vcl_convert *job, struct vcl_writer *writer)
{
    int code = VCL_EXIT_OK;
    vcl_interrupt_guard(vcl_writer_temporary(writer));
    for (size_t i = 0; i < job->count && !code; i++)
        code = write_tensor(job, &job->tensors[i], writer);
    return vcl_file_finish(writer, code);
}

int vcl_convert_weights(struct vcl_convert *job, const char *path)
{
    const struct vcl_pair format = { "format", "pt" }; /* transformers asks for it */
    struct vcl_error error = { 0 };
    struct vcl_writer *writer;
    struct vcl_layout layout;
    struct vcl_entry *entries = vcl_zeros(job->count + 1, sizeof *entries);
    uint64_t bytes = 0;
    vcl_layout_init(&layout);
    for (size_t i = 0; i < job->count; i++) {
        entries[i].name = job->tensors[i].name;
        entries[i].tensor = job->tensors[i].tensor;
        bytes += entries[i].bytes = job->tensors[i].bytes;
    }
    layout.count = job->count;
    layout.entries = entries;
    layout.metadata_count = 1;
    layout.metadata = &format;
    layout.overwrite = 1;
    const enum vcl_status status = vcl_writer_create(path, &layout, bytes, &writer, &error);
    free(entries);
    return status == VCL_OK ? write_tensors(job, writer) : vcl_tell(status, "%s", error.text);
}
