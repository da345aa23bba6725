/* layer.c - a layer of the network: norms, attention, feed-forward.
 *
 * Attention works on sixteen lanes, each a query of a position and a head that shares the keys (they share
 * its loads); the tokens' own keys and values are in the cache before any of their queries is answered. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "layer.h"

static size_t lane_floats(const struct vcl_flow *f)
{
    return VCL_LANES * (f->kv.positions + 2 * f->kv.head_dim);
}

/* ---- creation -------------------------------------------------------------------------------- */

int vcl_floats_allocate(const struct vcl_floats *blocks, size_t count)
{
    int good = 1;
    for (size_t i = 0; i < count; i++) {
        *blocks[i].at = calloc(blocks[i].count, blocks[i].each * sizeof(float));
        good = good && *blocks[i].at;
    }
    return good;
}

static int allocate(struct vcl_flow *f)
{
    const struct vcl_config *c = &f->network->config;
    const size_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim, half = c->rotary / 2 + 1;
    const size_t fused = c->family == VCL_LLAMA ? 1 : 3 * q;
    const struct vcl_floats blocks[] = {
        { &f->cosine, f->kv.positions, half },
        { &f->sine, f->kv.positions, half },
        { &f->x, f->batch, c->width },
        { &f->normed, f->batch, c->width },
        { &f->delta, f->batch, c->width },
        { &f->q, f->batch, q },
        { &f->mixed, f->batch, q },
        { &f->k, f->batch, kv },
        { &f->v, f->batch, kv },
        { &f->fused, f->batch, fused },
        { &f->gate, f->batch, c->ffn },
        { &f->up, f->batch, c->ffn },
        { &f->lanes, vcl_pool_threads(vcl_store_pool(f->store)), lane_floats(f) },
    };
    return vcl_floats_allocate(blocks, sizeof blocks / sizeof *blocks);
}

/* Radians a position of pair i of `half`.  Llama 3 divides the rate of long waves by the factor, leaves
 * short ones and mixes the two between. */
static double rotation_rate(const struct vcl_config *c, size_t i, size_t half)
{
    const double rate = pow(c->rope_theta, -(double)i / (double)half), slow = rate / c->rope_factor;
    if (c->rope_scaling == VCL_ROPE_PLAIN)
        return rate;
    if (c->rope_scaling == VCL_ROPE_LINEAR)
        return slow;
    const double turns = c->rope_original * rate / 6.283185307179586; /* in the context it was trained on */
    const double share = (turns - c->rope_low) / (c->rope_high - c->rope_low);
    return share <= 0 ? slow : share >= 1 ? rate : (1 - share) * slow + share * rate;
}

static void make_rotations(struct vcl_flow *f)
{
    const size_t half = f->network->config.rotary / 2;
    for (size_t i = 0; i < half; i++) {
        const double rate = rotation_rate(&f->network->config, i, half);
        for (size_t at = 0; at < f->kv.positions; at++) {
            f->cosine[at * half + i] = (float)cos((double)at * rate);
            f->sine[at * half + i] = (float)sin((double)at * rate);
        }
    }
}

enum vcl_status vcl_flow_create(const struct vcl_network *network, size_t positions, size_t batch,
                                size_t layers, struct vcl_flow *f, struct vcl_error *error)
{
    struct vcl_config cached = network->config;
    *f = (struct vcl_flow){ .network = network, .store = network->store, .batch = batch };
    if (positions > network->config.context)
        return vcl_fault(error, VCL_E_ARGUMENT,
                         "%zu positions are more than the model's %zu (max_position_embeddings)", positions,
                         network->config.context);
    f->loops = vcl_store_loops(network->store);
    cached.layers = layers;
    const enum vcl_status status = vcl_kv_create(&cached, positions, &f->kv, error);
    if (status != VCL_OK)
        return status;
    if (!allocate(f))
        return vcl_fault_memory(error);
    make_rotations(f);
    return VCL_OK;
}

