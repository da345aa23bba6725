/* kinds.h - tensors of many kinds from a seed: distributions, scales, levels, structures, as models have
 * them and as nobody would wish them. */
#ifndef VCL_TEST_KINDS_H
#define VCL_TEST_KINDS_H

#include "random.h"

#include <string.h>

struct draw {
    double *x;
    size_t rows, cols, n; /* n = rows x cols */
    uint64_t state;
    double least, most; /* smallest normal and largest finite magnitude of the dtype */
};

static double draw_between(struct draw *d, double low, double high)
{
    return low + (high - low) * random_uniform(&d->state);
}

static double draw_magnitude(struct draw *d, double low, double high)
{
    return exp(draw_between(d, log(low), log(high)));
}

static size_t draw_below(struct draw *d, size_t n) { return (size_t)(random_uniform(&d->state) * (double)n); }

static void draw_each(struct draw *d, double (*draw)(uint64_t *state))
{
    for (size_t i = 0; i < d->n; i++)
        d->x[i] = draw(&d->state);
}

static void multiply_all(struct draw *d, double factor)
{
    for (size_t i = 0; i < d->n; i++)
        d->x[i] *= factor;
}

static void add_to_all(struct draw *d, double term)
{
    for (size_t i = 0; i < d->n; i++)
        d->x[i] += term;
}

/* ---- distributions --------------------------------------------------------------------------- */

static double draw_student(uint64_t *state)
{
    const double x = random_normal(state), a = random_normal(state), b = random_normal(state),
                 c = random_normal(state);
    return x / sqrt((a * a + b * b + c * c) / 3);
}
static double draw_uniform(uint64_t *state) { return 2 * random_uniform(state) - 1; }
static double draw_arcsine(uint64_t *state) { return sin(6.283185307179586 * random_uniform(state)); }
static double draw_hump(uint64_t *state)
{
    const double side = random_bits(state) >> 63 ? 1 : -1;
    return side + 0.2 * random_normal(state);
}
static double draw_log_normal(uint64_t *state) { return exp(random_normal(state)); }
static double draw_half_normal(uint64_t *state) { return fabs(random_normal(state)); }

static void kind_normal(struct draw *d) { draw_each(d, random_normal); }
static void kind_laplace(struct draw *d) { draw_each(d, random_laplace); }
static void kind_student(struct draw *d) { draw_each(d, draw_student); }
static void kind_uniform(struct draw *d) { draw_each(d, draw_uniform); }
static void kind_arcsine(struct draw *d) { draw_each(d, draw_arcsine); }
static void kind_humps(struct draw *d) { draw_each(d, draw_hump); }
static void kind_log_normal(struct draw *d) { draw_each(d, draw_log_normal); }
static void kind_half_normal(struct draw *d) { draw_each(d, draw_half_normal); }

/* ---- means and scales ------------------------------------------------------------------------ */

static void kind_mean(struct draw *d)
{
    draw_each(d, random_normal);
    add_to_all(d, draw_magnitude(d, 0.5, 100));
}

/* Adds a mean to, or multiplies by a scale, every row or every column. */
static void vary(struct draw *d, int by_row, int mean)
{
    for (size_t i = 0; i < (by_row ? d->rows : d->cols); i++) {
        const double value = mean ? 5 * random_normal(&d->state) : pow(10, draw_between(d, -2, 2));
        for (size_t k = 0; k < (by_row ? d->cols : d->rows); k++) {
            double *const x = d->x + (by_row ? i * d->cols + k : k * d->cols + i);
            *x = mean ? *x + value : *x * value;
        }
    }
}

static void kind_row_means(struct draw *d) { draw_each(d, random_normal), vary(d, 1, 1); }
static void kind_col_means(struct draw *d) { draw_each(d, random_normal), vary(d, 0, 1); }
static void kind_row_scales(struct draw *d) { draw_each(d, random_normal), vary(d, 1, 0); }
static void kind_col_scales(struct draw *d) { draw_each(d, random_normal), vary(d, 0, 0); }

static void kind_denormal(struct draw *d)
{
    draw_each(d, random_normal);
    multiply_all(d, d->least * draw_magnitude(d, 0.003, 4));
}

static void kind_huge(struct draw *d)
{
    draw_each(d, draw_uniform);
    multiply_all(d, d->most * draw_magnitude(d, 1e-4, 1));
}

/* No two values of one size. */
static void kind_wide(struct draw *d)
{
    const double octaves = draw_between(d, 10, 100);
    for (size_t i = 0; i < d->n; i++)
        d->x[i] = random_normal(&d->state) * exp2(draw_between(d, -octaves, octaves));
}

/* What only F64 holds. */
static void kind_beyond(struct draw *d)
{
    draw_each(d, random_normal);
    multiply_all(d, pow(10, draw_between(d, 40, 150) * (draw_below(d, 2) ? 1 : -1)));
}

