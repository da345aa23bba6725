/* The stages of the video path, each alone: plan, rotate, picture, rate. */
#include "codec/picture.h"
#include "codec/plan.h"
#include "codec/rate.h"
#include "codec/rotate.h"
#include "random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* ---- plan ------------------------------------------------------------------------------------ */

/* Every value in exactly one tile, no tile above the limits. */
static void check_cover(const struct vcl_tensor *tensor, uint32_t side)
{
    struct vcl_plan plan;
    uint64_t values, covered = 0;
    int width, height;
    assert_int_equal(vcl_tensor_size(tensor, &values, NULL), VCL_OK);
    vcl_plan_pictures(tensor, values, side, &plan);
    assert_true(values == 0 || plan.rows * plan.cols == values);
    for (uint64_t i = 0; i < plan.tiles; i++) {
        const struct vcl_rect rect = vcl_plan_tile(&plan, i);
        assert_true(rect.rows > 0 && rect.cols > 0);
        assert_true(rect.row + rect.rows <= plan.rows && rect.col + rect.cols <= plan.cols);
        assert_true(vcl_picture_sides(rect.rows, rect.cols, &width, &height));
        assert_true(width >= 64 && height >= 64 && width % 8 == 0 && height % 8 == 0);
        assert_true((uint64_t)rect.rows * rect.cols <= VCL_TILE_VALUES + 8 * 4096);
        covered += (uint64_t)rect.rows * rect.cols;
    }
    assert_true(covered == values);
}

/* Fault: a shape for which a value is in no tile or a tile makes no picture. */
static void tiles_cover_every_shape(void **unused)
{
    (void)unused;
    static const struct vcl_tensor tensors[] = {
        { VCL_DTYPE_F32, 0, { 0 } },
        { VCL_DTYPE_F32, 1, { 0 } },
        { VCL_DTYPE_F32, 1, { 1 } },
        { VCL_DTYPE_F32, 1, { 5000003 } },
        { VCL_DTYPE_F32, 2, { 1, 1 } },
        { VCL_DTYPE_F32, 2, { 4097, 8195 } },
        { VCL_DTYPE_F32, 2, { 3, 100003 } },
        { VCL_DTYPE_F32, 2, { 100003, 3 } },
        { VCL_DTYPE_F32, 2, { 64, 64 } },
        { VCL_DTYPE_F32, 2, { 63, 64 } },
        { VCL_DTYPE_F32, 4, { 512, 256, 3, 3 } },
        { VCL_DTYPE_F32, 3, { 4, 512, 32 } },
        { VCL_DTYPE_F32, 3, { 7, 0, 9 } },
        { VCL_DTYPE_F32, 2, { 65, 12289 } },
        { VCL_DTYPE_F32, 2, { 32000, 4096 } },
        { VCL_DTYPE_F32, 2, { 20000, 1 } },
    };
    for (size_t i = 0; i < sizeof tensors / sizeof tensors[0]; i++)
        check_cover(&tensors[i], 4096);
}

/* Fault: a header's grid accepted that would divide by zero or make a tile of any size. */
static void hostile_grids_are_refused(void **unused)
{
    (void)unused;
    struct vcl_plan plan;
    assert_false(vcl_plan_parse(100, 0, 1, 1, &plan));
    assert_false(vcl_plan_parse(100, 10, 0, 1, &plan));
    assert_false(vcl_plan_parse(100, 10, 1, 0, &plan));
    assert_false(vcl_plan_parse(100, 7, 1, 1, &plan));
    assert_false(vcl_plan_parse(100, 10, UINT32_MAX, UINT32_MAX, &plan));
    assert_false(vcl_plan_parse(100, 10, 1 << 13, (1 << 11) + 1, &plan));
    assert_true(vcl_plan_parse(100, 10, 4, 3, &plan));
    assert_true(plan.tiles == 12 && plan.rows == 10);
}

/* ---- rotate ---------------------------------------------------------------------------------- */

