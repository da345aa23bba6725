/* lanes_avx2.h - what decoding loops with AVX2 share: the states of 32 lanes, and a symbol for each. */
#ifndef VCL_LANES_AVX2_H
#define VCL_LANES_AVX2_H

#include "kernels/tensor_loops.h"
#include "kernels/x86/avx2.h"

enum { VECTORS = VCL_STRIPE_LANES / WIDTH, TABLE_LOG2 = VCL_MODEL_BITS + 1 };

_Static_assert(VCL_STRIPE_LANES % WIDTH == 0, "a stripe is whole vectors");

/* The points of entries. */
INLINE vi entry_index(vi entry) { return _mm256_srai_epi32(entry, 20); }

INLINE unsigned mask_of(__m256i x) { return (unsigned)_mm256_movemask_ps(_mm256_castsi256_ps(x)); }

/* -1 in the lanes that have a row. */
INLINE void find_active(const struct vcl_stripe *t, __m256i active[VECTORS])
{
    UNROLL
    for (int v = 0; v < VECTORS; v++)
        active[v] = _mm256_cmpgt_epi32(_mm256_set1_epi32(t->active - WIDTH * v),
                                       _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

/* Where the classes' tables of 2^entries_log2 entries begin: of the lanes' rows, and in column `col`. */
INLINE void find_rows(const struct vcl_stripe *t, int entries_log2, __m256i rows[VECTORS])
{
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        const __m256i row = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const void *)(t->row_class + WIDTH * v)));
        rows[v] = _mm256_slli_epi32(row, entries_log2);
    }
}

INLINE void find_tables(const struct vcl_stripe *t, const __m256i rows[VECTORS], uint32_t col,
                        int entries_log2, __m256i tables[VECTORS])
{
    const __m256i add = _mm256_set1_epi32(t->col_class ? t->col_class[col] * (1 << entries_log2) : 0);
    const __m256i last = i_bits((uint32_t)(VCL_MODEL_CLASSES - 1) << entries_log2);
    UNROLL
    for (int v = 0; v < VECTORS; v++)
        tables[v] =
            _mm256_min_epi32(_mm256_max_epi32(_mm256_add_epi32(rows[v], add), _mm256_setzero_si256()), last);
}

/* Of where a class' table begins: how many low bits its indices have (vcl_low_bits). */
INLINE __m256i low_bits(__m256i table, int from, int entries_log2)
{
    const __m256i first = _mm256_set1_epi32((from - 4) * (1 << entries_log2));
    return _mm256_srli_epi32(_mm256_sub_epi32(_mm256_max_epi32(table, first), first), entries_log2 + 2);
}

/* A trellis stands ten bits higher, its codebook's bit just above the slot; what is below it is left of
 * earlier states. */
struct lanes {
    __m256i x[VECTORS], trellis[VECTORS], rows[VECTORS], tables[VECTORS];
    __m256i turn_branch, turn;
    const uint8_t *words;
};

/* With the tables of the rows' classes; a column's class is to be added (find_tables). */
INLINE void load_lanes(const struct vcl_stripe *t, const struct vcl_lanes_reader *r, struct lanes *s)
{
    find_rows(t, TABLE_LOG2, s->rows);
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        s->x[v] = i_load(r->state + WIDTH * v);
        s->trellis[v] = _mm256_slli_epi32(i_load(r->trellis + WIDTH * v), VCL_MODEL_BITS);
        s->tables[v] = s->rows[v];
    }
    s->turn_branch = i_bits((uint32_t)vcl_trellis_turns[t->v][0] << VCL_MODEL_BITS);
    s->turn = i_bits((uint32_t)vcl_trellis_turns[t->v][1] << VCL_MODEL_BITS);
    s->words = r->words;
}

INLINE void store_lanes(const struct lanes *s, struct vcl_lanes_reader *r)
{
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        i_store(r->state + WIDTH * v, s->x[v]);
        i_store(r->trellis + WIDTH * v, _mm256_srli_epi32(s->trellis[v], VCL_MODEL_BITS));
    }
    r->words = s->words;
}

/* Which word each of eight lanes gets where those of a mask need one: as many as lanes of the mask are before
 * it, a byte each. */
#define RANK(mask, lane) ((uint64_t)__builtin_popcount((mask) & ((1u << (lane)) - 1)) << 8 * (lane))
#define RANKS(mask)                                                                               \
    RANK(mask, 1) | RANK(mask, 2) | RANK(mask, 3) | RANK(mask, 4) | RANK(mask, 5) | RANK(mask, 6) \
        | RANK(mask, 7)
