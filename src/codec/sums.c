/* sums.c - sums over rows of a tile, the same to the last bit on every CPU.
 *
 * Sixteen sums side by side: a compiler may use vectors of any width for them, and the additions are the
 * same. */
#include "sums.h"

#include <math.h>

enum { SIDE_BY_SIDE = 16 };

float vcl_absmax(const float *x, size_t n)
{
    float max[SIDE_BY_SIDE] = { 0 };
    size_t i = 0;
    for (; i + SIDE_BY_SIDE <= n; i += SIDE_BY_SIDE)
        for (size_t k = 0; k < SIDE_BY_SIDE; k++)
            max[k] = fabsf(x[i + k]) > max[k] ? fabsf(x[i + k]) : max[k];
    for (; i < n; i++)
        max[0] = fabsf(x[i]) > max[0] ? fabsf(x[i]) : max[0];
    for (size_t k = 1; k < SIDE_BY_SIDE; k++)
        max[0] = max[k] > max[0] ? max[k] : max[0];
    return max[0];
}

static double add_up(const double sums[SIDE_BY_SIDE])
{
    double sum = 0;
    for (size_t k = 0; k < SIDE_BY_SIDE; k++)
        sum += sums[k];
    return sum;
}

double vcl_energy(const float *x, size_t n)
{
    double sums[SIDE_BY_SIDE] = { 0 };
    size_t i = 0;
    for (; i + SIDE_BY_SIDE <= n; i += SIDE_BY_SIDE)
        for (size_t k = 0; k < SIDE_BY_SIDE; k++)
            sums[k] += (double)x[i + k] * x[i + k];
    for (; i < n; i++)
        sums[i % SIDE_BY_SIDE] += (double)x[i] * x[i];
    return add_up(sums);
}

double vcl_weighted_energy(const float *x, const double *weight, size_t n)
{
    double sums[SIDE_BY_SIDE] = { 0 };
    size_t i = 0;
    for (; i + SIDE_BY_SIDE <= n; i += SIDE_BY_SIDE)
        for (size_t k = 0; k < SIDE_BY_SIDE; k++)
            sums[k] += (double)x[i + k] * x[i + k] * weight[i + k];
    for (; i < n; i++)
        sums[i % SIDE_BY_SIDE] += (double)x[i] * x[i] * weight[i];
    return add_up(sums);
}
