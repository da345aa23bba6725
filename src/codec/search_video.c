/* search_video.c - finds the settings of the video codecs that meet a target.
 *
 * The step has three knobs, from coarse to fine: the depth of the samples, QP, and a multiplier on the
 * rounding step.  x, the logarithm of the step in levels of an 8-bit range, stands for all three.  Where
 * even QP's finest is too coarse, the rounded tensor itself is coded exactly, and the multiplier alone sets
 * the rate. */
#include <math.h>

#include "codec/encoder.h"

struct setting {
    double x;
    int lossless;
};

struct video_search {
    struct vcl_encoder *e;
    struct vcl_video_range ranges[3]; /* of depths 8, 10, 12; known[] says which were asked */
    int known[3];
    struct setting last; /* of the last whole pass */
};

/* ---- settings -------------------------------------------------------------------------------- */

/* What the encoder can do at depth 8, 10 or 12, asked once. */
static enum vcl_status depth_range(struct video_search *s, int depth, const struct vcl_video_range **range)
{
    const int i = (depth - 8) / 2;
    char message[VCL_VIDEO_MESSAGE] = "";
    if (!s->known[i]) {
        const enum vcl_status status =
            s->e->env->video->range(&s->e->coder.config, depth, &s->ranges[i], message);
        if (status)
            return vcl_env_fail(s->e->env, status, "%s", message);
        s->known[i] = 1;
    }
    *range = &s->ranges[i];
    return VCL_OK;
}

/* Rounding to 8 bits adds 1/12 of a squared level of noise, a quantiser of step q adds q^2/12: where q
 * is 4 levels and more the former costs less than 0.05 bit. */
static int depth_wanted(const struct video_search *s, double x)
{
    if (s->e->params->depth)
        return s->e->params->depth;
    return x >= 2 ? 8 : x >= 0 ? 10 : 12;
}

/* The deepest depth up to the one wanted that works; 8 always must. */
static enum vcl_status choose_depth(struct video_search *s, int wanted, int lossless,
                                    const struct vcl_video_range **range)
{
    for (int depth = wanted;; depth -= 2) {
        const enum vcl_status status = depth_range(s, depth, range);
        if (!status && (*range)->works && (!lossless || (*range)->lossless)) {
            s->e->frame.depth = depth;
            return VCL_OK;
        }
        if (depth == 8 || s->e->params->depth)
            return status ? status
                          : vcl_env_fail(s->e->env, VCL_E_CODEC, "the encoder cannot code %d bits%s", depth,
                                         lossless ? " exactly" : "");
    }
}

static double range_of(const struct video_search *s)
{
    return s->e->frame.flags & VCL_FLAG_ROW_SCALES ? 1 : s->e->stats.absmax;
}

static enum vcl_status apply(struct video_search *s, struct setting setting)
{
    const struct vcl_video_range *range;
    const int wanted =
        setting.lossless ? (s->e->params->depth ? s->e->params->depth : 12) : depth_wanted(s, setting.x);
    const enum vcl_status status = choose_depth(s, wanted, setting.lossless, &range);
    double multiplier = exp2(setting.x);
    if (status)
        return status;
    s->e->coder.config.lossless = setting.lossless;
    if (!setting.lossless) {
        const double qp = floor(6 * setting.x + 4);
        s->e->coder.config.qp = (int)fmin(fmax(qp, range->qp_min), range->qp_max);
        multiplier = exp2(setting.x - (s->e->coder.config.qp - 4) / 6.0);
    }
    s->e->frame.step = (float)(fmax(multiplier, 1) * range_of(s) / ((1 << (s->e->frame.depth - 1)) - 1));
    return VCL_OK;
}

static enum vcl_status run_setting(struct video_search *s, struct setting setting, enum vcl_pass pass,
                                   struct vcl_trial *trial)
{
    enum vcl_status status = apply(s, setting);
    if (!status)
        status = vcl_encoder_pass(s->e, pass, trial);
    if (!status && pass == VCL_PASS_WHOLE)
        s->last = setting;
    return status;
}

static enum vcl_status run_rate(struct video_search *s, int lossless, enum vcl_pass pass,
                                struct vcl_rate *rate)
{
    enum vcl_status status = VCL_OK;
    struct vcl_trial trial;
    while (!status && !rate->done) {
        status = run_setting(s, (struct setting){ rate->x, lossless }, pass, &trial);
        if (!status)
            vcl_rate_tell(rate, &trial);
    }
    return status;
}

