/* snap.c - step 7, lossless: scales and offsets that are integers times a scale of their own.
 *
 * In: for every number the interval that it may come from, as rounded values leave it.  Out: numbers within,
 * which are integers times a scale for each run of 8 or 16, if they were made so: those of ggml's K-quants.
 * A number of few digits costs fewer bits alone, but one of six bits and a share of a scale costs still
 * less. */
#include "snap.h"

#include "base/common.h"

enum {
    SPARE = 3,       /* one number in 2^3 may be what it likes */
    MOST_FACTOR = 63 /* more would fit anything that bf16 leaves room for */
};

/* The bounds of a magnitude; 0 where a number may be 0. */
static struct vcl_bounds magnitudes(const struct vcl_bounds *b)
{
    if (b->low > 0)
        return *b;
    return b->high < 0 ? (struct vcl_bounds){ -b->high, -b->low } : (struct vcl_bounds){ 0, 0 };
}

/* A run's magnitudes as points, ascending. */
static void read_run(struct vcl_segment *s, const struct vcl_bounds *bounds, size_t n)
{
    s->count = s->misfits = 0;
    s->most_misfits = (uint32_t)(n >> SPARE);
    for (size_t i = 0; i < n; i++) {
        const struct vcl_bounds b = magnitudes(&bounds[i]);
        const double value = (b.low + b.high) / 2;
        unsigned at = s->count;
        if (b.high == 0)
            continue;
        for (; at > 0 && s->value[at - 1] > value; at--) {
            s->value[at] = s->value[at - 1];
            s->low[at] = s->low[at - 1];
            s->high[at] = s->high[at - 1];
        }
        s->value[at] = value;
        s->low[at] = b.low;
        s->high[at] = b.high;
        s->times[s->count++] = 1;
    }
}

/* The number within the bounds that is an integer times the scale; 0 if there is none. */
static int snap_number(const struct vcl_bounds *bounds, float scale, float *number)
{
    const struct vcl_bounds b = magnitudes(bounds);
    const double ratio = (b.low + b.high) / 2 / scale;
    if (!(ratio < MOST_FACTOR + .5))
        return 0;
    const float product = (float)(unsigned)(ratio + .5) * scale;
    if (product < b.low || product > b.high)
        return 0;
    *number = bounds->high < 0 ? -product : product;
    return 1;
}

static size_t snap_run(struct vcl_segment *work, const struct vcl_bounds *bounds, size_t n, float *numbers)
{
    struct vcl_fit fit = { .scale = 1 };
    size_t count = 0;
    read_run(work, bounds, n);
    for (unsigned factor = 1; work->count > 0 && factor <= MOST_FACTOR && fit.factor == 0; factor++)
        vcl_segment_fit(work, work->count - 1, factor, &fit);
    for (size_t i = 0; i < n && (fit.factor > 0 || work->count == 0); i++)
        count += (size_t)snap_number(&bounds[i], fit.scale, &numbers[i]);
    return count;
}

size_t vcl_snap(struct vcl_segment *work, const struct vcl_bounds *bounds, size_t n, size_t first,
                unsigned length, float *numbers)
{
    size_t count = 0, next;
    for (size_t at = 0; at < n; at = next) {
        next = (size_t)vcl_min(at > 0 ? at + length : first, n);
        count += snap_run(work, bounds + at, next - at, numbers + at);
    }
    return count;
}
