/* floor.c - stage 3: steps by row for tensors whose rows count each by itself.
 *
 * In: the rows' energies and the bits asked for.  Out: a step for every row.  Where a norm follows a row that
 * is looked up, as behind an embedding, its error counts against its own size; one step for all makes zeros of
 * rows far below the others.  So all rows share one step as long as that keeps them above the floor; those
 * that it does not keep get a step of their own, as far below their deviation as the floor needs, and the
 * common step pays for it: reverse water-filling with a bound on every row.  What a row has come to is
 * measured, and where it is too little everything is coded again with the rows' steps a little finer. */
#include "codec/floor.h"

#include <math.h>
#include <string.h>

#include "base/common.h"
#include "codec/encoder.h"
#include "codec/scale.h"

enum { NONE = INT16_MIN, GAPS = 1600, SPAN = 800 }; /* classes of f32 deviations are within 600 of 0 */

/* Decibels of a quarter octave; a shortfall that is not worth coding all again. */
#define CLASS_DB 1.5051499783
#define SLACK_DB 0.5

/* SNR of values with a deviation of one half-step: errors are 0.27 squared half-steps. */
#define UNIT_DB 5.69

int vcl_floor_fits(const struct vcl_tensor *tensor)
{
    uint64_t rows, cols;
    return tensor->rank >= 2 && vcl_coded_shape(tensor, 0, &rows, &cols) == VCL_OK
        && cols == tensor->dims[tensor->rank - 1];
}

/* ---- measuring ------------------------------------------------------------------------------- */

static enum vcl_status sum_squares(void *user, uint64_t tile, struct vcl_tile_work *work)
{
    const struct vcl_encoder *const e = user;
    const struct vcl_rect rect = vcl_plan_tile(&e->frame.plan, tile);
    const enum vcl_status status = vcl_encoder_read(e, rect, work);
    memset(work->col_energy, 0, rect.cols * sizeof *work->col_energy);
    if (!status)
        e->env->kernels->to_f32(e->frame.tensor.dtype, work->raw, work->x, (size_t)rect.rows * rect.cols);
    for (uint32_t r = 0; r < rect.rows && !status; r++)
        for (uint32_t c = 0; c < rect.cols; c++) {
            const double x = (double)work->x[(size_t)r * rect.cols + c];
            work->col_energy[c] += isfinite(x) ? x * x : 0;
        }
    return status;
}

static enum vcl_status add_squares(void *user, uint64_t tile, struct vcl_tile_work *work)
{
    struct vcl_encoder *const e = user;
    const struct vcl_rect rect = vcl_plan_tile(&e->frame.plan, tile);
    for (uint32_t c = 0; c < rect.cols; c++)
        e->floor.signal[rect.col + c] += work->col_energy[c];
    return VCL_OK;
}

enum vcl_status vcl_floor_begin(struct vcl_encoder *e)
{
    struct vcl_floor *const f = &e->floor;
    const size_t cols = (size_t)e->frame.plan.cols;
    const double half = 0.8408964152537145; /* of a class, 2^(-1/4): steps are rounded down */
    const double below = pow(10, (UNIT_DB - e->params->row_floor) / 10) * half;
    f->size = vcl_alloc(e->env->mem, 3 * cols, sizeof *f->size);
    f->signal = vcl_alloc(e->env->mem, 2 * cols, sizeof *f->signal);
    if (!f->size || !f->signal)
        return vcl_env_fail(e->env, VCL_E_MEMORY, "no memory for the rows' sizes");
    f->most = f->size + cols;
    f->step = f->most + cols;
    f->error = f->signal + cols;
    const enum vcl_status status =
        vcl_walk_run(&e->walk, 0, 1, e->frame.plan.tiles, sum_squares, add_squares, e);
    for (size_t c = 0; c < cols && !status; c++) {
        const double variance = f->signal[c] / (double)e->frame.plan.rows;
        f->size[c] = variance > 0 ? (int16_t)vcl_scale_class(variance) : (int16_t)NONE;
        f->most[c] = (int16_t)vcl_scale_class(variance * below);
    }
    return status;
}

void vcl_floor_free(struct vcl_encoder *e)
{
    vcl_free(e->env->mem, e->floor.size);
    vcl_free(e->env->mem, e->floor.signal);
    memset(&e->floor, 0, sizeof e->floor);
}

/* ---- steps ----------------------------------------------------------------------------------- */

/* Bits a value of deviations by how far, in quarter octaves, they are above their half-step. */
static void list_rates(double rate[GAPS])
{
    const double unit = pow(10, UNIT_DB / 10);
    for (int gap = 0; gap < GAPS; gap++)
        rate[gap] = 0.5 * log2(1 + unit * exp2((gap - SPAN) / 2.0));
}

