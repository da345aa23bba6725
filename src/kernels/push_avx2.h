/* push_avx2.h - what rANS encoding with AVX2 shares: 8 states divided by their symbols' frequencies at once.
 *
 * Included where TARGET names the CPU level's attributes. */
#ifndef VCL_PUSH_AVX2_H
#define VCL_PUSH_AVX2_H

/* States x, already low enough, after a symbol each, of so many frequency bits.  x / frequency is below
 * 2^22, so that in single precision it is off by one at most; the remainder tells. */
TARGET static inline __attribute__((always_inline)) __m256i push_symbols(__m256i x, __m256i frequency,
                                                                         __m256i start, int bits)
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

#endif
