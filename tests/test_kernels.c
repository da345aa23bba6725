/* test_kernels.c - every loop that takes plain arrays, at every level of CPU, against portable C.
 *
 * In the manner of dav1d's checkasm: data from a seed, lengths around the vectors' and values biased to the extremes
 * that they have; a loop may write its result and nothing beyond.  What fails is named by kernel, level and seed.
 * `test_kernels speed` prints a line for each kernel.  The loops over stripes have more around them: test_trellis
 * and test_product.                                                                                              */
#include "base/common.h"
#include "base/cpu.h"
#include "codec/rans.h"
#include "kernels/kernels.h"
#include "random.h"

#include <float.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

enum {
    MOST = 4096,      /* values of a call */
    ROOM = 16 * MOST, /* bytes of an array, and more */
    GUARD = 64,       /* bytes behind a result that must stay */
    SEEDS = 200
};

/* A call: what it takes, filled once, and what it gives. */
static struct {
    uint64_t state;
    size_t n;
    unsigned kind; /* of the data, and of the call where there are several */
    uint8_t in[ROOM], in2[ROOM];
    float x[ROOM], y[ROOM];
    double weight[MOST];
    uint32_t table[VCL_RANS_DECODE_ENTRIES], encode_table[VCL_RANS_ENCODE_ENTRIES];
    uint8_t words[ROOM];
    size_t words_at;
    uint32_t states[VCL_RANS_LANES];
    struct vcl_plane_split split;
    struct vcl_point_values points;
    float steps[MOST], means[MOST];
    size_t given; /* bytes of out */
} t;
static uint8_t out[ROOM];

static uint64_t draw(uint64_t below) { return random_bits(&t.state) % below; }

/* ---- data ---------------------------------------------------------------------------------------- */

/* Around the lengths at which vectors begin and end, or any. */
static size_t draw_length(size_t unit, size_t most)
{
    const size_t whole = (draw(4) ? draw(9) : draw(most / 64)) * 64;
    const size_t n = (whole + draw(5) + 62) / unit * unit;
    return n < unit ? unit : n > most ? most : n;
}

/* All bits, the ends, mostly one value, small ones. */
static void fill_bytes(uint8_t *dst, size_t n, unsigned most)
{
    const unsigned kind = (unsigned)draw(4);
    const uint8_t usual = (uint8_t)draw(256);
    for (size_t i = 0; i < n; i++) {
        const uint8_t any = (uint8_t)draw(256);
        dst[i] = kind == 0             ? any
               : kind == 1             ? (uint8_t) - (any & 1)
               : kind == 2 && any > 20 ? usual
                                       : any & 7;
        dst[i] &= (uint8_t)most;
    }
}

/* Finite; products and sums of all of them stay so. */
static void fill_floats(float *dst, size_t n)
{
    static const float ends[] = { 0, -0.f, 1e15f, -1e15f, FLT_MIN, -FLT_TRUE_MIN, 1e-20f, 1 };
    const unsigned kind = (unsigned)draw(3);
    for (size_t i = 0; i < n; i++)
        dst[i] = kind == 0 || (kind == 1 && draw(2)) ? (float)random_normal(&t.state) : ends[draw(8)];
}

static enum vcl_dtype draw_dtype(void)
{
    static const enum vcl_dtype dtypes[] = { VCL_DTYPE_F16, VCL_DTYPE_BF16, VCL_DTYPE_F32, VCL_DTYPE_F64 };
    return dtypes[t.kind % 4];
}

/* Values of the dtype at hand. */
static void fill_values(uint8_t *dst, size_t n)
{
    fill_floats(t.x, n);
    for (size_t i = 0; i < n; i++)
        vcl_convert(VCL_DTYPE_F32, &t.x[i], draw_dtype(), dst + i * vcl_dtype_bits(draw_dtype()) / 8, 1);
}

/* ---- kernels ------------------------------------------------------------------------------------- */

static void prepare_to_f32(void)
{
    fill_bytes(t.in, 8 * (t.n = draw_length(1, MOST)), 255);
    t.given = 4 * t.n;
}

static void call_to_f32(const struct vcl_kernels *k)
{
    k->to_f32(draw_dtype(), t.in, (float *)(void *)out, t.n);
}

static void prepare_compare(void)
{
    fill_values(t.in, t.n = draw_length(1, MOST));
    fill_values(t.in2, t.n);
    if (draw(3) == 0)
        fill_bytes(t.in2, 8 * t.n, 255); /* infinities, NaN */
    t.given = sizeof(struct vcl_error_sums);
}

