/* rate.c - finds the step that meets a target.
 *
 * In: what trials gave.  Out: the next step to try, and which trial is the best.  Both curves are near
 * straight lines of known slope in the logarithm of the step, so a secant through the last two trials nearly
 * always lands in the window at the second or third try; a bracket keeps it honest where a curve bends.  All
 * tolerances of a target are here. */
#include "rate.h"

#include <math.h>

enum { MAX_TRIALS = 12, PATIENCE = 4 };

/* Below the bits asked for 1 % is accepted, but no more than 0.2 dB are worth.  2 % are promised. */
#define BITS_WINDOW 0.010
#define BITS_WINDOW_MOST 0.035
#define BITS_PROMISED 0.98
#define SNR_PROMISED 1.0
#define BITS_AIM 0.6   /* of the window */
#define X_STEP 0.005   /* sides so near to each other in x have a step between them, where no result is */
#define SNR_WINDOW 0.2 /* dB above the floor */
#define SNR_AIM 0.06
#define DB_PER_BIT 6.0206

static double bits_window(double target) { return fmin(BITS_WINDOW * target, BITS_WINDOW_MOST); }

double vcl_rate_height(enum vcl_goal goal, double target, const struct vcl_trial *trial)
{
    if (goal == VCL_GOAL_BITS)
        return trial->bits - target + BITS_AIM * bits_window(target);
    return fmin(trial->snr - target - SNR_AIM, 300) / DB_PER_BIT;
}

int vcl_rate_meets(enum vcl_goal goal, double target, const struct vcl_trial *trial)
{
    return goal == VCL_GOAL_BITS ? trial->bits <= target : trial->snr >= target;
}

int vcl_rate_accepts(enum vcl_goal goal, double target, const struct vcl_trial *trial)
{
    if (!vcl_rate_meets(goal, target, trial))
        return 0;
    return goal == VCL_GOAL_BITS ? trial->bits >= target - bits_window(target)
                                 : trial->snr <= target + SNR_WINDOW;
}

int vcl_rate_fills(enum vcl_goal goal, double target, const struct vcl_trial *trial)
{
    return goal == VCL_GOAL_BITS ? trial->bits >= BITS_PROMISED * target
                                 : trial->snr <= target + SNR_PROMISED;
}

int vcl_rate_prefers(enum vcl_goal goal, double target, const struct vcl_trial *a, const struct vcl_trial *b)
{
    const int meets = vcl_rate_meets(goal, target, a);
    if (meets != vcl_rate_meets(goal, target, b))
        return meets;
    if ((goal == VCL_GOAL_BITS) == meets && a->snr != b->snr)
        return a->snr > b->snr;
    return a->bits < b->bits;
}

/* Slope between the last two trials, kept near what theory says. */
static double secant(const struct vcl_rate_point *a, const struct vcl_rate_point *b)
{
    if (isnan(b->x) || fabs(a->x - b->x) < 1e-3)
        return -0.9;
    return fmin(fmax((a->h - b->h) / (a->x - b->x), -4), -0.15);
}

/* Where the line through both sides, or with the usual slope through one, crosses the aim. */
static double next_x(const struct vcl_rate *rate)
{
    const struct vcl_rate_point *const last = &rate->last;
    double x = last->x - last->h / secant(last, &rate->before);
    if (!isnan(rate->above.x) && !isnan(rate->below.x)) {
        const double width = rate->below.x - rate->above.x;
        if (rate->trials > PATIENCE) /* a curve with a kink: halve */
            return rate->above.x + 0.5 * width;
        x = fmin(fmax(x, rate->above.x + 0.03 * width), rate->below.x - 0.03 * width);
    }
    return fmin(fmax(x, rate->low), rate->high);
}

struct vcl_rate vcl_rate_begin(enum vcl_goal goal, double target, double low, double high, double guess)
{
    const struct vcl_rate_point nowhere = { NAN, 0 };
    return (struct vcl_rate){ .goal = goal,
                              .target = target,
                              .low = low,
                              .high = high,
                              .x = fmin(fmax(guess, low), high),
                              .above = nowhere,
                              .below = nowhere,
                              .last = nowhere,
                              .before = nowhere };
}

int vcl_rate_tell(struct vcl_rate *rate, const struct vcl_trial *trial)
{
    const int better = rate->trials == 0 || vcl_rate_prefers(rate->goal, rate->target, trial, &rate->best);
    if (better) {
        rate->best_x = rate->x;
        rate->best = *trial;
    }
    rate->trials++;
    rate->found |= vcl_rate_meets(rate->goal, rate->target, trial);
    rate->accepted = vcl_rate_accepts(rate->goal, rate->target, trial);
    rate->before = rate->last;
    rate->last = (struct vcl_rate_point){ rate->x, vcl_rate_height(rate->goal, rate->target, trial) };
    *(rate->last.h > 0 ? &rate->above : &rate->below) = rate->last;
    const double next = next_x(rate);
    rate->done = rate->accepted || rate->trials == MAX_TRIALS
              || (rate->found && rate->below.x - rate->above.x < X_STEP)
              || fabs(next - rate->x) < 1e-4; /* at an end of the range, or as close as steps can tell */
    if (!rate->done)
        rate->x = next;
    return better;
}