/* ---- the search ------------------------------------------------------------------------------ */

/* Step for the target on a Gaussian of the tensor's deviation: an entropy-coded quantiser of step q
 * spends about log2(s/q) + 2.1 bits, less at low rates, and errs by q^2/12 (measured on x265,
 * docs/experiments.md). */
static double guess_x(const struct video_search *s)
{
    const double deviation = 127 * sqrt(s->e->stats.scaled_energy / (double)s->e->frame.values) / range_of(s);
    if (s->e->params->goal == VCL_GOAL_BITS)
        return log2(deviation) - 0.5 * log2((exp2(2 * s->e->params->target) - 1) / 18.8);
    return log2(deviation) + 0.5 * log2(12) - s->e->params->target / 6.0206;
}

static enum vcl_status search_setting(struct video_search *s, int lossless, double low, double high,
                                      double guess, struct vcl_rate *rate)
{
    const struct vcl_params *const p = s->e->params;
    enum vcl_status status = VCL_OK;
    *rate = vcl_rate_begin(p->goal, p->target, low, high, guess);
    if (s->e->frame.plan.tiles > VCL_PROBE_ABOVE) {
        status = run_rate(s, lossless, VCL_PASS_SAMPLE, rate);
        *rate = vcl_rate_begin(p->goal, p->target, low, high, rate->best_x);
    }
    return status ? status : run_rate(s, lossless, VCL_PASS_WHOLE, rate);
}

/* Finest step the encoder has, in x. */
static enum vcl_status lowest_x(struct video_search *s, double *low)
{
    const struct vcl_video_range *range;
    const enum vcl_status status = choose_depth(s, s->e->params->depth ? s->e->params->depth : 12, 0, &range);
    if (!status)
        *low = (range->qp_min - 4) / 6.0;
    return status;
}

/* The rounded tensor coded exactly: with the finest rounding first, which may be below the target
 * already (then the tensor is saturated), else as coarsely rounded as the target allows. */
static enum vcl_status search_exact(struct video_search *s, struct vcl_rate *rate, unsigned *flags)
{
    struct vcl_trial trial;
    const struct setting finest = { 0, 1 };
    const enum vcl_goal goal = s->e->params->goal;
    enum vcl_status status = run_setting(s, finest, VCL_PASS_WHOLE, &trial);
    if (status)
        return status;
    const int meets = vcl_rate_meets(goal, s->e->params->target, &trial);
    if ((goal == VCL_GOAL_BITS) == meets) {
        *rate = (struct vcl_rate){ .found = meets, .best = trial };
        *flags |= meets ? VCL_REPORT_SATURATED : 0;
        return VCL_OK;
    }
    const double gap = goal == VCL_GOAL_BITS ? trial.bits - s->e->params->target
                                             : (trial.snr - s->e->params->target) / 6.0206;
    return search_setting(s, 1, 0, s->e->frame.depth - 2, fmin(gap, 20), rate);
}

enum vcl_status vcl_search_video(struct vcl_encoder *e, int *found, unsigned *flags)
{
    struct video_search search = { .e = e }, *const s = &search;
    const double high = (51 - 4) / 6.0 + 6;
    struct vcl_rate lossy = { 0 }, exact = { 0 };
    struct setting best = { 0, 0 };
    double low;
    enum vcl_status status = lowest_x(s, &low);
    if (status)
        return status;
    const double guess = s->e->stats.energy > 0 ? guess_x(s) : -INFINITY;
    if (guess > low - 1)
        status = search_setting(s, 0, low, high, guess, &lossy);
    if (status)
        return status;
    const int at_the_end = !lossy.accepted && (lossy.x <= low + 0.01 || guess <= low - 1);
    const struct vcl_video_range *range;
    if (at_the_end && !choose_depth(s, s->e->params->depth ? s->e->params->depth : 12, 1, &range))
        status = search_exact(s, &exact, flags);
    if (status)
        return status;
    *found = lossy.found || exact.found;
    if (!*found)
        return VCL_OK;
    best = exact.found ? (struct setting){ exact.best_x, 1 } : (struct setting){ lossy.best_x, 0 };
    if (best.x == s->last.x && best.lossless == s->last.lossless)
        return VCL_OK;
    struct vcl_trial trial;
    return run_setting(s, best, VCL_PASS_WHOLE, &trial);
}
