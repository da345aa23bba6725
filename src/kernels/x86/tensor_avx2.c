/* tensor_avx2.c - the loops of the tensor codec with AVX2: 32 lanes in four vectors. */
#include "kernels/tensor_loops.h"
#include "kernels/x86/lanes_avx2.h"
#include "kernels/x86/push_avx2.h"

enum { CODES_LOG2 = 7 };

_Static_assert(1 << CODES_LOG2 == 2 * VCL_MODEL_SYMBOLS,
               "a class has a code for every symbol of either codebook");
_Static_assert(VCL_OFFSETS == 16, "offsets are looked up in two vectors");

/* ---- decoding -------------------------------------------------------------------------------- */

/* Low bits of k outside the model: those of every lane follow its symbol's words. */
INLINE void take_low_bits(struct lanes *s, int from, __m256i j[VECTORS], const __m256i active[VECTORS])
{
    const __m256i one = i_bits(1);
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        const __m256i bits = low_bits(s->tables[v], from, TABLE_LOG2);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(s->trellis[v], VCL_MODEL_BITS), one);
        const __m256i low = _mm256_and_si256(s->x[v], _mm256_sub_epi32(_mm256_sllv_epi32(one, bits), one));
        const __m256i k = _mm256_or_si256(_mm256_sllv_epi32(_mm256_srai_epi32(j[v], 1), bits), low);
        const __m256i wide = _mm256_or_si256(_mm256_add_epi32(k, k), odd);
        j[v] = _mm256_srai_epi32(_mm256_slli_epi32(wide, 16), 16);
        s->x[v] = _mm256_blendv_epi8(s->x[v], _mm256_srlv_epi32(s->x[v], bits), active[v]);
        s->words = refill(&s->x[v], s->words);
    }
}

/* Columns until the words run short; returns how many. */
INLINE uint32_t decode_columns(const struct vcl_stripe *t, struct vcl_lanes_reader *r, uint32_t first,
                               uint32_t count, int low, int by_column, int whole, int16_t *j)
{
    const ptrdiff_t most = low ? 4 * VCL_STRIPE_LANES : 2 * VCL_STRIPE_LANES;
    const uint32_t rows = UINT32_MAX >> (VCL_STRIPE_LANES - t->active);
    const uint32_t *const slots = t->slots;
    const uint8_t *const end = r->words_end;
    __m256i active[VECTORS];
    struct lanes s;
    uint32_t c = 0;
    find_active(t, active);
    load_lanes(t, r, &s);
    find_tables(t, s.rows, first, TABLE_LOG2, s.tables);
    for (; c < count && end - s.words >= most; c++, j += VCL_STRIPE_LANES) {
        __m256i entry[VECTORS], index[VECTORS];
        if (by_column)
            find_tables(t, s.rows, first + c, TABLE_LOG2, s.tables);
        take_symbols(&s, slots, active, whole, entry);
        UNROLL
        for (int v = 0; v < VECTORS; v++)
            index[v] = _mm256_srai_epi32(entry[v], 20);
        if (low)
            take_low_bits(&s, t->low_from, index, active);
        turn_trellis(&s, index, 1);
        UNROLL
        for (int v = 0; v < VECTORS && !whole; v++)
            index[v] = _mm256_and_si256(index[v], active[v]);
        store_indices(j, index);
        if (__builtin_expect(any_beyond(entry, VCL_ESCAPE_POINT), 0))
            vcl_get_escapes(t, r, lanes_beyond(entry, VCL_ESCAPE_POINT) & rows, first + c, j);
    }
    store_lanes(&s, r);
    return c;
}

/* ---- encoding -------------------------------------------------------------------------------- */

/* The words of the lanes in `full`. */
INLINE uint8_t *put_words(__m256i *x, __m256i full, uint8_t *words)
{
    words = store_words(*x, mask_of(full), words);
    *x = _mm256_blendv_epi8(*x, _mm256_srli_epi32(*x, 16), full);
    return words;
}

/* A shift by 32 leaves nothing: where there are no low bits, no word goes out. */
INLINE uint8_t *push_low_bits(__m256i *x, __m256i j, __m256i bits, __m256i active, uint8_t *words)
{
    const __m256i one = i_bits(1), mask = _mm256_sub_epi32(_mm256_sllv_epi32(one, bits), one);
    const __m256i low = _mm256_and_si256(_mm256_srai_epi32(j, 1), mask);
    const __m256i over = _mm256_srlv_epi32(*x, _mm256_sub_epi32(i_bits(32), bits));
    words =
        put_words(x, _mm256_andnot_si256(_mm256_cmpeq_epi32(over, _mm256_setzero_si256()), active), words);
    const __m256i next = _mm256_or_si256(_mm256_sllv_epi32(*x, bits), low);
    *x = _mm256_blendv_epi8(*x, next, active);
    return words;
}

