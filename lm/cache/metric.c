/* metric.c - the metric of queries for keys, that of the output matrix for values. */
#include <stdlib.h>
#include <string.h>

#include "metric.h"

/* The identity where there is nothing: then nothing is known. */
static void set_mean(double *metric, size_t d)
{
    double mean = 0;
    for (size_t i = 0; i < d; i++)
        mean += metric[i * d + i] / (double)d;
    for (size_t i = 0; i < d * d; i++)
        metric[i] = mean > 0 ? metric[i] / mean : i % (d + 1) == 0;
}

/* ---- keys ------------------------------------------------------------------------------------ */

/* The pairs (i, i + half) of one row or column, whose numbers stand `step` apart. */
static void turn_pairs(double *x, size_t step, const float *cosine, const float *sine, size_t half)
{
    for (size_t i = 0; i < half; i++) {
        double *low = x + i * step, *high = x + (i + half) * step;
        const double a = *low, b = *high, c = (double)cosine[i], s = (double)sine[i];
        *low = a * c - b * s;
        *high = b * c + a * s;
    }
}

/* How often a key is read from a distance: by all queries that have so many tokens before them. */
static double share_of(const struct vcl_flow *f, size_t distance, size_t length)
{
    const size_t window = f->network->config.window;
    double share = 0;
    for (size_t i = distance; i < length; i++)
        share += 1 / (double)(window && window <= i ? window : i + 1);
    return window && distance >= window ? 0 : share;
}

void vcl_metric_of_keys(const struct vcl_flow *f, const double *squares, size_t length, double *turned,
                        double *metric)
{
    const size_t d = f->kv.head_dim, half = f->network->config.rotary / 2;
    memset(metric, 0, d * d * sizeof *metric);
    for (size_t distance = 0; distance < length; distance++) {
        const float *cosine = f->cosine + distance * half, *sine = f->sine + distance * half;
        const double share = share_of(f, distance, length);
        memcpy(turned, squares, d * d * sizeof *turned);
        for (size_t i = 0; i < d; i++)
            turn_pairs(turned + i * d, 1, cosine, sine, half);
        for (size_t i = 0; i < d; i++)
            turn_pairs(turned + i, d, cosine, sine, half);
        for (size_t i = 0; i < d * d; i++)
            metric[i] += share * turned[i];
    }
    set_mean(metric, d);
}

/* ---- values ---------------------------------------------------------------------------------- */

/* rows: d of `width` numbers, whose products with each other are added to metric. */
static void add_products(const float *rows, size_t d, size_t width, double *metric)
{
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j <= i; j++) {
            double sum = metric[i * d + j];
            for (size_t c = 0; c < width; c++)
                sum += (double)rows[i * width + c] * (double)rows[j * width + c];
            metric[i * d + j] = metric[j * d + i] = sum;
        }
}

enum vcl_status vcl_metric_of_values(const struct vcl_flow *f, size_t layer, size_t head, double *metric)
{
    const struct vcl_config *c = &f->network->config;
    const size_t d = c->head_dim, inputs = c->heads * d, group = c->heads / c->kv_heads;
    float *ones = malloc(d * inputs * sizeof *ones), *columns = malloc(d * c->width * sizeof *columns);
    enum vcl_status status = ones && columns ? VCL_OK : VCL_E_MEMORY;
    memset(metric, 0, d * d * sizeof *metric);
    for (size_t h = head * group; h < (head + 1) * group && status == VCL_OK; h++) {
        memset(ones, 0, d * inputs * sizeof *ones);
        for (size_t i = 0; i < d; i++)
            ones[i * inputs + h * d + i] = 1;
        status = vcl_store_multiply(f->store, f->network->layers[layer].o.weight, ones, d, columns);
        if (status == VCL_OK)
            add_products(columns, d, c->width, metric);
    }
    free(ones);
    free(columns);
    set_mean(metric, d);
    return status;
}
