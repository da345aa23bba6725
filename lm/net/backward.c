/* backward.c - the backward pass: a layer's steps in reverse, each below or beside what it undoes in layer.c.
 *
 * In: tokens and labels.  Out: gradients, through hooks, from the head down to the embedding.  The forward
 * pass keeps what enters each layer; a layer's other values are computed again when its turn comes.
 *
 * dk and dv are sums over queries, which threads share: the queries of a KV head are cut into stripes by the
 * model's shape alone, each stripe has sums of its own, and these are added in order, so that the number of
 * threads changes nothing. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "backward.h"
#include "common/mix.h"
#include "layer.h"

enum {
    POSITIONS = 64 /* that are scored at a time */,
    STRIPES = 16 /* at least, of all KV heads together */
};

struct vcl_backward {
    struct vcl_flow flow; /* all tokens at a time, one layer's cache */
    const struct vcl_backward_hooks *hooks;
    size_t n, stripes;                  /* tokens; stripes of a KV head */
    float *inputs;                      /* [layer][token][width] */
    float *dx, *dout, *dnormed, *dpart; /* [token][width]: into and out of a layer; of a norm's output */
    float *dq, *dmixed;                 /* [token][heads][head_dim] */
    float *dk, *dv;                     /* [token][kv_heads][head_dim] */
    float *dfused;                      /* as fused */
    float *closed;                      /* [token][ffn]: gate before its activation */
    float *dgate, *dup;                 /* [token][ffn]; of GELU dgate is that of its output */
    float *sums[2];                     /* of dk and dv: [stripe][kv_heads][token][head_dim] */
    float *lanes;                       /* per thread */
    float *logits;                      /* [POSITIONS][vocab], then their gradient */
    double *losses;                     /* [token] */
};

/* ---- creation -------------------------------------------------------------------------------- */

static size_t lane_floats(const struct vcl_backward *b)
{
    return VCL_LANES * (2 * b->flow.kv.positions + 3 * b->flow.kv.head_dim);
}

static int allocate(struct vcl_backward *b, size_t tokens)
{
    const struct vcl_config *c = &b->flow.network->config;
    const size_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    const size_t fused = c->family == VCL_LLAMA ? 1 : 3 * q, gate = c->family == VCL_LLAMA ? c->ffn : 1;
    const struct vcl_floats blocks[] = {
        { &b->inputs, tokens, c->layers * c->width },
        { &b->dx, tokens, c->width },
        { &b->dout, tokens, c->width },
        { &b->dnormed, tokens, c->width },
        { &b->dpart, tokens, c->width },
        { &b->dq, tokens, q },
        { &b->dmixed, tokens, q },
        { &b->dk, tokens, kv },
        { &b->dv, tokens, kv },
        { &b->dfused, tokens, fused },
        { &b->closed, tokens, gate },
        { &b->dgate, tokens, c->ffn },
        { &b->dup, tokens, c->ffn },
        { &b->sums[0], tokens, b->stripes * kv },
        { &b->sums[1], tokens, b->stripes * kv },
        { &b->lanes, vcl_pool_threads(vcl_store_pool(b->flow.store)), lane_floats(b) },
        { &b->logits, POSITIONS, c->vocab },
    };
    b->losses = calloc(tokens, sizeof *b->losses);
    return vcl_floats_allocate(blocks, sizeof blocks / sizeof *blocks) && b->losses;
}

enum vcl_status vcl_backward_create(const struct vcl_network *network, size_t tokens,
                                    struct vcl_backward **backward, struct vcl_error *error)
{
    struct vcl_backward *b = calloc(1, sizeof *b);
    *backward = NULL;
    if (!b)
        return vcl_fault_memory(error);
    b->stripes = (STRIPES + network->config.kv_heads - 1) / network->config.kv_heads;
    enum vcl_status status = vcl_flow_create(network, tokens, tokens, 1, &b->flow, error);
    if (status == VCL_OK && !allocate(b, tokens))
        status = vcl_fault_memory(error);
    if (status != VCL_OK) {
        vcl_backward_destroy(b);
        return status;
    }
    *backward = b;
    return VCL_OK;
}

