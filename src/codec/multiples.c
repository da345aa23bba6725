/* multiples.c - step 7, lossless: values that are small integers times a scale to codes.
 *
 * In: a tile's values, as quantised weights have them that were written back as floats, with a scale
 * for each row or group of 16 to 256.  Out: the scales, the integers that occur, and a code for each
 * value, which may say that it is a literal.  A scale is nowhere stored, it is found: a value v that
 * was rounded from q times it admits the scales from (v - ulp/2) / q to (v + ulp/2) / q.  What all
 * values admit is a tiny interval; its number of fewest digits costs the fewest bits and mostly is the
 * scale that was.  Whatever was found is tried on every value, bit for bit.  A look at a few values
 * spares ordinary weights the search. */
#include "multiples.h"

#include <stdlib.h>

#include "base/common.h"
#include "base/dtype.h"
#include "base/loops.h"
#include "codec/rans.h"

enum {
    SAMPLE_RUNS = 3,       /* of values first looked at */
    MOST_FACTOR = 127,     /* the largest integer a scale is multiplied by */
    MOST_MAGNITUDES = 255, /* of a segment */
    PLACE_BITS = 9,
    PLACES = 1 << PLACE_BITS,
    MOST_HYPOTHESES = 8,
    ANCHORS = 3, /* magnitudes that are tried as the largest that is no outlier */
    MOST_GROUP = 1 << 16,
    CHUNK = 256
};

enum { MINUS_ZERO = 2 * MOST_FACTOR + 1, LITERAL, FACTORS };

/* The magnitudes of a segment, ascending, and the interval that rounds to each. */
struct segment {
    uint32_t most_misfits;
    uint32_t misfits; /* values that are no number, or one magnitude too many */
    unsigned count;
    uint8_t places[PLACES]; /* of the magnitudes, from 1 on, by their hash */
    uint32_t bits[MOST_MAGNITUDES], times[MOST_MAGNITUDES];
    double value[MOST_MAGNITUDES], low[MOST_MAGNITUDES], high[MOST_MAGNITUDES];
};

struct fit {
    unsigned factor; /* 0: none */
    uint32_t misfits;
    unsigned digits; /* of the scale */
    float scale;
};

struct vcl_multiples_finder {
    uint32_t groups[VCL_MAX_RANK + 5]; /* lengths of segments to try, the longest first */
    unsigned group_count;
    struct segment segment;
    unsigned hypotheses[MOST_HYPOTHESES], hypothesis_count;
    uint16_t *factors;        /* of a tile's values, from 0 for -127 on, or MINUS_ZERO or LITERAL */
    uint32_t counts[FACTORS]; /* of them */
    uint8_t code_of[FACTORS];
};

static int compare_lengths(const void *a, const void *b)
{
    const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return x < y ? 1 : x > y ? -1 : 0;
}

/* Rows, whatever dims make one, and the usual groups; one scale for more is one palette. */
static void list_groups(struct vcl_multiples_finder *f, const struct vcl_tensor *tensor)
{
    uint64_t length = 1;
    for (uint32_t group = VCL_LEVELS_GROUP; group <= 256; group *= 2)
        f->groups[f->group_count++] = group;
    for (unsigned i = tensor->rank; i > 0 && length <= MOST_GROUP; i--) {
        length *= vcl_min(tensor->dims[i - 1], MOST_GROUP + 1);
        if (length >= VCL_LEVELS_GROUP && length <= MOST_GROUP)
            f->groups[f->group_count++] = (uint32_t)length;
    }
    qsort(f->groups, f->group_count, sizeof *f->groups, compare_lengths);
}

struct vcl_multiples_finder *vcl_multiples_create(const struct vcl_mem *mem, const struct vcl_tensor *tensor,
                                                  size_t n)
{
    struct vcl_multiples_finder *const f = vcl_alloc(mem, 1, sizeof *f);
    if (!f)
        return NULL;
    list_groups(f, tensor);
    f->factors = vcl_alloc_raw(mem, n, sizeof *f->factors);
    if (f->factors)
        return f;
    vcl_free(mem, f);
    return NULL;
}

