/* Lossless coding: every level of CPU against portable C, every dtype there and back, and bytes nobody
 * vouches for. */
#include "base/common.h"
#include "base/cpu.h"
#include "codec/lossless.h"
#include "codec/rans.h"
#include "random.h"
#include "scarce.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

enum { MOST = 9 << 14 }; /* bytes of the largest tile here */

enum bytes_kind {
    NOISE,
    NORMAL,
    ROUNDED,
    SCALED_ROWS,
    WIDE,
    ZEROS,
    RAMP,
    SPARSE,
    TERNARY,
    GROUPED,
    OFFSET,
    KINDS
};

static const char *const kind_names[KINDS] = { "noise",
                                               "normal",
                                               "normal rounded to bf16",
                                               "rows of different scale",
                                               "all exponents",
                                               "zeros",
                                               "ramp",
                                               "few values",
                                               "three values",
                                               "integers times scales",
                                               "integers times scales plus offsets" };

/* Small integers times a scale for every 32; one value in 50 is what it likes. */
static double draw_grouped(size_t i, uint64_t *state)
{
    const double x = random_normal(state), q = fmax(fmin(rint(2 * x), 7), -7);
    const float scale = (float)(1 + (double)(i / 32 * 77 % 113) / 113);
    return random_uniform(state) < .02 ? x : (float)q * scale;
}

/* With an offset, too, and in the middle of 10 times 32 what has no scale. */
static double draw_offset(size_t i, uint64_t *state)
{
    const double x = random_normal(state), q = fmax(fmin(rint(3 * x + 7), 15), 0);
    const float scale = (float)(8 + i / 32 * 77 % 113 % 8) / 128, offset = (float)(i / 32 * 55 % 97) / -97;
    const float product = (float)q * scale;
    return i / 32 % 10 == 5 ? x : product + offset;
}

static double draw(enum bytes_kind kind, size_t i, uint64_t *state)
{
    if (kind == OFFSET)
        return draw_offset(i, state);
    if (kind == GROUPED)
        return draw_grouped(i, state);
    const double x = random_normal(state);
    switch (kind) {
    case SCALED_ROWS: return x * exp2((double)(i / 700 % 7));
    case WIDE: return x * exp2(200 * random_uniform(state) - 100);
    case ZEROS: return 0;
    case RAMP: return (double)i;
    case SPARSE: return random_uniform(state) < 0.97 ? 0 : x;
    case TERNARY: return .0123 * (double)(random_bits(state) % 3) - .0123;
    default: return x;
    }
}

/* `bytes` bytes of whole values of a dtype. */
static void fill(enum vcl_dtype dtype, enum bytes_kind kind, uint8_t *dst, size_t bytes, uint64_t seed)
{
    const size_t width = vcl_dtype_bits(dtype) / 8 ? vcl_dtype_bits(dtype) / 8 : 1, n = bytes / width;
    const int is_float = vcl_dtype_is_float(dtype);
    uint64_t state = seed * 0x9E3779B97F4A7C15 + 1;
    float *const x = malloc(n * sizeof *x + 1);
    assert_non_null(x);
    for (size_t i = 0; i < n; i++)
        x[i] = (float)draw(kind, i, &state);
    for (size_t i = 0; kind == ROUNDED && i < n; i++)
        x[i] = vcl_float_from_bits(vcl_float_bits(x[i]) & 0xffff0000);
    for (size_t i = 0; i < bytes; i++)
        dst[i] = (uint8_t)random_bits(&state);
    if (kind != NOISE && is_float)
        assert_int_equal(vcl_convert(VCL_DTYPE_F32, x, dtype, dst, n), VCL_OK);
    for (size_t i = 0; kind != NOISE && !is_float && i < n; i++) {
        uint8_t number[8];
        vcl_store64(number, (uint64_t)(int64_t)fmin(fmax(20 * x[i], -1e18), 1e18));
        memcpy(dst + i * width, number, width);
    }
    free(x);
}

static size_t levels(void) { return (size_t)vcl_cpu_detect() + 1; }

