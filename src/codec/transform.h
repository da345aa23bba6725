/* transform.h - step 3: a DCT down the columns, along the rows, or both. */
#ifndef VCL_TRANSFORM_H
#define VCL_TRANSFORM_H

#include <stdint.h>

/* log2 of the transform's length on either axis, 2 to 8, or 0 for none. */
struct vcl_transform {
    unsigned down, along;
};

static inline int vcl_transform_exists(struct vcl_transform t)
{
    return (t.down == 0 || (t.down >= 2 && t.down <= 8)) && (t.along == 0 || (t.along >= 2 && t.along <= 8));
}

/* A tile of rows x cols in place, block by block from its first row and column on; what is left over at the
 * end stays as it is. */
void vcl_transform_tile(struct vcl_transform t, float *x, uint32_t rows, uint32_t cols);
void vcl_transform_tile_back(struct vcl_transform t, float *x, uint32_t rows, uint32_t cols);

#endif