/* Fault: a rotation that loses energy or is not undone, for lengths that are no power of two. */
static void rotation_is_orthonormal(void **unused)
{
    (void)unused;
    static const uint32_t sizes[][2] = { { 1, 1 }, { 64, 64 }, { 688, 256 }, { 3, 1000 }, { 97, 101 } };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        const uint32_t rows = sizes[i][0], cols = sizes[i][1];
        const size_t n = (size_t)rows * cols;
        float *const x = malloc(n * sizeof *x), *const y = malloc(n * sizeof *y);
        double before = 0, after = 0, error = 0;
        random_fill(x, n, 7 + i, random_laplace);
        memcpy(y, x, n * sizeof *x);
        vcl_rotate(y, rows, cols, 5);
        for (size_t j = 0; j < n; j++) {
            before += (double)x[j] * x[j];
            after += (double)y[j] * y[j];
        }
        assert_true(fabs(after / before - 1) < 1e-5);
        vcl_rotate_back(y, rows, cols, 5);
        for (size_t j = 0; j < n; j++)
            error += ((double)x[j] - y[j]) * ((double)x[j] - y[j]);
        assert_true(error < before * 1e-12);
        free(x);
        free(y);
    }
}

/* Fault: one outlier that stays one. */
static void rotation_spreads_an_outlier(void **unused)
{
    (void)unused;
    enum { SIDE = 64 };
    static float x[SIDE * SIDE];
    memset(x, 0, sizeof x);
    x[1234] = 64;
    vcl_rotate(x, SIDE, SIDE, 1);
    for (size_t i = 0; i < SIDE * SIDE; i++)
        assert_true(fabsf(fabsf(x[i]) - 1) < 1e-5f);
}

/* ---- picture --------------------------------------------------------------------------------- */

static void check_picture(uint32_t rows, uint32_t cols, int depth, int scaled)
{
    const size_t n = (size_t)rows * cols;
    float *const x = malloc(n * sizeof *x), *const y = malloc(n * sizeof *y),
                 *const scales = malloc(rows * sizeof *scales);
    struct vcl_picture picture = { 0, 0, depth, NULL };
    float range = 0;
    assert_true(vcl_picture_sides(rows, cols, &picture.width, &picture.height));
    const size_t samples = (size_t)picture.width * (size_t)picture.height;
    picture.samples = malloc(samples * sizeof *picture.samples);
    memset(picture.samples, 0xff, samples * sizeof *picture.samples);
    random_fill(x, n, rows + cols, random_normal);
    for (uint32_t r = 0; r < rows; r++) {
        float max = 0;
        for (uint32_t c = 0; c < cols; c++)
            max = fmaxf(max, fabsf(x[(size_t)r * cols + c]));
        scales[r] = vcl_row_scale_value(vcl_row_scale(max));
        assert_true(scales[r] >= max);
        range = fmaxf(range, max);
    }
    const float step = (scaled ? 1 : range) / (float)((1 << (depth - 1)) - 1);
    vcl_picture_fill(&picture, x, rows, cols, step, scaled ? scales : NULL);
    for (size_t i = 0; i < samples; i++)
        assert_true(picture.samples[i] < 1 << depth);
    vcl_picture_values(&picture, y, rows, cols, step, scaled ? scales : NULL);
    for (size_t i = 0; i < n; i++)
        assert_true(fabsf(x[i] - y[i]) <= 0.5001f * step * (scaled ? scales[i / cols] : 1));
    free(picture.samples);
    free(scales);
    free(y);
    free(x);
}

/* Fault: a value off by more than half a step, a sample left unset or out of range, wrapped or not. */
static void pictures_round_to_nearest(void **unused)
{
    (void)unused;
    static const uint32_t sizes[][2] = { { 1, 1 },    { 64, 64 },  { 63, 65 },
                                         { 1, 5000 }, { 5000, 1 }, { 100, 203 } };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (int depth = 8; depth <= 12; depth += 2)
            for (int scaled = 0; scaled <= 1; scaled++)
                check_picture(sizes[i][0], sizes[i][1], depth, scaled);
}

/* Fault: a tile of zeros, denormals or the largest floats that divides by zero or overflows. */
static void extreme_ranges(void **unused)
{
    (void)unused;
    static float x[64 * 64], y[64 * 64];
    static uint16_t samples[64 * 64];
    struct vcl_picture picture = { 64, 64, 8, samples };
    static const float magnitudes[] = { 0, 1e-45f, 1e-40f, 3.4e38f };
    for (size_t m = 0; m < sizeof magnitudes / sizeof magnitudes[0]; m++) {
        for (size_t i = 0; i < 64 * 64; i++)
            x[i] = i & 1 ? magnitudes[m] : -magnitudes[m];
        vcl_picture_fill(&picture, x, 64, 64, magnitudes[m] / 127, NULL);
        vcl_picture_values(&picture, y, 64, 64, magnitudes[m] / 127, NULL);
        for (size_t i = 0; i < 64 * 64; i++)
            assert_true(fabsf(y[i]) <= 1.001f * magnitudes[m]);
    }
    assert_int_equal(vcl_row_scale(0), 0);
    assert_true(vcl_row_scale_value(vcl_row_scale(3.4e38f)) < INFINITY);
}

