/* shares.h - a budget of bits shared out over tensors. */
#ifndef VCL_RUN_SHARES_H
#define VCL_RUN_SHARES_H

#include <stddef.h>

enum { VCL_CURVE_POINTS = 12 };

/* What a tensor's coder leaves: mean squared error by bits a value, both rising and falling. */
struct vcl_curve {
    size_t count; /* at least 1 */
    double bits[VCL_CURVE_POINTS], error[VCL_CURVE_POINTS];
};
/* Logarithms of the error interpolated; 6.02 dB a bit beyond the last point, the first point's before the
 * first. */
double vcl_curve_error(const struct vcl_curve *curve, double bits);

struct vcl_share {
    double values;
    double cost; /* of a unit of squared error, summed over the values */
    struct vcl_curve curve;
    double least; /* bits a value that it takes at least */
    double bits;  /* result: a value, at most VCL_MOST_BITS */
};
#define VCL_MOST_BITS 12.0

/* Shares for which the sum of cost values error(bits) is least and that of values bits at most `budget`:
 * at all of them one more bit a value saves the same.  0 where the budget is below the least. */
int vcl_share_out(struct vcl_share *shares, size_t count, double budget);

#endif
