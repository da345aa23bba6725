/* tensor_avx512.c - the loops of the tensor codec with AVX-512: 32 lanes in two vectors.
 *
 * States, trellises and classes stay in registers; a symbol costs one gather from its class' table. */
#include "kernels/tensor_loops.h"
#include "kernels/x86/lanes_avx512.h"
#include "kernels/x86/push_avx512.h"

enum { CODES_LOG2 = 7 };

_Static_assert(1 << CODES_LOG2 == 2 * VCL_MODEL_SYMBOLS,
               "a class has a code for every symbol of either codebook");
_Static_assert(VCL_OFFSETS == 16, "offsets are looked up in one vector");

/* ---- decoding -------------------------------------------------------------------------------- */

/* Low bits of k outside the model: those of every lane follow its symbol's words. */
INLINE __m512i take_low_bits(struct lanes *s, int from, const __m512i entry[VECTORS], uint32_t active,
                             __mmask16 branch[VECTORS])
{
    const __m512i one = i_bits(1);
    __m512i bits[VECTORS];
    __m256i half[VECTORS];
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        const __m512i x = _mm512_inserti64x4(_mm512_castsi256_si512(s->x[2 * v]), s->x[2 * v + 1], 1);
        bits[v] = low_bits(s->tables[v], from, TABLE_LOG2);
        const __m512i low = _mm512_and_si512(x, _mm512_sub_epi32(_mm512_sllv_epi32(one, bits[v]), one));
        const __m512i high = _mm512_sllv_epi32(_mm512_srai_epi32(entry[v], 21), bits[v]);
        const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(s->trellis[v], VCL_MODEL_BITS), one);
        const __m512i k = _mm512_or_si512(high, low);
        branch[v] = _mm512_test_epi32_mask(k, one);
        half[v] = _mm512_cvtepi32_epi16(_mm512_add_epi32(_mm512_add_epi32(k, k), odd));
    }
    UNROLL
    for (int h = 0; h < HALVES; h++) {
        const __mmask8 lanes = (__mmask8)(active >> WIDTH / 2 * h);
        const __m256i its =
            h % 2 ? _mm512_extracti64x4_epi64(bits[h / 2], 1) : _mm512_castsi512_si256(bits[h / 2]);
        s->x[h] = _mm256_mask_srlv_epi32(s->x[h], lanes, s->x[h], its);
        s->words = refill(&s->x[h], s->words);
    }
    return _mm512_inserti64x4(_mm512_castsi256_si512(half[0]), half[1], 1);
}

/* Columns until the words run short; returns how many. */
INLINE uint32_t decode_columns(const struct vcl_stripe *t, struct vcl_lanes_reader *r, uint32_t first,
                               uint32_t count, int low, int by_column, int whole, int16_t *j)
{
    const ptrdiff_t most = low ? 4 * VCL_STRIPE_LANES : 2 * VCL_STRIPE_LANES;
    const uint32_t active = active_mask(t);
    const uint32_t *const slots = t->slots;
    const uint8_t *const end = r->words_end;
    struct lanes s;
    uint32_t c = 0;
    load_lanes(t, r, &s);
    find_tables(t, s.rows, first, TABLE_LOG2, s.tables);
    for (; c < count && end - s.words >= most; c++, j += VCL_STRIPE_LANES) {
        __m512i entry[VECTORS], indices;
        __mmask16 branch[VECTORS];
        if (by_column)
            find_tables(t, s.rows, first + c, TABLE_LOG2, s.tables);
        take_symbols(&s, slots, active, whole, entry);
        find_branches(entry, branch);
        indices = low ? take_low_bits(&s, t->low_from, entry, active, branch) : indices_of(entry);
        _mm512_storeu_si512(j, whole ? indices : _mm512_maskz_mov_epi16(active, indices));
        turn_trellis(&s, branch);
        if (__builtin_expect(any_beyond(entry, VCL_ESCAPE_POINT), 0))
            vcl_get_escapes(t, r, lanes_beyond(entry, VCL_ESCAPE_POINT) & active, first + c, j);
    }
    store_lanes(&s, r);
    return c;
}

/* ---- encoding -------------------------------------------------------------------------------- */

/* A shift by 32 leaves nothing: where there are no low bits, no word goes out. */
INLINE uint8_t *push_low_bits(__m512i *x, __m512i j, __m512i bits, __mmask16 active, uint8_t *words)
{
    const __m512i one = i_bits(1), mask = _mm512_sub_epi32(_mm512_sllv_epi32(one, bits), one);
    const __m512i low = _mm512_and_si512(_mm512_srai_epi32(j, 1), mask);
    const __m512i over = _mm512_srlv_epi32(*x, _mm512_sub_epi32(i_bits(32), bits));
    words = put_words(x, _mm512_mask_test_epi32_mask(active, over, over), words);
    *x = _mm512_mask_or_epi32(*x, active, _mm512_sllv_epi32(*x, bits), low);
    return words;
}

