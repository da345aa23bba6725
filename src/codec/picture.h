/* picture.h - step 5, video: a tile of floats as one luma picture, and back. */
#ifndef VCL_PICTURE_H
#define VCL_PICTURE_H

#include "base/common.h"
#include "codec/plan.h"
#include "video/video.h"

/* Sides of the picture that holds a tile of rows x cols values; 0 if they would pass VCL_VIDEO_MAX_SIDE. */
int vcl_picture_sides(uint32_t rows, uint32_t cols, int *width, int *height);

/* Rounds to nearest: sample = value / (step x scale of the row) + 2^(depth-1), clamped.  scales NULL =
 * all 1. */
void vcl_picture_fill(struct vcl_picture *picture, const float *x, uint32_t rows, uint32_t cols, float step,
                      const float *scales);
void vcl_picture_values(const struct vcl_picture *picture, float *x, uint32_t rows, uint32_t cols, float step,
                        const float *scales);

/* A row's scale: |x|'s maximum rounded up to the upper half of an f32, and that as a float. */
uint16_t vcl_row_scale(float absmax);
static inline float vcl_row_scale_value(uint16_t scale) { return vcl_float_from_bits((uint32_t)scale << 16); }

#endif
