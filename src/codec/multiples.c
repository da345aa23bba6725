/* multiples.c - step 7, lossless: values that are small integers times a scale to codes.
 *
 * In: a tile's values, as quantised weights have them that were written back as floats, with a scale
 * for each row or group of 16 to 256, and perhaps an offset.  Out: the scales and offsets, the integers that
 * occur, and a code for each value, which may say that it is a literal.  segment.c finds the scale of one
 * group; here is decided which values are one, by the bits that a sample takes, and whatever was found is
 * tried on every value, bit for bit.  A look at a few values spares ordinary weights the search. */
#include "multiples.h"

#include <stdlib.h>

#include "base/common.h"
#include "base/dtype.h"
#include "base/loops.h"
#include "codec/rans.h"
#include "codec/segment.h"
#include "codec/snap.h"

enum {
    SAMPLE_RUNS = 3, /* of values first looked at */
    MOST_HYPOTHESES = 8,
    ANCHORS = 3, /* magnitudes that are tried as the largest that is no outlier */
    MOST_GROUP = 1 << 16,
    CHUNK = 256
};

enum { MINUS_ZERO = 2 * VCL_SEGMENT_FACTOR + 1, LITERAL, FACTORS };

struct vcl_multiples_finder {
    uint32_t groups[VCL_MAX_RANK + 6]; /* lengths of segments to try, the longest first */
    unsigned group_count;
    uint32_t shortest; /* of them */
    struct vcl_segment segment;
    struct vcl_bounds *bounds; /* of all scales, or all offsets */
    float *snapped;            /* scales */
    unsigned hypotheses[MOST_HYPOTHESES], hypothesis_count;
    unsigned span;            /* the largest hypothesis; 0: none yet */
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
    for (uint32_t group = f->shortest; group <= 256; group *= 2)
        f->groups[f->group_count++] = group;
    for (unsigned i = tensor->rank; i > 0 && length <= MOST_GROUP; i--) {
        length *= vcl_min(tensor->dims[i - 1], MOST_GROUP + 1);
        if (length >= f->shortest && length <= MOST_GROUP)
            f->groups[f->group_count++] = (uint32_t)length;
    }
    qsort(f->groups, f->group_count, sizeof *f->groups, compare_lengths);
}

struct vcl_multiples_finder *vcl_multiples_create(const struct vcl_mem *mem, const struct vcl_tensor *tensor,
                                                  size_t n, uint32_t shortest)
{
    struct vcl_multiples_finder *const f = vcl_alloc(mem, 1, sizeof *f);
    if (!f)
        return NULL;
    f->shortest = shortest;
    list_groups(f, tensor);
    const size_t segments = n / shortest + 2;
    f->factors = vcl_alloc_raw(mem, n, sizeof *f->factors);
    f->bounds = vcl_alloc_raw(mem, segments, sizeof *f->bounds);
    f->snapped = vcl_alloc_raw(mem, segments, sizeof *f->snapped);
    if (f->factors && f->bounds && f->snapped)
        return f;
    vcl_multiples_destroy(mem, f);
    return NULL;
}

void vcl_multiples_destroy(const struct vcl_mem *mem, struct vcl_multiples_finder *finder)
{
    if (!finder)
        return;
    vcl_free(mem, finder->factors);
    vcl_free(mem, finder->bounds);
    vcl_free(mem, finder->snapped);
    vcl_free(mem, finder);
}

static int is_better(const struct vcl_fit *a, const struct vcl_fit *b)
{
    return b->factor == 0 || a->misfits < b->misfits || (a->misfits == b->misfits && a->digits < b->digits);
}

/* The largest factors that are frequent, whichever has the fewest misfits and then the simplest scale; else
 * the least that fits.  The largest magnitude has that factor, or one of the next where those above are
 * outliers. */
static struct vcl_fit find_scale(const struct vcl_multiples_finder *f, unsigned anchors)
{
    const struct vcl_segment *const s = &f->segment;
    const unsigned last = s->count > anchors ? s->count - anchors : 0;
    struct vcl_fit best = { 0 }, fit;
    if (s->misfits > s->most_misfits)
        return best;
    for (unsigned anchor = s->count; anchor > last && (best.factor == 0 || best.misfits > 0); anchor--)
        for (unsigned h = 0; h < f->hypothesis_count; h++)
            if (vcl_segment_fit(s, anchor - 1, f->hypotheses[h], &fit) && is_better(&fit, &best))
                best = fit;
    for (unsigned anchor = s->count; anchor > last && best.factor == 0; anchor--)
        for (unsigned factor = 1; factor <= VCL_SEGMENT_FACTOR && best.factor == 0; factor++)
            vcl_segment_fit(s, anchor - 1, factor, &best);
    return best;
}

