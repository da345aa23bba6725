/* moments.c - sums of outer products, and their factors.
 *
 * H = (I + U) D (I + U)^T with U strictly upper triangular is, with rows and columns in reverse, G = L D
 * L^T: the usual factorisation, made in place in blocks of BLOCK columns.  Every element's sum is taken in
 * one written order. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "moments.h"

enum { TOKENS = 256, BLOCK = 32 };

struct vcl_moments *vcl_moments_create(size_t cols)
{
    struct vcl_moments *moments = calloc(1, sizeof *moments);
    size_t values;
    if (!moments)
        return NULL;
    moments->cols = cols;
    if (!__builtin_mul_overflow(cols, cols, &values))
        moments->sums = calloc(values, sizeof *moments->sums);
    if (moments->sums)
        return moments;
    free(moments);
    return NULL;
}

void vcl_moments_destroy(struct vcl_moments *moments)
{
    if (!moments)
        return;
    free(moments->sums);
    free(moments->feedback);
    free(moments->col_weight);
    free(moments);
}

/* ---- sums ------------------------------------------------------------------------------------ */

struct addition {
    struct vcl_moments *moments;
    const struct vcl_loops16 *loops;
    const float *x;
    size_t n; /* at most TOKENS */
};

/* Sixteen columns of the lower triangle, all rows from the first of them on. */
static void add_columns(void *user, size_t part, unsigned thread)
{
    const struct addition *a = user;
    const size_t cols = a->moments->cols, first = part * VCL_LANES;
    const size_t lanes = cols - first < VCL_LANES ? cols - first : VCL_LANES;
    float packed[TOKENS * VCL_LANES] = { 0 }, products[VCL_GROUP * VCL_LANES];
    (void)thread;
    for (size_t t = 0; t < a->n; t++)
        memcpy(packed + t * VCL_LANES, a->x + t * cols + first, lanes * sizeof *packed);
    for (size_t r = first; r < cols; r += VCL_GROUP) {
        const size_t rows = cols - r < VCL_GROUP ? cols - r : VCL_GROUP;
        a->loops->block(a->x + r, 1, cols, rows, a->n, packed, products);
        for (size_t k = 0; k < rows; k++)
            for (size_t l = 0; l < lanes; l++)
                a->moments->sums[(r + k) * cols + first + l] += products[k * VCL_LANES + l];
    }
}

void vcl_moments_add(struct vcl_moments *moments, const struct vcl_loops16 *loops, struct vcl_pool *pool,
                     const float *x, size_t n)
{
    const size_t parts = (moments->cols + VCL_LANES - 1) / VCL_LANES;
    for (size_t i = 0; i < n; i += TOKENS) {
        struct addition a = { moments, loops, x + i * moments->cols, n - i < TOKENS ? n - i : TOKENS };
        vcl_pool_run(pool, parts, add_columns, &a);
    }
    moments->count += n;
}

/* ---- factors --------------------------------------------------------------------------------- */

struct factor {
    size_t n, first, count; /* columns of the block */
    double *g;              /* n x n: L below the diagonal, D on it, where they are done */
    double *turned;         /* [column of the block][row]: L D of the block's columns */
};

/* Row r's elements in the block's columns. */
static void finish_row(const struct factor *f, size_t r)
{
    double *row = f->g + r * f->n;
    for (size_t j = f->first; j < f->first + f->count && j < r; j++) {
        const double *other = f->g + j * f->n;
        double sum = row[j];
        for (size_t k = f->first; k < j; k++)
            sum -= row[k] * f->turned[(k - f->first) * f->n + j];
        f->turned[(j - f->first) * f->n + r] = sum;
        row[j] = sum / other[j];
    }
}

/* The block's own rows one after the other: each needs those before it. */
static void finish_block(const struct factor *f)
{
    for (size_t r = f->first; r < f->first + f->count; r++) {
        double *row = f->g + r * f->n;
        finish_row(f, r);
        for (size_t k = f->first; k < r; k++)
            row[r] -= row[k] * f->turned[(k - f->first) * f->n + r];
    }
}

