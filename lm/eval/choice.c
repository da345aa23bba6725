/* choice.c - the likelihood of each choice given its context.
 *
 * What all choices share is read once, then each choice from there.  Logits are made for 16 positions at a
 * time, from the last shared one on.  Sums are in f64 and in the order of the text. */
#include <math.h>
#include <stdlib.h>

#include "choice.h"

enum { POSITIONS = 16 };

struct chooser {
    const struct vcl_network *network;
    struct vcl_forward *forward;
    float *hidden, *logits;
    unsigned char *chosen[2]; /* of each question, plain and normalised */
};

struct choice_scoring {
    const struct chooser *chooser;
    const uint32_t *targets;
    double *nll;
};

static void score_part(void *user, size_t part, unsigned thread)
{
    const struct choice_scoring *s = user;
    const size_t vocab = s->chooser->network->config.vocab;
    (void)thread;
    s->nll[part] = vcl_eval_nll(s->chooser->logits + part * vocab, vocab, s->targets[part]);
}

/* The log likelihood of the choice's tokens from `first` on, those before being read. */
static enum vcl_status score(struct chooser *m, const struct vcl_answer *choice, size_t first,
                             double *likelihood)
{
    const size_t width = m->network->config.width, more = choice->n - 1 - first;
    enum vcl_status status = VCL_OK;
    double nll[POSITIONS];
    vcl_forward_rewind(m->forward, first);
    if (more > 0)
        status = vcl_forward_read(m->forward, choice->tokens + first, more, m->hidden + first * width);
    *likelihood = 0;
    for (size_t at = first; at < choice->n && status == VCL_OK; at += POSITIONS) {
        const size_t n = choice->n - at < POSITIONS ? choice->n - at : POSITIONS;
        struct choice_scoring scoring = { m, choice->tokens + at, nll };
        status = vcl_forward_logits(m->forward, m->hidden + (at - 1) * width, n, m->logits);
        if (status == VCL_OK)
            vcl_pool_run(vcl_store_pool(m->network->store), n, score_part, &scoring);
        for (size_t i = 0; i < n && status == VCL_OK; i++)
            *likelihood -= nll[i];
    }
    return status;
}

/* Takes the choice as question q's if its score is above the best so far. */
static void consider(struct chooser *m, size_t q, size_t choice, const double score[2], double best[2])
{
    for (int k = 0; k < 2; k++)
        if (choice == 0 || score[k] > best[k]) {
            best[k] = score[k];
            m->chosen[k][q] = (unsigned char)choice;
        }
}

/* Who is told of each text, and how many tokens of it were read. */
struct listener {
    int (*progress)(void *user, size_t tokens);
    void *user;
};

static enum vcl_status answer(struct chooser *m, const struct vcl_question *question, size_t q,
                              const struct listener *to)
{
    const size_t shared = question->shared;
    double best[2];
    vcl_forward_rewind(m->forward, 0);
    enum vcl_status status = vcl_forward_read(m->forward, question->choices[0].tokens, shared, m->hidden);
    for (size_t c = 0; c < question->count && status == VCL_OK; c++) {
        const struct vcl_answer *choice = &question->choices[c];
        const size_t read = choice->n - 1 - (c > 0 ? shared : 0);
        double likelihood;
        status = score(m, choice, shared, &likelihood);
        if (status != VCL_OK)
            return status;
        consider(m, q, c, (double[2]){ likelihood, likelihood / (double)choice->bytes }, best);
        if (to->progress && to->progress(to->user, read))
            return VCL_E_CANCELLED;
    }
    return status;
}

/* ---- statistics ------------------------------------------------------------------------------ */

/* Of values, each -1, 0 or 1. */
static struct vcl_estimate mean_of(const signed char *values, size_t n)
{
    struct vcl_estimate estimate = { 0, NAN };
    double squares = 0;
    for (size_t i = 0; i < n; i++)
        estimate.mean += values[i];
    estimate.mean /= (double)n;
    for (size_t i = 0; i < n; i++)
        squares += (values[i] - estimate.mean) * (values[i] - estimate.mean);
    if (n > 1)
        estimate.error = sqrt(squares / (double)(n - 1) / (double)n);
    return estimate;
}

