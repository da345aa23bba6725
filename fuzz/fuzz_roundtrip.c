/* fuzz_roundtrip.c - any bytes as a tensor and parameters: encoded, decoded, and held against what vcllm.h
 * promises.
 *
 * In: libFuzzer's bytes.  The first ones choose parameters, shape and how values are made, in the order of
 * read_case; every five after them put a value or a run of values somewhere: NaN, infinities, denormals,
 * the largest, or any bits.  Beyond not crashing: the frame keeps vcl_bound and the target, decodes to
 * what the report says of it and to the very values where they are not finite, any rows alone decode to
 * the same, its products are those of its values to the bit, and another level of CPU with more threads, in a
 * context used before, makes the same bytes of it.
 * tests/test_roundtrip.c runs this without libFuzzer.  What fails says so on stderr before it aborts. */
#include "multiply.h"
#include "vcllm.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Values of a tensor.  From 2^15 on it has 32 lanes, which levels of CPU treat differently, but most inputs
 * are to be quick, and 256 states take as long over a few as 8 states over many. */
enum { MOST = 1 << 16, MOST_MOSTLY = 1 << 12, MOST_THOROUGH = 1 << 10, THOROUGH = 7, MOST_COLUMNS = 300 };

static const char *const goals[] = { "bits", "snr", "error" };

static struct {
    const char *cpu;
    unsigned threads;
} const ways[] = { { "c", 1 }, { "avx2", 3 }, { "avx512", 3 } };

enum { WAYS = sizeof ways / sizeof *ways };

struct input {
    const uint8_t *at;
    size_t left;
};

struct test {
    struct vcl_tensor tensor;
    struct vcl_params params;
    uint64_t values, bytes;
    uint8_t *raw;
    float *weight, *feedback;
    int way; /* the other one that it goes */
};

/* What a level of CPU made of a test. */
struct result {
    enum vcl_status status;
    uint8_t *frame;
    size_t bytes;
    struct vcl_report report;
};

static void print_test(const struct test *t)
{
    const struct vcl_params *const p = &t->params;
    fprintf(stderr, "%s of rank %u:", vcl_dtype_name(t->tensor.dtype), t->tensor.rank);
    for (unsigned i = 0; i < t->tensor.rank; i++)
        fprintf(stderr, " %llu", (unsigned long long)t->tensor.dims[i]);
    fprintf(stderr,
            "; codec %s, %s %.9g, effort %d, objective %d, rotate %d, seed %u, disable %u, transpose %d, "
            "weights %d, feedback %d\n",
            vcl_codec_name(p->codec), goals[p->goal], p->target, p->effort, p->objective, p->rotate, p->seed,
            p->disable, p->transpose, p->col_weight != NULL, p->feedback != NULL);
}

static void must(const struct test *t, int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "fuzz_roundtrip: %s\n", what);
    if (t)
        print_test(t);
    abort();
}

/* A block that ends where its bytes do, so that a sanitizer sees every access beyond. */
static void *block(size_t n)
{
    void *const memory = malloc(n > 0 ? n : 1);
    must(NULL, memory != NULL, "no memory");
    return memory;
}

/* ---- a case ---------------------------------------------------------------------------------- */

static unsigned take(struct input *in, unsigned choices)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->at++ % choices;
}

static unsigned take16(struct input *in)
{
    const unsigned high = take(in, 256);
    return high << 8 | take(in, 256);
}