/* Codes values of a tensor at every level and decodes each at every level: one result.  Returns its bytes. */
static size_t check_part(const struct vcl_tensor *tensor, uint64_t begin, const uint8_t *raw, size_t bytes,
                         const char *what)
{
    const struct vcl_mem mem = vcl_mem_default();
    const char *const dtype = vcl_dtype_name(tensor->dtype);
    struct vcl_lossless *const to = vcl_lossless_create(&mem, tensor, bytes, 1);
    struct vcl_lossless *const from = vcl_lossless_create(&mem, tensor, bytes, 0);
    uint8_t *const first = malloc(bytes + VCL_LOSSLESS_ROOM),
                   *const stored = malloc(bytes + VCL_LOSSLESS_ROOM), *const back = malloc(bytes + 1);
    assert_true(to && from && first && stored && back);
    const size_t size = vcl_lossless_encode(to, vcl_kernels_for(VCL_CPU_C), begin, raw, bytes, first);
    assert_true(size <= bytes + VCL_LOSSLESS_OVERHEAD);
    for (size_t level = 0; level < levels(); level++) {
        const struct vcl_kernels *const kernels = vcl_kernels_for((enum vcl_cpu_level)level);
        if (vcl_lossless_encode(to, kernels, begin, raw, bytes, stored) != size
            || memcmp(stored, first, size) != 0)
            fail_msg("%s %s, %zu bytes: %s does not write what c writes", dtype, what, bytes,
                     vcl_cpu_name(kernels->level));
        memset(back, 0xA5, bytes);
        const char *const fault = vcl_lossless_decode(from, kernels, first, size, back, bytes);
        if (fault || memcmp(back, raw, bytes) != 0)
            fail_msg("%s %s, %zu bytes: %s decodes something else: %s", dtype, what, bytes,
                     vcl_cpu_name(kernels->level), fault ? fault : "other values");
    }
    vcl_lossless_destroy(&mem, to);
    vcl_lossless_destroy(&mem, from);
    free(first);
    free(stored);
    free(back);
    return size;
}

static size_t check_tile(enum vcl_dtype dtype, const uint8_t *raw, size_t bytes, const char *what)
{
    const struct vcl_tensor tensor = { dtype, 1, { bytes } }; /* any length */
    return check_part(&tensor, 0, raw, bytes, what);
}

/* Fault: a length, dtype or kind of data for which a level loses values, or writes other bytes than C. */
static void every_level_gives_the_same(void **unused)
{
    (void)unused;
    static const size_t counts[] = { 1, 2, 31, 33, 255, 511, 513, 4095, 4096, 4129, 16384 + 77 };
    uint8_t *const raw = malloc(MOST);
    assert_non_null(raw);
    for (int dtype = 0; dtype < VCL_DTYPE_COUNT; dtype++)
        for (int kind = 0; kind < KINDS; kind++)
            for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++) {
                const unsigned bits = vcl_dtype_bits((enum vcl_dtype)dtype);
                const size_t bytes = counts[i] * (bits < 8 ? 8 : bits) / 8;
                fill((enum vcl_dtype)dtype, (enum bytes_kind)kind, raw, bytes, i + 1);
                check_tile((enum vcl_dtype)dtype, raw, bytes, kind_names[kind]);
            }
    free(raw);
}

/* Fault: a change that costs compression.  The bounds are what was measured and a percent. */
static void sizes_stay_small(void **unused)
{
    (void)unused;
    static const struct {
        enum vcl_dtype dtype;
        enum bytes_kind kind;
        double most; /* of the raw size */
    } cases[] = { { VCL_DTYPE_BF16, NORMAL, 0.67 },      { VCL_DTYPE_F16, NORMAL, 0.86 },
                  { VCL_DTYPE_F32, NORMAL, 0.84 },       { VCL_DTYPE_F32, ROUNDED, 0.35 },
                  { VCL_DTYPE_BF16, SCALED_ROWS, 0.69 }, { VCL_DTYPE_BF16, ZEROS, 0.001 },
                  { VCL_DTYPE_I64, NORMAL, 0.12 },       { VCL_DTYPE_U8, SPARSE, 0.06 },
                  { VCL_DTYPE_F64, TERNARY, 0.027 },     { VCL_DTYPE_BF16, GROUPED, 0.285 },
                  { VCL_DTYPE_F32, OFFSET, 0.235 } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const size_t bytes = (size_t)8 << 14;
        uint8_t *const raw = malloc(bytes);
        assert_non_null(raw);
        fill(cases[i].dtype, cases[i].kind, raw, bytes, 7);
        const double part = (double)check_tile(cases[i].dtype, raw, bytes, "size") / (double)bytes;
        if (part > cases[i].most)
            fail_msg("%s %s: %.4f of the raw size", vcl_dtype_name(cases[i].dtype), kind_names[cases[i].kind],
                     part);
        free(raw);
    }
}

