/* tensor_avx512.c - the loops of the tensor codec with AVX-512: 32 lanes in two vectors.
 *
 * States, trellises and classes stay in registers; a symbol costs one gather from its class' table. */
#include "kernels/tensor_loops.h"

#if defined(__x86_64__)

#include <immintrin.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx2,bmi,bmi2,popcnt")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#include "kernels/push_avx512.h"

enum { WIDTH = 16, VECTORS = VCL_STRIPE_LANES / WIDTH };

INLINE __m512i set1(uint32_t x) { return _mm512_set1_epi32((int)x); }

INLINE uint32_t active_mask(const struct vcl_stripe *t) { return UINT32_MAX >> (32 - t->active); }

/* Classes of the lanes in this column, times what a class' table holds. */
INLINE void find_tables(const struct vcl_stripe *t, uint32_t col, int entries_log2, __m512i tables[VECTORS])
{
    const __m512i add = _mm512_set1_epi32(t->col_class ? t->col_class[col] : 0);
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        const __m512i row = _mm512_cvtepi8_epi32(_mm_loadu_si128((const void *)(t->row_class + WIDTH * v)));
        __m512i class = _mm512_max_epi32(_mm512_add_epi32(row, add), _mm512_setzero_si512());
        class = _mm512_min_epi32(class, set1(VCL_MODEL_CLASSES - 1));
        tables[v] = _mm512_slli_epi32(class, (unsigned)entries_log2);
    }
}

/* ---- decoding -------------------------------------------------------------------------------- */

/* The next words to the lanes that need one; expanded in a register, since from memory it is slow. */
INLINE const uint8_t *refill(__m512i *x, const uint8_t *words)
{
    const __mmask16 mask = _mm512_cmplt_epu32_mask(*x, set1(VCL_LANE_LOW));
    const __m512i next = _mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)words));
    const __m512i dealt = _mm512_maskz_expand_epi32(mask, next);
    *x = _mm512_mask_or_epi32(*x, mask, _mm512_slli_epi32(*x, 16), dealt);
    return words + 2 * _mm_popcnt_u32(mask);
}

/* The table's entries for the lanes' states.  A trellis stands ten bits higher, its codebook's bit just above
 * the slot; what is below it is left of earlier states. */
INLINE __m512i look_up(const uint32_t *slots, __m512i x, __m512i trellis, __m512i table)
{
    const __m512i codebook = _mm512_and_si512(trellis, set1(VCL_MODEL_TOTAL));
    const __m512i slot = _mm512_and_si512(x, set1(VCL_MODEL_TOTAL - 1));
    const __m512i at = _mm512_or_si512(_mm512_or_si512(slot, codebook), table);
    return _mm512_i32gather_epi32(at, slots, 4);
}

INLINE __m512i take_symbol(__m512i x, __m512i entry, __mmask16 active)
{
    const __m512i ten = set1(1023);
    const __m512i frequency = _mm512_and_si512(entry, ten);
    const __m512i rest = _mm512_and_si512(_mm512_srli_epi32(entry, 10), ten);
    const __m512i product = _mm512_mullo_epi32(frequency, _mm512_srli_epi32(x, VCL_MODEL_BITS));
    return _mm512_mask_add_epi32(x, active, product, rest);
}

