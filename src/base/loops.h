/* loops.h - loops over values that every level of CPU has compiled for itself.
 *
 * Inline functions in plain C: dtype.c and measure.c make the portable ones of them,
 * src/kernels/values_*.c those for wider vectors.  The conversions are integer code, NaN payloads
 * included, and sums run side by side in a number that no vector's width changes, so every compiler and
 * CPU gives the same bits. */
#ifndef VCL_LOOPS_H
#define VCL_LOOPS_H

#include "base/common.h"
#include "vcllm.h"

#include <float.h>
#include <math.h>

#define VCL_INLINE static inline __attribute__((always_inline))

/* ---- conversions ------------------------------------------------------------------------------- */

/* binary16: 1 sign, 5 exponent (bias 15), 10 mantissa bits */
VCL_INLINE uint32_t vcl_f16_to_f32_bits(uint32_t h)
{
    const uint32_t sign = (h & 0x8000) << 16, rest = (h & 0x7fff) << 13, mantissa = h & 0x3ff;
    const uint32_t denormal = vcl_float_bits((float)(int32_t)mantissa * 0x1p-24f);
    const uint32_t normal = rest + ((rest >= 31u << 23 ? 224u : 112u) << 23);
    return sign | (rest < 1u << 23 ? denormal : normal);
}

/* Shifts right by n (1 to 31) and rounds to nearest, ties to even. */
VCL_INLINE uint32_t vcl_shift_round(uint32_t v, unsigned n)
{
    const uint32_t half = 1u << (n - 1), rest = v & ((half << 1) - 1), q = v >> n;
    return q + (rest > half || (rest == half && (q & 1)));
}

VCL_INLINE uint16_t vcl_f32_to_f16_bits(uint32_t u)
{
    const uint32_t sign = u >> 16 & 0x8000, magnitude = u & 0x7fffffff;
    if (magnitude > 0x7f800000)
        return (uint16_t)(sign | 0x7e00 | (magnitude >> 13 & 0x3ff)); /* quiet NaN, payload cut */
    if (magnitude >= 0x47800000)                                      /* 2^16 and more */
        return (uint16_t)(sign | 0x7c00);
    if (magnitude >= 0x38800000) /* normal: 2^-14 and more; may carry to inf */
        return (uint16_t)(sign | vcl_shift_round(magnitude - (112u << 23), 13));
    if (magnitude < 0x33000000) /* below half the smallest denormal */
        return (uint16_t)sign;
    const unsigned exponent = magnitude >> 23;
    return (uint16_t)(sign | vcl_shift_round((magnitude & 0x7fffff) | 0x800000, 126 - exponent));
}

VCL_INLINE uint16_t vcl_f32_to_bf16_bits(uint32_t u)
{
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 0x40); /* quiet NaN */
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* Rounds a double to f32 by the CPU's conversion (IEEE everywhere), except that NaN payloads are cut by
 * hand. */
VCL_INLINE uint32_t vcl_f64_to_f32_bits(uint64_t u)
{
    if ((u & 0x7fffffffffffffff) > 0x7ff0000000000000)
        return (uint32_t)(u >> 32 & 0x80000000) | 0x7fc00000 | (uint32_t)(u >> 29 & 0x3fffff);
    double d;
    memcpy(&d, &u, 8);
    return vcl_float_bits((float)d);
}

VCL_INLINE uint64_t vcl_f32_to_f64_bits(uint32_t v)
{
    if ((v & 0x7fffffff) > 0x7f800000)
        return (uint64_t)(v & 0x80000000) << 32 | 0x7ff8000000000000 | (uint64_t)(v & 0x3fffff) << 29;
    const double d = vcl_float_from_bits(v);
    uint64_t u;
    memcpy(&u, &d, 8);
    return u;
}

VCL_INLINE void vcl_loop_to_f32(enum vcl_dtype dtype, const void *src, float *dst, size_t n)
{
    const uint8_t *s = src;
    size_t i;
    if (dtype == VCL_DTYPE_F16)
        for (i = 0; i < n; i++)
            dst[i] = vcl_float_from_bits(vcl_f16_to_f32_bits(vcl_load16(s + 2 * i)));
    else if (dtype == VCL_DTYPE_BF16)
        for (i = 0; i < n; i++)
            dst[i] = vcl_float_from_bits((uint32_t)vcl_load16(s + 2 * i) << 16);
    else if (dtype == VCL_DTYPE_F32)
        for (i = 0; i < n; i++)
            dst[i] = vcl_float_from_bits(vcl_load32(s + 4 * i));
    else
        for (i = 0; i < n; i++)
            dst[i] = vcl_float_from_bits(vcl_f64_to_f32_bits(vcl_load64(s + 8 * i)));
}

