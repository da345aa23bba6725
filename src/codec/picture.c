/* picture.c - step 5, video: a tile of floats as one luma picture, and back.
 *
 * In: floats and the step.  Out: samples of 8, 10 or 12 bits.  A tile that is large enough in both
 * directions is a picture as it stands; any other is wrapped into a square one, because encoders refuse
 * pictures under 64 x 64 and a tall narrow one is mostly padding.  Unused samples repeat their
 * neighbours: that is what costs least. */
#include "picture.h"

#include <math.h>

static int is_wrapped(uint32_t rows, uint32_t cols)
{
    return rows < VCL_VIDEO_MIN_SIDE || cols < VCL_VIDEO_MIN_SIDE;
}

int vcl_picture_sides(uint32_t rows, uint32_t cols, int *width, int *height)
{
    uint64_t w = cols, h = rows;
    if (is_wrapped(rows, cols)) {
        const uint64_t n = (uint64_t)rows * cols;
        for (w = VCL_VIDEO_MIN_SIDE; w * w < n; w += VCL_VIDEO_MIN_SIDE)
            ;
        h = vcl_ceil_div(n, w);
        h = h < VCL_VIDEO_MIN_SIDE ? VCL_VIDEO_MIN_SIDE : h;
    }
    *width = (int)vcl_round_up(w, 8);
    *height = (int)vcl_round_up(h, 8);
    return w <= VCL_VIDEO_MAX_SIDE && h <= VCL_VIDEO_MAX_SIDE;
}

uint16_t vcl_row_scale(float absmax)
{
    const uint32_t u = vcl_float_bits(absmax), up = (u >> 16) + ((u & 0xffff) != 0);
    return (uint16_t)(up < 0x7f80 ? up : 0x7f7f); /* the largest finite one */
}

static uint16_t round_sample(float x, double step, int half)
{
    if (step == 0)
        return (uint16_t)half;
    const double q = rint(x / step), limit = half - 1;
    return (uint16_t)(half + (int)(q > limit ? limit : q < -limit ? -limit : q));
}

static float row_step(float step, const float *scales, uint32_t row)
{
    return scales ? step * scales[row] : step;
}

/* Where value (r, c) of the tile lies in the picture. */
static size_t sample_index(const struct vcl_picture *picture, int wrapped, uint32_t cols, uint32_t r,
                           uint32_t c)
{
    return wrapped ? (size_t)r * cols + c : (size_t)r * (size_t)picture->width + c;
}

static void repeat_edges(const struct vcl_picture *picture, uint32_t rows, uint32_t cols)
{
    const size_t width = (size_t)picture->width, height = (size_t)picture->height;
    for (size_t r = 0; r < rows; r++)
        for (size_t c = cols; c < width; c++)
            picture->samples[r * width + c] = picture->samples[r * width + cols - 1];
    for (size_t r = rows; r < height; r++)
        memcpy(picture->samples + r * width, picture->samples + (rows - 1) * width, width * 2);
}

static void fill_rest(const struct vcl_picture *picture, size_t n, uint16_t sample)
{
    const size_t all = (size_t)picture->width * (size_t)picture->height;
    for (size_t i = n; i < all; i++)
        picture->samples[i] =
            i >= (size_t)picture->width ? picture->samples[i - (size_t)picture->width] : sample;
}

void vcl_picture_fill(struct vcl_picture *picture, const float *x, uint32_t rows, uint32_t cols, float step,
                      const float *scales)
{
    const int wrapped = is_wrapped(rows, cols), half = 1 << (picture->depth - 1);
    for (uint32_t r = 0; r < rows; r++) {
        const double delta = row_step(step, scales, r);
        for (uint32_t c = 0; c < cols; c++)
            picture->samples[sample_index(picture, wrapped, cols, r, c)] =
                round_sample(x[(size_t)r * cols + c], delta, half);
    }
    if (wrapped)
        fill_rest(picture, (size_t)rows * cols, (uint16_t)half);
    else
        repeat_edges(picture, rows, cols);
}

void vcl_picture_values(const struct vcl_picture *picture, float *x, uint32_t rows, uint32_t cols, float step,
                        const float *scales)
{
    const int wrapped = is_wrapped(rows, cols), half = 1 << (picture->depth - 1);
    for (uint32_t r = 0; r < rows; r++) {
        const float delta = row_step(step, scales, r);
        for (uint32_t c = 0; c < cols; c++)
            x[(size_t)r * cols + c] =
                (float)(picture->samples[sample_index(picture, wrapped, cols, r, c)] - half) * delta;
    }
}
