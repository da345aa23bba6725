/* search_tensor.c - finds the settings of the tensor codec that meet a target.
 *
 * x is the logarithm of the half-step.  Passes over a sample count: from their indices follow the model's
 * shape and width, the centroids and what a bit is worth.  They also tell how far their own guess was off,
 * so that the first pass over the whole nearly always meets the target. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/common.h"
#include "codec/encoder.h"
#include "codec/scale.h"

enum { TRIED = 32 };

struct setting {
    double x;
    int shape;
    double width; /* of the model against what the classes say, in sixteenths of an octave */
    int8_t centroid[VCL_CENTROIDS];
    float lambda;
};

struct tensor_search {
    struct vcl_encoder *e;
    uint64_t measured;           /* values in e->stats */
    double deviation;            /* mean of log2 of what a class stands for */
    struct setting now;          /* of the next pass */
    struct setting tried[TRIED]; /* of the passes of the search */
    int passes;
    int own, own_base; /* classes have models of their own, numbered for this row_base (without shift) */
    double least;      /* x below which indices do not suffice */
    double learned;    /* x of the pass that taught `now` */
    double last;       /* x of the last pass */
};

/* ---- what a pass teaches ----------------------------------------------------------------------- */

static uint64_t total_of(const uint32_t symbols[2 * VCL_MODEL_SYMBOLS])
{
    uint64_t sum = 0;
    for (int i = 0; i < 2 * VCL_MODEL_SYMBOLS; i++)
        sum += symbols[i];
    return sum;
}

/* Bits that a class' symbols take with these probabilities. */
static double cost_with(const uint32_t symbols[2 * VCL_MODEL_SYMBOLS], const struct vcl_model *model)
{
    float costs[2 * VCL_MODEL_SYMBOLS];
    double sum = 0;
    vcl_model_costs(model, costs);
    for (int i = 0; i < 2 * VCL_MODEL_SYMBOLS; i++)
        sum += symbols[i] * (double)costs[i];
    return sum;
}

static double class_cost(const struct vcl_tensor_counts *counts, int class, int shape, int fine)
{
    struct vcl_model model;
    vcl_model_make(shape, class, fine, &model);
    return cost_with(counts->symbols[class], &model);
}

/* Bits all counted symbols take. */
static double cost_of(const struct vcl_tensor_counts *counts, int shape, int fine)
{
    double sum = 0;
    for (int class = 0; class < VCL_MODEL_CLASSES; class ++)
        if (total_of(counts->symbols[class]) > 0)
            sum += class_cost(counts, class, shape, fine);
    return sum;
}

/* Shape and width that fit the counts best, found one after the other and once more. */
static double fit_model(const struct vcl_tensor_counts *counts, int shapes, int *best_shape, int *best_fine)
{
    double best = cost_of(counts, *best_shape, *best_fine);
    for (int round = 0; round < 2; round++) {
        for (int shape = 0; shape < shapes; shape++) {
            const double cost = cost_of(counts, shape, *best_fine);
            if (cost < best)
                best = cost, *best_shape = shape;
        }
        for (int step = 4; step > 0; step /= 2)
            for (int sign = -1; sign <= 1; sign += 2)
                for (int fine = *best_fine + sign * step; fine >= -VCL_FINE_MAX && fine <= VCL_FINE_MAX;
                     fine += sign * step) {
                    const double cost = cost_of(counts, *best_shape, fine);
                    if (cost >= best)
                        break;
                    best = cost, *best_fine = fine;
                }
    }
    return best;
}

/* The nearest path, points on the lattice. */
static int is_unbiased(const struct vcl_params *p)
{
    return p->objective == VCL_OBJECTIVE_MODEL || p->goal == VCL_GOAL_ERROR;
}

/* Errors are fed back from points on the lattice. */
static int has_centroids(const struct vcl_params *p)
{
    return !(p->disable & VCL_STAGE_CENTROIDS) && !p->feedback;
}

/* Of the model, in sixteenths of an octave of the half-step. */
static double width_of(const struct tensor_search *s, double x, const struct setting *setting)
{
    return rint(16 * (s->deviation - x) + setting->width);
}