/* The fit of n values, which become the finder's segment. */
static struct vcl_fit find_fit(struct vcl_multiples_finder *f, const struct vcl_levels *levels,
                               const uint8_t *raw, size_t n, unsigned anchors)
{
    vcl_segment_read(&f->segment, levels, raw, n, f->shortest < VCL_LEVELS_GROUP ? 3 : 4);
    if (!levels->has_offsets)
        return find_scale(f, anchors);
    return vcl_segment_fit_line(&f->segment, f->span ? f->span : VCL_SEGMENT_FACTOR, f->span > 0);
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
            held += vcl_segment_magnitude(levels, raw + n / samples * i * levels->width)
                  < vcl_segment_infinity(narrower[k]);
        if (held >= samples - samples / 8)
            return;
    }
    levels->rounding = levels->dtype;
}

/* Does one of a few runs of the shortest length fit integers?  Chance would let one in a million.  With
 * offsets, ordinary weights are known by values that all differ. */
static int looks_scaled(struct vcl_multiples_finder *f, const struct vcl_levels *levels, const uint8_t *raw,
                        size_t n, uint64_t begin)
{
    const uint32_t length = f->shortest;
    f->hypothesis_count = f->span = 0;
    for (size_t run = 0; run < SAMPLE_RUNS; run++) {
        const uint64_t from = vcl_round_up(begin + n / SAMPLE_RUNS * run, length) - begin;
        if (from + length > n)
            continue;
        const unsigned factor = find_fit(f, levels, raw + from * levels->width, length, 1).factor;
        if (factor > 0 && (!levels->has_offsets || f->segment.count <= length - length / 8))
            return 1;
    }
    return 0;
}

/* Up to CHUNK values to their factors with a scale and an offset. */
static void find_factors(const struct vcl_levels *levels, const uint8_t *raw, size_t n,
                         const struct vcl_fit *fit, uint16_t *factors)
{
    float x[CHUNK], y[CHUNK];
    uint8_t back[4 * CHUNK];
    const float scale = fit->scale, offset = fit->offset, inverse = 1 / scale;
    vcl_to_f32(levels->dtype, raw, x, n);
    for (size_t i = 0; i < n; i++) {
        const float ratio = (x[i] - offset) * inverse;
        const int is_near = ratio > -(VCL_SEGMENT_FACTOR + .5f) && ratio < VCL_SEGMENT_FACTOR + .5f;
        const int q = is_near ? (int)(ratio < 0 ? ratio - .5f : ratio + .5f) : 0;
        const uint32_t sign = levels->has_offsets ? 0 : vcl_float_bits(x[i]) & 0x80000000;
        y[i] = q ? (float)q * scale : vcl_float_from_bits(sign);
        factors[i] = (uint16_t)(q == 0 && sign ? MINUS_ZERO : q + VCL_SEGMENT_FACTOR);
    }
    if (levels->has_offsets)
        for (size_t i = 0; i < n; i++)
            y[i] += offset;
    vcl_levels_round(levels, y, n, back);
    for (size_t i = 0; i < n; i++) {
        const int is_same = levels->width == 2 ? vcl_load16(raw + 2 * i) == vcl_load16(back + 2 * i)
                                               : vcl_load32(raw + 4 * i) == vcl_load32(back + 4 * i);
        factors[i] = is_same ? factors[i] : LITERAL;
    }
}

/* A segment's values to their factors, which are counted. */
static void count_factors(struct vcl_multiples_finder *f, const struct vcl_levels *levels, const uint8_t *raw,
                          size_t n, const struct vcl_fit *fit, uint16_t *factors)
{
    for (size_t at = 0, count; at < n; at += count) {
        count = (size_t)vcl_min(n - at, CHUNK);
        find_factors(levels, raw + at * levels->width, count, fit, factors + at);
        for (size_t i = 0; i < count; i++)
            f->counts[factors[at + i]]++;
    }
}

