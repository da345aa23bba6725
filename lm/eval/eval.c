/* eval.c - windows of a text through one model or two, and what their predictions are worth.
 *
 * Logits are made for 64 positions at a time: a window's whole would take gigabytes where the vocabulary is
 * large.  Sums are in f64 and in the order of the text, whichever thread made their terms. */
#include <math.h>
#include <stdlib.h>

#include "eval.h"

enum { POSITIONS = 64 };

struct evaluation {
    const struct vcl_network *network[2]; /* model, baseline or NULL */
    struct vcl_forward *forward[2];
    float *hidden[2], *logits[2];
    const uint32_t *tokens;
    size_t vocab;
    int failed;               /* which of the two, where something does */
    struct vcl_score *scores; /* of all windows */
    size_t *ends;             /* of each window in scores */
};

enum vcl_status vcl_eval_plan(const struct vcl_network *network, size_t tokens,
                              const struct vcl_eval_options *options, struct vcl_eval *plan,
                              struct vcl_error *error)
{
    const size_t most = network->config.context;
    *plan = (struct vcl_eval){ .context = options->context ? options->context : most };
    plan->stride = options->stride ? options->stride : plan->context;
    if (plan->context > most)
        return vcl_fault(error, VCL_E_ARGUMENT,
                         "--context %zu is more than the model's %zu (max_position_embeddings)",
                         plan->context, most);
    if (plan->stride > plan->context)
        return vcl_fault(error, VCL_E_ARGUMENT, "--stride %zu is more than the context, %zu", plan->stride,
                         plan->context);
    if (tokens < 2)
        return vcl_fault(error, VCL_E_ARGUMENT, "the text has %zu tokens; a prediction takes two", tokens);
    if (tokens - 1 < plan->context && !options->context)
        plan->context = plan->stride = tokens - 1;
    if (tokens - 1 < plan->context)
        return vcl_fault(error, VCL_E_ARGUMENT, "the text has %zu tokens; a window takes %zu", tokens,
                         plan->context + 1);
    plan->windows = (tokens - 1 - plan->context) / plan->stride + 1;
    if (options->windows && options->windows < plan->windows)
        plan->windows = options->windows;
    return VCL_OK;
}

/* ---- one prediction -------------------------------------------------------------------------- */

static double log_sum(const float *logits, size_t n, size_t *likeliest)
{
    size_t most = 0;
    double sum = 0;
    for (size_t i = 1; i < n; i++)
        if (logits[i] > logits[most])
            most = i;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)logits[i] - (double)logits[most]);
    *likeliest = most;
    return (double)logits[most] + log(sum);
}

double vcl_eval_nll(const float *logits, size_t n, uint32_t target)
{
    size_t likeliest;
    return log_sum(logits, n, &likeliest) - (double)logits[target];
}

void vcl_score(const float *model, const float *baseline, size_t n, uint32_t target, struct vcl_score *score)
{
    size_t top, base_top;
    const double sum = log_sum(model, n, &top);
    score->nll = sum - (double)model[target];
    if (!baseline)
        return;
    const double base_sum = log_sum(baseline, n, &base_top);
    score->baseline_nll = base_sum - (double)baseline[target];
    score->same = top == base_top;
    score->kl = 0;
    for (size_t i = 0; i < n; i++) {
        const double log_p = (double)baseline[i] - base_sum, log_q = (double)model[i] - sum;
        score->kl += exp(log_p) * (log_p - log_q);
    }
}

/* ---- windows --------------------------------------------------------------------------------- */

struct scoring {
    const struct evaluation *e;
    const uint32_t *targets;
    struct vcl_score *scores;
};

static void score_part(void *user, size_t part, unsigned thread)
{
    const struct scoring *s = user;
    const size_t at = part * s->e->vocab;
    (void)thread;
    vcl_score(s->e->logits[0] + at, s->e->network[1] ? s->e->logits[1] + at : NULL, s->e->vocab,
              s->targets[part], &s->scores[part]);
}

/* Predictions first to n-1 of the window at `start`, whose hidden states are there. */
static enum vcl_status score_window(struct evaluation *e, size_t start, size_t first, size_t n,
                                    struct vcl_score *scores)
{
    while (first < n) {
        const size_t count = n - first < POSITIONS ? n - first : POSITIONS;
        struct scoring scoring = { e, e->tokens + start + first + 1, scores };
        for (int m = 0; m < 2 && e->network[m]; m++) {
            const enum vcl_status status = vcl_forward_logits(
                e->forward[m], e->hidden[m] + first * e->network[m]->config.width, count, e->logits[m]);
            e->failed = m;
            if (status != VCL_OK)
                return status;
        }
        vcl_pool_run(vcl_store_pool(e->network[0]->store), count, score_part, &scoring);
        scores += count;
        first += count;
    }
    return VCL_OK;
}

static size_t window_start(const struct vcl_eval *plan, size_t count, size_t window, int spread)
{
    return window * (spread ? (count - 1 - plan->context) / plan->windows : plan->stride);
}

static enum vcl_status run_windows(struct evaluation *e, size_t count, const struct vcl_eval_options *options,
                                   struct vcl_eval *plan)
{
    const int spread = options->windows && plan->windows == options->windows;
    enum vcl_status status;
    for (size_t w = 0; w < plan->windows; w++) {
        const size_t start = window_start(plan, count, w, spread),
                     first = start ? plan->context - plan->stride : 0;
        for (int m = 0; m < 2 && e->network[m]; m++) {
            vcl_forward_rewind(e->forward[m], 0);
            status = vcl_forward_read(e->forward[m], e->tokens + start, plan->context, e->hidden[m]);
            e->failed = m;
            if (status != VCL_OK)
                return status;
        }
        status = score_window(e, start, first, plan->context, e->scores + plan->tokens);
        if (status != VCL_OK)
            return status;
        plan->tokens += plan->context - first;
        e->ends[w] = plan->tokens;
        if (options->progress && options->progress(options->user, plan->context))
            return VCL_E_CANCELLED;
    }
    return VCL_OK;
}