/* Settings of the next pass from the indices of the last; returns the bits a value its symbols would take. */
static double learn(struct tensor_search *s)
{
    const struct vcl_tensor_counts *const counts = &s->e->counts;
    const int shapes = s->e->params->disable & VCL_STAGE_MODEL ? 1 : VCL_SHAPES;
    int fine = s->e->frame.fine;
    const double n = (double)s->e->sampled;
    const double bits = s->own ? 0 : fit_model(counts, shapes, &s->now.shape, &fine) / n;
    s->now.width = width_of(s, s->last, &s->now) + fine - s->e->frame.fine - 16 * (s->deviation - s->last);
    s->learned = s->last;
    if (is_unbiased(s->e->params))
        return bits;
    s->now.lambda = (float)(2 * 0.69314718 * counts->error / n);
    for (int m = 0; m < VCL_CENTROIDS && has_centroids(s->e->params); m++) {
        const double move = counts->shifted[m] >= 64 ? counts->shift[m] / (double)counts->shifted[m] : 0;
        s->now.centroid[m] = (int8_t)fmin(fmax(rint(256 * move), -128), 127);
    }
    return bits;
}

/* ---- passes ---------------------------------------------------------------------------------- */

/* A step of 12 significant bits: the same on machines whose exp2 differ in the last. */
static float step_of(double x)
{
    const float step = (float)exp2(x);
    return vcl_float_from_bits(vcl_float_bits(step) & 0xfffff000);
}

/* What a class leaves of it. */
static int fine_of(const struct tensor_search *s, double x, const struct setting *setting, double class)
{
    const double fine = width_of(s, x, setting) - 4 * (class - VCL_MODEL_UNIT);
    return (int)fmin(fmax(fine, -VCL_FINE_MAX), VCL_FINE_MAX);
}

static enum vcl_status run_setting(struct tensor_search *s, const struct setting *setting,
                                   struct vcl_trial *trial)
{
    struct vcl_encoder *const e = s->e;
    const double x = setting->x, most = VCL_MODEL_CLASSES - 3;
    /* The step is free, classes are a quarter of an octave apart: `fine` takes the sixteenths that are
     * left of the mean deviation, so that rows keep their classes to each other and the rate is a smooth
     * function of the step. */
    const double class = s->own ? s->own_base : rint(width_of(s, x, setting) / 4) + VCL_MODEL_UNIT;
    e->frame.step = step_of(x);
    if (!(e->frame.step >= FLT_MIN && e->frame.step <= FLT_MAX))
        return vcl_env_fail(e->env, VCL_E_RATE, "values are too small or too large to be coded lossily");
    e->frame.shift = (unsigned)fmin(fmax(ceil((class - most) / 4), 0), VCL_SHIFT_MAX);
    e->tables->row_base = (int)class - 4 * (int)e->frame.shift;
    e->frame.fine = fine_of(s, x, setting, class);
    e->frame.shape = setting->shape;
    memcpy(e->frame.centroid, setting->centroid, VCL_CENTROIDS);
    e->tables->lambda = setting->lambda;
    if (!vcl_tensor_tables_steps(&e->frame, e->tables))
        return vcl_env_fail(e->env, VCL_E_RATE, "values are too large to be coded with these column weights");
    vcl_tensor_tables_renew(e->tables);
    s->last = x;
    return vcl_encoder_pass(e, trial);
}

/* A pass of the search.  What was learned holds near where it was learned; far away it is learned anew. */
static enum vcl_status run_trial(void *user, double x, struct vcl_trial *trial)
{
    struct tensor_search *const s = user;
    if (fabs(x - s->learned) > 0.5 && fabs(s->last - s->learned) > 0.5)
        learn(s);
    s->now.x = x;
    s->e->coder.counting = fabs(x - s->learned) > 0.5; /* the next one might learn from this pass */
    s->tried[s->passes++ % TRIED] = s->now;
    return run_setting(s, &s->now, trial);
}

/* ---- models of classes ------------------------------------------------------------------------- */

