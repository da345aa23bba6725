/* push_avx2.h - what rANS encoding with AVX2 shares: 8 states divided by their symbols' frequencies at
 * once, and their words stored.
 */
#ifndef VCL_PUSH_AVX2_H
#define VCL_PUSH_AVX2_H

#include "kernels/x86/avx2.h"

/* States x, already low enough, after a symbol each, of so many frequency bits.  x / frequency is below
 * 2^22, so that in single precision it is off by one at most; the remainder tells. */
INLINE __m256i push_symbols(__m256i x, __m256i frequency, __m256i start, int bits)
{
    const __m256 half = _mm256_cvtepi32_ps(_mm256_srli_epi32(x, 1));
    const __m256 ratio = _mm256_div_ps(_mm256_add_ps(half, half), _mm256_cvtepi32_ps(frequency));
    __m256i quotient = _mm256_cvttps_epi32(ratio);
    __m256i rest = _mm256_sub_epi32(x, _mm256_mullo_epi32(quotient, frequency));
    const __m256i negative = _mm256_srai_epi32(rest, 31);
    quotient = _mm256_add_epi32(quotient, negative);
    rest = _mm256_add_epi32(rest, _mm256_and_si256(negative, frequency));
    const __m256i small = _mm256_cmpgt_epi32(frequency, rest); /* -1 where it is a remainder */
    quotient = _mm256_add_epi32(quotient, _mm256_add_epi32(small, _mm256_set1_epi32(1)));
    rest = _mm256_sub_epi32(rest, _mm256_andnot_si256(small, frequency));
    return _mm256_add_epi32(_mm256_slli_epi32(quotient, bits), _mm256_add_epi32(rest, start));
}

#define NUMBERS 0x0706050403020100u

/* 0xff in the bytes whose bit of the mask is set. */
INLINE uint64_t spread_mask(unsigned mask) { return _pdep_u64(mask, 0x0101010101010101u) * 0xff; }

INLINE __m256i bytes_to_lanes(uint64_t bytes)
{
    return _mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)bytes));
}

/* The lower words of the lanes in the mask, below `end`; the lane of the lowest number gets the lowest place.
 * Their order is made with pext from the mask: eight bytes, each the number of a lane. */
INLINE uint8_t *store_words(__m256i x, unsigned mask, uint8_t *end)
{
    const unsigned idle = 8 - (unsigned)_mm_popcnt_u32(mask);
    const uint64_t lanes = _pext_u64(NUMBERS, spread_mask(mask)) << 4 * idle << 4 * idle;
    const __m256i low = _mm256_and_si256(x, i_bits(0xffff));
    const __m256i words = _mm256_permutevar8x32_epi32(low, bytes_to_lanes(lanes));
    const __m128i packed =
        _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
    _mm_storeu_si128((__m128i *)(void *)(end - 16), packed);
    return end - 16 + 2 * idle;
}

#endif