void vcl_flow_destroy(struct vcl_flow *f)
{
    float *const blocks[] = { f->cosine, f->sine, f->x,     f->normed, f->delta, f->q,    f->mixed,
                              f->k,      f->v,    f->fused, f->gate,   f->up,    f->lanes };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        free(blocks[i]);
    vcl_kv_destroy(&f->kv);
}

/* ---- norms, sums, rotations ------------------------------------------------------------------- */

/* Moments in f64. */
void vcl_norm_measure(const float *x, const struct vcl_norm *norm, size_t width, double eps, double *mean,
                      float *scale)
{
    double sum = 0, squares = 0;
    for (size_t c = 0; c < width && norm->bias; c++)
        sum += (double)x[c];
    *mean = sum / (double)width;
    for (size_t c = 0; c < width; c++)
        squares += ((double)x[c] - *mean) * ((double)x[c] - *mean);
    *scale = (float)(1 / sqrt(squares / (double)width + eps));
}

/* y = x / rms(x) weight; or, with a bias, y = (x - mean) / deviation weight + bias. */
static void norm_row(const float *x, const struct vcl_norm *norm, size_t width, double eps, float *y)
{
    double mean;
    float scale;
    vcl_norm_measure(x, norm, width, eps, &mean, &scale);
    for (size_t c = 0; c < width; c++)
        y[c] = (x[c] - (float)mean) * scale * norm->weight[c] + (norm->bias ? norm->bias[c] : 0);
}

void vcl_flow_normalise(const struct vcl_flow *f, const struct vcl_norm *norm, const float *x, size_t n,
                        float *y)
{
    const struct vcl_config *c = &f->network->config;
    for (size_t i = 0; i < n; i++)
        norm_row(x + i * c->width, norm, c->width, c->norm_eps, y + i * c->width);
}

/* y = W x + bias, for n vectors. */
struct output {
    const struct vcl_linear *linear;
    size_t rows;
    float *y;
};

static enum vcl_status apply_all(struct vcl_flow *f, const struct output *outputs, size_t count,
                                 const float *x, size_t n)
{
    struct vcl_multiplication list[3];
    for (size_t k = 0; k < count; k++)
        list[k] = (struct vcl_multiplication){ outputs[k].linear->weight, outputs[k].y };
    const enum vcl_status status = vcl_store_multiply_all(f->store, list, count, x, n);
    for (size_t k = 0; k < count; k++)
        for (size_t i = 0; i < n && outputs[k].linear->bias; i++)
            for (size_t r = 0; r < outputs[k].rows; r++)
                outputs[k].y[i * outputs[k].rows + r] += outputs[k].linear->bias[r];
    return status;
}

static enum vcl_status apply(struct vcl_flow *f, const struct vcl_linear *linear, size_t rows, const float *x,
                             size_t n, float *y)
{
    return apply_all(f, &(struct output){ linear, rows, y }, 1, x, n);
}

void vcl_add(float *x, const float *delta, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += delta[i];
}

/* Turns the pairs (i, i + half) of one head; dimensions beyond 2 half stay. */
static void rotate(float *head, const float *cosine, const float *sine, size_t half, float sign)
{
    for (size_t i = 0; i < half; i++) {
        const float a = head[i], b = head[i + half], turn = sign * sine[i];
        head[i] = a * cosine[i] - b * turn;
        head[i + half] = b * cosine[i] + a * turn;
    }
}

void vcl_flow_rotate(const struct vcl_flow *f, float *heads, size_t count, size_t n, int back)
{
    const size_t half = f->network->config.rotary / 2;
    for (size_t i = 0; i < n * count && half; i++) {
        const size_t at = (f->kv.length + i / count) * half;
        rotate(heads + i * f->kv.head_dim, f->cosine + at, f->sine + at, half, back ? -1.0f : 1.0f);
    }
}

/* ---- the cache -------------------------------------------------------------------------------- */

