/* search_tensor.c - finds the settings of the tensor codec that meet a target.
 *
 * x is the logarithm of the half-step.  Passes over a sample count: from their indices follow the model's
 * shape and width, the centroids and what a bit is worth, and models of the classes' own.  They also tell how
 * far their own guess was off, so that the first pass over the whole nearly always meets the target.
 *
 * What a sample teaches holds near the step that it was coded with: a step further off is learned anew, and
 * where the ordinary search ends short of its target the whole range of steps is looked through. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "codec/search_tensor.h"

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

static double guess_x(const struct vcl_tensor_search *s)
{
    const struct vcl_params *const p = s->e->params;
    const double deviation = 0.5 * log2(s->e->stats.energy / (double)s->measured);
    if (p->goal == VCL_GOAL_BITS)
        return s->deviation - guess_ratio(p->objective, p->target);
    return deviation + 0.5 * log2(1 / 0.27) - p->target / 6.0206; /* error: 0.27 squared half-steps */
}

enum { X_MOST = 120 }; /* of a step that is a float, with room for columns' exponents */

#define X_LEAST (-125.9) /* of a step that is a normal float */

/* Values too large for an index are listed, coefficients cannot be. */
static double least_x(const struct vcl_encoder *e)
{
    const int listed =
        !(e->frame.flags & VCL_FLAG_ROTATED) && !e->frame.transform.down && !e->frame.transform.along;
    const double held = listed || e->stats.absmax == 0 ? -200 : log2((double)e->stats.absmax / VCL_INDEX_MAX);
    return fmax(held, X_LEAST);
}

static struct vcl_rate begin_rate(const struct vcl_tensor_search *s, double x)
{
    const struct vcl_params *const p = s->e->params;
    return vcl_rate_begin(p->goal, p->target, fmax(x - 20, s->least), fmin(fmax(x, s->least) + 20, X_MOST),
                          x);
}

/* Further than this from where they were learned settings hold no more. */
static int is_stale(const struct vcl_tensor_search *s, double x)
{
    return !(fabs(x - s->learned) <= (s->own ? 0.12 : 0.5));
}

/* Where a trial says that the target is met: what it taught moves it, so no line goes through two of them. */
static double move_by(const struct vcl_tensor_search *s, double x, const struct vcl_trial *trial)
{
    const struct vcl_params *const p = s->e->params;
    const double height = vcl_rate_height(p->goal, p->target, trial), slope = trial->bits > 1.5 ? 0.99 : 0.85;
    return fmin(fmax(x + fmin(fmax(height / slope, -6), 6), s->least),
                X_MOST); /* far off, the line is none */
}

/* The step that meets the target on the sample, and the settings for it.  A guess far off taught about
 * another rate. */
static enum vcl_status find_step(struct vcl_tensor_search *s, double *x, struct vcl_trial *expected)
{
    enum { ROUNDS = 5 };
    enum vcl_status status = VCL_OK;
    for (int i = 0; i < ROUNDS && !status; i++) {
        status = vcl_survey(s, *x, expected);
        *x = move_by(s, *x, expected);
        if (i > 0 && fabs(*x - s->last) < 0.05)
            break;
    }
    if (!status)
        status = vcl_take_own_models(s);
    if (status || !s->own)
        return status;
    status = vcl_try_own_models(s, *x, expected);
    *x = move_by(s, *x, expected);
    return status;
}

/* ---- the whole tensor -------------------------------------------------------------------------- */

static int is_better(const struct vcl_tensor_search *s, const struct vcl_trial *a, const struct vcl_trial *b)
{
    return vcl_rate_prefers(s->e->params->goal, s->e->params->target, a, b);
}

/* What a bit does against the error. */
static double worth_of(const struct vcl_encoder *e, const struct vcl_trial *trial)
{
    return (1 - pow(10, -trial->snr / 10)) / fmax(trial->bits - vcl_fixed_bits(e), 0.001);
}

/* Keeps the settings of the last pass if it is the best so far. */
static void keep_better(struct vcl_tensor_search *s, const struct vcl_setting *setting,
                        const struct vcl_trial *trial)
{
    const struct vcl_params *const p = s->e->params;
    if (!vcl_rate_meets(p->goal, p->target, trial)
        && (!s->any_beyond || worth_of(s->e, trial) > worth_of(s->e, &s->beyond.trial))) {
        s->any_beyond = 1;
        s->beyond = vcl_save_setting(s, setting, trial);
    }
    s->in_sink = !s->any || is_better(s, trial, &s->best.trial);
    s->any = 1;
    if (s->in_sink)
        s->best = vcl_save_setting(s, setting, trial);
}

