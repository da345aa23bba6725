/* levels.c - step 7, lossless: what the codes of a tile of few levels stand for.
 *
 * In: codes.  Out: values: those of a palette, or the f32 products of a level and the scale of a row or
 * group, plus its offset where there are offsets, rounded to the dtype.  palette.c and multiples.c find the
 * levels. */
#include "levels.h"

#include "base/common.h"
#include "base/dtype.h"

enum { CHUNK = 256 };

size_t vcl_levels_segments(const struct vcl_levels *levels, size_t n)
{
    return n > levels->first ? 1 + (size_t)vcl_ceil_div(n - levels->first, levels->group) : 1;
}

size_t vcl_levels_begin(const struct vcl_levels *levels, size_t segment, size_t n)
{
    return segment ? (size_t)vcl_min(levels->first + (uint64_t)(segment - 1) * levels->group, n) : 0;
}

void vcl_levels_round(const struct vcl_levels *levels, float *y, size_t n, uint8_t *dst)
{
    uint8_t narrow[2 * CHUNK];
    for (size_t at = 0; levels->rounding != levels->dtype && at < n; at += CHUNK) {
        const size_t count = (size_t)vcl_min(n - at, CHUNK);
        vcl_from_f32(levels->rounding, y + at, narrow, count);
        vcl_to_f32(levels->rounding, narrow, y + at, count);
    }
    vcl_from_f32(levels->dtype, y, dst, n);
}

static void look_up(const uint8_t *palette, unsigned width, const uint8_t *codes, size_t n, uint8_t *dst)
{
    switch (width) {
    case 1:
        for (size_t i = 0; i < n; i++)
            dst[i] = palette[codes[i]];
        break;
    case 2:
        for (size_t i = 0; i < n; i++)
            memcpy(dst + 2 * i, palette + 2 * codes[i], 2);
        break;
    case 4:
        for (size_t i = 0; i < n; i++)
            memcpy(dst + 4 * i, palette + 4 * codes[i], 4);
        break;
    default:
        for (size_t i = 0; i < n; i++)
            memcpy(dst + 8 * i, palette + 8 * codes[i], 8);
    }
}

/* Values of one segment: each level times the scale once, or each value where those are fewer. */
static void multiply(const struct vcl_levels *levels, size_t segment, const uint8_t *codes, size_t n,
                     uint8_t *dst)
{
    float y[CHUNK];
    uint8_t palette[4 * CHUNK];
    const float scale = levels->scales[segment];
    const int is_each = n <= levels->count;
    const size_t products = is_each ? n : levels->count + 1;
    memcpy(y, levels->points, products * sizeof *y);
    for (size_t i = 0; is_each && i < n; i++)
        y[i] = levels->points[codes[i]];
    for (size_t i = 0; i < products; i++)
        y[i] *= scale;
    for (size_t i = 0; levels->has_offsets && i < products; i++)
        y[i] += levels->offsets[segment];
    vcl_levels_round(levels, y, products, is_each ? dst : palette);
    if (!is_each)
        look_up(palette, levels->width, codes, n, dst);
}

void vcl_levels_values(const struct vcl_levels *levels, const uint8_t *codes, size_t begin, size_t count,
                       uint8_t *dst)
{
    if (!levels->group)
        look_up(levels->palette, levels->width, codes, count, dst);
    for (size_t at = 0, next; levels->group && at < count; at = next) {
        const size_t place = begin + at;
        const size_t segment = place < levels->first ? 0 : 1 + (place - levels->first) / levels->group;
        next = vcl_levels_begin(levels, segment + 1, begin + count) - begin;
        multiply(levels, segment, codes + at, next - at, dst + at * levels->width);
    }
}