static void call_compare(const struct vcl_kernels *k)
{
    struct vcl_error_sums sums = { 0 };
    k->compare(draw_dtype(), t.in, t.in2, t.n, &sums);
    memcpy(out, &sums, sizeof sums);
}

static void prepare_energy(void)
{
    fill_floats(t.x, t.n = draw_length(1, MOST));
    for (size_t i = 0; i < t.n; i++)
        t.weight[i] = random_uniform(&t.state);
    t.given = sizeof(double);
}

static void call_energy(const struct vcl_kernels *k)
{
    const double sum = k->energy(t.x, t.kind % 2 ? t.weight : NULL, t.n);
    memcpy(out, &sum, sizeof sum);
}

static void prepare_split(void)
{
    static const unsigned widths[] = { 2, 4, 8 };
    t.split =
        (struct vcl_plane_split){ widths[t.kind % 3], (enum vcl_fold)(t.kind / 3 % 4), (unsigned)draw(256) };
    fill_bytes(t.in, t.split.width * (t.n = draw_length(1, MOST)), 255);
    t.given = t.split.width * t.n;
}

static void call_split(const struct vcl_kernels *k)
{
    uint8_t *planes[VCL_MAX_PLANES];
    for (unsigned p = 0; p < t.split.width; p++)
        planes[p] = out + p * t.n;
    k->split(&t.split, t.in, t.n, planes);
}

static void call_join(const struct vcl_kernels *k)
{
    const uint8_t *planes[VCL_MAX_PLANES];
    for (unsigned p = 0; p < t.split.width; p++)
        planes[p] = t.in + p * t.n;
    k->join(&t.split, planes, t.n, out);
}

static void prepare_pack(void)
{
    fill_bytes(t.in, t.n = draw_length(VCL_PACK_GROUP, MOST), 127);
    t.given = t.n / 8 * 7;
}

static void call_pack(const struct vcl_kernels *k) { k->pack(t.in, t.n / VCL_PACK_GROUP, out); }

static void prepare_unpack(void)
{
    t.n = draw_length(VCL_PACK_GROUP, MOST);
    fill_bytes(t.in, t.n / 8 * 7, 255);
    t.given = t.n;
}

static void call_unpack(const struct vcl_kernels *k) { k->unpack(t.in, t.n / VCL_PACK_GROUP, out); }

static void prepare_range(void)
{
    fill_bytes(t.in, t.n = draw_length(1, MOST), 255);
    t.given = sizeof(struct vcl_byte_range);
}

static void call_range(const struct vcl_kernels *k)
{
    struct vcl_byte_range range;
    k->range(t.in, t.n, &range);
    memcpy(out, &range, sizeof range);
}

static void prepare_sums(void)
{
    fill_bytes(t.in, t.n = draw_length(256, MOST), 255);
    t.given = t.n / 256 * sizeof(uint32_t);
}

static void call_sums(const struct vcl_kernels *k)
{
    k->sum_blocks(t.in, t.n / 256, (uint32_t *)(void *)out);
}

/* Symbols, and the tables of a model that has all of them. */
static void prepare_encode(void)
{
    uint32_t counts[256] = { 0 };
    uint16_t frequencies[256];
    fill_bytes(t.in, t.n = draw_length(1, MOST), 255);
    for (size_t i = 0; i < t.n; i++)
        counts[t.in[i]]++;
    vcl_rans_normalise(counts, frequencies);
    vcl_rans_encode_table(frequencies, t.encode_table);
    vcl_rans_decode_table(frequencies, t.table);
    t.given = 2 * t.n + 16 + sizeof t.states;
}

static void start_states(uint32_t states[VCL_RANS_LANES])
{
    for (int l = 0; l < VCL_RANS_LANES; l++)
        states[l] = VCL_RANS_LOW;
}

/* The words, behind what may be scribbled on, and the states. */
static void call_encode(const struct vcl_kernels *k)
{
    uint8_t words[2 * MOST + 16];
    uint32_t states[VCL_RANS_LANES];
    start_states(states);
    const uint8_t *const start = k->rans_encode(states, t.in, t.n, t.encode_table, words + 2 * t.n + 16);
    memset(out, 0, t.given);
    memcpy(out + (start - words), start, (size_t)(words + 2 * t.n + 16 - start));
    memcpy(out + 2 * t.n + 16, states, sizeof states);
}

