/* The tensor codec's loops: every level of CPU against portable C, and there and back. */
#include "base/common.h"
#include "codec/lanes.h"
#include "codec/model.h"
#include "codec/trellis.h"
#include "random.h"
#include "sanitized.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const int bits_of_state[] = { 0, 2, 3, 4, 5, 6, 7, 8 };

/* A stripe with everything that belongs to it. */
struct stripe_sample {
    struct vcl_stripe stripe;
    uint32_t codes[VCL_MODEL_CLASSES][2 * VCL_MODEL_SYMBOLS];
    uint32_t slots[VCL_MODEL_CLASSES][2 * VCL_MODEL_TOTAL];
    struct vcl_bend bends[VCL_MODEL_CLASSES];
    float costs[VCL_MODEL_CLASSES][VCL_POINT_COSTS];
    float moves[2 * VCL_MOVED_POINTS + 2];
    int8_t *col_class;
    float *x; /* active rows of cols values */
};

static void *allocate(size_t n)
{
    void *const p = malloc(n ? n : 1);
    assert_non_null(p);
    return p;
}

static void make_tables(struct stripe_sample *s, float lambda)
{
    struct vcl_symbol_model model;
    for (int class = 0; class < VCL_MODEL_CLASSES; class ++) {
        vcl_model_make(class % 8, class, 0, &model);
        vcl_model_codes(&model, s->codes[class]);
        vcl_model_slots(&model, s->slots[class]);
        const int low = vcl_low_bits(class, VCL_LOW_CLASS), octave = (class - 4 * low - VCL_MODEL_UNIT) >> 2;
        s->bends[class] = vcl_trellis_bend(&model, octave, lambda, (unsigned)low);
        assert_true(isfinite(s->bends[class].a) && s->bends[class].b >= 0 && s->bends[class].slope >= 0);
    }
    s->stripe.codes = s->codes[0];
    s->stripe.slots = s->slots[0];
    s->stripe.bends = s->bends;
}

/* Values whose deviation is mostly what their classes promise; some far beyond. */
static void fill_values(struct stripe_sample *s, uint64_t *state)
{
    struct vcl_stripe *const t = &s->stripe;
    for (int l = 0; l < t->active; l++)
        for (uint32_t c = 0; c < t->cols; c++) {
            const double scale = exp2((vcl_stripe_class(t, l, c) - VCL_MODEL_UNIT) / 4.0);
            const uint64_t kind = random_bits(state) % 64;
            double x = random_normal(state) * scale;
            x = kind == 0 ? x * 50 : kind == 1 ? rint(x) : kind == 2 ? -0.0 : x;
            s->x[(size_t)l * t->cols + c] = (float)(x > 30000 ? 30000 : x < -30000 ? -30000 : x);
        }
}

/* low: some rows are of classes with low bits outside the model. */
static struct stripe_sample *make_sample(int lanes, int active, uint32_t cols, int v, int low, float lambda,
                                         int by_column, uint64_t seed)
{
    struct stripe_sample *const s = allocate(sizeof *s);
    uint64_t state = seed * 0x9E3779B97F4A7C15 + 1;
    memset(s, 0, sizeof *s);
    s->stripe.lanes = lanes;
    s->stripe.active = active;
    s->stripe.cols = cols;
    s->stripe.v = v;
    s->stripe.low_from = low ? VCL_LOW_CLASS : VCL_MODEL_CLASSES;
    make_tables(s, lambda);
    s->col_class = allocate(cols);
    s->x = allocate((size_t)active * cols * sizeof *s->x);
    for (int l = 0; l < lanes; l++)
        s->stripe.row_class[l] =
            (int8_t)(l < active
                         ? (int)(random_bits(&state) % 28) - (random_bits(&state) % 32 ? 0 : 90)
                               + (low && random_bits(&state) % 4 == 0 ? 28 + (int)(random_bits(&state) % 9)
                                                                      : 0)
                         : 0);
    for (uint32_t c = 0; c < cols; c++)
        s->col_class[c] =
            (int8_t)((int)(random_bits(&state) % 9) - 4 + (random_bits(&state) % 64 ? 0 : -100));
    s->stripe.col_class = by_column ? s->col_class : NULL;
    fill_values(s, &state);
    return s;
}