static size_t place(const struct vcl_flow *f, size_t layer) { return f->kv.layers == 1 ? 0 : layer; }

/* Rows of tokens, keys before rotation, to where attention reads them; a vcl_cache_place's. */
static void put(const void *flow, const struct vcl_cache_tokens *t)
{
    const struct vcl_flow *f = flow;
    const size_t d = f->kv.head_dim, heads = f->kv.heads, half = f->network->config.rotary / 2;
    for (size_t i = 0; i < t->count; i++)
        for (size_t h = 0; h < heads; h++) {
            const size_t position = t->position + i, from = (i * heads + h) * d;
            float *key = vcl_kv_keys(&f->kv, place(f, t->layer), h) + position * d,
                  *value = vcl_kv_values(&f->kv, place(f, t->layer), h) + position * d;
            memcpy(key, t->keys + from, d * sizeof(float));
            rotate(key, f->cosine + position * half, f->sine + position * half, half, 1);
            memcpy(value, t->values + from, d * sizeof(float));
        }
}

/* The first key that the query of a position sees. */
static size_t first_key(const struct vcl_flow *f, size_t position)
{
    const size_t window = f->network->config.window;
    return window && position >= window ? position + 1 - window : 0;
}

/* The batch's keys and values into the cache, which holds the layer's earlier ones from then on. */
static enum vcl_status remember(struct vcl_flow *f, size_t layer, size_t n)
{
    const struct vcl_cache_tokens made = { layer, f->kv.length, n, f->k, f->v };
    const struct vcl_cache_hook *hook = &f->hook;
    enum vcl_status status = hook->pass ? hook->pass(hook->user, &made) : VCL_OK;
    if (status == VCL_OK && hook->fill)
        status =
            hook->fill(hook->user, layer, first_key(f, f->kv.length), &(struct vcl_cache_place){ put, f });
    if (status == VCL_OK)
        put(f, &made);
    return status;
}

/* ---- attention ------------------------------------------------------------------------------- */

static size_t group_of(const struct vcl_flow *f) { return f->network->config.heads / f->kv.heads; }

size_t vcl_queries_blocks(const struct vcl_flow *f, size_t n)
{
    return (n * group_of(f) + VCL_LANES - 1) / VCL_LANES;
}

/* Lane i of all that a KV head has is query i / group, its head `head` group + i % group. */
struct vcl_queries vcl_queries_of(const struct vcl_flow *f, size_t layer, size_t head, size_t n, size_t block)
{
    const size_t d = f->kv.head_dim, group = group_of(f), first = block * VCL_LANES, left = n * group - first;
    struct vcl_queries lanes = { .flow = f, .count = left < VCL_LANES ? left : VCL_LANES };
    lanes.from = first_key(f, f->kv.length + first / group);
    lanes.keys = f->kv.length + (first + lanes.count - 1) / group + 1 - lanes.from;
    lanes.key_rows = vcl_kv_keys(&f->kv, place(f, layer), head) + lanes.from * d;
    lanes.value_rows = vcl_kv_values(&f->kv, place(f, layer), head) + lanes.from * d;
    for (size_t l = 0; l < VCL_LANES; l++) {
        const size_t lane = first + (l < lanes.count ? l : 0), position = f->kv.length + lane / group;
        lanes.at[l] = (lane / group * f->kv.heads * group + head * group + lane % group) * d;
        lanes.begin[l] = first_key(f, position) - lanes.from;
        lanes.end[l] = position + 1 - lanes.from;
    }
    return lanes;
}

void vcl_queries_gather(const struct vcl_queries *lanes, const float *rows, float *to)
{
    for (size_t l = 0; l < VCL_LANES; l++)
        for (size_t c = 0; c < lanes->flow->kv.head_dim; c++)
            to[VCL_LANES * c + l] = rows[lanes->at[l] + c];
}