/* The best pass once more, where another has come after it, or settings for one that never came. */
static enum vcl_status finish(struct vcl_tensor_search *s)
{
    const struct vcl_frame *const f = &s->e->frame;
    struct vcl_trial trial;
    if (s->in_sink && f->flags == s->best.flags && f->states == s->best.states)
        return VCL_OK;
    const enum vcl_status status = vcl_restore_setting(s, &s->best);
    return status ? status : vcl_run_setting(s, &s->now, VCL_PASS_WHOLE, &trial);
}

/* The sample foretold another rate than the whole takes: it is like the whole no more than by chance. */
static int misleads(const struct vcl_trial *expected, const struct vcl_trial *trial)
{
    return fabs(trial->bits - expected->bits) > 0.1 * trial->bits + 0.05;
}

/* A pass over all of it, from which settings are learned where the sample cannot be trusted. */
static enum vcl_status learn_from_whole(struct vcl_tensor_search *s, double x, struct vcl_trial *trial)
{
    enum vcl_status status = vcl_drop_own_models(s);
    struct vcl_setting setting = s->now;
    setting.x = x;
    if (!status)
        status = vcl_run_setting(s, &setting, VCL_PASS_COUNTED, trial);
    if (status)
        return status;
    keep_better(s, &setting, trial);
    vcl_learn(s);
    return VCL_OK;
}

/* Where steps that no points price come nearest to the target. */
static void note_nearest(struct vcl_tensor_search *s, double x, const struct vcl_trial *trial)
{
    const struct vcl_params *const p = s->e->params;
    const double height = fabs(vcl_rate_height(p->goal, p->target, trial));
    if (!s->e->tables->priced && !(height >= s->near_height))
        s->near = x, s->near_height = height;
}

/* A pass over all of it. */
static enum vcl_status run_trial(struct vcl_tensor_search *s, double x, struct vcl_trial *trial)
{
    struct vcl_trial expected = s->expected;
    if (is_stale(s, x) && s->misled)
        return learn_from_whole(s, x, trial);
    enum vcl_status status = is_stale(s, x) ? vcl_settle(s, x, &expected) : VCL_OK;
    struct vcl_setting setting = s->now;
    if (s->e->tables->priced) /* as x would: a bit a value for an octave */
        setting.lambda *= (float)exp2(4 * (x - setting.x));
    else
        setting.x = x;
    if (!status)
        status = vcl_run_setting(s, &setting, VCL_PASS_WHOLE, trial);
    if (status)
        return status;
    s->misled |= fabs(x - s->learned) < 0.1 && misleads(&expected, trial);
    note_nearest(s, x, trial);
    keep_better(s, &setting, trial);
    return VCL_OK;
}

static enum vcl_status search_around(struct vcl_tensor_search *s, double x, struct vcl_rate *rate)
{
    enum vcl_status status = VCL_OK;
    struct vcl_trial trial;
    *rate = begin_rate(s, x);
    while (!status && !rate->done) {
        status = run_trial(s, rate->x, &trial);
        if (!status)
            vcl_rate_tell(rate, &trial);
    }
    return status;
}

/* Less than every source gives away to a scalar quantiser with ideal coding (docs/design.md), beside what a
 * frame takes before it tells of values. */
static double floor_of(const struct vcl_encoder *e, const struct vcl_trial *trial)
{
    const double bits = e->params->goal == VCL_GOAL_BITS ? e->params->target : trial->bits;
    const double left = bits - vcl_fixed_bits(e);
    return (left < 1 ? 2.5 : 3.6) * left;
}

/* Of weighted errors SNR is no measure: there a result is poor that is none. */
static int is_below(const struct vcl_encoder *e, const struct vcl_trial *trial, double floors)
{
    const struct vcl_params *const p = e->params;
    if (vcl_has_weights(p))
        return trial->snr <= 0 || !vcl_rate_meets(p->goal, p->target, trial);
    return trial->snr < floors * floor_of(e, trial);
}