/* ---- values of few levels -------------------------------------------------------------------- */

/* How a quantiser made the values: integers times a scale for `group` values, most bits of which are 0. */
struct quantiser {
    const char *name;
    enum vcl_dtype dtype;
    enum vcl_dtype scale, rounding; /* of scales and products */
    unsigned group;
    int least, most; /* integers; equal: q - z of four bits, z in the middle of the group's range */
    int fp4;         /* E2M1 instead, the scale a power of two */
    double noise;    /* how many values are others */
    double bits;     /* a value at most: what was measured and a percent, entropy and scales */
};

static float rounded(enum vcl_dtype dtype, float x)
{
    uint8_t bytes[4];
    assert_int_equal(vcl_convert(VCL_DTYPE_F32, &x, dtype, bytes, 1), VCL_OK);
    assert_int_equal(vcl_convert(dtype, bytes, VCL_DTYPE_F32, &x, 1), VCL_OK);
    return x;
}

static float nearest_fp4(float x)
{
    static const float points[] = { 0, .5f, 1, 1.5f, 2, 3, 4, 6 };
    float best = 0;
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++)
        best = fabsf(fabsf(x) - points[i]) < fabsf(fabsf(x) - best) ? points[i] : best;
    return copysignf(best, x);
}

static void quantise(const struct quantiser *how, float *x, size_t n, uint64_t *state)
{
    for (size_t at = 0; at < n; at += how->group) {
        float low = 0, high = 0;
        for (size_t i = at; i < at + how->group; i++) {
            low = fminf(low, x[i]);
            high = fmaxf(high, x[i]);
        }
        const float range =
            how->least == how->most ? (high - low) / 15 : fmaxf(-low, high) / (float)how->most;
        const float scale =
            how->fp4 ? exp2f(floorf(log2f(fmaxf(-low, high))) - 2) : rounded(how->scale, range);
        for (size_t i = at; i < at + how->group; i++) {
            float q = how->fp4 ? nearest_fp4(x[i] / scale) : rintf(x[i] / scale);
            if (how->least != how->most)
                q = fminf(fmaxf(q, (float)how->least), (float)how->most);
            const int is_other = random_uniform(state) < how->noise;
            x[i] = rounded(how->rounding, is_other ? 3 * (float)random_normal(state) : q * scale);
        }
    }
}

static double estimated(const struct vcl_tensor *tensor, const uint8_t *raw, size_t n)
{
    const struct vcl_mem mem = vcl_mem_default();
    return vcl_lossless_estimate(&mem, vcl_kernels_for(VCL_CPU_C), tensor, 0, raw,
                                 n * vcl_dtype_bits(tensor->dtype) / 8);
}

/* Fault: quantised weights, written back as floats, that are taken for ordinary ones; an estimate that misses
 * them.  From value 1000 on, for scales must be found where groups begin in the tensor, not in the tile. */
