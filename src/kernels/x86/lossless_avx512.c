/* lossless_avx512.c - the loops of lossless coding with AVX-512: sixteen rANS lanes to a vector.
 *
 * expand and compress deal the words to the lanes that need them and collect them; in registers, since on
 * some machines their forms that reach into memory take a hundred cycles. */
#include "kernels/lossless_loops.h"
#include "kernels/x86/push_avx512.h"

#define BYTES 64
#include "kernels/planes_template.h"

_Static_assert(VCL_RANS_LANES == 32 && VCL_RANS_BITS == 12,
               "groups of 32 symbols; states below 2^32 with 12 bits more");

INLINE uint8_t *put_overflowing(__m512i *x, __m512i frequency, uint8_t *end)
{
    return put_words(x, _mm512_cmpge_epu32_mask(_mm512_srli_epi32(*x, 20), frequency), end);
}

/* Entries of symbols by a gather, or, where 128 symbols in sequence are all that have a frequency, from eight
 * registers that hold those: a gather takes as long as all the rest. */
struct lookup {
    const uint32_t *table;
    __m512i near[8];
    __m512i first;
};

INLINE int open_lookup(struct lookup *lookup, const uint32_t *table)
{
    const unsigned first = (table[256] & 255) < 128 ? table[256] & 255 : 128, last = table[256] >> 8;
    lookup->table = table;
    lookup->first = _mm512_set1_epi32((int)first);
#pragma GCC unroll 8
    for (unsigned i = 0; i < 8; i++)
        lookup->near[i] = _mm512_loadu_si512(table + first + 16 * i);
    return last < first + 128;
}

INLINE __m512i look_up(const struct lookup *lookup, __m512i symbols, int is_near)
{
    if (!is_near)
        return _mm512_i32gather_epi32(symbols, lookup->table, 4);
    const __m512i *const t = lookup->near, at = _mm512_sub_epi32(symbols, lookup->first);
    const __mmask16 bit5 = _mm512_test_epi32_mask(at, _mm512_set1_epi32(32)),
                    bit6 = _mm512_test_epi32_mask(at, _mm512_set1_epi32(64));
    const __m512i low = _mm512_mask_blend_epi32(bit5, _mm512_permutex2var_epi32(t[0], at, t[1]),
                                                _mm512_permutex2var_epi32(t[2], at, t[3]));
    const __m512i high = _mm512_mask_blend_epi32(bit5, _mm512_permutex2var_epi32(t[4], at, t[5]),
                                                 _mm512_permutex2var_epi32(t[6], at, t[7]));
    return _mm512_mask_blend_epi32(bit6, low, high);
}

/* n is a multiple of 32. */
INLINE uint8_t *encode_groups(__m512i *x, const uint8_t *src, size_t n, const struct lookup *lookup,
                              int is_near, uint8_t *end)
{
    __m512i x0 = x[0], x1 = x[1];
    for (size_t at = n; at > 0; at -= 32) {
        const __m256i bytes = _mm256_loadu_si256((const void *)(src + at - 32));
        const __m512i low = look_up(lookup, _mm512_cvtepu8_epi32(_mm256_castsi256_si128(bytes)), is_near);
        const __m512i high =
            look_up(lookup, _mm512_cvtepu8_epi32(_mm256_extracti128_si256(bytes, 1)), is_near);
        const __m512i f0 = _mm512_and_si512(low, _mm512_set1_epi32(0xffff)),
                      f1 = _mm512_and_si512(high, _mm512_set1_epi32(0xffff));
        end = put_overflowing(&x1, f1, end);
        end = put_overflowing(&x0, f0, end);
        x1 = push_symbols(x1, f1, _mm512_srli_epi32(high, 16), VCL_RANS_BITS);
        x0 = push_symbols(x0, f0, _mm512_srli_epi32(low, 16), VCL_RANS_BITS);
    }
    x[0] = x0;
    x[1] = x1;
    return end;
}

TARGET uint8_t *KERNEL(rans_encode)(uint32_t *states, const uint8_t *src, size_t n, const uint32_t *table,
                                    uint8_t *end)
{
    const size_t whole = n / 32 * 32;
    struct lookup lookup;
    __m512i x[2];
    const int is_near = open_lookup(&lookup, table);
    end = vcl_rans_encode_lanes(states, VCL_RANS_LANES, src + whole, n - whole, table, end);
    x[0] = _mm512_loadu_si512(states);
    x[1] = _mm512_loadu_si512(states + 16);
    end = is_near ? encode_groups(x, src, whole, &lookup, 1, end)
                  : encode_groups(x, src, whole, &lookup, 0, end);
    _mm512_storeu_si512(states, x[0]);
    _mm512_storeu_si512(states + 16, x[1]);
    return end;
}

/* The next words to the lanes below 2^16. */
INLINE const uint8_t *get_words(__m512i *x, const uint8_t *words)
{
    const __mmask16 mask = _mm512_cmplt_epu32_mask(*x, _mm512_set1_epi32(VCL_RANS_LOW));
    const __m512i next = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)words));
    const __m512i dealt = _mm512_maskz_expand_epi32(mask, next);
    *x = _mm512_mask_or_epi32(*x, mask, _mm512_slli_epi32(*x, 16), dealt);
    return words + 2 * _mm_popcnt_u32(mask);
}

TARGET const uint8_t *KERNEL(rans_decode)(uint32_t *states, const uint8_t *words, const uint8_t *end,
                                          const uint32_t *table, uint8_t *dst, size_t n)
{
    const __m512i slots = _mm512_set1_epi32(VCL_RANS_TOTAL - 1);
    __m512i x[2];
    size_t at = 0;
#pragma GCC unroll 4
    for (int v = 0; v < 2; v++)
        x[v] = _mm512_loadu_si512(states + 16 * v);
    for (; at + 32 <= n && end - words >= 64; at += 32)
#pragma GCC unroll 4
        for (int v = 0; v < 2; v++) {
            const __m512i entries = _mm512_i32gather_epi32(_mm512_and_si512(x[v], slots), table, 4);
            const __m512i rest = _mm512_and_si512(_mm512_srli_epi32(entries, 8), slots);
            _mm_storeu_si128((__m128i *)(void *)(dst + at + 16 * v), _mm512_cvtepi32_epi8(entries));
            x[v] = _mm512_add_epi32(
                _mm512_mullo_epi32(_mm512_srli_epi32(entries, 20), _mm512_srli_epi32(x[v], VCL_RANS_BITS)),
                rest);
            words = get_words(&x[v], words);
        }
#pragma GCC unroll 4
    for (int v = 0; v < 2; v++)
        _mm512_storeu_si512(states + 16 * v, x[v]);
    return vcl_rans_decode_lanes(states, VCL_RANS_LANES, words, end, table, dst + at, n - at);
}
