/* segment.c - step 7, lossless: the scale of a segment's values, and their offset, from these values.
 *
 * In: values that were rounded from integers q times a scale, plus an offset or without one.  Out: a scale
 * and an offset that give them all again.  A value v admits those for which scale * q + offset lies between
 * v - ulp/2 and v + ulp/2.  What all values admit is tiny, so small that the integers can be told; its
 * numbers of fewest digits cost the fewest bits and mostly are those that were.  All decisions take IEEE
 * doubles alone, so they are the same everywhere. */
#include "segment.h"

#include "base/common.h"
#include "base/loops.h"

enum { PLACES = 1 << VCL_SEGMENT_PLACE_BITS };

uint32_t vcl_segment_infinity(enum vcl_dtype dtype)
{
    return dtype == VCL_DTYPE_F16 ? 0x7c00 : dtype == VCL_DTYPE_BF16 ? 0x7f80 : 0x7f800000;
}

uint32_t vcl_segment_magnitude(const struct vcl_levels *levels, const uint8_t *p)
{
    if (levels->dtype != VCL_DTYPE_F32)
        return vcl_load16(p) & 0x7fff;
    const uint32_t u = vcl_load32(p) & 0x7fffffff;
    if (levels->rounding == VCL_DTYPE_F32)
        return u;
    if (levels->rounding == VCL_DTYPE_BF16)
        return u & 0xffff ? 0x7f80 : u >> 16;
    const uint32_t h = vcl_f32_to_f16_bits(u);
    return vcl_f16_to_f32_bits(h) == u ? h : 0x7c00;
}

static int is_negative(const struct vcl_levels *levels, const uint8_t *p)
{
    return p[levels->width - 1] >> 7;
}

static double value_of(enum vcl_dtype dtype, int32_t bits)
{
    const uint32_t magnitude = (uint32_t)(bits < 0 ? -bits : bits);
    const uint32_t u = dtype == VCL_DTYPE_F16  ? vcl_f16_to_f32_bits(magnitude)
                     : dtype == VCL_DTYPE_BF16 ? magnitude << 16
                                               : magnitude;
    return bits < 0 ? -(double)vcl_float_from_bits(u) : vcl_float_from_bits(u);
}

static void add_point(struct vcl_segment *s, int32_t bits)
{
    size_t i = (uint32_t)bits * 0x9E3779B1u >> (32 - VCL_SEGMENT_PLACE_BITS);
    while (s->places[i] && s->bits[s->places[i] - 1] != bits)
        i = (i + 1) % PLACES;
    if (s->places[i]) {
        s->times[s->places[i] - 1]++;
    } else if (s->count == VCL_SEGMENT_POINTS) {
        s->misfits++;
    } else {
        s->bits[s->count] = bits;
        s->times[s->count] = 1;
        s->places[i] = (uint8_t)++s->count;
    }
}

/* Mostly there are a dozen. */
static void sort_points(struct vcl_segment *s)
{
    for (unsigned i = 1; i < s->count; i++) {
        const int32_t bits = s->bits[i];
        const uint32_t times = s->times[i];
        unsigned at = i;
        for (; at > 0 && s->bits[at - 1] > bits; at--) {
            s->bits[at] = s->bits[at - 1];
            s->times[at] = s->times[at - 1];
        }
        s->bits[at] = bits;
        s->times[at] = times;
    }
}

/* The numbers that round to each: ties go to the even neighbour, and products become f32 before. */
static void find_intervals(struct vcl_segment *s, enum vcl_dtype rounding)
{
    const double margin = rounding == VCL_DTYPE_F32 ? 0x1p-50 : 0x1p-23;
    for (unsigned i = 0; i < s->count; i++) {
        const double below = value_of(rounding, s->bits[i] - 1), above = value_of(rounding, s->bits[i] + 1);
        s->value[i] = value_of(rounding, s->bits[i]);
        s->low[i] = (s->value[i] + below) / 2;
        s->high[i] = (s->value[i] + above) / 2;
        if (s->bits[i] & 1) {
            s->low[i] += margin * fabs(s->low[i]);
            s->high[i] -= margin * fabs(s->high[i]);
        }
    }
}

