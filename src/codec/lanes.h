/* lanes.h - stage 6: the trellis' indices to bytes, by rANS in interleaved lanes. */
#ifndef VCL_LANES_H
#define VCL_LANES_H

#include <stddef.h>
#include <stdint.h>

#include "codec/model.h"

/* How the values of a tile are coded; shared by both directions. */
struct vcl_lanes {
    int v;                          /* trellis state bits */
    int lanes;                      /* 8 or 32 */
    unsigned shift;                 /* low bits of k kept out of the model */
    uint32_t rows, cols;            /* of the tile */
    const int8_t *row_class;        /* rows of them */
    const int8_t *col_class;        /* cols of them */
    const struct vcl_model *models; /* by class */
    const uint32_t *slots;          /* decoding: VCL_MODEL_CLASSES x 2048; vcl_model_slots */
};

static inline int vcl_lanes_class(const struct vcl_lanes *t, uint32_t row, uint32_t col)
{
    const int class = t->row_class[row] + t->col_class[col];
    return class < 0 ? 0 : class >= VCL_MODEL_CLASSES ? VCL_MODEL_CLASSES - 1 : class;
}

/* Most bytes a tile takes. */
size_t vcl_lanes_bound(const struct vcl_lanes *t);

/* j: stripe by stripe, [column][lane].  Returns the bytes written to dst. */
size_t vcl_lanes_encode(const struct vcl_lanes *t, const int16_t *j, uint8_t *dst);

/* Back; 0 if the bytes are no such stream.  j as above; lanes beyond the last row are 0. */
int vcl_lanes_decode(const struct vcl_lanes *t, const uint8_t *src, size_t bytes, int16_t *j);

#endif