static void summarise(const struct chooser models[2], const struct vcl_question *questions, size_t n, int k,
                      signed char *values, struct vcl_choice_eval *result)
{
    const unsigned char *chosen = models[0].chosen[k], *base = models[1].chosen[k];
    for (size_t q = 0; q < n; q++)
        values[q] = chosen[q] == questions[q].answer;
    result->accuracy[k] = mean_of(values, n);
    if (!models[1].network)
        return;
    for (size_t q = 0; q < n; q++)
        values[q] = base[q] == questions[q].answer;
    result->baseline_accuracy[k] = mean_of(values, n);
    for (size_t q = 0; q < n; q++)
        values[q] = (signed char)((chosen[q] == questions[q].answer) - (base[q] == questions[q].answer));
    result->difference[k] = mean_of(values, n);
    for (size_t q = 0; q < n; q++)
        values[q] = chosen[q] == base[q];
    result->same[k] = mean_of(values, n);
}

/* ---- all of it ------------------------------------------------------------------------------- */

void vcl_choice_plan(const struct vcl_question *questions, size_t count, struct vcl_choice_eval *plan)
{
    *plan = (struct vcl_choice_eval){ .questions = count };
    for (size_t q = 0; q < count; q++) {
        plan->texts += questions[q].count;
        plan->chance += 1 / (double)questions[q].count / (double)count;
        plan->tokens += questions[q].shared;
        for (size_t c = 0; c < questions[q].count; c++)
            plan->tokens += questions[q].choices[c].n - 1 - questions[q].shared;
    }
}

static size_t longest(const struct vcl_question *questions, size_t count)
{
    size_t most = 1;
    for (size_t q = 0; q < count; q++)
        for (size_t c = 0; c < questions[q].count; c++)
            if (questions[q].choices[c].n - 1 > most)
                most = questions[q].choices[c].n - 1;
    return most;
}

static enum vcl_status prepare(struct chooser *m, size_t positions, size_t questions, struct vcl_error *error)
{
    const struct vcl_config *c = &m->network->config;
    const enum vcl_status status = vcl_forward_create(m->network, positions, &m->forward, error);
    if (status != VCL_OK)
        return status;
    m->hidden = calloc(positions, c->width * sizeof *m->hidden);
    m->logits = calloc(POSITIONS, c->vocab * sizeof *m->logits);
    m->chosen[0] = calloc(questions, 1);
    m->chosen[1] = calloc(questions, 1);
    return m->hidden && m->logits && m->chosen[0] && m->chosen[1] ? VCL_OK : vcl_fault_memory(error);
}

static void release(struct chooser *m)
{
    vcl_forward_destroy(m->forward);
    free(m->hidden);
    free(m->logits);
    free(m->chosen[0]);
    free(m->chosen[1]);
}

enum vcl_status vcl_choice_run(const struct vcl_network *network, const struct vcl_network *baseline,
                               const struct vcl_question *questions, size_t count,
                               int (*progress)(void *user, size_t tokens), void *user,
                               struct vcl_choice_eval *result, struct vcl_error *error)
{
    struct chooser models[2] = { { .network = network }, { .network = baseline } };
    const struct listener to = { progress, user };
    const size_t positions = longest(questions, count);
    signed char *values = calloc(count, 1);
    enum vcl_status status = values ? VCL_OK : vcl_fault_memory(error);
    vcl_choice_plan(questions, count, result);
    if (status == VCL_OK && baseline)
        status = vcl_network_compare(network, baseline, error);
    for (int m = 0; m < 2 && models[m].network && status == VCL_OK; m++)
        status = prepare(&models[m], positions, count, error);
    for (size_t q = 0; q < count && status == VCL_OK; q++)
        for (int m = 0; m < 2 && models[m].network && status == VCL_OK; m++)
            if ((status = answer(&models[m], &questions[q], q, &to)) != VCL_OK)
                vcl_fault(error, status, "%s", vcl_status_text(status));
    for (int k = 0; k < 2 && status == VCL_OK; k++)
        summarise(models, questions, count, k, values, result);
    release(&models[0]);
    release(&models[1]);
    free(values);
    return status;
}