/* A class' best shape and fine near the frame's, found by steps; returns the bits saved. */
static double fit_class(const struct vcl_tensor_counts *counts, int class, const struct vcl_frame *frame,
                        struct vcl_class_model *own)
{
    enum { MOST = 12 };
    const double plain = class_cost(counts, class, frame->shape, frame->fine);
    double best = plain;
    *own = (struct vcl_class_model){ .shape = (uint8_t)frame->shape };
    for (int round = 0; round < 2; round++)
        for (int way = 0; way < 4; way++)
            for (;;) {
                const int shape = own->shape + (way == 0) - (way == 1),
                          fine = own->fine + 2 * ((way == 2) - (way == 3));
                if (shape < 0 || shape >= VCL_SHAPES || fine < -MOST || fine > MOST)
                    break;
                const double cost = class_cost(counts, class, shape, frame->fine + fine);
                if (cost >= best)
                    break;
                best = cost, own->shape = (uint8_t)shape, own->fine = (int8_t)fine;
            }
    return plain - best;
}

static int most_frequent(const uint16_t freq[VCL_MODEL_SYMBOLS])
{
    int most = 0;
    for (int i = 1; i < VCL_MODEL_SYMBOLS; i++)
        most = freq[i] > freq[most] ? i : most;
    return most;
}

/* Frequencies of sum VCL_MODEL_TOTAL in proportion to counts, to which the model's are added as if seen
 * once in ever so many; escapes have one always, others where it is worth the 0.0014 bit it costs all. */
static void make_table(const uint32_t counts[VCL_MODEL_SYMBOLS], const uint16_t model[VCL_MODEL_SYMBOLS],
                       uint16_t freq[VCL_MODEL_SYMBOLS])
{
    enum { PRIOR = 32 };
    double total = PRIOR;
    int sum = 0;
    for (int i = 0; i < VCL_MODEL_SYMBOLS; i++)
        total += counts[i];
    for (int i = 0; i < VCL_MODEL_SYMBOLS; i++) {
        const double share =
            (counts[i] + PRIOR * (double)model[i] / VCL_MODEL_TOTAL) / total * VCL_MODEL_TOTAL;
        freq[i] = (uint16_t)fmin(rint(share), VCL_MODEL_TOTAL - 2);
        if (freq[i] == 0 && (i == 0 || i == VCL_MODEL_SYMBOLS - 1 || share > 0.125))
            freq[i] = 1;
        sum += freq[i];
    }
    for (; sum > VCL_MODEL_TOTAL; sum--)
        freq[most_frequent(freq)]--;
    const int most = most_frequent(freq);
    freq[most] = (uint16_t)(freq[most] + VCL_MODEL_TOTAL - sum);
}

/* What a class' own table saves over the model it has, in the whole tensor; less what chance in the sample
 * may have promised, and the table's bytes. */
static double table_saves(const struct tensor_search *s, int class, const struct vcl_class_model *own,
                          double scale, uint16_t freq[2][VCL_MODEL_SYMBOLS])
{
    const uint32_t *const symbols = s->e->counts.symbols[class];
    uint8_t bytes[VCL_TABLE_BYTES];
    struct vcl_model model, table;
    size_t size = 1;
    int used = 0;
    vcl_model_make(own->shape, class, s->e->frame.fine + own->fine, &model);
    for (int g = 0; g < 2; g++) {
        make_table(symbols + g * VCL_MODEL_SYMBOLS, model.freq[g], freq[g]);
        size += vcl_tensor_put_table(freq[g], bytes);
    }
    for (int i = 0; i < 2 * VCL_MODEL_SYMBOLS; i++)
        used += symbols[i] > 0;
    vcl_model_take(freq, &table);
    const double chance = 1.44 * used * (scale - 1);
    return (cost_with(symbols, &model) - cost_with(symbols, &table)) * scale - chance - 8.0 * (double)size;
}