void vcl_segment_read(struct vcl_segment *s, const struct vcl_levels *levels, const uint8_t *raw, size_t n,
                      unsigned spare)
{
    const uint32_t infinity = vcl_segment_infinity(levels->rounding);
    memset(s->places, 0, sizeof s->places);
    s->count = s->misfits = 0;
    s->most_misfits = (uint32_t)(n >> spare);
    for (size_t i = 0; i < n && s->misfits <= s->most_misfits; i++) {
        const uint8_t *const p = raw + i * levels->width;
        const uint32_t bits = vcl_segment_magnitude(levels, p);
        if (bits + 1 >= infinity)
            s->misfits++;
        else if (levels->has_offsets)
            add_point(s, is_negative(levels, p) ? -(int32_t)bits : (int32_t)bits);
        else if (bits > 0)
            add_point(s, (int32_t)bits);
    }
    if (s->misfits > s->most_misfits)
        return;
    sort_points(s);
    find_intervals(s, levels->rounding);
}

/* The number of fewest binary digits from low to high, both above 0, or near them if there is none. */
static float simplest_positive(double low, double high, unsigned *digits)
{
    uint32_t least = vcl_float_bits((float)low), most = vcl_float_bits((float)high);
    least += vcl_float_from_bits(least) < low;
    most -= vcl_float_from_bits(most) > high;
    unsigned zeros = least <= most ? 23 : 0;
    while (zeros > 0 && vcl_round_up(least, (uint64_t)1 << zeros) > most)
        zeros--;
    *digits = 23 - zeros;
    return vcl_float_from_bits((uint32_t)vcl_round_up(least, (uint64_t)1 << zeros));
}

/* Of any sign. */
static float simplest_between(double low, double high, unsigned *digits)
{
    *digits = 0;
    if (low <= 0 && high >= 0)
        return 0;
    return low > 0 ? simplest_positive(low, high, digits) : -simplest_positive(-high, -low, digits);
}

/* ---- a scale --------------------------------------------------------------------------------- */

int vcl_segment_fit(const struct vcl_segment *s, unsigned point, unsigned factor, struct vcl_fit *fit)
{
    double low = s->low[point] / factor, high = s->high[point] / factor;
    uint32_t misfits = s->misfits;
    for (unsigned i = 0; i < s->count; i++) {
        const double ratio = 2 * s->value[i] / (low + high);
        const unsigned q = ratio < VCL_SEGMENT_FACTOR + .5 ? (unsigned)(ratio + .5) : 0;
        if (q == 0 || s->low[i] > high * q || s->high[i] < low * q) {
            misfits += s->times[i];
            if (misfits > s->most_misfits)
                return 0;
            continue;
        }
        low = s->low[i] / q > low ? s->low[i] / q : low;
        high = s->high[i] / q < high ? s->high[i] / q : high;
    }
    *fit = (struct vcl_fit){ .factor = factor, .misfits = misfits, .scales = { low, high } };
    fit->scale = simplest_positive(low, high, &fit->digits);
    return 1;
}

/* ---- a scale and an offset ------------------------------------------------------------------- */

/* What points i and k, that are q apart, leave of the scale's range. */
static int narrow(const struct vcl_segment *s, unsigned i, unsigned k, unsigned q, struct vcl_bounds *scale)
{
    const double low = (s->low[k] - s->high[i]) / q, high = (s->high[k] - s->low[i]) / q;
    scale->low = low > scale->low ? low : scale->low;
    scale->high = high < scale->high ? high : scale->high;
    return scale->low <= scale->high;
}

