/* tensor_c.c - the loops of the tensor codec in portable C: the definition.
 *
 * Lanes are independent but for the order in which they take words and escapes: lane by lane within a column,
 * columns in sequence.  While more words are left than a column can take, none of them needs a check. */
#include "kernels/tensor_loops.h"

#include "base/common.h"
#include "base/dtype.h"

#define INLINE static inline __attribute__((always_inline))

/* ---- decoding -------------------------------------------------------------------------------- */

/* With the low bits the index is to fit its 16. */
static int get_escape(struct vcl_lanes_reader *r, unsigned low, int parity)
{
    const int most = 8192 >> low;
    uint32_t u = 0;
    for (unsigned at = 0; at < 21; at += 7) {
        if (r->escapes == r->escapes_end)
            break;
        const uint8_t byte = *r->escapes++;
        u |= (uint32_t)(byte & 127) << at;
        if (byte < 128) {
            const int half = u & 1 ? -(int)(u / 2) - 1 : (int)(u / 2);
            if (half >= -most && half < most)
                return 2 * half + parity;
            break;
        }
    }
    r->damaged = 1;
    return parity;
}

void vcl_get_escapes(const struct vcl_stripe *t, struct vcl_lanes_reader *r, uint32_t mask, uint32_t col,
                     int16_t *column)
{
    for (; mask; mask &= mask - 1) {
        const int lane = __builtin_ctz(mask);
        const unsigned low = vcl_stripe_low_bits(t, lane, col), below = low + 1;
        int16_t *const j = column + lane;
        const int high = get_escape(r, low, *j >> below & 1);
        *j = (int16_t)((unsigned)high << below | ((unsigned)*j & ((1u << below) - 1)));
    }
}

/* The state with its next word, if it needs one. */
INLINE uint32_t refill(uint32_t x, struct vcl_lanes_reader *r, int checked)
{
    const uint32_t needed = x < VCL_LANE_LOW;
    if (checked && needed && r->words_end - r->words < 2) {
        r->damaged = 1;
        return VCL_LANE_LOW;
    }
    if (checked && !needed)
        return x;
    const uint32_t filled = x << 16 | vcl_load16(r->words);
    r->words += 2 * needed;
    return needed ? filled : x;
}

INLINE void decode_column(const struct vcl_stripe *t, struct vcl_lanes_reader *r, const uint32_t *tables,
                          uint32_t col, int checked, int16_t *column)
{
    const uint32_t branch = vcl_trellis_turns[t->v][0], turn = vcl_trellis_turns[t->v][1];
    uint32_t escaped = 0, entries[VCL_STRIPE_LANES];
    for (int l = 0; l < t->active; l++) {
        const uint32_t x = r->state[l], g = r->trellis[l] & 1;
        const uint32_t entry = t->slots[tables[l] + (g << VCL_MODEL_BITS | (x & (VCL_MODEL_TOTAL - 1)))];
        entries[l] = entry;
        escaped |= (uint32_t)(entry + ((uint32_t)VCL_ESCAPE_POINT << 20) >= (uint32_t)VCL_ESCAPE_POINT << 21)
                << l;
        r->state[l] = refill((entry & 1023) * (x >> VCL_MODEL_BITS) + (entry >> 10 & 1023), r, checked);
    }
    for (int l = 0; l < t->active; l++) {
        const unsigned bits = vcl_stripe_low_bits(t, l, col);
        const uint32_t g = r->trellis[l] & 1, low = r->state[l] & ((1u << bits) - 1);
        if (vcl_stripe_is_low(t))
            r->state[l] = refill(r->state[l] >> bits, r, checked);
        const uint32_t k = (uint32_t)((int32_t)entries[l] >> 21) << bits | low;
        column[l] = (int16_t)(2 * k + g);
        r->trellis[l] = r->trellis[l] >> 1 ^ (k & 1 ? branch : 0) ^ (g ? turn : 0);
    }
    for (int l = t->active; l < t->lanes; l++)
        column[l] = 0;
    if (escaped)
        vcl_get_escapes(t, r, escaped, col, column);
}

INLINE void find_tables(const struct vcl_stripe *t, uint32_t col, uint32_t tables[])
{
    for (int l = 0; l < t->active; l++)
        tables[l] = (uint32_t)vcl_stripe_class(t, l, col) * 2 * VCL_MODEL_TOTAL;
}

void vcl_decode_columns_c(const struct vcl_stripe *t, struct vcl_lanes_reader *r, uint32_t first,
                          uint32_t count, int16_t *j)
{
    const ptrdiff_t most = vcl_stripe_is_low(t) ? 4 * VCL_STRIPE_LANES : 2 * VCL_STRIPE_LANES;
    uint32_t tables[VCL_STRIPE_LANES];
    if (count == 0)
        return;
    find_tables(t, first, tables);
    for (uint32_t c = first; c < first + count; c++, j += t->lanes) {
        if (t->col_class)
            find_tables(t, c, tables);
        if (r->words_end - r->words >= most)
            decode_column(t, r, tables, c, 0, j);
        else
            decode_column(t, r, tables, c, 1, j);
    }
}

/* ---- encoding -------------------------------------------------------------------------------- */

/* (high - parity) / 2, zigzag, seven bits a byte, least significant first. */
static void put_escape(struct vcl_lanes_writer *w, int high)
{
    const int half = (high - (high & 1)) / 2;
    uint32_t u = half < 0 ? 2 * (uint32_t)-half - 1 : 2 * (uint32_t)half;
    const int bytes = u < 1u << 7 ? 1 : u < 1u << 14 ? 2 : 3;
    w->escapes -= bytes;
    for (int i = 0; i < bytes; i++, u >>= 7)
        w->escapes[i] = (uint8_t)(u & 127) | (i + 1 < bytes ? 128 : 0);
}

