/* dtype.c - value formats: their names and sizes, and exact conversions to and from f32.
 *
 * The conversions are integer code, so every compiler and CPU gives the same bits, NaN payloads included. */
#include "dtype.h"

#include "common.h"

#include <float.h>

static const struct {
    const char *name;
    unsigned bits;
} dtypes[VCL_DTYPE_COUNT] = {
    [VCL_DTYPE_BOOL] = { "BOOL", 8 },
    [VCL_DTYPE_F4] = { "F4", 4 },
    [VCL_DTYPE_F6_E2M3] = { "F6_E2M3", 6 },
    [VCL_DTYPE_F6_E3M2] = { "F6_E3M2", 6 },
    [VCL_DTYPE_U8] = { "U8", 8 },
    [VCL_DTYPE_I8] = { "I8", 8 },
    [VCL_DTYPE_F8_E5M2] = { "F8_E5M2", 8 },
    [VCL_DTYPE_F8_E4M3] = { "F8_E4M3", 8 },
    [VCL_DTYPE_F8_E8M0] = { "F8_E8M0", 8 },
    [VCL_DTYPE_F8_E4M3FNUZ] = { "F8_E4M3FNUZ", 8 },
    [VCL_DTYPE_F8_E5M2FNUZ] = { "F8_E5M2FNUZ", 8 },
    [VCL_DTYPE_I16] = { "I16", 16 },
    [VCL_DTYPE_U16] = { "U16", 16 },
    [VCL_DTYPE_F16] = { "F16", 16 },
    [VCL_DTYPE_BF16] = { "BF16", 16 },
    [VCL_DTYPE_I32] = { "I32", 32 },
    [VCL_DTYPE_U32] = { "U32", 32 },
    [VCL_DTYPE_F32] = { "F32", 32 },
    [VCL_DTYPE_C64] = { "C64", 64 },
    [VCL_DTYPE_F64] = { "F64", 64 },
    [VCL_DTYPE_I64] = { "I64", 64 },
    [VCL_DTYPE_U64] = { "U64", 64 },
};

unsigned vcl_dtype_bits(enum vcl_dtype dtype)
{
    return (unsigned)dtype < VCL_DTYPE_COUNT ? dtypes[dtype].bits : 0;
}

const char *vcl_dtype_name(enum vcl_dtype dtype)
{
    return (unsigned)dtype < VCL_DTYPE_COUNT ? dtypes[dtype].name : NULL;
}

enum vcl_dtype vcl_dtype_parse(const char *name)
{
    unsigned i = 0;
    while (i < VCL_DTYPE_COUNT && strcmp(dtypes[i].name, name) != 0)
        i++;
    return (enum vcl_dtype)i;
}

int vcl_dtype_is_float(enum vcl_dtype dtype)
{
    return dtype == VCL_DTYPE_F16 || dtype == VCL_DTYPE_BF16 || dtype == VCL_DTYPE_F32
        || dtype == VCL_DTYPE_F64;
}

float vcl_dtype_max(enum vcl_dtype dtype)
{
    return dtype == VCL_DTYPE_F16  ? 65504
         : dtype == VCL_DTYPE_BF16 ? vcl_float_from_bits(0x7f7f0000)
                                   : FLT_MAX;
}

/* binary16: 1 sign, 5 exponent (bias 15), 10 mantissa bits */
static uint32_t f16_to_f32_bits(uint32_t h)
{
    const uint32_t sign = (h & 0x8000) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3ff;
    if (exponent == 31)
        return sign | 0x7f800000 | mantissa << 13;
    if (exponent)
        return sign | (exponent + 112) << 23 | mantissa << 13;
    if (!mantissa)
        return sign;
    const unsigned shift = (unsigned)__builtin_clz(mantissa) - 21; /* brings the leading one to bit 10 */
    return sign | (113 - shift) << 23 | (mantissa << shift & 0x3ff) << 13;
}

