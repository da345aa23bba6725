/* gather.c - the text, its vectors and their squares, gradients and their squares. */
#include <stdlib.h>
#include <string.h>

#include "common/mix.h"
#include "gather.h"
#include "metric.h"
#include "net/backward.h"

enum {
    DRAWS = 2,     /* of labels, for each text */
    TYPICAL = 2048 /* tokens that are kept, at most */
};

struct gathering {
    const struct vcl_network *network;
    const struct vcl_learn_options *options;
    struct vcl_cache_facts *facts;
    struct vcl_draft draft;
    struct vcl_flow flow;
    struct vcl_backward *backward;
    size_t every;     /* which tokens are kept */
    size_t text;      /* that is being read */
    float *rows;      /* its vectors: [length][2 side] */
    double *queries;  /* [layer][head][dim][dim]: sums of q q^T before rotation over the head's queries */
    uint32_t *labels; /* [length] */
};

/* ---- memory ---------------------------------------------------------------------------------- */

static int allocate_layer(const struct vcl_cache_facts *facts, struct vcl_layer_facts *layer)
{
    const size_t n = 2 * facts->side, squares = facts->side * facts->dim;
    layer->origin = calloc(n, sizeof *layer->origin);
    layer->sums = calloc(n, sizeof *layer->sums);
    layer->squares = vcl_moments_create(n);
    layer->gradients = vcl_moments_create(n);
    layer->metric[0] = calloc(squares, sizeof(double));
    layer->metric[1] = calloc(squares, sizeof(double));
    return layer->origin && layer->sums && layer->squares && layer->gradients && layer->metric[0]
        && layer->metric[1];
}

static int allocate_facts(struct vcl_cache_facts *facts)
{
    int good = 1;
    size_t floats;
    facts->of = calloc(facts->layers, sizeof *facts->of);
    if (!facts->of || __builtin_mul_overflow(2 * facts->side * facts->layers, facts->kept, &floats))
        return 0;
    facts->vectors = calloc(floats, sizeof *facts->vectors);
    good = facts->vectors != NULL;
    for (size_t i = 0; i < facts->layers; i++)
        good = good && allocate_layer(facts, &facts->of[i]);
    return good;
}

void vcl_facts_free(struct vcl_cache_facts *facts)
{
    for (size_t i = 0; i < facts->layers && facts->of; i++) {
        struct vcl_layer_facts *layer = &facts->of[i];
        free(layer->origin);
        free(layer->sums);
        vcl_moments_destroy(layer->squares);
        vcl_moments_destroy(layer->gradients);
        free(layer->metric[0]);
        free(layer->metric[1]);
    }
    free(facts->of);
    free(facts->vectors);
    *facts = (struct vcl_cache_facts){ 0 };
}

static enum vcl_status create(struct gathering *g, struct vcl_error *error)
{
    const struct vcl_config *c = &g->network->config;
    const size_t tokens = g->draft.sequences * g->draft.length;
    g->every = (tokens + TYPICAL - 1) / TYPICAL;
    *g->facts = (struct vcl_cache_facts){ .layers = c->layers,
                                          .heads = c->kv_heads,
                                          .dim = c->head_dim,
                                          .side = c->kv_heads * c->head_dim,
                                          .kept = (tokens + g->every - 1) / g->every };
    enum vcl_status status =
        vcl_flow_create(g->network, g->draft.length, g->draft.length, 1, &g->flow, error);
    if (status == VCL_OK && !g->options->local)
        status = vcl_backward_create(g->network, g->draft.length, &g->backward, error);
    if (status != VCL_OK)
        return status;
    g->rows = calloc(g->draft.length, 2 * g->facts->side * sizeof *g->rows);
    g->labels = calloc(g->draft.length, sizeof *g->labels);
    g->queries = calloc(c->layers, g->facts->side * g->facts->dim * sizeof *g->queries);
    return g->rows && g->labels && g->queries && allocate_facts(g->facts) ? VCL_OK : vcl_fault_memory(error);
}

static void release(struct gathering *g)
{
    vcl_flow_destroy(&g->flow);
    vcl_backward_destroy(g->backward);
    free(g->draft.tokens);
    free(g->rows);
    free(g->labels);
    free(g->queries);
}

/* ---- vectors --------------------------------------------------------------------------------- */

/* Keys and values, or their gradients, of all tokens to rows. */
static void join(const struct gathering *g, const float *keys, const float *values)
{
    const size_t side = g->facts->side;
    for (size_t t = 0; t < g->draft.length; t++) {
        memcpy(g->rows + 2 * t * side, keys + t * side, side * sizeof *keys);
        memcpy(g->rows + (2 * t + 1) * side, values + t * side, side * sizeof *values);
    }
}

static void keep_some(const struct gathering *g, size_t layer)
{
    const size_t side = g->facts->side, begin = g->text * g->draft.length;
    float *vectors = g->facts->vectors + 2 * layer * g->facts->kept * side;
    for (size_t t = 0; t < g->draft.length; t++) {
        const size_t to = (begin + t) / g->every;
        const float *row = g->rows + 2 * t * side;
        if ((begin + t) % g->every != 0)
            continue;
        float *keys = vectors + (g->options->apart ? to : 2 * to) * side;
        memcpy(keys, row, side * sizeof *row);
        memcpy(keys + (g->options->apart ? g->facts->kept : 1) * side, row + side, side * sizeof *row);
    }
}

static void take_origin(const struct gathering *g, struct vcl_layer_facts *layer)
{
    const size_t n = 2 * g->facts->side, length = g->draft.length;
    for (size_t t = 0; t < length; t++)
        for (size_t i = 0; i < n; i++)
            layer->origin[i] += g->rows[t * n + i] / (float)length;
}