static void quantised_weights_take_few_bits(void **unused)
{
    (void)unused;
    enum { N = 128 << 10, COLS = 512, BEGIN = 1000 };
    const enum vcl_dtype bf16 = VCL_DTYPE_BF16, f16 = VCL_DTYPE_F16, f32 = VCL_DTYPE_F32;
    const struct quantiser all[] = {
        { "ternary rows", bf16, f32, bf16, COLS, -1, 1, 0, 0, 1.65 },
        { "int4, bf16 scales", bf16, bf16, bf16, 32, -7, 7, 0, 0, 4.1 },
        { "int4, f32 scales", bf16, f32, bf16, 32, -7, 7, 0, 0, 4.2 },
        { "int4 in f16", f16, f16, f16, 32, -7, 7, 0, 0, 4.2 },
        { "int4 in f32", f32, f16, f32, 32, -7, 7, 0, 0, 4.2 },
        { "int4 of bf16 in f32", f32, f32, bf16, 32, -7, 7, 0, 0, 4.2 },
        { "int4 rows", bf16, f32, bf16, COLS, -7, 7, 0, 0, 3.5 },
        { "int3, groups of 64", bf16, f32, bf16, 64, -3, 3, 0, 0, 2.95 },
        { "int4, -8 to 7", f16, f16, f16, 128, -8, 7, 0, 0, 3.9 },
        { "int4 with zero points", bf16, f16, bf16, 128, 0, 0, 0, 0, 3.85 },
        { "int8 rows", bf16, f32, bf16, COLS, -127, 127, 0, 0, 7.6 },
        { "MXFP4", bf16, f32, bf16, 32, -6, 6, 1, 0, 4.1 },
        { "int4 and others", bf16, f32, bf16, 128, -7, 7, 0, .005, 3.95 },
    };
    float *const x = malloc(N * sizeof *x);
    uint8_t *const raw = malloc(4 * N);
    assert_true(x && raw);
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++) {
        const struct vcl_tensor tensor = { all[k].dtype, 2, { N / COLS, COLS } };
        const size_t size = vcl_dtype_bits(tensor.dtype) / 8;
        uint64_t state = 77;
        random_fill(x, N, k + 1, random_normal);
        quantise(&all[k], x, N, &state);
        assert_int_equal(vcl_convert(VCL_DTYPE_F32, x, tensor.dtype, raw, N), VCL_OK);
        const size_t stored = check_part(&tensor, BEGIN, raw + BEGIN * size, (N - BEGIN) * size, all[k].name);
        const double bits = 8 * (double)stored / (N - BEGIN), guess = estimated(&tensor, raw, N / 2),
                     rough = estimated(&tensor, raw, 4096);
        printf("%s: %.3f bits a value\n", all[k].name, bits);
        if (bits > all[k].bits || fabs(guess - bits) > .05 * bits || fabs(rough - bits) > .25 * bits)
            fail_msg("%s: %.3f bits a value, estimated %.3f from half, %.3f from 4096", all[k].name, bits,
                     guess, rough);
    }
    free(x);
    free(raw);
}

/* How one of ggml's quantisers made the values: d q + m, with d and m f16 for every group, or integers of
 * some bits times an f16 for every `super` groups. */
struct line {
    const char *name;
    enum vcl_dtype dtype;
    unsigned group, bits, super, scale_bits;
    double most; /* bits a value: what was measured and a percent */
};

/* The scales and the negative offsets of `super` groups from x on, as the quantiser stores them. */
static void choose_lines(const struct line *how, const float *x, float *scales, float *offsets)
{
    const float most = (float)((1 << how->bits) - 1), steps = (float)((1 << how->scale_bits) - 1);
    const unsigned super = how->super ? how->super : 1;
    float scale = 0, offset = 0;
    for (unsigned k = 0; k < super; k++) {
        float low = 0, high = -INFINITY;
        for (size_t i = k * how->group; i < (k + 1) * how->group; i++) {
            low = i == k * how->group || x[i] < low ? x[i] : low;
            high = fmaxf(high, x[i]);
        }
        scales[k] = (high - low) / most;
        offsets[k] = how->super ? fmaxf(-low, 0) : -low;
        scale = fmaxf(scale, scales[k]);
        offset = fmaxf(offset, offsets[k]);
    }
    scale = rounded(VCL_DTYPE_F16, scale / steps);
    offset = rounded(VCL_DTYPE_F16, offset / steps);
    for (unsigned k = 0; k < super; k++) {
        scales[k] =
            how->super ? scale * fmaxf(rintf(scales[k] / scale), 1) : rounded(VCL_DTYPE_F16, scales[k]);
        offsets[k] = how->super ? offset * rintf(offsets[k] / offset) : rounded(VCL_DTYPE_F16, offsets[k]);
    }
}

static void quantise_lines(const struct line *how, float *x, size_t n)
{
    const float most = (float)((1 << how->bits) - 1);
    const size_t super = how->super ? how->super : 1;
    float scales[16], offsets[16];
    for (size_t at = 0; at < n; at += super * how->group) {
        choose_lines(how, x + at, scales, offsets);
        for (size_t i = 0; i < super * how->group; i++) {
            const float scale = scales[i / how->group], offset = offsets[i / how->group];
            const float product = scale * fminf(fmaxf(rintf((x[at + i] + offset) / scale), 0), most);
            x[at + i] = rounded(how->dtype, product - offset);
        }
    }
}

/* Fault: weights quantised with a scale and an offset for each group, as in most GGUF files, that take more
 * than these files do; an estimate that misses them.  From value 1000 on, as above. */
