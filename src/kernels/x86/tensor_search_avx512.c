/* tensor_search_avx512.c - the trellis search with AVX-512: sixteen lanes to a vector. */
#include "kernels/x86/avx512.h"

#include <string.h>

#define UNROLL_PAIRS _Pragma("GCC unroll 16")

INLINE void store16(int16_t *p, vi a) { _mm256_storeu_si256((void *)p, _mm512_cvtepi32_epi16(a)); }

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
