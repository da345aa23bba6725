/* lossless_avx2.c - the loops of lossless coding with AVX2: eight rANS lanes to a vector.
 *
 * Words are dealt to the lanes that need one by a permutation made with pdep from the mask of those lanes,
 * and collected from them with pext: eight bytes, each the number of a lane or of a word. */
#include "kernels/lossless_loops.h"
#include "kernels/x86/push_avx2.h"

#define BYTES 32
#include "kernels/planes_template.h"

_Static_assert(VCL_RANS_LANES == 32 && VCL_RANS_BITS == 12,
               "groups of 32 symbols; states below 2^32 with 12 bits more");

/* Words below `end` for the lanes that would overflow. */
INLINE uint8_t *put_words(__m256i *x, __m256i frequency, uint8_t *end)
{
    const __m256i keep = _mm256_cmpgt_epi32(frequency, _mm256_srli_epi32(*x, 20));
    end = store_words(*x, ~(unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(keep)) & 255, end);
    *x = _mm256_blendv_epi8(_mm256_srli_epi32(*x, 16), *x, keep);
    return end;
}

TARGET uint8_t *KERNEL(rans_encode)(uint32_t *states, const uint8_t *src, size_t n, const uint32_t *table,
                                    uint8_t *end)
{
    __m256i x[4];
    end = vcl_rans_encode_lanes(states, VCL_RANS_LANES, src + n / 32 * 32, n % 32, table, end);
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++)
        x[v] = i_load(states + 8 * v);
    for (size_t at = n / 32 * 32; at > 0; at -= 32)
#pragma GCC unroll 4
        for (int v = 3; v >= 0; v--) {
            const __m256i symbols =
                _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)(src + at - 32 + 8 * v)));
            const __m256i entries = _mm256_i32gather_epi32((const int *)table, symbols, 4);
            const __m256i frequency = _mm256_and_si256(entries, _mm256_set1_epi32(0xffff));
            end = put_words(&x[v], frequency, end);
            x[v] = push_symbols(x[v], frequency, _mm256_srli_epi32(entries, 16), VCL_RANS_BITS);
        }
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++)
        _mm256_storeu_si256((__m256i *)(void *)(states + 8 * v), x[v]);
    return end;
}

/* The next words to the lanes below 2^16. */
INLINE const uint8_t *get_words(__m256i *x, const uint8_t *words)
{
    const __m256i need = _mm256_cmpeq_epi32(_mm256_srli_epi32(*x, 16), _mm256_setzero_si256());
    const unsigned mask = (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(need));
    const __m256i order = bytes_to_lanes(_pdep_u64(NUMBERS, spread_mask(mask)));
    const __m256i next = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)words));
    const __m256i dealt = _mm256_permutevar8x32_epi32(next, order);
    const __m256i filled = _mm256_or_si256(_mm256_slli_epi32(*x, 16), dealt);
    *x = _mm256_blendv_epi8(*x, filled, need);
    return words + 2 * _mm_popcnt_u32(mask);
}

TARGET const uint8_t *KERNEL(rans_decode)(uint32_t *states, const uint8_t *words, const uint8_t *end,
                                          const uint32_t *table, uint8_t *dst, size_t n)
{
    const __m256i slots = _mm256_set1_epi32(VCL_RANS_TOTAL - 1), byte = _mm256_set1_epi32(255);
    const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    __m256i x[4], symbols[4];
    size_t at = 0;
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++)
        x[v] = i_load(states + 8 * v);
    for (; at + 32 <= n && end - words >= 64; at += 32) {
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++) {
            const __m256i entries =
                _mm256_i32gather_epi32((const int *)table, _mm256_and_si256(x[v], slots), 4);
            const __m256i rest = _mm256_and_si256(_mm256_srli_epi32(entries, 8), slots);
            symbols[v] = _mm256_and_si256(entries, byte);
            x[v] = _mm256_add_epi32(
                _mm256_mullo_epi32(_mm256_srli_epi32(entries, 20), _mm256_srli_epi32(x[v], VCL_RANS_BITS)),
                rest);
            words = get_words(&x[v], words);
        }
        const __m256i low = _mm256_packus_epi32(symbols[0], symbols[1]),
                      high = _mm256_packus_epi32(symbols[2], symbols[3]);
        const __m256i bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order);
        _mm256_storeu_si256((__m256i *)(void *)(dst + at), bytes);
    }
#pragma GCC unroll 4
    for (int v = 0; v < 4; v++)
        _mm256_storeu_si256((__m256i *)(void *)(states + 8 * v), x[v]);
    return vcl_rans_decode_lanes(states, VCL_RANS_LANES, words, end, table, dst + at, n - at);
}
