/* tensor.h - steps 2 to 7 of the tensor codec on one tile. */
#ifndef VCL_TENSOR_H
#define VCL_TENSOR_H

#include "codec/lanes.h"
#include "codec/tables.h"

/* Larger values, in half-steps, are listed with the non-finite ones. */
enum { VCL_INDEX_MAX = 30000 };

/* Bits of trellis state with which an encoder may replace a scalar quantiser that does badly. */
enum { VCL_RESCUE_STATES = 3 };

/* One thread's buffers. */
struct vcl_tensor_work {
    float *u;
    int16_t *j;
    void *scratch, *feedback_scratch;
    int8_t *row_class;
};

enum { VCL_COUNTED_POINTS = 2 * VCL_MOVED_POINTS + 2 };

/* What a pass tells the next one. */
struct vcl_tensor_counts {
    uint32_t symbols[VCL_MODEL_CLASSES][2 * VCL_MODEL_SYMBOLS];
    double error;                    /* sum of squared errors in half-steps */
    double move[VCL_COUNTED_POINTS]; /* sum of u - j by j, from -VCL_MOVED_POINTS - 1 on */
    uint64_t seen[VCL_COUNTED_POINTS];
};

enum vcl_status vcl_tensor_work_create(const struct vcl_mem *mem, const struct vcl_frame *frame, int encoding,
                                       struct vcl_tensor_work *work);
/* What feedback needs besides. */
enum vcl_status vcl_tensor_work_add_feedback(const struct vcl_mem *mem, const struct vcl_frame *frame,
                                             struct vcl_tensor_work *work);
void vcl_tensor_work_destroy(const struct vcl_mem *mem, struct vcl_tensor_work *work);

void vcl_tensor_counts_add(struct vcl_tensor_counts *sum, const struct vcl_tensor_counts *counts);

/* The stages before the quantiser on a tile's values, in place: means off; then transform, columns to one step.
 * And what is left to do with decoded values: transform back, means on. */
void vcl_tensor_center(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                       struct vcl_rect rect, float *x);
void vcl_tensor_prepare(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                        struct vcl_rect rect, float *x);
void vcl_tensor_restore(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                        struct vcl_rect rect, float *x);
/* Does vcl_tensor_restore do anything? */
static inline int vcl_tensor_restores(const struct vcl_frame *frame)
{
    return frame->flags & VCL_FLAG_ANY_MEAN || frame->transform.down || frame->transform.along;
}

/* Bytes every tile takes, whatever it holds: of a state 24 bits on average, the others tell of values. */
size_t vcl_tensor_start_bytes(const struct vcl_frame *frame);

/* Most bytes a tile takes. */
size_t vcl_tensor_bound(uint32_t rows, uint32_t cols);

/* x, the tile's values, to bytes at dst; returns how many.  counts may be NULL.  y gets what the
 * decoder will make of them, kept within the finite values of dtype. */
size_t vcl_tensor_encode(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                         struct vcl_rect rect, const float *x, struct vcl_tensor_work *work, uint8_t *dst,
                         enum vcl_dtype dtype, void *y, struct vcl_tensor_counts *counts);

/* The part of it before the entropy coder: rows' classes in work->row_class, indices in j, stripe by stripe, for
 * the lanes that it returns.  scratch: room for a class list.  y may be NULL. */
struct vcl_lanes vcl_tensor_quantise(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                                     struct vcl_rect rect, const float *x, struct vcl_tensor_work *work,
                                     int16_t *j, uint8_t *scratch, enum vcl_dtype dtype, void *y,
                                     struct vcl_tensor_counts *counts);
/* And behind the entropy decoder's start; 0 if the bytes that r reads are no such tile. */
int vcl_tensor_decode_lanes(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                            struct vcl_rect rect, const int8_t *row_class, struct vcl_lanes_reader *r,
                            struct vcl_tensor_work *work, enum vcl_dtype dtype, void *dst);

/* Back; 0 if the bytes are no such tile. */
int vcl_tensor_decode(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                      struct vcl_rect rect, const uint8_t *src, size_t bytes, struct vcl_tensor_work *work,
                      enum vcl_dtype dtype, void *dst);

#endif