void vcl_queries_scatter(const struct vcl_queries *lanes, const float *from, float *rows)
{
    for (size_t l = 0; l < lanes->count; l++)
        for (size_t c = 0; c < lanes->flow->kv.head_dim; c++)
            rows[lanes->at[l] + c] = from[VCL_LANES * c + l];
}

/* A group of rows at a time. */
void vcl_block_rows(const struct vcl_loops16 *loops, const float *w, size_t row, size_t col, size_t rows,
                    size_t cols, const float *x, float *y)
{
    for (size_t r = 0; r < rows; r += VCL_GROUP)
        loops->block(w + r * row, row, col, rows - r < VCL_GROUP ? rows - r : VCL_GROUP, cols, x,
                     y + VCL_LANES * r);
}

void vcl_queries_weigh(const struct vcl_queries *lanes, const float *queries, float *shares)
{
    const struct vcl_loops16 *loops = lanes->flow->loops;
    const size_t d = lanes->flow->kv.head_dim;
    vcl_block_rows(loops, lanes->key_rows, d, 1, lanes->keys, d, queries, shares);
    loops->softmax(shares, lanes->keys, (float)(1 / sqrt((double)d)), lanes->begin, lanes->end);
}

struct attention {
    struct vcl_flow *flow;
    size_t layer, n;
};

static void attend_part(void *user, size_t part, unsigned thread)
{
    const struct attention *a = user;
    struct vcl_flow *f = a->flow;
    const size_t d = f->kv.head_dim, blocks = vcl_queries_blocks(f, a->n);
    float *queries = f->lanes + thread * lane_floats(f), *sums = queries + VCL_LANES * d,
          *shares = sums + VCL_LANES * d;
    /* The latest queries have the most keys: they come first, so that no thread is left with them. */
    const struct vcl_queries lanes =
        vcl_queries_of(f, a->layer, part % f->kv.heads, a->n, blocks - 1 - part / f->kv.heads);
    vcl_queries_gather(&lanes, f->q, queries);
    vcl_queries_weigh(&lanes, queries, shares);
    vcl_block_rows(f->loops, lanes.value_rows, 1, d, d, lanes.keys, shares, sums);
    vcl_queries_scatter(&lanes, sums, f->mixed);
}

static void attend_all(struct vcl_flow *f, size_t layer, size_t n)
{
    struct attention job = { f, layer, n };
    const size_t parts = vcl_queries_blocks(f, n) * f->kv.heads;
    vcl_pool_run(vcl_store_pool(f->store), parts, attend_part, &job);
}

/* ---- steps ----------------------------------------------------------------------------------- */

/* GPT-2 has all q, then all k, then all v; NeoX has q, k and v of one head after the other. */
size_t vcl_fused_head(const struct vcl_config *c, size_t h, size_t part)
{
    return c->family == VCL_NEOX ? h * 3 + part : part * c->heads + h;
}

static void split_fused(struct vcl_flow *f, size_t n)
{
    const struct vcl_config *c = &f->network->config;
    const size_t d = c->head_dim, heads = c->heads;
    float *const parts[3] = { f->q, f->k, f->v };
    for (size_t i = 0; i < n; i++)
        for (size_t h = 0; h < heads; h++)
            for (size_t part = 0; part < 3; part++)
                memcpy(parts[part] + (i * heads + h) * d,
                       f->fused + (i * 3 * heads + vcl_fused_head(c, h, part)) * d, d * sizeof(float));
}

static enum vcl_status project(struct vcl_flow *f, const struct vcl_layer *w, size_t n)
{
    const struct vcl_config *c = &f->network->config;
    const size_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    if (w->fused.weight) {
        const enum vcl_status status = apply(f, &w->fused, 3 * q, f->normed, n, f->fused);
        split_fused(f, n);
        return status;
    }
    const struct output outputs[] = { { &w->q, q, f->q }, { &w->k, kv, f->k }, { &w->v, kv, f->v } };
    return apply_all(f, outputs, 3, f->normed, n);
}

