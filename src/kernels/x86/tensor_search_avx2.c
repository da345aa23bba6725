/* tensor_search_avx2.c - the trellis search with AVX2: eight lanes to a vector. */
#include "kernels/x86/avx2.h"

#define UNROLL_PAIRS _Pragma("GCC unroll 8")

INLINE void store16(int16_t *p, vi a)
{
    _mm_storeu_si128((void *)p, _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1)));
}

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
