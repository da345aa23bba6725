/* analyse.c - what a sample of a tensor tells before anything is coded.
 *
 * In: some stripes, evenly spread.  Out: decisions for the whole frame, each by the bits it saves: a
 * transform, the columns' means, the columns' classes; and steps of the columns where the caller gave
 * weights.  A whole pass over the tensor is made only where the sample says that something is to be gained
 * by it.  Decisions rest on sums in a fixed order and on integers, so that every machine takes the same. */
#include <math.h>
#include <string.h>

#include "base/common.h"
#include "codec/encoder.h"
#include "codec/estimate.h"
#include "codec/scale.h"

/* ---- transform ------------------------------------------------------------------------------- */

/* Lengths of 4 and 16 lie between these in what they gain (docs/experiments.md); the longest takes waves apart.
 * Down the columns nothing longer than a sample's stripes can be tried. */
static const struct vcl_transform candidates[VCL_TRANSFORMS] = { { 0, 0 }, { 3, 0 }, { 5, 0 }, { 0, 3 },
                                                                 { 0, 5 }, { 3, 3 }, { 3, 5 }, { 5, 3 },
                                                                 { 5, 5 }, { 0, 8 } };

/* Mean over the vectors of x, `count` of `length` values, of the square of their correlation with
 * themselves one place on, less what chance gives.  step: between a vector's values; next: between
 * vectors. */
static double smoothness(const float *x, uint32_t count, uint32_t length, size_t next, size_t step)
{
    double sum = 0;
    for (uint32_t v = 0; v < count; v++) {
        const float *const at = x + v * next;
        double product = 0, energy = (double)at[0] * at[0];
        for (uint32_t i = 1; i < length; i++) {
            product += (double)at[i * step] * at[(i - 1) * step];
            energy += (double)at[i * step] * at[i * step];
        }
        sum += energy > 0 ? product * product / (energy * energy) : 0;
    }
    return sum / count - 1.0 / length;
}

/* What a transform must promise to be tried, and to be taken: bits a value. */
#define SMOOTH 0.02
#define WORTHWHILE 0.02

/* The longest transform along rows that so many columns have room for. */
static struct vcl_transform fit_transform(struct vcl_transform t, uint64_t cols)
{
    while (t.along > 0 && 1u << t.along > cols)
        t.along--;
    return t;
}

/* Does a transform leave at most a quarter of a side as it is? */
static int fills(unsigned log2, uint64_t side) { return side % (1u << log2) <= side / 4; }

/* For the unit in work->x, about at the rate asked for. */
static double unit_step(const struct vcl_encoder *e, struct vcl_rect rect, struct vcl_tile_work *work)
{
    const struct vcl_params *const p = e->params;
    if (p->goal == VCL_GOAL_STEP)
        return 2 * p->target;
    const double bits = p->goal == VCL_GOAL_BITS ? p->target : fmax(p->target / 6.0206, 0.25);
    return vcl_estimate_step(e->env->kernels, work->x, rect, bits, work->col_energy);
}

/* The finest step at which the largest coefficient has an index: steps of a uniform quantiser err as
 * half-steps of a trellis do that are shorter by a factor. */
static double least_step(float largest) { return sqrt(12 * 0.27) * (double)largest / VCL_INDEX_MAX; }

/* What saving so many bits a value is worth with room for a step finer by so many octaves: at the bits asked
 * for they are spent on that as far as it goes; an SNR needs its step. */
static double worth_with(const struct vcl_encoder *e, double saved, double room)
{
    return e->params->goal == VCL_GOAL_BITS || room < 0 ? fmin(saved, room) : saved;
}