enum vcl_status vcl_flow_attention(struct vcl_flow *f, size_t layer, size_t n)
{
    const struct vcl_config *c = &f->network->config;
    enum vcl_status status = project(f, &f->network->layers[layer], n);
    if (status == VCL_OK)
        status = remember(f, layer, n);
    if (status != VCL_OK)
        return status;
    vcl_flow_rotate(f, f->q, c->heads, n, 0);
    attend_all(f, layer, n);
    return apply(f, &f->network->layers[layer].o, c->width, f->mixed, n, f->delta);
}

/* GPT-2's own approximation, or the true one. */
static float gelu(double x, int by_tanh)
{
    const double root = 0.7978845608028654; /* sqrt(2 / pi) */
    return (float)(x / 2
                   * (1 + (by_tanh ? tanh(root * (x + 0.044715 * x * x * x)) : erf(x * 0.7071067811865476))));
}

/* One token's activations: of gate and up into gate, or of up into gate. */
static void activate_part(void *user, size_t part, unsigned thread)
{
    const struct vcl_flow *f = user;
    const struct vcl_config *c = &f->network->config;
    float *gate = f->gate + part * c->ffn, *up = f->up + part * c->ffn;
    (void)thread;
    if (c->family == VCL_LLAMA)
        f->loops->swiglu(gate, up, c->ffn);
    else
        for (size_t i = 0; i < c->ffn; i++)
            gate[i] = gelu((double)up[i], c->gelu_tanh);
}

void vcl_flow_activate(struct vcl_flow *f, size_t n)
{
    vcl_pool_run(vcl_store_pool(f->store), n, activate_part, f);
}

enum vcl_status vcl_flow_widen(struct vcl_flow *f, const struct vcl_layer *w, size_t n)
{
    const size_t ffn = f->network->config.ffn;
    const struct output outputs[] = { { &w->up, ffn, f->up }, { &w->gate, ffn, f->gate } };
    return apply_all(f, outputs, w->gate.weight ? 2 : 1, f->normed, n);
}

/* From normed to delta. */
static enum vcl_status feed_forward(struct vcl_flow *f, const struct vcl_layer *w, size_t n)
{
    const enum vcl_status status = vcl_flow_widen(f, w, n);
    if (status != VCL_OK)
        return status;
    vcl_flow_activate(f, n);
    return apply(f, &w->down, f->network->config.width, f->gate, n, f->delta);
}

enum vcl_status vcl_flow_layer(struct vcl_flow *f, size_t layer, size_t n)
{
    const struct vcl_config *c = &f->network->config;
    const struct vcl_layer *w = &f->network->layers[layer];
    vcl_flow_normalise(f, &w->attention_norm, f->x, n, f->normed);
    enum vcl_status status = vcl_flow_attention(f, layer, n);
    if (c->parallel)
        vcl_flow_normalise(f, &w->ffn_norm, f->x, n, f->normed); /* of the sum without attention */
    vcl_add(f->x, f->delta, n * c->width);
    if (!c->parallel)
        vcl_flow_normalise(f, &w->ffn_norm, f->x, n, f->normed);
    if (status == VCL_OK)
        status = feed_forward(f, w, n);
    vcl_add(f->x, f->delta, n * c->width);
    return status;
}

enum vcl_status vcl_flow_embed(struct vcl_flow *f, const uint32_t *tokens, size_t n)
{
    const struct vcl_network *network = f->network;
    const size_t width = network->config.width;
    enum vcl_status status = vcl_store_rows(f->store, network->embedding, tokens, n, f->x);
    for (size_t i = 0; i < n && network->positions && status == VCL_OK; i++) {
        const uint32_t position = (uint32_t)(f->kv.length + i);
        status = vcl_store_rows(f->store, network->positions, &position, 1, f->normed);
        vcl_add(f->x + i * width, f->normed, width);
    }
    return status;
}
