/* fuzz_frame.c - any bytes as a frame: its header read, all of it decoded, some rows of it decoded
 * again; opened as a matrix and multiplied both ways.
 *
 * In: libFuzzer's bytes.  Build it, and the library with it, with VCL_FUZZING defined, which makes
 * every checksum match: mutations would not get past them otherwise.  Nothing that decodes for other
 * users is built so.  Beyond not crashing: whatever vcl_peek accepts is as large as it says, the buffer
 * and the callbacks get the same values, and rows decoded alone are those of the whole; what decodes
 * opens and multiplies, to the very bits that its values give, and what does not decode does neither.
 * Every input meets all levels of CPU, each of them in another part.  Frames of more than MOST values
 * are left alone: they take time, not other paths. */
#include "multiply.h"
#include "vcllm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST = 1 << 18, MOST_MULTIPLIED = 1 << 16, VECTORS = 3 };

static const char *const levels[] = { "c", "avx2", "avx512" };

enum { LEVELS = sizeof levels / sizeof *levels };

struct memory {
    uint8_t *bytes;
    size_t n;
};

static void must(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "fuzz_frame: %s\n", what);
    abort();
}

/* A block that ends where its bytes do, so that a sanitizer sees every access beyond. */
static struct memory make_memory(size_t n)
{
    struct memory memory = { malloc(n > 0 ? n : 1), n };
    must(memory.bytes != NULL, "no memory");
    return memory;
}

static int read_memory(void *user, uint64_t offset, void *dst, size_t n)
{
    const struct memory *const memory = user;
    if (offset > memory->n || n > memory->n - offset)
        return 1;
    memcpy(dst, memory->bytes + offset, n);
    return 0;
}

static int write_memory(void *user, uint64_t offset, const void *src, size_t n)
{
    const struct memory *const memory = user;
    must(offset <= memory->n && n <= memory->n - offset, "values written beyond their end");
    memcpy(memory->bytes + offset, src, n);
    return 0;
}

static enum vcl_status decode_rows(struct vcl_context *ctx, struct memory *frame, uint64_t first,
                                   uint64_t count, struct memory *values)
{
    const struct vcl_source source = { .user = frame, .read = read_memory };
    const struct vcl_sink sink = { .user = values, .write = write_memory };
    return vcl_decode(ctx, &source, frame->n, first, count, NULL, &sink);
}

/* Half of the rows, from the second quarter on, alone. */
static void compare_rows(struct vcl_context *ctx, struct memory *frame, const struct vcl_info *info,
                         const struct memory *whole)
{
    const uint64_t rows = info->tensor.rank > 0 ? info->tensor.dims[0] : 1;
    if (rows < 4 || whole->n % rows != 0)
        return;
    const uint64_t first = rows / 4, count = rows / 2;
    struct memory some = make_memory((size_t)(count * (whole->n / rows)));
    if (decode_rows(ctx, frame, first, count, &some) == VCL_OK)
        must(memcmp(some.bytes, whole->bytes + first * (whole->n / rows), some.n) == 0,
             "rows differ from the whole");
    free(some.bytes);
}

static void multiply_frame(struct vcl_context *ctx, const struct vcl_matrix *m,
                           const struct vcl_matrix_info *info, int transposed, size_t n,
                           enum vcl_status decoded, const float *w)
{
    struct call call = make_call(w, info->rows, info->cols, transposed, n, info->cols);
    float *const y = call_block(n * call.y_stride);
    size_t at;
    must(multiply_checked(ctx, m, &call, y, &at) == decoded, "a product has another status than decoding");
    must(decoded || at == n * call.y_stride, "a product of other values than the decoded ones");
    must(!decoded || vcl_context_message(ctx)[0] != 0, "a failed product without a word");
    free(y);
    free_call(&call);
}

/* One vector one way and some the other way; the turn decides which: half of the time of all four calls.
 * w: the values, NULL where decoding fails. */
static void multiply_both_ways(struct vcl_context *const ctx[LEVELS], const struct vcl_matrix *m,
                               const struct vcl_info *frame, unsigned turn, enum vcl_status decoded,
                               const float *w)
{
    struct vcl_matrix_info info = { .size = sizeof info };
    vcl_matrix_describe(m, &info);
    must(frame->values == 0 || (info.cols > 0 && info.rows == frame->values / info.cols),
         "rows and columns of the matrix");
    if (info.rows > MOST_MULTIPLIED || info.cols > MOST_MULTIPLIED) /* of an empty tensor */
        return;
    multiply_frame(ctx[1], m, &info, turn % 2 == 0, 1, decoded, w);
    multiply_frame(ctx[2], m, &info, turn % 2 != 0, VECTORS, decoded, w);
}

