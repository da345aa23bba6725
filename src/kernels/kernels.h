/* kernels.h - every hot loop behind one struct of pointers, one struct per level of CPU.
 *
 * The portable C functions are the definition; the others give the same results, bit for bit, and differ
 * in time only.  tests/test_lossless.c, test_trellis.c and test_product.c compare them. */
#ifndef VCL_KERNELS_H
#define VCL_KERNELS_H

#include "base/cpu.h"
#include "kernels/lossless_loops.h"
#include "kernels/mix_loops.h"
#include "kernels/product_loops.h"
#include "kernels/tensor_loops.h"
#include "kernels/values_loops.h"

#include <stddef.h>
#include <stdint.h>

struct vcl_kernels {
    enum vcl_cpu_level level;

    /* n values of a float dtype to f32 (vcl_to_f32); their comparison (vcl_compare); the sum of x^2, times
     * weight where that is not NULL. */
    void (*to_f32)(enum vcl_dtype dtype, const void *src, float *dst, size_t n);
    void (*compare)(enum vcl_dtype dtype, const void *x, const void *y, size_t n,
                    struct vcl_error_sums *sums);
    double (*energy)(const float *x, const double *weight, size_t n);

    /* n values to and from `width` planes, the most significant byte first. */
    void (*split)(const struct vcl_plane_split *how, const uint8_t *src, size_t n, uint8_t *const *planes);
    void (*join)(const struct vcl_plane_split *how, const uint8_t *const *planes, size_t n, uint8_t *dst);

    /* Groups of VCL_PACK_GROUP bytes without their highest bit: of eight rows of 64 seven are stored, and the
     * eighth is spread over their highest bits. */
    void (*pack)(const uint8_t *src, size_t groups, uint8_t *dst);
    void (*unpack)(const uint8_t *src, size_t groups, uint8_t *dst);

    /* Of n bytes; n is not 0. */
    void (*range)(const uint8_t *src, size_t n, struct vcl_byte_range *range);

    /* Sums of blocks of 256 bytes. */
    void (*sum_blocks)(const uint8_t *src, size_t blocks, uint32_t *sums);

    /* Codes n symbols backwards; the words go below `end`, where 2n + 16 bytes are free.  Returns where
     * the words begin. */
    uint8_t *(*rans_encode)(uint32_t *states, const uint8_t *src, size_t n, const uint32_t *table,
                            uint8_t *end);
    /* Decodes n symbols.  Returns where the words left begin; NULL if more would be needed than there
     * are before `end`. */
    const uint8_t *(*rans_decode)(uint32_t *states, const uint8_t *words, const uint8_t *end,
                                  const uint32_t *table, uint8_t *dst, size_t n);

    /* 1 as it must be; 0 where the loops were compiled without -ffp-contract=off. */
    int (*rounds_products)(void);

    /* Indices of `count` columns from column `first` on, [column][lane]; lanes without a row become 0.
     * Sets r->damaged where bytes run out. */
    void (*decode_columns)(const struct vcl_stripe *t, struct vcl_lanes_reader *r, uint32_t first,
                           uint32_t count, int16_t *j);
    /* The indices of a whole stripe, last column first. */
    void (*encode_stripe)(const struct vcl_stripe *t, struct vcl_lanes_writer *w, const int16_t *j);

    /* A stripe's rows of x, `stride` values apart, to u[column][lane]; lanes without a row become 0. */
    void (*load_rows)(const struct vcl_stripe *t, const struct vcl_scaling *scaling, const float *x,
                      size_t stride, float *u);
    /* Indices of `count` columns from column `first` on to values, in rows `stride` values apart. */
    void (*store_rows)(const struct vcl_stripe *t, const struct vcl_points *points, const int16_t *j,
                       uint32_t first, uint32_t count, void *dst, size_t stride);

    /* The path of least squared error and cost through a stripe; scratch: vcl_trellis_scratch. */
    void (*search)(const struct vcl_stripe *t, const float *u, uint32_t *scratch, int16_t *j);
    /* The same with error feedback; u becomes what was aimed at.  scratch: vcl_feedback_scratch. */
    void (*search_feedback)(const struct vcl_stripe *t, const struct vcl_feedback *feedback, float *u,
                            void *scratch, int16_t *j);

    /* Products (product_loops.h has the order of additions).  Columns from `first` on, decoded: times x,
     * by column, added to the 32 sums y; or their values to w[column][lane].  Whole blocks only, up to
     * `count`, and none where a loop of its own does not pay (fewer rows than lanes, low bits, means, few
     * words left): returns how many columns. */
    uint32_t (*multiply_blocks)(const struct vcl_stripe *t, struct vcl_lanes_reader *r,
                                const struct vcl_point_values *values, uint32_t first, uint32_t count,
                                const float *x, float *y);
    uint32_t (*decode_blocks)(const struct vcl_stripe *t, struct vcl_lanes_reader *r,
                              const struct vcl_point_values *values, uint32_t first, uint32_t count,
                              float *w);
    /* 32 lanes of indices, of `count` columns from column `first` on, to values. */
    void (*find_values)(const struct vcl_point_values *values, const int16_t *j, uint32_t first,
                        uint32_t count, float *w);
    /* y[v][o] += the sum over k < terms of w[k][o] x[k][v], block by block, for v < width (8, 4, 2 or 1) and
     * o < outputs (32 or less).  Rows of w are `stride` values apart and can be read to 32 values, those of
     * x have width values, those of y are y_stride apart. */
    void (*multiply_panel)(const float *w, size_t stride, uint32_t terms, const float *x, uint32_t width,
                           uint32_t outputs, float *y, size_t y_stride);
    /* dst[c][r] = src[r][c] */
    void (*turn)(const float *src, size_t src_stride, uint32_t rows, uint32_t cols, float *dst,
                 size_t dst_stride);

    /* y[r][c] += x[r][i] a[i][c], i from 0 on, passing over those where x[r][i] is 0 (mix_loops.h). */
    void (*mix)(const struct vcl_mix *m, const float *x, size_t x_stride, size_t rows, float *y,
                size_t y_stride);
};

/* The level must be one the machine has. */
const struct vcl_kernels *vcl_kernels_for(enum vcl_cpu_level level);

#endif