/* The words of some symbols; every fourth time some are missing. */
static void prepare_decode(void)
{
    prepare_encode();
    start_states(t.states);
    const uint8_t *const start =
        vcl_kernels_for(VCL_CPU_C)->rans_encode(t.states, t.in, t.n, t.encode_table, t.words + 2 * t.n + 16);
    t.words_at = (size_t)(start - t.words);
    if (t.kind % 4 == 0)
        t.words_at += 2 * draw(t.n);
    if (t.words_at > 2 * t.n + 16)
        t.words_at = 2 * t.n + 16;
    t.given = t.n + 8;
}

/* Symbols and how many words are left; of damaged ones only that they are. */
static void call_decode(const struct vcl_kernels *k)
{
    uint32_t states[VCL_RANS_LANES];
    memcpy(states, t.states, sizeof states);
    const uint8_t *const end = t.words + 2 * t.n + 16,
                         *left = k->rans_decode(states, t.words + t.words_at, end, t.table, out, t.n);
    const uint64_t rest = left ? (uint64_t)(end - left) : UINT64_MAX;
    if (!left)
        memset(out, 0, t.n);
    memcpy(out + t.n, &rest, sizeof rest);
}

static void prepare_find(void)
{
    static const enum vcl_dtype dtypes[] = { VCL_DTYPE_F16, VCL_DTYPE_BF16, VCL_DTYPE_F32 };
    t.n = 1 + draw(60);
    t.points =
        (struct vcl_point_values){ .wide = t.kind / 2 % 2, .steps = t.steps, .dtype = dtypes[t.kind % 3] };
    t.points.means = t.kind % 2 ? t.means : NULL;
    for (int j = -VCL_NEAR; j < VCL_NEAR; j++)
        t.points.point[j & (2 * VCL_NEAR - 1)] =
            (float)j + (j >= -16 && j < 16 ? (float)random_uniform(&t.state) / 3 : 0);
    for (size_t c = 0; c < t.n; c++) {
        t.steps[c] = 0.25f + (float)random_uniform(&t.state);
        t.means[c] = (float)random_normal(&t.state);
    }
    for (size_t i = 0; i < t.n * VCL_STRIPE_LANES; i++) {
        const int far = draw(8) ? 40 : 8000, j = (int)draw(2 * (uint64_t)far) - far;
        vcl_store16(t.in + 2 * i, (uint16_t)j);
    }
    t.given = 4 * t.n * VCL_STRIPE_LANES;
}

static void call_find(const struct vcl_kernels *k)
{
    k->find_values(&t.points, (const int16_t *)(const void *)t.in, 0, (uint32_t)t.n, (float *)(void *)out);
}

enum { PANEL_TERMS = 100, PANEL_STRIDE = 40 };

static void prepare_panel(void)
{
    t.n = 1 + draw(PANEL_TERMS);
    fill_floats(t.x, PANEL_TERMS * PANEL_STRIDE);
    fill_floats(t.y, PANEL_TERMS * VCL_GROUP);
    fill_floats((float *)(void *)t.in, VCL_GROUP * PANEL_STRIDE);
    t.given = 4 * VCL_GROUP * PANEL_STRIDE;
}

static void call_panel(const struct vcl_kernels *k)
{
    memcpy(out, t.in, t.given);
    k->multiply_panel(t.x, PANEL_STRIDE, (uint32_t)t.n, t.y, 1u << t.kind % 4, 1 + t.kind / 4 % VCL_BLOCK,
                      (float *)(void *)out, PANEL_STRIDE);
}

/* n is its columns; rows are up to what `kind` says. */
static void prepare_turn(void)
{
    t.n = 1 + draw(60);
    fill_bytes((uint8_t *)t.x, sizeof t.x / 4, 255);
    t.given = 4 * t.n * PANEL_STRIDE;
}

static void call_turn(const struct vcl_kernels *k)
{
    memset(out, 0x5a, t.given);
    k->turn(t.x, 64, 1 + t.kind % VCL_STRIPE_LANES, (uint32_t)t.n, (float *)(void *)out, PANEL_STRIDE);
}

enum { MIX_ROWS = 3, MIX_STRIDE = 208, MIX_TERMS = 75 };

/* n columns; a third of the factors are 0, of either sign. */
static void prepare_mix(void)
{
    float *const x = (float *)(void *)t.in2;
    t.n = VCL_MIX_COLS * (1 + draw(MIX_STRIDE / VCL_MIX_COLS));
    fill_floats(t.x, MIX_TERMS * MIX_STRIDE);
    fill_floats(x, MIX_ROWS * MIX_TERMS);
    for (int i = 0; i < MIX_ROWS * MIX_TERMS; i++)
        x[i] = draw(3) ? x[i] : draw(2) ? 0.0f : -0.0f;
    fill_floats((float *)(void *)t.in, MIX_ROWS * MIX_STRIDE);
    t.given = 4 * MIX_ROWS * MIX_STRIDE;
}

