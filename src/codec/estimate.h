/* estimate.h - what a unit of a tensor (plan.h) would take, told without coding it. */
#ifndef VCL_ESTIMATE_H
#define VCL_ESTIMATE_H

#include "codec/plan.h"
#include "kernels/kernels.h"

/* x: rect's values, VCL_UNIT_ROWS rows at most.  col: scratch of rect.cols. */

/* The step at which they would take so many bits each, as far as energies tell; 0 if all are 0. */
double vcl_estimate_step(const struct vcl_kernels *kernels, const float *x, struct vcl_rect rect, double bits,
                         double *col);
/* Bits they take together at a step, and their squared error in steps. */
double vcl_estimate_indices(const struct vcl_kernels *kernels, const float *x, struct vcl_rect rect,
                            double step, double *col, double *error);
/* The same bits, at the error of a uniform quantiser: fewer where the error is less. */
double vcl_estimate_bits(const struct vcl_kernels *kernels, const float *x, struct vcl_rect rect, double step,
                         double *col);

#endif
