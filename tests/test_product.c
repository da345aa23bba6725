/* Products with coded matrices: against decoding and multiplying, to the bit; every level of CPU, any
 * number of threads; damage, hostile bytes, failed allocations. */
#include "base/common.h"
#include "codec/frame.h"
#include "../fuzz/multiply.h"
#include "codec/matrix.h"
#include "random.h"
#include "sanitized.h"
#include "scarce.h"
#include "vcllm.h"

#include <dirent.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

/* ---- contexts ---------------------------------------------------------------------------------- */

static struct {
    const char *cpu;
    unsigned threads;
    struct vcl_context *ctx;
} ways[] = { { "avx512", 1, NULL }, { "avx512", 3, NULL }, { "avx2", 1, NULL },
             { "avx2", 2, NULL },   { "c", 1, NULL },      { "c", 2, NULL } };

enum { WAYS = sizeof ways / sizeof ways[0] };

static struct vcl_context *ctx; /* of the highest level */

static int open_contexts(void **unused)
{
    (void)unused;
    for (int i = WAYS - 1; i >= 0; i--) {
        struct vcl_options options;
        vcl_options_init(&options);
        options.threads = ways[i].threads;
        setenv("VCLLM_CPU", ways[i].cpu, 1);
        if (vcl_context_create(&options, &ways[i].ctx))
            return -1;
    }
    unsetenv("VCLLM_CPU");
    ctx = ways[0].ctx;
    return 0;
}

static int close_contexts(void **unused)
{
    (void)unused;
    for (int i = 0; i < WAYS; i++)
        vcl_context_destroy(ways[i].ctx);
    return 0;
}

static void *allocate(size_t n)
{
    void *const p = malloc(n ? n : 1); /* ends where its bytes do, for sanitizers */
    assert_non_null(p);
    return p;
}

/* ---- matrices ---------------------------------------------------------------------------------- */

/* A tensor, its frame, and its values as they decode. */
struct coded_sample {
    struct vcl_tensor tensor;
    uint8_t *frame;
    size_t bytes;
    uint64_t rows, cols;
    float *w;
};

static void find_shape(struct coded_sample *s)
{
    const struct vcl_tensor *const t = &s->tensor;
    s->cols = t->rank > 0 ? t->dims[t->rank - 1] : 1;
    s->rows = 1;
    for (unsigned i = 0; i + 1 < t->rank; i++)
        s->rows *= t->dims[i];
}

static void decode(struct coded_sample *s)
{
    uint64_t n, bytes;
    assert_int_equal(vcl_tensor_size(&s->tensor, &n, &bytes), VCL_OK);
    void *const raw = allocate(bytes);
    s->w = allocate(n * sizeof *s->w);
    if (vcl_decode_buffer(ctx, s->frame, s->bytes, raw, bytes))
        fail_msg("%s", vcl_context_message(ctx));
    assert_int_equal(vcl_convert(s->tensor.dtype, raw, VCL_DTYPE_F32, s->w, n), VCL_OK);
    free(raw);
    find_shape(s);
}

static struct coded_sample make_sample(const struct vcl_tensor *tensor, const float *x,
                                       const struct vcl_params *params)
{
    struct coded_sample s = { .tensor = *tensor, .bytes = (size_t)vcl_bound(tensor) };
    uint64_t n, bytes;
    assert_int_equal(vcl_tensor_size(tensor, &n, &bytes), VCL_OK);
    void *const values = allocate(bytes);
    assert_int_equal(vcl_convert(VCL_DTYPE_F32, x, tensor->dtype, values, n), VCL_OK);
    s.frame = allocate(s.bytes);
    if (vcl_encode_buffer(ctx, tensor, values, params, s.frame, &s.bytes, NULL))
        fail_msg("%s", vcl_context_message(ctx));
    s.frame = realloc(s.frame, s.bytes);
    free(values);
    decode(&s);
    return s;
}

static void free_sample(struct coded_sample *s)
{
    free(s->frame);
    free(s->w);
}

static struct vcl_params params_of(enum vcl_codec codec, double bits, int effort)
{
    struct vcl_params params;
    vcl_params_init(&params);
    params.codec = codec;
    params.target = bits;
    params.effort = effort;
    return params;
}

static struct vcl_tensor matrix(enum vcl_dtype dtype, uint64_t rows, uint64_t cols)
{
    return (struct vcl_tensor){ dtype, 2, { rows, cols } };
}

static struct vcl_matrix *open_matrix(struct vcl_context *c, const struct coded_sample *s)
{
    struct vcl_matrix *m;
    if (vcl_matrix_open(c, s->frame, s->bytes, &m))
        fail_msg("%s", vcl_context_message(c));
    return m;
}

/* ---- calls ------------------------------------------------------------------------------------ */

/* In double, and the sum of magnitudes, which errors are told by. */
static void check_error(const struct coded_sample *s, int transposed, const float *x, uint64_t output,
                        float y)
{
    const uint64_t terms = transposed ? s->rows : s->cols;
    double sum = 0, size = 0;
    for (uint64_t i = 0; i < terms; i++) {
        const double p = (double)s->w[transposed ? i * s->cols + output : output * s->cols + i] * x[i];
        sum += p;
        size += fabs(p);
    }
    if (isfinite(sum) && fabs(y - sum) > 1e-5 * size)
        fail_msg("output %llu: %.9g, should be %.9g", (unsigned long long)output, y, sum);
}

