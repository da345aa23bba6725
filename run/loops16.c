/* loops16.c - matrix times sixteen vectors, dot products, softmax and SwiGLU.
 *
 * Written once with the compiler's vectors of 16 floats and compiled for three levels of CPU.  Products and
 * sums are not fused (-ffp-contract=off), and the exponential is ours: what libm computes depends on the CPU. */
#include <stdlib.h>
#include <string.h>

#include "loops16.h"

typedef float f16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef int32_t i16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint32_t u16 __attribute__((vector_size(64), aligned(4), may_alias));
typedef uint16_t h16 __attribute__((vector_size(32), aligned(2), may_alias));

#define INLINE static inline __attribute__((always_inline))

INLINE void block_of(const float *w, size_t row, size_t col, size_t cols, const float *x, float *y,
                     const size_t rows)
{
    f16 sum[VCL_GROUP] = { 0 };
    for (size_t c = 0; c < cols; c++) {
        const f16 lanes = *(const f16 *)(x + VCL_LANES * c);
        for (size_t r = 0; r < rows; r++)
            sum[r] += w[r * row + c * col] * lanes;
    }
    for (size_t r = 0; r < rows; r++)
        *(f16 *)(y + VCL_LANES * r) = sum[r];
}

/* `wide`: rows whose sums fit the registers of this level. */
INLINE void block(const float *w, size_t row, size_t col, size_t rows, size_t cols, const float *x, float *y,
                  const size_t wide)
{
    for (; rows >= wide; rows -= wide, w += wide * row, y += wide * VCL_LANES)
        block_of(w, row, col, cols, x, y, wide);
    for (; rows; rows--, w += row, y += VCL_LANES)
        block_of(w, row, col, cols, x, y, 1);
}

INLINE float add_lanes(const f16 *sum)
{
    float lanes[VCL_LANES];
    memcpy(lanes, sum, sizeof lanes);
    for (size_t half = VCL_LANES / 2; half; half /= 2)
        for (size_t l = 0; l < half; l++)
            lanes[l] += lanes[l + half];
    return lanes[0];
}

/* Four sums side by side: one alone would wait for each addition. */
INLINE float dot_f32(const float *w, const float *x, size_t n)
{
    f16 sum[4] = { 0 };
    size_t c = 0;
    for (; c + 4 * VCL_LANES <= n; c += 4 * VCL_LANES)
        for (size_t k = 0; k < 4; k++)
            sum[k] += *(const f16 *)(w + c + VCL_LANES * k) * *(const f16 *)(x + c + VCL_LANES * k);
    const f16 all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    float rest = add_lanes(&all);
    for (; c < n; c++)
        rest += w[c] * x[c];
    return rest;
}

INLINE float dot_bf16(const uint16_t *w, const float *x, size_t n)
{
    f16 sum[4] = { 0 };
    size_t c = 0;
    for (; c + 4 * VCL_LANES <= n; c += 4 * VCL_LANES)
        for (size_t k = 0; k < 4; k++) {
            const h16 halves = *(const h16 *)(w + c + VCL_LANES * k);
            const u16 bits = __builtin_convertvector(halves, u16) << 16;
            sum[k] += (f16)bits * *(const f16 *)(x + c + VCL_LANES * k);
        }
    const f16 all = (sum[0] + sum[1]) + (sum[2] + sum[3]);
    float rest = add_lanes(&all);
    for (; c < n; c++) {
        const uint32_t bits = (uint32_t)w[c] << 16;
        float value;
        memcpy(&value, &bits, sizeof value);
        rest += value * x[c];
    }
    return rest;
}

/* e^x for x in [-87, 88], beyond which it stays: x = k ln 2 + r, the Taylor polynomial of r to r^7 (|r| <=
 * 0.35: 2e-9 relative), and k into the exponent.  Adding and subtracting 1.5 x 2^23 rounds to whole numbers. */
INLINE void exp16(f16 *value)
{
    const f16 magic = { 0 };
    const f16 whole = magic + 12582912.0f;
    f16 x = *value;
    const i16 low = x<-87.0f, high = x> 88.0f;
    x = (f16)(((i16)x & ~low) | ((i16)(magic - 87.0f) & low));
    x = (f16)(((i16)x & ~high) | ((i16)(magic + 88.0f) & high));
    const f16 k = (x * 1.44269504f + whole) - whole;
    const f16 r = (x - k * 0.693145752f) - k * 1.42860677e-6f;
    f16 p = r * (1 / 5040.0f) + 1 / 720.0f;
    p = p * r + 1 / 120.0f;
    p = p * r + 1 / 24.0f;
    p = p * r + 1 / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    *value = p * (f16)((__builtin_convertvector(k, i16) + 127) << 23);
}