void vcl_multiples_destroy(const struct vcl_mem *mem, struct vcl_multiples_finder *finder)
{
    if (finder)
        vcl_free(mem, finder->factors);
    vcl_free(mem, finder);
}

static uint32_t infinity_of(enum vcl_dtype dtype)
{
    return dtype == VCL_DTYPE_F16 ? 0x7c00 : dtype == VCL_DTYPE_BF16 ? 0x7f80 : 0x7f800000;
}

/* A value's magnitude in the bits of the dtype that products are rounded to; infinite if it is not one of
 * that dtype's. */
static uint32_t load_magnitude(const struct vcl_levels *levels, const uint8_t *p)
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

static double value_of(enum vcl_dtype dtype, uint32_t bits)
{
    const uint32_t u = dtype == VCL_DTYPE_F16  ? vcl_f16_to_f32_bits(bits)
                     : dtype == VCL_DTYPE_BF16 ? bits << 16
                                               : bits;
    return vcl_float_from_bits(u);
}

static void add_magnitude(struct segment *s, uint32_t bits)
{
    size_t i = bits * 0x9E3779B1u >> (32 - PLACE_BITS);
    while (s->places[i] && s->bits[s->places[i] - 1] != bits)
        i = (i + 1) % PLACES;
    if (s->places[i]) {
        s->times[s->places[i] - 1]++;
    } else if (s->count == MOST_MAGNITUDES) {
        s->misfits++;
    } else {
        s->bits[s->count] = bits;
        s->times[s->count] = 1;
        s->places[i] = (uint8_t)++s->count;
    }
}

/* Mostly there are a dozen. */
static void sort_magnitudes(struct segment *s)
{
    for (unsigned i = 1; i < s->count; i++) {
        const uint32_t bits = s->bits[i], times = s->times[i];
        unsigned at = i;
        for (; at > 0 && s->bits[at - 1] > bits; at--) {
            s->bits[at] = s->bits[at - 1];
            s->times[at] = s->times[at - 1];
        }
        s->bits[at] = bits;
        s->times[at] = times;
    }
}

/* The magnitudes that round to each: ties go to the even neighbour, and products become f32 before. */
static void find_intervals(struct segment *s, enum vcl_dtype rounding)
{
    const double margin = rounding == VCL_DTYPE_F32 ? 0x1p-50 : 0x1p-23;
    for (unsigned i = 0; i < s->count; i++) {
        const double closed = s->bits[i] & 1 ? margin : 0;
        s->value[i] = value_of(rounding, s->bits[i]);
        s->low[i] = (s->value[i] + value_of(rounding, s->bits[i] - 1)) / 2 * (1 + closed);
        s->high[i] = (s->value[i] + value_of(rounding, s->bits[i] + 1)) / 2 * (1 - closed);
    }
}

/* One value in sixteen may be what it likes. */
static void read_segment(struct segment *s, const struct vcl_levels *levels, const uint8_t *raw, size_t n)
{
    const uint32_t infinity = infinity_of(levels->rounding);
    memset(s->places, 0, sizeof s->places);
    s->count = s->misfits = 0;
    s->most_misfits = (uint32_t)n / 16;
    for (size_t i = 0; i < n && s->misfits <= s->most_misfits; i++) {
        const uint32_t bits = load_magnitude(levels, raw + i * levels->width);
        if (bits + 1 >= infinity)
            s->misfits++;
        else if (bits > 0)
            add_magnitude(s, bits);
    }
    if (s->misfits > s->most_misfits)
        return;
    sort_magnitudes(s);
    find_intervals(s, levels->rounding);
}

/* The number of fewest binary digits from low to high, or near them if there is none. */
static float simplest_between(double low, double high, unsigned *digits)
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

/* Takes one magnitude for `factor` times a scale: what is left of the scale's interval after all others, if
 * no more than most_misfits values find no factor of their own. */