void vcl_backward_destroy(struct vcl_backward *b)
{
    if (!b)
        return;
    float *const blocks[] = { b->inputs, b->dx,      b->dout,    b->dnormed, b->dpart,  b->dq,
                              b->dmixed, b->dk,      b->dv,      b->dfused,  b->closed, b->dgate,
                              b->dup,    b->sums[0], b->sums[1], b->lanes,   b->logits };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        free(blocks[i]);
    free(b->losses);
    vcl_flow_destroy(&b->flow);
    free(b);
}

/* ---- products and norms ----------------------------------------------------------------------- */

static enum vcl_status show(const struct vcl_backward *b, const struct vcl_gradient *of)
{
    return b->hooks && b->hooks->product ? b->hooks->product(b->hooks->user, of) : VCL_OK;
}

/* A matrix' way back: x went in, g is the gradient of what came out, dx is left of what went in. */
static enum vcl_status apply_back(struct vcl_backward *b, const struct vcl_linear *linear, const float *x,
                                  const float *g, float *dx)
{
    const enum vcl_status status = show(b, &(struct vcl_gradient){ linear->weight, 0, b->n, x, g });
    return status == VCL_OK ? vcl_store_multiply_transposed(b->flow.store, linear->weight, g, b->n, dx)
                            : status;
}

/* Of matrices that all read what is in normed: their sum to dnormed. */
struct upstream {
    const struct vcl_linear *linear;
    const float *g;
};

static enum vcl_status apply_all_back(struct vcl_backward *b, const struct upstream *list, size_t count)
{
    const size_t floats = b->n * b->flow.network->config.width;
    enum vcl_status status = apply_back(b, list[0].linear, b->flow.normed, list[0].g, b->dnormed);
    for (size_t k = 1; k < count && status == VCL_OK; k++) {
        status = apply_back(b, list[k].linear, b->flow.normed, list[k].g, b->dpart);
        vcl_add(b->dnormed, b->dpart, floats);
    }
    return status;
}

/* With y = h + bias and h = u weight, u = (x - mean) scale: dx gains scale (dh - mean(dh) - u mean(dh u)),
 * dh being g weight; mean(dh) only where a mean comes off. */
static void norm_row_back(const float *x, const struct vcl_norm *norm, size_t width, double eps,
                          const float *g, float *dx)
{
    double mean, along = 0, level = 0;
    float scale;
    vcl_norm_measure(x, norm, width, eps, &mean, &scale);
    for (size_t c = 0; c < width; c++) {
        const double dh = (double)g[c] * (double)norm->weight[c];
        along += dh * ((double)x[c] - mean) * (double)scale / (double)width;
        level += norm->bias ? dh / (double)width : 0;
    }
    for (size_t c = 0; c < width; c++) {
        const double dh = (double)g[c] * (double)norm->weight[c], u = ((double)x[c] - mean) * (double)scale;
        dx[c] += (float)((double)scale * (dh - level - u * along));
    }
}

/* From dnormed, added to dx. */
static void normalise_back(struct vcl_backward *b, const struct vcl_norm *norm, const float *x)
{
    const struct vcl_config *c = &b->flow.network->config;
    for (size_t i = 0; i < b->n; i++)
        norm_row_back(x + i * c->width, norm, c->width, c->norm_eps, b->dnormed + i * c->width,
                      b->dx + i * c->width);
}

/* ---- feed-forward ---------------------------------------------------------------------------- */

/* The derivative of layer.c's gelu. */
static double gelu_slope(double x, int by_tanh)
{
    const double root = 0.7978845608028654; /* sqrt(2 / pi) */
    if (!by_tanh)
        return (1 + erf(x * 0.7071067811865476)) / 2 + x * root / 2 * exp(-x * x / 2);
    const double t = tanh(root * (x + 0.044715 * x * x * x));
    return (1 + t + x * (1 - t * t) * root * (1 + 3 * 0.044715 * x * x)) / 2;
}