/* Near the floor, so that more is tried. */
static int is_poor(const struct vcl_encoder *e, const struct vcl_trial *trial)
{
    return is_below(e, trial, 1.03);
}

/* Do values lie on points, so that what a step gives depends on how it falls on them?  From 1.5 bits on a
 * quantiser errs by about 0.27 squared half-steps a value of those that are not 0, a scalar one by 0.33. */
static int is_rough(const struct vcl_tensor_search *s, const struct vcl_trial *trial)
{
    return !vcl_has_weights(s->e->params) && trial->bits > 1.5 && (s->error > 0.38 || s->error < 0.2);
}

/* So few values that many steps can be tried: lists and tables weigh much there, and chance does, of values
 * on few points most. */
static int is_small(const struct vcl_encoder *e)
{
    enum { SMALL = 16384 };
    return e->frame.values <= SMALL || e->few_points;
}

/* Of all that meets the target the best has as much as indices can tell, from the largest value to rounding:
 * what lies beyond is chance, or the business of exact coding. */
static int is_precise(const struct vcl_tensor_search *s)
{
    const struct vcl_params *const p = s->e->params;
    return p->goal == VCL_GOAL_BITS && s->any && s->best.trial.snr >= 80
        && vcl_rate_meets(p->goal, p->target, &s->best.trial);
}

/* Did an ordinary search end where it should? */
static int went_wrong(const struct vcl_tensor_search *s, const struct vcl_rate *rate)
{
    const int at_the_end = rate->found && rate->best_x <= s->least && !is_small(s->e); /* no step is finer */
    const int fills = rate->found && vcl_rate_fills(rate->goal, rate->target, &rate->best);
    return (!fills && !at_the_end) || is_poor(s->e, &rate->best) || is_rough(s, &rate->best);
}

/* Far more than was asked for: steps need not be finer. */
static int is_far_beyond(const struct vcl_params *p, const struct vcl_trial *trial)
{
    return p->goal == VCL_GOAL_BITS ? trial->bits > p->target + 2 : trial->snr > p->target + 20;
}

/* What a step is worth: on the sample, or where that holds everything, on the whole. */
static enum vcl_status weigh_step(struct vcl_tensor_search *s, double x, struct vcl_trial *trial)
{
    const enum vcl_status status = vcl_settle(s, x, trial);
    return status || !vcl_encoder_samples_all(s->e) ? status : run_trial(s, x, trial);
}

/* All steps that make sense: from the one at which every index is 0 to the finest, where rows and columns of
 * usual size have 16 octaves. */
static double coarsest_x(const struct vcl_tensor_search *s)
{
    const double zero = log2(fmax((double)s->e->stats.absmax, FLT_MIN)) + 1;
    return fmin(fmax(ceil(zero), s->least), X_MOST);
}

static double finest_x(const struct vcl_tensor_search *s)
{
    return fmin(fmax(s->deviation - 16, s->least), coarsest_x(s));
}

/* Just fine enough for the largest value to be listed. */
static double listing_x(const struct vcl_tensor_search *s)
{
    return log2(fmax((double)s->e->stats.largest, FLT_MIN) / VCL_INDEX_MAX) - 0x1p-10;
}

/* Looks through the steps from one on, half an octave apart, from coarse to fine, for the best: where the
 * values lie on points, bits and SNR rise and fall with the step.  The same steps for every target. */
static enum vcl_status look_through(struct vcl_tensor_search *s, double from, double *x,
                                    struct vcl_trial *best)
{
    enum { BEYOND = 3 };
    const double last = finest_x(s);
    enum vcl_status status = VCL_OK;
    struct vcl_trial trial;
    int beyond = 0, any = 0;
    for (double at = from; at > last - 0.5 && beyond < BEYOND && !status; at -= 0.5) {
        at = fmax(at, last);
        status = weigh_step(s, at, &trial);
        if (status)
            break;
        if (!any || is_better(s, &trial, best))
            *x = at, *best = trial, any = 1;
        beyond = is_far_beyond(s->e->params, &trial) ? beyond + 1 : 0;
    }
    for (double move = 0.25; move > 0.03 && any && !status; move *= 0.5)
        for (int sign = -1; sign <= 1 && !status; sign += 2) {
            const double at = fmax(*x + sign * move, s->least);
            status = weigh_step(s, at, &trial);
            if (!status && is_better(s, &trial, best))
                *x = at, *best = trial;
        }
    return status;
}