static int fit_factor(const struct segment *s, unsigned anchor, unsigned factor, struct fit *fit)
{
    double low = s->low[anchor] / factor, high = s->high[anchor] / factor;
    uint32_t misfits = s->misfits;
    for (unsigned i = 0; i < s->count; i++) {
        const double ratio = 2 * s->value[i] / (low + high);
        const unsigned q = ratio < MOST_FACTOR + .5 ? (unsigned)(ratio + .5) : 0;
        if (q == 0 || s->low[i] > high * q || s->high[i] < low * q) {
            misfits += s->times[i];
            if (misfits > s->most_misfits)
                return 0;
            continue;
        }
        low = s->low[i] / q > low ? s->low[i] / q : low;
        high = s->high[i] / q < high ? s->high[i] / q : high;
    }
    fit->factor = factor;
    fit->misfits = misfits;
    fit->scale = simplest_between(low, high, &fit->digits);
    return 1;
}

static int is_better(const struct fit *a, const struct fit *b)
{
    return b->factor == 0 || a->misfits < b->misfits || (a->misfits == b->misfits && a->digits < b->digits);
}

/* The largest factors that are frequent, whichever has the fewest misfits and then the simplest scale; else
 * the least that fits.  The largest magnitude has that factor, or one of the next where those above are
 * outliers. */
static struct fit find_fit(const struct vcl_multiples_finder *f, unsigned anchors)
{
    const struct segment *const s = &f->segment;
    const unsigned last = s->count > anchors ? s->count - anchors : 0;
    struct fit best = { 0 }, fit;
    if (s->misfits > s->most_misfits)
        return best;
    for (unsigned anchor = s->count; anchor > last && (best.factor == 0 || best.misfits > 0); anchor--)
        for (unsigned h = 0; h < f->hypothesis_count; h++)
            if (fit_factor(s, anchor - 1, f->hypotheses[h], &fit) && is_better(&fit, &best))
                best = fit;
    for (unsigned anchor = s->count; anchor > last && best.factor == 0; anchor--)
        for (unsigned factor = 1; factor <= MOST_FACTOR && best.factor == 0; factor++)
            fit_factor(s, anchor - 1, factor, &best);
    return best;
}

/* F32 that holds what was F16 or BF16. */
static void choose_rounding(struct vcl_levels *levels, const uint8_t *raw, size_t n)
{
    static const enum vcl_dtype narrower[] = { VCL_DTYPE_BF16, VCL_DTYPE_F16 };
    const size_t samples = (size_t)vcl_min(n, 64);
    for (size_t k = 0; levels->dtype == VCL_DTYPE_F32 && k < 2; k++) {
        size_t held = 0;
        levels->rounding = narrower[k];
        for (size_t i = 0; i < samples; i++)
            held += load_magnitude(levels, raw + n / samples * i * levels->width) < infinity_of(narrower[k]);
        if (held >= samples - samples / 8)
            return;
    }
    levels->rounding = levels->dtype;
}

/* Does one of a few runs of the shortest length fit integers?  Chance would let one in a million. */
static int looks_scaled(struct vcl_multiples_finder *f, const struct vcl_levels *levels, const uint8_t *raw,
                        size_t n, uint64_t begin)
{
    f->hypothesis_count = 0;
    for (size_t run = 0; run < SAMPLE_RUNS; run++) {
        const uint64_t from = vcl_round_up(begin + n / SAMPLE_RUNS * run, VCL_LEVELS_GROUP) - begin;
        if (from + VCL_LEVELS_GROUP > n)
            continue;
        read_segment(&f->segment, levels, raw + from * levels->width, VCL_LEVELS_GROUP);
        if (find_fit(f, 1).factor)
            return 1;
    }
    return 0;
}

/* Up to CHUNK values to their factors with a scale. */
static void find_factors(const struct vcl_levels *levels, const uint8_t *raw, size_t n, float scale,
                         uint16_t *factors)
{
    float x[CHUNK], y[CHUNK];
    uint8_t back[4 * CHUNK];
    const float inverse = 1 / scale;
    vcl_to_f32(levels->dtype, raw, x, n);
    for (size_t i = 0; i < n; i++) {
        const float ratio = x[i] * inverse;
        const int is_near = ratio > -(MOST_FACTOR + .5f) && ratio < MOST_FACTOR + .5f;
        const int q = is_near ? (int)(ratio < 0 ? ratio - .5f : ratio + .5f) : 0;
        const uint32_t sign = vcl_float_bits(x[i]) & 0x80000000;
        y[i] = q ? (float)q * scale : vcl_float_from_bits(sign);
        factors[i] = (uint16_t)(q == 0 && sign ? MINUS_ZERO : q + MOST_FACTOR);
    }
    vcl_levels_round(levels, y, n, back);
    for (size_t i = 0; i < n; i++) {
        const int is_same = levels->width == 2 ? vcl_load16(raw + 2 * i) == vcl_load16(back + 2 * i)
                                               : vcl_load32(raw + 4 * i) == vcl_load32(back + 4 * i);
        factors[i] = is_same ? factors[i] : LITERAL;
    }
}