/* Models of their own for the classes where a sample says that they pay; returns the bits saved. */
static double choose_class_models(struct tensor_search *s)
{
    struct vcl_encoder *const e = s->e;
    const double scale = (double)e->frame.values / (double)e->sampled;
    double saved = -16, tables = 0;
    for (int class = 0; class < VCL_MODEL_CLASSES; class ++) {
        struct vcl_class_model *const own = &e->tables->own[class];
        *own = (struct vcl_class_model){ .shape = (uint8_t)e->frame.shape };
        if (total_of(e->counts.symbols[class]) == 0)
            continue;
        saved += scale * fit_class(&e->counts, class, &e->frame, own) - 8;
        const double more = table_saves(s, class, own, scale, own->freq);
        own->tabled = more > 0;
        tables += more > 0 ? more : 0;
    }
    if (saved + tables > 0)
        e->frame.flags |= VCL_FLAG_CLASS_MODELS | (tables > 0 ? VCL_FLAG_TABLES : 0u);
    return saved + tables;
}

/* ---- the search ------------------------------------------------------------------------------ */

/* Bits a value against log2 of the deviation over the half-step, measured on N(0,1) with 8 states. */
static double guess_ratio(enum vcl_objective objective, double bits)
{
    static const double table[2][8][2] = {
        { { .1, -1.6 },
          { .498, -.877 },
          { 1, -.282 },
          { 1.95, .847 },
          { 2.9, 1.836 },
          { 3.85, 2.796 },
          { 4.8, 3.75 },
          { 99, 97.95 } },
        { { .02, -1.5 },
          { .18, -.76 },
          { .502, -.376 },
          { 1, .0954 },
          { 1.95, .951 },
          { 2.9, 1.868 },
          { 3.85, 2.806 },
          { 99, 97.95 } },
    };
    const double(*const t)[2] = table[objective == VCL_OBJECTIVE_MSE];
    int i = 1;
    while (i < 7 && bits > t[i][0])
        i++;
    return t[i][1] + (bits - t[i][0]) * (t[i][1] - t[i - 1][1]) / (t[i][0] - t[i - 1][0]);
}

static double guess_x(const struct tensor_search *s)
{
    const struct vcl_params *const p = s->e->params;
    const double deviation = 0.5 * log2(s->e->stats.energy / (double)s->measured);
    if (p->goal == VCL_GOAL_BITS)
        return s->deviation - guess_ratio(p->objective, p->target);
    return deviation + 0.5 * log2(1 / 0.27) - p->target / 6.0206; /* error: 0.27 squared half-steps */
}

/* The counting pass, and where the next should be. */
static enum vcl_status calibrate(struct tensor_search *s, double *x)
{
    struct vcl_trial trial;
    s->now.x = *x;
    s->e->coder.counting = 1;
    const enum vcl_status status = run_setting(s, &s->now, &trial);
    if (status)
        return status;
    const double before =
        s->own ? 0 : cost_of(&s->e->counts, s->e->frame.shape, s->e->frame.fine) / (double)s->e->sampled;
    const double saved = before - learn(s);
    double move = (trial.snr - s->e->params->target - 0.06) / 6.0206;
    if (s->e->params->goal == VCL_GOAL_BITS)
        move = (trial.bits - saved - s->e->params->target * 0.994) / (trial.bits > 1.5 ? 0.99 : 0.85);
    *x = fmax(*x + fmin(fmax(move, -6), 6), s->least); /* far off, the line is none */
    return VCL_OK;
}

/* Where they save 0.002 bit a value and more they are taken, and the next passes keep classes' numbers. */
static enum vcl_status own_models(struct tensor_search *s, double *x)
{
    struct vcl_encoder *const e = s->e;
    const double least = 0.002 * (double)e->frame.values;
    s->own_base = e->tables->row_base + 4 * (int)e->frame.shift;
    e->frame.shape = s->now.shape; /* as the next pass will have them */
    e->frame.fine = fine_of(s, s->last, &s->now, s->own_base);
    if (e->params->disable & VCL_STAGE_MODEL || choose_class_models(s) < least) {
        e->frame.flags &= ~(uint32_t)(VCL_FLAG_CLASS_MODELS | VCL_FLAG_TABLES);
        return VCL_OK;
    }
    s->own = 1;
    const enum vcl_status status = vcl_encoder_side(e);
    return status ? status : calibrate(s, x);
}