/* ---- zeros and outliers ------------------------------------------------------------------------ */

static void kind_zero(struct draw *d) { memset(d->x, 0, d->n * sizeof *d->x); }

static void kind_sparse(struct draw *d)
{
    const double share = 1 - draw_magnitude(d, 0.001, 0.5);
    for (size_t i = 0; i < d->n; i++)
        d->x[i] = random_uniform(&d->state) < share ? 0 : random_normal(&d->state);
}

static void kind_zero_rows(struct draw *d)
{
    for (size_t r = 0; r < d->rows; r++) {
        const int zero = random_uniform(&d->state) < 0.75;
        for (size_t c = 0; c < d->cols; c++)
            d->x[r * d->cols + c] = zero ? 0 : random_normal(&d->state);
    }
}

static void kind_constant(struct draw *d)
{
    kind_zero(d);
    add_to_all(d, random_normal(&d->state));
}

static void kind_constant_spike(struct draw *d)
{
    kind_constant(d);
    d->x[draw_below(d, d->n)] = draw_magnitude(d, 1, 1e6);
}

static void kind_spikes(struct draw *d)
{
    const size_t count = 1 + draw_below(d, d->n / 500 + 1);
    const double size = draw_magnitude(d, 1e3, 1e30);
    draw_each(d, random_normal);
    for (size_t i = 0; i < count; i++)
        d->x[draw_below(d, d->n)] = size * random_normal(&d->state);
}

static void kind_not_finite(struct draw *d)
{
    const size_t count = 1 + draw_below(d, d->n / 500 + 1);
    draw_each(d, random_normal);
    for (size_t i = 0; i < count; i++) {
        const double values[3] = { NAN, INFINITY, -INFINITY };
        d->x[draw_below(d, d->n)] = values[draw_below(d, 3)];
    }
}

/* ---- levels ------------------------------------------------------------------------------------ */

static double round_to(double x, double low, double high) { return fmin(fmax(rint(x), low), high); }

static double draw_sign(uint64_t *state) { return random_bits(state) >> 63 ? 1 : -1; }
static double draw_ternary(uint64_t *state) { return round_to(random_normal(state), -1, 1); }
static double draw_five(uint64_t *state) { return round_to(1.2 * random_normal(state), -2, 2); }
static double draw_int4(uint64_t *state) { return round_to(2.7 * random_normal(state), -8, 7); }
static double draw_int8(uint64_t *state) { return round_to(36 * random_normal(state), -128, 127); }
static double draw_fp4(uint64_t *state)
{
    static const double points[8] = { 0, 0.5, 1, 1.5, 2, 3, 4, 6 };
    return draw_sign(state) * points[random_bits(state) >> 61];
}

/* One scale for every `group` values of a row, a power of two or any number; and the zero's level. */
static void draw_groups(struct draw *d, size_t group, double (*level)(uint64_t *state), int power, int zeros)
{
    double scale = 1, zero = 0;
    for (size_t i = 0; i < d->n; i++) {
        if (i % d->cols % group == 0) {
            scale = 0.02 * exp(0.7 * random_normal(&d->state));
            scale = power ? exp2(rint(log2(scale))) : scale;
            zero = zeros ? rint(3 * random_normal(&d->state)) : 0;
        }
        d->x[i] = scale * (level(&d->state) - zero);
    }
}

static size_t draw_group(struct draw *d) { return (size_t)16 << draw_below(d, 5); }

static void kind_binary(struct draw *d) { draw_each(d, draw_sign); }
static void kind_ternary(struct draw *d) { draw_each(d, draw_ternary); }
static void kind_five(struct draw *d) { draw_each(d, draw_five); }
static void kind_integers(struct draw *d)
{
    const double range = draw_magnitude(d, 1, 3000);
    for (size_t i = 0; i < d->n; i++)
        d->x[i] = rint(range * random_normal(&d->state));
}
static void kind_int4_rows(struct draw *d) { draw_groups(d, d->cols, draw_int4, 0, 0); }
static void kind_int8_rows(struct draw *d) { draw_groups(d, d->cols, draw_int8, 0, 0); }
static void kind_int4_zeros(struct draw *d) { draw_groups(d, d->cols, draw_int4, 0, 1); }
static void kind_binary_rows(struct draw *d) { draw_groups(d, d->cols, draw_sign, 0, 0); }
static void kind_ternary_rows(struct draw *d) { draw_groups(d, d->cols, draw_ternary, 0, 0); }
static void kind_int4_groups(struct draw *d) { draw_groups(d, draw_group(d), draw_int4, 0, 0); }
static void kind_int4_group_zeros(struct draw *d) { draw_groups(d, draw_group(d), draw_int4, 0, 1); }
static void kind_fp4_groups(struct draw *d) { draw_groups(d, 32, draw_fp4, 1, 0); }
static void kind_ternary_groups(struct draw *d) { draw_groups(d, draw_group(d), draw_ternary, 0, 0); }