static void offsets_are_found(void **unused)
{
    (void)unused;
    enum { N = 256 << 10, COLS = 512, BEGIN = 1000 };
    const enum vcl_dtype bf16 = VCL_DTYPE_BF16, f16 = VCL_DTYPE_F16, f32 = VCL_DTYPE_F32;
    const struct line all[] = {
        { "Q4_1", f32, 32, 4, 0, 0, 4.59 },   { "Q4_1", f16, 32, 4, 0, 0, 4.59 },
        { "Q4_1", bf16, 32, 4, 0, 0, 4.64 },  { "Q5_1", f32, 32, 5, 0, 0, 5.59 },
        { "Q5_1", f16, 32, 5, 0, 0, 5.59 },   { "Q5_1", bf16, 32, 5, 0, 0, 5.63 },
        { "Q2_K", f32, 16, 2, 16, 4, 2.43 },  { "Q2_K", f16, 16, 2, 16, 4, 2.43 },
        { "Q2_K", bf16, 16, 2, 16, 4, 2.52 }, { "Q4_K", f32, 32, 4, 8, 6, 4.35 },
        { "Q4_K", f16, 32, 4, 8, 6, 4.35 },   { "Q4_K", bf16, 32, 4, 8, 6, 4.35 },
        { "Q5_K", f32, 32, 5, 8, 6, 5.35 },   { "Q5_K", f16, 32, 5, 8, 6, 5.35 },
        { "Q5_K", bf16, 32, 5, 8, 6, 5.35 },
    };
    float *const x = malloc(N * sizeof *x);
    uint8_t *const raw = malloc(4 * N);
    assert_true(x && raw);
    for (size_t k = 0; k < sizeof all / sizeof all[0]; k++) {
        const struct vcl_tensor tensor = { all[k].dtype, 2, { N / COLS, COLS } };
        const size_t size = vcl_dtype_bits(tensor.dtype) / 8;
        random_fill(x, N, k + 1, random_normal);
        quantise_lines(&all[k], x, N);
        assert_int_equal(vcl_convert(VCL_DTYPE_F32, x, tensor.dtype, raw, N), VCL_OK);
        const size_t stored = check_part(&tensor, BEGIN, raw + BEGIN * size, (N - BEGIN) * size, all[k].name);
        const double bits = 8 * (double)stored / (N - BEGIN), guess = estimated(&tensor, raw, N / 2),
                     rough = estimated(&tensor, raw, 4096);
        printf("%s in %s: %.3f bits a value\n", all[k].name, vcl_dtype_name(tensor.dtype), bits);
        if (bits > all[k].most || fabs(guess - bits) > .05 * bits || fabs(rough - bits) > .25 * bits)
            fail_msg("%s in %s: %.3f bits a value, estimated %.3f from half, %.3f from 4096", all[k].name,
                     vcl_dtype_name(tensor.dtype), bits, guess, rough);
    }
    free(x);
    free(raw);
}

static const struct table {
    const char *name;
    enum vcl_dtype dtype;
    double share; /* of values that are not 0; 0: a causal mask */
    int spread;   /* of integers; 0: ones; -1: weights */
    double most;  /* bits a value: what was measured and a percent */
} tables[] = { { "causal", VCL_DTYPE_F32, 0, 0, .135 },    { "sparse", VCL_DTYPE_F32, .03, 0, .202 },
               { "sparse", VCL_DTYPE_F16, .03, 0, .202 },  { "sparse", VCL_DTYPE_I64, .03, 0, .202 },
               { "half", VCL_DTYPE_F64, .5, 0, 1.01 },     { "integers", VCL_DTYPE_F32, 1, 9, 3.2 },
               { "integers", VCL_DTYPE_I32, 1, 9, 3.2 },   { "integers", VCL_DTYPE_BF16, 1, 200, 7.75 },
               { "pruned", VCL_DTYPE_BF16, .25, -1, 3.55 } };

