/* shares.c - Lagrange's multiplier, by bisection: the price of a bit at which the budget is spent. */
#include <math.h>

#include "shares.h"

static const double GRID = 1.0 / 64; /* bits */

double vcl_curve_error(const struct vcl_curve *curve, double bits)
{
    size_t i = 1;
    if (bits <= curve->bits[0] || curve->count == 1)
        return curve->error[0] * (bits > curve->bits[0] ? exp2(2 * (curve->bits[0] - bits)) : 1);
    while (i + 1 < curve->count && curve->bits[i] < bits)
        i++;
    if (bits > curve->bits[i])
        return curve->error[i] * exp2(2 * (curve->bits[i] - bits));
    const double part = (bits - curve->bits[i - 1]) / (curve->bits[i] - curve->bits[i - 1]);
    return curve->error[i - 1] * pow(curve->error[i] / curve->error[i - 1], part);
}

/* The bits at which one value's error and rate cost least together. */
static double best_bits(const struct vcl_share *share, double price)
{
    double best = share->least, least = INFINITY;
    for (double bits = share->least; bits <= VCL_MOST_BITS; bits += GRID) {
        const double sum = share->cost * vcl_curve_error(&share->curve, bits) + price * bits;
        if (sum < least) {
            least = sum;
            best = bits;
        }
    }
    return best;
}

static double spend(struct vcl_share *shares, size_t count, double price)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        shares[i].bits = best_bits(&shares[i], price);
        sum += shares[i].values * shares[i].bits;
    }
    return sum;
}

int vcl_share_out(struct vcl_share *shares, size_t count, double budget)
{
    double low = -200, high = 200, values = 0; /* log2 of the price */
    if (spend(shares, count, exp2(high)) > budget)
        return 0;
    for (int i = 0; i < 60; i++) {
        const double middle = (low + high) / 2;
        if (spend(shares, count, exp2(middle)) > budget)
            low = middle;
        else
            high = middle;
    }
    const double left = budget - spend(shares, count, exp2(high));
    for (size_t i = 0; i < count; i++)
        values += shares[i].values;
    for (size_t i = 0; i < count; i++) /* less than a step of the grid */
        shares[i].bits = fmin(shares[i].bits + fmin(left / values, GRID), VCL_MOST_BITS);
    return 1;
}