void vcl_put_escapes(const struct vcl_stripe *t, struct vcl_lanes_writer *w, uint32_t mask, uint32_t col,
                     const int16_t *column)
{
    while (mask) {
        const int l = 31 - __builtin_clz(mask);
        put_escape(w, column[l] >> (vcl_stripe_low_bits(t, l, col) + 1));
        mask ^= 1u << l;
    }
}

/* One symbol onto a state; what of it would overflow goes out first. */
INLINE uint32_t push(uint32_t x, uint32_t frequency, uint32_t start, unsigned bits, uint8_t **words)
{
    const uint32_t full = x >= (uint64_t)frequency << (32 - bits);
    vcl_store16(*words - 2, (uint16_t)x);
    *words -= 2 * full;
    x = full ? x >> 16 : x;
    return (x / frequency << bits) + x % frequency + start;
}

static void encode_column(const struct vcl_stripe *t, struct vcl_lanes_writer *w, uint32_t col,
                          const int16_t *column)
{
    uint32_t escaped = 0;
    for (int l = t->active; vcl_stripe_is_low(t) && l-- > 0;) {
        const unsigned bits = vcl_stripe_low_bits(t, l, col);
        const uint32_t low = (uint32_t)(column[l] >> 1) & ((1u << bits) - 1);
        w->state[l] = push(w->state[l], 1, low, bits, &w->words);
    }
    for (int l = t->active; l-- > 0;) {
        const int g = column[l] & 1, class = vcl_stripe_class(t, l, col);
        const int symbol = vcl_symbol_of(column[l] >> (vcl_stripe_low_bits(t, l, col) + 1));
        const uint32_t code = t->codes[(2 * class + g) * VCL_MODEL_SYMBOLS + symbol];
        w->state[l] = push(w->state[l], code & 1023, code >> 10 & 1023, VCL_MODEL_BITS, &w->words);
        escaped |= code >> 31 << l;
    }
    if (escaped)
        vcl_put_escapes(t, w, escaped, col, column);
}

void vcl_encode_stripe_c(const struct vcl_stripe *t, struct vcl_lanes_writer *w, const int16_t *j)
{
    for (uint32_t c = t->cols; c-- > 0;)
        encode_column(t, w, c, j + (size_t)c * (size_t)t->lanes);
}

/* ---- rows to lanes and back ------------------------------------------------------------------- */

void vcl_load_rows_c(const struct vcl_stripe *t, const struct vcl_scaling *scaling, const float *x,
                     size_t stride, float *u)
{
    const float limit = scaling->limit;
    for (uint32_t c = 0; c < t->cols; c++, u += t->lanes)
        for (int l = 0; l < t->lanes; l++) {
            const float value = l < t->active ? x[(size_t)l * stride + c] * scaling->scale : 0;
            u[l] = value > limit ? limit : value < -limit ? -limit : value;
        }
}

/* What is added to every j from -VCL_MOVED_POINTS - 1 on; nothing to the first and the last, which stand for all
 * that are farther out. */
static void find_moves(const struct vcl_points *points, float move[2 * VCL_MOVED_POINTS + 2])
{
    enum { ZERO = VCL_MOVED_POINTS + 1 };
    for (int i = 0; i < 2 * VCL_MOVED_POINTS + 2; i++)
        move[i] = points->moves && i > 0 && i <= 2 * VCL_MOVED_POINTS ? points->moves[i - 1] : 0;
    for (int m = 0; m < VCL_OFFSETS && !points->moves; m++) {
        move[ZERO - m] = -points->offset[m];
        move[ZERO + m] = points->offset[m];
    }
}

/* Columns of values, a block of lanes at a time. */
static void find_values(const struct vcl_stripe *t, const struct vcl_points *points, const int16_t *j,
                        uint32_t first, uint32_t count, float value[][VCL_STRIPE_LANES])
{
    const float limit = points->limit;
    float move[2 * VCL_MOVED_POINTS + 2];
    find_moves(points, move);
    for (uint32_t c = 0; c < count; c++, j += t->lanes)
        for (int l = 0; l < t->lanes; l++) {
            const int low = j[l] < -VCL_MOVED_POINTS - 1 ? -VCL_MOVED_POINTS - 1 : j[l];
            const int at = low > VCL_MOVED_POINTS ? VCL_MOVED_POINTS : low;
            const float x = ((float)j[l] + move[VCL_MOVED_POINTS + 1 + at]) * points->steps[first + c];
            value[c][l] = x > limit ? limit : x < -limit ? -limit : x;
        }
}

void vcl_store_rows_c(const struct vcl_stripe *t, const struct vcl_points *points, const int16_t *j,
                      uint32_t first, uint32_t count, void *dst, size_t stride)
{
    enum { BLOCK = 32 };
    const size_t size = vcl_dtype_bits(points->dtype) / 8;
    float value[BLOCK][VCL_STRIPE_LANES], row[BLOCK];
    for (uint32_t c = 0; c < count; c += BLOCK) {
        const uint32_t n = count - c < BLOCK ? count - c : BLOCK;
        find_values(t, points, j + (size_t)c * (size_t)t->lanes, first + c, n, value);
        for (int l = 0; l < t->active; l++) {
            for (uint32_t i = 0; i < n; i++)
                row[i] = value[i][l];
            vcl_from_f32(points->dtype, row, (uint8_t *)dst + ((size_t)l * stride + c) * size, n);
        }
    }
}

int vcl_rounds_products_c(void) { return vcl_product_is_rounded(); }
