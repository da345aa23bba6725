/* avx2.h - what every file for AVX2 begins with: names, attributes, and what templates do to vectors.
 *
 * vf and vi are eight floats or integers of 32 bits side by side; vm says for each lane whether something
 * holds. */
#ifndef VCL_AVX2_H
#define VCL_AVX2_H

#include <immintrin.h>
#include <stdint.h>

#define KERNEL(name) vcl_##name##_avx2
#define TARGET __attribute__((target("avx2,fma,f16c,bmi,bmi2,popcnt")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

enum { WIDTH = 8 };
typedef __m256 vf;
typedef __m256i vi;
typedef __m256 vm; /* all bits of a lane set or none */

INLINE vf f_set(float x) { return _mm256_set1_ps(x); }
INLINE vf f_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void f_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
INLINE vf f_add(vf a, vf b) { return _mm256_add_ps(a, b); }
INLINE vf f_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
INLINE vf f_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
/* a b + c, rounded once */
INLINE vf f_fused(vf a, vf b, vf c) { return _mm256_fmadd_ps(a, b, c); }
INLINE vf f_min(vf a, vf b) { return _mm256_min_ps(a, b); }
INLINE vf f_max(vf a, vf b) { return _mm256_max_ps(a, b); }
INLINE vf f_abs(vf a) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), a); }
/* a, which is not below 0, with b's sign */
INLINE vf f_with_sign(vf a, vf b) { return _mm256_or_ps(a, _mm256_and_ps(b, _mm256_set1_ps(-0.0f))); }
INLINE vf f_round(vf a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE vm f_less(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LT_OQ); }
INLINE vm f_less_equal(vf a, vf b) { return _mm256_cmp_ps(a, b, _CMP_LE_OQ); }
INLINE vf f_pick(vm where, vf no, vf yes) { return _mm256_blendv_ps(no, yes, where); }
INLINE vf f_from_i(vi a) { return _mm256_cvtepi32_ps(a); }
INLINE vf f_gather(const float *p, vi at) { return _mm256_i32gather_ps(p, at, 4); }
INLINE vf f_gather_where(vm where, vf no, const float *p, vi at)
{
    return _mm256_mask_i32gather_ps(no, p, at, where, 4);
}

INLINE vi i_set(int x) { return _mm256_set1_epi32(x); }
INLINE vi i_bits(uint32_t x) { return _mm256_set1_epi32((int)x); }
INLINE vi i_load(const void *p) { return _mm256_loadu_si256(p); }
INLINE void i_store(void *p, vi a) { _mm256_storeu_si256(p, a); }
INLINE vi i_load8(const int8_t *p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p)); }
INLINE vi i_load16(const int16_t *p) { return _mm256_cvtepi16_epi32(_mm_loadu_si128((const void *)p)); }
INLINE vi i_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
INLINE vi i_sub(vi a, vi b) { return _mm256_sub_epi32(a, b); }
INLINE vi i_and(vi a, vi b) { return _mm256_and_si256(a, b); }
INLINE vi i_or(vi a, vi b) { return _mm256_or_si256(a, b); }
INLINE vi i_xor(vi a, vi b) { return _mm256_xor_si256(a, b); }
INLINE vi i_shift_right(vi a, vi by) { return _mm256_srav_epi32(a, by); }
INLINE vi i_mul(vi a, vi b) { return _mm256_mullo_epi32(a, b); }
INLINE vi i_min(vi a, vi b) { return _mm256_min_epi32(a, b); }
INLINE vi i_max(vi a, vi b) { return _mm256_max_epi32(a, b); }
INLINE vf f_from_bits(vi a) { return _mm256_castsi256_ps(a); }
INLINE vi i_from_f(vf a) { return _mm256_cvttps_epi32(a); }
INLINE vm i_equal(vi a, vi b) { return _mm256_castsi256_ps(_mm256_cmpeq_epi32(a, b)); }
/* Without signs. */
INLINE vm i_at_least(vi a, vi b) { return i_equal(_mm256_max_epu32(a, b), a); }
/* a & b == b, where b has one bit */
INLINE vm i_any(vi a, vi b) { return i_equal(i_and(a, b), b); }
INLINE vi i_where(vm where, vi a) { return i_and(_mm256_castps_si256(where), a); }
INLINE vi i_pick(vm where, vi no, vi yes) { return _mm256_blendv_epi8(no, yes, _mm256_castps_si256(where)); }

INLINE unsigned bits_of(vm where) { return (unsigned)_mm256_movemask_ps(where); }

/* Finite floats rounded to bf16, which the upper half of each lane becomes: to nearest, ties to even. */
INLINE vi round_bf16(vf x)
{
    const vi u = _mm256_castps_si256(x), odd = i_and(_mm256_srli_epi32(u, 16), i_set(1));
    return i_add(u, i_add(odd, i_set(0x7fff)));
}

INLINE vf round_f16(vf x) { return _mm256_cvtph_ps(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT)); }

/* Eight vectors of eight floats, turned over. */
INLINE void transpose(vf r[WIDTH])
{
    vf s[WIDTH];
    UNROLL
    for (int i = 0; i < 8; i += 4) {
        const vf a = _mm256_unpacklo_ps(r[i], r[i + 1]), b = _mm256_unpackhi_ps(r[i], r[i + 1]);
        const vf c = _mm256_unpacklo_ps(r[i + 2], r[i + 3]), d = _mm256_unpackhi_ps(r[i + 2], r[i + 3]);
        s[i] = _mm256_shuffle_ps(a, c, 0x44);
        s[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
        s[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
        s[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        r[i] = _mm256_permute2f128_ps(s[i], s[i + 4], 0x20);
        r[i + 4] = _mm256_permute2f128_ps(s[i], s[i + 4], 0x31);
    }
}

#endif
