/* Conversions, sizes, comparison. */
#include "base/common.h"
#include "base/dtype.h"
#include "random.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

/* Fault: a binary16 that does not survive f32 and back, infinities, denormals and signed zeros among them. */
static void f16_survives_f32(void **unused)
{
    (void)unused;
    for (uint32_t h = 0; h < 65536; h++) {
        uint8_t in[2], out[2];
        float f;
        vcl_store16(in, (uint16_t)h);
        vcl_to_f32(VCL_DTYPE_F16, in, &f, 1);
        vcl_from_f32(VCL_DTYPE_F16, &f, out, 1);
        if ((h & 0x7fff) > 0x7c00)
            assert_true((vcl_load16(out) & 0x7fff) > 0x7c00);
        else
            assert_int_equal(vcl_load16(out), h);
    }
}

#ifdef __FLT16_MANT_DIG__ /* the compiler knows _Float16 */
/* Fault: rounding to f16 that is not to nearest even; the compiler's own conversion is the judge. */
static void f16_rounds_as_the_cpu_does(void **unused)
{
    (void)unused;
    uint64_t state = 1;
    for (int i = 0; i < 4000000; i++) {
        const uint32_t bits = (uint32_t)random_bits(&state);
        const float f = vcl_float_from_bits(i & 1 ? (bits & 0x8fffffff) | 0x30000000
                                                  : bits); /* half of them in f16's range */
        uint8_t out[2];
        if (isnan(f))
            continue;
        vcl_from_f32(VCL_DTYPE_F16, &f, out, 1);
        const _Float16 h = (_Float16)f;
        uint16_t expected;
        memcpy(&expected, &h, 2);
        assert_int_equal(vcl_load16(out), expected);
    }
}

#endif

/* Fault: bf16 rounded by truncation, a NaN rounded to infinity. */
static void bf16_rounds_to_nearest_even(void **unused)
{
    (void)unused;
    static const struct {
        uint32_t in;
        uint16_t out;
    } cases[] = {
        { 0x3f800000, 0x3f80 }, { 0x3f808000, 0x3f80 }, { 0x3f808001, 0x3f81 }, { 0x3f818000, 0x3f82 },
        { 0x7f7fffff, 0x7f80 }, { 0x7f800001, 0x7fc0 }, { 0xff800000, 0xff80 }, { 0x80000000, 0x8000 },
        { 0x00000001, 0x0000 }, { 0x00018000, 0x0002 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const float f = vcl_float_from_bits(cases[i].in);
        uint8_t out[2];
        vcl_from_f32(VCL_DTYPE_BF16, &f, out, 1);
        assert_int_equal(vcl_load16(out), cases[i].out);
    }
}

/* Fault: f64 that is clipped instead of becoming infinite, or loses exact small values. */
static void f64_to_f32(void **unused)
{
    (void)unused;
    const double in[] = { 1.5, -1e300, 1e-300, 0.1 };
    float out[4];
    vcl_to_f32(VCL_DTYPE_F64, in, out, 4);
    assert_true(out[0] == 1.5f && out[1] == -INFINITY && out[2] == 0 && out[3] == 0.1f);
}

/* Fault: a shape whose product overflows taken for a small tensor. */
static void sizes_are_bounded(void **unused)
{
    (void)unused;
    struct vcl_tensor t = { VCL_DTYPE_F32, 2, { 3, 5 } };
    uint64_t values, bytes;
    assert_int_equal(vcl_tensor_size(&t, &values, &bytes), VCL_OK);
    assert_true(values == 15 && bytes == 60);
    t.dims[0] = (uint64_t)1 << 40;
    t.dims[1] = (uint64_t)1 << 30;
    assert_int_equal(vcl_tensor_size(&t, &values, &bytes), VCL_E_LIMIT);
    t.rank = 3;
    t.dims[2] = 0; /* empty, whatever the others say */
    assert_int_equal(vcl_tensor_size(&t, &values, &bytes), VCL_OK);
    assert_true(values == 0 && bytes == 0);
    t.rank = 0;
    assert_int_equal(vcl_tensor_size(&t, &values, &bytes), VCL_OK);
    assert_true(values == 1 && bytes == 4);
    t = (struct vcl_tensor){ VCL_DTYPE_F4, 1, { 3 } };
    assert_int_equal(vcl_tensor_size(&t, NULL, NULL), VCL_E_FORMAT);
    t.rank = VCL_MAX_RANK + 1;
    assert_int_equal(vcl_tensor_size(&t, NULL, NULL), VCL_E_ARGUMENT);
    t = (struct vcl_tensor){ VCL_DTYPE_COUNT, 1, { 3 } };
    assert_int_equal(vcl_tensor_size(&t, NULL, NULL), VCL_E_ARGUMENT);
}

static void names_round_trip(void **unused)
{
    (void)unused;
    for (int i = 0; i < VCL_DTYPE_COUNT; i++)
        assert_int_equal(vcl_dtype_parse(vcl_dtype_name((enum vcl_dtype)i)), i);
    assert_int_equal(vcl_dtype_parse("F128"), VCL_DTYPE_COUNT);
    for (int i = 0; i < VCL_CODEC_COUNT; i++)
        assert_int_equal(vcl_codec_parse(vcl_codec_name((enum vcl_codec)i)), i);
    assert_int_equal(vcl_codec_parse("mp3"), VCL_CODEC_COUNT);
    for (int i = -50; i <= 0; i++)
        assert_non_null(vcl_status_text((enum vcl_status)i));
}

/* Fault: a NaN that spoils the sums, or one that is lost and not counted. */
static void comparison_counts_non_finite(void **unused)
{
    (void)unused;
    const float x[] = { 1, NAN, INFINITY, INFINITY, 3 }, y[] = { 2, NAN, INFINITY, -INFINITY, NAN };
    struct vcl_error_sums sums = { 0 };
    assert_int_equal(vcl_compare(VCL_DTYPE_F32, x, y, 5, &sums), VCL_OK);
    assert_true(sums.values == 1 && sums.mismatches == 2 && sums.error == 1 && sums.signal == 1
                && sums.max_error == 1);
    assert_true(vcl_snr(&sums) == 0);
    assert_int_equal(vcl_compare(VCL_DTYPE_I32, x, y, 5, &sums), VCL_E_ARGUMENT);
}

/* Fault: conversions that read or write past a chunk's end. */
static void conversion_of_odd_lengths(void **unused)
{
    (void)unused;
    for (size_t n = 0; n < 600; n += 37) {
        float *x = calloc(4 * n + 1, 1);
        double *y = malloc(8 * n + 1);
        random_fill(x, n, n + 1, random_normal);
        assert_int_equal(vcl_convert(VCL_DTYPE_F32, x, VCL_DTYPE_F64, y, n), VCL_OK);
        for (size_t i = 0; i < n; i++)
            assert_true(y[i] == x[i]);
        free(x);
        free(y);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#ifdef __FLT16_MANT_DIG__
        cmocka_unit_test(f16_rounds_as_the_cpu_does),
#endif
        cmocka_unit_test(f16_survives_f32),
        cmocka_unit_test(bf16_rounds_to_nearest_even),
        cmocka_unit_test(f64_to_f32),
        cmocka_unit_test(sizes_are_bounded),
        cmocka_unit_test(names_round_trip),
        cmocka_unit_test(comparison_counts_non_finite),
        cmocka_unit_test(conversion_of_odd_lengths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