/* Bits the unit in work->x would save with every candidate at the rate asked for. */
static void try_transforms(const struct vcl_encoder *e, struct vcl_rect rect, struct vcl_tile_work *work)
{
    const struct vcl_kernels *const kernels = e->env->kernels;
    const int down = smoothness(work->x, rect.cols, rect.rows, 1, rect.cols) > SMOOTH;
    const int along = smoothness(work->x, rect.rows, rect.cols, rect.cols, 1) > SMOOTH;
    const double step = down || along ? unit_step(e, rect, work) : 0;
    work->step = step;
    if (step == 0)
        return;
    const uint64_t rows = vcl_min(e->frame.plan.tile_rows, e->frame.plan.rows);
    const double n = (double)rect.rows * rect.cols;
    const double plain = vcl_estimate_bits(kernels, work->x, rect, step, work->col_energy);
    for (int i = 1; i < VCL_TRANSFORMS; i++) {
        const struct vcl_transform t = fit_transform(candidates[i], rect.cols);
        if ((t.down && !(down && fills(t.down, rows))) || (t.along && !(along && fills(t.along, rect.cols))))
            continue;
        memcpy(work->y, work->x, (size_t)rect.rows * rect.cols * sizeof *work->y);
        vcl_transform_tile(t, work->y, rect.rows, rect.cols);
        const double saved = plain - vcl_estimate_bits(kernels, work->y, rect, step, work->col_energy);
        const double room = log2(step / least_step(vcl_absmax(work->y, (size_t)n)));
        work->gain[i] = n * worth_with(e, saved / n, room);
    }
}

static enum vcl_status try_unit(void *user, uint64_t unit, struct vcl_tile_work *work)
{
    const struct vcl_encoder *const e = user;
    const struct vcl_rect rect = vcl_plan_unit(&e->frame.plan, unit);
    enum vcl_status status = vcl_encoder_read(e, rect, work);
    memset(work->gain, 0, sizeof work->gain);
    if (!status)
        status = vcl_tile_measure(&e->frame, &e->coder, rect, work, &work->stats);
    if (!status)
        try_transforms(e, rect, work);
    return status;
}

static enum vcl_status add_gains(void *user, uint64_t unit, struct vcl_tile_work *work)
{
    struct vcl_encoder *const e = user;
    const struct vcl_rect rect = vcl_plan_unit(&e->frame.plan, unit);
    e->sampled += (uint64_t)rect.rows * rect.cols;
    for (int i = 0; i < VCL_TRANSFORMS; i++)
        e->gain[i] += work->gain[i];
    e->log_step += work->step > 0 ? log2(work->step) : 0;
    e->steps += work->step > 0;
    return VCL_OK;
}

/* What the sample's units gain, as `try` has it, in e->gain. */
static enum vcl_status sum_gains(struct vcl_encoder *e, enum vcl_status (*try)(void *user, uint64_t unit,
                                                                               struct vcl_tile_work *work))
{
    e->sampled = 0;
    memset(e->gain, 0, sizeof e->gain);
    e->log_step = 0;
    e->steps = 0;
    return vcl_encoder_walk_sample(e, try, add_gains);
}

/* What the unit in work->x takes with each transform that is given a step, and its squared error. */
static void weigh_transforms(const struct vcl_encoder *e, struct vcl_rect rect, struct vcl_tile_work *work)
{
    const size_t n = (size_t)rect.rows * rect.cols;
    memset(work->turned, 0, sizeof work->turned);
    work->turned[0].error = e->env->kernels->energy(work->x, NULL, n); /* of nothing at all */
    for (int i = 1; i < VCL_TRANSFORMS; i++) {
        struct vcl_turned *const turned = &work->turned[i];
        const double step = e->turn_step[i];
        if (step == 0)
            continue;
        memcpy(work->y, work->x, n * sizeof *work->y);
        vcl_transform_tile(fit_transform(candidates[i], rect.cols), work->y, rect.rows, rect.cols);
        turned->bits =
            vcl_estimate_indices(e->env->kernels, work->y, rect, step, work->col_energy, &turned->error);
        turned->error *= step * step;
        turned->largest = vcl_absmax(work->y, n);
    }
}

static enum vcl_status weigh_unit(void *user, uint64_t unit, struct vcl_tile_work *work)
{
    const struct vcl_encoder *const e = user;
    const struct vcl_rect rect = vcl_plan_unit(&e->frame.plan, unit);
    enum vcl_status status = vcl_encoder_read(e, rect, work);
    if (!status)
        status = vcl_tile_measure(&e->frame, &e->coder, rect, work, &work->stats);
    if (!status)
        weigh_transforms(e, rect, work);
    return status;
}