INLINE __m512i next_trellis(__m512i trellis, __mmask16 branch, __m512i turn_branch, __m512i turn)
{
    const __mmask16 odd = _mm512_test_epi32_mask(trellis, set1(VCL_MODEL_TOTAL));
    __m512i next = _mm512_srli_epi32(trellis, 1);
    next = _mm512_mask_xor_epi32(next, branch, next, turn_branch);
    return _mm512_mask_xor_epi32(next, odd, next, turn);
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

INLINE __mmask16 escapes_of(__m512i entry, __mmask16 active)
{
    return _mm512_mask_cmpge_epu32_mask(active, _mm512_add_epi32(entry, set1(62u << 20)), set1(124u << 20));
}

/* With `shift` low bits of k outside the model: those of every lane follow its symbol's words. */
INLINE __m512i take_low_bits(__m512i x[VECTORS], const __m512i trellis[VECTORS], const __m512i entry[VECTORS],
                             uint32_t active, unsigned shift, const uint8_t **words,
                             __mmask16 branch[VECTORS])
{
    const __m512i mask = set1((1u << shift) - 1), one = set1(1);
    __m256i half[VECTORS];
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        const __m512i low = _mm512_and_si512(x[v], mask);
        const __m512i high = _mm512_slli_epi32(_mm512_srai_epi32(entry[v], 21), shift);
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(trellis[v], VCL_MODEL_BITS), one);
        const __m512i k = _mm512_or_si512(high, low);
        branch[v] = _mm512_test_epi32_mask(low, one);
        half[v] = _mm512_cvtepi32_epi16(_mm512_add_epi32(_mm512_add_epi32(k, k), odd));
        x[v] = _mm512_mask_srli_epi32(x[v], (__mmask16)(active >> WIDTH * v), x[v], shift);
        *words = refill(&x[v], *words);
    }
    return _mm512_inserti64x4(_mm512_castsi256_si512(half[0]), half[1], 1);
}

/* Columns until the words run short; returns how many. */
INLINE uint32_t decode_columns(const struct vcl_stripe *t, struct vcl_lanes_reader *r, uint32_t first,
                               uint32_t count, unsigned shift, int by_column, int16_t *j)
{
    const ptrdiff_t most = shift ? 4 * VCL_STRIPE_LANES : 2 * VCL_STRIPE_LANES;
    const __m512i turn_branch = set1((uint32_t)vcl_trellis_turns[t->v][0] << VCL_MODEL_BITS);
    const __m512i turn = set1((uint32_t)vcl_trellis_turns[t->v][1] << VCL_MODEL_BITS);
    const uint32_t active = active_mask(t);
    const uint32_t *const slots = t->slots;
    const uint8_t *words = r->words, *const end = r->words_end;
    __m512i x[VECTORS], trellis[VECTORS], tables[VECTORS];
    uint32_t c = 0;
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        x[v] = _mm512_loadu_si512(r->state + WIDTH * v);
        trellis[v] = _mm512_slli_epi32(_mm512_loadu_si512(r->trellis + WIDTH * v), VCL_MODEL_BITS);
    }
    find_tables(t, first, VCL_MODEL_BITS + 1, tables);
    for (; c < count && end - words >= most; c++, j += VCL_STRIPE_LANES) {
        __m512i entry[VECTORS], indices;
        __mmask16 branch[VECTORS];
        uint32_t escaped = 0;
        if (by_column)
            find_tables(t, first + c, VCL_MODEL_BITS + 1, tables);
        UNROLL
        for (int v = 0; v < VECTORS; v++) {
            const __mmask16 mask = (__mmask16)(active >> WIDTH * v);
            entry[v] = look_up(slots, x[v], trellis[v], tables[v]);
            x[v] = take_symbol(x[v], entry[v], mask);
            words = refill(&x[v], words);
            branch[v] = _mm512_test_epi32_mask(entry[v], set1(1u << 21));
            escaped |= (uint32_t)escapes_of(entry[v], mask) << WIDTH * v;
        }
        indices = shift ? take_low_bits(x, trellis, entry, active, shift, &words, branch) : indices_of(entry);
        _mm512_storeu_si512(j, _mm512_maskz_mov_epi16(active, indices));
        UNROLL
        for (int v = 0; v < VECTORS; v++)
            trellis[v] = next_trellis(trellis[v], branch[v], turn_branch, turn);
        if (__builtin_expect(escaped != 0, 0))
            vcl_get_escapes(r, escaped, shift, j);
    }
    r->words = words;
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        _mm512_storeu_si512(r->state + WIDTH * v, x[v]);
        _mm512_storeu_si512(r->trellis + WIDTH * v, _mm512_srli_epi32(trellis[v], VCL_MODEL_BITS));
    }
    return c;
}