/* The scale of a segment: *scale is the one before, which one without keeps.  Its factors are counted. */
static struct fit find_segment(struct vcl_multiples_finder *f, const struct vcl_levels *levels,
                               const uint8_t *raw, size_t n, float *scale, uint16_t *factors)
{
    read_segment(&f->segment, levels, raw, n);
    const struct fit fit = find_fit(f, ANCHORS);
    *scale = fit.factor ? fit.scale : *scale;
    for (size_t at = 0, count; at < n; at += count) {
        count = (size_t)vcl_min(n - at, CHUNK);
        find_factors(levels, raw + at * levels->width, count, *scale, factors + at);
        for (size_t i = 0; i < count; i++)
            f->counts[factors[at + i]]++;
    }
    return fit;
}

/* Which segment the i-th of a sample is. */
static size_t sampled_segment(const struct vcl_levels *levels, size_t n, size_t i, size_t samples)
{
    return i * vcl_levels_segments(levels, n) / samples;
}

/* Segments of a sample. */
static size_t count_samples(const struct vcl_levels *levels, size_t n)
{
    enum { VALUES = 8192, LEAST = 4 };
    return (size_t)vcl_min(vcl_levels_segments(levels, n), VALUES / levels->group + LEAST);
}

/* The factors that are the largest of most segments of a sample; 0 if more than an eighth of them fit
 * none. */
static int choose_hypotheses(struct vcl_multiples_finder *f, const struct vcl_levels *levels,
                             const uint8_t *raw, size_t n)
{
    const size_t samples = count_samples(levels, n);
    uint32_t votes[MOST_FACTOR + 1] = { 0 }, fails = 0, fits = 0;
    f->hypothesis_count = 0;
    for (size_t i = 0; i < samples && 8 * fails <= samples; i++) {
        const size_t segment = sampled_segment(levels, n, i, samples),
                     at = vcl_levels_begin(levels, segment, n);
        read_segment(&f->segment, levels, raw + at * levels->width,
                     vcl_levels_begin(levels, segment + 1, n) - at);
        const unsigned factor = find_fit(f, ANCHORS).factor;
        votes[factor]++;
        fits += factor > 0;
        fails += factor == 0 && f->segment.count + f->segment.misfits > 0;
    }
    for (votes[0] = 0; f->hypothesis_count < MOST_HYPOTHESES; f->hypothesis_count++) {
        unsigned most = 0;
        for (unsigned factor = 1; factor <= MOST_FACTOR; factor++)
            most = votes[factor] > votes[most] ? factor : most;
        if (32 * votes[most] <= fits)
            break;
        f->hypotheses[f->hypothesis_count] = most;
        votes[most] = 0;
    }
    return 8 * fails <= samples;
}

/* Bits per 1024 values that a sample of segments of this length takes; UINT64_MAX if they fit no
 * integers. */
static uint64_t sample_group(struct vcl_multiples_finder *f, const struct vcl_levels *levels,
                             const uint8_t *raw, size_t n)
{
    enum { SCALE_BITS = 4 /* and digits */, LITERAL_BITS = 8 /* and its own */ };
    const size_t samples = count_samples(levels, n);
    uint16_t frequencies[256];
    uint64_t bits = 0, values = 0;
    float scale = 1;
    if (!choose_hypotheses(f, levels, raw, n))
        return UINT64_MAX;
    memset(f->counts, 0, sizeof f->counts);
    for (size_t i = 0; i < samples; i++) {
        const size_t segment = sampled_segment(levels, n, i, samples),
                     at = vcl_levels_begin(levels, segment, n),
                     length = vcl_levels_begin(levels, segment + 1, n) - at;
        bits += SCALE_BITS
              + find_segment(f, levels, raw + at * levels->width, length, &scale, f->factors + at).digits;
        values += length;
    }
    vcl_rans_normalise(f->counts, frequencies);
    bits += vcl_rans_cost(f->counts, frequencies) + f->counts[LITERAL] * (LITERAL_BITS + 8 * levels->width);
    return 1024 * bits / values;
}