static void read_params(struct input *in, struct vcl_params *p)
{
    static const enum vcl_codec codecs[8] = {
        VCL_CODEC_TENSOR, VCL_CODEC_TENSOR, VCL_CODEC_TENSOR, VCL_CODEC_TENSOR,
        VCL_CODEC_TENSOR, VCL_CODEC_TENSOR, VCL_CODEC_TENSOR, VCL_CODEC_LOSSLESS,
    };
    vcl_params_init(p);
    p->codec = codecs[take(in, 8)];
    static const enum vcl_goal goals_mostly[5] = { VCL_GOAL_BITS, VCL_GOAL_SNR, VCL_GOAL_BITS, VCL_GOAL_SNR,
                                                   VCL_GOAL_ERROR };
    p->goal = p->codec == VCL_CODEC_TENSOR ? goals_mostly[take(in, 5)] : VCL_GOAL_BITS;
    const double place = take16(in) / 65535.0;
    p->target = p->goal == VCL_GOAL_BITS ? 0.01 + 63.99 * place * place * place
              : p->goal == VCL_GOAL_SNR  ? -10 + 210 * place
                                         : ldexp(1 + place, (int)(60 * place) - 40);
    p->effort = 1 + (int)take(in, 9);
    p->objective = take(in, 2) ? VCL_OBJECTIVE_MODEL : VCL_OBJECTIVE_MSE;
    p->rotate = take(in, 4) == 3;
    p->seed = take16(in);
    p->disable = take(in, 4) == 3 ? take(in, 128) : 0;
    p->transpose = (int)take(in, 2);
}

/* Up to four dims of any size, cut to what is left of MOST; now and then a 0. */
static void read_shape(struct input *in, const struct vcl_params *p, struct vcl_tensor *tensor)
{
    static const unsigned ranks[8] = { 2, 2, 2, 2, 1, 3, 4, 0 };
    const uint64_t some = take(in, 4) == 3 ? MOST : MOST_MOSTLY,
                   most = p->effort > THOROUGH ? MOST_THOROUGH : some;
    uint64_t product = 1;
    tensor->rank = ranks[take(in, 8)];
    for (unsigned i = 0; i < tensor->rank; i++) {
        const unsigned bits = take(in, 17);
        const uint64_t n = ((uint64_t)1 << bits) + take16(in) % ((uint64_t)1 << bits);
        tensor->dims[i] = n <= most / product ? n : most / product;
        product *= tensor->dims[i];
    }
    if (take(in, 64) == 63 && tensor->rank > 0)
        tensor->dims[tensor->rank - 1] = 0;
}

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
    return z ^ (z >> 31);
}

/* Near normal, of deviation 1. */
static double noise(uint64_t seed)
{
    const uint64_t z = mix(seed + 0x9E3779B97F4A7C15);
    const double sum = (double)(z & 0xffff) + (double)(z >> 16 & 0xffff) + (double)(z >> 32 & 0xffff);
    return (sum / 32768 - 3) * 1.0;
}

enum value_kind {
    NORMAL,
    HEAVY,
    SPARSE,
    CONSTANT,
    RAMP,
    SMOOTH_ALONG,
    SMOOTH_DOWN,
    FEW,
    GROUPED,
    OFFSET,
    BITS,
    KINDS
};

/* Integers times a scale and plus an offset for every 32, both of a few bits; for every 256 of fewer still */
static double draw_offset(double n, size_t group, uint64_t seed)
{
    const uint64_t z = mix(seed << 32 ^ ~(uint64_t)group), inner = mix(seed << 32 ^ ~(uint64_t)(group / 8));
    const double scale =
        ldexp(seed & 1 ? (double)(z % 63 + 1) * (double)(inner & 1023) : (double)(z & 1023), -12);
    const double offset =
        ldexp(seed & 1 ? (double)(z >> 8 & 63) * (double)(inner >> 12 & 1023) : (double)(z >> 12 & 1023), -9);
    return fmin(fmax(rint(3 * n + 7), 0), 15) * scale - offset;
}

static double draw(enum value_kind kind, const double *x, size_t i, size_t cols, uint64_t seed)
{
    const double n = noise(seed << 32 ^ i);
    switch (kind) {
    case HEAVY: return n * n * n;
    case SPARSE: return i % 11 ? 0 : n;
    case CONSTANT: return 1.5;
    case RAMP: return (double)i;
    case SMOOTH_ALONG: return i > 0 ? x[i - 1] + n : n;
    case SMOOTH_DOWN: return i >= cols ? x[i - cols] + n : 4 * n;
    case FEW: return .0123 * rint(n);
    case GROUPED: return (float)rint(3 * n) * (float)(1.5 + noise(seed << 32 ^ ~(i / 32)) / 4);
    case OFFSET: return draw_offset(n, i / 32, seed);
    default: return n;
    }
}

