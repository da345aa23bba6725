/* rate.c - finds the step that meets a target.
 *
 * In: a function that codes the tensor with a step.  Out: the step whose result is just on the right
 * side of the target. Both curves are near straight lines of known slope in the logarithm of the step,
 * so a secant through the last two trials nearly always lands in the window at the second or third try;
 * a bracket keeps it honest where a curve bends. */
#include "rate.h"

#include <math.h>

enum { MAX_TRIALS = 12, PATIENCE = 4 };

#define BITS_WINDOW 0.010 /* accept 1 % below the bits asked for: the contract says 2 % */
#define BITS_AIM 0.006
#define X_STEP 0.005   /* sides so near to each other in x have a step between them, where no result is */
#define SNR_WINDOW 0.2 /* dB above the floor */
#define SNR_AIM 0.06
#define DB_PER_BIT 6.0206

/* A trial's height over the aim, in bits: falls as x grows. */
static double height(const struct vcl_rate_search *search, const struct vcl_trial *trial)
{
    if (search->goal == VCL_GOAL_BITS)
        return trial->bits - search->target * (1 - BITS_AIM);
    return fmin(trial->snr - search->target - SNR_AIM, 300) / DB_PER_BIT;
}

int vcl_rate_meets(enum vcl_goal goal, double target, const struct vcl_trial *trial)
{
    return goal == VCL_GOAL_BITS ? trial->bits <= target : trial->snr >= target;
}

int vcl_rate_accepts(enum vcl_goal goal, double target, const struct vcl_trial *trial)
{
    if (!vcl_rate_meets(goal, target, trial))
        return 0;
    return goal == VCL_GOAL_BITS ? trial->bits >= target * (1 - BITS_WINDOW)
                                 : trial->snr <= target + SNR_WINDOW;
}

struct point {
    double x, h;
};

/* Where the line through both sides, or with the usual slope through one, crosses the aim. */
static double next_x(const struct vcl_rate_search *search, const struct point *above,
                     const struct point *below, const struct point *last, double slope, int trial)
{
    double x = last->x - last->h / slope;
    if (!isnan(above->x) && !isnan(below->x)) {
        const double width = below->x - above->x;
        if (trial >= PATIENCE) /* a curve with a kink: halve */
            return above->x + 0.5 * width;
        x = fmin(fmax(x, above->x + 0.03 * width), below->x - 0.03 * width);
    }
    return fmin(fmax(x, search->low), search->high);
}

/* Slope between the last two trials, kept near what theory says. */
static double secant(const struct point *a, const struct point *b)
{
    if (isnan(b->x) || fabs(a->x - b->x) < 1e-3)
        return -0.9;
    return fmin(fmax((a->h - b->h) / (a->x - b->x), -4), -0.15);
}

static int is_better(const struct vcl_rate_search *search, const struct vcl_trial *trial,
                     const struct vcl_rate_result *result)
{
    if (!vcl_rate_meets(search->goal, search->target, trial))
        return 0;
    if (!result->found)
        return 1;
    return search->goal == VCL_GOAL_BITS ? trial->bits > result->trial.bits : trial->snr < result->trial.snr;
}

enum vcl_status vcl_rate_run(const struct vcl_rate_search *search, struct vcl_rate_result *result)
{
    struct point above = { NAN, 0 }, below = { NAN, 0 }, last = { NAN, 0 }, before;
    double x = fmin(fmax(search->guess, search->low), search->high);
    *result = (struct vcl_rate_result){ 0 };
    for (int i = 0; i < MAX_TRIALS; i++) {
        struct vcl_trial trial;
        const enum vcl_status status = search->run(search->user, x, &trial);
        if (status)
            return status;
        result->last_x = x;
        before = last;
        last = (struct point){ x, height(search, &trial) };
        if (is_better(search, &trial, result)) {
            result->found = 1;
            result->x = x;
            result->trial = trial;
        }
        result->accepted = vcl_rate_accepts(search->goal, search->target, &trial);
        if (result->accepted)
            return VCL_OK;
        *(last.h > 0 ? &above : &below) = last;
        if (result->found && below.x - above.x < X_STEP)
            return VCL_OK;
        const double next = next_x(search, &above, &below, &last, secant(&last, &before), i);
        if (fabs(next - x) < 1e-4) /* at an end of the range, or as close as steps can tell */
            return VCL_OK;
        x = next;
    }
    return VCL_OK;
}