/* Shifts right by n (1 to 31) and rounds to nearest, ties to even. */
static uint32_t shift_round(uint32_t v, unsigned n)
{
    const uint32_t half = 1u << (n - 1), rest = v & ((half << 1) - 1), q = v >> n;
    return q + (rest > half || (rest == half && (q & 1)));
}

static uint16_t f32_to_f16_bits(uint32_t u)
{
    const uint32_t sign = u >> 16 & 0x8000, magnitude = u & 0x7fffffff;
    if (magnitude > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff)); /* quiet NaN, payload cut */
    if (magnitude >= 0x47800000)                                      /* 2^16 and more */
        return (uint16_t)(sign | 0x7c00);
    if (magnitude >= 0x38800000) /* normal: 2^-14 and more; may carry to inf */
        return (uint16_t)(sign | shift_round(magnitude - (112u << 23), 13));
    if (magnitude < 0x33000000) /* below half the smallest denormal */
        return (uint16_t)sign;
    const unsigned exponent = magnitude >> 23;
    return (uint16_t)(sign | shift_round((magnitude & 0x7fffff) | 0x800000, 126 - exponent));
}

static uint16_t f32_to_bf16_bits(uint32_t u)
{
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40); /* quiet NaN */
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* Rounds a double to f32 by the CPU's conversion (IEEE everywhere), except that NaN payloads are cut by
 * hand. */
static uint32_t f64_to_f32_bits(uint64_t u)
{
    if ((u & 0x7fffffffffffffff) > 0x7ff0000000000000)
        return (uint32_t)(u >> 32 & 0x80000000) | 0x7fc00000 | (uint32_t)(u >> 29 & 0x3fffff);
    double d;
    memcpy(&d, &u, 8);
    return vcl_float_bits((float)d);
}

static uint64_t f32_to_f64_bits(uint32_t v)
{
    if ((v & 0x7fffffff) > 0x7f800000)
        return (uint64_t)(v & 0x80000000) << 32 | 0x7ff8000000000000 | (uint64_t)(v & 0x3fffff) << 29;
    const double d = vcl_float_from_bits(v);
    uint64_t u;
    memcpy(&u, &d, 8);
    return u;
}

void vcl_to_f32(enum vcl_dtype dtype, const void *src, float *dst, size_t n)
{
    const uint8_t *s = src;
    size_t i;
    if (dtype == VCL_DTYPE_F16)
        for (i = 0; i < n; i++)
            dst[i] = vcl_float_from_bits(f16_to_f32_bits(vcl_load16(s + 2 * i)));
    else if (dtype == VCL_DTYPE_BF16)
        for (i = 0; i < n; i++)
            dst[i] = vcl_float_from_bits((uint32_t)vcl_load16(s + 2 * i) << 16);
    else if (dtype == VCL_DTYPE_F32)
        for (i = 0; i < n; i++)
            dst[i] = vcl_float_from_bits(vcl_load32(s + 4 * i));
    else
        for (i = 0; i < n; i++)
            dst[i] = vcl_float_from_bits(f64_to_f32_bits(vcl_load64(s + 8 * i)));
}

void vcl_from_f32(enum vcl_dtype dtype, const float *src, void *dst, size_t n)
{
    uint8_t *d = dst;
    size_t i;
    if (dtype == VCL_DTYPE_F16)
        for (i = 0; i < n; i++)
            vcl_store16(d + 2 * i, f32_to_f16_bits(vcl_float_bits(src[i])));
    else if (dtype == VCL_DTYPE_BF16)
        for (i = 0; i < n; i++)
            vcl_store16(d + 2 * i, f32_to_bf16_bits(vcl_float_bits(src[i])));
    else if (dtype == VCL_DTYPE_F32)
        for (i = 0; i < n; i++)
            vcl_store32(d + 4 * i, vcl_float_bits(src[i]));
    else
        for (i = 0; i < n; i++)
            vcl_store64(d + 8 * i, f32_to_f64_bits(vcl_float_bits(src[i])));
}