static struct call call_of(const struct coded_sample *s, int transposed, size_t n, uint64_t seed)
{
    const struct call c = make_call(s->w, s->rows, s->cols, transposed, n, seed);
    for (uint64_t o = 0; o < c.outputs; o += 1 + c.outputs / 7)
        check_error(s, transposed, c.x, o, c.expected[o]);
    return c;
}

static void check_call(struct vcl_context *c, const struct vcl_matrix *m, const struct call *call)
{
    const size_t n = call->n * call->y_stride;
    float *const y = allocate(n * sizeof *y);
    size_t at;
    if (multiply_checked(c, m, call, y, &at))
        fail_msg("%s", vcl_context_message(c));
    if (at < n)
        fail_msg("vector %zu, output %zu of %llu%s: %.9g, should be %.9g", at / call->y_stride,
                 at % call->y_stride, (unsigned long long)call->outputs,
                 call->transposed ? ", transposed" : "", y[at], call->expected[at]);
    free(y);
}

/* Both products of n vectors, every way.  The matrix is opened by one context and used by all. */
static void check_products(const struct coded_sample *s, size_t n, uint64_t seed)
{
    struct vcl_matrix *const m = open_matrix(ways[seed % WAYS].ctx, s);
    struct vcl_matrix_info info = { .size = sizeof info };
    vcl_matrix_describe(m, &info);
    assert_true(info.rows == s->rows && info.cols == s->cols && info.bytes > 0);
    for (int transposed = 0; transposed < 2; transposed++) {
        struct call call = call_of(s, transposed, n, seed);
        for (int i = 0; i < WAYS; i++)
            check_call(ways[i].ctx, m, &call);
        free_call(&call);
    }
    vcl_matrix_close(m);
}

static struct vcl_matrix_info info_of(const struct coded_sample *s)
{
    struct vcl_matrix_info info = { .size = sizeof info };
    struct vcl_matrix *const m = open_matrix(ctx, s);
    vcl_matrix_describe(m, &info);
    vcl_matrix_close(m);
    return info;
}

/* ---- weights ------------------------------------------------------------------------------------ */

/* Rows and columns of different scales, columns with means, outliers, values in two humps: what the codec has
 * stages for. */
enum {
    ROW_SCALES = 1,
    COL_SCALES = 2,
    MEANS = 4,
    OUTLIERS = 8,
    SMOOTH = 16,
    NON_FINITE = 32,
    HEAVY = 64,
    HUMPS = 128
};

static void fill_weights(float *x, uint64_t rows, uint64_t cols, unsigned kinds, uint64_t seed)
{
    uint64_t state = seed * 0x9E3779B97F4A7C15 + 1;
    for (uint64_t r = 0; r < rows; r++) {
        const double scale = kinds & ROW_SCALES ? exp2((double)(r * 7 % 11) / 2 - 3) : 1;
        for (uint64_t c = 0; c < cols; c++) {
            double v = scale * (kinds & HEAVY ? random_laplace(&state) : random_normal(&state));
            if (kinds & HUMPS)
                v = copysign(1, v) + v / 50;
            if (kinds & COL_SCALES)
                v *= exp2((double)(c * 5 % 13) / 2 - 3);
            if (kinds & SMOOTH)
                v = sin((double)r / 40 + (double)(c % 17)) + v / 100;
            if (kinds & MEANS)
                v += (double)(c % 9) - 4;
            if (kinds & OUTLIERS && random_bits(&state) % 200 == 0)
                v *= 30;
            if (kinds & NON_FINITE && random_bits(&state) % 300 == 0)
                v = random_bits(&state) % 2 ? INFINITY : (double)NAN;
            x[r * cols + c] = (float)v;
        }
    }
}

static struct coded_sample make_weights(const struct vcl_tensor *tensor, unsigned kinds,
                                        const struct vcl_params *params, uint64_t seed)
{
    struct coded_sample shape = { .tensor = *tensor };
    find_shape(&shape);
    float *const x = allocate((size_t)(shape.rows * shape.cols) * sizeof *x);
    fill_weights(x, shape.rows, shape.cols, kinds, seed);
    struct coded_sample s = make_sample(tensor, x, params);
    free(x);
    return s;
}

/* ---- tests -------------------------------------------------------------------------------------- */

/* Fault: a shape of which a row, a column or an edge of a tile is left out, taken twice or read beyond. */
static void every_shape(void **unused)
{
    (void)unused;
    static const struct vcl_tensor tensors[] = {
        { VCL_DTYPE_F32, 0, { 0 } },
        { VCL_DTYPE_F32, 1, { 0 } },
        { VCL_DTYPE_F32, 1, { 5000 } },
        { VCL_DTYPE_F32, 2, { 0, 5 } },
        { VCL_DTYPE_BF16, 2, { 5, 0 } },
        { VCL_DTYPE_F32, 2, { 1, 1 } },
        { VCL_DTYPE_F16, 2, { 1, 70 } },
        { VCL_DTYPE_BF16, 2, { 70, 1 } },
        { VCL_DTYPE_BF16, 2, { 31, 64 } },
        { VCL_DTYPE_F32, 2, { 33, 100 } },
        { VCL_DTYPE_BF16, 2, { 511, 65 } },
        { VCL_DTYPE_F16, 2, { 513, 96 } },
        { VCL_DTYPE_F64, 2, { 96, 1001 } },
        { VCL_DTYPE_BF16, 2, { 320, 128 } },
        { VCL_DTYPE_BF16, 2, { 300, 128 } },
        { VCL_DTYPE_F16, 2, { 40, 4096 } },
        { VCL_DTYPE_BF16, 2, { 3, 50000 } },
        { VCL_DTYPE_BF16, 2, { 70000, 3 } },
        { VCL_DTYPE_F32, 2, { 2000, 40 } },
        { VCL_DTYPE_BF16, 3, { 4, 128, 96 } },
        { VCL_DTYPE_F32, 4, { 64, 32, 3, 3 } },
    };
    static const size_t sizes[] = { 1, 2, 3, 4, 7, 8, 15 };
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++)
        for (int transpose = 0; transpose < 2; transpose++) {
            struct vcl_params params = params_of(VCL_CODEC_TENSOR, 17, 2);
            params.goal = VCL_GOAL_SNR;
            params.transpose = transpose;
            struct coded_sample s = make_weights(&tensors[i], 0, &params, i);
            check_products(&s, sizes[i % 7], i);
            check_products(&s, sizes[(i + 3) % 7], i);
            free_sample(&s);
        }
}

