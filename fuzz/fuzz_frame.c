/* fuzz_frame.c - any bytes as a frame: its header read, all of it decoded, some rows of it decoded
 * again.
 *
 * In: libFuzzer's bytes.  Build it, and the library with it, with VCL_FUZZING defined, which makes
 * every checksum match: mutations would not get past them otherwise.  Nothing that decodes for other
 * users is built so.  Beyond not crashing: whatever vcl_peek accepts is as large as it says, the buffer
 * and the callbacks get the same values, and rows decoded alone are those of the whole.  Frames of more
 * than MOST values are left alone: they take time, not other paths. */
#include "vcllm.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST = 1 << 18 };

struct memory {
    uint8_t *bytes;
    size_t n;
};

static void must(int holds)
{
    if (!holds)
        abort();
}

/* A block that ends where its bytes do, so that a sanitizer sees every access beyond. */
static struct memory make_memory(size_t n)
{
    struct memory memory = { malloc(n > 0 ? n : 1), n };
    must(memory.bytes != NULL);
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
    must(offset <= memory->n && n <= memory->n - offset);
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
        must(memcmp(some.bytes, whole->bytes + first * (whole->n / rows), some.n) == 0);
    free(some.bytes);
}

static void decode(struct memory *frame, const struct vcl_info *info, size_t bytes)
{
    struct vcl_context *ctx;
    struct memory values = make_memory(bytes), again = make_memory(bytes);
    must(vcl_context_create(NULL, &ctx) == VCL_OK);
    const enum vcl_status status = decode_rows(ctx, frame, 0, UINT64_MAX, &values);
    must(status == VCL_OK || vcl_context_message(ctx)[0] != 0);
    must(vcl_decode_buffer(ctx, frame->bytes, frame->n, again.bytes, bytes) == status);
    if (status == VCL_OK) {
        must(info->codec != VCL_CODEC_ALIAS && memcmp(values.bytes, again.bytes, bytes) == 0);
        compare_rows(ctx, frame, info, &values);
    }
    vcl_context_destroy(ctx);
    free(values.bytes);
    free(again.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct memory frame = make_memory(size);
    struct vcl_info info;
    const char *target;
    size_t length;
    uint64_t values, bytes;
    memcpy(frame.bytes, data, size);
    const enum vcl_status status = vcl_peek(frame.bytes, size, &info, &target, &length);
    must((status == VCL_OK) == (info.fault == NULL));
    if (status == VCL_OK) {
        must(info.header_bytes <= size && info.header_bytes <= info.frame_bytes);
        must(vcl_tensor_size(&info.tensor, &values, &bytes) == VCL_OK && values == info.values);
        must(info.codec != VCL_CODEC_ALIAS || memchr(target, 0, length) == NULL);
        if (values <= MOST)
            decode(&frame, &info, (size_t)bytes);
    }
    free(frame.bytes);
    return 0;
}