/* Rows, columns or both of different size; columns with means. */
static void vary(double *x, size_t n, size_t cols, unsigned how, int exponent)
{
    for (size_t i = 0; i < n; i++) {
        const size_t row = i / cols, col = i % cols;
        int e = exponent;
        e += how & 1 ? (int)(mix(row) % 13) - 6 : 0;
        e += how & 2 ? (int)(mix(~col) % 13) - 6 : 0;
        x[i] = ldexp(x[i] + (how & 4 ? 5 * noise(col) : 0), e);
    }
}

static void fill_values(struct input *in, struct test *t)
{
    const enum value_kind kind = (enum value_kind)take(in, KINDS);
    const unsigned how = take(in, 8), wide = take(in, 8) == 7, exponent = take(in, 256), seed = take16(in);
    const size_t n = (size_t)t->values, last = t->tensor.rank ? t->tensor.dims[t->tensor.rank - 1] : 1;
    double *const x = block(n * sizeof *x);
    for (size_t i = 0; i < n; i++)
        x[i] = draw(kind, x, i, last, seed);
    vary(x, n, last ? last : 1, how, wide ? (int)exponent - 150 : 0);
    for (size_t i = 0; i < t->bytes; i++)
        t->raw[i] = (uint8_t)(kind == BITS ? mix(seed + i) : (uint64_t)(int64_t)(8 * noise(seed + i)));
    if (kind != BITS && vcl_dtype_is_float(t->tensor.dtype))
        must(t, vcl_convert(VCL_DTYPE_F64, x, t->tensor.dtype, t->raw, n) == VCL_OK, "vcl_convert fails");
    free(x);
}

/* Five bytes: where, how many, what. */
static void set_values(struct input *in, struct test *t)
{
    static const double odd[] = { NAN,   -NAN,    INFINITY, -INFINITY, 0.0,    -0.0,    5e-324,
                                  1e-45, -1e-40,  6e-8,     65504,     -65536, FLT_MAX, -FLT_MAX,
                                  1e300, DBL_MAX, FLT_MIN,  -1e-20,    1e20,   1 };
    const size_t size = vcl_dtype_bits(t->tensor.dtype) / 8;
    if (size == 0 || t->values == 0)
        return;
    while (in->left > 0) {
        const size_t first = take16(in) % t->values, length = 1 + take(in, 256) % 40;
        const unsigned what = take(in, 256), more = take(in, 256);
        uint8_t value[8];
        for (size_t i = 0; i < 8; i++)
            value[i] = (uint8_t)(mix(what * 256u + more) >> 8 * i);
        if (what < 192 && vcl_dtype_is_float(t->tensor.dtype))
            vcl_convert(VCL_DTYPE_F64, &odd[what % (sizeof odd / sizeof *odd)], t->tensor.dtype, value, 1);
        for (size_t i = first; i < first + length && i < t->values; i++)
            memcpy(t->raw + i * size, value, size);
    }
}

/* Importances of columns, from close to each other to as far apart as floats go, and feedback, which takes
 * half a hundred times as long. */
