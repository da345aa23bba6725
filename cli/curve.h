/* curve.h - what a tensor's coder leaves of it at how many bits, from a sample of its values. */
#ifndef VCL_CURVE_H
#define VCL_CURVE_H

#include "allocate.h"
#include "allot/shares.h"

/* Codes a sample of each of the `count` entries listed at VCL_CURVE_POINTS - 1 rates and fills in their
 * curves, on all threads.  What fails has been said. */
enum vcl_status vcl_curves_measure(const struct vcl_allocation *allocation, const struct vcl_model *model,
                                   const struct vcl_choice *choices, const struct vcl_params *params,
                                   const size_t *entries, size_t count, struct vcl_curve *curves,
                                   struct vcl_work *work);

#endif