/* The whole around the best step from one on; what was learned for one target is forgotten. */
static enum vcl_status search_from(struct vcl_tensor_search *s, double from)
{
    struct vcl_trial trial;
    struct vcl_rate rate;
    double x = s->deviation;
    enum vcl_status status = vcl_drop_own_models(s);
    s->now = vcl_first_setting(s);
    s->learned = NAN;
    if (!status)
        status = look_through(s, from, &x, &trial);
    return status ? status : search_around(s, x, &rate);
}

/* The same among all steps.  What takes far too much may take little again where outliers are listed. */
static enum vcl_status search_everywhere(struct vcl_tensor_search *s)
{
    const uint32_t flags = s->e->frame.flags;
    enum vcl_status status = search_from(s, coarsest_x(s));
    if (status || !(listing_x(s) > finest_x(s)))
        return status;
    status = search_from(s, listing_x(s));
    if (!(flags & VCL_FLAG_NON_FINITE))
        s->e->frame.flags &= ~(uint32_t)VCL_FLAG_NON_FINITE; /* other searches may do without a list */
    return status;
}

/* What a step gives, whatever was learned before. */
static enum vcl_status try_alone(struct vcl_tensor_search *s, double x, struct vcl_trial *trial)
{
    enum vcl_status status = vcl_drop_own_models(s);
    s->now = vcl_first_setting(s);
    if (!status)
        status = vcl_survey(s, x, trial);
    if (!status)
        status = vcl_settle(s, x, trial);
    return status ? status : run_trial(s, x, trial);
}

/* Few values leave much to chance: what one step gives, its neighbour does not.  So the best is taken of the
 * steps in a range around the nearest, a sixteenth of an octave apart, each learned on its own: what they
 * give does not depend on the target, so that targets near to each other choose among the same results.
 * Where values lie on few points a little more or less loses them: there the best is moved by less and less */
static enum vcl_status search_range(struct vcl_tensor_search *s)
{
    enum { PART = 16, COARSER = 16, FINER = 4 };
    const double base = ceil(PART * s->near);
    struct vcl_trial trial;
    enum vcl_status status = VCL_OK;
    for (int i = COARSER; i >= -FINER && !status; i--)
        status = try_alone(s, fmin(fmax((base + i) / PART, s->least), X_MOST), &trial);
    for (double move = 0.5 / PART; move > 0.001 && s->e->few_points && !status; move *= 0.5)
        for (int sign = -1; sign <= 1 && !status; sign += 2)
            status = try_alone(s, fmin(fmax(s->best.setting.x + sign * move, s->least), X_MOST), &trial);
    return status;
}

/* ---- the whole ------------------------------------------------------------------------------- */

/* A scalar quantiser errs by a half-step at most; what rounding to the dtype adds shows when it is there. */
static enum vcl_status search_error(struct vcl_tensor_search *s, int *found)
{
    enum { TRIES = 16 };
    struct vcl_encoder *const e = s->e;
    const double target = e->params->target;
    struct vcl_trial trial;
    enum vcl_status status = VCL_OK;
    s->now.x = log2(target);
    for (int i = 0; i < 2 && !status; i++) {
        status = vcl_sample_pass(s, s->now.x, &trial);
        if (!status)
            vcl_learn(s);
    }
    for (int i = 0; i < TRIES && !status && !*found; i++) {
        status = vcl_run_setting(s, &s->now, VCL_PASS_WHOLE, &trial);
        *found = !status && e->sums.max_error <= target;
        s->now.x -= fmax(log2(e->sums.max_error / target), 0) + 0x1p-10;
    }
    return status;
}

/* All is learned at the step asked for. */
static enum vcl_status search_no_step(struct vcl_tensor_search *s, int *found)
{
    const double x = log2(s->e->params->target);
    struct vcl_trial trial;
    enum vcl_status status = vcl_settle(s, x, &trial);
    s->now.x = x;
    if (!status)
        status = vcl_run_setting(s, &s->now, VCL_PASS_WHOLE, &trial);
    *found = !status;
    return status;
}