static void use_group(struct vcl_levels *levels, uint32_t group, uint64_t begin)
{
    levels->group = group;
    levels->first = (uint32_t)(group - begin % group);
}

/* The length of segments that takes the fewest bits, the longer where the shorter saves less than 1/64; 0 if
 * none saves so much of `most` bytes. */
static uint32_t choose_group(struct vcl_multiples_finder *f, struct vcl_levels *levels, const uint8_t *raw,
                             size_t n, uint64_t begin, size_t most)
{
    uint64_t least = 1024 * 8 * (uint64_t)most / n;
    uint32_t best = 0;
    for (unsigned g = 0; g < f->group_count; g++) {
        if (g > 0 && f->groups[g] == f->groups[g - 1])
            continue;
        use_group(levels, f->groups[g], begin);
        const uint64_t bits = sample_group(f, levels, raw, n);
        if (bits < least - least / 64) {
            least = bits;
            best = f->groups[g];
        }
    }
    return best;
}

static void find_all_scales(struct vcl_multiples_finder *f, struct vcl_levels *levels, const uint8_t *raw,
                            size_t n)
{
    const size_t segments = vcl_levels_segments(levels, n);
    float scale = 1;
    memset(f->counts, 0, sizeof f->counts);
    for (size_t s = 0; s < segments; s++) {
        const size_t at = vcl_levels_begin(levels, s, n), length = vcl_levels_begin(levels, s + 1, n) - at;
        find_segment(f, levels, raw + at * levels->width, length, &scale, f->factors + at);
        levels->scales[s] = scale;
    }
}

/* By magnitude, since blocks are told apart by the mean of their codes. */
static void choose_points(struct vcl_multiples_finder *f, struct vcl_levels *levels)
{
    levels->count = 0;
    for (int k = 0; k < LITERAL; k++) {
        const int magnitude = k / 2, is_negative = k % 2;
        const int index = k == 1 ? MINUS_ZERO : MOST_FACTOR + (is_negative ? -magnitude : magnitude);
        const int used = f->counts[index] > 0 && levels->count < VCL_LEVELS_MOST;
        f->code_of[index] = (uint8_t)(used ? levels->count : VCL_LEVELS_MOST);
        if (used)
            levels->points[levels->count++] = is_negative ? -(float)magnitude : (float)magnitude;
    }
    f->code_of[LITERAL] = VCL_LEVELS_MOST;
}

int vcl_multiples_find(struct vcl_multiples_finder *finder, const uint8_t *raw, size_t n, uint64_t begin,
                       size_t most, struct vcl_levels *levels)
{
    if (levels->dtype != VCL_DTYPE_F16 && levels->dtype != VCL_DTYPE_BF16 && levels->dtype != VCL_DTYPE_F32)
        return 0;
    choose_rounding(levels, raw, n);
    if (!looks_scaled(finder, levels, raw, n, begin))
        return 0;
    const uint32_t group = choose_group(finder, levels, raw, n, begin, most);
    if (group == 0)
        return 0;
    use_group(levels, group, begin);
    choose_hypotheses(finder, levels, raw, n);
    find_all_scales(finder, levels, raw, n);
    choose_points(finder, levels);
    return levels->count > 0;
}

size_t vcl_multiples_code(const struct vcl_multiples_finder *finder, const struct vcl_levels *levels,
                          const uint8_t *raw, size_t n, uint8_t *codes, uint8_t *literals)
{
    const unsigned width = levels->width;
    size_t aside = 0;
    for (size_t i = 0; i < n; i++) {
        codes[i] = (uint8_t)vcl_min(finder->code_of[finder->factors[i]], levels->count);
        if (codes[i] == levels->count)
            memcpy(literals + aside++ * width, raw + i * width, width);
    }
    return aside;
}