/* From now on what points cost is told one by one, and all that can move do: by multiples, so that many ways
 * are equally good. */
static void price_points(struct stripe_sample *s)
{
    uint64_t state = s->stripe.cols + 1;
    for (int class = 0; class < VCL_MODEL_CLASSES; class ++)
        for (int i = 0; i < VCL_POINT_COSTS; i++)
            s->costs[class][i] = (float)(random_bits(&state) % 40) / 4;
    for (int i = 1; i <= 2 * VCL_MOVED_POINTS; i++)
        s->moves[i] = (float)((int)(random_bits(&state) % 256) - 128) / 64;
    s->stripe.costs = s->costs[0];
    s->stripe.moves = s->moves;
}

static void free_sample(struct stripe_sample *s)
{
    free(s->col_class);
    free(s->x);
    free(s);
}

/* Calls visit with samples of every kind. */
static void for_samples(void (*visit)(struct stripe_sample *s))
{
    static const uint32_t cols[] = { 1, 3, 64, 131, 200 };
    const uint64_t every = (uint64_t)vcl_how_many(7, 1, 1);
    uint64_t seed = 1;
    for (size_t v = 0; v < sizeof bits_of_state / sizeof *bits_of_state; v++)
        for (size_t c = 0; c < sizeof cols / sizeof *cols; c++)
            for (unsigned kind = 0; kind < 8; kind++, seed++) {
                if (seed % every > 0)
                    continue;
                const int lanes = seed % 5 == 0 ? 8 : 32,
                          active = seed % 3 ? lanes : (int)(seed % (uint64_t)lanes) + 1;
                struct stripe_sample *const s =
                    make_sample(lanes, active, cols[c], bits_of_state[v], kind & 1, kind & 2 ? 0.4f : 0,
                                kind & 4 ? 1 : 0, seed);
                visit(s);
                free_sample(s);
            }
}

static const struct vcl_kernels *level(int i)
{
    return i <= (int)vcl_cpu_detect() ? vcl_kernels_for((enum vcl_cpu_level)i) : NULL;
}

/* ---- rows to lanes, search, and back ----------------------------------------------------------- */

struct searched {
    size_t n;
    float *u;
    int16_t *j;
};

static struct searched search_with(const struct vcl_kernels *kernels, const struct stripe_sample *s)
{
    const struct vcl_stripe *const t = &s->stripe;
    const struct vcl_scaling scaling = { 1.0625f, 30000 };
    struct searched r = { (size_t)t->lanes * t->cols, NULL, NULL };
    uint32_t *const scratch = allocate(vcl_trellis_scratch(t->v, t->cols));
    r.u = allocate(r.n * sizeof *r.u);
    r.j = allocate(r.n * sizeof *r.j);
    kernels->load_rows(t, &scaling, s->x, t->cols, r.u);
    kernels->search(t, r.u, scratch, r.j);
    free(scratch);
    return r;
}

static void free_searched(struct searched r)
{
    free(r.u);
    free(r.j);
}

static void compare_search(const struct stripe_sample *s)
{
    const struct searched c = search_with(level(0), s);
    for (int i = 1; level(i); i++) {
        const struct searched r = search_with(level(i), s);
        assert_memory_equal(r.u, c.u, c.n * sizeof *c.u);
        assert_memory_equal(r.j, c.j, c.n * sizeof *c.j);
        free_searched(r);
    }
    free_searched(c);
}

static void compare_searches(struct stripe_sample *s)
{
    compare_search(s);
    price_points(s);
    compare_search(s);
}

