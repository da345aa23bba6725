/* lanes_avx512.h - what decoding loops with AVX-512 share: the states of 32 lanes, and a symbol for each.
 *
 * Where the time goes (docs/experiments.md, "How is a coded matrix multiplied?"): the chain from state to
 * gather to state, and the gathers themselves.  A gather of eight is ready after 21 cycles, one of sixteen
 * after 31, and neither does more lanes a cycle; so states are four vectors of eight, and all that has time
 * comes in vectors of sixteen. */
#ifndef VCL_LANES_AVX512_H
#define VCL_LANES_AVX512_H

#include "kernels/tensor_loops.h"
#include "kernels/x86/avx512.h"

enum { VECTORS = VCL_STRIPE_LANES / WIDTH, HALVES = 2 * VECTORS, TABLE_LOG2 = VCL_MODEL_BITS + 1 };

_Static_assert(VCL_STRIPE_LANES % WIDTH == 0, "a stripe is whole vectors");

/* The points of entries. */
INLINE vi entry_index(vi entry) { return _mm512_srai_epi32(entry, 20); }

INLINE __m256i half_set1(uint32_t x) { return _mm256_set1_epi32((int)x); }

INLINE uint32_t active_mask(const struct vcl_stripe *t) { return UINT32_MAX >> (32 - t->active); }

/* Where the classes' tables of 2^entries_log2 entries begin: of the lanes' rows, and in column `col`. */
INLINE void find_rows(const struct vcl_stripe *t, int entries_log2, __m512i rows[VECTORS])
{
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        const __m512i row = _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(t->row_class + WIDTH * v)));
        rows[v] = _mm512_slli_epi32(row, (unsigned)entries_log2);
    }
}

INLINE void find_tables(const struct vcl_stripe *t, const __m512i rows[VECTORS], uint32_t col,
                        int entries_log2, __m512i tables[VECTORS])
{
    const __m512i add = _mm512_set1_epi32(t->col_class ? t->col_class[col] * (1 << entries_log2) : 0);
    const __m512i last = i_bits((uint32_t)(VCL_MODEL_CLASSES - 1) << entries_log2);
    UNROLL
    for (int v = 0; v < VECTORS; v++)
        tables[v] =
            _mm512_min_epi32(_mm512_max_epi32(_mm512_add_epi32(rows[v], add), _mm512_setzero_si512()), last);
}

/* Of where a class' table begins: how many low bits its indices have (vcl_low_bits). */
INLINE __m512i low_bits(__m512i table, int from, int entries_log2)
{
    const __m512i first = _mm512_set1_epi32((from - 4) * (1 << entries_log2));
    const __m512i over = _mm512_sub_epi32(_mm512_max_epi32(table, first), first);
    return _mm512_srli_epi32(over, (unsigned)entries_log2 + 2);
}

/* A trellis stands ten bits higher, its codebook's bit just above the slot; what is below it is left of
 * earlier states. */
struct lanes {
    __m256i x[HALVES];
    __m512i trellis[VECTORS], rows[VECTORS], tables[VECTORS];
    __m512i turn_branch, turn;
    const uint8_t *words;
};

/* With the tables of the rows' classes; a column's class is to be added (find_tables). */
INLINE void load_lanes(const struct vcl_stripe *t, const struct vcl_lanes_reader *r, struct lanes *s)
{
    UNROLL
    for (int h = 0; h < HALVES; h++)
        s->x[h] = _mm256_loadu_si256((const void *)(r->state + WIDTH / 2 * h));
    UNROLL
    for (int v = 0; v < VECTORS; v++)
        s->trellis[v] = _mm512_slli_epi32(_mm512_loadu_si512(r->trellis + WIDTH * v), VCL_MODEL_BITS);
    find_rows(t, TABLE_LOG2, s->rows);
    UNROLL
    for (int v = 0; v < VECTORS; v++)
        s->tables[v] = s->rows[v];
    s->turn_branch = i_bits((uint32_t)vcl_trellis_turns[t->v][0] << VCL_MODEL_BITS);
    s->turn = i_bits((uint32_t)vcl_trellis_turns[t->v][1] << VCL_MODEL_BITS);
    s->words = r->words;
}

INLINE void store_lanes(const struct lanes *s, struct vcl_lanes_reader *r)
{
    UNROLL
    for (int h = 0; h < HALVES; h++)
        _mm256_storeu_si256((void *)(r->state + WIDTH / 2 * h), s->x[h]);
    UNROLL
    for (int v = 0; v < VECTORS; v++)
        _mm512_storeu_si512(r->trellis + WIDTH * v, _mm512_srli_epi32(s->trellis[v], VCL_MODEL_BITS));
    r->words = s->words;
}

