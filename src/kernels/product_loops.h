/* product_loops.h - the loops of products with coded matrices: what they take, and their portable definition.
 *
 * The order of additions is the same for every matrix, CPU and number of threads: products are added up in
 * sequence in blocks of VCL_BLOCK terms, from 0 on, and what a block comes to is added to the result.  So the
 * lanes of a vector are outputs, never terms of one sum, and nothing is reduced across them. */
#ifndef VCL_PRODUCT_LOOPS_H
#define VCL_PRODUCT_LOOPS_H

#include "kernels/tensor_loops.h"

enum {
    VCL_BLOCK = 32, /* and outputs side by side, as many as a stripe has lanes */
    VCL_GROUP = 8,  /* vectors multiplied side by side: groups are of 8, 4, 2 or 1 */
    VCL_NEAR = 32   /* points -32 ... 31 are looked up, or the half of them nearest to 0 */
};

/* How the indices of a tile become values, as decoding makes them: the point of j times its column's step,
 * plus the column's mean, rounded to the dtype.  Points stand at j & 63; those beyond are on the lattice, and
 * unless `moved` so are all beyond -16 ... 15.  No value is beyond the dtype's range (the caller sees to
 * it). */
struct vcl_point_values {
    float point[2 * VCL_NEAR];
    const float (*values)[2 * VCL_NEAR]; /* the same as values: a table for every step, without means */
    const uint8_t *table;                /* by column of the tile: which of them; NULL: the first */
    int wide;                            /* points beyond -16 ... 15 are not rare */
    int moved;                           /* and some of them are moved */
    const float *steps, *means;          /* by column of the tile; means may be NULL */
    enum vcl_dtype dtype;                /* F16, BF16, or F32 for no rounding */
};

#define VCL_PRODUCT_LEVEL(LEVEL, L, has)                                                                    \
    uint32_t vcl_multiply_blocks_##L(const struct vcl_stripe *t, struct vcl_lanes_reader *r,                \
                                     const struct vcl_point_values *values, uint32_t first, uint32_t count, \
                                     const float *x, float *y);                                             \
    uint32_t vcl_decode_blocks_##L(const struct vcl_stripe *t, struct vcl_lanes_reader *r,                  \
                                   const struct vcl_point_values *values, uint32_t first, uint32_t count,   \
                                   float *w);                                                               \
    void vcl_find_values_##L(const struct vcl_point_values *values, const int16_t *j, uint32_t first,       \
                             uint32_t count, float *w);                                                     \
    void vcl_multiply_panel_##L(const float *w, size_t stride, uint32_t terms, const float *x,              \
                                uint32_t width, uint32_t outputs, float *y, size_t y_stride);               \
    void vcl_turn_##L(const float *src, size_t src_stride, uint32_t rows, uint32_t cols, float *dst,        \
                      size_t dst_stride);

VCL_CPU_LEVELS(VCL_PRODUCT_LEVEL)

#endif