/* One token's: dgate, of what the activation gave, becomes dgate and dup, or dup alone. */
static void activate_part_back(void *user, size_t part, unsigned thread)
{
    const struct vcl_backward *b = user;
    const struct vcl_config *c = &b->flow.network->config;
    const size_t from = part * c->ffn;
    const float *up = b->flow.up + from;
    float *dgate = b->dgate + from, *dup = b->dup + from;
    (void)thread;
    if (c->family != VCL_LLAMA) {
        for (size_t i = 0; i < c->ffn; i++)
            dup[i] = (float)((double)dgate[i] * gelu_slope((double)up[i], c->gelu_tanh));
        return;
    }
    for (size_t i = 0; i < c->ffn; i++) {
        const float gate = b->closed[from + i], share = 1 / (1 + expf(-gate));
        dup[i] = dgate[i] * gate * share;
        dgate[i] *= up[i] * share * (1 + gate * (1 - share));
    }
}

/* From dx, the gradient of what was added to the sum, to dnormed. */
static enum vcl_status feed_forward_back(struct vcl_backward *b, const struct vcl_layer *w)
{
    struct vcl_flow *f = &b->flow;
    const struct upstream list[] = { { &w->up, b->dup }, { &w->gate, b->dgate } };
    enum vcl_status status = vcl_flow_widen(f, w, b->n);
    if (status != VCL_OK)
        return status;
    if (w->gate.weight)
        memcpy(b->closed, f->gate, b->n * f->network->config.ffn * sizeof *b->closed);
    vcl_flow_activate(f, b->n);
    status = apply_back(b, &w->down, f->gate, b->dx, b->dgate);
    if (status != VCL_OK)
        return status;
    vcl_pool_run(vcl_store_pool(f->store), b->n, activate_part_back, b);
    return apply_all_back(b, list, w->gate.weight ? 2 : 1);
}

/* ---- attention ------------------------------------------------------------------------------- */

/* shares s of a softmax and the gradient g of each become, in g, that of what was scaled for it. */
static void softmax_back(const float *s, size_t n, float scale, float *g)
{
    double level[VCL_LANES] = { 0 };
    for (size_t j = 0; j < n * VCL_LANES; j += VCL_LANES)
        for (size_t l = 0; l < VCL_LANES; l++)
            level[l] += (double)s[j + l] * (double)g[j + l];
    for (size_t j = 0; j < n * VCL_LANES; j += VCL_LANES)
        for (size_t l = 0; l < VCL_LANES; l++)
            g[j + l] = scale * s[j + l] * (g[j + l] - (float)level[l]);
}

/* sums[j] += each lane's w[16 j + l] times its row, for all keys; sums: [key][head_dim]. */
static void add_outer(const struct vcl_queries *lanes, const float *w, const float *rows, float *sums)
{
    const struct vcl_flow *f = lanes->flow;
    const size_t d = f->kv.head_dim;
    for (size_t c = 0; c < d; c += VCL_LANES) {
        const size_t width = d - c < VCL_LANES ? d - c : VCL_LANES;
        float packed[VCL_LANES * VCL_LANES] = { 0 }, products[VCL_GROUP * VCL_LANES];
        for (size_t l = 0; l < lanes->count; l++)
            memcpy(packed + VCL_LANES * l, rows + lanes->at[l] + c, width * sizeof *packed);
        for (size_t j = 0; j < lanes->keys; j += VCL_GROUP) {
            const size_t keys = lanes->keys - j < VCL_GROUP ? lanes->keys - j : VCL_GROUP;
            f->loops->block(w + VCL_LANES * j, VCL_LANES, 1, keys, VCL_LANES, packed, products);
            for (size_t k = 0; k < keys; k++)
                vcl_add(sums + (j + k) * d + c, products + VCL_LANES * k, width);
        }
    }
}