/* Where in a class' table the index stands: 64 g + symbol. */
INLINE __m256i symbols_of(__m256i j, __m256i bits)
{
    const __m256i one = i_bits(1), high = _mm256_srav_epi32(j, _mm256_add_epi32(bits, one));
    const __m256i inside = _mm256_and_si256(_mm256_cmpgt_epi32(high, i_bits((uint32_t)-32)),
                                            _mm256_cmpgt_epi32(i_bits(31), high));
    const __m256i parity = _mm256_sub_epi32(_mm256_setzero_si256(), _mm256_and_si256(high, one));
    const __m256i escape = _mm256_and_si256(parity, i_bits(63));
    const __m256i symbol = _mm256_blendv_epi8(escape, _mm256_add_epi32(high, i_bits(32)), inside);
    return _mm256_or_si256(_mm256_slli_epi32(_mm256_and_si256(j, one), 6), symbol);
}

INLINE void encode_stripe(const struct vcl_stripe *t, struct vcl_lanes_writer *w, const int16_t *j, int low)
{
    uint8_t *words = w->words;
    __m256i x[VECTORS], rows[VECTORS], tables[VECTORS], active[VECTORS];
    UNROLL
    for (int v = 0; v < VECTORS; v++)
        x[v] = i_load(w->state + WIDTH * v);
    find_active(t, active);
    find_rows(t, CODES_LOG2, rows);
    find_tables(t, rows, 0, CODES_LOG2, tables);
    for (uint32_t c = t->cols; c-- > 0;) {
        const int16_t *const column = j + (size_t)c * VCL_STRIPE_LANES;
        uint32_t escaped = 0;
        __m256i index[VECTORS], bits[VECTORS];
        if (t->col_class)
            find_tables(t, rows, c, CODES_LOG2, tables);
        UNROLL
        for (int v = VECTORS - 1; v >= 0; v--) {
            index[v] = _mm256_cvtepi16_epi32(_mm_loadu_si128((const void *)(column + WIDTH * v)));
            bits[v] = low ? low_bits(tables[v], t->low_from, CODES_LOG2) : _mm256_setzero_si256();
            if (low)
                words = push_low_bits(&x[v], index[v], bits[v], active[v], words);
        }
        UNROLL
        for (int v = VECTORS - 1; v >= 0; v--) {
            const __m256i at = _mm256_or_si256(symbols_of(index[v], bits[v]), tables[v]);
            const __m256i code = _mm256_i32gather_epi32((const int *)t->codes, at, 4);
            const __m256i frequency = _mm256_and_si256(code, i_bits(1023));
            const __m256i start = _mm256_and_si256(_mm256_srli_epi32(code, 10), i_bits(1023));
            const __m256i room = _mm256_srli_epi32(x[v], 32 - VCL_MODEL_BITS);
            const __m256i keep = _mm256_cmpgt_epi32(frequency, room);
            words = put_words(&x[v], _mm256_andnot_si256(keep, active[v]), words);
            x[v] = _mm256_blendv_epi8(x[v], push_symbols(x[v], frequency, start, VCL_MODEL_BITS), active[v]);
            escaped |= mask_of(_mm256_and_si256(code, active[v])) << WIDTH * v;
        }
        if (__builtin_expect(escaped != 0, 0))
            vcl_put_escapes(t, w, escaped, c, column);
    }
    w->words = words;
    UNROLL
    for (int v = 0; v < VECTORS; v++)
        i_store(w->state + WIDTH * v, x[v]);
}

/* ---- rows to lanes and back ------------------------------------------------------------------ */

/* Columns beyond the last whole eight go the portable way. */
TARGET void KERNEL(load_rows)(const struct vcl_stripe *t, const struct vcl_scaling *scaling, const float *x,
                              size_t stride, float *u)
{
    const __m256 scale = _mm256_set1_ps(scaling->scale);
    const __m256 most = _mm256_set1_ps(scaling->limit), least = _mm256_set1_ps(-scaling->limit);
    const uint32_t whole = t->lanes == VCL_STRIPE_LANES ? t->cols / WIDTH * WIDTH : 0;
    struct vcl_stripe rest = *t;
    for (uint32_t c = 0; c < whole; c += WIDTH)
        for (int v = 0; v < VECTORS; v++) {
            float *const to = u + (size_t)c * VCL_STRIPE_LANES + WIDTH * v;
            __m256 r[WIDTH];
            UNROLL
            for (int l = 0; l < WIDTH; l++) {
                const int lane = WIDTH * v + l;
                r[l] =
                    lane < t->active ? _mm256_loadu_ps(x + (size_t)lane * stride + c) : _mm256_setzero_ps();
                r[l] = _mm256_max_ps(_mm256_min_ps(_mm256_mul_ps(r[l], scale), most), least);
            }
            transpose(r);
            UNROLL
            for (int l = 0; l < WIDTH; l++)
                _mm256_storeu_ps(to + l * VCL_STRIPE_LANES, r[l]);
        }
    rest.cols -= whole;
    vcl_load_rows_c(&rest, scaling, x + whole, stride, u + (size_t)whole * VCL_STRIPE_LANES);
}