VCL_INLINE void vcl_loop_from_f32(enum vcl_dtype dtype, const float *src, void *dst, size_t n)
{
    uint8_t *d = dst;
    size_t i;
    if (dtype == VCL_DTYPE_F16)
        for (i = 0; i < n; i++)
            vcl_store16(d + 2 * i, vcl_f32_to_f16_bits(vcl_float_bits(src[i])));
    else if (dtype == VCL_DTYPE_BF16)
        for (i = 0; i < n; i++)
            vcl_store16(d + 2 * i, vcl_f32_to_bf16_bits(vcl_float_bits(src[i])));
    else if (dtype == VCL_DTYPE_F32)
        for (i = 0; i < n; i++)
            vcl_store32(d + 4 * i, vcl_float_bits(src[i]));
    else
        for (i = 0; i < n; i++)
            vcl_store64(d + 8 * i, vcl_f32_to_f64_bits(vcl_float_bits(src[i])));
}

/* ---- comparing --------------------------------------------------------------------------------- */

enum {
    VCL_LOOP_CHUNK = 256
}; /* values converted at a time: two buffers that stay in the first-level cache */

VCL_INLINE void vcl_add_pair(double x, double y, struct vcl_error_sums *sums)
{
    const double e = fabs(x - y);
    if (isfinite(x) && isfinite(y)) {
        sums->values++;
        sums->signal += x * x;
        sums->error += e * e;
        sums->max_error = e > sums->max_error ? e : sums->max_error;
    } else if (!(isnan(x) && isnan(y)) && !(x == y)) {
        sums->mismatches++;
    }
}

/* Sums side by side: the same additions on every CPU, whatever its vectors' width. */
VCL_INLINE void vcl_add_finite(const float *x, const float *y, struct vcl_error_sums *sums)
{
    enum { LANES = 16 };
    double signal[LANES] = { 0 }, error[LANES] = { 0 }, max[LANES] = { 0 };
    for (size_t i = 0; i < VCL_LOOP_CHUNK; i += LANES)
        for (size_t k = 0; k < LANES; k++) {
            const double a = x[i + k], e = fabs(a - y[i + k]);
            signal[k] += a * a;
            error[k] += e * e;
            max[k] = e > max[k] ? e : max[k];
        }
    sums->values += VCL_LOOP_CHUNK;
    for (size_t k = 0; k < LANES; k++) {
        sums->signal += signal[k];
        sums->error += error[k];
        sums->max_error = max[k] > sums->max_error ? max[k] : sums->max_error;
    }
}

VCL_INLINE int vcl_is_finite(const float *x, size_t n)
{
    int finite = 1;
    for (size_t i = 0; i < n; i++)
        finite &= fabsf(x[i]) <= FLT_MAX;
    return finite;
}

VCL_INLINE int vcl_all_finite(const float *x, const float *y)
{
    uint32_t any = 0;
    for (size_t i = 0; i < VCL_LOOP_CHUNK; i++)
        any |= (uint32_t)(!(fabsf(x[i]) <= FLT_MAX) | !(fabsf(y[i]) <= FLT_MAX));
    return !any;
}

VCL_INLINE double vcl_load_f64(const uint8_t *p)
{
    const uint64_t bits = vcl_load64(p);
    double value;
    memcpy(&value, &bits, 8);
    return value;
}

VCL_INLINE void vcl_loop_compare(enum vcl_dtype dtype, const void *x, const void *y, size_t n,
                                 struct vcl_error_sums *sums)
{
    float fa[VCL_LOOP_CHUNK], fb[VCL_LOOP_CHUNK];
    const size_t size = dtype == VCL_DTYPE_F64 ? 8 : dtype == VCL_DTYPE_F32 ? 4 : 2;
    const uint8_t *a = x, *b = y;
    for (size_t i = 0; i < n; i += VCL_LOOP_CHUNK, a += VCL_LOOP_CHUNK * size, b += VCL_LOOP_CHUNK * size) {
        const size_t count = n - i < VCL_LOOP_CHUNK ? n - i : VCL_LOOP_CHUNK;
        if (dtype == VCL_DTYPE_F64) {
            for (size_t j = 0; j < count; j++)
                vcl_add_pair(vcl_load_f64(a + 8 * j), vcl_load_f64(b + 8 * j), sums);
            continue;
        }
        vcl_loop_to_f32(dtype, a, fa, count);
        vcl_loop_to_f32(dtype, b, fb, count);
        if (count == VCL_LOOP_CHUNK && vcl_all_finite(fa, fb)) {
            vcl_add_finite(fa, fb, sums);
            continue;
        }
        for (size_t j = 0; j < count; j++)
            vcl_add_pair(fa[j], fb[j], sums);
    }
}

/* ---- sums -------------------------------------------------------------------------------------- */

/* Sum of x^2, or of x^2 times weight; sixteen sums side by side. */
VCL_INLINE double vcl_loop_energy(const float *x, const double *weight, size_t n)
{
    enum { LANES = 16 };
    double sums[LANES] = { 0 }, sum = 0;
    size_t i = 0;
    for (; i + LANES <= n; i += LANES)
        for (size_t k = 0; k < LANES; k++)
            sums[k] += weight ? (double)x[i + k] * x[i + k] * weight[i + k] : (double)x[i + k] * x[i + k];
    for (; i < n; i++)
        sums[i % LANES] += weight ? (double)x[i] * x[i] * weight[i] : (double)x[i] * x[i];
    for (size_t k = 0; k < LANES; k++)
        sum += sums[k];
    return sum;
}

#endif