static struct searched search_fed_back(const struct vcl_kernels *kernels, const struct stripe_sample *s,
                                       const float *matrix, const float *factor)
{
    const struct vcl_stripe *const t = &s->stripe;
    const struct vcl_scaling scaling = { 1.0625f, 30000 };
    const struct vcl_feedback feedback = { matrix, t->cols, 0, factor, factor + t->cols };
    struct searched r = { (size_t)t->lanes * t->cols, NULL, NULL };
    void *const scratch = allocate(vcl_feedback_scratch(t->v, t->cols));
    r.u = allocate(r.n * sizeof *r.u);
    r.j = allocate(r.n * sizeof *r.j);
    kernels->load_rows(t, &scaling, s->x, t->cols, r.u);
    kernels->search_feedback(t, &feedback, r.u, scratch, r.j);
    free(scratch);
    return r;
}

static void compare_search_fed_back(const struct stripe_sample *s)
{
    const uint32_t n = s->stripe.cols;
    float *const matrix = allocate((size_t)n * n * sizeof *matrix), *const factor =
                                                                        allocate(2 * n * sizeof *factor);
    uint64_t state = n;
    for (size_t i = 0; i < (size_t)n * n; i++)
        matrix[i] = (float)(0.2 * random_normal(&state));
    for (uint32_t c = 0; c < n; c++)
        factor[c] = ldexpf(1, (int)(c % 3) - 1), factor[n + c] = 1 / factor[c];
    const struct searched c = search_fed_back(level(0), s, matrix, factor);
    for (int i = 1; level(i); i++) {
        const struct searched r = search_fed_back(level(i), s, matrix, factor);
        assert_memory_equal(r.u, c.u, c.n * sizeof *c.u);
        assert_memory_equal(r.j, c.j, c.n * sizeof *c.j);
        free_searched(r);
    }
    free_searched(c);
    free(matrix);
    free(factor);
}

static void compare_fed_back(struct stripe_sample *s)
{
    compare_search_fed_back(s);
    price_points(s);
    compare_search_fed_back(s);
}

/* Fault: a level finds another path than portable C, with errors fed back or without, points priced or by
 * curves. */
static void every_level_finds_the_same_path(void **unused)
{
    (void)unused;
    for_samples(compare_searches);
    for_samples(compare_fed_back);
}

/* What a point of the first lane costs, by the definitions of costs and moves. */
static double point_cost(const struct vcl_stripe *t, uint32_t c, double u, int j)
{
    const int class = vcl_stripe_class(t, 0, c), low = vcl_low_bits(class, t->low_from);
    const int high = (int)floor(ldexp((double)((j - (j & 1)) / 2), -low));
    const int symbol = high < -32 ? 0 : high > 31 ? 63 : high + 32;
    const int moves = t->costs && j >= -VCL_MOVED_POINTS && j < VCL_MOVED_POINTS;
    const double e = u - j - (double)(moves ? t->moves[1 + VCL_MOVED_POINTS + j] : 0);
    return e * e + (double)(t->costs ? t->costs[class * VCL_POINT_COSTS + 2 * symbol + (j & 1)] : 0);
}

static double path_cost(const struct vcl_stripe *t, const float *u, const unsigned *branches)
{
    unsigned state = 0;
    double sum = 0;
    for (uint32_t c = 0; c < t->cols; c++) {
        const unsigned g = state & 1, b = branches[c], q = 2 * b + g;
        const double x = (double)u[(size_t)c * (size_t)t->lanes];
        const int below = (int)q + 4 * (int)floor((x - q) / 4);
        sum += fmin(point_cost(t, c, x, below), point_cost(t, c, x, below + 4));
        state = state >> 1 ^ (b ? vcl_trellis_turns[t->v][0] : 0u) ^ (g ? vcl_trellis_turns[t->v][1] : 0u);
    }
    return sum;
}

/* Fault: the search's path is not the nearest of all (lambda 0), or where points are priced the cheapest,
 * tried one by one on a short stripe. */
