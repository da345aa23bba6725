/* avx512.h - what every file for AVX-512 begins with: names, attributes, and what templates do to vectors.
 *
 * vf and vi are sixteen floats or integers of 32 bits side by side; vm says for each lane whether something
 * holds. */
#ifndef VCL_AVX512_H
#define VCL_AVX512_H

#include <immintrin.h>
#include <stdint.h>

#define KERNEL(name) vcl_##name##_avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx2,bmi,bmi2,popcnt")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

enum { WIDTH = 16 };
typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;

INLINE vf f_set(float x) { return _mm512_set1_ps(x); }
INLINE vf f_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void f_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
INLINE vf f_add(vf a, vf b) { return _mm512_add_ps(a, b); }
INLINE vf f_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
INLINE vf f_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
/* a b + c, rounded once */
INLINE vf f_fused(vf a, vf b, vf c) { return _mm512_fmadd_ps(a, b, c); }
INLINE vf f_min(vf a, vf b) { return _mm512_min_ps(a, b); }
INLINE vf f_max(vf a, vf b) { return _mm512_max_ps(a, b); }
INLINE vf f_abs(vf a) { return _mm512_abs_ps(a); }
/* a, which is not below 0, with b's sign */
INLINE vf f_with_sign(vf a, vf b) { return _mm512_or_ps(a, _mm512_and_ps(b, _mm512_set1_ps(-0.0f))); }
INLINE vf f_round(vf a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
INLINE vm f_less(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ); }
INLINE vm f_less_equal(vf a, vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ); }
INLINE vf f_pick(vm where, vf no, vf yes) { return _mm512_mask_mov_ps(no, where, yes); }
INLINE vf f_from_i(vi a) { return _mm512_cvtepi32_ps(a); }
INLINE vf f_gather(const float *p, vi at) { return _mm512_i32gather_ps(at, p, 4); }
INLINE vf f_gather_where(vm where, vf no, const float *p, vi at)
{
    return _mm512_mask_i32gather_ps(no, where, at, p, 4);
}

INLINE vi i_set(int x) { return _mm512_set1_epi32(x); }
INLINE vi i_bits(uint32_t x) { return _mm512_set1_epi32((int)x); }
INLINE vi i_load(const void *p) { return _mm512_loadu_si512(p); }
INLINE void i_store(void *p, vi a) { _mm512_storeu_si512(p, a); }
INLINE vi i_load8(const int8_t *p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p)); }
INLINE vi i_load16(const int16_t *p) { return _mm512_cvtepi16_epi32(_mm256_loadu_si256((const void *)p)); }
INLINE vi i_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
INLINE vi i_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
INLINE vi i_and(vi a, vi b) { return _mm512_and_si512(a, b); }
INLINE vi i_or(vi a, vi b) { return _mm512_or_si512(a, b); }
INLINE vi i_xor(vi a, vi b) { return _mm512_xor_si512(a, b); }
INLINE vi i_shift_right(vi a, vi by) { return _mm512_srav_epi32(a, by); }
INLINE vi i_mul(vi a, vi b) { return _mm512_mullo_epi32(a, b); }
INLINE vi i_min(vi a, vi b) { return _mm512_min_epi32(a, b); }
INLINE vi i_max(vi a, vi b) { return _mm512_max_epi32(a, b); }
INLINE vf f_from_bits(vi a) { return _mm512_castsi512_ps(a); }
INLINE vi i_from_f(vf a) { return _mm512_cvttps_epi32(a); }
INLINE vm i_equal(vi a, vi b) { return _mm512_cmpeq_epi32_mask(a, b); }
/* Without signs. */
INLINE vm i_at_least(vi a, vi b) { return _mm512_cmpge_epu32_mask(a, b); }
INLINE vm i_any(vi a, vi b) { return _mm512_test_epi32_mask(a, b); } /* a & b != 0 */
INLINE vi i_where(vm where, vi a) { return _mm512_maskz_mov_epi32(where, a); }
INLINE vi i_pick(vm where, vi no, vi yes) { return _mm512_mask_mov_epi32(no, where, yes); }

INLINE unsigned bits_of(vm where) { return where; }

/* Finite floats rounded to bf16, which the upper half of each lane becomes: to nearest, ties to even. */
INLINE vi round_bf16(vf x)
{
    const vi u = _mm512_castps_si512(x), half = i_add(u, i_set(0x7fff));
    return _mm512_mask_add_epi32(half, i_any(u, i_set(0x10000)), u, i_set(0x8000));
}

INLINE vf round_f16(vf x) { return _mm512_cvtph_ps(_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT)); }

/* Sixteen vectors of sixteen floats, turned over: first within quarters of vectors, then the quarters change
 * places. */
INLINE void transpose(vf r[WIDTH])
{
    vf s[WIDTH];
    UNROLL
    for (int i = 0; i < 16; i += 4) {
        const vf a = _mm512_unpacklo_ps(r[i], r[i + 1]), b = _mm512_unpackhi_ps(r[i], r[i + 1]);
        const vf c = _mm512_unpacklo_ps(r[i + 2], r[i + 3]), d = _mm512_unpackhi_ps(r[i + 2], r[i + 3]);
        s[i] = _mm512_shuffle_ps(a, c, 0x44);
        s[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
        s[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
        s[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        const vf a = _mm512_shuffle_f32x4(s[i], s[i + 4], 0x88);
        const vf b = _mm512_shuffle_f32x4(s[i], s[i + 4], 0xdd);
        const vf c = _mm512_shuffle_f32x4(s[i + 8], s[i + 12], 0x88);
        const vf d = _mm512_shuffle_f32x4(s[i + 8], s[i + 12], 0xdd);
        r[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        r[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(a, c, 0xdd);
        r[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
}

#endif