static const struct setting *find_tried(const struct tensor_search *s, double x)
{
    int i = 0;
    while (i < TRIED - 1 && s->tried[i].x != x)
        i++;
    return &s->tried[i];
}

/* The mean of log2 of what a class stands for: the rows' deviation, less what the columns' classes take. */
static double mean_deviation(const struct vcl_encoder *e)
{
    double sum = 0;
    for (uint64_t c = 0; c < e->frame.plan.cols; c++)
        sum += e->tables->col_class[c];
    return e->stats.log_deviation / (double)e->stats.lively + sum / (double)e->frame.plan.cols / 4;
}

/* Values too large for an index are listed, coefficients cannot be. */
static double least_x(const struct vcl_encoder *e)
{
    const int listed = !(e->frame.flags & VCL_FLAG_ROTATED) && !vcl_tensor_restores(&e->frame);
    return listed || e->stats.absmax == 0 ? -200 : log2((double)e->stats.absmax / VCL_INDEX_MAX);
}

/* The settings that a sample teaches, and where the search should start.  A guess far off taught about
 * another rate. */
static enum vcl_status learn_from_sample(struct tensor_search *s, double *x)
{
    enum { ROUNDS = 4 };
    enum vcl_status status = VCL_OK;
    s->e->probing = 1;
    for (int i = 0; i < ROUNDS && !status; i++) {
        const double before = *x;
        status = calibrate(s, x);
        if (i > 0 && fabs(*x - before) < 0.05)
            break;
    }
    if (!status)
        status = own_models(s, x);
    s->e->probing = 0;
    s->e->coder.counting = 0;
    return status;
}

/* A scalar quantiser errs by a half-step at most; what rounding to the dtype adds shows when it is there. */
static enum vcl_status search_error(struct tensor_search *s, int *found)
{
    enum { TRIES = 16 };
    struct vcl_encoder *const e = s->e;
    const double target = e->params->target;
    struct vcl_trial trial;
    enum vcl_status status = VCL_OK;
    s->now.x = log2(target);
    s->e->coder.counting = 1;
    e->probing = 1;
    for (int i = 0; i < 2 && !status; i++) {
        status = run_setting(s, &s->now, &trial);
        if (!status)
            learn(s);
    }
    e->probing = 0;
    s->e->coder.counting = 0;
    for (int i = 0; i < TRIES && !status && !*found; i++) {
        status = run_setting(s, &s->now, &trial);
        *found = !status && e->sums.max_error <= target;
        s->now.x -= fmax(log2(e->sums.max_error / target), 0) + 0x1p-10;
    }
    return status;
}

enum vcl_status vcl_search_tensor(struct vcl_encoder *e, int *found, unsigned *flags)
{
    struct tensor_search s = { .e = e, .measured = e->sampled };
    struct vcl_rate_result result = { 0 };
    s.deviation = e->stats.energy > 0 ? mean_deviation(e) : 0;
    s.now.lambda = is_unbiased(e->params) ? 0 : 0.375f; /* 2 ln 2 x 0.27 */
    e->tables->row_unit = exp2(-2 * s.deviation);
    s.least = least_x(e);
    if (e->params->goal == VCL_GOAL_ERROR)
        return search_error(&s, found);
    double x = e->stats.energy > 0 ? fmax(guess_x(&s), s.least) : 0;
    enum vcl_status status = learn_from_sample(&s, &x);
    const struct vcl_rate_search search = {
        e->params->goal, e->params->target, fmax(x - 20, s.least), x + 20, x, &s, run_trial
    };
    if (!status)
        status = vcl_rate_run(&search, &result);
    *found = result.found;
    if (result.found && !result.accepted && e->params->goal == VCL_GOAL_BITS && result.last_x == s.least)
        *flags |= VCL_REPORT_SATURATED; /* indices have no room for a finer step */
    if (status || !result.found || result.x == result.last_x)
        return status;
    struct vcl_trial trial;
    return run_setting(&s, find_tried(&s, result.x), &trial);
}