/* The next words to the lanes that need one; expanded in a register, since from memory it is slow. */
INLINE const uint8_t *refill(__m256i *x, const uint8_t *words)
{
    const __mmask8 mask = _mm256_cmplt_epu32_mask(*x, half_set1(VCL_LANE_LOW));
    const __m256i next = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)words));
    const __m256i dealt = _mm256_maskz_expand_epi32(mask, next);
    *x = _mm256_mask_or_epi32(*x, mask, _mm256_slli_epi32(*x, 16), dealt);
    return words + 2 * (size_t)_mm_popcnt_u64(mask);
}

INLINE __m256i take_symbol(__m256i x, __m256i entry, __mmask8 active, int whole)
{
    const __m256i ten = half_set1(1023);
    const __m256i frequency = _mm256_and_si256(entry, ten);
    const __m256i rest = _mm256_and_si256(_mm256_srli_epi32(entry, 10), ten);
    const __m256i product = _mm256_mullo_epi32(frequency, _mm256_srli_epi32(x, VCL_MODEL_BITS));
    return whole ? _mm256_add_epi32(product, rest) : _mm256_mask_add_epi32(x, active, product, rest);
}

/* A symbol off every lane that has a row (`whole`: all have): the tables' entries for their states. */
INLINE void take_symbols(struct lanes *s, const uint32_t *slots, uint32_t active, int whole,
                         __m512i entry[VECTORS])
{
    enum { A_AND_B_OR_C = 0xea };
    __m256i half[HALVES];
    UNROLL
    for (int h = 0; h < HALVES; h++) {
        const __m512i table = _mm512_ternarylogic_epi32(s->trellis[h / 2], i_bits(VCL_MODEL_TOTAL),
                                                        s->tables[h / 2], A_AND_B_OR_C);
        const __m256i its = h % 2 ? _mm512_extracti64x4_epi64(table, 1) : _mm512_castsi512_si256(table);
        const __m256i at =
            _mm256_ternarylogic_epi32(s->x[h], half_set1(VCL_MODEL_TOTAL - 1), its, A_AND_B_OR_C);
        half[h] = _mm256_i32gather_epi32((const int *)slots, at, 4);
    }
    UNROLL
    for (int h = 0; h < HALVES; h++) {
        s->x[h] = take_symbol(s->x[h], half[h], (__mmask8)(active >> WIDTH / 2 * h), whole);
        s->words = refill(&s->x[h], s->words);
    }
    UNROLL
    for (int v = 0; v < VECTORS; v++)
        entry[v] = _mm512_inserti64x4(_mm512_castsi256_si512(half[2 * v]), half[2 * v + 1], 1);
}

INLINE void turn_trellis(struct lanes *s, const __mmask16 branch[VECTORS])
{
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        const __mmask16 odd = _mm512_test_epi32_mask(s->trellis[v], i_bits(VCL_MODEL_TOTAL));
        __m512i next = _mm512_srli_epi32(s->trellis[v], 1);
        next = _mm512_mask_xor_epi32(next, branch[v], next, s->turn_branch);
        s->trellis[v] = _mm512_mask_xor_epi32(next, odd, next, s->turn);
    }
}

/* Where the index is all in the entry: its branch. */
INLINE void find_branches(const __m512i entry[VECTORS], __mmask16 branch[VECTORS])
{
    UNROLL
    for (int v = 0; v < VECTORS; v++)
        branch[v] = _mm512_test_epi32_mask(entry[v], i_bits(1u << 21));
}

/* Entries whose point is not one of -n ... n - 1; with VCL_ESCAPE_POINT those are escapes. */
INLINE vm beyond(vi entry, uint32_t n) { return i_at_least(i_add(entry, i_bits(n << 20)), i_bits(n << 21)); }

INLINE int any_beyond(const __m512i entry[VECTORS], uint32_t n)
{
    const __m512i add = i_bits(n << 20);
    const __m512i farthest =
        _mm512_max_epu32(_mm512_add_epi32(entry[0], add), _mm512_add_epi32(entry[1], add));
    return _mm512_cmpge_epu32_mask(farthest, i_bits(n << 21)) != 0;
}

INLINE uint32_t lanes_beyond(const __m512i entry[VECTORS], uint32_t n)
{
    uint32_t mask = 0;
    UNROLL
    for (int v = 0; v < VECTORS; v++)
        mask |= (uint32_t)beyond(entry[v], n) << WIDTH * v;
    return mask;
}

/* The upper halves of the 32 entries hold j, signed, from bit 4 on. */
INLINE __m512i indices_of(const __m512i entry[VECTORS])
{
    const __m512i odd =
        _mm512_add_epi16(_mm512_set1_epi16(1),
                         _mm512_slli_epi16(_mm512_cvtepi8_epi16(_mm256_setr_epi8(
                                               0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17,
                                               18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31)),
                                           1));
    return _mm512_srai_epi16(_mm512_permutex2var_epi16(entry[0], odd, entry[1]), 4);
}

#endif