/* What the frames of a test had, so that none is forgotten when the encoder's choices change. */
enum {
    FUSED,
    TURNED,
    WITH_MEANS,
    WITH_STEPS,
    WITH_MODELS,
    WITH_TABLES,
    WITH_LOW_BITS,
    WITH_CENTROIDS,
    WITH_POINTS,
    WITH_FAR_POINTS,
    WIDE,
    KINDS
};

static const char *const kind_names[KINDS] = { "fused",        "transposed", "means",    "steps",
                                               "class models", "tables",     "low bits", "centroids",
                                               "points",       "far points", "wide" };

static void count_kinds(const struct coded_sample *s, int count[KINDS])
{
    struct vcl_matrix *const m = open_matrix(ctx, s);
    const struct vcl_frame *const frame = &m->frame;
    if (m->fused) {
        count[FUSED]++;
        count[TURNED] += m->turned;
        count[WITH_MEANS] += (frame->flags & VCL_FLAG_COL_MEANS) != 0;
        count[WITH_STEPS] += (frame->flags & VCL_FLAG_COL_STEPS) != 0;
        count[WITH_MODELS] += (frame->flags & VCL_FLAG_CLASS_MODELS) != 0;
        count[WITH_TABLES] += (frame->flags & VCL_FLAG_TABLES) != 0;
        count[WITH_LOW_BITS] += m->low_from < VCL_MODEL_CLASSES;
        count[WITH_CENTROIDS] += frame->centroid[0] != 0;
        count[WITH_POINTS] += (frame->flags & VCL_FLAG_POINTS) != 0;
        count[WITH_FAR_POINTS] += m->values.moved;
        count[WIDE] += m->values.wide;
    }
    vcl_matrix_close(m);
}

/* Fault: a stage that the kernels of products leave out or do otherwise than decoding: classes of rows and
 * columns, steps of columns, means, centroids, moves of points, low bits, tables, escapes, any trellis, any
 * rounding. */
static void every_stage(void **unused)
{
    (void)unused;
    static const double bits[] = { 0.4, 1, 2, 2.9, 3.5, 4, 4.6, 6, 9 };
    static const enum vcl_dtype dtypes[] = { VCL_DTYPE_BF16, VCL_DTYPE_F16, VCL_DTYPE_F32, VCL_DTYPE_F64 };
    enum { CASES = 72, MOST_COLS = 1200 };
    const int every = vcl_how_many(5, 1, 1); /* every fifth from 1 on: one of each kind at least */
    int count[KINDS] = { 0 }, cases = 0;
    for (uint64_t i = every > 1; i < CASES; i += (uint64_t)every, cases++) {
        uint64_t state = (i + 1) * 0x9E3779B97F4A7C15;
        const unsigned some = (unsigned)random_bits(&state) % 16 | (i % 3 == 0 ? HEAVY : 0);
        const unsigned kinds = i % 5 > 1 ? HUMPS : some;
        const uint64_t rows = 32 * (3 + random_bits(&state) % 6) + (random_bits(&state) % 2 ? 9 : 0);
        const struct vcl_tensor tensor = matrix(dtypes[i % 4], rows, 400 + random_bits(&state) % 300);
        struct vcl_params params = params_of(VCL_CODEC_TENSOR, bits[i % 9], 1 + (int)(i % 8));
        float weight[MOST_COLS];
        params.objective = i / 4 % 2 ? VCL_OBJECTIVE_MODEL : VCL_OBJECTIVE_MSE;
        params.transpose = random_bits(&state) % 4 == 0;
        params.disable = i % 8 ? VCL_STAGE_TRANSFORM : 0;
        assert_int_equal(vcl_coded_shape(&tensor, params.transpose, NULL, &params.columns), VCL_OK);
        const double spread = i % 6 == 1 ? 1 : 4; /* the larger one takes sums of classes beyond all */
        for (int c = 0; c < MOST_COLS; c++)
            weight[c] = (float)exp2(spread * random_normal(&state));
        params.col_weight = i % 3 == 1 ? weight : NULL;
        params.goal = VCL_GOAL_SNR; /* some rates are out of reach for some of these */
        params.target = 6 * bits[i % 9];
        struct coded_sample s = make_weights(&tensor, kinds, &params, i);
        count_kinds(&s, count);
        check_products(&s, 1 + i % 5, i);
        check_products(&s, 1, i + 1);
        free_sample(&s);
    }
    for (int k = 0; k < KINDS; k++)
        print_message("%s: %d of %d\n", kind_names[k], count[k], cases);
    for (int k = 0; k < KINDS; k++)
        assert_true(count[k] >= (every > 1 ? 1 : 3));
}

/* Fault: a column of tiles left out, taken twice or added in another order, where tiles are narrow: as rows with
 * a floor have them. */