static void the_path_is_the_best(void **unused)
{
    (void)unused;
    enum { COLS = 9 };
    for (uint64_t seed = 1; seed < 80; seed++) {
        struct stripe_sample *const s =
            make_sample(8, 1, COLS, bits_of_state[seed % 7 + 1], seed % 3 == 0, 0, seed % 5 == 0, seed);
        if (seed % 2)
            price_points(s);
        const struct searched found = search_with(level(0), s);
        double best = 1e300, error = 0;
        for (unsigned path = 0; path < 1u << COLS; path++) {
            unsigned branches[COLS];
            for (unsigned c = 0; c < COLS; c++)
                branches[c] = path >> c & 1;
            const double cost = path_cost(&s->stripe, found.u, branches);
            best = cost < best ? cost : best;
        }
        for (uint32_t c = 0; c < COLS; c++)
            error += point_cost(&s->stripe, c, (double)found.u[8 * c], found.j[8 * c]);
        assert_true(error <= best * (1 + 1e-5) + 1e-5);
        free_searched(found);
        free_sample(s);
    }
}

static void compare_values(struct stripe_sample *s)
{
    static const enum vcl_dtype dtypes[] = { VCL_DTYPE_F32, VCL_DTYPE_F16, VCL_DTYPE_BF16, VCL_DTYPE_F64 };
    const struct vcl_stripe *const t = &s->stripe;
    const struct searched r = search_with(level(0), s);
    const size_t stride = t->cols + 3, n = (size_t)t->active * stride * 8;
    uint8_t *const expected = allocate(n), *const got = allocate(n);
    float *const steps = allocate((t->cols + 1) * sizeof *steps);
    price_points(s);
    for (uint32_t c = 0; c <= t->cols; c++)
        steps[c] = 3.7f + (float)(c % 3);
    for (size_t d = 0; d < 2 * sizeof dtypes / sizeof *dtypes; d++) {
        struct vcl_points points = { { 0, .125f, -.0625f, .25f, 0, 0, -.5f, 0, .0078125f },
                                     d % 2 ? s->moves + 1 : NULL,
                                     steps,
                                     60000,
                                     dtypes[d / 2] };
        for (int i = 0; level(i); i++) {
            uint8_t *const dst = i ? got : expected;
            memset(dst, 0xa5, n);
            level(i)->store_rows(t, &points, r.j, 1, t->cols, dst, stride);
            assert_memory_equal(dst, expected, n);
        }
    }
    free(steps);
    free(expected);
    free(got);
    free_searched(r);
}

/* Fault: a level makes other values of indices, or writes beyond a row's columns. */
static void every_level_stores_the_same_values(void **unused)
{
    (void)unused;
    for_samples(compare_values);
}

/* ---- bytes ------------------------------------------------------------------------------------- */

static struct vcl_lanes lanes_of(const struct vcl_kernels *kernels, const struct stripe_sample *s)
{
    const struct vcl_stripe *const t = &s->stripe;
    return (struct vcl_lanes){ .kernels = kernels,
                               .v = t->v,
                               .lanes = t->lanes,
                               .low_from = t->low_from,
                               .rows = (uint32_t)t->active,
                               .cols = t->cols,
                               .row_class = t->row_class,
                               .col_class = t->col_class,
                               .codes = t->codes,
                               .slots = t->slots };
}

/* 0 if the bytes are refused.  They are copied to where a byte too many is noticed. */
static int decode(const struct vcl_lanes *lanes, const uint8_t *src, size_t bytes, int16_t *j)
{
    struct vcl_lanes_reader r;
    uint8_t *const copy = allocate(bytes);
    memcpy(copy, src, bytes);
    int whole = vcl_lanes_open(lanes, copy, bytes, &r);
    if (whole) {
        const struct vcl_stripe stripe = vcl_lanes_stripe(lanes, 0);
        const uint32_t half = lanes->cols / 2;
        vcl_lanes_begin(&r);
        lanes->kernels->decode_columns(&stripe, &r, 0, half, j);
        lanes->kernels->decode_columns(&stripe, &r, half, lanes->cols - half,
                                       j + (size_t)half * (size_t)lanes->lanes);
        whole = vcl_lanes_close(lanes, &r);
    }
    free(copy);
    return whole;
}