static void read_weights(struct input *in, struct test *t)
{
    const unsigned how = take(in, 8), spread = 1 + take(in, 120), seed = take16(in);
    const int effort = t->params.effort;
    const uint64_t most = effort == 1 ? MOST : effort <= 5 ? 4096 : 512;
    uint64_t cols;
    if (vcl_coded_shape(&t->tensor, t->params.transpose, NULL, &cols) || cols > MOST_COLUMNS
        || t->params.rotate || how < 4)
        return;
    const size_t n = (size_t)cols;
    t->params.columns = cols;
    t->weight = block(n * sizeof *t->weight);
    t->feedback = block(n * n * sizeof *t->feedback);
    for (size_t c = 0; c < n; c++)
        t->weight[c] = ldexpf(1 + (float)(c % 7) / 8, (int)(mix(seed + c) % (2 * spread)) - (int)spread);
    for (size_t i = 0; i < n * n; i++)
        t->feedback[i] = (float)(noise(seed + i) / 16);
    t->params.col_weight = how & 1 ? t->weight : NULL;
    if (how & 2 && t->values <= most && t->params.goal != VCL_GOAL_ERROR)
        t->params.feedback = t->feedback;
}

/* 0 where the bytes make no tensor. */
static int read_case(struct input *in, struct test *t)
{
    static const enum vcl_dtype floats[4] = { VCL_DTYPE_F32, VCL_DTYPE_BF16, VCL_DTYPE_F16, VCL_DTYPE_F64 };
    memset(t, 0, sizeof *t);
    read_params(in, &t->params);
    t->way = 1 + (int)take(in, WAYS - 1);
    const unsigned dtype = take(in, 132); /* all of VCL_DTYPE_COUNT and all of floats alike */
    t->tensor.dtype =
        t->params.codec == VCL_CODEC_TENSOR ? floats[dtype % 4] : (enum vcl_dtype)(dtype % VCL_DTYPE_COUNT);
    read_shape(in, &t->params, &t->tensor);
    if (vcl_tensor_size(&t->tensor, &t->values, &t->bytes))
        return 0;
    t->raw = block((size_t)t->bytes);
    read_weights(in, t);
    fill_values(in, t);
    set_values(in, t);
    return 1;
}

static void free_case(struct test *t)
{
    free(t->raw);
    free(t->weight);
    free(t->feedback);
}

/* ---- properties ------------------------------------------------------------------------------ */

static struct vcl_context *open_context(int way)
{
    struct vcl_options options;
    struct vcl_context *ctx;
    vcl_options_init(&options);
    options.threads = ways[way].threads;
    must(NULL, setenv("VCLLM_CPU", ways[way].cpu, 1) == 0, "setenv fails");
    must(NULL, vcl_context_create(&options, &ctx) == VCL_OK, "vcl_context_create fails");
    return ctx;
}

static struct result encode(struct vcl_context *ctx, const struct test *t)
{
    struct result r = { .bytes = (size_t)vcl_bound(&t->tensor), .report = { .size = sizeof r.report } };
    const size_t bound = r.bytes;
    r.frame = block(bound);
    r.status = vcl_encode_buffer(ctx, &t->tensor, t->raw, &t->params, r.frame, &r.bytes, &r.report);
    must(t, r.status == VCL_OK || r.status == VCL_E_RATE, "encoding fails");
    must(t, r.status == VCL_OK || vcl_context_message(ctx)[0] != 0, "a failure without a word");
    must(t, r.status || r.bytes <= bound, "a frame beyond vcl_bound");
    return r;
}

/* Is a target met whenever there is a frame, and a frame made whenever an exact one would meet it? */
static void check_target(const struct test *t, const struct result *r)
{
    const struct vcl_params *const p = &t->params;
    const double room = 8 * (double)vcl_bound(&t->tensor);
    if (p->codec != VCL_CODEC_TENSOR || t->values == 0) {
        must(t, r->status == VCL_OK, "an exact frame is refused");
        return;
    }
    if (r->status) {
        must(t, p->goal == VCL_GOAL_BITS && p->target * (double)t->values < room, "a target that is met");
        return;
    }
    must(t, r->report.bits == 8 * (double)r->bytes / (double)t->values, "report.bits");
    if (p->goal == VCL_GOAL_BITS)
        must(t, r->report.bits <= p->target, "more bits than asked for");
    else if (p->goal == VCL_GOAL_SNR)
        must(t, r->report.snr >= p->target, "less SNR than asked for");
    else
        must(t, r->report.max_error <= p->target, "a larger error than asked for");
    if (r->report.flags & VCL_REPORT_FELL_BACK)
        must(t, r->report.codec == VCL_CODEC_LOSSLESS, "fallen back to a lossy codec");
}