TARGET void vcl_decode_columns_avx512(const struct vcl_stripe *t, struct vcl_lanes_reader *r, uint32_t first,
                                      uint32_t count, int16_t *j)
{
    uint32_t done = 0;
    if (t->lanes == VCL_STRIPE_LANES && count > 0) {
        if (t->shift)
            done = decode_columns(t, r, first, count, t->shift, t->col_class != NULL, j);
        else if (t->col_class)
            done = decode_columns(t, r, first, count, 0, 1, j);
        else
            done = decode_columns(t, r, first, count, 0, 0, j);
    }
    vcl_decode_columns_c(t, r, first + done, count - done, j + (size_t)done * VCL_STRIPE_LANES);
}

/* ---- encoding -------------------------------------------------------------------------------- */

/* The words of the lanes that would overflow; the lane of the lowest number gets the lowest place. */
INLINE uint8_t *put_words(__m512i *x, __mmask16 mask, uint8_t *words)
{
    const unsigned count = (unsigned)_mm_popcnt_u32(mask);
    const __m256i packed = _mm512_cvtepi32_epi16(_mm512_maskz_compress_epi32(mask, *x));
    words -= 2 * count;
    _mm256_mask_storeu_epi16(words, (__mmask16)((1u << count) - 1), packed);
    *x = _mm512_mask_srli_epi32(*x, mask, *x, 16);
    return words;
}

INLINE uint8_t *push_low_bits(__m512i *x, __m512i j, unsigned shift, __mmask16 active, uint8_t *words)
{
    const __m512i low = _mm512_and_si512(_mm512_srai_epi32(j, 1), set1((1u << shift) - 1));
    words = put_words(x, _mm512_mask_cmpge_epu32_mask(active, *x, set1(1u << (32 - shift))), words);
    *x = _mm512_mask_or_epi32(*x, active, _mm512_slli_epi32(*x, shift), low);
    return words;
}

/* Where in a class' table the index stands: 64 g + symbol. */
INLINE __m512i symbols_of(__m512i j, unsigned shift)
{
    const __m512i high = _mm512_srai_epi32(j, shift + 1), one = set1(1);
    const __m512i plain = _mm512_add_epi32(high, set1(32));
    const __mmask16 escaped = _mm512_cmpgt_epu32_mask(_mm512_sub_epi32(plain, one), set1(61));
    const __m512i parity = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_and_si512(high, one));
    const __m512i symbol = _mm512_mask_and_epi32(plain, escaped, parity, set1(63));
    return _mm512_or_si512(_mm512_slli_epi32(_mm512_and_si512(j, one), 6), symbol);
}

INLINE void encode_stripe(const struct vcl_stripe *t, struct vcl_lanes_writer *w, const int16_t *j,
                          unsigned shift)
{
    const uint32_t active = active_mask(t);
    uint8_t *words = w->words;
    __m512i x[VECTORS], tables[VECTORS];
    UNROLL
    for (int v = 0; v < VECTORS; v++)
        x[v] = _mm512_loadu_si512(w->state + WIDTH * v);
    find_tables(t, 0, 7, tables);
    for (uint32_t c = t->cols; c-- > 0;) {
        const int16_t *const column = j + (size_t)c * VCL_STRIPE_LANES;
        uint32_t escaped = 0;
        __m512i index[VECTORS];
        if (t->col_class)
            find_tables(t, c, 7, tables);
        UNROLL
        for (int v = VECTORS - 1; v >= 0; v--) {
            index[v] = _mm512_cvtepi16_epi32(_mm256_loadu_si256((const void *)(column + WIDTH * v)));
            if (shift)
                words = push_low_bits(&x[v], index[v], shift, (__mmask16)(active >> WIDTH * v), words);
        }
        UNROLL
        for (int v = VECTORS - 1; v >= 0; v--) {
            const __mmask16 mask = (__mmask16)(active >> WIDTH * v);
            const __m512i at = _mm512_or_si512(symbols_of(index[v], shift), tables[v]);
            const __m512i code = _mm512_i32gather_epi32(at, t->codes, 4);
            const __m512i frequency = _mm512_and_si512(code, set1(1023));
            const __m512i start = _mm512_and_si512(_mm512_srli_epi32(code, 10), set1(1023));
            const __m512i room = _mm512_srli_epi32(x[v], 32 - VCL_MODEL_BITS);
            words = put_words(&x[v], _mm512_mask_cmpge_epu32_mask(mask, room, frequency), words);
            x[v] = _mm512_mask_mov_epi32(x[v], mask, push_symbols(x[v], frequency, start, VCL_MODEL_BITS));
            escaped |= (uint32_t)(_mm512_movepi32_mask(code) & mask) << WIDTH * v;
        }
        if (__builtin_expect(escaped != 0, 0))
            vcl_put_escapes(w, escaped, shift, column);
    }
    w->words = words;
    UNROLL
    for (int v = 0; v < VECTORS; v++)
        _mm512_storeu_si512(w->state + WIDTH * v, x[v]);
}

