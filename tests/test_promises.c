/* test_promises.c - what holds for every tensor, target and setting: nothing is lost in silence.
 *
 * Tensors of every kind (kinds.h), shape and dtype are coded at a dozen targets each, some next to each
 * other, and decoded.  A broken promise is printed with all that is needed to see it again, and counted;
 * only the end of a test fails.  `test_promises KIND SEED [CODEC]` shows every frame of one tensor,
 * `test_promises part K N` takes every Nth tensor from the Kth on.  VCLLM_LONG: ten thousand tensors instead
 * of two of every kind. */
#include "kinds.h"
#include "sanitized.h"
#include "vcllm.h"
#include "vcllm_file.h"

#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "video_works.h"

/* Tensors of every kind with VCLLM_LONG. */
#ifdef SANITIZED
enum { LONG = 10 };
#else
enum { LONG = 223 };
#endif

/* Values up to which many rates are tried, from which a rate is held closely, and of a tile. */
enum { SMALL = 20000, LARGE = 65536, TILE = 1 << 20 };
/* Bits a value, beyond what holds no values, from which on a target can be met. */
#define LEAST 0.1
/* dB from which on indices, of up to 30000 half-steps, leave no more to promise than exactness. */
#define PRECISE 80.0
enum { CHOICE = 64 }; /* bytes that lists and tables take in one frame, and in the next do not */

static struct vcl_context *ctx;
static struct vcl_model *sample;
static int have_video, verbose;
static uint64_t part, parts = 1; /* of the tensors */

/* ---- the promises ------------------------------------------------------------------------------ */

enum promise {
    WORKS,
    AGREES,
    EXACT,
    ABOVE,
    UNUSED,
    FLOOR,
    NEGATIVE,
    FALLS,
    BELOW,
    SMALLER,
    LARGER,
    PROMISES
};

static const char *const promises[PROMISES] = {
    [WORKS] = "a frame is written and decodes",
    [AGREES] = "the report agrees with what decodes",
    [EXACT] = "exact where that is no larger than the target",
    [ABOVE] = "no more bits than the target",
    [UNUSED] = "98 % of the target is used",
    [FLOOR] = "SNR in proportion to the bits",
    [NEGATIVE] = "SNR above 0, or said to be no more",
    [FALLS] = "more bits are never worse",
    [BELOW] = "no less SNR than the target",
    [SMALLER] = "a higher SNR takes no fewer bits",
    [LARGER] = "no larger than the lossless frame",
};

static int broken[PROMISES];

/* ---- a tensor ---------------------------------------------------------------------------------- */

/* Blocks of the sample model's matrices. */
static void kind_model(struct draw *d)
{
    const struct vcl_entry *entry;
    do
        entry = vcl_model_entry(sample, draw_below(d, vcl_model_count(sample)));
    while (entry->tensor.rank != 2);
    const size_t rows = entry->tensor.dims[0], cols = entry->tensor.dims[1];
    const size_t row = draw_below(d, rows), col = draw_below(d, cols);
    uint8_t *const raw = malloc(entry->bytes);
    double *const all = malloc(rows * cols * sizeof *all);
    assert_int_equal(vcl_model_read(sample, entry, 0, raw, entry->bytes, NULL), VCL_OK);
    assert_int_equal(vcl_convert(entry->tensor.dtype, raw, VCL_DTYPE_F64, all, rows * cols), VCL_OK);
    for (size_t i = 0; i < d->n; i++)
        d->x[i] = all[(row + i / d->cols) % rows * cols + (col + i % d->cols) % cols];
    free(raw);
    free(all);
}