/* Sixteen queries: dq, and what they add to dk and dv of their KV head, [token][head_dim]. */
static void attend_back(struct vcl_backward *b, const struct vcl_queries *lanes, float *scratch, float *dk,
                        float *dv)
{
    const struct vcl_flow *f = &b->flow;
    const size_t d = f->kv.head_dim, keys = lanes->keys;
    float *queries = scratch, *dmixed = queries + VCL_LANES * d, *dq = dmixed + VCL_LANES * d,
          *shares = dq + VCL_LANES * d, *dscores = shares + VCL_LANES * f->kv.positions;
    vcl_queries_gather(lanes, f->q, queries);
    vcl_queries_gather(lanes, b->dmixed, dmixed);
    vcl_queries_weigh(lanes, queries, shares);
    vcl_block_rows(f->loops, lanes->value_rows, d, 1, keys, d, dmixed, dscores);
    softmax_back(shares, keys, (float)(1 / sqrt((double)d)), dscores);
    vcl_block_rows(f->loops, lanes->key_rows, 1, d, d, keys, dscores, dq);
    vcl_queries_scatter(lanes, dq, b->dq);
    add_outer(lanes, dscores, f->q, dk + lanes->from * d);
    add_outer(lanes, shares, b->dmixed, dv + lanes->from * d);
}

/* A stripe of a KV head: every stripes-th block of its queries. */
static void attend_part_back(void *user, size_t part, unsigned thread)
{
    struct vcl_backward *b = user;
    const struct vcl_flow *f = &b->flow;
    const size_t heads = f->kv.heads, head = part % heads, floats = b->n * f->kv.head_dim;
    float *dk = b->sums[0] + part * floats, *dv = b->sums[1] + part * floats;
    memset(dk, 0, floats * sizeof *dk);
    memset(dv, 0, floats * sizeof *dv);
    for (size_t block = part / heads; block < vcl_queries_blocks(f, b->n); block += b->stripes) {
        const struct vcl_queries lanes = vcl_queries_of(f, 0, head, b->n, block);
        attend_back(b, &lanes, b->lanes + thread * lane_floats(b), dk, dv);
    }
}

/* Stripes added up: [stripe][head][token] to [token][head]. */
static void add_stripes(const struct vcl_backward *b, const float *sums, float *to)
{
    const size_t d = b->flow.kv.head_dim, heads = b->flow.kv.heads;
    memset(to, 0, b->n * heads * d * sizeof *to);
    for (size_t stripe = 0; stripe < b->stripes; stripe++)
        for (size_t h = 0; h < heads; h++)
            for (size_t i = 0; i < b->n; i++, sums += d)
                vcl_add(to + (i * heads + h) * d, sums, d);
}

static void join_fused(const struct vcl_backward *b)
{
    const struct vcl_config *c = &b->flow.network->config;
    const size_t d = c->head_dim, heads = c->heads;
    const float *const parts[3] = { b->dq, b->dk, b->dv };
    for (size_t i = 0; i < b->n; i++)
        for (size_t h = 0; h < heads; h++)
            for (size_t part = 0; part < 3; part++)
                memcpy(b->dfused + (i * 3 * heads + vcl_fused_head(c, h, part)) * d,
                       parts[part] + (i * heads + h) * d, d * sizeof(float));
}

static enum vcl_status show_key_values(const struct vcl_backward *b, size_t layer)
{
    const struct vcl_flow *f = &b->flow;
    const struct vcl_key_values of = { layer, b->n, f->kv.heads, f->kv.head_dim, f->k, f->v, b->dk, b->dv };
    return b->hooks && b->hooks->key_values ? b->hooks->key_values(b->hooks->user, &of) : VCL_OK;
}