static void check_header(const struct test *t, const struct result *r)
{
    struct vcl_info info = { .size = sizeof info };
    must(t, vcl_peek(r->frame, r->bytes, &info, NULL, NULL) == VCL_OK, "vcl_peek refuses it");
    must(t, info.frame_bytes == r->bytes && r->report.frame_bytes == r->bytes, "frame_bytes");
    must(t, info.values == t->values && info.codec == r->report.codec, "values or codec");
    must(t, memcmp(&info.tensor, &t->tensor, sizeof info.tensor) == 0, "dtype or shape");
    if (t->values > 0)
        must(t, (float)info.snr == (float)r->report.snr, "SNR in the header");
}

/* Values that are not finite come back bit by bit, and none beside them. */
static void check_values(const struct test *t, const struct result *r, const uint8_t *back)
{
    const enum vcl_dtype dtype = t->tensor.dtype;
    const size_t size = vcl_dtype_bits(dtype) / 8, n = (size_t)t->values;
    struct vcl_error_sums sums = { 0 };
    double x;
    if (vcl_codec_name(r->report.codec) && r->report.codec != VCL_CODEC_TENSOR) {
        must(t, memcmp(back, t->raw, (size_t)t->bytes) == 0, "an exact frame is not exact");
        must(t, r->report.snr == INFINITY, "SNR of an exact frame");
        return;
    }
    must(t, vcl_compare(dtype, t->raw, back, n, &sums) == VCL_OK && sums.mismatches == 0, "mismatches");
    must(t, fabs(vcl_snr(&sums) - r->report.snr) < 1e-6 || vcl_snr(&sums) == r->report.snr, "report.snr");
    must(t, sums.max_error == r->report.max_error, "report.max_error");
    for (size_t i = 0; sums.values < n && i < n; i++) {
        vcl_convert(dtype, t->raw + i * size, VCL_DTYPE_F64, &x, 1);
        if (!isfinite(x))
            must(t, memcmp(t->raw + i * size, back + i * size, size) == 0, "a NaN or infinity changed");
    }
}

static int read_frame(void *user, uint64_t offset, void *dst, size_t n)
{
    const struct result *const r = user;
    if (offset > r->bytes || n > r->bytes - offset)
        return 1;
    memcpy(dst, r->frame + offset, n);
    return 0;
}

static int write_values(void *user, uint64_t offset, const void *src, size_t n)
{
    memcpy((uint8_t *)user + offset, src, n);
    return 0;
}

/* Some rows alone, and nothing but a check. */
static void check_rows(struct vcl_context *ctx, const struct test *t, const struct result *r,
                       const uint8_t *back)
{
    const uint64_t rows = t->tensor.rank ? t->tensor.dims[0] : 1, first = rows / 3, count = (rows + 2) / 4;
    const struct vcl_source source = { .user = (void *)(uintptr_t)r,
                                       .read = read_frame }; /* only read from */
    must(t, vcl_decode(ctx, &source, r->bytes, 0, UINT64_MAX, NULL, NULL) == VCL_OK, "decoding to nowhere");
    if (rows == 0 || t->bytes % rows != 0)
        return;
    const size_t row = (size_t)(t->bytes / rows);
    uint8_t *const some = block((size_t)count * row);
    const struct vcl_sink sink = { .user = some, .write = write_values };
    must(t, vcl_decode(ctx, &source, r->bytes, first, count, NULL, &sink) == VCL_OK, "rows do not decode");
    must(t, memcmp(some, back + first * row, (size_t)count * row) == 0, "rows differ from the whole");
    free(some);
}

