/* What --allocate computes with: moments and their factors, and bits shared out. */
#include "allot/moments.h"
#include "pooled.h"
#include "random.h"
#include "allot/shares.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- moments --------------------------------------------------------------------------------- */

/* n vectors of which neighbouring columns depend on each other, with a mean and a column of zeros. */
static float *make_vectors(size_t n, size_t cols, uint64_t seed)
{
    float *x = malloc(n * cols * sizeof *x + 1);
    assert_non_null(x);
    for (size_t t = 0; t < n; t++) {
        double common = 0;
        for (size_t c = 0; c < cols; c++) {
            common = 0.8 * common + random_normal(&seed);
            x[t * cols + c] = c == 3 ? 0 : (float)((common + 0.5) * (1 + (double)(c % 7)));
        }
    }
    return x;
}

static struct vcl_moments *sum_up(const float *x, size_t n, size_t cols, unsigned threads)
{
    struct vcl_moments *moments = vcl_moments_create(cols);
    struct vcl_pool *pool = pool_of(threads);
    assert_non_null(moments);
    assert_non_null(pool);
    vcl_moments_add(moments, vcl_loops16_choose(), pool, x, n / 3);
    vcl_moments_add(moments, vcl_loops16_choose(), pool, x + n / 3 * cols, n - n / 3);
    vcl_pool_destroy(pool);
    return moments;
}

static void test_sums(void **unused)
{
    const size_t n = 700, cols = 43;
    float *x = make_vectors(n, cols, 1);
    struct vcl_moments *one = sum_up(x, n, cols, 1);
    assert_int_equal(one->count, n);
    for (size_t r = 0; r < cols; r++)
        for (size_t c = 0; c <= r; c++) {
            double sum = 0, size = 0;
            for (size_t t = 0; t < n; t++) {
                sum += (double)x[t * cols + r] * (double)x[t * cols + c];
                size += fabs((double)x[t * cols + r] * (double)x[t * cols + c]);
            }
            assert_true(fabs((double)one->sums[r * cols + c] - sum) <= 1e-5 * size);
        }
    for (unsigned threads = 2; threads < 5; threads++) {
        struct vcl_moments *more = sum_up(x, n, cols, threads);
        assert_memory_equal(more->sums, one->sums, cols * cols * sizeof *one->sums);
        vcl_moments_destroy(more);
    }
    for (int level = 0; level < 2; level++) {
        assert_int_equal(setenv("VCLLM_CPU", level ? "avx2" : "c", 1), 0);
        struct vcl_moments *narrower = sum_up(x, n, cols, 1);
        assert_memory_equal(narrower->sums, one->sums, cols * cols * sizeof *one->sums);
        vcl_moments_destroy(narrower);
    }
    assert_int_equal(unsetenv("VCLLM_CPU"), 0);
    vcl_moments_destroy(one);
    free(x);
    (void)unused;
}

/* (I + U) D (I + U)^T at (r, c), U[k][j] = feedback[j][k]. */
static double product_at(const struct vcl_moments *m, size_t r, size_t c)
{
    double sum = 0;
    for (size_t k = r > c ? r : c; k < m->cols; k++) {
        const double left = k == r ? 1 : (double)m->feedback[k * m->cols + r];
        const double right = k == c ? 1 : (double)m->feedback[k * m->cols + c];
        sum += left * right * (double)m->col_weight[k];
    }
    return sum;
}

static void check_factors(size_t n, size_t cols, double damping)
{
    float *x = make_vectors(n, cols, cols);
    struct vcl_moments *moments = sum_up(x, n, cols, 2), *again = sum_up(x, n, cols, 1);
    struct vcl_pool *pool = pool_of(3), *alone = pool_of(1);
    double *h = malloc(cols * cols * sizeof *h), mean = 0, logs = 0;
    assert_non_null(h);
    for (size_t i = 0; i < cols * cols; i++)
        h[i] = (double)moments->sums[i] / (double)n;
    for (size_t c = 0; c < cols; c++)
        mean += h[c * cols + c] / (double)cols;
    assert_int_equal(vcl_moments_factor(moments, pool, damping), VCL_OK);
    assert_int_equal(vcl_moments_factor(again, alone, damping), VCL_OK);
    assert_memory_equal(again->feedback, moments->feedback, cols * cols * sizeof(float));
    assert_memory_equal(again->col_weight, moments->col_weight, cols * sizeof(float));
    for (size_t r = 0; r < cols; r++) {
        h[r * cols + r] += damping * mean;
        for (size_t c = 0; c <= r; c++)
            assert_true(fabs(product_at(moments, r, c) - h[r * cols + c])
                        <= 1e-5 * sqrt(h[r * cols + r] * h[c * cols + c]));
        assert_true(moments->col_weight[r] > 0);
        logs += log((double)moments->col_weight[r]) / (double)cols;
    }
    assert_true(fabs(moments->gain / (exp(logs) / (mean * (1 + damping))) - 1) < 1e-5);
    assert_true(moments->gain > 0 && moments->gain < 1);
    vcl_moments_destroy(moments);
    vcl_moments_destroy(again);
    vcl_pool_destroy(pool);
    vcl_pool_destroy(alone);
    free(h);
    free(x);
}

