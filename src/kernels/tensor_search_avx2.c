/* tensor_search_avx2.c - the trellis search with AVX2: eight lanes to a vector. */
#if defined(__x86_64__)

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define KERNEL(name) vcl_##name##_avx2
#define TARGET __attribute__((target("avx2,bmi,bmi2,popcnt")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 8")
#define UNROLL_PAIRS _Pragma("GCC unroll 8")

enum { WIDTH = 8 };
typedef __m256 vf;
typedef __m256i vi;
typedef __m256 vm; /* all bits of a lane set or none */

INLINE vf f_set(float x) { return _mm256_set1_ps(x); }
INLINE vf f_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE vf f_add(vf a, vf b) { return _mm256_add_ps(a, b); }
INLINE vf f_sub(vf a, vf b) { return _mm256_sub_ps(a, b); }
INLINE vf f_mul(vf a, vf b) { return _mm256_mul_ps(a, b); }
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

INLINE vi i_set(int x) { return _mm256_set1_epi32(x); }
INLINE vi i_load8(const int8_t *p) { return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)p)); }
INLINE vi i_add(vi a, vi b) { return _mm256_add_epi32(a, b); }
INLINE vi i_sub(vi a, vi b) { return _mm256_sub_epi32(a, b); }
INLINE vi i_and(vi a, vi b) { return _mm256_and_si256(a, b); }
INLINE vi i_shift_right(vi a, vi by) { return _mm256_srav_epi32(a, by); }
INLINE vi i_mul(vi a, vi b) { return _mm256_mullo_epi32(a, b); }
INLINE vi i_min(vi a, vi b) { return _mm256_min_epi32(a, b); }
INLINE vi i_max(vi a, vi b) { return _mm256_max_epi32(a, b); }
INLINE vi i_or(vi a, vi b) { return _mm256_or_si256(a, b); }
INLINE vi i_xor(vi a, vi b) { return _mm256_xor_si256(a, b); }
INLINE vi i_from_f(vf a) { return _mm256_cvttps_epi32(a); }
/* a & b == b, where b has one bit */
INLINE vm i_any(vi a, vi b) { return _mm256_castsi256_ps(_mm256_cmpeq_epi32(_mm256_and_si256(a, b), b)); }
INLINE vi i_where(vm where, vi a) { return _mm256_and_si256(_mm256_castps_si256(where), a); }
INLINE vi i_pick(vm where, vi no, vi yes) { return _mm256_blendv_epi8(no, yes, _mm256_castps_si256(where)); }

INLINE void store16(int16_t *p, vi a)
{
    _mm_storeu_si128((void *)p, _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1)));
}

INLINE unsigned bits_of(vm where) { return (unsigned)_mm256_movemask_ps(where); }

/* The vector's part of a word that has a bit for each lane. */
INLINE void put_bits(uint32_t *word, int vector, unsigned bits) { ((uint8_t *)word)[vector] = (uint8_t)bits; }

INLINE vi lane_bits(int vector)
{
    return _mm256_sllv_epi32(i_set(1),
                             i_add(_mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), i_set(WIDTH * vector)));
}

/* words[state] of 2^v words. */
INLINE vi select_word(int v, const uint32_t *words, vi state)
{
    if (v == 3)
        return _mm256_permutevar8x32_epi32(_mm256_loadu_si256((const void *)words), state);
    return _mm256_i32gather_epi32((const int *)words, state, 4);
}

#include "kernels/tensor_search_template.h"

#endif