static void call_mix(const struct vcl_kernels *k)
{
    const struct vcl_mix mix = { t.x, 1 + t.kind % MIX_TERMS, t.n, MIX_STRIDE };
    memcpy(out, t.in, t.given);
    k->mix(&mix, (const float *)(const void *)t.in2, MIX_TERMS, MIX_ROWS, (float *)(void *)out, MIX_STRIDE);
}

static const struct kernel {
    const char *name;
    void (*prepare)(void);
    void (*call)(const struct vcl_kernels *k);
} kernels[] = {
    { "to_f32", prepare_to_f32, call_to_f32 },
    { "compare", prepare_compare, call_compare },
    { "energy", prepare_energy, call_energy },
    { "split", prepare_split, call_split },
    { "join", prepare_split, call_join },
    { "pack", prepare_pack, call_pack },
    { "unpack", prepare_unpack, call_unpack },
    { "range", prepare_range, call_range },
    { "sum_blocks", prepare_sums, call_sums },
    { "rans_encode", prepare_encode, call_encode },
    { "rans_decode", prepare_decode, call_decode },
    { "find_values", prepare_find, call_find },
    { "multiply_panel", prepare_panel, call_panel },
    { "turn", prepare_turn, call_turn },
    { "mix", prepare_mix, call_mix },
};
enum { KERNELS = sizeof kernels / sizeof *kernels };

/* ---- checks -------------------------------------------------------------------------------------- */

static void prepare(const struct kernel *kernel, uint64_t seed)
{
    t.state = seed * 0x9E3779B97F4A7C15 + 1;
    t.kind = (unsigned)draw(1 << 20);
    kernel->prepare();
}

static void call(const struct kernel *kernel, int level, uint8_t guard)
{
    memset(out, guard, t.given + GUARD);
    kernel->call(vcl_kernels_for((enum vcl_cpu_level)level));
}

/* Fault: a level that gives other bytes than portable C, or writes beyond them. */
static void every_level_is_c(void **unused)
{
    (void)unused;
    static uint8_t expected[ROOM];
    for (const struct kernel *kernel = kernels; kernel < kernels + KERNELS; kernel++)
        for (uint64_t seed = 0; seed < SEEDS; seed++) {
            prepare(kernel, seed);
            assert_true(t.given + GUARD <= sizeof out);
            call(kernel, VCL_CPU_C, 0);
            memcpy(expected, out, t.given);
            for (int level = VCL_CPU_C; level <= (int)vcl_cpu_detect(); level++) {
                call(kernel, level, 0xa5);
                int wrong = memcmp(out, expected, t.given) != 0;
                for (size_t i = t.given; i < t.given + GUARD; i++)
                    wrong |= (out[i] != 0xa5) << 1;
                if (wrong)
                    fail_msg("%s, %s, seed %u: n %zu, kind %u: %s", kernel->name,
                             vcl_cpu_name((enum vcl_cpu_level)level), (unsigned)seed, t.n, t.kind,
                             wrong & 1 ? "not as in C" : "writes beyond its result");
            }
        }
}

/* ---- speed --------------------------------------------------------------------------------------- */

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Nanoseconds of a call, the least of some. */
static double time_call(const struct kernel *kernel, int level)
{
    enum { RUNS = 20, CALLS = 200 };
    double least = INFINITY;
    for (int run = 0; run < RUNS; run++) {
        const double start = seconds();
        for (int i = 0; i < CALLS; i++)
            kernel->call(vcl_kernels_for((enum vcl_cpu_level)level));
        least = fmin(least, (seconds() - start) / CALLS);
    }
    return 1e9 * least;
}

static int print_speeds(void)
{
    for (const struct kernel *kernel = kernels; kernel < kernels + KERNELS; kernel++) {
        uint64_t seed = 0;
        do /* the first that is long */
            prepare(kernel, seed++);
        while (t.given < 1000 && t.n < 2000 && seed < 1000);
        printf("%-16s n %4zu %6zu bytes out", kernel->name, t.n, t.given);
        for (int level = VCL_CPU_C; level <= (int)vcl_cpu_detect(); level++)
            printf("  %s %9.1f ns", vcl_cpu_name((enum vcl_cpu_level)level), time_call(kernel, level));
        printf("\n");
    }
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(every_level_is_c) };
    if (argc > 1 && strcmp(argv[1], "speed") == 0)
        return print_speeds();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