/* All indices 0: the least that a frame can be, for targets below what any other takes. */
static enum vcl_status zero_all(struct vcl_tensor_search *s)
{
    struct vcl_trial trial;
    enum vcl_status status = vcl_drop_own_models(s);
    if (!status)
        status = vcl_drop_lists(s);
    s->e->tables->one_row_class = 1;
    s->now = (struct vcl_setting){ .x = fmin(log2(fmax((double)s->e->stats.absmax, FLT_MIN)) + 8, X_MOST),
                                   .width = -16 * 16 };
    if (!status)
        status = vcl_run_setting(s, &s->now, VCL_PASS_WHOLE, &trial);
    if (!status)
        keep_better(s, &s->now, &trial);
    return status;
}

/* The best that the ordinary way finds; *wrong: it did not end where it should. */
static enum vcl_status search_well(struct vcl_tensor_search *s, double x, int *wrong)
{
    const struct vcl_params *const p = s->e->params;
    struct vcl_trial expected;
    struct vcl_rate rate;
    enum vcl_status status = find_step(s, &x, &expected);
    s->expected = expected;
    const struct vcl_kept plain = vcl_save_setting(s, &s->now, &expected);
    double shaped = x;
    if (!status && (p->objective == VCL_OBJECTIVE_MSE || s->biased) && vcl_has_centroids(p))
        status = vcl_shape_points(s, &shaped, &expected);
    const int priced = s->e->tables->priced;
    if (!status)
        status = search_around(s, shaped, &rate);
    *wrong = !status && went_wrong(s, &rate);
    if (status || !priced || !*wrong)
        return status;
    status = vcl_restore_setting(s, &plain); /* there is a gap in what they reach: without them */
    return status ? status : search_around(s, x, &rate);
}

/* The columns' lists as they were at first. */
static enum vcl_status take_lists(struct vcl_tensor_search *s, uint32_t flags)
{
    struct vcl_encoder *const e = s->e;
    e->frame.flags = flags | (e->frame.flags & VCL_FLAG_NON_FINITE);
    vcl_set_lists(s, 1);
    return vcl_encoder_side(e);
}

/* The ordinary way, and where it goes wrong, or costs next to nothing, every other. */
static enum vcl_status search_every_way(struct vcl_tensor_search *s, double x)
{
    const int small = is_small(s->e);
    int wrong;
    enum vcl_status status = search_well(s, x, &wrong);
    wrong = !is_precise(s) && (wrong || (small && s->unusual));
    if (!status && wrong)
        status = search_everywhere(s);
    if (!status && wrong && small)
        status = search_range(s);
    return status;
}

/* Do the columns' lists, the bits a value of which are given, take a good part of the target, or do a few
 * values leave much to chance? */
static int lists_weigh(const struct vcl_tensor_search *s, double lists)
{
    enum { PART = 8 };
    const struct vcl_params *const p = s->e->params;
    const double bits = p->goal == VCL_GOAL_BITS ? p->target : s->best.trial.bits;
    return lists > 0 && (is_small(s->e) || PART * lists >= bits);
}

/* The same; where lists weigh, with them and without. */
static enum vcl_status search_all(struct vcl_tensor_search *s, double x)
{
    const struct vcl_frame *const f = &s->e->frame;
    const double lists = 8 * (double)f->side_bytes / (double)f->values;
    enum vcl_status status = search_every_way(s, x);
    if (status || f->flags & VCL_FLAG_COL_STEPS || !lists_weigh(s, lists))
        return status;
    status = vcl_drop_lists(s);
    return status ? status : search_every_way(s, is_small(s->e) ? x : s->best.setting.x);
}

/* A few values all of one size take their bit or none: below that rate a part of the rows is coded well and
 * the others not at all, which is what a line between two rates is worth. */
static enum vcl_status leave_rows_out(struct vcl_tensor_search *s)
{
    enum { TRIES = 10 };
    struct vcl_encoder *const e = s->e;
    uint64_t fit = 0, many = e->frame.plan.rows;
    struct vcl_trial trial;
    enum vcl_status status = vcl_restore_setting(s, &s->beyond);
    for (int i = 0; i < TRIES && !status && many - fit > 1; i++) {
        e->tables->kept_rows = fit + (many - fit) / 2;
        status = vcl_run_setting(s, &s->now, VCL_PASS_WHOLE, &trial);
        if (!status)
            keep_better(s, &s->now, &trial);
        *(vcl_rate_meets(VCL_GOAL_BITS, e->params->target, &trial) ? &fit : &many) = e->tables->kept_rows;
    }
    e->tables->kept_rows = UINT64_MAX;
    return status;
}