/* Bits a value with one step for the rows that it keeps above their floors. */
static double bits_with(const struct vcl_floor *f, const double *rate, size_t cols, int step)
{
    double sum = 0;
    for (size_t c = 0; c < cols; c++) {
        const int its = f->most[c] < step ? f->most[c] : step, above = f->size[c] - its + SPAN;
        sum += f->size[c] == NONE || above < 0 ? 0 : rate[above < GAPS ? above : GAPS - 1];
    }
    return sum / (double)cols;
}

/* The finest common step that the bits have room for; SPAN, coarser than any, where they have none for more than
 * the floors. */
static int common_step(const struct vcl_floor *f, const double *rate, size_t cols, double bits)
{
    int fine = -SPAN, coarse = SPAN;
    while (coarse - fine > 1) {
        const int middle = (fine + coarse) / 2;
        if (bits_with(f, rate, cols, middle) <= bits)
            coarse = middle;
        else
            fine = middle;
    }
    return coarse;
}

enum vcl_status vcl_floor_choose(struct vcl_encoder *e)
{
    enum {
        LIST_BITS = 8,
        ZERO_BELOW = 40
    }; /* of a row's class and step; 2^-10, as a trellis has no 0 everywhere */
    struct vcl_floor *const f = &e->floor;
    const size_t cols = (size_t)e->frame.plan.cols;
    const double room = e->params->target - LIST_BITS / (double)e->frame.plan.rows;
    double *const rate = vcl_alloc_raw(e->env->mem, GAPS, sizeof *rate);
    if (!rate)
        return vcl_env_fail(e->env, VCL_E_MEMORY, "no memory for the rows' steps");
    list_rates(rate);
    const int step = common_step(f, rate, cols, room);
    f->all = step == SPAN;
    for (size_t c = 0; c < cols; c++)
        f->step[c] = f->size[c] == NONE ? (int16_t)((f->all ? 0 : step) - ZERO_BELOW)
                   : f->most[c] < step  ? f->most[c]
                                        : (int16_t)step;
    vcl_free(e->env->mem, rate);
    return VCL_OK;
}

/* ---- what rows have come to -------------------------------------------------------------------- */

void vcl_floor_forget(struct vcl_encoder *e)
{
    if (e->floor.signal)
        memset(e->floor.signal, 0, 2 * (size_t)e->frame.plan.cols * sizeof *e->floor.signal);
}

void vcl_floor_sum(const struct vcl_encoder *e, struct vcl_rect rect, struct vcl_tile_work *work)
{
    const size_t n = (size_t)rect.rows * rect.cols;
    e->env->kernels->to_f32(e->frame.tensor.dtype, work->raw, work->x, n);
    e->env->kernels->to_f32(e->frame.tensor.dtype, work->decoded, work->y, n);
    memset(work->col_energy, 0, rect.cols * sizeof *work->col_energy);
    memset(work->col_sum, 0, rect.cols * sizeof *work->col_sum);
    for (uint32_t r = 0; r < rect.rows; r++)
        for (uint32_t c = 0; c < rect.cols; c++) {
            const double x = (double)work->x[(size_t)r * rect.cols + c];
            const double d = x - (double)work->y[(size_t)r * rect.cols + c];
            work->col_energy[c] += isfinite(x) ? x * x : 0;
            work->col_sum[c] += isfinite(x) ? d * d : 0;
        }
}

void vcl_floor_add(struct vcl_encoder *e, struct vcl_rect rect, const struct vcl_tile_work *work)
{
    for (uint32_t c = 0; c < rect.cols; c++) {
        e->floor.signal[rect.col + c] += work->col_energy[c];
        e->floor.error[rect.col + c] += work->col_sum[c];
    }
}

static double snr_of(const struct vcl_floor *f, size_t row)
{
    return f->signal[row] > 0 && f->error[row] > 0 ? 10 * log10(f->signal[row] / f->error[row]) : INFINITY;
}

double vcl_floor_worst(const struct vcl_encoder *e)
{
    double worst = INFINITY;
    for (size_t c = 0; c < (size_t)e->frame.plan.cols; c++)
        worst = fmin(worst, snr_of(&e->floor, c));
    return worst;
}

/* Rows that are as far below the others as steps can be tell nothing.  Coded again, a row errs by chance more
 * or less than it did: its SNR by 6.1 dB over the root of its values, squares of that many errors being summed.
 * So rows nearer than that to the floor get finer steps too. */
int vcl_floor_raise(struct vcl_encoder *e)
{
    struct vcl_floor *const f = &e->floor;
    const double chance = 6.1 / sqrt((double)e->frame.plan.rows);
    double most = 0;
    for (size_t c = 0; c < (size_t)e->frame.plan.cols && !f->all; c++) {
        const double missing = e->params->row_floor - snr_of(f, c);
        if (!(missing > -chance) || e->tables->col_exponent[c] <= -VCL_EXPONENT_MAX)
            continue;
        most = fmax(most, missing);
        f->most[c] = (int16_t)(f->step[c] - (int)fmin(fmax(ceil(missing / CLASS_DB), 1), 4));
    }
    return most > SLACK_DB;
}