static enum vcl_status add_turned(void *user, uint64_t unit, struct vcl_tile_work *work)
{
    struct vcl_encoder *const e = user;
    (void)unit;
    for (int i = 0; i < VCL_TRANSFORMS; i++) {
        e->turned[i].bits += work->turned[i].bits;
        e->turned[i].error += work->turned[i].error;
        e->turned[i].largest = fmaxf(e->turned[i].largest, work->turned[i].largest);
    }
    return VCL_OK;
}

/* The search for a transform's step at the target, and of its trials the one nearest to that. */
struct weighed {
    struct vcl_rate rate;
    struct vcl_trial nearest;
    double distance; /* its, in bits */
};

/* What the sample gave with a candidate's step; one that is too fine counts for nothing.  Near is enough. */
static void take_turned(const struct vcl_encoder *e, int i, struct weighed *weighed)
{
    const struct vcl_params *const p = e->params;
    const struct vcl_turned *const turned = &e->turned[i];
    struct vcl_rate *const rate = &weighed->rate;
    const double error = fmax(turned->error, e->turned[0].error * 0x1p-100);
    const struct vcl_trial trial = { .bits = turned->bits / (double)e->sampled,
                                     .snr = 10 * log10(e->turned[0].error / error) };
    const double distance = fabs(vcl_rate_height(p->goal, p->target, &trial));
    rate->low = log2(fmax(least_step(turned->largest), 0x1p-126));
    if (rate->x >= rate->low) {
        vcl_rate_tell(rate, &trial);
        rate->done |= distance < 0.03 * (p->goal == VCL_GOAL_BITS ? p->target : 1);
        if (distance < weighed->distance)
            weighed->nearest = trial, weighed->distance = distance;
    }
    rate->x = fmax(rate->x, rate->low);
}

/* dB at the bits asked for, or less the bits at the dB; from near there by proportion. */
static double score_of(const struct vcl_params *p, const struct weighed *weighed)
{
    const struct vcl_trial *const t = &weighed->nearest;
    if (!(weighed->distance < INFINITY))
        return -INFINITY;
    if (p->goal == VCL_GOAL_BITS)
        return t->bits > 0.9 * p->target ? t->snr * p->target / t->bits : t->snr;
    return t->snr > p->target - 1 ? -t->bits : -1000 + t->snr;
}

/* Those that save half of what the best does, from the step that their savings promise; returns how many. */
static int begin_weighing(const struct vcl_encoder *e, int best, struct weighed all[VCL_TRANSFORMS])
{
    const struct vcl_params *const p = e->params;
    const double n = (double)e->sampled, start = e->log_step / e->steps;
    int count = 0;
    for (int i = 0; i < VCL_TRANSFORMS; i++) {
        const double finer = p->goal == VCL_GOAL_BITS ? e->gain[i] / n : 0;
        all[i] = (struct weighed){ .distance = INFINITY };
        all[i].rate = vcl_rate_begin(p->goal, p->target, start - 40, start + 10, start - finer);
        all[i].rate.done = i == 0 || 2 * e->gain[i] < e->gain[best];
        count += !all[i].rate.done;
    }
    return count;
}

/* A transform that saves much gets a much finer step than that at which all were tried, and there another may
 * be better.  So the best are weighed at the target, each with a step of its own; from eight octaves between
 * signal and error on too few bits are foretold to tell them apart. */
static enum vcl_status weigh_at_target(struct vcl_encoder *e, int *best)
{
    enum { ROUNDS = 6, FAR = 48 };
    struct weighed all[VCL_TRANSFORMS];
    enum vcl_status status = VCL_OK;
    int left = begin_weighing(e, *best, all);
    if (left < 2)
        return VCL_OK;
    for (int round = 0; round < ROUNDS && left > 0 && !status; round++) {
        memset(e->turned, 0, sizeof e->turned);
        for (int i = 0; i < VCL_TRANSFORMS; i++)
            e->turn_step[i] = all[i].rate.done ? 0 : exp2(all[i].rate.x);
        status = vcl_encoder_walk_sample(e, weigh_unit, add_turned);
        left = 0;
        for (int i = 1; i < VCL_TRANSFORMS && !status; i++) {
            if (!all[i].rate.done)
                take_turned(e, i, &all[i]);
            left += !all[i].rate.done;
        }
    }
    if (all[*best].nearest.snr >= FAR)
        return status;
    for (int i = 1; i < VCL_TRANSFORMS; i++)
        if (score_of(e->params, &all[i]) > score_of(e->params, &all[*best]))
            *best = i;
    return status;
}

