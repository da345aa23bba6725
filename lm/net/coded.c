/* coded.c - a matrix as a frame: products straight from it, and rows by way of the tile they are in. */
#include <stdlib.h>
#include <string.h>

#include "coded.h"

/* Where tiles hold no whole rows, rows decode from all of them: as many at a time as have this many
 * values. */
enum { SCATTERED = 1 << 22 };

struct vcl_coded {
    void *frame;
    size_t bytes;
    struct vcl_info info;
    struct vcl_matrix *matrix;
    struct vcl_matrix_info tables;
    int transposed;
    /* Rows that decode together, a tile's; and those that are decoded, in the tensor's dtype. */
    uint64_t step, first, count;
    char *values;
};

static uint64_t rows_together(const struct vcl_coded *c)
{
    if (!c->info.transposed && c->info.cols == c->tables.cols)
        return c->info.tile_rows;
    const uint64_t rows = SCATTERED / (c->tables.cols + 1) + 1;
    if (c->info.transposed && c->tables.cols * c->info.tile_cols <= SCATTERED)
        return c->info.tile_cols; /* as row floors have it: a tile holds whole rows, side by side */
    return rows < c->tables.rows ? rows : c->tables.rows;
}

static enum vcl_status begin(struct vcl_context *ctx, struct vcl_coded *c)
{
    const enum vcl_status status = vcl_matrix_open(ctx, c->frame, c->bytes, &c->matrix);
    if (status != VCL_OK)
        return status;
    c->tables.size = sizeof c->tables;
    c->info.size = sizeof c->info;
    vcl_matrix_describe(c->matrix, &c->tables);
    vcl_peek(c->frame, c->bytes, &c->info, NULL, NULL);
    c->step = rows_together(c);
    return VCL_OK;
}

enum vcl_status vcl_coded_open(struct vcl_context *ctx, void *frame, size_t bytes, int transposed,
                               struct vcl_coded **coded)
{
    *coded = calloc(1, sizeof **coded);
    if (!*coded) {
        free(frame);
        return VCL_E_MEMORY;
    }
    (*coded)->frame = frame;
    (*coded)->bytes = bytes;
    (*coded)->transposed = transposed;
    const enum vcl_status status = begin(ctx, *coded);
    if (status != VCL_OK) {
        vcl_coded_close(*coded);
        *coded = NULL;
    }
    return status;
}

void vcl_coded_close(struct vcl_coded *coded)
{
    if (!coded)
        return;
    vcl_matrix_close(coded->matrix);
    free(coded->values);
    free(coded->frame);
    free(coded);
}

uint64_t vcl_coded_bytes(const struct vcl_coded *coded) { return coded->bytes + coded->tables.bytes; }

const struct vcl_tensor *vcl_coded_tensor(const struct vcl_coded *coded) { return &coded->info.tensor; }

int vcl_coded_is_fast(const struct vcl_coded *coded)
{
    return coded->tables.fused || coded->tables.fused_transposed;
}

uint64_t vcl_coded_jobs(const struct vcl_coded *coded)
{
    const uint64_t rows = coded->info.cols ? coded->info.values / coded->info.cols : 0,
                   step = coded->info.tile_rows;
    const int fused = coded->transposed ? coded->tables.fused_transposed : coded->tables.fused;
    return fused && step ? (rows + step - 1) / step : 0;
}

/* With the frame's matrix or its transpose, whatever the weight is. */
static enum vcl_status multiply(struct vcl_context *ctx, const struct vcl_coded *coded, int transposed,
                                const float *x, size_t n, float *y)
{
    const size_t rows = (size_t)coded->tables.rows, cols = (size_t)coded->tables.cols;
    return transposed ? vcl_multiply_transposed(ctx, coded->matrix, x, n, rows, y, cols)
                      : vcl_multiply(ctx, coded->matrix, x, n, cols, y, rows);
}

enum vcl_status vcl_coded_multiply(struct vcl_context *ctx, const struct vcl_coded *coded, const float *x,
                                   size_t n, float *y)
{
    return multiply(ctx, coded, coded->transposed, x, n, y);
}

enum vcl_status vcl_coded_multiply_transposed(struct vcl_context *ctx, const struct vcl_coded *coded,
                                              const float *x, size_t n, float *y)
{
    return multiply(ctx, coded, !coded->transposed, x, n, y);
}

/* ---- decoding -------------------------------------------------------------------------------- */

/* A piece of memory as vcllm.h's sources and sinks; both are used within its bounds alone. */
static int read_bytes(void *user, uint64_t offset, void *dst, size_t bytes)
{
    memcpy(dst, (const char *)user + offset, bytes);
    return 0;
}

static int write_bytes(void *user, uint64_t offset, const void *src, size_t bytes)
{
    memcpy((char *)user + offset, src, bytes);
    return 0;
}

static enum vcl_status decode_rows(struct vcl_context *ctx, const struct vcl_coded *c, uint64_t first,
                                   uint64_t count, void *values)
{
    const struct vcl_source source = { c->frame, read_bytes, c->frame };
    const struct vcl_sink sink = { values, write_bytes, values };
    return vcl_decode(ctx, &source, c->bytes, first, count, NULL, &sink);
}

static size_t row_bytes(const struct vcl_coded *c)
{
    return (size_t)c->tables.cols * (vcl_dtype_bits(c->info.tensor.dtype) / 8);
}

/* Makes row r one of the decoded ones. */
static enum vcl_status reach(struct vcl_context *ctx, struct vcl_coded *c, uint64_t r)
{
    const uint64_t first = r - r % c->step, left = c->tables.rows - first;
    const uint64_t count = left < c->step ? left : c->step;
    if (r >= c->first && r - c->first < c->count)
        return VCL_OK;
    if (!c->values)
        c->values = malloc((size_t)c->step * row_bytes(c));
    if (!c->values)
        return VCL_E_MEMORY;
    c->first = first;
    c->count = 0;
    const enum vcl_status status = decode_rows(ctx, c, first, count, c->values);
    c->count = status == VCL_OK ? count : 0;
    return status;
}

/* Has a row before number i been in the tile of rows[i]? */
static int was_there(const struct vcl_coded *c, const uint32_t *rows, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (rows[k] / c->step == rows[i] / c->step)
            return 1;
    return 0;
}

enum vcl_status vcl_coded_rows(struct vcl_context *ctx, struct vcl_coded *coded, const uint32_t *rows,
                               size_t n, float *out)
{
    const size_t cols = (size_t)coded->tables.cols;
    for (size_t i = 0; i < n; i++) {
        if (was_there(coded, rows, i))
            continue;
        const enum vcl_status status = reach(ctx, coded, rows[i]);
        if (status != VCL_OK)
            return status;
        for (size_t k = i; k < n; k++)
            if (rows[k] / coded->step == rows[i] / coded->step)
                vcl_convert(coded->info.tensor.dtype,
                            coded->values + (rows[k] - coded->first) * row_bytes(coded), VCL_DTYPE_F32,
                            out + k * cols, cols);
    }
    return VCL_OK;
}

enum vcl_status vcl_coded_decode(struct vcl_context *ctx, const struct vcl_coded *coded, void *values,
                                 size_t room)
{
    return vcl_decode_buffer(ctx, coded->frame, coded->bytes, values, room);
}