static void fill_table(const struct table *how, uint8_t *raw, size_t side)
{
    const size_t size = vcl_dtype_bits(how->dtype) / 8;
    uint64_t state = 5;
    for (size_t i = 0; i < side * side; i++) {
        const int is_on = how->share > 0 ? random_uniform(&state) < how->share : i % side <= i / side;
        const double some = how->spread > 0 ? (double)(random_bits(&state) % (uint64_t)how->spread)
                          : how->spread < 0 ? random_normal(&state)
                                            : 1;
        const double value = is_on ? some : 0;
        uint8_t number[8];
        vcl_store64(number, (uint64_t)(int64_t)value);
        if (vcl_dtype_is_float(how->dtype))
            assert_int_equal(vcl_convert(VCL_DTYPE_F64, &value, how->dtype, number, 1), VCL_OK);
        memcpy(raw + i * size, number, size);
    }
}

/* Fault: masks of two values, tables of integers or zeros among weights that take more than about their
 * entropy; an estimate far above it, for which something would be coded with loss. */
static void tables_take_their_entropy(void **unused)
{
    (void)unused;
    enum { SIDE = 512, N = SIDE * SIDE };
    uint8_t *const raw = malloc(8 * N);
    assert_non_null(raw);
    for (size_t k = 0; k < sizeof tables / sizeof tables[0]; k++) {
        const struct vcl_tensor tensor = { tables[k].dtype, 2, { SIDE, SIDE } };
        const size_t size = vcl_dtype_bits(tensor.dtype) / 8;
        fill_table(&tables[k], raw, SIDE);
        const double bits = 8 * (double)check_part(&tensor, 0, raw, N * size, tables[k].name) / N;
        const uint8_t *const middle = raw + N / 2 * size;
        const double guess = estimated(&tensor, middle, N / 4), rough = estimated(&tensor, middle, 4096);
        printf("%s %s: %.3f bits a value, estimated %.3f and %.3f\n", tables[k].name,
               vcl_dtype_name(tensor.dtype), bits, guess, rough);
        assert_true(bits <= tables[k].most && guess < 1.05 * bits + .01 && rough < 1.25 * bits + .01);
    }
    free(raw);
}

/* Fault: frequencies that do not sum to 2^12, lose a symbol, or come back different from their bytes. */
static void frequencies_are_whole(void **unused)
{
    (void)unused;
    uint64_t state = 5;
    for (int trial = 0; trial < 3000; trial++) {
        uint32_t counts[256] = { 0 };
        uint16_t frequencies[256], back[256];
        uint8_t bytes[VCL_RANS_TABLE_BYTES];
        const int symbols = trial % 257, size = (int)(random_bits(&state) % 24) + 1;
        for (int i = 0; i < symbols; i++)
            counts[random_bits(&state) & 255] += (uint32_t)(random_bits(&state) >> 40 >> (24 - size));
        vcl_rans_normalise(counts, frequencies);
        unsigned sum = 0;
        for (int s = 0; s < 256; s++) {
            assert_true(frequencies[s] < VCL_RANS_TOTAL && (counts[s] == 0 || frequencies[s] > 0));
            sum += frequencies[s];
        }
        assert_int_equal(sum, VCL_RANS_TOTAL);
        const size_t used = vcl_rans_put_table(frequencies, bytes);
        assert_true(used <= sizeof bytes);
        assert_int_equal(vcl_rans_get_table(bytes, used, VCL_RANS_TOTAL, back), used);
        assert_memory_equal(frequencies, back, sizeof back);
        assert_int_equal(vcl_rans_get_table(bytes, used - 1, VCL_RANS_TOTAL, back), 0);
    }
}

struct victim {
    enum vcl_dtype dtype;
    uint8_t *stored, *back;
    size_t size, bytes;
    struct vcl_lossless *work;
};

static struct victim make_victim(enum vcl_dtype dtype, enum bytes_kind kind, size_t bytes)
{
    const struct vcl_mem mem = vcl_mem_default();
    const struct vcl_tensor tensor = { dtype, 1, { bytes } };
    struct victim v = { dtype, malloc(bytes + VCL_LOSSLESS_ROOM),           malloc(bytes), 0,
                        bytes, vcl_lossless_create(&mem, &tensor, bytes, 0) };
    struct vcl_lossless *const to = vcl_lossless_create(&mem, &tensor, bytes, 1);
    assert_true(v.stored && v.back && v.work && to);
    fill(dtype, kind, v.back, bytes, 3);
    v.size = vcl_lossless_encode(to, vcl_kernels_for(VCL_CPU_C), 0, v.back, bytes, v.stored);
    vcl_lossless_destroy(&mem, to);
    return v;
}

