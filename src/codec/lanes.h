/* lanes.h - step 7: the trellis' indices to bytes, by rANS in interleaved lanes. */
#ifndef VCL_LANES_H
#define VCL_LANES_H

#include "kernels/kernels.h"

/* How the values of a tile are coded; shared by both directions. */
struct vcl_lanes {
    const struct vcl_kernels *kernels;
    int v;               /* trellis state bits */
    int lanes;           /* 8 or 32 */
    int low_from;        /* the first class whose indices have low bits; VCL_MODEL_CLASSES: none in use has */
    uint32_t rows, cols; /* of the tile */
    const int8_t *row_class; /* rows of them */
    const int8_t *col_class; /* cols of them; NULL: all 0 */
    const uint32_t *codes;   /* encoding, by class: vcl_model_codes */
    const uint32_t *slots;   /* decoding, by class: vcl_model_slots */
};

/* The rows from first_row on, a multiple of lanes. */
struct vcl_stripe vcl_lanes_stripe(const struct vcl_lanes *t, uint32_t first_row);

/* Most bytes that `count` parts take, which are coded one after the other by the same lanes: a tile is one. */
size_t vcl_lanes_bound(const struct vcl_lanes *parts, size_t count);

/* j: part by part, stripe by stripe, [column][lane].  Returns the bytes written to dst. */
size_t vcl_lanes_encode(const struct vcl_lanes *parts, size_t count, const int16_t *j, uint8_t *dst);

/* Decoding: open, kernels->decode_columns over every stripe (vcl_lanes_begin before each), close.  open and
 * close give 0 if the bytes are no such stream; of the parts they look at the lanes alone. */
int vcl_lanes_open(const struct vcl_lanes *t, const uint8_t *src, size_t bytes, struct vcl_lanes_reader *r);
void vcl_lanes_begin(struct vcl_lanes_reader *r);
int vcl_lanes_close(const struct vcl_lanes *t, const struct vcl_lanes_reader *r);

#endif