/* Does the number of rows of its matrix overflow, because another dimension is 0? */
static int has_too_many_rows(const struct vcl_tensor *tensor)
{
    uint64_t rows = 1;
    for (unsigned i = 0; i + 1 < tensor->rank; i++)
        if (__builtin_mul_overflow(rows, tensor->dims[i], &rows))
            return 1;
    return 0;
}

/* values: as decoded, where that succeeds. */
static void open_matrix(struct vcl_context *const ctx[LEVELS], const struct memory *frame,
                        const struct vcl_info *info, unsigned turn, enum vcl_status decoded,
                        const struct memory *values)
{
    struct vcl_matrix *m;
    const int is_matrix = info->codec != VCL_CODEC_ALIAS && vcl_dtype_is_float(info->tensor.dtype);
    const enum vcl_status opened = vcl_matrix_open(ctx[0], frame->bytes, frame->n, &m);
    must(opened == VCL_OK || m == NULL, "a matrix in spite of a failure");
    must(opened == VCL_OK || vcl_context_message(ctx[0])[0] != 0, "a matrix refused without a word");
    if (!is_matrix)
        must(opened == (info->frame_bytes == frame->n ? VCL_E_ARGUMENT : decoded),
             "opening what is no matrix");
    else if (opened && decoded != VCL_E_CODEC) /* no video module here: only products need it */
        must(opened == (has_too_many_rows(&info->tensor) ? VCL_E_LIMIT : decoded),
             "opening has another status than decoding");
    if (opened)
        return;
    float *const w = decoded ? NULL : call_block((size_t)info->values);
    if (w)
        must(vcl_convert(info->tensor.dtype, values->bytes, VCL_DTYPE_F32, w, (size_t)info->values) == VCL_OK,
             "vcl_convert fails");
    multiply_both_ways(ctx, m, info, turn, decoded, w);
    free(w);
    vcl_matrix_close(m);
}

/* Any byte that changes changes it. */
static unsigned turn_of(const struct memory *frame)
{
    unsigned sum = 0;
    for (size_t i = 0; i < frame->n; i++)
        sum += frame->bytes[i];
    return sum;
}

/* The turn decides which level comes first. */
static void open_contexts(unsigned turn, struct vcl_context *ctx[LEVELS])
{
    for (size_t i = 0; i < LEVELS; i++) {
        must(setenv("VCLLM_CPU", levels[(turn + i) % LEVELS], 1) == 0, "setenv fails");
        must(vcl_context_create(NULL, &ctx[i]) == VCL_OK, "vcl_context_create fails");
    }
}

static void decode(struct memory *frame, const struct vcl_info *info, size_t bytes)
{
    struct vcl_context *ctx[LEVELS];
    struct memory values = make_memory(bytes), again = make_memory(bytes);
    const unsigned turn = turn_of(frame);
    open_contexts(turn, ctx);
    const enum vcl_status status = decode_rows(ctx[0], frame, 0, UINT64_MAX, &values);
    must(status == VCL_OK || vcl_context_message(ctx[0])[0] != 0, "a failure without a word");
    must(vcl_decode_buffer(ctx[1], frame->bytes, frame->n, again.bytes, bytes) == status,
         "another status in a buffer");
    if (status == VCL_OK) {
        must(info->codec != VCL_CODEC_ALIAS, "an alias decodes");
        must(memcmp(values.bytes, again.bytes, bytes) == 0, "other values in a buffer");
        compare_rows(ctx[2], frame, info, &values);
    }
    if (info->values <= MOST_MULTIPLIED)
        open_matrix(ctx, frame, info, turn, status, &values);
    for (int i = 0; i < LEVELS; i++)
        vcl_context_destroy(ctx[i]);
    free(values.bytes);
    free(again.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct memory frame = make_memory(size);
    struct vcl_info info = { .size = sizeof info };
    const char *target;
    size_t length;
    uint64_t values, bytes;
    memcpy(frame.bytes, data, size);
    const enum vcl_status status = vcl_peek(frame.bytes, size, &info, &target, &length);
    must((status == VCL_OK) == (info.fault == NULL), "info.fault");
    if (status == VCL_OK) {
        must(info.header_bytes <= size && info.header_bytes <= info.frame_bytes, "header_bytes");
        must(vcl_tensor_size(&info.tensor, &values, &bytes) == VCL_OK && values == info.values,
             "number of values");
        must(info.codec != VCL_CODEC_ALIAS || memchr(target, 0, length) == NULL, "an alias's name");
        if (values <= MOST)
            decode(&frame, &info, (size_t)bytes);
    }
    free(frame.bytes);
    return 0;
}
