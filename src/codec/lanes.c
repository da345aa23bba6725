/* lanes.c - step 7: the trellis' indices to bytes, by rANS in interleaved lanes.
 *
 * In: integers j of a tile, in stripes of `lanes` rows.  Out: escapes, states and 16-bit words.  Lane l codes
 * row l of every stripe, columns in sequence; its state goes on from stripe to stripe (a state costs two
 * bytes, which a stripe of a small matrix could not carry), the trellis starts anew.  rANS (Duda 2013) with
 * 32-bit states and 16-bit renormalisation (Giesen 2014): a lane takes at most one word per symbol, so that
 * all lanes renormalise in one vector step.  The loops over a stripe are kernels. */
#include "lanes.h"

#include <string.h>

#include "base/common.h"

/* Without a look at the columns' classes: where there are some, any row may have one that is high enough. */
static int any_low(const struct vcl_stripe *stripe, int from)
{
    int any = stripe->col_class && from < VCL_MODEL_CLASSES;
    for (int l = 0; l < stripe->active; l++)
        any |= stripe->row_class[l] >= from;
    return any;
}

struct vcl_stripe vcl_lanes_stripe(const struct vcl_lanes *t, uint32_t first_row)
{
    const uint32_t left = t->rows - first_row;
    struct vcl_stripe stripe = { .lanes = t->lanes,
                                 .active = left < (uint32_t)t->lanes ? (int)left : t->lanes,
                                 .cols = t->cols,
                                 .v = t->v,
                                 .col_class = t->col_class,
                                 .slots = t->slots,
                                 .codes = t->codes };
    memcpy(stripe.row_class, t->row_class + first_row, (size_t)stripe.active);
    stripe.low_from = any_low(&stripe, t->low_from) ? t->low_from : VCL_MODEL_CLASSES;
    return stripe;
}

/* ---- encoding -------------------------------------------------------------------------------- */

static size_t count_values(const struct vcl_lanes *parts, size_t count)
{
    size_t n = 0;
    for (size_t i = 0; i < count; i++)
        n += (size_t)parts[i].rows * parts[i].cols;
    return n;
}

static size_t escapes_bound(size_t values) { return 3 * values; }

/* Behind the escapes' count: escapes, states and words, each at most once per value (words once more for low
 * bits), and what the kernels scribble on. */
size_t vcl_lanes_bound(const struct vcl_lanes *parts, size_t count)
{
    const size_t n = count_values(parts, count);
    return 4 + escapes_bound(n) + 4 * (size_t)VCL_STRIPE_LANES + 4 * n;
}

/* j, which ends where the part's indices do, is coded backwards; returns where they begin. */
static const int16_t *encode_part(const struct vcl_lanes *t, struct vcl_lanes_writer *w, const int16_t *j)
{
    for (uint32_t row = (uint32_t)vcl_round_up(t->rows, (uint64_t)t->lanes); row > 0;) {
        row -= (uint32_t)t->lanes;
        j -= (size_t)t->lanes * t->cols;
        const struct vcl_stripe stripe = vcl_lanes_stripe(t, row);
        t->kernels->encode_stripe(&stripe, w, j);
    }
    return j;
}

static size_t count_indices(const struct vcl_lanes *t)
{
    return (size_t)vcl_round_up(t->rows, (uint64_t)t->lanes) * t->cols;
}

/* Coded backwards: the last word written is the first read. */
size_t vcl_lanes_encode(const struct vcl_lanes *parts, size_t count, const int16_t *j, uint8_t *dst)
{
    const int lanes = parts[0].lanes;
    uint8_t *const escapes_end = dst + 4 + escapes_bound(count_values(parts, count)), *const words_end =
                                                                                          dst
                                                                                          + vcl_lanes_bound(
                                                                                              parts, count);
    struct vcl_lanes_writer w = { .escapes = escapes_end, .words = words_end };
    for (int l = 0; l < lanes; l++)
        w.state[l] = VCL_LANE_LOW;
    for (size_t i = 0; i < count; i++)
        j += count_indices(&parts[i]);
    for (size_t i = count; i-- > 0;)
        j = encode_part(&parts[i], &w, j);
    const size_t escapes = (size_t)(escapes_end - w.escapes), words = (size_t)(words_end - w.words);
    uint8_t *const states = dst + 4 + escapes;
    vcl_store32(dst, (uint32_t)escapes);
    memmove(dst + 4, w.escapes, escapes);
    for (int l = 0; l < lanes; l++)
        vcl_store32(states + 4 * l, w.state[l]);
    memmove(states + 4 * (size_t)lanes, w.words, words);
    return 4 + escapes + 4 * (size_t)lanes + words;
}

/* ---- decoding -------------------------------------------------------------------------------- */

int vcl_lanes_open(const struct vcl_lanes *t, const uint8_t *src, size_t bytes, struct vcl_lanes_reader *r)
{
    const size_t states = 4 * (size_t)t->lanes;
    if (bytes < 4 + states || vcl_load32(src) > bytes - 4 - states)
        return 0;
    const uint8_t *const first = src + 4 + vcl_load32(src);
    *r = (struct vcl_lanes_reader){
        .escapes = src + 4, .escapes_end = first, .words = first + states, .words_end = src + bytes
    };
    for (int l = 0; l < t->lanes; l++) {
        r->state[l] = vcl_load32(first + 4 * l);
        if (r->state[l] < VCL_LANE_LOW)
            return 0;
    }
    return 1;
}

void vcl_lanes_begin(struct vcl_lanes_reader *r) { memset(r->trellis, 0, sizeof r->trellis); }

int vcl_lanes_close(const struct vcl_lanes *t, const struct vcl_lanes_reader *r)
{
    int whole = !r->damaged && r->escapes == r->escapes_end && r->words == r->words_end;
    for (int l = 0; l < t->lanes; l++)
        whole &= r->state[l] == VCL_LANE_LOW;
    return whole;
}