TARGET void vcl_encode_stripe_avx512(const struct vcl_stripe *t, struct vcl_lanes_writer *w, const int16_t *j)
{
    if (t->lanes != VCL_STRIPE_LANES)
        vcl_encode_stripe_c(t, w, j);
    else if (t->shift)
        encode_stripe(t, w, j, t->shift);
    else
        encode_stripe(t, w, j, 0);
}

/* ---- rows to lanes and back ------------------------------------------------------------------- */

/* Rows become columns: first within quarters of vectors, then the quarters change places. */
INLINE void transpose(__m512 r[16])
{
    __m512 s[16];
    UNROLL
    for (int i = 0; i < 16; i += 4) {
        const __m512 a = _mm512_unpacklo_ps(r[i], r[i + 1]), b = _mm512_unpackhi_ps(r[i], r[i + 1]);
        const __m512 c = _mm512_unpacklo_ps(r[i + 2], r[i + 3]), d = _mm512_unpackhi_ps(r[i + 2], r[i + 3]);
        s[i] = _mm512_shuffle_ps(a, c, 0x44);
        s[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
        s[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
        s[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        const __m512 a = _mm512_shuffle_f32x4(s[i], s[i + 4], 0x88);
        const __m512 b = _mm512_shuffle_f32x4(s[i], s[i + 4], 0xdd);
        const __m512 c = _mm512_shuffle_f32x4(s[i + 8], s[i + 12], 0x88);
        const __m512 d = _mm512_shuffle_f32x4(s[i + 8], s[i + 12], 0xdd);
        r[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        r[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(a, c, 0xdd);
        r[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
}

/* Columns left, 16 or fewer, as a mask. */
INLINE __mmask16 columns_mask(uint32_t left)
{
    return (__mmask16)(0xffffu >> (left < WIDTH ? WIDTH - left : 0));
}

TARGET void vcl_load_rows_avx512(const struct vcl_stripe *t, const struct vcl_scaling *scaling,
                                 const float *x, size_t stride, float *u)
{
    const __m512 scale = _mm512_set1_ps(scaling->scale);
    const __m512 most = _mm512_set1_ps(scaling->limit), least = _mm512_set1_ps(-scaling->limit);
    if (t->lanes != VCL_STRIPE_LANES) {
        vcl_load_rows_c(t, scaling, x, stride, u);
        return;
    }
    for (uint32_t c = 0; c < t->cols; c += WIDTH)
        for (int v = 0; v < VECTORS; v++) {
            const __mmask16 mask = columns_mask(t->cols - c);
            const uint32_t count = t->cols - c < WIDTH ? t->cols - c : WIDTH;
            float *const to = u + (size_t)c * VCL_STRIPE_LANES + WIDTH * v;
            __m512 r[WIDTH];
            UNROLL
            for (int l = 0; l < WIDTH; l++) {
                const int lane = WIDTH * v + l;
                r[l] = lane < t->active ? _mm512_maskz_loadu_ps(mask, x + (size_t)lane * stride + c)
                                        : _mm512_setzero_ps();
                r[l] = _mm512_max_ps(_mm512_min_ps(_mm512_mul_ps(r[l], scale), most), least);
            }
            transpose(r);
            UNROLL
            for (uint32_t l = 0; l < WIDTH; l++)
                if (l < count)
                    _mm512_storeu_ps(to + l * VCL_STRIPE_LANES, r[l]);
        }
}

struct points {
    __m512 offsets, most, least;
};

/* In half-steps. */
INLINE __m512 points_of(__m512i j, const struct points *points)
{
    const __m512i size = _mm512_abs_epi32(j);
    const __mmask16 near = _mm512_cmplt_epi32_mask(size, set1(VCL_OFFSETS));
    const __m512 move = _mm512_maskz_permutexvar_ps(near, size, points->offsets);
    const __m512 p = _mm512_cvtepi32_ps(j), moved = _mm512_add_ps(p, move);
    return _mm512_mask_sub_ps(moved, _mm512_movepi32_mask(j), p, move);
}

INLINE __m512 values_of(__m512 x, __m512 steps, const struct points *points)
{
    return _mm512_max_ps(_mm512_min_ps(_mm512_mul_ps(x, steps), points->most), points->least);
}

/* Finite values, rounded to nearest, ties to even. */
INLINE __m256i to_bf16(__m512 x)
{
    const __m512i u = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(u, 16), set1(1));
    return _mm512_cvtepi32_epi16(
        _mm512_srli_epi32(_mm512_add_epi32(u, _mm512_add_epi32(odd, set1(0x7fff))), 16));
}

INLINE void store_row(enum vcl_dtype dtype, void *dst, size_t at, __mmask16 mask, __m512 x)
{
    if (dtype == VCL_DTYPE_F32)
        _mm512_mask_storeu_ps((float *)dst + at, mask, x);
    else if (dtype == VCL_DTYPE_F16)
        _mm256_mask_storeu_epi16((uint16_t *)dst + at, mask, _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
    else
        _mm256_mask_storeu_epi16((uint16_t *)dst + at, mask, to_bf16(x));
}

INLINE void store_rows(const struct vcl_stripe *t, const struct vcl_points *how, enum vcl_dtype dtype,
                       const int16_t *j, uint32_t first, uint32_t count, void *dst, size_t stride)
{
    const struct points points = { _mm512_loadu_ps(how->offset), _mm512_set1_ps(how->limit),
                                   _mm512_set1_ps(-how->limit) };
    for (uint32_t c = 0; c < count; c += WIDTH)
        for (int v = 0; WIDTH * v < t->active; v++) {
            const __mmask16 mask = columns_mask(count - c);
            const uint32_t last = (count - c < WIDTH ? count - c : WIDTH) - 1;
            const int16_t *const from = j + (size_t)c * VCL_STRIPE_LANES + WIDTH * v;
            const __m512 steps = _mm512_maskz_loadu_ps(mask, how->steps + first + c);
            __m512 r[WIDTH];
            UNROLL
            for (uint32_t l = 0; l < WIDTH; l++) {
                const uint32_t column = l < last ? l : last;
                const __m256i half = _mm256_loadu_si256((const void *)(from + column * VCL_STRIPE_LANES));
                r[l] = points_of(_mm512_cvtepi16_epi32(half), &points);
            }
            transpose(r);
            UNROLL
            for (int l = 0; l < WIDTH; l++)
                if (WIDTH * v + l < t->active)
                    store_row(dtype, dst, (size_t)(WIDTH * v + l) * stride + c, mask,
                              values_of(r[l], steps, &points));
        }
}

TARGET void vcl_store_rows_avx512(const struct vcl_stripe *t, const struct vcl_points *points,
                                  const int16_t *j, uint32_t first, uint32_t count, void *dst, size_t stride)
{
    if (t->lanes != VCL_STRIPE_LANES)
        vcl_store_rows_c(t, points, j, first, count, dst, stride);
    else if (points->dtype == VCL_DTYPE_F32)
        store_rows(t, points, VCL_DTYPE_F32, j, first, count, dst, stride);
    else if (points->dtype == VCL_DTYPE_F16)
        store_rows(t, points, VCL_DTYPE_F16, j, first, count, dst, stride);
    else if (points->dtype == VCL_DTYPE_BF16)
        store_rows(t, points, VCL_DTYPE_BF16, j, first, count, dst, stride);
    else
        vcl_store_rows_c(t, points, j, first, count, dst, stride);
}

#endif