static void check_product(struct vcl_context *ctx, const struct test *t, const struct vcl_matrix *m,
                          const float *w, int transposed, size_t n)
{
    struct vcl_matrix_info info = { .size = sizeof info };
    size_t at;
    vcl_matrix_describe(m, &info);
    must(t, info.rows == 0 || info.cols == t->values / info.rows, "rows and columns of the matrix");
    struct call call = make_call(w, info.rows, info.cols, transposed, n, t->values);
    float *const y = call_block(n * call.y_stride);
    must(t, multiply_checked(ctx, m, &call, y, &at) == VCL_OK, "its own frame does not multiply");
    must(t, at == n * call.y_stride, transposed ? "transposed product" : "product");
    free(y);
    free_call(&call);
}

/* Both ways, of one vector and of three. */
static void check_products(struct vcl_context *ctx, const struct test *t, const struct result *r,
                           const uint8_t *back)
{
    struct vcl_matrix *m;
    const int is_matrix = vcl_dtype_is_float(t->tensor.dtype);
    const enum vcl_status status = vcl_matrix_open(ctx, r->frame, r->bytes, &m);
    must(t, status == (is_matrix ? VCL_OK : VCL_E_ARGUMENT), "opening its own frame as a matrix");
    if (status)
        return;
    float *const w = call_block((size_t)t->values);
    must(t, vcl_convert(t->tensor.dtype, back, VCL_DTYPE_F32, w, (size_t)t->values) == VCL_OK,
         "vcl_convert fails");
    for (int transposed = 0; transposed < 2; transposed++) {
        check_product(ctx, t, m, w, transposed, 1);
        check_product(ctx, t, m, w, transposed, 3);
    }
    free(w);
    vcl_matrix_close(m);
}

static void check_decoding(struct vcl_context *ctx, const struct test *t, const struct result *r,
                           uint8_t *back)
{
    const size_t bytes = (size_t)t->bytes;
    const enum vcl_status status = vcl_decode_buffer(ctx, r->frame, r->bytes, back, bytes);
    if (status)
        fprintf(stderr, "%s: %s\n", vcl_status_text(status), vcl_context_message(ctx));
    must(t, status == VCL_OK, "its own frame does not decode");
    check_values(t, r, back);
    check_rows(ctx, t, r, back);
    check_products(ctx, t, r, back);
}

/* Leaves something in the buffers that a context keeps for its next call. */
static void use_context(struct vcl_context *ctx, const struct test *t)
{
    struct test other = *t;
    other.params.codec = VCL_CODEC_LOSSLESS;
    free(encode(ctx, &other).frame);
}

static void check_other_way(const struct test *t, const struct result *first, const uint8_t *values)
{
    struct vcl_context *const ctx = open_context(t->way);
    use_context(ctx, t);
    struct result r = encode(ctx, t);
    uint8_t *const back = block((size_t)t->bytes);
    must(t, r.status == first->status, "another status at another level of CPU");
    if (r.status == VCL_OK) {
        must(t, r.bytes == first->bytes && memcmp(r.frame, first->frame, r.bytes) == 0,
             "another frame at another level of CPU or number of threads");
        check_decoding(ctx, t, &r, back);
        must(t, memcmp(back, values, (size_t)t->bytes) == 0, "other values at another level of CPU");
    }
    free(back);
    free(r.frame);
    vcl_context_destroy(ctx);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size };
    struct test test;
    if (!read_case(&in, &test))
        return 0;
    struct vcl_context *const ctx = open_context(0);
    const struct result r = encode(ctx, &test);
    uint8_t *const back = block((size_t)test.bytes);
    check_target(&test, &r);
    if (r.status == VCL_OK) {
        check_header(&test, &r);
        check_decoding(ctx, &test, &r, back);
    }
    check_other_way(&test, &r, back);
    free(back);
    free(r.frame);
    vcl_context_destroy(ctx);
    free_case(&test);
    return 0;
}