static void free_victim(struct victim *v)
{
    const struct vcl_mem mem = vcl_mem_default();
    vcl_lossless_destroy(&mem, v->work);
    free(v->stored);
    free(v->back);
}

/* Decodes from a block of exactly that size, so that a sanitizer sees the first byte read beyond.  All levels
 * must agree on the verdict and the values. */
static int decode_exactly(const struct victim *v, const uint8_t *stored, size_t size)
{
    uint8_t *const block = malloc(size ? size : 1), *const values = malloc(v->bytes);
    int good = 0;
    assert_true(block && values);
    memcpy(block, stored, size);
    for (size_t level = 0; level < levels(); level++) {
        const char *const fault = vcl_lossless_decode(v->work, vcl_kernels_for((enum vcl_cpu_level)level),
                                                      block, size, level ? values : v->back, v->bytes);
        if (level && (good != !fault || (good && memcmp(values, v->back, v->bytes) != 0)))
            fail_msg("%s: levels c and %s disagree: %s", vcl_dtype_name(v->dtype),
                     vcl_cpu_name((enum vcl_cpu_level)level), fault ? fault : "values");
        good = !fault;
    }
    free(block);
    free(values);
    return good;
}

static const struct {
    enum vcl_dtype dtype;
    enum bytes_kind kind;
    size_t bytes;
} victims[] = { { VCL_DTYPE_BF16, NORMAL, 3000 },   { VCL_DTYPE_BF16, SCALED_ROWS, 20000 },
                { VCL_DTYPE_F32, ROUNDED, 8000 },   { VCL_DTYPE_F16, NORMAL, 9000 },
                { VCL_DTYPE_I64, NORMAL, 40000 },   { VCL_DTYPE_U8, SPARSE, 6000 },
                { VCL_DTYPE_F32, SPARSE, 70000 },   { VCL_DTYPE_F16, TERNARY, 9000 },
                { VCL_DTYPE_BF16, GROUPED, 20000 }, { VCL_DTYPE_F32, GROUPED, 9000 },
                { VCL_DTYPE_BF16, OFFSET, 20000 },  { VCL_DTYPE_F32, OFFSET, 20000 } };

/* Fault: a stream cut anywhere that is taken for whole, or read beyond its end. */
static void cut_streams_are_refused(void **unused)
{
    (void)unused;
    for (size_t i = 0; i < sizeof victims / sizeof victims[0]; i++) {
        struct victim v = make_victim(victims[i].dtype, victims[i].kind, victims[i].bytes);
        assert_true(v.size < v.bytes && decode_exactly(&v, v.stored, v.size));
        for (size_t size = 0; size < v.size; size += 1 + size / 40)
            assert_false(decode_exactly(&v, v.stored, size));
        for (size_t cut = 1; cut < 70; cut++)
            assert_false(decode_exactly(&v, v.stored, v.size - cut));
        free_victim(&v);
    }
}

/* Fault: a changed stream that leads a decoder astray.  Most changes are found by the states at the end. */
static void changed_streams_do_no_harm(void **unused)
{
    (void)unused;
    uint64_t state = 11;
    for (size_t i = 0; i < sizeof victims / sizeof victims[0]; i++) {
        struct victim v = make_victim(victims[i].dtype, victims[i].kind, victims[i].bytes);
        uint8_t *const changed = malloc(v.size);
        assert_non_null(changed);
        for (int trial = 0; trial < 1500; trial++) {
            const int changes = 1 + trial % 3;
            memcpy(changed, v.stored, v.size);
            for (int c = 0; c < changes; c++) {
                const size_t range = trial & 1 && v.size > 300 ? 300 : v.size; /* heads deserve more */
                changed[random_bits(&state) % range] ^= (uint8_t)(1u << (random_bits(&state) & 7));
            }
            decode_exactly(&v, changed, v.size);
        }
        for (int trial = 0; trial < 300; trial++) {
            for (size_t at = 0; at < v.size; at++)
                changed[at] = (uint8_t)random_bits(&state);
            changed[0] = (uint8_t)(1 + trial % 3);
            changed[trial % 2 + 1] = 3;
            decode_exactly(&v, changed, v.size);
        }
        free(changed);
        free_victim(&v);
    }
}

/* ---- whole frames ---------------------------------------------------------------------------- */