/* Where in a class' table the index stands: 64 g + symbol. */
INLINE __m512i symbols_of(__m512i j, __m512i bits)
{
    const __m512i one = i_bits(1), high = _mm512_srav_epi32(j, _mm512_add_epi32(bits, one));
    const __m512i plain = _mm512_add_epi32(high, i_bits(32));
    const __mmask16 escaped = _mm512_cmpgt_epu32_mask(_mm512_sub_epi32(plain, one), i_bits(61));
    const __m512i parity = _mm512_sub_epi32(_mm512_setzero_si512(), _mm512_and_si512(high, one));
    const __m512i symbol = _mm512_mask_and_epi32(plain, escaped, parity, i_bits(63));
    return _mm512_or_si512(_mm512_slli_epi32(_mm512_and_si512(j, one), 6), symbol);
}

INLINE void encode_stripe(const struct vcl_stripe *t, struct vcl_lanes_writer *w, const int16_t *j, int low)
{
    const uint32_t active = active_mask(t);
    uint8_t *words = w->words;
    __m512i x[VECTORS], rows[VECTORS], tables[VECTORS];
    UNROLL
    for (int v = 0; v < VECTORS; v++)
        x[v] = _mm512_loadu_si512(w->state + WIDTH * v);
    find_rows(t, CODES_LOG2, rows);
    find_tables(t, rows, 0, CODES_LOG2, tables);
    for (uint32_t c = t->cols; c-- > 0;) {
        const int16_t *const column = j + (size_t)c * VCL_STRIPE_LANES;
        uint32_t escaped = 0;
        __m512i index[VECTORS], bits[VECTORS];
        if (t->col_class)
            find_tables(t, rows, c, CODES_LOG2, tables);
        UNROLL
        for (int v = VECTORS - 1; v >= 0; v--) {
            index[v] = _mm512_cvtepi16_epi32(_mm256_loadu_si256((const void *)(column + WIDTH * v)));
            bits[v] = low ? low_bits(tables[v], t->low_from, CODES_LOG2) : _mm512_setzero_si512();
            if (low)
                words = push_low_bits(&x[v], index[v], bits[v], (__mmask16)(active >> WIDTH * v), words);
        }
        UNROLL
        for (int v = VECTORS - 1; v >= 0; v--) {
            const __mmask16 mask = (__mmask16)(active >> WIDTH * v);
            const __m512i at = _mm512_or_si512(symbols_of(index[v], bits[v]), tables[v]);
            const __m512i code = _mm512_i32gather_epi32(at, t->codes, 4);
            const __m512i frequency = _mm512_and_si512(code, i_bits(1023));
            const __m512i start = _mm512_and_si512(_mm512_srli_epi32(code, 10), i_bits(1023));
            const __m512i room = _mm512_srli_epi32(x[v], 32 - VCL_MODEL_BITS);
            words = put_words(&x[v], _mm512_mask_cmpge_epu32_mask(mask, room, frequency), words);
            x[v] = _mm512_mask_mov_epi32(x[v], mask, push_symbols(x[v], frequency, start, VCL_MODEL_BITS));
            escaped |= (uint32_t)(_mm512_movepi32_mask(code) & mask) << WIDTH * v;
        }
        if (__builtin_expect(escaped != 0, 0))
            vcl_put_escapes(t, w, escaped, c, column);
    }
    w->words = words;
    UNROLL
    for (int v = 0; v < VECTORS; v++)
        _mm512_storeu_si512(w->state + WIDTH * v, x[v]);
}

/* ---- rows to lanes and back ------------------------------------------------------------------- */

/* Columns left, 16 or fewer, as a mask. */
INLINE __mmask16 columns_mask(uint32_t left)
{
    return (__mmask16)(0xffffu >> (left < WIDTH ? WIDTH - left : 0));
}

TARGET void KERNEL(load_rows)(const struct vcl_stripe *t, const struct vcl_scaling *scaling, const float *x,
                              size_t stride, float *u)
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
    const __mmask16 near = _mm512_cmplt_epi32_mask(size, i_bits(VCL_OFFSETS));
    const __m512 move = _mm512_maskz_permutexvar_ps(near, size, points->offsets);
    const __m512 p = _mm512_cvtepi32_ps(j), moved = _mm512_add_ps(p, move);
    return _mm512_mask_sub_ps(moved, _mm512_movepi32_mask(j), p, move);
}

INLINE __m512 values_of(__m512 x, __m512 steps, const struct points *points)
{
    return _mm512_max_ps(_mm512_min_ps(_mm512_mul_ps(x, steps), points->most), points->least);
}

INLINE __m256i to_bf16(__m512 x) { return _mm512_cvtepi32_epi16(_mm512_srli_epi32(round_bf16(x), 16)); }

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

TARGET void KERNEL(store_rows)(const struct vcl_stripe *t, const struct vcl_points *points, const int16_t *j,
                               uint32_t first, uint32_t count, void *dst, size_t stride)
{
    if (t->lanes != VCL_STRIPE_LANES || points->moves)
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

#include "kernels/tensor_template.h"
