/* shape_points.c - points of the tensor codec that move one by one.
 *
 * Where values have a shape that no model of the family has (uniform, in two humps, arcsine), points are moved
 * to the means of what they stand for, one by one, and the search weighs what each really costs.  Where points
 * are, what they cost and which of them are taken depend on each other, so it takes rounds.  The step stays:
 * lambda follows the target. */
#include <math.h>

#include "codec/search_tensor.h"

/* `rounds` of them with one step; *waste: what the last one gave, INFINITY where tables do not pay; *best: of those
 * that are near the target the one that wastes least. */
static enum vcl_status shape_points_at(struct vcl_tensor_search *s, double x, int rounds, double *waste,
                                       struct vcl_kept *best)
{
    const struct vcl_params *const p = s->e->params;
    struct vcl_trial trial;
    enum vcl_status status = vcl_survey(s, x, &trial);
    *waste = INFINITY;
    if (!status)
        status = vcl_take_own_models(s);
    if (status || !(s->e->frame.flags & VCL_FLAG_TABLES))
        return status;
    s->plain = s->now;
    s->e->tables->priced = 1;
    s->e->frame.flags |= VCL_FLAG_POINTS;
    for (int i = 0; i < rounds && !status; i++) {
        const struct vcl_setting tried = s->now;
        status = vcl_sample_pass(s, x, &trial);
        if (status)
            return status;
        const double height = vcl_rate_height(p->goal, p->target, &trial);
        *waste = vcl_waste_of(&trial) + fabs(height);
        if (i > rounds / 2 && height < 0.02 && (height > -0.02 || trial.snr > best->trial.snr)
            && vcl_waste_of(&trial) < vcl_waste_of(&best->trial)) {
            *best = vcl_save_setting(s, &tried, &trial);
            best->setting.x = x;
        }
        const double lambda = tried.lambda * exp2(fmin(fmax(2 * height, -0.7), 0.7));
        vcl_learn(s);
        s->now.lambda = (float)lambda;
        vcl_choose_class_models(s);
        s->e->frame.flags |= VCL_FLAG_POINTS;
        status = vcl_encoder_side(s->e);
    }
    return status;
}

/* Do tables save so much that values must have a shape of their own?  A coarse step does not show it: then a
 * finer one is asked. */
static enum vcl_status has_own_shape(struct vcl_tensor_search *s, double x, int *own)
{
    const double fine = vcl_telling_x(s);
    struct vcl_trial trial = { 0 };
    *own = s->own && s->saved > VCL_OWN_SHAPE;
    if (*own || x < fine + 0.75 || s->e->params->disable & VCL_STAGE_MODEL)
        return VCL_OK;
    const struct vcl_kept now = vcl_save_setting(s, &s->now, &trial);
    enum vcl_status status = vcl_survey(s, fine, &trial);
    *own = !status && vcl_promise_of(s) > VCL_OWN_SHAPE;
    return status ? status : vcl_restore_setting(s, &now);
}

/* Steps finer than the ordinary one, in octaves; the most promising after a few rounds get more.  They lie on a
 * grid, so that targets near to each other try the same ones. */
enum vcl_status vcl_shape_points(struct vcl_tensor_search *s, double *x, struct vcl_trial *expected)
{
    enum { STEPS = 12, ROUGHLY = 11, FULLY = 16, CHOSEN = 3 };
    static const double finer[STEPS] = { 0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.5, 2.2, 3 };
    double waste[STEPS];
    int own;
    enum vcl_status status = has_own_shape(s, *x, &own);
    if (status || !own)
        return status;
    struct vcl_kept best = vcl_save_setting(s, &s->now, expected);
    const double from = ceil(10 * *x) / 10;
    for (int i = 0; i < STEPS && !status; i++)
        status = shape_points_at(s, fmax(from - finer[i], s->least), ROUGHLY, &waste[i], &best);
    for (int n = 0; n < CHOSEN && !status; n++) {
        int least = 0;
        for (int i = 1; i < STEPS; i++)
            least = waste[i] < waste[least] ? i : least;
        status = shape_points_at(s, fmax(from - finer[least], s->least), FULLY, &waste[least], &best);
        waste[least] = INFINITY;
    }
    if (!status)
        status = vcl_restore_setting(s, &best);
    *expected = best.trial;
    if (best.priced)
        *x = best.setting.x;
    return status;
}
