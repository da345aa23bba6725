/* push_avx512.h - what rANS encoding with AVX-512 shares: 16 states divided by their symbols'
 * frequencies at once, and their words stored.
 */
#ifndef VCL_PUSH_AVX512_H
#define VCL_PUSH_AVX512_H

#include "kernels/x86/avx512.h"

/* States x, already low enough, after a symbol each, of so many frequency bits.  x / frequency is below
 * 2^22, so that in single precision it is off by one at most; the remainder tells. */
INLINE __m512i push_symbols(__m512i x, __m512i frequency, __m512i start, unsigned bits)
{
    const __m512i one = _mm512_set1_epi32(1);
    const __m512 ratio = _mm512_div_ps(_mm512_cvtepu32_ps(x), _mm512_cvtepi32_ps(frequency));
    __m512i quotient = _mm512_cvttps_epi32(ratio);
    __m512i rest = _mm512_sub_epi32(x, _mm512_mullo_epi32(quotient, frequency));
    const __mmask16 negative = _mm512_movepi32_mask(rest);
    quotient = _mm512_mask_sub_epi32(quotient, negative, quotient, one);
    rest = _mm512_mask_add_epi32(rest, negative, rest, frequency);
    const __mmask16 large = _mm512_cmpge_epi32_mask(rest, frequency);
    quotient = _mm512_mask_add_epi32(quotient, large, quotient, one);
    rest = _mm512_mask_sub_epi32(rest, large, rest, frequency);
    return _mm512_add_epi32(_mm512_slli_epi32(quotient, bits), _mm512_add_epi32(rest, start));
}

/* The lower words of the lanes in the mask go below `words`; the lane of the lowest number gets the lowest
 * place. */
INLINE uint8_t *put_words(__m512i *x, __mmask16 mask, uint8_t *words)
{
    const unsigned count = (unsigned)_mm_popcnt_u32(mask);
    const __m256i packed = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(mask, *x));
    words -= 2 * count;
    _mm256_mask_storeu_epi16(words, (__mmask16)((1u << count) - 1), packed);
    *x = _mm512_mask_srli_epi32(*x, mask, *x, 16);
    return words;
}

#endif
