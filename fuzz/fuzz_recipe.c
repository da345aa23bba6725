/* fuzz_recipe.c - any bytes as a recipe: loaded, scaled, saved; values coded with it and decoded again.
 *
 * In: libFuzzer's bytes; built so that every checksum matches, as fuzz_frame.c says.  Beyond not crashing: what
 * loads saves the same bytes; what is coded with it decodes to values of the SNR that the report tells, or is
 * lossless, at every level of CPU to the same frame. */
#include "vcllm.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_VALUES = 1 << 14, ROWS = 40 };

static const char *const cpus[] = { "c", "avx2", "avx512" };

static void must(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "fuzz_recipe: %s\n", what);
    abort();
}

struct store {
    uint8_t *bytes;
    size_t n;
};

static int read_store(void *user, uint64_t offset, void *dst, size_t n)
{
    const struct store *const store = user;
    must(offset <= store->n && n <= store->n - offset, "values read beyond their end");
    memcpy(dst, store->bytes + offset, n);
    return 0;
}

static int write_store(void *user, uint64_t offset, const void *src, size_t n)
{
    struct store *const store = user;
    must(offset <= store->n && n <= store->n - offset, "bytes written beyond the bound");
    memcpy(store->bytes + offset, src, n);
    return 0;
}

/* Values about as large as a few of the recipe's steps, some far from that. */
static float *draw(size_t n, double step, unsigned state)
{
    float *const x = malloc(n * sizeof *x);
    must(x != NULL, "no memory");
    for (size_t i = 0; i < n; i++) {
        state = state * 1664525 + 1013904223;
        const double u = (double)(state >> 8) / (1 << 23) - 1;
        x[i] = (float)(u * 3 * step);
        if (i % 251 == 7)
            x[i] = i % 2 ? (float)ldexp(u, (int)(state >> 24) - 128) : (float)(u / 0.0);
    }
    return x;
}

/* The frame's bytes, *frame as large as the bound. */
static enum vcl_status encode(const char *cpu, const struct store *recipe_bytes, double factor,
                              const struct vcl_tensor *tensor, struct store *values, struct store *frame,
                              struct vcl_report *report)
{
    const struct vcl_source source = { values, read_store, NULL };
    const struct vcl_sink sink = { frame, write_store, NULL };
    struct vcl_context *ctx;
    struct vcl_recipe *recipe;
    must(setenv("VCLLM_CPU", cpu, 1) == 0 && vcl_context_create(NULL, &ctx) == VCL_OK, "no context");
    must(vcl_recipe_load(ctx, recipe_bytes->bytes, recipe_bytes->n, &recipe) == VCL_OK, "loads once only");
    if (vcl_recipe_scale(recipe, factor))
        factor = 1;
    const enum vcl_status status = vcl_recipe_encode(ctx, recipe, tensor, &source, &sink, report);
    must(status == VCL_OK || vcl_context_message(ctx)[0] != 0, "a failure without a word");
    vcl_recipe_destroy(recipe);
    vcl_context_destroy(ctx);
    return status;
}

static void decode(const struct vcl_tensor *tensor, const struct store *frame,
                   const struct vcl_report *report, const struct store *values)
{
    struct vcl_context *ctx;
    struct vcl_error_sums sums = { 0 };
    uint8_t *const back = malloc(values->n);
    must(back && vcl_context_create(NULL, &ctx) == VCL_OK, "no context");
    must(vcl_decode_buffer(ctx, frame->bytes, (size_t)report->frame_bytes, back, values->n) == VCL_OK,
         "what was coded does not decode");
    vcl_compare(tensor->dtype, values->bytes, back, values->n / 4, &sums);
    must(sums.mismatches == 0, "non-finite values are lost");
    must(report->codec == VCL_CODEC_LOSSLESS ? sums.error == 0 : !(vcl_snr(&sums) <= 0), "values are lost");
    free(back);
    vcl_context_destroy(ctx);
}

static void use(const struct store *bytes, const struct vcl_recipe_info *info)
{
    const uint64_t rows = info->transposed ? info->cols : ROWS,
                   cols = info->transposed ? ROWS * 4 : info->cols;
    const struct vcl_tensor tensor = { VCL_DTYPE_F32, 2, { rows, cols } };
    uint64_t coded;
    if (info->cols > MOST_VALUES / ROWS / 4 || vcl_coded_shape(&tensor, info->transposed, NULL, &coded)
        || coded != info->cols)
        return;
    const double factor = bytes->n % 3 == 0 ? 1 : exp2((double)(int8_t)bytes->bytes[bytes->n / 2] / 16);
    struct store values = { (uint8_t *)draw((size_t)(rows * cols), info->step * factor, (unsigned)info->hash),
                            (size_t)(rows * cols) * 4 };
    struct store first = { NULL, 0 };
    for (size_t i = 0; i < sizeof cpus / sizeof cpus[0]; i++) {
        struct vcl_report report = { .size = sizeof report };
        struct store frame = { malloc((size_t)vcl_bound(&tensor)), (size_t)vcl_bound(&tensor) };
        must(frame.bytes != NULL, "no memory");
        must(encode(cpus[i], bytes, factor, &tensor, &values, &frame, &report) == VCL_OK,
             "a recipe that fails");
        frame.n = (size_t)report.frame_bytes;
        if (i == 0) {
            decode(&tensor, &frame, &report, &values);
            first = frame;
            continue;
        }
        must(frame.n == first.n && memcmp(frame.bytes, first.bytes, frame.n) == 0,
             "another frame on another CPU");
        free(frame.bytes);
    }
    free(first.bytes);
    free(values.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct store bytes = { malloc(size ? size : 1), size };
    struct vcl_context *ctx;
    struct vcl_recipe *recipe;
    must(bytes.bytes && vcl_context_create(NULL, &ctx) == VCL_OK, "no context");
    memcpy(bytes.bytes, data, size);
    const enum vcl_status status = vcl_recipe_load(ctx, bytes.bytes, size, &recipe);
    must(status == VCL_OK || (recipe == NULL && vcl_context_message(ctx)[0] != 0),
         "a failure without a word");
    if (status == VCL_OK) {
        struct vcl_recipe_info info = { .size = sizeof info };
        must(vcl_recipe_describe(recipe, &info) == VCL_OK, "a recipe that is not described");
        vcl_recipe_destroy(recipe);
        use(&bytes, &info);
    }
    vcl_context_destroy(ctx);
    free(bytes.bytes);
    return 0;
}
