/* tensor_search_avx512.c - the trellis search with AVX-512: sixteen lanes to a vector. */
#if defined(__x86_64__)

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define KERNEL(name) vcl_##name##_avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx2,bmi,bmi2,popcnt")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
#define UNROLL_PAIRS _Pragma("GCC unroll 16")

enum { WIDTH = 16 };
typedef __m512 vf;
typedef __m512i vi;
typedef __mmask16 vm;

INLINE vf f_set(float x) { return _mm512_set1_ps(x); }
INLINE vf f_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE vf f_add(vf a, vf b) { return _mm512_add_ps(a, b); }
INLINE vf f_sub(vf a, vf b) { return _mm512_sub_ps(a, b); }
INLINE vf f_mul(vf a, vf b) { return _mm512_mul_ps(a, b); }
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

INLINE vi i_set(int x) { return _mm512_set1_epi32(x); }
INLINE vi i_load8(const int8_t *p) { return _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)p)); }
INLINE vi i_add(vi a, vi b) { return _mm512_add_epi32(a, b); }
INLINE vi i_sub(vi a, vi b) { return _mm512_sub_epi32(a, b); }
INLINE vi i_and(vi a, vi b) { return _mm512_and_si512(a, b); }
INLINE vi i_shift_right(vi a, vi by) { return _mm512_srav_epi32(a, by); }
INLINE vi i_mul(vi a, vi b) { return _mm512_mullo_epi32(a, b); }
INLINE vi i_min(vi a, vi b) { return _mm512_min_epi32(a, b); }
INLINE vi i_max(vi a, vi b) { return _mm512_max_epi32(a, b); }
INLINE vi i_or(vi a, vi b) { return _mm512_or_si512(a, b); }
INLINE vi i_xor(vi a, vi b) { return _mm512_xor_si512(a, b); }
INLINE vi i_from_f(vf a) { return _mm512_cvttps_epi32(a); }
INLINE vm i_any(vi a, vi b) { return _mm512_test_epi32_mask(a, b); } /* a & b != 0 */
INLINE vi i_where(vm where, vi a) { return _mm512_maskz_mov_epi32(where, a); }
INLINE vi i_pick(vm where, vi no, vi yes) { return _mm512_mask_mov_epi32(no, where, yes); }

INLINE void store16(int16_t *p, vi a) { _mm256_storeu_si256((void *)p, _mm512_cvtepi32_epi16(a)); }

INLINE unsigned bits_of(vm where) { return where; }

/* The vector's part of a word that has a bit for each lane. */
INLINE void put_bits(uint32_t *word, int vector, unsigned bits)
{
    const uint16_t part = (uint16_t)bits;
    memcpy((uint16_t *)word + vector, &part, sizeof part);
}

INLINE vi lane_bits(int vector)
{
    const vi lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_sllv_epi32(i_set(1), i_add(lanes, i_set(WIDTH * vector)));
}

/* words[state] of 2^v words. */
INLINE vi select_word(int v, const uint32_t *words, vi state)
{
    if (v > 4)
        return _mm512_i32gather_epi32(state, words, 4);
    const vi all = _mm512_maskz_loadu_epi32((__mmask16)((1u << (1 << v)) - 1), words);
    return _mm512_permutexvar_epi32(state, all);
}

#include "kernels/tensor_search_template.h"

#endif