/* ---- statistics ------------------------------------------------------------------------------ */

static double nll_of(const struct vcl_score *s) { return s->nll; }
static double baseline_of(const struct vcl_score *s) { return s->baseline_nll; }
static double difference_of(const struct vcl_score *s) { return s->nll - s->baseline_nll; }
static double kl_of(const struct vcl_score *s) { return s->kl; }
static double same_of(const struct vcl_score *s) { return s->same; }

/* The mean over all predictions; its variance from the windows' sums (a ratio estimator). */
static struct vcl_estimate estimate(const struct evaluation *e, const struct vcl_eval *plan,
                                    double (*of)(const struct vcl_score *))
{
    struct vcl_estimate estimate = { 0, NAN };
    const double n = (double)plan->tokens, windows = (double)plan->windows;
    double spread = 0;
    for (size_t i = 0; i < plan->tokens; i++)
        estimate.mean += of(&e->scores[i]);
    estimate.mean /= n;
    for (size_t w = 0, i = 0; w < plan->windows; w++) {
        double off = 0;
        for (; i < e->ends[w]; i++)
            off += of(&e->scores[i]) - estimate.mean;
        spread += off * off;
    }
    if (plan->windows > 1)
        estimate.error = sqrt(spread * windows / (windows - 1)) / n;
    return estimate;
}

static int by_kl(const void *a, const void *b)
{
    const double x = ((const struct vcl_score *)a)->kl, y = ((const struct vcl_score *)b)->kl;
    return (x > y) - (x < y);
}

/* Sorts the scores, so it comes last. */
static void summarise(struct evaluation *e, struct vcl_eval *plan)
{
    plan->nll = estimate(e, plan, nll_of);
    if (!e->network[1])
        return;
    plan->baseline_nll = estimate(e, plan, baseline_of);
    plan->difference = estimate(e, plan, difference_of);
    plan->kl = estimate(e, plan, kl_of);
    plan->top1 = estimate(e, plan, same_of);
    qsort(e->scores, plan->tokens, sizeof *e->scores, by_kl);
    plan->kl_median = e->scores[plan->tokens / 2].kl;
    plan->kl_99 = e->scores[plan->tokens - 1 - plan->tokens / 100].kl;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static enum vcl_status check_tokens(const uint32_t *tokens, size_t count, size_t vocab,
                                    struct vcl_error *error)
{
    for (size_t i = 0; i < count; i++)
        if (tokens[i] >= vocab)
            return vcl_fault(error, VCL_E_ARGUMENT,
                             "token %zu of the text is %lu, beyond the vocabulary of %zu", i,
                             (unsigned long)tokens[i], vocab);
    return VCL_OK;
}

static enum vcl_status allocate(struct evaluation *e, const struct vcl_eval *plan,
                                struct vcl_cache_hook cache, struct vcl_error *error)
{
    int good = 1;
    for (int m = 0; m < 2 && e->network[m]; m++) {
        const enum vcl_status status =
            vcl_forward_create_hooked(e->network[m], plan->context,
                                      m == 0 ? cache : (struct vcl_cache_hook){ 0 }, &e->forward[m], error);
        if (status != VCL_OK)
            return status;
        e->hidden[m] = calloc(plan->context, e->network[m]->config.width * sizeof(float));
        e->logits[m] = calloc(POSITIONS, e->vocab * sizeof(float));
        good = good && e->hidden[m] && e->logits[m];
    }
    e->scores = calloc(plan->windows, plan->context * sizeof *e->scores);
    e->ends = calloc(plan->windows, sizeof *e->ends);
    return good && e->scores && e->ends ? VCL_OK : vcl_fault_memory(error);
}

static void release(struct evaluation *e)
{
    for (int m = 0; m < 2; m++) {
        vcl_forward_destroy(e->forward[m]);
        free(e->hidden[m]);
        free(e->logits[m]);
    }
    free(e->scores);
    free(e->ends);
}

enum vcl_status vcl_eval_run(const struct vcl_network *network, const struct vcl_network *baseline,
                             const uint32_t *tokens, size_t count, const struct vcl_eval_options *options,
                             struct vcl_eval *result, struct vcl_error *error)
{
    struct evaluation e = { .network = { network, baseline },
                            .tokens = tokens,
                            .vocab = network->config.vocab };
    enum vcl_status status = vcl_eval_plan(network, count, options, result, error);
    if (status == VCL_OK && baseline)
        status = vcl_network_compare(network, baseline, error);
    if (status == VCL_OK)
        status = check_tokens(tokens, count, e.vocab, error);
    if (status == VCL_OK)
        status = allocate(&e, result, options->cache, error);
    if (status == VCL_OK) {
        status = run_windows(&e, count, options, result);
        if (status == VCL_OK)
            summarise(&e, result);
        else
            vcl_fault(error, status, "%s", vcl_store_words(e.network[e.failed]->store, status));
    }
    release(&e);
    return status;
}

struct vcl_estimate vcl_perplexity(struct vcl_estimate nll)
{
    return (struct vcl_estimate){ exp(nll.mean), exp(nll.mean) * nll.error };
}