static double round_to_f16(double x)
{
    int exponent;
    const double mantissa = frexp(x, &exponent);
    return ldexp(rint(ldexp(mantissa, 11)), exponent - 11);
}

/* A scale and an offset for every 16 to 256 values of a row, or integers of six bits times one for eight of
 * these. */
static void kind_offset_groups(struct draw *d)
{
    const size_t group = draw_group(d), super = draw_below(d, 2) ? 8 : 1;
    const double most = draw_below(d, 2) ? 15 : 31;
    double scale = 1, offset = 0, scales = 1, offsets = 1;
    for (size_t i = 0; i < d->n; i++) {
        if (i % d->cols % (super * group) == 0) {
            scales = round_to_f16(0.02 * exp(0.3 * random_normal(&d->state)) / (super > 1 ? 63 : 1));
            offsets = round_to_f16(-most / 2 * scales * draw_between(d, 0.7, 1.2));
        }
        if (i % d->cols % group == 0) {
            scale = super > 1 ? scales * rint(draw_between(d, 30, 63)) : scales;
            offset = super > 1 ? offsets * rint(draw_between(d, 30, 63)) : offsets;
        }
        d->x[i] = scale * round_to(most / 2 + most / 5 * random_normal(&d->state), 0, most) + offset;
    }
}

/* ---- structures -------------------------------------------------------------------------------- */

/* Numbers of positions: how far a column is from a row, the same for every row, or a permutation's like. */
static void kind_table(struct draw *d)
{
    const size_t how = draw_below(d, 3), step = 1 + 2 * draw_below(d, d->n / 2);
    for (size_t r = 0; r < d->rows; r++)
        for (size_t c = 0; c < d->cols; c++)
            d->x[r * d->cols + c] = how == 0 ? (double)c - (double)r
                                  : how == 1 ? (double)c
                                             : (double)((r * d->cols + c) * step % d->n % 50257);
}

static void kind_sines(struct draw *d)
{
    double down[3], along[3], phase[3];
    const double noise = draw_magnitude(d, 1e-4, 0.3);
    for (int k = 0; k < 3; k++)
        down[k] = draw_between(d, 0, 0.3), along[k] = draw_between(d, 0, 0.3), phase[k] = 2 * k;
    for (size_t i = 0; i < d->n; i++) {
        d->x[i] = noise * random_normal(&d->state);
        for (int k = 0; k < 3; k++)
            d->x[i] += sin(down[k] * (double)(i / d->cols) + along[k] * (double)(i % d->cols) + phase[k]);
    }
}

/* Down the columns or along the rows. */
static void kind_walk(struct draw *d)
{
    const size_t down = draw_below(d, 2);
    draw_each(d, random_normal);
    for (size_t i = 0; i < d->n; i++)
        if (down ? i >= d->cols : i % d->cols > 0)
            d->x[i] = d->x[i - (down ? d->cols : 1)] + 0.1 * d->x[i];
}

static void kind_positions(struct draw *d)
{
    for (size_t i = 0; i < d->n; i++) {
        const size_t c = i % d->cols;
        const double angle = (double)(i / d->cols) * pow(10000, -(double)(c / 2 * 2) / (double)d->cols);
        d->x[i] = c % 2 ? cos(angle) : sin(angle);
    }
}

static void kind_low_rank(struct draw *d)
{
    enum { RANK = 4 };
    const double noise = draw_magnitude(d, 0.001, 1);
    const uint64_t seed = random_bits(&d->state);
    kind_zero(d);
    for (uint64_t k = 0; k < RANK; k++)
        for (size_t r = 0; r < d->rows; r++) {
            uint64_t state = (seed + r * RANK + k) * 0x9E3779B97F4A7C15 + 1, column = seed ^ (k + 1) << 32;
            const double u = random_normal(&state);
            for (size_t c = 0; c < d->cols; c++)
                d->x[r * d->cols + c] += u * random_normal(&column);
        }
    for (size_t i = 0; i < d->n; i++)
        d->x[i] += noise * random_normal(&d->state);
}

static void kind_causal(struct draw *d)
{
    const double values[3] = { 1, -d->most, -INFINITY };
    const size_t how = draw_below(d, 3);
    for (size_t i = 0; i < d->n; i++)
        d->x[i] = (i % d->cols > i / d->cols) == (how > 0) ? values[how] : 0;
}

static void kind_mask(struct draw *d)
{
    const double share = draw_between(d, 0.02, 0.5);
    for (size_t i = 0; i < d->n; i++)
        d->x[i] = random_uniform(&d->state) < share;
}

#endif
