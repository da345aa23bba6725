/* segment.h - step 7, lossless: the scale of a segment's values, and their offset, from these values. */
#ifndef VCL_SEGMENT_H
#define VCL_SEGMENT_H

#include "codec/levels.h"

enum {
    VCL_SEGMENT_FACTOR = 127, /* the largest integer a scale is multiplied by */
    VCL_SEGMENT_POINTS = 255,
    VCL_SEGMENT_PLACE_BITS = 9
};

/* The values of a segment that differ, or their magnitudes without 0, ascending, and the interval that
 * rounds to each. */
struct vcl_segment {
    uint32_t most_misfits;
    uint32_t misfits; /* values that are no number, or one too many */
    unsigned count;
    uint8_t places[1 << VCL_SEGMENT_PLACE_BITS]; /* of the points, from 1 on, by their hash */
    int32_t bits[VCL_SEGMENT_POINTS];            /* of the magnitude, negative below 0 */
    uint32_t times[VCL_SEGMENT_POINTS];
    double value[VCL_SEGMENT_POINTS], low[VCL_SEGMENT_POINTS], high[VCL_SEGMENT_POINTS];
};

struct vcl_bounds {
    double low, high;
};

struct vcl_fit {
    unsigned factor; /* the largest, or the span of all; 0: none */
    uint32_t misfits;
    unsigned digits; /* of the scale and the offset */
    float scale, offset;
    struct vcl_bounds scales; /* that would do as well */
};

/* A value's magnitude in the bits of the dtype that products are rounded to; infinite if it is not one of
 * that dtype's. */
uint32_t vcl_segment_magnitude(const struct vcl_levels *levels, const uint8_t *p);
uint32_t vcl_segment_infinity(enum vcl_dtype dtype);

/* n values of which one in 2^`spare` may be what it likes; magnitudes, or signed where scales have
 * offsets. */
void vcl_segment_read(struct vcl_segment *s, const struct vcl_levels *levels, const uint8_t *raw, size_t n,
                      unsigned spare);

/* Takes one magnitude for `factor` times a scale: what is left of the scale's interval after all others, if
 * no more than most_misfits values find no factor of their own. */
int vcl_segment_fit(const struct vcl_segment *s, unsigned point, unsigned factor, struct vcl_fit *fit);

/* Every value as one of 0 to `most` times a scale, plus an offset.  The least of them has factor 0, or, with
 * `shift`, whichever gives the simplest offset. */
struct vcl_fit vcl_segment_fit_line(const struct vcl_segment *s, unsigned most, int shift);

/* The offsets that give the values with `scale` and the factors that `scale` and `offset` of *fit give.  The
 * simplest of them is *offset; 0 if there is none. */
int vcl_segment_fit_offset(const struct vcl_segment *s, const struct vcl_fit *fit, float scale,
                           struct vcl_bounds *offsets, float *offset);

#endif
