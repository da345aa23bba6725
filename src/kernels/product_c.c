/* product_c.c - the loops of products with coded matrices in portable C: the definition.
 *
 * Blocks of columns are only fused where that is worth it: here all go the way of the others' last ones,
 * through indices, values and multiply_panel. */
#include "kernels/product_loops.h"

#include "base/common.h"
#include "base/dtype.h"

uint32_t vcl_multiply_blocks_c(const struct vcl_stripe *t, struct vcl_lanes_reader *r,
                               const struct vcl_point_values *values, uint32_t first, uint32_t count,
                               const float *x, float *y)
{
    (void)t, (void)r, (void)values, (void)first, (void)count, (void)x, (void)y;
    return 0;
}

uint32_t vcl_decode_blocks_c(const struct vcl_stripe *t, struct vcl_lanes_reader *r,
                             const struct vcl_point_values *values, uint32_t first, uint32_t count, float *w)
{
    (void)t, (void)r, (void)values, (void)first, (void)count, (void)w;
    return 0;
}

void vcl_find_values_c(const struct vcl_point_values *values, const int16_t *j, uint32_t first,
                       uint32_t count, float *w)
{
    for (uint32_t c = first; c < first + count; c++, j += VCL_STRIPE_LANES, w += VCL_STRIPE_LANES) {
        const float step = values->steps[c], mean = values->means ? values->means[c] : 0;
        uint16_t narrow[VCL_STRIPE_LANES];
        for (int l = 0; l < VCL_STRIPE_LANES; l++) {
            const int near = j[l] >= -VCL_NEAR && j[l] < VCL_NEAR;
            const float point = near ? values->point[j[l] & (2 * VCL_NEAR - 1)] : (float)j[l];
            w[l] = values->means ? point * step + mean : point * step;
        }
        if (values->dtype != VCL_DTYPE_F32) {
            vcl_from_f32(values->dtype, w, narrow, VCL_STRIPE_LANES);
            vcl_to_f32(values->dtype, narrow, w, VCL_STRIPE_LANES);
        }
    }
}

static void multiply_block(const float *w, size_t stride, uint32_t terms, const float *x, uint32_t width,
                           uint32_t outputs, float *y)
{
    float sum[VCL_BLOCK] = { 0 };
    for (uint32_t k = 0; k < terms; k++)
        for (uint32_t o = 0; o < VCL_BLOCK; o++)
            sum[o] += w[k * stride + o] * x[k * width];
    for (uint32_t o = 0; o < outputs; o++)
        y[o] += sum[o];
}

void vcl_multiply_panel_c(const float *w, size_t stride, uint32_t terms, const float *x, uint32_t width,
                          uint32_t outputs, float *y, size_t y_stride)
{
    for (uint32_t v = 0; v < width; v++)
        for (uint32_t k = 0; k < terms; k += VCL_BLOCK)
            multiply_block(w + k * stride, stride, terms - k < VCL_BLOCK ? terms - k : VCL_BLOCK,
                           x + (size_t)k * width + v, width, outputs, y + v * y_stride);
}

void vcl_turn_c(const float *src, size_t src_stride, uint32_t rows, uint32_t cols, float *dst,
                size_t dst_stride)
{
    for (uint32_t c = 0; c < cols; c++)
        for (uint32_t r = 0; r < rows; r++)
            dst[c * dst_stride + r] = src[r * src_stride + c];
}