static void forget_idle_lanes(const struct vcl_stripe *t, int16_t *j)
{
    for (uint32_t c = 0; c < t->cols; c++)
        for (int l = t->active; l < t->lanes; l++)
            j[(size_t)c * (size_t)t->lanes + (size_t)l] = 0;
}

/* Fails if a level takes what another refuses, or makes something else of it. */
static void compare_decoders(const struct stripe_sample *s, const uint8_t *src, size_t bytes,
                             int expected_whole)
{
    const size_t n = (size_t)s->stripe.lanes * s->stripe.cols;
    int16_t *const expected = allocate(n * 2), *const got = allocate(n * 2);
    int first = 0;
    for (int i = 0; level(i); i++) {
        const struct vcl_lanes lanes = lanes_of(level(i), s);
        int16_t *const j = i ? got : expected;
        const int whole = decode(&lanes, src, bytes, j);
        first = i ? first : whole;
        assert_int_equal(whole, first);
        assert_true(!expected_whole || whole);
        if (whole)
            assert_memory_equal(j, expected, n * 2);
    }
    free(expected);
    free(got);
}

static void code(struct stripe_sample *s)
{
    const struct searched r = search_with(level(0), s);
    const struct vcl_lanes lanes = lanes_of(level(0), s);
    const size_t room = vcl_lanes_bound(&lanes, 1);
    uint8_t *const bytes = allocate(room), *const others = allocate(room);
    int16_t *const j = allocate(r.n * 2);
    const size_t n = vcl_lanes_encode(&lanes, 1, r.j, bytes);
    uint64_t state = n + 1;
    forget_idle_lanes(&s->stripe, r.j);
    assert_true(decode(&lanes, bytes, n, j));
    assert_memory_equal(j, r.j, r.n * 2);
    compare_decoders(s, bytes, n, 1);
    for (int i = 1; level(i); i++) {
        const struct vcl_lanes same = lanes_of(level(i), s);
        assert_int_equal(vcl_lanes_encode(&same, 1, r.j, others), n);
        assert_memory_equal(others, bytes, n);
    }
    for (int i = 0; i < 8; i++) { /* damage */
        memcpy(others, bytes, n);
        others[random_bits(&state) % n] ^= (uint8_t)(1 + random_bits(&state) % 255);
        compare_decoders(s, others, n, 0);
        compare_decoders(s, bytes, random_bits(&state) % n, 0);
    }
    free(j);
    free(bytes);
    free(others);
    free_searched(r);
}

/* Fault: bytes differ between levels, do not decode to what was coded, or damage is met differently. */
static void every_level_codes_the_same_bytes(void **unused)
{
    (void)unused;
    for_samples(code);
}

/* Fault: bytes that no encoder made are read beyond their end, or decoded differently. */
static void noise_decodes_the_same(void **unused)
{
    (void)unused;
    uint8_t noise[4000];
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct stripe_sample *const s = make_sample(seed % 7 ? 32 : 8, seed % 7 ? (int)(seed % 32) + 1 : 8,
                                                    40, 3, seed % 2 ? 0 : 8, 0, 1, seed);
        uint64_t state = seed;
        const size_t n = random_bits(&state) % sizeof noise;
        for (size_t i = 0; i < sizeof noise; i++)
            noise[i] = (uint8_t)random_bits(&state);
        vcl_store32(noise, (uint32_t)(random_bits(&state) % 300));
        compare_decoders(s, noise, n, 0);
        free_sample(s);
    }
}