static enum vcl_status choose_transform(struct vcl_encoder *e)
{
    const struct vcl_params *const p = e->params;
    if (p->disable & VCL_STAGE_TRANSFORM || p->goal == VCL_GOAL_ERROR || p->rotate || vcl_has_weights(p))
        return VCL_OK;
    enum vcl_status status = sum_gains(e, try_unit);
    int best = 0;
    for (int i = 1; i < VCL_TRANSFORMS; i++)
        if (e->gain[i] > e->gain[best] && e->gain[i] > WORTHWHILE * (double)e->sampled)
            best = i;
    if (!status && best > 0 && p->goal != VCL_GOAL_STEP)
        status = weigh_at_target(e, &best);
    e->frame.transform =
        fit_transform(candidates[best], vcl_min(e->frame.plan.tile_cols, e->frame.plan.cols));
    return status;
}

/* ---- means ----------------------------------------------------------------------------------- */

/* Columns that are rows of unlike size tell nothing of each other: all of them are measured. */
static int has_measured_all(const struct vcl_encoder *e)
{
    return vcl_encoder_samples_all(e) || e->params->row_floor > 0;
}

static enum vcl_status measure_sample(struct vcl_encoder *e)
{
    return vcl_encoder_measure(e, has_measured_all(e) ? VCL_PASS_WHOLE : VCL_PASS_SAMPLE);
}

/* The mean of all values, taken off where that saves 0.002 bit a value: a zero that is no centre would cost
 * every row what its mean is beyond its deviation. */
static enum vcl_status choose_mean(struct vcl_encoder *e)
{
    const double n = (double)e->sampled, energy = e->stats.energy;
    double sum = 0;
    if (e->params->disable & VCL_STAGE_MEANS || energy == 0)
        return VCL_OK;
    for (uint64_t c = 0; c < e->frame.plan.cols; c++)
        sum += e->col_sum[c];
    const double left = fmax(1 - sum * sum / (n * energy), 0x1p-60), values = (double)e->frame.values;
    if (-0.5 * log2(left) * values < 0.002 * values + 32)
        return VCL_OK;
    e->tables->mean = (float)(sum / n);
    e->frame.flags |= VCL_FLAG_MEAN;
    return measure_sample(e);
}

/* Measured rows of a column, and values. */
static double measured_rows(const struct vcl_encoder *e)
{
    return (double)e->sampled / (double)e->frame.plan.cols;
}

/* An exponent for the means' levels.  A level's width costs its square over 24 ln 2 bits a value, in units of
 * the variance, and a bit a column each time it is halved: least at sqrt(12 / rows). */
static int mean_exponent(const struct vcl_encoder *e, double variance, double largest)
{
    int exponent = ilogb(12 * variance / (double)e->frame.plan.rows) >> 1;
    exponent = exponent < -126 ? -126 : exponent;
    while (ldexp(127, exponent) < largest)
        exponent++;
    return exponent;
}

/* Levels of the columns' means; returns the bits a value that taking them off saves, chance's part left
 * out. */
static double choose_levels(struct vcl_encoder *e)
{
    struct vcl_tensor_tables *const tables = e->tables;
    const uint64_t cols = e->frame.plan.cols;
    const double rows = measured_rows(e), energy = e->stats.energy;
    double between = 0, largest = 0, left = energy;
    for (uint64_t c = 0; c < cols; c++) {
        between += e->col_sum[c] * e->col_sum[c] / rows;
        largest = fmax(largest, fabs(e->col_sum[c] / rows));
    }
    const double variance = (energy - between) / ((rows - 1) * (double)cols);
    if (!(variance > 0))
        return 0;
    tables->mean_exponent = mean_exponent(e, variance, largest);
    for (uint64_t c = 0; c < cols; c++) {
        const double unit = ldexp(1, tables->mean_exponent), level = rint(e->col_sum[c] / rows / unit);
        tables->col_level[c] = (int8_t)level;
        left -= level * unit * (2 * e->col_sum[c] - rows * level * unit);
    }
    return 0.5 * log2(energy / (left + variance * (double)cols));
}