static void narrow_tiles(void **unused)
{
    (void)unused;
    static const struct vcl_tensor tensors[] = { { VCL_DTYPE_F32, 2, { 2500, 512 } },
                                                 { VCL_DTYPE_BF16, 2, { 3300, 1000 } },
                                                 { VCL_DTYPE_F16, 2, { 300, 17000 } } };
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++) {
        struct vcl_params params = params_of(VCL_CODEC_TENSOR, 3, 2);
        params.row_floor = 8;
        struct coded_sample s = make_weights(&tensors[i], ROW_SCALES, &params, i);
        struct vcl_matrix *const m = open_matrix(ctx, &s);
        assert_true(m->fused && m->turned && m->frame.plan.across > 1);
        vcl_matrix_close(m);
        check_products(&s, 1, i);
        check_products(&s, 3 + 8 * i, i + 1);
        free_sample(&s);
    }
}

/* Fault: a frame that no product knows what to do with: other codecs, rotation, transforms, values set
 * aside. */
static void every_frame(void **unused)
{
    (void)unused;
    struct vcl_params params = params_of(VCL_CODEC_TENSOR, 3, 3);
    static const enum vcl_dtype dtypes[] = { VCL_DTYPE_BF16, VCL_DTYPE_F16, VCL_DTYPE_F32, VCL_DTYPE_F64 };
    for (int i = 0; i < 4; i++) {
        const struct vcl_tensor tensor = matrix(dtypes[i], 150 + (uint64_t)i, 1200);
        for (int transpose = 0; transpose < 2; transpose++) {
            params.transpose = transpose;
            params.rotate = i % 2;
            struct coded_sample s = make_weights(&tensor, i % 2 ? 0 : NON_FINITE, &params, 5);
            assert_false(info_of(&s).fused || info_of(&s).fused_transposed);
            check_products(&s, 2, 5);
            free_sample(&s);
            params.rotate = 0;
            s = make_weights(&tensor, SMOOTH, &params, 6);
            check_products(&s, 3, 6);
            free_sample(&s);
        }
        for (int codec = VCL_CODEC_EXACT; codec <= VCL_CODEC_LOSSLESS; codec++) {
            const struct vcl_params its = params_of((enum vcl_codec)codec, 3, 1);
            if (codec != VCL_CODEC_EXACT && codec != VCL_CODEC_LOSSLESS)
                continue; /* the golden vectors have the video codecs */
            struct coded_sample s = make_weights(&tensor, NON_FINITE, &its, 7);
            check_products(&s, 9, 7);
            free_sample(&s);
        }
    }
}

/* Fault: many tiles, side by side or one below the other, whose sums depend on the number of threads;
 * vectors beyond what is packed at a time. */