static void test_factors(void **unused)
{
    check_factors(300, 7, 0.01);
    check_factors(300, 32, 0.1);
    check_factors(50, 97, 0.03); /* fewer vectors than columns */
    check_factors(500, 130, 1);
    (void)unused;
}

/* Mean squares from elsewhere: as if the columns had been scaled to have them. */
static void test_squares(void **unused)
{
    const size_t n = 300, cols = 45;
    float *x = make_vectors(n, cols, 9), squares[45];
    struct vcl_moments *told = sum_up(x, n, cols, 1);
    for (size_t i = 0; i < n * cols; i++)
        x[i] *= (float)(1 << i % cols % 4);
    struct vcl_moments *scaled = sum_up(x, n, cols, 1);
    struct vcl_pool *pool = pool_of(2);
    for (size_t c = 0; c < cols; c++)
        squares[c] = 3 * scaled->sums[c * cols + c];
    told->squares = squares;
    assert_int_equal(vcl_moments_factor(told, pool, 0.1), VCL_OK);
    assert_int_equal(vcl_moments_factor(scaled, pool, 0.1), VCL_OK);
    assert_true(fabs(told->gain / scaled->gain - 1) < 1e-4);
    const double ratio = (double)told->col_weight[0] / (double)scaled->col_weight[0];
    for (size_t c = 0; c < cols; c++) {
        assert_true(fabs((double)told->col_weight[c] / (double)scaled->col_weight[c] / ratio - 1) < 1e-4);
        for (size_t k = 0; k < c; k++)
            assert_true(fabs((double)told->feedback[c * cols + k] - (double)scaled->feedback[c * cols + k])
                        < 1e-3);
    }
    vcl_moments_destroy(told);
    vcl_moments_destroy(scaled);
    vcl_pool_destroy(pool);
    free(x);
    (void)unused;
}

/* Inputs of zeros: no feedback, every column the same. */
static void test_nothing(void **unused)
{
    float x[40] = { 0 };
    struct vcl_moments *moments = sum_up(x, 4, 10, 1);
    struct vcl_pool *pool = pool_of(1);
    assert_int_equal(vcl_moments_factor(moments, pool, 0.5), VCL_OK);
    for (size_t c = 0; c < 10; c++) {
        assert_true(moments->col_weight[c] == moments->col_weight[0] && moments->col_weight[0] > 0);
        for (size_t k = 0; k < c; k++)
            assert_true(moments->feedback[c * 10 + k] == 0);
    }
    vcl_moments_destroy(moments);
    vcl_pool_destroy(pool);
    (void)unused;
}

/* ---- shares ---------------------------------------------------------------------------------- */

/* 6.02 dB a bit from `error` on. */
static struct vcl_share make_share(double values, double cost, double error)
{
    struct vcl_share share = { .values = values, .cost = cost, .least = 0.5, .curve = { .count = 3 } };
    for (int i = 0; i < 3; i++) {
        share.curve.bits[i] = 2.0 * i;
        share.curve.error[i] = error * exp2(-4.0 * i);
    }
    return share;
}

static void test_curve(void **unused)
{
    const struct vcl_share share = make_share(1, 1, 16);
    for (double bits = 0; bits < 9; bits += 0.3)
        assert_true(fabs(vcl_curve_error(&share.curve, bits) / (16 * exp2(-2 * bits)) - 1) < 1e-9);
    (void)unused;
}

/* On such curves bits differ by half the logarithm of what a unit of the error costs at the start. */
static void test_shares(void **unused)
{
    struct vcl_share shares[] = { make_share(1000, 1, 1), make_share(3000, 64, 1), make_share(500, 2, 32) };
    assert_int_equal(vcl_share_out(shares, 3, 3 * 4500), 1);
    double spent = 0;
    for (int i = 0; i < 3; i++)
        spent += shares[i].values * shares[i].bits;
    assert_true(spent <= 3 * 4500 + 1e-6 && spent > 3 * 4500 - 1);
    assert_true(fabs(shares[1].bits - shares[0].bits - 3) < 0.04);
    assert_true(fabs(shares[2].bits - shares[0].bits - 3) < 0.04);
    (void)unused;
}

static void test_bounds(void **unused)
{
    struct vcl_share shares[] = { make_share(1000, 1e-9, 1), make_share(1000, 1, 1) };
    assert_int_equal(vcl_share_out(shares, 2, 2000), 1);
    assert_true(shares[0].bits >= 0.5 && shares[0].bits < 0.52);
    assert_true(shares[1].bits > 1.45 && shares[1].bits <= 1.5);
    assert_int_equal(vcl_share_out(shares, 2, 999), 0);
    assert_int_equal(vcl_share_out(shares, 2, 1e9), 1);
    assert_true(shares[0].bits <= VCL_MOST_BITS && shares[1].bits <= VCL_MOST_BITS);
    (void)unused;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums),    cmocka_unit_test(test_factors), cmocka_unit_test(test_squares),
        cmocka_unit_test(test_nothing), cmocka_unit_test(test_curve),   cmocka_unit_test(test_shares),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