/* Fault: an index of the largest size is lost in an escape. */
static void largest_indices_survive(void **unused)
{
    (void)unused;
    for (int low = 0; low <= 1; low++) {
        struct stripe_sample *const s = make_sample(32, 32, 100, 0, low, 0, 0, 5);
        const struct vcl_lanes lanes = lanes_of(level(0), s);
        int16_t j[3200], back[3200];
        uint8_t *const bytes = allocate(vcl_lanes_bound(&lanes, 1));
        for (int i = 0; i < 3200; i++) /* one state: even indices */
            j[i] = (int16_t)((i % 2 ? -1 : 1) * 2 * (15002 - i * 4));
        const size_t n = vcl_lanes_encode(&lanes, 1, j, bytes);
        assert_true(n <= vcl_lanes_bound(&lanes, 1));
        assert_true(decode(&lanes, bytes, n, back));
        assert_memory_equal(j, back, sizeof j);
        compare_decoders(s, bytes, n, 1);
        free(bytes);
        free_sample(s);
    }
}

/* ---- loops over values ------------------------------------------------------------------------- */

/* Any bits, or values as tensors have them and what is decoded of them. */
static void fill_pair(enum vcl_dtype dtype, int any, uint8_t *x, uint8_t *y, size_t n, uint64_t *state)
{
    const size_t size = vcl_dtype_bits(dtype) / 8;
    for (size_t i = 0; i < n * size; i++)
        x[i] = y[i] = (uint8_t)(random_bits(state) >> 40);
    for (size_t i = 0; i < n && !any; i++) {
        const double value = random_normal(state), decoded = value + random_normal(state) / 9;
        vcl_convert(VCL_DTYPE_F64, &value, dtype, x + i * size, 1);
        vcl_convert(VCL_DTYPE_F64, &decoded, dtype, y + i * size, 1);
    }
}

static void compare_values_of(enum vcl_dtype dtype, int any, size_t n, uint64_t *state)
{
    uint8_t *const x = allocate(8 * n), *const y = allocate(8 * n);
    float *const expected = allocate(4 * n), *const got = allocate(4 * n);
    double *const weight = allocate(8 * n);
    struct vcl_error_sums first = { 0 };
    double energy[2] = { 0 };
    fill_pair(dtype, any, x, y, n, state);
    for (size_t i = 0; i < n; i++)
        weight[i] = random_uniform(state);
    for (int i = 0; level(i); i++) {
        struct vcl_error_sums sums = { 0 };
        level(i)->to_f32(dtype, x, i ? got : expected, n);
        level(i)->compare(dtype, x, y, n, &sums);
        first = i ? first : sums;
        assert_memory_equal(&sums, &first, sizeof sums);
        assert_memory_equal(i ? got : expected, expected, 4 * n);
        const double plain = level(i)->energy(expected, NULL, n),
                     weighted = level(i)->energy(expected, weight, n);
        energy[0] = i ? energy[0] : plain, energy[1] = i ? energy[1] : weighted;
        assert_true(any || (plain == energy[0] && weighted == energy[1]));
    }
    free(x);
    free(y);
    free(expected);
    free(got);
    free(weight);
}

/* Fault: a level that converts, compares or sums up otherwise than portable C. */
static void every_level_takes_values_alike(void **unused)
{
    (void)unused;
    static const enum vcl_dtype dtypes[] = { VCL_DTYPE_F32, VCL_DTYPE_F16, VCL_DTYPE_BF16, VCL_DTYPE_F64 };
    uint64_t state = 77;
    for (size_t d = 0; d < 4; d++)
        for (size_t n = 1; n < 1500; n += 1 + n / 5)
            for (int any = 0; any <= 1; any++)
                compare_values_of(dtypes[d], any, n, &state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_level_takes_values_alike),
        cmocka_unit_test(every_level_finds_the_same_path),
        cmocka_unit_test(the_path_is_the_best),
        cmocka_unit_test(every_level_stores_the_same_values),
        cmocka_unit_test(every_level_codes_the_same_bytes),
        cmocka_unit_test(noise_decodes_the_same),
        cmocka_unit_test(largest_indices_survive),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