/* From g, the gradient of what was added to the sum, to dnormed; normed is what entered. */
static enum vcl_status attention_back(struct vcl_backward *b, size_t layer, const float *g)
{
    struct vcl_flow *f = &b->flow;
    const struct vcl_layer *w = &f->network->layers[layer];
    const struct upstream list[] = { { &w->q, b->dq }, { &w->k, b->dk }, { &w->v, b->dv } };
    enum vcl_status status = apply_back(b, &w->o, f->mixed, g, b->dmixed);
    if (status != VCL_OK)
        return status;
    vcl_pool_run(vcl_store_pool(f->store), b->stripes * f->kv.heads, attend_part_back, b);
    add_stripes(b, b->sums[0], b->dk);
    add_stripes(b, b->sums[1], b->dv);
    vcl_flow_rotate(f, b->dq, f->network->config.heads, b->n, 1);
    vcl_flow_rotate(f, b->dk, f->kv.heads, b->n, 1);
    status = show_key_values(b, layer);
    if (status != VCL_OK)
        return status;
    if (!w->fused.weight)
        return apply_all_back(b, list, 3);
    join_fused(b);
    return apply_all_back(b, &(struct upstream){ &w->fused, b->dfused }, 1);
}

/* ---- layers ---------------------------------------------------------------------------------- */

static float *input_of(const struct vcl_backward *b, size_t layer)
{
    return b->inputs + layer * b->n * b->flow.network->config.width;
}

/* dx: the gradient of what the layer left, then of what entered it. */
static enum vcl_status layer_back(struct vcl_backward *b, size_t layer)
{
    struct vcl_flow *f = &b->flow;
    const struct vcl_config *c = &f->network->config;
    const struct vcl_layer *w = &f->network->layers[layer];
    const size_t floats = b->n * c->width;
    const float *x = input_of(b, layer), *middle = c->parallel ? x : f->x; /* what enters the second norm */
    vcl_flow_normalise(f, &w->attention_norm, x, b->n, f->normed);
    enum vcl_status status = vcl_flow_attention(f, layer, b->n);
    memcpy(f->x, x, floats * sizeof *x);
    vcl_add(f->x, f->delta, floats);
    vcl_flow_normalise(f, &w->ffn_norm, middle, b->n, f->normed);
    memcpy(b->dout, b->dx, floats * sizeof *b->dx);
    if (status == VCL_OK)
        status = feed_forward_back(b, w);
    if (status != VCL_OK)
        return status;
    normalise_back(b, &w->ffn_norm, middle);
    vcl_flow_normalise(f, &w->attention_norm, x, b->n, f->normed);
    status = attention_back(b, layer, c->parallel ? b->dout : b->dx);
    normalise_back(b, &w->attention_norm, x);
    return status;
}

/* ---- the loss --------------------------------------------------------------------------------- */

struct labelling {
    struct vcl_backward *b;
    size_t first;
    uint32_t *labels;
    const uint64_t *seed;
};

static float largest(const float *x, size_t n)
{
    float most = x[0];
    for (size_t i = 1; i < n; i++)
        most = x[i] > most ? x[i] : most;
    return most;
}

/* The first of n at which the sum of weights goes beyond a drawn part of all. */
static uint32_t draw(const float *weights, size_t n, double sum, uint64_t seed, size_t position)
{
    const uint64_t bits = vcl_mix(vcl_mix(seed) + (position + 1) * VCL_MIX_STEP);
    double left = (double)(bits >> 11) * 0x1p-53 * sum;
    uint32_t last = 0; /* that has a weight: where rounding leaves some of the part */
    for (size_t i = 0; i < n; i++) {
        last = weights[i] > 0 ? (uint32_t)i : last;
        if ((left -= (double)weights[i]) < 0)
            break;
    }
    return last;
}

/* Of one position's logits: the label, where it is to be drawn, the loss, and the gradient in their place. */
static void score_part(void *user, size_t part, unsigned thread)
{
    const struct labelling *s = user;
    const size_t vocab = s->b->flow.network->config.vocab, position = s->first + part;
    float *x = s->b->logits + part * vocab;
    uint32_t *label = s->labels + position;
    const float most = largest(x, vocab);
    double sum = 0, behind = 0; /* of the label, in nats */
    (void)thread;
    if (!s->seed && *label != VCL_NO_LABEL)
        behind = (double)most - (double)x[*label];
    for (size_t i = 0; i < vocab; i++) {
        const double weight = exp((double)x[i] - (double)most);
        x[i] = (float)weight;
        sum += weight;
    }
    if (s->seed) {
        *label = draw(x, vocab, sum, *s->seed, position);
        behind = -log((double)x[*label]);
    }
    s->b->losses[position] = *label == VCL_NO_LABEL ? 0 : log(sum) + behind;
    for (size_t i = 0; i < vocab; i++)
        x[i] = *label == VCL_NO_LABEL ? 0 : (float)((double)x[i] / sum);
    if (*label != VCL_NO_LABEL)
        x[*label] -= 1;
}