static void finish_part(void *user, size_t part, unsigned thread)
{
    const struct factor *f = user;
    (void)thread;
    finish_row(f, f->first + f->count + part);
}

/* What the block's columns take off a row to their right. */
static void reduce_part(void *user, size_t part, unsigned thread)
{
    const struct factor *f = user;
    const size_t begin = f->first + f->count, r = begin + part;
    double *row = f->g + r * f->n;
    (void)thread;
    for (size_t k = 0; k < f->count; k++) {
        const double l = row[f->first + k], *turned = f->turned + k * f->n;
        for (size_t j = begin; j <= r; j++)
            row[j] -= l * turned[j];
    }
}

static void factor_all(struct factor *f, struct vcl_pool *pool)
{
    for (f->first = 0; f->first < f->n; f->first += f->count) {
        f->count = f->n - f->first < BLOCK ? f->n - f->first : BLOCK;
        const size_t below = f->n - f->first - f->count;
        finish_block(f);
        vcl_pool_run(pool, below, finish_part, f);
        vcl_pool_run(pool, below, reduce_part, f);
    }
}

/* What makes an input's mean square the one that is known better; correlations stay. */
static double scale_of(const struct vcl_moments *moments, size_t c)
{
    const float own = moments->sums[c * moments->cols + c];
    return moments->squares && own > 0 ? sqrt((double)moments->squares[c] / (double)own) : 1;
}

/* H in reverse, its lower triangle; returns the mean of its diagonal.  col_weight, not there yet, keeps the
 * scales. */
static double turn(const struct vcl_moments *moments, double damping, double *g)
{
    const size_t n = moments->cols;
    const double count = moments->count ? (double)moments->count : 1;
    float *const scale = moments->col_weight;
    double mean = 0;
    for (size_t c = 0; c < n; c++) {
        scale[c] = (float)scale_of(moments, c);
        mean += (double)scale[c] * (double)scale[c] * (double)moments->sums[c * n + c] / count / (double)n;
    }
    mean = mean > 0 ? mean : 1; /* nothing but zeros came in: every error costs the same */
    for (size_t r = 0; r < n; r++) {
        for (size_t c = 0; c <= r; c++)
            g[r * n + c] = (double)scale[n - 1 - r] * (double)scale[n - 1 - c]
                         * (double)moments->sums[(n - 1 - c) * n + n - 1 - r] / count;
        g[r * n + r] += damping * mean;
    }
    return mean * (1 + damping);
}

static void take_factors(struct vcl_moments *moments, const struct factor *f, double mean)
{
    const size_t n = f->n;
    double logs = 0;
    for (size_t c = 0; c < n; c++) {
        const double d = f->g[(n - 1 - c) * n + n - 1 - c];
        logs += log(d / mean) / (double)n;
        moments->col_weight[c] = (float)d;
        for (size_t k = 0; k < c; k++)
            moments->sums[c * n + k] = (float)f->g[(n - 1 - k) * n + n - 1 - c];
    }
    moments->gain = exp(logs);
    moments->feedback = moments->sums;
    moments->sums = NULL;
}

enum vcl_status vcl_moments_factor(struct vcl_moments *moments, struct vcl_pool *pool, double damping)
{
    const size_t n = moments->cols;
    struct factor f = { .n = n };
    f.g = malloc(n * n * sizeof *f.g);
    f.turned = malloc(BLOCK * n * sizeof *f.turned);
    moments->col_weight = malloc(n * sizeof *moments->col_weight);
    const int good = f.g && f.turned && moments->col_weight;
    if (good) {
        const double mean = turn(moments, damping, f.g);
        factor_all(&f, pool);
        take_factors(moments, &f, mean);
    }
    free(f.g);
    free(f.turned);
    return good ? VCL_OK : VCL_E_MEMORY;
}