static const struct kind {
    const char *name;
    void (*draw)(struct draw *d);
} kinds[] = {
    { "normal", kind_normal },
    { "laplace", kind_laplace },
    { "student", kind_student },
    { "uniform", kind_uniform },
    { "arcsine", kind_arcsine },
    { "humps", kind_humps },
    { "log-normal", kind_log_normal },
    { "half-normal", kind_half_normal },
    { "mean", kind_mean },
    { "row-means", kind_row_means },
    { "col-means", kind_col_means },
    { "row-scales", kind_row_scales },
    { "col-scales", kind_col_scales },
    { "denormal", kind_denormal },
    { "huge", kind_huge },
    { "wide", kind_wide },
    { "beyond", kind_beyond },
    { "zero", kind_zero },
    { "sparse", kind_sparse },
    { "zero-rows", kind_zero_rows },
    { "constant", kind_constant },
    { "constant-spike", kind_constant_spike },
    { "spikes", kind_spikes },
    { "not-finite", kind_not_finite },
    { "binary", kind_binary },
    { "ternary", kind_ternary },
    { "five", kind_five },
    { "integers", kind_integers },
    { "int4-rows", kind_int4_rows },
    { "int8-rows", kind_int8_rows },
    { "int4-zeros", kind_int4_zeros },
    { "binary-rows", kind_binary_rows },
    { "ternary-rows", kind_ternary_rows },
    { "int4-groups", kind_int4_groups },
    { "int4-group-zeros", kind_int4_group_zeros },
    { "fp4-groups", kind_fp4_groups },
    { "ternary-groups", kind_ternary_groups },
    { "table", kind_table },
    { "sines", kind_sines },
    { "walk", kind_walk },
    { "positions", kind_positions },
    { "low-rank", kind_low_rank },
    { "causal", kind_causal },
    { "mask", kind_mask },
    { "model", kind_model },
    { "offset-groups", kind_offset_groups },
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* What is coded, how, and what its frames have been like. */
struct subject {
    const struct kind *kind;
    uint64_t seed, state;
    struct vcl_tensor tensor;
    uint64_t n, bytes;
    uint8_t *values, *frame, *decoded;
    struct vcl_params params;
    int outside;       /* values too large or too small for codecs that compute in f32, normal numbers */
    double listed;     /* bytes of lists of what is not finite */
    uint64_t lossless; /* of its lossless frame */
};

static void choose_shape(struct subject *s, struct draw *d)
{
    static const struct {
        unsigned rank;
        uint64_t dims[4];
    } shapes[] = {
        { 2, { 64, 64 } },     { 2, { 64, 64 } },         { 2, { 64, 64 } },   { 2, { 64, 65 } },
        { 2, { 65, 64 } },     { 2, { 100, 100 } },       { 2, { 128, 128 } }, { 2, { 96, 160 } },
        { 3, { 8, 16, 64 } },  { 4, { 16, 32, 3, 3 } },   { 1, { 5000 } },     { 2, { 127, 333 } },
        { 2, { 64, 512 } },    { 4, { 64, 64, 3, 3 } },   { 2, { 256, 256 } }, { 2, { 4096, 64 } },
        { 2, { 64, 4096 } },   { 4, { 1, 1, 160, 160 } }, { 2, { 33, 257 } },  { 2, { 3, 5000 } },
        { 2, { 1024, 1024 } },
    };
    enum { MOST = sizeof shapes / sizeof shapes[0] - 1 };
    size_t i = draw_below(d, MOST);
    if (i >= 14 && i <= 16 && draw_below(d, 3) > 0) /* the large ones seldom */
        i -= 14;
    if (s->seed % 97 == 96) /* in the long run */
        i = MOST;
    s->tensor.rank = shapes[i].rank;
    memcpy(s->tensor.dims, shapes[i].dims, sizeof shapes[i].dims);
    d->rows = shapes[i].rank > 1 ? shapes[i].dims[0] : 1;
    if (shapes[i].rank == 4 && shapes[i].dims[0] == 1)
        d->rows = shapes[i].dims[2];
}

static void choose_dtype(struct subject *s, struct draw *d)
{
    static const struct {
        enum vcl_dtype dtype;
        double least, most;
    } dtypes[] = {
        { VCL_DTYPE_F16, 0x1p-14, 65504 },           { VCL_DTYPE_F16, 0x1p-14, 65504 },
        { VCL_DTYPE_BF16, 0x1p-126, 0x1.fep127 },    { VCL_DTYPE_BF16, 0x1p-126, 0x1.fep127 },
        { VCL_DTYPE_F32, 0x1p-126, 0x1.fffffep127 }, { VCL_DTYPE_F32, 0x1p-126, 0x1.fffffep127 },
        { VCL_DTYPE_F32, 0x1p-126, 0x1.fffffep127 }, { VCL_DTYPE_F64, 0x1p-126, 0x1.fffffep127 },
        { VCL_DTYPE_F64, DBL_MIN, DBL_MAX },
    };
    enum { MOST = sizeof dtypes / sizeof dtypes[0] - 1 };
    const size_t i = s->kind->draw == kind_beyond ? MOST : draw_below(d, MOST);
    s->tensor.dtype = dtypes[i].dtype;
    d->least = dtypes[i].least;
    d->most = dtypes[i].most;
}

static void choose_params(struct subject *s, enum vcl_codec codec, struct draw *d)
{
    static const int efforts[16] = { 1, 1, 1, 1, 1, 1, 2, 2, 2, 5, 5, 5, 5, 5, 5, 9 };
    const size_t slow = s->n > 5000; /* effort 9 is */
    vcl_params_init(&s->params);
    s->params.codec = codec;
    s->params.objective = draw_below(d, 2) ? VCL_OBJECTIVE_MODEL : VCL_OBJECTIVE_MSE;
    s->params.transpose = s->seed % 4 == 1;
    s->params.rotate = s->seed % 4 == 2;
    s->params.nearest = s->seed % 3 != 1;
    s->params.effort = codec == VCL_CODEC_TENSOR ? efforts[draw_below(d, 16 - slow)] : 1;
}

/* A finite value stays one. */
static void clamp_all(struct draw *d)
{
    for (size_t i = 0; i < d->n; i++)
        if (isfinite(d->x[i]))
            d->x[i] = fmin(fmax(d->x[i], -d->most), d->most);
}

static int is_outside(const struct draw *d)
{
    double most = 0;
    for (size_t i = 0; i < d->n; i++)
        most = isfinite(d->x[i]) ? fmax(most, fabs(d->x[i])) : most;
    return most > 0 && (most < 0x1p-110 || most > 0x1p118);
}

/* Bytes of a side list: its length; of every run of values that are not finite the place and the value. */
static double list_bytes(const struct draw *d, int transposed, unsigned bits)
{
    const size_t step = transposed ? d->cols : 1;
    double runs = 0;
    for (size_t i = 0; i < d->n; i++)
        runs += !isfinite(d->x[i]) && (i < step || d->x[i - step] != d->x[i]);
    return runs > 0 ? 4 + runs * (8 + bits / 8) : 0;
}

static void make_subject(struct subject *s, const struct kind *kind, uint64_t seed, enum vcl_codec codec)
{
    struct draw d = { .state = seed * 0x9E3779B97F4A7C15 + 1 };
    *s = (struct subject){ .kind = kind, .seed = seed };
    for (const char *c = kind->name; *c; c++)
        d.state = (d.state ^ (uint64_t)*c) * 0xD1342543DE82EF95 + 1;
    choose_shape(s, &d);
    choose_dtype(s, &d);
    assert_int_equal(vcl_tensor_size(&s->tensor, &s->n, &s->bytes), VCL_OK);
    choose_params(s, codec, &d);
    d.n = s->n;
    d.cols = d.n / d.rows;
    d.x = malloc(d.n * sizeof *d.x);
    s->values = malloc(s->bytes);
    s->decoded = malloc(s->bytes);
    s->frame = malloc(vcl_bound(&s->tensor));
    assert_true(d.x && s->values && s->decoded && s->frame);
    kind->draw(&d);
    clamp_all(&d);
    assert_int_equal(vcl_convert(VCL_DTYPE_F64, d.x, s->tensor.dtype, s->values, d.n), VCL_OK);
    s->outside = is_outside(&d);
    s->listed = list_bytes(&d, s->params.transpose, vcl_dtype_bits(s->tensor.dtype));
    free(d.x);
    s->state = d.state;
}

static void free_subject(struct subject *s)
{
    free(s->values);
    free(s->decoded);
    free(s->frame);
}

/* ---- coding it ----------------------------------------------------------------------------------- */

static void print_subject(const struct subject *s)
{
    const struct vcl_params *const p = &s->params;
    print_message("%s %llu: ", s->kind->name, (unsigned long long)s->seed);
    for (unsigned i = 0; i < s->tensor.rank; i++)
        print_message("%s%llu", i > 0 ? "x" : "", (unsigned long long)s->tensor.dims[i]);
    print_message(" %s %s effort %d %s", vcl_dtype_name(s->tensor.dtype), vcl_codec_name(p->codec), p->effort,
                  p->objective == VCL_OBJECTIVE_MODEL ? "model" : "mse");
    print_message("%s%s, ", p->transpose ? " transposed" : "", p->rotate ? " rotated" : "");
    print_message(p->goal == VCL_GOAL_BITS ? "%.4f bits: " : "%.3f dB: ", p->target);
}

static void breaks(const struct subject *s, enum promise promise, const char *format, ...)
{
    char text[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    broken[promise]++;
    print_subject(s);
    print_message("%s: %s\n", promises[promise], text);
}

struct outcome {
    uint64_t bytes;
    double snr; /* measured */
    unsigned flags;
};

/* Bits a value that a target leaves for values, beyond what every frame of the tensor codec takes: header,
 * a table of probabilities, side lists, then for every tile its entry in the table, rows' classes, escapes'
 * number and what the lanes' states take beyond what they tell. */
static double room(const struct subject *s)
{
    const double lanes = s->n <= 32768 ? 8 : 32, tiles = (double)(1 + s->n / TILE);
    const double fixed = 24 + 8 * s->tensor.rank + 16 + 36 + 4 + 48 + tiles * (12 + 2 + 4 + 2 * lanes) + 7;
    return s->params.target - 8 * (fixed + s->listed) / (double)s->n;
}

/* May the target be missed, or refused? */
static int is_impossible(const struct subject *s)
{
    return s->params.goal == VCL_GOAL_BITS
        && (s->params.codec != VCL_CODEC_TENSOR || s->outside || room(s) < LEAST);
}

static void check_report(const struct subject *s, const struct outcome *o, const struct vcl_report *report)
{
    const double bits = 8 * (double)o->bytes / (double)s->n;
    const int little = o->flags & (VCL_REPORT_MISSED | VCL_REPORT_ZERO)
                    || (s->params.goal == VCL_GOAL_SNR && s->params.target <= 0);
    if (report->frame_bytes != o->bytes || report->bits != bits)
        breaks(s, AGREES, "%.6f bits, reported %.6f", bits, report->bits);
    if (!(report->snr == o->snr || fabs(report->snr - o->snr) < 1e-4))
        breaks(s, AGREES, "SNR %.6f, reported %.6f", o->snr, report->snr);
    if (o->flags & VCL_REPORT_MISSED && !is_impossible(s))
        breaks(s, WORKS, "missed, %.4f bits, %.2f dB", bits, o->snr);
    if (!(little ? o->snr >= 0 : o->snr > 0))
        breaks(s, NEGATIVE, "%.2f dB at %.3f bits", o->snr, bits);
}

/* The frame that the parameters give, decoded and measured; 0 where there is none. */
static int try_params(struct subject *s, struct outcome *o)
{
    struct vcl_report report = { .size = sizeof report };
    struct vcl_error_sums sums = { 0 };
    size_t bytes = (size_t)vcl_bound(&s->tensor);
    enum vcl_status status =
        vcl_encode_buffer(ctx, &s->tensor, s->values, &s->params, s->frame, &bytes, &report);
    if (status == VCL_E_RATE && !s->params.nearest && is_impossible(s))
        return 0;
    if (!status)
        status = vcl_decode_buffer(ctx, s->frame, bytes, s->decoded, s->bytes);
    if (status) {
        breaks(s, WORKS, "%s: %s", vcl_status_text(status), vcl_context_message(ctx));
        return 0;
    }
    assert_int_equal(vcl_compare(s->tensor.dtype, s->values, s->decoded, s->n, &sums), VCL_OK);
    *o = (struct outcome){ bytes, vcl_snr(&sums), report.flags };
    if (verbose) {
        print_subject(s);
        print_message("%s, %.4f bits, %.2f dB, flags %u, %.1f trials\n", vcl_codec_name(report.codec),
                      report.bits, o->snr, report.flags, report.trials);
    }
    if (sums.mismatches > 0)
        breaks(s, AGREES, "%llu values are no longer what was not finite",
               (unsigned long long)sums.mismatches);
    check_report(s, o, &report);
    return 1;
}

/* ---- targets in bits ----------------------------------------------------------------------------- */

/* The least SNR at a target of bits: 60 % of a Gaussian's 6.02 dB a bit, 40 % below one bit; NAN where the
 * frame leaves next to none. */
static double least_snr(const struct subject *s)
{
    const double bits = room(s);
    return is_impossible(s) ? NAN : bits * (bits < 1 ? 2.5 : 3.6);
}

static void check_bits(const struct subject *s, const struct outcome *o, double best)
{
    const double budget = s->params.target * (double)s->n / 8, bits = 8 * (double)o->bytes / (double)s->n;
    const int tensor = s->params.codec == VCL_CODEC_TENSOR, exact = isinf(o->snr) && o->snr > 0;
    const int all = exact || o->flags & (VCL_REPORT_SATURATED | VCL_REPORT_ZERO);
    if ((double)s->lossless <= budget && !exact)
        breaks(s, EXACT, "%.2f dB where %.4f bits are exact", o->snr, 8 * (double)s->lossless / (double)s->n);
    if ((double)o->bytes > budget && !(o->flags & VCL_REPORT_MISSED))
        breaks(s, ABOVE, "%.4f", bits);
    if (tensor && s->n >= LARGE && !all && (double)o->bytes + 8 <= 0.98 * budget)
        breaks(s, UNUSED, "%.4f", bits);
    if (tensor && o->snr < least_snr(s))
        breaks(s, FLOOR, "%.2f dB, not %.2f", o->snr, least_snr(s));
    if (fmin(o->snr, PRECISE) < fmin(best, PRECISE) - 0.3)
        breaks(s, FALLS, "%.2f dB after %.2f", o->snr, best);
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Ascending, in a grid of 1 %, every third next to the one before it; what is exact, and just too little. */
static int choose_targets(struct subject *s, double target[16], int count)
{
    struct draw d = { .state = s->state };
    const double exact = 8 * (double)s->lossless / (double)s->n;
    for (int i = 0; i < count; i++) {
        target[i] = 0.05 * pow(1.01, (double)draw_below(&d, 551));
        if (i % 3 == 2)
            target[i] = target[i - 1] * (draw_below(&d, 2) ? 1.01 : 1.02);
    }
    target[count++] = exact * 1.0001;
    target[count++] = exact * 0.985;
    s->state = d.state;
    qsort(target, (size_t)count, sizeof *target, compare_doubles);
    return count;
}

static void check_rates(struct subject *s, int count)
{
    double target[16], best = -INFINITY;
    struct outcome o;
    count = choose_targets(s, target, count);
    s->params.goal = VCL_GOAL_BITS;
    for (int i = 0; i < count; i++) {
        s->params.target = fmax(target[i], 0.05);
        if (s->params.target > 12.5 || !try_params(s, &o))
            continue;
        check_bits(s, &o, best);
        if (!(o.flags & VCL_REPORT_MISSED))
            best = fmax(best, o.snr);
    }
}

/* ---- targets in dB --------------------------------------------------------------------------------- */

static void check_snrs(struct subject *s, int count)
{
    struct draw d = { .state = s->state };
    double target[16];
    uint64_t most = 0;
    struct outcome o;
    for (int i = 0; i < count; i++)
        target[i] = i % 3 == 1 ? target[i - 1] + 0.2 : draw_between(&d, -1, draw_below(&d, 4) ? 40 : 120);
    qsort(target, (size_t)count, sizeof *target, compare_doubles);
    s->params.goal = VCL_GOAL_SNR;
    for (int i = 0; i < count; i++) {
        s->params.target = target[i];
        if (!try_params(s, &o))
            continue;
        if (!(o.snr >= target[i]))
            breaks(s, BELOW, "%.3f dB", o.snr);
        if ((double)(o.bytes + CHOICE) < 0.98 * (double)most)
            breaks(s, SMALLER, "%llu bytes after %llu", (unsigned long long)o.bytes,
                   (unsigned long long)most);
        if (o.bytes > s->lossless)
            breaks(s, LARGER, "%llu bytes, not %llu", (unsigned long long)o.bytes,
                   (unsigned long long)s->lossless);
        most = o.bytes > most ? o.bytes : most;
    }
}

/* ---- tensors --------------------------------------------------------------------------------------- */

static void measure_lossless(struct subject *s)
{
    struct vcl_params params;
    size_t bytes = (size_t)vcl_bound(&s->tensor);
    vcl_params_init(&params);
    params.codec = VCL_CODEC_LOSSLESS;
    assert_int_equal(vcl_encode_buffer(ctx, &s->tensor, s->values, &params, s->frame, &bytes, NULL), VCL_OK);
    s->lossless = bytes;
}

static void check_tensor(const struct kind *kind, uint64_t seed, enum vcl_codec codec)
{
    struct subject s;
    make_subject(&s, kind, seed, codec);
    measure_lossless(&s);
    const int rates = codec != VCL_CODEC_TENSOR ? 2 : s.n <= SMALL ? 5 : s.n < LARGE ? 4 : 3;
    check_rates(&s, rates);
    check_snrs(&s, rates == 2 ? 1 : rates / 2);
    free_subject(&s);
}

/* ---- the tests ------------------------------------------------------------------------------------- */

static void fail_if_broken(clock_t start)
{
    int sum = 0;
    for (int i = 0; i < PROMISES; i++) {
        if (broken[i] > 0)
            print_message("%6d times not so: %s\n", broken[i], promises[i]);
        sum += broken[i];
        broken[i] = 0;
    }
    print_message("%.1f s\n", (double)(clock() - start) / CLOCKS_PER_SEC);
    assert_int_equal(sum, 0);
}

/* Fault: a tensor that comes back worse than the target, or fewer bits, would have it, and nobody says so. */
static void tensor_codec_keeps_promises(void **unused)
{
    (void)unused;
    const clock_t start = clock();
    const uint64_t rounds = (uint64_t)vcl_how_many(1, 2, LONG), every = (uint64_t)vcl_how_many(7, 1, 1);
    for (uint64_t i = part * every, done = 1; i < rounds * KINDS; i += parts * every, done++) {
        check_tensor(&kinds[i % KINDS], i / KINDS, VCL_CODEC_TENSOR);
        if (done % 100 == 0) /* in the long run */
            print_message("%llu tensors\n", (unsigned long long)done);
    }
    fail_if_broken(start);
}

/* Fault: the same of the video codecs, whose searches go over depths and steps of their own. */
static void video_codecs_keep_promises(void **unused)
{
    (void)unused;
    const clock_t start = clock();
    if (!have_video)
        skip();
    const uint64_t every = (uint64_t)vcl_how_many(5, 5, 1);
    for (uint64_t i = part * every; i < KINDS; i += parts * every)
        check_tensor(&kinds[i], i, i % 2 ? VCL_CODEC_H264 : VCL_CODEC_H265);
    fail_if_broken(start);
}

static int set_up(void **unused)
{
    (void)unused;
    if (vcl_context_create(NULL, &ctx) || vcl_model_open(VCL_MODELS "/tiny-llama", NULL, &sample, NULL))
        return -1;
    have_video = video_works(ctx);
    return 0;
}

static int tear_down(void **unused)
{
    (void)unused;
    vcl_model_close(sample);
    vcl_context_destroy(ctx);
    return 0;
}

/* argv: part K N, or KIND SEED [CODEC] */
static const char *const *chosen;

static void one_tensor_keeps_promises(void **unused)
{
    (void)unused;
    const clock_t start = clock();
    verbose = 1;
    for (size_t i = 0; i < KINDS; i++)
        if (!strcmp(kinds[i].name, chosen[0]))
            check_tensor(&kinds[i], strtoull(chosen[1], NULL, 10),
                         chosen[2] ? vcl_codec_parse(chosen[2]) : VCL_CODEC_TENSOR);
    fail_if_broken(start);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest one[] = { cmocka_unit_test(one_tensor_keeps_promises) };
    const struct CMUnitTest all[] = {
        cmocka_unit_test(tensor_codec_keeps_promises),
        cmocka_unit_test(video_codecs_keep_promises),
    };
    chosen = (const char *const *)argv + 1;
    if (argc == 4 && !strcmp(argv[1], "part")) {
        part = strtoull(argv[2], NULL, 10);
        parts = strtoull(argv[3], NULL, 10);
        if (part >= parts)
            return 2;
    } else if (argc > 2) {
        return cmocka_run_group_tests(one, set_up, tear_down);
    }
    return cmocka_run_group_tests(all, set_up, tear_down);
}