static void add_squares(const struct gathering *g, struct vcl_moments *squares)
{
    vcl_moments_add(squares, g->flow.loops, vcl_store_pool(g->flow.store), g->rows, g->draft.length);
}

static void add_vectors(const struct gathering *g, struct vcl_layer_facts *layer)
{
    const size_t n = 2 * g->facts->side;
    if (g->text == 0)
        take_origin(g, layer);
    for (size_t t = 0; t < g->draft.length; t++)
        for (size_t i = 0; i < n; i++) {
            g->rows[t * n + i] -= layer->origin[i];
            layer->sums[i] += (double)g->rows[t * n + i];
        }
    add_squares(g, layer->squares);
}

/* ---- forward --------------------------------------------------------------------------------- */

static void add_query(const float *q, size_t d, double *squares)
{
    for (size_t i = 0; i < d; i++)
        for (size_t j = 0; j < d; j++)
            squares[i * d + j] += (double)q[i] * (double)q[j];
}

static void add_queries(const struct gathering *g, size_t layer)
{
    const size_t d = g->facts->dim, heads = g->network->config.heads, group = heads / g->facts->heads;
    double *squares = g->queries + layer * g->facts->side * d;
    vcl_flow_rotate(&g->flow, g->flow.q, heads, g->draft.length, 1);
    for (size_t i = 0; i < g->draft.length * heads; i++)
        add_query(g->flow.q + i * d, d, squares + i % heads / group * d * d);
}

static enum vcl_status read_forward(struct gathering *g)
{
    enum vcl_status status =
        vcl_flow_embed(&g->flow, g->draft.tokens + g->text * g->draft.length, g->draft.length);
    for (size_t layer = 0; layer < g->facts->layers && status == VCL_OK; layer++) {
        status = vcl_flow_layer(&g->flow, layer, g->draft.length);
        join(g, g->flow.k, g->flow.v);
        keep_some(g, layer);
        add_vectors(g, &g->facts->of[layer]);
        add_queries(g, layer);
    }
    return status;
}

static enum vcl_status measure_attention(const struct gathering *g)
{
    const size_t d = g->facts->dim;
    double *scratch = calloc(d, d * sizeof *scratch);
    enum vcl_status status = scratch ? VCL_OK : VCL_E_MEMORY;
    for (size_t i = 0; i < g->facts->layers * g->facts->heads && status == VCL_OK; i++) {
        const size_t layer = i / g->facts->heads, head = i % g->facts->heads;
        double *const *metric = g->facts->of[layer].metric;
        vcl_metric_of_keys(&g->flow, g->queries + i * d * d, g->draft.length, scratch,
                           metric[0] + head * d * d);
        status = vcl_metric_of_values(&g->flow, layer, head, metric[1] + head * d * d);
    }
    free(scratch);
    return status;
}

/* ---- backward -------------------------------------------------------------------------------- */

static enum vcl_status on_key_values(void *user, const struct vcl_key_values *of)
{
    const struct gathering *g = user;
    join(g, of->key_gradients, of->value_gradients);
    add_squares(g, g->facts->of[of->layer].gradients);
    return VCL_OK;
}

static enum vcl_status read_backward(struct gathering *g, size_t draw)
{
    const struct vcl_backward_hooks hooks = { .key_values = on_key_values, .user = g };
    const uint64_t seed = vcl_mix(g->options->seed + (g->text * DRAWS + draw) * VCL_MIX_STEP);
    double loss;
    return vcl_backward_run(g->backward, g->draft.tokens + g->text * g->draft.length, g->draft.length,
                            g->labels, &seed, &hooks, &loss);
}

/* ---- all of it ------------------------------------------------------------------------------- */

size_t vcl_facts_work(const struct vcl_learn_options *options)
{
    return options->sequences * options->length * (options->local ? 2 : 2 + DRAWS);
}

static enum vcl_status advance(const struct gathering *g)
{
    const struct vcl_watch *watch = &g->options->watch;
    return watch->progress && watch->progress(watch->user, g->draft.length) ? VCL_E_CANCELLED : VCL_OK;
}

static enum vcl_status read_text(struct gathering *g)
{
    enum vcl_status status = read_forward(g);
    if (status == VCL_OK)
        status = advance(g);
    for (size_t draw = 0; draw < DRAWS && g->backward && status == VCL_OK; draw++) {
        status = read_backward(g, draw);
        if (status == VCL_OK)
            status = advance(g);
    }
    return status;
}

static enum vcl_status read_draft(struct gathering *g, struct vcl_error *error)
{
    enum vcl_status status = VCL_OK;
    for (; g->text < g->draft.sequences && status == VCL_OK; g->text++)
        status = read_text(g);
    if (status == VCL_OK)
        status = measure_attention(g);
    return status == VCL_OK ? VCL_OK
                            : vcl_fault(error, status, "%s", vcl_store_words(g->network->store, status));
}

enum vcl_status vcl_facts_gather(const struct vcl_network *network, const struct vcl_learn_options *options,
                                 struct vcl_cache_facts *facts, struct vcl_error *error)
{
    struct gathering g = { .network = network,
                           .options = options,
                           .facts = facts,
                           .draft = { options->sequences, options->length, NULL, 1 } };
    *facts = (struct vcl_cache_facts){ 0 };
    enum vcl_status status = create(&g, error);
    if (status == VCL_OK)
        status = vcl_draft_write(network, options->seed, &options->watch, &g.draft, error);
    if (status == VCL_OK)
        status = read_draft(&g, error);
    release(&g);
    return status;
}