/* Bits a unit saves with the means as they are in the tables, to work->gain[0]. */
static enum vcl_status try_means(void *user, uint64_t unit, struct vcl_tile_work *work)
{
    const struct vcl_encoder *const e = user;
    const struct vcl_kernels *const kernels = e->env->kernels;
    const struct vcl_rect rect = vcl_plan_unit(&e->frame.plan, unit);
    struct vcl_frame with = e->frame;
    double step = 0, plain = 0;
    with.flags |= VCL_FLAG_COL_MEANS;
    memset(work->gain, 0, sizeof work->gain);
    enum vcl_status status = vcl_encoder_read(e, rect, work);
    if (!status)
        status = vcl_tile_measure(&e->frame, &e->coder, rect, work, &work->stats);
    if (!status && (step = unit_step(e, rect, work)) > 0)
        plain = vcl_estimate_bits(kernels, work->x, rect, step, work->col_energy);
    if (!status)
        status = vcl_tile_measure(&with, &e->coder, rect, work, &work->stats);
    if (!status && step > 0)
        work->gain[0] = plain - vcl_estimate_bits(kernels, work->x, rect, step, work->col_energy);
    return status;
}

/* Bits that the levels take, and to spare. */
static double levels_cost(const struct vcl_encoder *e)
{
    return 8 * (double)vcl_scales_write(e->tables->col_level, (size_t)e->frame.plan.cols, 1, e->side) + 64;
}

/* Energy says that the means pay; but where a few values have most of it, taking means off the others may
 * cost more.  Means of the sample fit it too well, by 0.72 bit a column. */
static enum vcl_status confirm_means(struct vcl_encoder *e, int *pay)
{
    *pay = 0;
    if (!vcl_tensor_tables_means(&e->frame, e->tables))
        return VCL_OK;
    const enum vcl_status status = sum_gains(e, try_means);
    const double scale = (double)e->frame.values / (double)e->sampled;
    *pay = !status && (e->gain[0] - 0.72 * (double)e->frame.plan.cols) * scale > levels_cost(e);
    return status;
}

/* Do the means save more than they cost?  A transform down the columns has them in one frequency already. */
static int means_pay(struct vcl_encoder *e)
{
    if (e->frame.transform.down || e->params->disable & VCL_STAGE_MEANS || measured_rows(e) < 2)
        return 0;
    const double saved = choose_levels(e) * (double)e->frame.values;
    return saved > levels_cost(e);
}

/* Takes the means off where that saves bits: keys, embeddings. */
static enum vcl_status choose_means(struct vcl_encoder *e)
{
    int pay;
    if (!means_pay(e))
        return VCL_OK;
    enum vcl_status status = confirm_means(e, &pay);
    if (status || !pay)
        return status;
    if (!has_measured_all(e)) {
        status = vcl_encoder_measure(e, VCL_PASS_WHOLE);
        pay = !status && means_pay(e) && vcl_tensor_tables_means(&e->frame, e->tables);
    }
    if (pay)
        e->frame.flags |= VCL_FLAG_COL_MEANS;
    return status ? status : measure_sample(e);
}

/* Bits a value that the columns' classes save, from the measured energies; chance's part taken off. */
static double classes_save(const struct vcl_encoder *e, int8_t *class)
{
    const uint64_t cols = e->frame.plan.cols;
    const double rows = measured_rows(e);
    double sum = 0;
    for (uint64_t c = 0; c < cols; c++) {
        const int measured = vcl_scale_class(e->col_energy[c] / rows);
        class[c] = (int8_t)(measured < -40 ? -40 : measured > 40 ? 40 : measured);
        sum += class[c];
    }
    return -sum / (double)cols / 4 - 0.72 / rows;
}

static int classes_pay(struct vcl_encoder *e)
{
    const size_t cols = (size_t)e->frame.plan.cols;
    const double saved = classes_save(e, e->tables->col_class) * (double)e->frame.values;
    return saved > 8 * (double)vcl_scales_write(e->tables->col_class, cols, 1, e->side) + 64;
}