/* From hidden states in normed to their gradient in dnormed. */
static enum vcl_status score_all(struct vcl_backward *b, uint32_t *labels, const uint64_t *seed)
{
    const struct vcl_network *network = b->flow.network;
    const size_t width = network->config.width;
    enum vcl_status status = VCL_OK;
    for (size_t first = 0, count; first < b->n && status == VCL_OK; first += count) {
        const float *hidden = b->flow.normed + first * width;
        struct labelling labelling = { b, first, labels, seed };
        count = b->n - first < POSITIONS ? b->n - first : POSITIONS;
        status = vcl_store_multiply(b->flow.store, network->head, hidden, count, b->logits);
        if (status != VCL_OK)
            break;
        vcl_pool_run(vcl_store_pool(b->flow.store), count, score_part, &labelling);
        status = show(b, &(struct vcl_gradient){ network->head, first, count, hidden, b->logits });
        if (status == VCL_OK)
            status = vcl_store_multiply_transposed(b->flow.store, network->head, b->logits, count,
                                                   b->dnormed + first * width);
    }
    return status;
}

/* ---- all of it -------------------------------------------------------------------------------- */

static enum vcl_status read_layers(struct vcl_backward *b, const uint32_t *tokens)
{
    struct vcl_flow *f = &b->flow;
    const struct vcl_config *c = &f->network->config;
    enum vcl_status status = vcl_flow_embed(f, tokens, b->n);
    for (size_t layer = 0; layer < c->layers && status == VCL_OK; layer++) {
        memcpy(input_of(b, layer), f->x, b->n * c->width * sizeof *f->x);
        status = vcl_flow_layer(f, layer, b->n);
    }
    return status;
}

static enum vcl_status score(struct vcl_backward *b, uint32_t *labels, const uint64_t *seed, double *loss)
{
    struct vcl_flow *f = &b->flow;
    vcl_flow_normalise(f, &f->network->norm, f->x, b->n, f->normed);
    const enum vcl_status status = score_all(b, labels, seed);
    if (status != VCL_OK)
        return status;
    *loss = 0;
    for (size_t i = 0; i < b->n; i++)
        *loss += b->losses[i];
    memset(b->dx, 0, b->n * f->network->config.width * sizeof *b->dx);
    normalise_back(b, &f->network->norm, f->x);
    return isfinite(*loss) ? VCL_OK : VCL_E_FORMAT;
}

static enum vcl_status show_embeddings(const struct vcl_backward *b)
{
    const struct vcl_network *network = b->flow.network;
    const enum vcl_status status =
        show(b, &(struct vcl_gradient){ network->embedding, 0, b->n, NULL, b->dx });
    if (status != VCL_OK || !network->positions)
        return status;
    return show(b, &(struct vcl_gradient){ network->positions, 0, b->n, NULL, b->dx });
}

enum vcl_status vcl_backward_run(struct vcl_backward *b, const uint32_t *tokens, size_t n, uint32_t *labels,
                                 const uint64_t *seed, const struct vcl_backward_hooks *hooks, double *loss)
{
    if (!n || n > b->flow.batch)
        return VCL_E_ARGUMENT;
    b->n = n;
    b->hooks = hooks;
    enum vcl_status status = read_layers(b, tokens);
    if (status == VCL_OK)
        status = score(b, labels, seed, loss);
    for (size_t layer = b->flow.network->config.layers; layer-- && status == VCL_OK;)
        status = layer_back(b, layer);
    return status == VCL_OK ? show_embeddings(b) : status;
}