static void many_tiles(void **unused)
{
    (void)unused;
    static const struct {
        enum vcl_codec codec;
        uint64_t rows, cols;
        size_t n;
        int fused;
    } cases[] = {
        { VCL_CODEC_TENSOR, 1500, 1100, 1, 1 },   { VCL_CODEC_TENSOR, 1501, 1111, 10, 1 },
        { VCL_CODEC_TENSOR, 40, 40016, 2, 0 },    { VCL_CODEC_TENSOR, 64, 65536, 1, 1 },
        { VCL_CODEC_TENSOR, 64, 65536, 3, 1 },    { VCL_CODEC_EXACT, 1500, 2200, 3, 0 },
        { VCL_CODEC_LOSSLESS, 1501, 2201, 1, 0 }, { VCL_CODEC_TENSOR, 640, 64, 1100, 1 },
        { VCL_CODEC_EXACT, 9, 400001, 1, 0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct vcl_params params = params_of(cases[i].codec, 2.5, 1);
        const struct vcl_tensor tensor = matrix(VCL_DTYPE_BF16, cases[i].rows, cases[i].cols);
        struct coded_sample s = make_weights(&tensor, ROW_SCALES, &params, 11 + i);
        assert_int_equal(info_of(&s).fused, cases[i].fused);
        check_products(&s, cases[i].n, i);
        free_sample(&s);
    }
}

/* Fault: the same values that give another product from another frame. */
static void codecs_agree(void **unused)
{
    (void)unused;
    struct vcl_params params = params_of(VCL_CODEC_TENSOR, 3, 3);
    const struct vcl_tensor tensor = matrix(VCL_DTYPE_BF16, 200, 333);
    struct coded_sample s = make_weights(&tensor, COL_SCALES, &params, 1);
    for (int codec = VCL_CODEC_EXACT; codec <= VCL_CODEC_LOSSLESS; codec += 4) {
        params = params_of((enum vcl_codec)codec, 3, 3);
        struct coded_sample other = make_sample(&tensor, s.w, &params);
        struct vcl_matrix *const m = open_matrix(ctx, &other);
        struct call call = call_of(&s, 1, 5, 3);
        check_call(ctx, m, &call);
        free_call(&call);
        vcl_matrix_close(m);
        free_sample(&other);
    }
    free_sample(&s);
}

/* Blocks with nothing behind them, as far as a table is long: sanitizers do not see what vectors gather. */
enum { GUARD = 1 << 20, BEFORE = 16 };

static void *allocate_guarded(void *unused, size_t n)
{
    (void)unused;
    const size_t room = (size_t)vcl_round_up(BEFORE + n, 4096), all = room + GUARD;
    uint8_t *const pages = mmap(NULL, all, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED || mprotect(pages + room, GUARD, PROT_NONE))
        return NULL;
    uint8_t *const block = pages + (room - n) / BEFORE * BEFORE;
    memcpy(block - BEFORE, &pages, sizeof pages);
    memcpy(block - BEFORE / 2, &all, sizeof all);
    return block;
}

static void release_guarded(void *unused, void *block)
{
    (void)unused;
    uint8_t *pages;
    size_t all;
    memcpy(&pages, (uint8_t *)block - BEFORE, sizeof pages);
    memcpy(&all, (uint8_t *)block - BEFORE / 2, sizeof all);
    munmap(pages, all);
}

/* Both products at every level in such blocks. */
static void check_guarded(const struct coded_sample *s)
{
    struct call calls[4] = { call_of(s, 0, 1, 1), call_of(s, 0, 3, 1), call_of(s, 1, 1, 1),
                             call_of(s, 1, 3, 1) };
    for (int i = 0; i < WAYS; i += 2) {
        struct vcl_options options;
        struct vcl_context *c;
        vcl_options_init(&options);
        options.allocate = allocate_guarded;
        options.release = release_guarded;
        setenv("VCLLM_CPU", ways[i].cpu, 1);
        assert_int_equal(vcl_context_create(&options, &c), VCL_OK);
        struct vcl_matrix *const m = open_matrix(c, s);
        for (int k = 0; k < 4; k++)
            check_call(c, m, &calls[k]);
        vcl_matrix_close(m);
        vcl_context_destroy(c);
    }
    unsetenv("VCLLM_CPU");
    for (int k = 0; k < 4; k++)
        free_call(&calls[k]);
}

/* Fault: a golden frame, of a kind that the encoder here did not make, multiplied wrongly; a class of lanes
 * without a row that has no table. */
static void golden_frames(void **unused)
{
    (void)unused;
    DIR *const folder = opendir(VCL_TEST_VECTORS);
    int count = 0;
    assert_non_null(folder);
    for (const struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        char path[1024];
        struct coded_sample s = { .bytes = 1 << 20 };
        struct vcl_info info = { .size = sizeof info };
        snprintf(path, sizeof path, "%s/%s", VCL_TEST_VECTORS, entry->d_name);
        FILE *const file = strstr(entry->d_name, ".frame") ? fopen(path, "rb") : NULL;
        if (!file)
            continue;
        s.frame = allocate(s.bytes);
        s.bytes = fread(s.frame, 1, s.bytes, file);
        fclose(file);
        assert_int_equal(vcl_peek(s.frame, s.bytes, &info, NULL, NULL), VCL_OK);
        s.tensor = info.tensor;
        const int decodes = vcl_decode_buffer(ctx, s.frame, s.bytes, NULL, 0) != VCL_E_CODEC;
        if (decodes && vcl_dtype_is_float(info.tensor.dtype)) {
            if (info.codec == VCL_CODEC_H264 || info.codec == VCL_CODEC_H265) {
                uint8_t *const values = allocate((size_t)info.values * 8);
                const enum vcl_status status =
                    vcl_decode_buffer(ctx, s.frame, s.bytes, values, (size_t)info.values * 8);
                free(values);
                if (status == VCL_E_CODEC) { /* no video module here */
                    free(s.frame);
                    continue;
                }
            }
            decode(&s);
            check_products(&s, 1, (uint64_t)count);
            check_products(&s, 3, (uint64_t)count);
            check_guarded(&s);
            count++;
        }
        free_sample(&s);
    }
    closedir(folder);
    print_message("%d golden frames\n", count);
    assert_true(count > 10);
}

/* Fault: tables for classes that nobody has, or tables of every matrix as large as decoding's. */
static void memory_is_small(void **unused)
{
    (void)unused;
    const struct vcl_params params = params_of(VCL_CODEC_TENSOR, 2.9, 2);
    const struct vcl_tensor tensor = matrix(VCL_DTYPE_BF16, 512, 768);
    struct coded_sample s = make_weights(&tensor, 0, &params, 1);
    print_message("one class: %zu bytes\n", info_of(&s).bytes);
    assert_true(info_of(&s).bytes < 20000);
    free_sample(&s);
    s = make_weights(&tensor, ROW_SCALES, &params, 1);
    print_message("rows of 11 scales: %zu bytes\n", info_of(&s).bytes);
    assert_true(info_of(&s).bytes < 120000);
    free_sample(&s);
}

/* ---- refusals ------------------------------------------------------------------------------------ */

/* Fault: damage that goes unnoticed, or is reported of another tile. */
static void damage_is_found(void **unused)
{
    (void)unused;
    const struct vcl_params params = params_of(VCL_CODEC_TENSOR, 2, 1);
    const struct vcl_tensor tensor = matrix(VCL_DTYPE_BF16, 2200, 1100);
    struct coded_sample s = make_weights(&tensor, 0, &params, 1);
    struct vcl_frame frame;
    const char *why;
    struct vcl_matrix *m;
    assert_int_equal(vcl_frame_parse(s.frame, s.bytes, &frame, &why), VCL_OK);
    assert_true(frame.plan.tiles == 3);
    size_t at = frame.header_bytes;
    for (uint64_t tile = 0; tile < 3; tile++) {
        const size_t size = vcl_load32(s.frame + vcl_frame_entry(&frame, tile));
        for (size_t i = 0; i < 3; i++) {
            char words[32];
            uint8_t *const victim = s.frame + at + i * (size - 1) / 2;
            snprintf(words, sizeof words, "tile %d:", (int)tile);
            *victim ^= 4;
            assert_int_equal(vcl_matrix_open(ways[i].ctx, s.frame, s.bytes, &m), VCL_E_CHECKSUM);
            assert_null(m);
            assert_non_null(strstr(vcl_context_message(ways[i].ctx), words));
            *victim ^= 4;
        }
        at += size;
    }
    for (size_t i = 0; i < frame.header_bytes; i += 5) {
        s.frame[i] ^= 1;
        assert_true(vcl_matrix_open(ctx, s.frame, s.bytes, &m) != VCL_OK);
        s.frame[i] ^= 1;
    }
    for (size_t n = 0; n < s.bytes; n += 1 + n) {
        uint8_t *const cut = allocate(n);
        memcpy(cut, s.frame, n);
        assert_true(vcl_matrix_open(ctx, cut, n, &m) != VCL_OK);
        free(cut);
    }
    assert_int_equal(vcl_matrix_open(ctx, s.frame, s.bytes + 8, &m), VCL_E_FORMAT);
    free_sample(&s);
}

/* New checksums for changed bytes of a frame, whose tiles were as large as `original` says. */
static void sign_frame(uint8_t *bytes, const uint8_t *original, const struct vcl_frame *frame)
{
    size_t at = frame->header_bytes;
    for (uint64_t i = 0; i < frame->plan.tiles; i++) {
        const size_t size = vcl_load32(original + vcl_frame_entry(frame, i));
        vcl_store32(bytes + vcl_frame_entry(frame, i) + 4, vcl_hash32(bytes + at, size));
        at += size;
    }
    vcl_store32(bytes + frame->header_bytes - 4, vcl_hash32(bytes, frame->header_bytes - 4));
}

/* Neither decodes nor opens. */
static void check_refused(const uint8_t *bytes, size_t n, enum vcl_status status)
{
    struct vcl_matrix *m;
    uint8_t *const values = allocate(1 << 16);
    assert_int_equal(vcl_decode_buffer(ctx, bytes, n, values, 1 << 16), status);
    assert_int_equal(vcl_matrix_open(ctx, bytes, n, &m), status);
    assert_null(m);
    assert_non_null(strstr(vcl_context_message(ctx), "tile 0:"));
    free(values);
}

/* Fault: a frame with valid checksums that opens though it does not decode: one tile whose values have
 * another checksum, or with more bytes than any encoder writes. */
static void what_does_not_decode_does_not_open(void **unused)
{
    (void)unused;
    enum { MORE = 1 << 16 };
    static const enum vcl_codec codecs[] = { VCL_CODEC_EXACT, VCL_CODEC_LOSSLESS, VCL_CODEC_TENSOR };
    const struct vcl_tensor tensor = matrix(VCL_DTYPE_F32, 40, 64);
    for (size_t i = 0; i < sizeof codecs / sizeof codecs[0]; i++) {
        const struct vcl_params params = params_of(codecs[i], 5, 1);
        struct coded_sample s = make_weights(&tensor, 0, &params, 1);
        struct vcl_frame frame;
        const char *why;
        assert_int_equal(vcl_frame_parse(s.frame, s.bytes, &frame, &why), VCL_OK);
        assert_true(frame.plan.tiles == 1);
        uint8_t *const changed = calloc(s.bytes + MORE, 1);
        assert_non_null(changed);
        memcpy(changed, s.frame, s.bytes);
        if (codecs[i] == VCL_CODEC_EXACT) {
            changed[vcl_frame_entry(&frame, 0) + 8] ^= 1;
            sign_frame(changed, s.frame, &frame);
            check_refused(changed, s.bytes, VCL_E_CHECKSUM);
            changed[vcl_frame_entry(&frame, 0) + 8] ^= 1;
        }
        vcl_store32(changed + vcl_frame_entry(&frame, 0),
                    vcl_load32(s.frame + vcl_frame_entry(&frame, 0)) + MORE);
        vcl_store64(changed + 16, s.bytes + MORE);
        sign_frame(changed, changed, &frame);
        check_refused(changed, s.bytes + MORE, VCL_E_FORMAT);
        free(changed);
        free_sample(&s);
    }
}

/* Fault: bytes with valid checksums that make a product read or write where it must not, or that it takes
 * for a matrix though decoding does not. */
static void hostile_bytes_do_no_harm(void **unused)
{
    (void)unused;
    static const uint64_t shapes[][2] = { { 64, 600 }, { 100, 400 }, { 40, 30 }, { 33, 2000 } };
    int refused = 0, all = 0;
    for (uint64_t i = 0; i < 4; i++)
        for (unsigned kinds = 0; kinds < 8; kinds++) {
            struct vcl_params params = params_of(VCL_CODEC_TENSOR, kinds % 2 ? 2 : 5, 1);
            const struct vcl_tensor tensor = matrix(VCL_DTYPE_F16, shapes[i][0], shapes[i][1]);
            params.transpose = kinds == 3;
            struct coded_sample s = make_weights(&tensor, kinds, &params, i);
            struct vcl_frame frame;
            const char *why;
            assert_int_equal(vcl_frame_parse(s.frame, s.bytes, &frame, &why), VCL_OK);
            uint64_t state = 77 + kinds;
            for (int trial = 0; trial < 40; trial++) {
                uint8_t *const changed = allocate(s.bytes);
                struct vcl_matrix *m = NULL;
                memcpy(changed, s.frame, s.bytes);
                for (uint64_t k = random_bits(&state) % 4 + 1; k > 0; k--) {
                    const size_t first = trial % 2 ? frame.header_bytes : 24 + 16;
                    const size_t at = first + random_bits(&state) % (s.bytes - first);
                    changed[at] = trial % 3 ? (uint8_t)random_bits(&state) : (uint8_t)(changed[at] ^ 1);
                }
                sign_frame(changed, s.frame, &frame);
                const enum vcl_status opened = vcl_matrix_open(ctx, changed, s.bytes, &m);
                if (opened == VCL_OK) {
                    struct vcl_matrix_info info = { .size = sizeof info };
                    vcl_matrix_describe(m, &info);
                    if (info.rows * info.cols <= s.rows * s.cols) {
                        const size_t most = (size_t)(info.rows > info.cols ? info.rows : info.cols);
                        float *const x = allocate(3 * most * sizeof *x), *const y =
                                                                             allocate(3 * most * sizeof *y);
                        random_fill(x, 3 * most, 1, random_normal);
                        for (int way = 0; way < WAYS; way++) {
                            const enum vcl_status one =
                                vcl_multiply(ways[way].ctx, m, x, 1, info.cols, y, info.rows);
                            const enum vcl_status three =
                                vcl_multiply_transposed(ways[way].ctx, m, x, 3, info.rows, y, info.cols);
                            assert_true(one == VCL_OK || one == VCL_E_FORMAT || one == VCL_E_CHECKSUM);
                            assert_int_equal(one, three);
                            refused += one != VCL_OK;
                            all++;
                        }
                        free(x);
                        free(y);
                    }
                    vcl_matrix_close(m);
                }
                free(changed);
            }
            free_sample(&s);
        }
    print_message("%d of %d products of changed frames refused\n", refused, all);
}

/* Fault: an argument that is believed. */
static void arguments_are_checked(void **unused)
{
    (void)unused;
    const struct vcl_params params = params_of(VCL_CODEC_EXACT, 2, 1);
    const struct vcl_tensor tensor = matrix(VCL_DTYPE_F32, 4, 6);
    struct coded_sample s = make_weights(&tensor, 0, &params, 1);
    struct vcl_matrix *m;
    float x[12] = { 0 }, y[8];
    uint8_t alias[VCL_MAX_NAME + 256];
    size_t bytes = sizeof alias;
    assert_int_equal(vcl_matrix_open(NULL, s.frame, s.bytes, &m), VCL_E_ARGUMENT);
    assert_int_equal(vcl_matrix_open(ctx, NULL, s.bytes, &m), VCL_E_ARGUMENT);
    assert_int_equal(vcl_matrix_open(ctx, s.frame, s.bytes, NULL), VCL_E_ARGUMENT);
    assert_int_equal(vcl_alias_encode(&tensor, "other", alias, &bytes), VCL_OK);
    assert_int_equal(vcl_matrix_open(ctx, alias, bytes, &m), VCL_E_ARGUMENT);
    assert_non_null(strstr(vcl_context_message(ctx), "alias"));
    m = open_matrix(ctx, &s);
    assert_int_equal(vcl_multiply(NULL, m, x, 1, 6, y, 4), VCL_E_ARGUMENT);
    assert_int_equal(vcl_multiply(ctx, NULL, x, 1, 6, y, 4), VCL_E_ARGUMENT);
    assert_int_equal(vcl_multiply(ctx, m, NULL, 1, 6, y, 4), VCL_E_ARGUMENT);
    assert_int_equal(vcl_multiply(ctx, m, x, 1, 6, NULL, 4), VCL_E_ARGUMENT);
    assert_int_equal(vcl_multiply(ctx, m, x, 2, 5, y, 4), VCL_E_ARGUMENT);
    assert_int_equal(vcl_multiply(ctx, m, x, 2, 6, y, 3), VCL_E_ARGUMENT);
    assert_int_equal(vcl_multiply_transposed(ctx, m, x, 2, 4, y, 5), VCL_E_ARGUMENT);
    assert_int_equal(vcl_multiply(ctx, m, NULL, 0, 0, NULL, 0), VCL_OK);
    assert_int_equal(vcl_multiply(ctx, m, x, 1, 0, y, 0), VCL_OK);
    vcl_matrix_close(m);
    vcl_matrix_close(NULL);
    free_sample(&s);
}

static void integers_are_refused(void **unused)
{
    (void)unused;
    const struct vcl_tensor tensor = matrix(VCL_DTYPE_I32, 4, 6);
    const struct vcl_params params = params_of(VCL_CODEC_EXACT, 2, 1);
    const int32_t values[24] = { 1 };
    uint8_t frame[1024];
    size_t bytes = sizeof frame;
    struct vcl_matrix *m;
    assert_int_equal(vcl_encode_buffer(ctx, &tensor, values, &params, frame, &bytes, NULL), VCL_OK);
    assert_int_equal(vcl_matrix_open(ctx, frame, bytes, &m), VCL_E_ARGUMENT);
}

/* ---- memory and threads -------------------------------------------------------------------------- */

static enum vcl_status multiply_scarcely(struct vcl_options *options, const struct coded_sample *s)
{
    struct vcl_context *c;
    struct vcl_matrix *m;
    const size_t most = (size_t)(s->rows > s->cols ? s->rows : s->cols);
    float *const x = calloc(4 * most, sizeof *x), *const y = x + 2 * most;
    assert_non_null(x);
    enum vcl_status status = vcl_context_create(options, &c);
    if (!status) {
        status = vcl_matrix_open(c, s->frame, s->bytes, &m);
        if (!status) {
            status = vcl_multiply(c, m, x, 2, s->cols, y, s->rows);
            if (!status)
                status = vcl_multiply_transposed(c, m, x, 1, 0, y, 0);
            vcl_matrix_close(m);
        }
        vcl_context_destroy(c);
    }
    free(x);
    return status;
}

/* Fault: a failed allocation that crashes, leaks or is taken for something else. */
static void allocations_may_fail(void **unused)
{
    (void)unused;
    for (int kind = 0; kind < 5; kind++) {
        struct vcl_params params = params_of(kind == 4 ? VCL_CODEC_LOSSLESS : VCL_CODEC_TENSOR, 3, 1);
        const struct vcl_tensor tensor = matrix(VCL_DTYPE_F32, 400, 200);
        params.rotate = kind == 3;
        params.transpose = kind == 1;
        struct coded_sample s = make_weights(&tensor, kind == 2 ? MEANS | COL_SCALES : 0, &params, 1);
        for (long left = 0;; left++) {
            struct scarce scarce = { left, 0 };
            struct vcl_options options;
            vcl_options_init(&options);
            options.user = &scarce;
            options.allocate = scarce_allocate;
            options.release = scarce_release;
            const enum vcl_status status = multiply_scarcely(&options, &s);
            assert_true(status == VCL_OK || status == VCL_E_MEMORY);
            assert_true(scarce.blocks == 0);
            if (status == VCL_OK)
                break;
            assert_true(left < 200);
        }
        free_sample(&s);
    }
}

static int cancel_now(void *user) { return *(int *)user; }

static void cancelling(void **unused)
{
    (void)unused;
    for (int kind = 0; kind < 2; kind++) {
        const struct vcl_params params = params_of(kind ? VCL_CODEC_LOSSLESS : VCL_CODEC_TENSOR, 3, 1);
        const struct vcl_tensor tensor = matrix(VCL_DTYPE_F32, 400, 200);
        struct coded_sample s = make_weights(&tensor, 0, &params, 1);
        struct vcl_options options;
        struct vcl_context *c;
        int cancelled = 0;
        float x[400] = { 0 }, y[400];
        vcl_options_init(&options);
        options.cancel = cancel_now;
        options.user = &cancelled;
        assert_int_equal(vcl_context_create(&options, &c), VCL_OK);
        struct vcl_matrix *const m = open_matrix(c, &s);
        assert_int_equal(vcl_multiply(c, m, x, 1, 0, y, 0), VCL_OK);
        cancelled = 1;
        assert_int_equal(vcl_multiply(c, m, x, 1, 0, y, 0), VCL_E_CANCELLED);
        assert_int_equal(vcl_multiply_transposed(c, m, x, 1, 0, y, 0), VCL_E_CANCELLED);
        vcl_matrix_close(m);
        vcl_context_destroy(c);
        free_sample(&s);
    }
}

struct user {
    const struct vcl_matrix *m;
    const struct call *call;
    int wrong;
};

static void *multiply_often(void *arg)
{
    struct user *const user = arg;
    struct vcl_context *c;
    const size_t n = user->call->n * user->call->y_stride;
    float *const y = malloc(n * sizeof *y);
    user->wrong = vcl_context_create(NULL, &c) != VCL_OK;
    for (int i = 0; i < 20 && !user->wrong; i++) {
        size_t at;
        user->wrong |= multiply_checked(c, user->m, user->call, y, &at) != VCL_OK || at < n;
    }
    vcl_context_destroy(c);
    free(y);
    return NULL;
}

/* Fault: a matrix that changes while it is used; the context that opened it is gone by then. */
static void contexts_share_a_matrix(void **unused)
{
    (void)unused;
    enum { USERS = 4 };
    for (int rotate = 0; rotate < 2; rotate++) { /* fused; and with tables that decoding makes when needed */
        struct vcl_params params = params_of(VCL_CODEC_TENSOR, 3, 1);
        const struct vcl_tensor tensor = matrix(VCL_DTYPE_BF16, 256, 300);
        params.rotate = rotate;
        struct coded_sample s = make_weights(&tensor, ROW_SCALES, &params, 1);
        struct vcl_context *c;
        struct user users[USERS];
        pthread_t threads[USERS];
        struct call calls[2] = { call_of(&s, 0, 3, 1), call_of(&s, 1, 1, 2) };
        assert_int_equal(vcl_context_create(NULL, &c), VCL_OK);
        struct vcl_matrix *const m = open_matrix(c, &s);
        vcl_context_destroy(c);
        for (int i = 0; i < USERS; i++) {
            users[i] = (struct user){ m, &calls[i % 2], 0 };
            assert_int_equal(pthread_create(&threads[i], NULL, multiply_often, &users[i]), 0);
        }
        for (int i = 0; i < USERS; i++) {
            pthread_join(threads[i], NULL);
            assert_false(users[i].wrong);
        }
        for (int i = 0; i < 2; i++)
            free_call(&calls[i]);
        vcl_matrix_close(m);
        free_sample(&s);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_shape),
        cmocka_unit_test(every_stage),
        cmocka_unit_test(narrow_tiles),
        cmocka_unit_test(every_frame),
        cmocka_unit_test(many_tiles),
        cmocka_unit_test(codecs_agree),
        cmocka_unit_test(golden_frames),
        cmocka_unit_test(memory_is_small),
        cmocka_unit_test(damage_is_found),
        cmocka_unit_test(what_does_not_decode_does_not_open),
        cmocka_unit_test(hostile_bytes_do_no_harm),
        cmocka_unit_test(arguments_are_checked),
        cmocka_unit_test(integers_are_refused),
        cmocka_unit_test(allocations_may_fail),
        cmocka_unit_test(cancelling),
        cmocka_unit_test(contexts_share_a_matrix),
    };
    return cmocka_run_group_tests(tests, open_contexts, close_contexts);
}
