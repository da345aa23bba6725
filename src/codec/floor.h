/* floor.h - stage 3: steps by row for tensors whose rows count each by itself. */
#ifndef VCL_FLOOR_H
#define VCL_FLOOR_H

#include "codec/plan.h"

struct vcl_encoder;
struct vcl_tile_work;

/* Of every row of the tensor, which is a column of the transpose that is coded. */
struct vcl_floor {
    int16_t *size;          /* its deviation in quarter octaves; the least number for a row of zeros */
    int16_t *most;          /* the coarsest step that keeps it above the floor, in the same unit */
    int16_t *step;          /* the step it wants */
    double *signal, *error; /* sums of squares, of the last pass over the whole */
    int all;                /* every row has its coarsest: there are no bits to do better */
};

/* Can rows have a floor: is a row of the coded matrix a row of the tensor? */
int vcl_floor_fits(const struct vcl_tensor *tensor);

/* Measures all rows, the first time, and decides on their steps. */
enum vcl_status vcl_floor_begin(struct vcl_encoder *e);
enum vcl_status vcl_floor_choose(struct vcl_encoder *e);
void vcl_floor_free(struct vcl_encoder *e);

/* A pass over the whole: forgets the last one; sums of a tile just coded, to work, and from there to all. */
void vcl_floor_forget(struct vcl_encoder *e);
void vcl_floor_sum(const struct vcl_encoder *e, struct vcl_rect rect, struct vcl_tile_work *work);
void vcl_floor_add(struct vcl_encoder *e, struct vcl_rect rect, const struct vcl_tile_work *work);

/* SNR of the worst row that is not all 0, in dB; INFINITY where there is none. */
double vcl_floor_worst(const struct vcl_encoder *e);
/* Where rows came out below the floor and finer steps can mend that: takes them, and returns 1. */
int vcl_floor_raise(struct vcl_encoder *e);

#endif