#define RANKS_4(mask) RANKS(mask), RANKS((mask) + 1), RANKS((mask) + 2), RANKS((mask) + 3)
#define RANKS_16(mask) RANKS_4(mask), RANKS_4((mask) + 4), RANKS_4((mask) + 8), RANKS_4((mask) + 12)
#define RANKS_64(mask) RANKS_16(mask), RANKS_16((mask) + 16), RANKS_16((mask) + 32), RANKS_16((mask) + 48)
static const uint64_t ranks[256] = { RANKS_64(0u), RANKS_64(64u), RANKS_64(128u), RANKS_64(192u) };

/* The next words to the lanes that need one. */
INLINE const uint8_t *refill(__m256i *x, const uint8_t *words)
{
    const __m256i need = _mm256_cmpeq_epi32(_mm256_srli_epi32(*x, 16), _mm256_setzero_si256());
    const unsigned mask = mask_of(need);
    const __m256i order = _mm256_cvtepu8_epi32(_mm_loadl_epi64((const void *)&ranks[mask]));
    const __m256i next = _mm256_cvtepu16_epi32(_mm_loadu_si128((const void *)words));
    const __m256i dealt = _mm256_permutevar8x32_epi32(next, order);
    *x = _mm256_blendv_epi8(*x, _mm256_or_si256(_mm256_slli_epi32(*x, 16), dealt), need);
    return words + 2 * (size_t)_mm_popcnt_u32(mask);
}

INLINE __m256i take_symbol(__m256i x, __m256i entry, __m256i active, int whole)
{
    const __m256i ten = i_bits(1023);
    const __m256i frequency = _mm256_and_si256(entry, ten);
    const __m256i rest = _mm256_and_si256(_mm256_srli_epi32(entry, 10), ten);
    const __m256i product = _mm256_mullo_epi32(frequency, _mm256_srli_epi32(x, VCL_MODEL_BITS));
    const __m256i next = _mm256_add_epi32(product, rest);
    return whole ? next : _mm256_blendv_epi8(x, next, active);
}

/* A symbol off every lane that has a row (`whole`: all have): the tables' entries for their states. */
INLINE void take_symbols(struct lanes *s, const uint32_t *slots, const __m256i active[VECTORS], int whole,
                         __m256i entry[VECTORS])
{
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        const __m256i codebook = _mm256_and_si256(s->trellis[v], i_bits(VCL_MODEL_TOTAL));
        const __m256i slot = _mm256_and_si256(s->x[v], i_bits(VCL_MODEL_TOTAL - 1));
        const __m256i at = _mm256_or_si256(slot, _mm256_or_si256(codebook, s->tables[v]));
        entry[v] = _mm256_i32gather_epi32((const int *)slots, at, 4);
    }
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        s->x[v] = take_symbol(s->x[v], entry[v], active[v], whole);
        s->words = refill(&s->x[v], s->words);
    }
}

/* x where bit n is set, else 0. */
INLINE __m256i where_bit(__m256i bits, int n, __m256i x)
{
    return _mm256_and_si256(_mm256_srai_epi32(_mm256_slli_epi32(bits, 31 - n), 31), x);
}

/* `branch_bit` of the indices tells the branch. */
INLINE void turn_trellis(struct lanes *s, const __m256i index[VECTORS], int branch_bit)
{
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        const __m256i half = _mm256_srli_epi32(s->trellis[v], 1);
        const __m256i branch = where_bit(index[v], branch_bit, s->turn_branch);
        const __m256i odd = where_bit(s->trellis[v], VCL_MODEL_BITS, s->turn);
        s->trellis[v] = _mm256_xor_si256(_mm256_xor_si256(half, branch), odd);
    }
}

/* Where the entry's point is not one of -n ... n - 1; with VCL_ESCAPE_POINT it is an escape then. */
INLINE vm beyond(vi entry, uint32_t n) { return i_at_least(i_add(entry, i_bits(n << 20)), i_bits(n << 21)); }

INLINE int any_beyond(const __m256i entry[VECTORS], uint32_t n)
{
    __m256i farthest = _mm256_add_epi32(entry[0], i_bits(n << 20));
    UNROLL
    for (int v = 1; v < VECTORS; v++)
        farthest = _mm256_max_epu32(farthest, _mm256_add_epi32(entry[v], i_bits(n << 20)));
    return bits_of(i_at_least(farthest, i_bits(n << 21))) != 0;
}

INLINE uint32_t lanes_beyond(const __m256i entry[VECTORS], uint32_t n)
{
    uint32_t mask = 0;
    UNROLL
    for (int v = 0; v < VECTORS; v++)
        mask |= bits_of(beyond(entry[v], n)) << WIDTH * v;
    return mask;
}

/* Indices of 32 lanes. */
INLINE void store_indices(int16_t *column, const __m256i j[VECTORS])
{
    UNROLL
    for (int v = 0; v < VECTORS; v += 2)
        i_store(column + WIDTH * v, _mm256_permute4x64_epi64(_mm256_packs_epi32(j[v], j[v + 1]), 0xd8));
}

#endif