/* Once more from the start, with what the caller has changed. */
static enum vcl_status search_again(struct vcl_tensor_search *s, uint32_t flags)
{
    s->e->tables->priced = s->own = s->misled = 0;
    s->now = vcl_first_setting(s);
    s->learned = NAN;
    const enum vcl_status status = take_lists(s, flags);
    return status ? status : search_all(s, s->deviation);
}

/* More ways, after the first, where that is poor or few values leave much to chance. */
static enum vcl_status search_further(struct vcl_tensor_search *s, uint32_t flags)
{
    struct vcl_encoder *const e = s->e;
    const struct vcl_params *const p = e->params;
    enum vcl_status status = VCL_OK;
    if (e->frame.states == 0 && !(p->disable & VCL_STAGE_TRELLIS)
        && (is_small(e) || is_poor(e, &s->best.trial))) {
        e->frame.states = VCL_RESCUE_STATES; /* few points, far apart, have no finer choice */
        status = search_again(s, flags);
    } else if (e->frame.states > 0 && e->few_points && !is_precise(s)) {
        const int states = e->frame.states;
        e->frame.states = 0; /* every value may have its point, which a trellis does not allow */
        status = search_again(s, flags);
        e->frame.states = states;
    }
    if (!status && p->objective == VCL_OBJECTIVE_MODEL && is_below(e, &s->best.trial, 1)) {
        s->biased = 1; /* what unbiased coding makes of so few bits is of no use */
        status = search_again(s, flags);
    }
    if (!status && p->goal == VCL_GOAL_BITS && s->any_beyond && is_poor(e, &s->best.trial))
        status = leave_rows_out(s);
    return status;
}

/* Are values unlike those that the models were made for? */
static enum vcl_status look_at_values(struct vcl_tensor_search *s)
{
    enum { HEAVY = 4, FAR = 2 }; /* shape; sixteenths of an octave that rows and columns do not account for */
    struct vcl_trial trial;
    const enum vcl_status status = vcl_survey(s, vcl_telling_x(s), &trial);
    s->unusual = s->e->few_points || vcl_promise_of(s) > VCL_OWN_SHAPE || s->now.shape > HEAVY
              || fabs(s->now.width) > FAR;
    s->now = vcl_first_setting(s);
    s->learned = NAN;
    return status;
}

static enum vcl_status search_rate(struct vcl_tensor_search *s, int *found, unsigned *flags)
{
    struct vcl_encoder *const e = s->e;
    const struct vcl_params *const p = e->params;
    const uint32_t given = e->frame.flags;
    enum vcl_status status = VCL_OK;
    if (is_small(e))
        status = look_at_values(s);
    if (!status)
        status = search_all(s, e->stats.energy > 0 ? fmax(guess_x(s), s->least) : 0);
    if (!status)
        status = search_further(s, given);
    if (!status && p->goal == VCL_GOAL_BITS && !vcl_rate_meets(p->goal, p->target, &s->best.trial))
        status = zero_all(s);
    if (!status)
        status = finish(s);
    *found = !status && vcl_rate_meets(p->goal, p->target, &s->best.trial);
    if (*found && s->best.trial.snr > 0 && !vcl_rate_fills(p->goal, p->target, &s->best.trial))
        *flags |= VCL_REPORT_SATURATED; /* no step that takes more is better */
    return status;
}

enum vcl_status vcl_search_tensor(struct vcl_encoder *e, int *found, unsigned *flags)
{
    struct vcl_tensor_search s = { .e = e, .measured = e->sampled, .near_height = INFINITY };
    s.now = vcl_first_setting(&s);
    enum vcl_status status = vcl_remember_lists(&s);
    vcl_find_deviations(&s);
    s.least = least_x(e);
    const enum vcl_goal goal = e->params->goal;
    if (!status)
        status = goal == VCL_GOAL_ERROR ? search_error(&s, found)
               : goal == VCL_GOAL_STEP  ? search_no_step(&s, found)
                                        : search_rate(&s, found, flags);
    vcl_free(e->env->mem, s.class);
    return status;
}