INLINE void mask_lanes(float *s, size_t j, const size_t *length, float beyond)
{
    for (size_t l = 0; l < VCL_LANES; l++)
        if (j >= length[l])
            s[VCL_LANES * j + l] = beyond;
}

INLINE void softmax(float *s, size_t n, float scale, const size_t *length)
{
    f16 most = *(f16 *)s, sum = { 0 };
    size_t shortest = n;
    for (size_t l = 0; l < VCL_LANES; l++)
        shortest = length[l] < shortest ? length[l] : shortest;
    for (size_t j = shortest; j < n; j++)
        mask_lanes(s, j, length, -3e38f);
    for (size_t j = 0; j < n; j++) {
        const f16 value = *(f16 *)(s + VCL_LANES * j);
        const i16 more = value > most;
        most = (f16)(((i16)value & more) | ((i16)most & ~more));
    }
    for (size_t j = 0; j < n; j++) {
        f16 value = (*(f16 *)(s + VCL_LANES * j) - most) * scale;
        exp16(&value);
        *(f16 *)(s + VCL_LANES * j) = value;
        if (j >= shortest)
            mask_lanes(s, j, length, 0);
        sum += *(f16 *)(s + VCL_LANES * j);
    }
    for (size_t j = 0; j < n; j++)
        *(f16 *)(s + VCL_LANES * j) /= sum;
}

INLINE void swiglu(float *gate, const float *up, size_t n)
{
    float in[2 * VCL_LANES] = { 0 };
    for (size_t i = 0; i < n; i += VCL_LANES) {
        const size_t count = n - i < VCL_LANES ? n - i : VCL_LANES;
        memcpy(in, gate + i, count * sizeof *in);
        memcpy(in + VCL_LANES, up + i, count * sizeof *in);
        const f16 x = *(f16 *)in;
        f16 power = -x;
        exp16(&power);
        *(f16 *)in = x / (1.0f + power) * *(f16 *)(in + VCL_LANES);
        memcpy(gate + i, in, count * sizeof *in);
    }
}

#define LEVEL(NAME, ATTRIBUTE, WIDE)                                                                     \
    ATTRIBUTE static void block_##NAME(const float *w, size_t row, size_t col, size_t rows, size_t cols, \
                                       const float *x, float *y)                                         \
    {                                                                                                    \
        block(w, row, col, rows, cols, x, y, WIDE);                                                      \
    }                                                                                                    \
    ATTRIBUTE static float dot_f32_##NAME(const void *w, const float *x, size_t n)                       \
    {                                                                                                    \
        return dot_f32(w, x, n);                                                                         \
    }                                                                                                    \
    ATTRIBUTE static float dot_bf16_##NAME(const void *w, const float *x, size_t n)                      \
    {                                                                                                    \
        return dot_bf16(w, x, n);                                                                        \
    }                                                                                                    \
    ATTRIBUTE static void softmax_##NAME(float *s, size_t n, float scale, const size_t *length)          \
    {                                                                                                    \
        softmax(s, n, scale, length);                                                                    \
    }                                                                                                    \
    ATTRIBUTE static void swiglu_##NAME(float *gate, const float *up, size_t n) { swiglu(gate, up, n); } \
    static const struct vcl_loops16 level_##NAME = { block_##NAME, dot_f32_##NAME, dot_bf16_##NAME,      \
                                                     softmax_##NAME, swiglu_##NAME };

LEVEL(c, , 2)
#if defined(__x86_64__)
LEVEL(avx2, __attribute__((target("avx2"))), 4)
LEVEL(avx512, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))), 8)
#endif

const struct vcl_loops16 *vcl_loops16_choose(void)
{
#if defined(__x86_64__)
    const char *most = getenv("VCLLM_CPU");
    const int c = most && strcmp(most, "c") == 0, avx2 = most && strcmp(most, "avx2") == 0;
    if (!c && !avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
        && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
        return &level_avx512;
    if (!c && __builtin_cpu_supports("avx2"))
        return &level_avx2;
#endif
    return &level_c;
}