/* ---- rate ------------------------------------------------------------------------------------ */

struct curve {
    double offset, bend; /* bits = 0.5 log2(1 + 4^(offset - x)) + bend sin(40 x) */
    int trials;
};

static struct vcl_trial try_curve(struct curve *curve, double x)
{
    curve->trials++;
    const double bits = 0.5 * log2(1 + exp2(2 * (curve->offset - x))) + curve->bend * sin(40 * x);
    return (struct vcl_trial){ bits, 6.02 * bits - 0.5 };
}

static struct vcl_rate search_curve(struct curve *curve, struct vcl_rate rate)
{
    while (!rate.done) {
        const struct vcl_trial trial = try_curve(curve, rate.x);
        vcl_rate_tell(&rate, &trial);
    }
    return rate;
}

/* Fault: a search that ends outside the window or takes many trials, on curves bent as real ones are. */
static void search_lands_in_the_window(void **unused)
{
    (void)unused;
    int all = 0, searches = 0;
    for (double target = 0.3; target < 6; target += 0.37)
        for (double offset = -1; offset < 8; offset += 1.3) {
            struct curve curve = { offset, 0.01, 0 };
            const double guess = offset - target + 0.4;
            struct vcl_rate rate = search_curve(&curve, vcl_rate_begin(VCL_GOAL_BITS, target, -9, 12, guess));
            assert_true(rate.accepted && rate.best.bits <= target && rate.best.bits >= 0.98 * target);
            rate = search_curve(&curve, vcl_rate_begin(VCL_GOAL_SNR, 6.02 * target, -9, 12, guess));
            assert_true(rate.accepted && rate.best.snr >= 6.02 * target
                        && rate.best.snr < 6.02 * target + 0.3);
            all += curve.trials;
            searches += 2;
        }
    print_message("%.2f trials on average\n", (double)all / searches);
    assert_true(all < 4 * searches);
}

/* Fault: an endless search, or a claim to have met a target out of reach. */
static void search_gives_up(void **unused)
{
    (void)unused;
    struct curve curve = { 3, 0, 0 };
    struct vcl_rate rate = search_curve(&curve, vcl_rate_begin(VCL_GOAL_BITS, 0.001, -1, 5, 0));
    assert_true(!rate.found && curve.trials < 12);
    rate = search_curve(&curve, vcl_rate_begin(VCL_GOAL_BITS, 9, -1, 5, 0));
    assert_true(rate.found && !rate.accepted && rate.best_x == -1); /* all that can be had is far less */
}

/* Fault: the trial with the most bits below the target is kept although another has a higher SNR; or the one
 * with the fewest bits that reaches an SNR is passed over for one that is nearer to it. */
static void the_better_trial_is_kept(void **unused)
{
    (void)unused;
    struct vcl_rate rate = vcl_rate_begin(VCL_GOAL_BITS, 3, -5, 5, 0);
    assert_true(vcl_rate_tell(&rate, &(struct vcl_trial){ 3.4, 20 }));
    assert_true(vcl_rate_tell(&rate, &(struct vcl_trial){ 2.2, 17 }));
    assert_false(vcl_rate_tell(&rate, &(struct vcl_trial){ 2.9, 4 }));
    assert_true(rate.found && rate.best.snr == 17);
    rate = vcl_rate_begin(VCL_GOAL_SNR, 10, -5, 5, 0);
    assert_true(vcl_rate_tell(&rate, &(struct vcl_trial){ 3.0, 12 }));
    assert_true(vcl_rate_tell(&rate, &(struct vcl_trial){ 2.0, 14 }));
    assert_false(vcl_rate_tell(&rate, &(struct vcl_trial){ 1.5, 9 }));
    assert_true(rate.found && rate.best.bits == 2.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiles_cover_every_shape),    cmocka_unit_test(hostile_grids_are_refused),
        cmocka_unit_test(rotation_is_orthonormal),    cmocka_unit_test(rotation_spreads_an_outlier),
        cmocka_unit_test(pictures_round_to_nearest),  cmocka_unit_test(extreme_ranges),
        cmocka_unit_test(search_lands_in_the_window), cmocka_unit_test(search_gives_up),
        cmocka_unit_test(the_better_trial_is_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
