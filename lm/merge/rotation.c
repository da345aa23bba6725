/* rotation.c - Q = P D P: D random signs, P symmetric, orthogonal, its first column constant.
 *
 * P is the Kronecker product of the Hartley transforms of n's prime factors, cas(2 pi j k / p) / sqrt(p)
 * with cas = cos + sin; of a power of two that is the Walsh-Hadamard transform.  D begins with +1, so that
 * the vector of ones stays what it is.  P goes without its roots here: D has 1 / n.  No libm: its cosines
 * differ by CPU. */
#include <stdlib.h>
#include <string.h>

#include "common/mix.h"
#include "rotation.h"

enum { LANES = VCL_ROTATION_LANES, MOST_FACTORS = 64 };

struct vcl_rotation {
    size_t n, factors, most; /* most: the largest factor */
    size_t prime[MOST_FACTORS];
    double *cas[MOST_FACTORS]; /* [p]; NULL where p is 2 */
    double *signs;             /* over n */
};

/* Of an angle in eighths of a p-th of a turn: folded to a quarter turn, exactly, then a series. */
static double cosine(size_t eighths, size_t p)
{
    const size_t turn = 8 * p;
    size_t u = eighths % turn;
    u = u > turn - u ? turn - u : u;
    const int negative = 4 * u > turn;
    const double x = 6.283185307179586 * (double)(negative ? turn / 2 - u : u) / (double)turn;
    double sum = 1;
    for (int k = 26; k > 0; k -= 2)
        sum = 1 - x * x / (double)(k * (k - 1)) * sum;
    return negative ? -sum : sum;
}

/* cas(a) = sqrt 2 cos(a - an eighth of a turn). */
static double *make_cas(size_t p)
{
    double *cas = malloc(p * sizeof *cas);
    for (size_t m = 0; cas && m < p; m++)
        cas[m] = 1.4142135623730951 * cosine(8 * m + 7 * p, p);
    return cas;
}

static int is_negative(uint64_t seed, uint64_t i)
{
    return (int)(vcl_mix((seed << 32) + (i + 1) * VCL_MIX_STEP) >> 63);
}

static double *make_signs(size_t n, uint64_t seed)
{
    double *signs = malloc(n * sizeof *signs);
    for (size_t i = 0; signs && i < n; i++)
        signs[i] = (i && is_negative(seed, i) ? -1.0 : 1.0) / (double)n;
    return signs;
}

struct vcl_rotation *vcl_rotation_create(size_t n, uint64_t seed)
{
    struct vcl_rotation *rotation = calloc(1, sizeof *rotation);
    int good = rotation && (rotation->signs = make_signs(n, seed)) != NULL;
    for (size_t p = 2, left = n; good && left > 1; p += left % p != 0) {
        p = p * p > left && left % p ? left : p;
        if (left % p)
            continue;
        const size_t i = rotation->factors++;
        rotation->prime[i] = rotation->most = p;
        good = p == 2 || (rotation->cas[i] = make_cas(p)) != NULL;
        left /= p;
    }
    if (good) {
        rotation->n = n;
        return rotation;
    }
    vcl_rotation_destroy(rotation);
    return NULL;
}

void vcl_rotation_destroy(struct vcl_rotation *rotation)
{
    if (!rotation)
        return;
    for (size_t i = 0; i < rotation->factors; i++)
        free(rotation->cas[i]);
    free(rotation->signs);
    free(rotation);
}

size_t vcl_rotation_scratch(const struct vcl_rotation *rotation) { return rotation->most * LANES; }

/* ---- applying -------------------------------------------------------------------------------- */

/* Factor 2 at a distance of `step` doubles. */
static void butterflies(double *x, size_t count, size_t step)
{
    for (size_t first = 0; first < count; first += 2 * step)
        for (size_t i = first; i < first + step; i++) {
            const double a = x[i], b = x[i + step];
            x[i] = a + b;
            x[i + step] = a - b;
        }
}

/* The p vectors of LANES at a distance of `step`. */
static void hartley(double *x, size_t p, size_t step, const double *cas, double *scratch)
{
    for (size_t j = 0; j < p; j++)
        memcpy(scratch + j * LANES, x + j * step, LANES * sizeof *x);
    for (size_t k = 0; k < p; k++) {
        double sums[LANES] = { 0 };
        for (size_t j = 0, m = 0; j < p; j++, m = m + k < p ? m + k : m + k - p)
            for (size_t l = 0; l < LANES; l++)
                sums[l] += cas[m] * scratch[j * LANES + l];
        memcpy(x + k * step, sums, sizeof sums);
    }
}

static void transform(const struct vcl_rotation *rotation, double *x, double *scratch)
{
    const size_t count = rotation->n * LANES;
    for (size_t i = 0, step = LANES; i < rotation->factors; step *= rotation->prime[i++]) {
        const size_t p = rotation->prime[i];
        if (p == 2)
            butterflies(x, count, step);
        for (size_t first = 0; p > 2 && first < count; first += p * step)
            for (size_t at = first; at < first + step; at += LANES)
                hartley(x + at, p, step, rotation->cas[i], scratch);
    }
}

void vcl_rotation_apply(const struct vcl_rotation *rotation, double *x, double *scratch)
{
    transform(rotation, x, scratch);
    for (size_t i = 0; i < rotation->n; i++)
        for (size_t l = 0; l < LANES; l++)
            x[i * LANES + l] *= rotation->signs[i];
    transform(rotation, x, scratch);
}