/* Fault: an allocation that is not checked, or not given back. */
static void failed_allocations_are_reported(void **unused)
{
    (void)unused;
    static const struct vcl_tensor tensor = { VCL_DTYPE_BF16, 2, { 50, 100 } };
    uint16_t values[5000], back[5000];
    uint8_t frame[12000];
    fill(VCL_DTYPE_BF16, NORMAL, (uint8_t *)values, sizeof values, 1);
    int succeeded = 0;
    for (int allowed = 0; !succeeded; allowed++) {
        struct scarce scarce = { allowed, 0 };
        struct vcl_options options;
        struct vcl_params params;
        struct vcl_context *ctx = NULL;
        size_t bytes = sizeof frame;
        vcl_options_init(&options);
        vcl_params_init(&params);
        params.codec = VCL_CODEC_LOSSLESS;
        options.user = &scarce, options.allocate = scarce_allocate, options.release = scarce_release;
        enum vcl_status status = vcl_context_create(&options, &ctx);
        if (!status)
            status = vcl_encode_buffer(ctx, &tensor, values, &params, frame, &bytes, NULL);
        if (!status)
            status = vcl_decode_buffer(ctx, frame, bytes, back, sizeof back);
        vcl_context_destroy(ctx);
        assert_true(status == VCL_OK || status == VCL_E_MEMORY);
        assert_int_equal(scarce.blocks, 0);
        succeeded = status == VCL_OK;
        assert_true(allowed < 100);
    }
    assert_memory_equal(values, back, sizeof back);
}

/* Fault: a frame above vcl_bound, or one that is not what VCLLM_CPU=c writes. */
static void frames_keep_the_bound(void **unused)
{
    (void)unused;
    static const struct vcl_tensor tensors[] = {
        { VCL_DTYPE_F32, 2, { 1500, 1500 } }, { VCL_DTYPE_U8, 1, { 3 << 20 } },
        { VCL_DTYPE_F4, 1, { 6 } },           { VCL_DTYPE_BF16, 0, { 0 } },
        { VCL_DTYPE_F16, 2, { 0, 5 } },       { VCL_DTYPE_C64, 2, { 30, 5 } }
    };
    static const char *const masks[] = { "c", "avx2", "avx512", "" };
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++) {
        uint64_t size = 0;
        assert_int_equal(vcl_tensor_size(&tensors[i], NULL, &size), VCL_OK);
        const size_t bound = (size_t)vcl_bound(&tensors[i]);
        uint8_t *const values = malloc(size + 1), *const back = malloc(size + 1),
                       *const frame = malloc(bound);
        uint64_t hash = 0;
        assert_true(values && back && frame);
        fill(VCL_DTYPE_U8, NOISE, values, (size_t)size, i + 1);
        for (size_t m = 0; m < sizeof masks / sizeof masks[0]; m++) {
            struct vcl_context *ctx;
            struct vcl_params params;
            size_t bytes = bound;
            setenv("VCLLM_CPU", masks[m], 1);
            vcl_params_init(&params);
            params.codec = VCL_CODEC_LOSSLESS;
            assert_int_equal(vcl_context_create(NULL, &ctx), VCL_OK);
            assert_int_equal(vcl_encode_buffer(ctx, &tensors[i], values, &params, frame, &bytes, NULL),
                             VCL_OK);
            assert_true(m == 0 || hash == XXH3_64bits(frame, bytes));
            hash = XXH3_64bits(frame, bytes);
            assert_int_equal(vcl_decode_buffer(ctx, frame, bytes, back, size), VCL_OK);
            assert_memory_equal(values, back, size);
            vcl_context_destroy(ctx);
        }
        unsetenv("VCLLM_CPU");
        free(values);
        free(back);
        free(frame);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_level_gives_the_same),
        cmocka_unit_test(sizes_stay_small),
        cmocka_unit_test(quantised_weights_take_few_bits),
        cmocka_unit_test(tables_take_their_entropy),
        cmocka_unit_test(frequencies_are_whole),
        cmocka_unit_test(cut_streams_are_refused),
        cmocka_unit_test(changed_streams_do_no_harm),
        cmocka_unit_test(failed_allocations_are_reported),
        cmocka_unit_test(offsets_are_found),
        cmocka_unit_test(frames_keep_the_bound),
    };
    printf("levels up to %s\n", vcl_cpu_name(vcl_cpu_detect()));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
