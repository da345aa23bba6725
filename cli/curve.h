/* curve.h - what a tensor's coder leaves of it at how many bits, from a sample of its values. */
#ifndef VCL_CURVE_H
#define VCL_CURVE_H

#include "choose.h"
#include "allot/shares.h"
#include "work.h"

/* Codes a sample of each of the `count` entries listed at VCL_CURVE_POINTS - 1 rates and fills in their
 * curves, on all threads.  Returns an exit code. */
int vcl_curves_measure(const struct vcl_model *model, const struct vcl_choice *choices,
                       const struct vcl_params *params, const size_t *entries, size_t count,
                       struct vcl_curve *curves, struct vcl_work *work);

#endif
