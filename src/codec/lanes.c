/* lanes.c - stage 6: the trellis' indices to bytes, by rANS in interleaved lanes.
 *
 * In: integers j of a tile, in stripes of `lanes` rows.  Out: escapes, states and 16-bit words.  Lane l codes
 * row l of every stripe, columns in sequence; its state goes on from stripe to stripe (a state costs two
 * bytes, which a stripe of a small matrix could not carry), the trellis starts anew.  rANS (Duda 2013) with
 * 32-bit states and 16-bit renormalisation (Giesen 2014): a lane takes at most one word per symbol, so that
 * all lanes renormalise in one vector step. */
#include "lanes.h"

#include <string.h>

#include "base/common.h"
#include "codec/trellis.h"

#define LOWEST (1u << 16) /* a state's lower bound; the encoder starts there, so the decoder ends there */

static uint32_t stripes_of(const struct vcl_lanes *t)
{
    return (t->rows + (uint32_t)t->lanes - 1) / (uint32_t)t->lanes;
}

static int active_lanes(const struct vcl_lanes *t, uint32_t stripe)
{
    const uint32_t left = t->rows - stripe * (uint32_t)t->lanes;
    return left < (uint32_t)t->lanes ? (int)left : t->lanes;
}

size_t vcl_lanes_bound(const struct vcl_lanes *t)
{
    const size_t n = (size_t)t->rows * t->cols;
    return 4 + 4 * (size_t)t->lanes + n * (t->shift ? 7u : 5u);
}

/* An index as the model sees it: symbol, what an escape says, and the low bits. */
struct coded {
    int g, symbol, escaped;
    int high; /* k >> shift */
    unsigned low;
};

static struct coded split(const struct vcl_lanes *t, const struct vcl_model *model, int j)
{
    struct coded c = { .g = j & 1 };
    const int k = (j - c.g) / 2;
    c.high = k >> t->shift;
    c.low = (unsigned)k & ((1u << t->shift) - 1);
    c.symbol = vcl_symbol_of(c.high);
    c.escaped = c.symbol == 0 || c.symbol == 63 || model->freq[c.g][c.symbol] == 0;
    if (c.escaped)
        c.symbol = (c.high & 1) * 63;
    return c;
}

/* ---- encoding -------------------------------------------------------------------------------- */

/* (high - parity) / 2, zigzag, seven bits a byte, least significant first. */
static size_t put_escape(int high, uint8_t *dst)
{
    const int half = (high - (high & 1)) / 2;
    uint32_t u = half < 0 ? 2 * (uint32_t)-half - 1 : 2 * (uint32_t)half;
    size_t n = 0;
    for (; u >= 128; u >>= 7)
        dst[n++] = (uint8_t)(u | 128);
    dst[n++] = (uint8_t)u;
    return n;
}

static size_t put_escapes(const struct vcl_lanes *t, const int16_t *j, uint8_t *dst)
{
    size_t n = 0;
    for (uint32_t s = 0; s < stripes_of(t); s++)
        for (uint32_t c = 0; c < t->cols; c++)
            for (int l = 0; l < active_lanes(t, s); l++) {
                const size_t at = ((size_t)s * t->cols + c) * (size_t)t->lanes + (size_t)l;
                const int class = vcl_lanes_class(t, s * (uint32_t)t->lanes + (uint32_t)l, c);
                const struct coded coded = split(t, &t->models[class], j[at]);
                if (coded.escaped)
                    n += put_escape(coded.high, dst + n);
            }
    return n;
}

/* Codes backwards: the last word written is the first read. */
static uint32_t push(uint32_t x, uint32_t frequency, uint32_t start, unsigned bits, uint8_t **words)
{
    if (x >= (uint64_t)frequency << (32 - bits)) {
        *words -= 2;
        vcl_store16(*words, (uint16_t)x);
        x >>= 16;
    }
    return (x / frequency << bits) + x % frequency + start;
}

static uint8_t *put_words(const struct vcl_lanes *t, const int16_t *j, uint32_t state[], uint8_t *words)
{
    for (uint32_t s = stripes_of(t); s-- > 0;)
        for (uint32_t c = t->cols; c-- > 0;) {
            const int active = active_lanes(t, s);
            const int16_t *const column = j + ((size_t)s * t->cols + c) * (size_t)t->lanes;
            for (int l = active; t->shift && l-- > 0;)
                state[l] = push(state[l], 1, split(t, t->models, column[l]).low, t->shift, &words);
            for (int l = active; l-- > 0;) {
                const int class = vcl_lanes_class(t, s * (uint32_t)t->lanes + (uint32_t)l, c);
                const struct vcl_model *const model = &t->models[class];
                const struct coded coded = split(t, model, column[l]);
                state[l] = push(state[l], model->freq[coded.g][coded.symbol],
                                model->cum[coded.g][coded.symbol], VCL_MODEL_BITS, &words);
            }
        }
    return words;
}

