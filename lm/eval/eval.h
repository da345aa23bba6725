/* eval.h - how well a model predicts a text, alone and against another one. */
#ifndef VCL_RUN_EVAL_H
#define VCL_RUN_EVAL_H

#include "net/forward.h"

/* What one prediction gives, in nats. */
struct vcl_score {
    double nll;
    double baseline_nll, kl; /* KL(baseline || model) */
    int same;                /* likeliest token */
};
/* Of n logits; baseline NULL: only nll. */
void vcl_score(const float *model, const float *baseline, size_t n, uint32_t target, struct vcl_score *score);

struct vcl_eval_options {
    size_t context; /* tokens a window reads; 0: the model's context */
    size_t
        stride; /* from window to window; 0: context.  A later window counts its last `stride` predictions */
    size_t windows;              /* 0: all; else this many, spread evenly over the text */
    struct vcl_cache_hook cache; /* of the model, not of the baseline */
    /* Called after each window with the tokens it read; nonzero = stop with VCL_E_CANCELLED.  May be NULL. */
    int (*progress)(void *user, size_t tokens);
    void *user;
};

/* A mean over the counted predictions and its standard error.  The windows are the sample: predictions in one
 * share their text.  error NAN for one window. */
struct vcl_estimate {
    double mean, error;
};

struct vcl_eval {
    size_t context, stride, windows, tokens; /* tokens: predictions counted */
    struct vcl_estimate nll;                 /* nats a token */
    /* Against a baseline: */
    struct vcl_estimate baseline_nll, difference; /* nll - baseline_nll, window by window */
    struct vcl_estimate kl;                       /* KL(baseline || model), nats */
    double kl_median, kl_99;
    struct vcl_estimate top1; /* share of predictions whose likeliest token is the baseline's */
};

/* Fills in context, stride and windows, and checks them; tokens as many as the text has. */
enum vcl_status vcl_eval_plan(const struct vcl_network *network, size_t tokens,
                              const struct vcl_eval_options *options, struct vcl_eval *plan,
                              struct vcl_error *error);
/* baseline NULL: none; else of the same vocabulary, perhaps the network itself.  Every token must be below it. */
enum vcl_status vcl_eval_run(const struct vcl_network *network, const struct vcl_network *baseline,
                             const uint32_t *tokens, size_t count, const struct vcl_eval_options *options,
                             struct vcl_eval *result, struct vcl_error *error);
/* exp(mean), and its error to first order. */
struct vcl_estimate vcl_perplexity(struct vcl_estimate nll);

/* Nats of one prediction: -log of the softmax of n logits at the target. */
double vcl_eval_nll(const float *logits, size_t n, uint32_t target);

#endif
