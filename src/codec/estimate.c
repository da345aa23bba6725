/* estimate.c - what a unit of a tensor (plan.h) would take, told without coding it.
 *
 * In: some rows' values or coefficients.  Out: a step for a rate, from the energy of rows and columns alone;
 * bits at a step, from the entropy of indices by class.  Only the second knows of few large values among many
 * small ones, and of what classes cannot tell apart. */
#include "estimate.h"

#include <math.h>
#include <string.h>

#include "codec/model.h"
#include "codec/scale.h"

/* Classes of rows, and of columns in col, as the codec would give them: relative to `unit`, a variance. */
static void find_classes(const struct vcl_kernels *kernels, const float *x, struct vcl_rect rect, double unit,
                         int row[VCL_UNIT_ROWS], double *col)
{
    memset(col, 0, rect.cols * sizeof *col);
    for (uint32_t r = 0; r < rect.rows; r++) {
        const float *const at = x + (size_t)r * rect.cols;
        const double e = kernels->energy(at, NULL, rect.cols) / rect.cols;
        row[r] = vcl_scale_class(e / unit);
        for (uint32_t c = 0; e > 0 && c < rect.cols; c++)
            col[c] += (double)at[c] * at[c] / e;
    }
    for (uint32_t c = 0; c < rect.cols; c++)
        col[c] = vcl_scale_class(col[c] / rect.rows);
}

/* ---- a step for a rate ----------------------------------------------------------------------- */

/* How many rows or columns have each class. */
enum { SPREAD = 160 };
struct histogram {
    uint32_t count[2 * SPREAD + 1];
};

static void count_class(struct histogram *h, int class)
{
    h->count[class < -SPREAD ? 0 : class > SPREAD ? 2 * SPREAD : class + SPREAD]++;
}

/* Bits that values of these classes take where the error's is `floor`: a quarter of a bit for each class
 * above. */
static double bits_above(const struct histogram *rows, const struct histogram *cols, int floor)
{
    double sum = 0;
    for (int i = 0; i <= 2 * SPREAD; i++)
        for (int j = 0; rows->count[i] && j <= 2 * SPREAD; j++)
            if (cols->count[j] && i + j - 2 * SPREAD > floor)
                sum += 0.25 * rows->count[i] * cols->count[j] * (i + j - 2 * SPREAD - floor);
    return sum;
}

/* The highest floor at which at least so many bits are needed. */
static int floor_for(const struct histogram *rows, const struct histogram *cols, double bits)
{
    int low = -2 * SPREAD, high = 2 * SPREAD;
    while (low < high) {
        const int middle = (low + high + 1) >> 1;
        if (bits_above(rows, cols, middle) >= bits)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

double vcl_estimate_step(const struct vcl_kernels *kernels, const float *x, struct vcl_rect rect, double bits,
                         double *col)
{
    const double n = (double)rect.rows * rect.cols, unit = kernels->energy(x, NULL, (size_t)n) / n;
    struct histogram rows = { 0 }, cols = { 0 };
    int row[VCL_UNIT_ROWS];
    if (!(unit > 0))
        return 0;
    find_classes(kernels, x, rect, unit, row, col);
    for (uint32_t r = 0; r < rect.rows; r++)
        count_class(&rows, row[r]);
    for (uint32_t c = 0; c < rect.cols; c++)
        count_class(&cols, (int)col[c]);
    return sqrt(12 * unit / vcl_scale_weight(floor_for(&rows, &cols, bits * n)));
}

/* ---- bits at a step -------------------------------------------------------------------------- */

/* Symbols by class, as the codec has them; bits beyond them; the squared error in steps. */
enum { MIDDLE = VCL_MODEL_CLASSES / 2, LARGEST = 32767 };
struct index_counts {
    uint32_t symbol[VCL_MODEL_CLASSES][VCL_MODEL_SYMBOLS];
    double beyond, error;
};

static void count_index(struct index_counts *counts, int class, double u)
{
    const double k = rint(u), size = fmin(fabs(k), LARGEST);
    const int t = class < -MIDDLE ? 0 : class >= MIDDLE ? VCL_MODEL_CLASSES - 1 : class + MIDDLE;
    const int m = (int)size, octave = m < 8 ? 0 : ilogb(size); /* from 8 on, two symbols an octave */
    const int symbol = m < 8 ? m : 2 * octave + 2 + (m >> (octave - 1) & 1);
    counts->symbol[t][VCL_MODEL_SYMBOLS / 2 + (k < 0 ? -symbol : symbol)]++;
    counts->beyond += m < 8 ? 0 : octave - 1;
    counts->error += (u - k) * (u - k);
}

/* Of a class' symbols, with what a sample's entropy lacks on average (Miller 1955). */
static double class_entropy(const uint32_t symbol[VCL_MODEL_SYMBOLS])
{
    int used = 0;
    const double bits = vcl_model_entropy(symbol, &used);
    return used > 0 ? bits + 0.72 * (used - 1) : 0;
}

double vcl_estimate_indices(const struct vcl_kernels *kernels, const float *x, struct vcl_rect rect,
                            double step, double *col, double *error)
{
    struct index_counts counts = { 0 };
    int row[VCL_UNIT_ROWS];
    double bits = 0;
    find_classes(kernels, x, rect, step * step, row, col);
    for (uint32_t r = 0; r < rect.rows; r++)
        for (uint32_t c = 0; c < rect.cols; c++)
            count_index(&counts, row[r] + (int)col[c], x[(size_t)r * rect.cols + c] / step);
    for (int t = 0; t < VCL_MODEL_CLASSES; t++)
        bits += class_entropy(counts.symbol[t]);
    *error = counts.error;
    return bits + counts.beyond;
}

double vcl_estimate_bits(const struct vcl_kernels *kernels, const float *x, struct vcl_rect rect, double step,
                         double *col)
{
    const double n = (double)rect.rows * rect.cols;
    double error;
    const double bits = vcl_estimate_indices(kernels, x, rect, step, col, &error);
    return bits + 0.5 * n * log2(fmax(12 * error / n, 0x1p-40));
}