struct points {
    __m256 low, high, most, least; /* offsets of 0 to 7 and of 8 */
};

/* In half-steps. */
INLINE __m256 points_of(__m256i j, const struct points *points)
{
    const __m256i size = _mm256_abs_epi32(j);
    const __m256 below = _mm256_permutevar8x32_ps(points->low, size);
    const __m256 above = _mm256_permutevar8x32_ps(points->high, size);
    const __m256 eight = _mm256_castsi256_ps(_mm256_cmpgt_epi32(size, i_bits(7)));
    const __m256 near = _mm256_castsi256_ps(_mm256_cmpgt_epi32(i_bits(VCL_OFFSETS), size));
    const __m256 move = _mm256_and_ps(near, _mm256_blendv_ps(below, above, eight));
    const __m256 sign = _mm256_castsi256_ps(_mm256_and_si256(j, i_bits(1u << 31)));
    return _mm256_add_ps(_mm256_cvtepi32_ps(j), _mm256_xor_ps(move, sign));
}

INLINE __m256 values_of(__m256 x, __m256 steps, const struct points *points)
{
    return _mm256_max_ps(_mm256_min_ps(_mm256_mul_ps(x, steps), points->most), points->least);
}

INLINE __m128i to_bf16(__m256 x)
{
    const __m256i y = _mm256_srli_epi32(round_bf16(x), 16);
    return _mm_packus_epi32(_mm256_castsi256_si128(y), _mm256_extracti128_si256(y, 1));
}

INLINE void store_row(enum vcl_dtype dtype, void *dst, size_t at, __m256 x)
{
    if (dtype == VCL_DTYPE_F32)
        _mm256_storeu_ps((float *)dst + at, x);
    else if (dtype == VCL_DTYPE_F16)
        _mm_storeu_si128((void *)((uint16_t *)dst + at), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
    else
        _mm_storeu_si128((void *)((uint16_t *)dst + at), to_bf16(x));
}

INLINE void store_rows(const struct vcl_stripe *t, const struct vcl_points *how, enum vcl_dtype dtype,
                       const int16_t *j, uint32_t first, uint32_t count, void *dst, size_t stride)
{
    const struct points points = { _mm256_loadu_ps(how->offset), _mm256_loadu_ps(how->offset + WIDTH),
                                   _mm256_set1_ps(how->limit), _mm256_set1_ps(-how->limit) };
    for (uint32_t c = 0; c < count; c += WIDTH)
        for (int v = 0; WIDTH * v < t->active; v++) {
            const int16_t *const from = j + (size_t)c * VCL_STRIPE_LANES + WIDTH * v;
            const __m256 steps = _mm256_loadu_ps(how->steps + first + c);
            __m256 r[WIDTH];
            UNROLL
            for (int l = 0; l < WIDTH; l++)
                r[l] = points_of(
                    _mm256_cvtepi16_epi32(_mm_loadu_si128((const void *)(from + l * VCL_STRIPE_LANES))),
                    &points);
            transpose(r);
            UNROLL
            for (int l = 0; l < WIDTH; l++)
                if (WIDTH * v + l < t->active)
                    store_row(dtype, dst, (size_t)(WIDTH * v + l) * stride + c,
                              values_of(r[l], steps, &points));
        }
}

TARGET void KERNEL(store_rows)(const struct vcl_stripe *t, const struct vcl_points *points, const int16_t *j,
                               uint32_t first, uint32_t count, void *dst, size_t stride)
{
    const enum vcl_dtype dtype = points->dtype;
    const int wide = dtype != VCL_DTYPE_F32 && dtype != VCL_DTYPE_F16 && dtype != VCL_DTYPE_BF16;
    const int portable = t->lanes != VCL_STRIPE_LANES || wide || points->moves;
    const uint32_t whole = portable ? 0 : count / WIDTH * WIDTH;
    const size_t size = dtype == VCL_DTYPE_F32 ? 4 : 2;
    if (dtype == VCL_DTYPE_F32)
        store_rows(t, points, VCL_DTYPE_F32, j, first, whole, dst, stride);
    else if (dtype == VCL_DTYPE_F16)
        store_rows(t, points, VCL_DTYPE_F16, j, first, whole, dst, stride);
    else
        store_rows(t, points, VCL_DTYPE_BF16, j, first, whole, dst, stride);
    vcl_store_rows_c(t, points, j + (size_t)whole * VCL_STRIPE_LANES, first + whole, count - whole,
                     (uint8_t *)dst + whole * size, stride);
}

#include "kernels/tensor_template.h"