/* Factors of the points, from 0 to `span`, and the scales that give these distances; 0 if there are none. */
static int find_factors(const struct vcl_segment *s, unsigned span, uint8_t *factors,
                        struct vcl_bounds *scale)
{
    const unsigned last = s->count - 1;
    const double inverse = span / (s->value[last] - s->value[0]);
    scale->high = (s->high[last] - s->low[0]) / span;
    scale->low = scale->high / 4; /* neighbours among floats leave 0, too */
    factors[0] = 0;
    for (unsigned i = 1; i <= last; i++) {
        const unsigned q = (unsigned)((s->value[i] - s->value[0]) * inverse + .5);
        if (q == factors[i - 1] || !narrow(s, 0, i, q, scale))
            return 0;
        factors[i] = (uint8_t)q;
    }
    for (unsigned i = 1; i < last; i++)
        for (unsigned k = i + 1; k <= last; k++)
            if (!narrow(s, i, k, factors[k] - (unsigned)factors[i], scale))
                return 0;
    return 1;
}

/* What point i, of factor q, leaves of the offset's range. */
static void narrow_offset(const struct vcl_segment *s, unsigned i, double product, struct vcl_bounds *offset)
{
    const double low = s->low[i] - product, high = s->high[i] - product;
    offset->low = low > offset->low ? low : offset->low;
    offset->high = high < offset->high ? high : offset->high;
}

/* Which scale, and which offset it leaves; with how many factors less than 0 it costs the fewest digits. */
static int fit_span(const struct vcl_segment *s, unsigned span, unsigned shifts, struct vcl_fit *fit)
{
    enum { WORTH = 2 }; /* digits that a shift must save, for any may save one */
    uint8_t factors[VCL_SEGMENT_FACTOR + 1];
    struct vcl_bounds offsets = { -INFINITY, INFINITY };
    unsigned digits, least = UINT32_MAX;
    *fit = (struct vcl_fit){ .factor = span };
    if (!find_factors(s, span, factors, &fit->scales))
        return 0;
    fit->scale = simplest_positive(fit->scales.low, fit->scales.high, &digits);
    const double scale = fit->scale;
    for (unsigned i = 0; i < s->count; i++)
        narrow_offset(s, i, scale * factors[i], &offsets);
    if (offsets.low > offsets.high || !isfinite(fit->scale))
        return 0;
    for (unsigned shift = 0; shift <= shifts; shift++) {
        unsigned more;
        const float offset =
            simplest_between(offsets.low - shift * scale, offsets.high - shift * scale, &more);
        if (shift > 0 && (more + WORTH >= least || !isfinite(offset)))
            continue;
        least = more;
        fit->offset = offset;
    }
    fit->digits = digits + least;
    return isfinite(fit->offset);
}

/* The least span is that of factors without a common divisor; its multiples may have a simpler scale. */
struct vcl_fit vcl_segment_fit_line(const struct vcl_segment *s, unsigned most, int shift)
{
    struct vcl_fit best = { 0 }, fit;
    if (s->misfits > 0 || s->count == 0 || s->count > most + 1)
        return best;
    if (s->count == 1) {
        best.factor = 1; /* of scale 0 */
        best.offset = simplest_between(s->low[0], s->high[0], &best.digits);
        return best;
    }
    for (unsigned span = s->count - 1, least = 1; span <= most; span += least) {
        if (!fit_span(s, span, shift ? most - span : 0, &fit))
            continue;
        if (best.factor == 0)
            least = span;
        if (best.factor == 0 || fit.digits < best.digits)
            best = fit;
        if (!shift)
            break;
    }
    return best;
}

int vcl_segment_fit_offset(const struct vcl_segment *s, const struct vcl_fit *fit, float scale,
                           struct vcl_bounds *offsets, float *offset)
{
    unsigned digits;
    *offsets = (struct vcl_bounds){ -INFINITY, INFINITY };
    for (unsigned i = 0; i < s->count && s->misfits == 0; i++) {
        const double factor = fit->scale > 0 ? rint((s->value[i] - fit->offset) / fit->scale) : 0;
        narrow_offset(s, i, scale * factor, offsets);
    }
    if (s->misfits > 0 || s->count == 0 || offsets->low > offsets->high)
        return 0;
    *offset = simplest_between(offsets->low, offsets->high, &digits);
    return 1;
}
