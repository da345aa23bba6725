/* evaluate_model.c - the public API of evaluation: how well a model, compressed or not, predicts a text.
 *
 * The runtime is a static library without a public header; here it is part of libvcllm_pack, so that one
 * library serves who compresses and looks at what was lost. */
#include <math.h>
#include <stdlib.h>

#include "common/grown.h"
#include "common/work.h"
#include "eval/eval.h"
#include "front.h"
#include "opened_language.h"
#include "vcllm_pack.h"

struct evaluation_job {
    struct vcl_errand *job;
    const char *model;
    struct vcl_evaluate_options options;
    struct vcl_pool *own; /* where the caller gave none */
    struct vcl_network network, baseline;
    uint32_t *made; /* the tokens, where they come of a text */
    const uint32_t *tokens;
    size_t count;
};

void vcl_evaluate_options_init_sized(struct vcl_evaluate_options *options, size_t size)
{
    const struct vcl_evaluate_options defaults = { .size = sizeof defaults, .memory = VCL_MEMORY_DEFAULT };
    vcl_grown_init(&defaults, sizeof defaults, options, size);
}

static enum vcl_status take_options(struct evaluation_job *e, const struct vcl_evaluate_options *given)
{
    vcl_evaluate_options_init(&e->options);
    const enum vcl_status status = vcl_front_take(e->job, given, &e->options, sizeof e->options);
    if (status)
        return status;
    if (!e->options.text == !e->options.tokens)
        return vcl_errand_fail(e->job, VCL_E_ARGUMENT,
                               "options: a model is evaluated on a text or on tokens");
    return VCL_OK;
}

static enum vcl_status open_models(struct evaluation_job *e)
{
    struct vcl_options options;
    vcl_options_init(&options);
    options.threads = e->options.threads;
    if (!e->options.pool && vcl_pool_create(&options, &e->own))
        return vcl_errand_memory(e->job);
    struct vcl_pool *pool = e->own ? e->own : e->options.pool;
    enum vcl_status status = vcl_open_network(e->job, e->model, pool, e->options.memory, &e->network);
    if (!status && e->options.baseline)
        status = vcl_open_network(e->job, e->options.baseline, pool, e->options.memory, &e->baseline);
    return status;
}

static enum vcl_status find_tokens(struct evaluation_job *e)
{
    const struct vcl_evaluate_options *o = &e->options;
    e->tokens = o->tokens;
    e->count = o->token_count;
    if (o->tokens)
        return VCL_OK;
    const enum vcl_status status = vcl_encode_text(e->job, e->model, &e->network, "the text", o->text,
                                                   o->text_bytes, &e->made, &e->count);
    e->tokens = e->made;
    return status;
}

static int on_window(void *user, size_t tokens)
{
    vcl_errand_advance(user, 1, tokens);
    return vcl_errand_cancelled(user);
}

static enum vcl_status run(struct evaluation_job *e, struct vcl_eval *eval)
{
    const struct vcl_eval_options options = { .context = e->options.context,
                                              .stride = e->options.stride,
                                              .windows = e->options.windows,
                                              .progress = on_window,
                                              .user = e->job };
    struct vcl_error error = { 0 };
    enum vcl_status status = vcl_eval_plan(&e->network, e->count, &options, eval, &error);
    if (status == VCL_OK) {
        vcl_errand_start(e->job, "eval", "windows", eval->windows, "tokens", eval->windows * eval->context);
        status = vcl_eval_run(&e->network, e->options.baseline ? &e->baseline : NULL, e->tokens, e->count,
                              &options, eval, &error);
        vcl_errand_stop(e->job);
    }
    return status == VCL_OK ? VCL_OK : vcl_errand_fail(e->job, status, "%s: %s", e->model, error.text);
}

static struct vcl_mean mean_of(struct vcl_estimate estimate)
{
    return (struct vcl_mean){ estimate.mean, estimate.error };
}

static void give(const struct evaluation_job *e, const struct vcl_eval *eval, struct vcl_evaluation *result)
{
    const struct vcl_mean none = { NAN, NAN };
    const int both = e->options.baseline != NULL;
    const struct vcl_evaluation ours = {
        .context = eval->context,
        .stride = eval->stride,
        .windows = eval->windows,
        .tokens = eval->tokens,
        .perplexity = mean_of(vcl_perplexity(eval->nll)),
        .nll = mean_of(eval->nll),
        .baseline_perplexity = both ? mean_of(vcl_perplexity(eval->baseline_nll)) : none,
        .difference = both ? mean_of(eval->difference) : none,
        .kl = both ? mean_of(eval->kl) : none,
        .same_top = both ? mean_of(eval->top1) : none,
        .kl_median = both ? eval->kl_median : NAN,
        .kl_99 = both ? eval->kl_99 : NAN,
    };
    if (result)
        vcl_grown_give(&ours, sizeof ours, result);
}

enum vcl_status vcl_evaluate_model(const char *model, const struct vcl_evaluate_options *options,
                                   const struct vcl_hooks *hooks, struct vcl_evaluation *result,
                                   struct vcl_error *error)
{
    struct vcl_errand job;
    struct evaluation_job e = { .job = &job, .model = model };
    struct vcl_eval eval = { 0 };
    enum vcl_status status = vcl_front_begin(&job, hooks, error);
    if (status)
        return status;
    status = vcl_front_check_path(&job, "model", model);
    if (!status)
        status = vcl_front_check_result(&job, result);
    if (!status)
        status = take_options(&e, options);
    if (!status)
        status = open_models(&e);
    if (!status)
        status = find_tokens(&e);
    if (!status)
        status = run(&e, &eval);
    if (!status)
        give(&e, &eval, result);
    vcl_network_close(&e.network);
    vcl_network_close(&e.baseline);
    vcl_pool_destroy(e.own);
    free(e.made);
    return vcl_front_end(&job, status, error);
}