size_t vcl_lanes_encode(const struct vcl_lanes *t, const int16_t *j, uint8_t *dst)
{
    uint32_t state[VCL_STRIPE_LANES];
    const size_t room = vcl_lanes_bound(t), escapes = put_escapes(t, j, dst + 4);
    uint8_t *const end = dst + room;
    vcl_store32(dst, (uint32_t)escapes);
    for (int l = 0; l < t->lanes; l++)
        state[l] = LOWEST;
    const uint8_t *const words = put_words(t, j, state, end);
    uint8_t *const states = dst + 4 + escapes;
    memmove(states + 4 * (size_t)t->lanes, words, (size_t)(end - words));
    for (int l = 0; l < t->lanes; l++)
        vcl_store32(states + 4 * l, state[l]);
    return 4 + escapes + 4 * (size_t)t->lanes + (size_t)(end - words);
}

/* ---- decoding -------------------------------------------------------------------------------- */

struct reader {
    const uint8_t *escapes, *escapes_end;
    const uint8_t *words, *words_end;
    int damaged;
};

static int get_escape(struct reader *r, int parity)
{
    uint32_t u = 0;
    for (unsigned shift = 0; shift < 21; shift += 7) {
        if (r->escapes == r->escapes_end)
            break;
        const uint8_t byte = *r->escapes++;
        u |= (uint32_t)(byte & 127) << shift;
        if (byte < 128) {
            const int half = u & 1 ? -(int)(u / 2) - 1 : (int)(u / 2);
            if (half >= -8192 && half < 8192)
                return 2 * half + parity;
            break;
        }
    }
    r->damaged = 1;
    return parity;
}

static uint32_t refill(uint32_t x, struct reader *r)
{
    if (x >= LOWEST)
        return x;
    if (r->words_end - r->words < 2) {
        r->damaged = 1;
        return LOWEST;
    }
    x = x << 16 | vcl_load16(r->words);
    r->words += 2;
    return x;
}

static void decode_column(const struct vcl_lanes *t, uint32_t stripe, uint32_t c, int active,
                          uint32_t state[], uint8_t trellis[], struct reader *r, int16_t *column)
{
    int high[VCL_STRIPE_LANES];
    for (int l = 0; l < active; l++) {
        const int class = vcl_lanes_class(t, stripe * (uint32_t)t->lanes + (uint32_t)l, c);
        const uint32_t g = trellis[l] & 1, slot = state[l] & (VCL_MODEL_TOTAL - 1);
        const uint32_t entry = t->slots[(size_t) class * 2 * VCL_MODEL_TOTAL + (g << VCL_MODEL_BITS | slot)];
        const int symbol = (int)(entry >> 20);
        state[l] = refill((entry & 1023) * (state[l] >> VCL_MODEL_BITS) + (entry >> 10 & 1023), r);
        high[l] = symbol == 0 || symbol == 63 ? get_escape(r, symbol & 1) : symbol - 32;
    }
    for (int l = 0; l < active; l++) {
        const uint32_t low = state[l] & ((1u << t->shift) - 1), g = trellis[l] & 1;
        if (t->shift)
            state[l] = refill(state[l] >> t->shift, r);
        const int k = (int)((unsigned)high[l] << t->shift | low);
        column[l] = (int16_t)(2 * k + (int)g);
        trellis[l] = (uint8_t)vcl_trellis_next(t->v, trellis[l], (unsigned)k & 1);
    }
}

int vcl_lanes_decode(const struct vcl_lanes *t, const uint8_t *src, size_t bytes, int16_t *j)
{
    uint32_t state[VCL_STRIPE_LANES];
    const size_t states = 4 * (size_t)t->lanes;
    if (bytes < 4 + states || vcl_load32(src) > bytes - 4 - states)
        return 0;
    const uint8_t *const first = src + 4 + vcl_load32(src);
    struct reader r = { src + 4, first, first + states, src + bytes, 0 };
    for (int l = 0; l < t->lanes; l++) {
        state[l] = vcl_load32(first + 4 * l);
        if (state[l] < LOWEST)
            return 0;
    }
    for (uint32_t s = 0; s < stripes_of(t) && !r.damaged; s++) {
        uint8_t trellis[VCL_STRIPE_LANES] = { 0 };
        const int active = active_lanes(t, s);
        for (uint32_t c = 0; c < t->cols; c++, j += t->lanes) {
            for (int l = active; l < t->lanes; l++)
                j[l] = 0;
            decode_column(t, s, c, active, state, trellis, &r, j);
        }
    }
    for (int l = 0; l < t->lanes; l++)
        r.damaged |= state[l] != LOWEST;
    return !r.damaged && r.escapes == r.escapes_end && r.words == r.words_end;
}