/* Classes of the columns where they save more than they cost. */
static enum vcl_status choose_classes(struct vcl_encoder *e)
{
    const size_t cols = (size_t)e->frame.plan.cols;
    enum vcl_status status = VCL_OK;
    int pay = !(e->params->disable & VCL_STAGE_COL_CLASSES) && classes_pay(e);
    if (pay && !has_measured_all(e)) {
        status = vcl_encoder_measure(e, VCL_PASS_WHOLE);
        pay = !status && classes_pay(e);
    }
    if (!pay)
        memset(e->tables->col_class, 0, cols);
    for (size_t c = 0; c < cols; c++)
        e->tables->col_weight[c] = vcl_scale_weight(e->tables->col_class[c]);
    return status;
}

/* ---- steps ----------------------------------------------------------------------------------- */

/* In quarter octaves: half a class for each octave of weight, -(log2 weight) / 2, rounded; or what the row's
 * floor wants. */
static int wanted_step(const struct vcl_encoder *e, uint64_t c)
{
    return e->params->row_floor > 0 ? e->floor.step[c] : -vcl_scale_class(e->params->col_weight[c]);
}

/* The columns' steps around their mean. */
static void choose_steps(struct vcl_encoder *e)
{
    const uint64_t cols = e->frame.plan.cols;
    int64_t sum = 0;
    if (!e->params->col_weight && !(e->params->row_floor > 0))
        return;
    for (uint64_t c = 0; c < cols; c++)
        sum += wanted_step(e, c);
    const int64_t mean = (sum + (sum > 0 ? 1 : -1) * (int64_t)(cols / 2)) / (int64_t)cols;
    for (uint64_t c = 0; c < cols; c++) {
        const int64_t exponent = wanted_step(e, c) - mean;
        e->tables->col_exponent[c] = (int8_t)(exponent < -VCL_EXPONENT_MAX  ? -VCL_EXPONENT_MAX
                                              : exponent > VCL_EXPONENT_MAX ? VCL_EXPONENT_MAX
                                                                            : exponent);
    }
    e->frame.flags |= VCL_FLAG_COL_STEPS;
}

static enum vcl_status add_feedback(struct vcl_encoder *e)
{
    const struct vcl_mem *const mem = e->env->mem;
    enum vcl_status status = VCL_OK;
    if (!e->params->feedback)
        return VCL_OK;
    for (size_t i = 0; i < e->walk.slots && !status; i++)
        status = vcl_tensor_work_add_feedback(mem, &e->frame, &e->walk.works[i].tensor);
    if (!status)
        status = vcl_tensor_tables_add_feedback(mem, &e->frame, e->params->feedback, e->tables);
    return status ? vcl_env_fail(e->env, status, "no memory for the feedback of errors") : VCL_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

enum vcl_status vcl_encoder_side(struct vcl_encoder *e)
{
    e->frame.side = e->side;
    e->frame.side_bytes = (uint32_t)vcl_tensor_side_write(&e->frame, e->tables, e->side);
    const uint64_t bytes = vcl_frame_header_bytes(&e->frame);
    e->frame.header_bytes = (uint32_t)bytes;
    return bytes <= VCL_FRAME_HEADER_MAX
             ? VCL_OK
             : vcl_env_fail(e->env, VCL_E_LIMIT, "too many tiles or columns for one frame");
}

enum vcl_status vcl_analyse(struct vcl_encoder *e)
{
    e->frame.flags &= ~(uint32_t)VCL_FLAG_NON_FINITE; /* until a pass meets such values */
    e->tables->one_row_class = (e->params->disable & VCL_STAGE_ROW_CLASSES) != 0;
    e->side = vcl_alloc(e->env->mem, vcl_tensor_side_bound(e->frame.plan.cols), 1);
    if (!e->side)
        return vcl_env_fail(e->env, VCL_E_MEMORY, "no memory for the columns' classes");
    choose_steps(e);
    enum vcl_status status = add_feedback(e);
    if (!status)
        status = measure_sample(e);
    if (!status && e->stats.energy == 0) /* a sample of zeros tells nothing */
        status = vcl_encoder_measure(e, VCL_PASS_WHOLE);
    if (!status)
        status = choose_mean(e);
    if (!status)
        status = choose_transform(e);
    if (!status && (e->frame.transform.down || e->frame.transform.along))
        status = measure_sample(e);
    if (e->stats.non_finite > 0)
        e->frame.flags |= VCL_FLAG_NON_FINITE;
    if (!status)
        status = choose_means(e);
    if (!status)
        status = choose_classes(e);
    return status ? status : vcl_encoder_side(e);
}