/* The fit of a segment; one without has the scale of the last before, or, with offsets, zeros. */
static struct vcl_fit find_segment(struct vcl_multiples_finder *f, const struct vcl_levels *levels,
                                   const uint8_t *raw, size_t n, float last)
{
    const struct vcl_fit fit = find_fit(f, levels, raw, n, ANCHORS);
    return fit.factor ? fit : (struct vcl_fit){ .scale = levels->has_offsets ? 0 : last };
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
    uint32_t votes[VCL_SEGMENT_FACTOR + 1] = { 0 }, fails = 0, fits = 0;
    f->hypothesis_count = f->span = 0;
    for (size_t i = 0; i < samples && 8 * fails <= samples; i++) {
        const size_t segment = sampled_segment(levels, n, i, samples),
                     at = vcl_levels_begin(levels, segment, n);
        const size_t length = vcl_levels_begin(levels, segment + 1, n) - at;
        const unsigned factor = find_fit(f, levels, raw + at * levels->width, length, ANCHORS).factor;
        votes[factor]++;
        fits += factor > 0;
        fails += factor == 0 && f->segment.count + f->segment.misfits > 0;
    }
    for (votes[0] = 0; f->hypothesis_count < MOST_HYPOTHESES; f->hypothesis_count++) {
        unsigned most = 0;
        for (unsigned factor = 1; factor <= VCL_SEGMENT_FACTOR; factor++)
            most = votes[factor] > votes[most] ? factor : most;
        if (32 * votes[most] <= fits)
            break;
        f->hypotheses[f->hypothesis_count] = most;
        f->span = most > f->span ? most : f->span;
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
    struct vcl_fit fit = { .scale = 1 };
    if (!choose_hypotheses(f, levels, raw, n))
        return UINT64_MAX;
    memset(f->counts, 0, sizeof f->counts);
    for (size_t i = 0; i < samples; i++) {
        const size_t segment = sampled_segment(levels, n, i, samples),
                     at = vcl_levels_begin(levels, segment, n),
                     length = vcl_levels_begin(levels, segment + 1, n) - at;
        fit = find_segment(f, levels, raw + at * levels->width, length, fit.scale);
        count_factors(f, levels, raw + at * levels->width, length, &fit, f->factors + at);
        bits += (levels->has_offsets ? 2U : 1U) * SCALE_BITS + fit.digits;
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
 * none saves so much of *least, bits per 1024 values, which becomes what it takes. */
static uint32_t choose_group(struct vcl_multiples_finder *f, struct vcl_levels *levels, const uint8_t *raw,
                             size_t n, uint64_t begin, uint64_t *least)
{
    uint32_t best = 0;
    if (!looks_scaled(f, levels, raw, n, begin))
        return 0;
    for (unsigned g = 0; g < f->group_count; g++) {
        if (g > 0 && f->groups[g] == f->groups[g - 1])
            continue;
        use_group(levels, f->groups[g], begin);
        const uint64_t bits = sample_group(f, levels, raw, n);
        if (bits < *least - *least / 64) {
            *least = bits;
            best = f->groups[g];
        }
    }
    return best;
}

static void find_all_scales(struct vcl_multiples_finder *f, struct vcl_levels *levels, const uint8_t *raw,
                            size_t n)
{
    const size_t segments = vcl_levels_segments(levels, n);
    struct vcl_fit fit = { .scale = 1 };
    for (size_t s = 0; s < segments; s++) {
        const size_t at = vcl_levels_begin(levels, s, n), length = vcl_levels_begin(levels, s + 1, n) - at;
        fit = find_segment(f, levels, raw + at * levels->width, length, fit.scale);
        f->bounds[s] = fit.scales;
        levels->scales[s] = fit.scale;
        levels->offsets[s] = fit.offset;
    }
}

/* How many scales share one of their own, 16 or 8, where most of the first do; else 0.  `index` is the first
 * one's in the tensor. */
static unsigned choose_run(struct vcl_multiples_finder *f, size_t segments, uint64_t index)
{
    enum { LOOK = 512 };
    for (unsigned run = 16; run >= VCL_LEVELS_INNER; run /= 2) {
        const size_t first = run - (size_t)(index % run), look = (size_t)vcl_min(segments, LOOK);
        if (vcl_snap(&f->segment, f->bounds, look, first, run, f->snapped) >= look - look / 4)
            return run;
    }
    return 0;
}

/* Scales that rounded values leave room for become integers times a scale of their own, and then the offsets
 * that these leave do, if that is how they were made. */
static void snap_all(struct vcl_multiples_finder *f, struct vcl_levels *levels, const uint8_t *raw, size_t n,
                     uint64_t index)
{
    const size_t segments = vcl_levels_segments(levels, n);
    const unsigned run = choose_run(f, segments, index);
    const size_t first = run > 0 ? run - (size_t)(index % run) : 0;
    if (run == 0)
        return;
    memcpy(f->snapped, levels->scales, segments * sizeof *f->snapped);
    vcl_snap(&f->segment, f->bounds, segments, first, run, f->snapped);
    for (size_t s = 0; s < segments; s++) {
        const size_t at = vcl_levels_begin(levels, s, n), length = vcl_levels_begin(levels, s + 1, n) - at;
        const struct vcl_fit fit = { .scale = levels->scales[s], .offset = levels->offsets[s] };
        vcl_segment_read(&f->segment, levels, raw + at * levels->width, length, 0);
        if (vcl_segment_fit_offset(&f->segment, &fit, f->snapped[s], &f->bounds[s], &levels->offsets[s]))
            levels->scales[s] = f->snapped[s];
        else
            f->bounds[s] = (struct vcl_bounds){ fit.offset, fit.offset };
    }
    vcl_snap(&f->segment, f->bounds, segments, first, run, levels->offsets);
}

static void count_all_factors(struct vcl_multiples_finder *f, const struct vcl_levels *levels,
                              const uint8_t *raw, size_t n)
{
    const size_t segments = vcl_levels_segments(levels, n);
    memset(f->counts, 0, sizeof f->counts);
    for (size_t s = 0; s < segments; s++) {
        const size_t at = vcl_levels_begin(levels, s, n), length = vcl_levels_begin(levels, s + 1, n) - at;
        const struct vcl_fit fit = { .scale = levels->scales[s], .offset = levels->offsets[s] };
        count_factors(f, levels, raw + at * levels->width, length, &fit, f->factors + at);
    }
}

/* By magnitude, since blocks are told apart by the mean of their codes. */
static void choose_points(struct vcl_multiples_finder *f, struct vcl_levels *levels)
{
    levels->count = 0;
    for (int k = 0; k < LITERAL; k++) {
        const int magnitude = k / 2, is_negative = k % 2;
        const int index = k == 1 ? MINUS_ZERO : VCL_SEGMENT_FACTOR + (is_negative ? -magnitude : magnitude);
        const int used = f->counts[index] > 0 && levels->count < VCL_LEVELS_MOST;
        f->code_of[index] = (uint8_t)(used ? levels->count : VCL_LEVELS_MOST);
        if (used)
            levels->points[levels->count++] = is_negative ? -(float)magnitude : (float)magnitude;
    }
    f->code_of[LITERAL] = VCL_LEVELS_MOST;
}

int vcl_multiples_find(struct vcl_multiples_finder *finder, const uint8_t *raw, size_t n, uint64_t begin,
                       int offsets, size_t most, struct vcl_levels *levels)
{
    if (levels->dtype != VCL_DTYPE_F16 && levels->dtype != VCL_DTYPE_BF16 && levels->dtype != VCL_DTYPE_F32)
        return 0;
    levels->has_offsets = offsets;
    choose_rounding(levels, raw, n);
    const enum vcl_dtype rounding = levels->rounding;
    uint64_t least = 1024 * 8 * (uint64_t)most / n;
    uint32_t group = choose_group(finder, levels, raw, n, begin, &least);
    if (offsets && rounding != levels->dtype) { /* sums may be of few digits unrounded */
        levels->rounding = levels->dtype;
        const uint32_t unrounded = choose_group(finder, levels, raw, n, begin, &least);
        group = unrounded ? unrounded : group;
        levels->rounding = unrounded ? levels->dtype : rounding;
    }
    if (group == 0)
        return 0;
    use_group(levels, group, begin);
    choose_hypotheses(finder, levels, raw, n);
    find_all_scales(finder, levels, raw, n);
    if (offsets && levels->rounding != VCL_DTYPE_F32)
        snap_all(finder, levels, raw, n, begin / group);
    count_all_factors(finder, levels, raw, n);
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
