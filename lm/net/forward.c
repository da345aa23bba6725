/* forward.c - the forward pass: THE FILE TO READ FIRST.
 *
 * Tokens go through in batches of at most 256: weights are read once a batch.  Attention works on sixteen
 * lanes, each a query of a position and a head that shares the keys (they share its loads); a batch's
 * own keys and values are in the cache before any of its queries is answered. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "forward.h"

enum { BATCH = 256 };

struct vcl_forward {
    const struct vcl_network *network;
    struct vcl_store *store;
    const struct vcl_loops16 *loops;
    struct vcl_kv kv;
    size_t batch;
    float *cosine, *sine;      /* [position][rotary / 2] */
    float *x, *normed, *delta; /* [batch][width] */
    float *q, *mixed;          /* [batch][heads][head_dim] */
    float *k, *v;              /* [batch][kv_heads][head_dim] */
    float *fused;              /* [batch][3][heads][head_dim], or as the family has it */
    float *gate, *up;          /* [batch][ffn] */
    float *lanes;              /* per thread: 16 queries, their scores and sums */
    float *trail;              /* [layer or last norm][position][width], the caller's, or NULL */
};

static size_t lane_floats(const struct vcl_forward *f)
{
    return VCL_LANES * (f->kv.positions + 2 * f->kv.head_dim);
}

/* ---- creation -------------------------------------------------------------------------------- */

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

static void make_rotations(struct vcl_forward *f)
{
    const size_t half = f->network->config.rotary / 2;
    for (size_t i = 0; i < half; i++) {
        const double rate = rotation_rate(&f->network->config, i, half);
        for (size_t p = 0; p < f->kv.positions; p++) {
            f->cosine[p * half + i] = (float)cos((double)p * rate);
            f->sine[p * half + i] = (float)sin((double)p * rate);
        }
    }
}

static int allocate(struct vcl_forward *f)
{
    const struct vcl_config *c = &f->network->config;
    const size_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim, half = c->rotary / 2 + 1;
    const size_t fused = c->family == VCL_LLAMA ? 1 : 3 * q;
    const struct {
        float **at;
        size_t count, each;
    } blocks[] = { { &f->cosine, f->kv.positions, half },
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
                   { &f->lanes, vcl_team_threads(vcl_store_team(f->store)), lane_floats(f) } };
    int good = 1;
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++) {
        *blocks[i].at = calloc(blocks[i].count, blocks[i].each * sizeof(float));
        good = good && *blocks[i].at;
    }
    return good;
}

enum vcl_status vcl_forward_create(const struct vcl_network *network, size_t positions,
                                   struct vcl_forward **forward, struct vcl_error *error)
{
    struct vcl_forward *f;
    *forward = NULL;
    if (positions > network->config.context)
        return vcl_fault(error, VCL_E_ARGUMENT,
                         "%zu positions are more than the model's %zu (max_position_embeddings)", positions,
                         network->config.context);
    f = calloc(1, sizeof *f);
    if (!f)
        return vcl_fault_memory(error);
    f->network = network;
    f->store = network->store;
    f->loops = vcl_store_loops(network->store);
    f->batch = positions < BATCH ? positions : BATCH;
    enum vcl_status status = vcl_kv_create(&network->config, positions, &f->kv, error);
    if (status == VCL_OK && !allocate(f))
        status = vcl_fault_memory(error);
    if (status != VCL_OK) {
        vcl_forward_destroy(f);
        return status;
    }
    make_rotations(f);
    *forward = f;
    return VCL_OK;
}

void vcl_forward_destroy(struct vcl_forward *f)
{
    if (!f)
        return;
    float *const blocks[] = { f->cosine, f->sine, f->x,     f->normed, f->delta, f->q,    f->mixed,
                              f->k,      f->v,    f->fused, f->gate,   f->up,    f->lanes };
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        free(blocks[i]);
    vcl_kv_destroy(&f->kv);
    free(f);
}

void vcl_forward_rewind(struct vcl_forward *f, size_t length) { f->kv.length = length; }
size_t vcl_forward_length(const struct vcl_forward *f) { return f->kv.length; }

/* ---- norms, sums, rotations ------------------------------------------------------------------- */

/* y = x / rms(x) weight; or, with a bias, y = (x - mean) / deviation weight + bias.  Moments in f64. */
static void norm_row(const float *x, const struct vcl_norm *norm, size_t width, double eps, float *y)
{
    double sum = 0, squares = 0;
    for (size_t c = 0; c < width && norm->bias; c++)
        sum += (double)x[c];
    const double mean = sum / (double)width;
    for (size_t c = 0; c < width; c++)
        squares += ((double)x[c] - mean) * ((double)x[c] - mean);
    const float scale = (float)(1 / sqrt(squares / (double)width + eps));
    for (size_t c = 0; c < width; c++)
        y[c] = (x[c] - (float)mean) * scale * norm->weight[c] + (norm->bias ? norm->bias[c] : 0);
}

static void normalise(const struct vcl_forward *f, const struct vcl_norm *norm, size_t n, float *y)
{
    const struct vcl_config *c = &f->network->config;
    for (size_t i = 0; i < n; i++)
        norm_row(f->x + i * c->width, norm, c->width, c->norm_eps, y + i * c->width);
}

/* y = W x + bias, for n vectors. */
struct output {
    const struct vcl_linear *linear;
    size_t rows;
    float *y;
};

static enum vcl_status apply_all(struct vcl_forward *f, const struct output *outputs, size_t count,
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

static enum vcl_status apply(struct vcl_forward *f, const struct vcl_linear *linear, size_t rows,
                             const float *x, size_t n, float *y)
{
    return apply_all(f, &(struct output){ linear, rows, y }, 1, x, n);
}

static void add(float *x, const float *delta, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] += delta[i];
}

/* Turns the pairs (i, i + half) of one head by its position's angles; dimensions beyond 2 half stay. */
static void rotate(float *head, const float *cosine, const float *sine, size_t half)
{
    for (size_t i = 0; i < half; i++) {
        const float a = head[i], b = head[i + half];
        head[i] = a * cosine[i] - b * sine[i];
        head[i + half] = b * cosine[i] + a * sine[i];
    }
}

static void rotate_all(const struct vcl_forward *f, float *heads, size_t count, size_t n)
{
    const size_t half = f->network->config.rotary / 2;
    for (size_t i = 0; i < n * count && half; i++) {
        const size_t at = (f->kv.length + i / count) * half;
        rotate(heads + i * f->kv.head_dim, f->cosine + at, f->sine + at, half);
    }
}

static void remember(struct vcl_forward *f, size_t layer, size_t n)
{
    const size_t d = f->kv.head_dim, heads = f->kv.heads;
    for (size_t i = 0; i < n; i++)
        for (size_t h = 0; h < heads; h++) {
            const size_t at = (f->kv.length + i) * d, from = (i * heads + h) * d;
            memcpy(vcl_kv_keys(&f->kv, layer, h) + at, f->k + from, d * sizeof(float));
            memcpy(vcl_kv_values(&f->kv, layer, h) + at, f->v + from, d * sizeof(float));
        }
}

/* ---- attention ------------------------------------------------------------------------------- */

struct attention {
    struct vcl_forward *f;
    size_t layer, n, group; /* query heads that share a key */
};

/* Lane number `lane` of KV head h: query i = lane / group, its head h group + lane % group. */
static size_t lane_offset(const struct attention *a, size_t h, size_t lane)
{
    const size_t heads = a->f->kv.heads * a->group;
    return (lane / a->group * heads + h * a->group + lane % a->group) * a->f->kv.head_dim;
}

/* y[16 r + l] for all rows, a group of rows at a time. */
static void block_rows(const struct vcl_loops16 *loops, const float *w, size_t row, size_t col, size_t rows,
                       size_t cols, const float *x, float *y)
{
    for (size_t r = 0; r < rows; r += VCL_GROUP)
        loops->block(w + r * row, row, col, rows - r < VCL_GROUP ? rows - r : VCL_GROUP, cols, x,
                     y + VCL_LANES * r);
}

/* The first key that the query of a position sees. */
static size_t first_key(const struct attention *a, size_t position)
{
    const size_t window = a->f->network->config.window;
    return window && position >= window ? position + 1 - window : 0;
}

static void attend(const struct attention *a, size_t h, size_t first, float *lanes)
{
    struct vcl_forward *f = a->f;
    const size_t d = f->kv.head_dim, all = a->n * a->group;
    const size_t count = all - first < VCL_LANES ? all - first : VCL_LANES;
    const size_t from = first_key(a, f->kv.length + first / a->group);
    const size_t keys = f->kv.length + (first + count - 1) / a->group + 1 - from;
    float *queries = lanes, *sums = lanes + VCL_LANES * d, *scores = sums + VCL_LANES * d;
    size_t begin[VCL_LANES], end[VCL_LANES]; /* of what a lane sees, from `from` on */

    for (size_t l = 0; l < VCL_LANES; l++) {
        const size_t lane = first + (l < count ? l : 0); /* lanes left over repeat the first */
        const size_t position = f->kv.length + lane / a->group;
        const float *q = f->q + lane_offset(a, h, lane);
        begin[l] = first_key(a, position) - from;
        end[l] = position + 1 - from;
        for (size_t c = 0; c < d; c++)
            queries[VCL_LANES * c + l] = q[c];
    }
    block_rows(f->loops, vcl_kv_keys(&f->kv, a->layer, h) + from * d, d, 1, keys, d, queries, scores);
    f->loops->softmax(scores, keys, (float)(1 / sqrt((double)d)), begin, end);
    block_rows(f->loops, vcl_kv_values(&f->kv, a->layer, h) + from * d, 1, d, d, keys, scores, sums);
    for (size_t l = 0; l < count; l++)
        for (size_t c = 0; c < d; c++)
            f->mixed[lane_offset(a, h, first + l) + c] = sums[VCL_LANES * c + l];
}

static void attend_part(void *user, size_t part, unsigned thread)
{
    const struct attention *a = user;
    const size_t blocks = (a->n * a->group + VCL_LANES - 1) / VCL_LANES;
    /* The latest queries have the most keys: they come first, so that no thread is left with them. */
    attend(a, part % a->f->kv.heads, (blocks - 1 - part / a->f->kv.heads) * VCL_LANES,
           a->f->lanes + thread * lane_floats(a->f));
}

static void attend_all(struct vcl_forward *f, size_t layer, size_t n)
{
    const size_t group = f->network->config.heads / f->kv.heads;
    struct attention job = { f, layer, n, group };
    const size_t blocks = (n * group + VCL_LANES - 1) / VCL_LANES;
    vcl_team_run(vcl_store_team(f->store), &(struct vcl_job){ attend_part, &job, blocks * f->kv.heads });
}

/* ---- layers ---------------------------------------------------------------------------------- */

/* Of each token GPT-2 has all q, then all k, then all v; NeoX has q, k and v of one head after the other. */
static void split_fused(struct vcl_forward *f, size_t n)
{
    const struct vcl_config *c = &f->network->config;
    const size_t d = c->head_dim, heads = c->heads;
    float *const parts[3] = { f->q, f->k, f->v };
    for (size_t i = 0; i < n; i++)
        for (size_t h = 0; h < heads; h++)
            for (size_t p = 0; p < 3; p++) {
                const size_t from = c->family == VCL_NEOX ? h * 3 + p : p * heads + h;
                memcpy(parts[p] + (i * heads + h) * d, f->fused + (i * 3 * heads + from) * d,
                       d * sizeof(float));
            }
}

static enum vcl_status project(struct vcl_forward *f, const struct vcl_layer *w, size_t n)
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

/* From normed to delta. */
static enum vcl_status attention(struct vcl_forward *f, size_t layer, size_t n)
{
    const struct vcl_config *c = &f->network->config;
    const enum vcl_status status = project(f, &f->network->layers[layer], n);
    if (status != VCL_OK)
        return status;
    rotate_all(f, f->q, c->heads, n);
    rotate_all(f, f->k, c->kv_heads, n);
    remember(f, layer, n);
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

/* One token's activations: of gate and up into gate, or of up into itself. */
static void activate(void *user, size_t part, unsigned thread)
{
    const struct vcl_forward *f = user;
    const struct vcl_config *c = &f->network->config;
    float *gate = f->gate + part * c->ffn, *up = f->up + part * c->ffn;
    (void)thread;
    if (c->family == VCL_LLAMA)
        f->loops->swiglu(gate, up, c->ffn);
    else
        for (size_t i = 0; i < c->ffn; i++)
            gate[i] = gelu((double)up[i], c->gelu_tanh);
}

/* From normed to delta. */
static enum vcl_status feed_forward(struct vcl_forward *f, const struct vcl_layer *w, size_t n)
{
    const struct vcl_config *c = &f->network->config;
    const struct output outputs[] = { { &w->up, c->ffn, f->up }, { &w->gate, c->ffn, f->gate } };
    const enum vcl_status status = apply_all(f, outputs, w->gate.weight ? 2 : 1, f->normed, n);
    if (status != VCL_OK)
        return status;
    vcl_team_run(vcl_store_team(f->store), &(struct vcl_job){ activate, f, n });
    return apply(f, &w->down, c->width, f->gate, n, f->delta);
}

static enum vcl_status read_layer(struct vcl_forward *f, size_t layer, size_t n)
{
    const struct vcl_config *c = &f->network->config;
    const struct vcl_layer *w = &f->network->layers[layer];
    normalise(f, &w->attention_norm, n, f->normed);
    enum vcl_status status = attention(f, layer, n);
    if (c->parallel)
        normalise(f, &w->ffn_norm, n, f->normed); /* of the sum without attention */
    add(f->x, f->delta, n * c->width);
    if (!c->parallel)
        normalise(f, &w->ffn_norm, n, f->normed);
    if (status == VCL_OK)
        status = feed_forward(f, w, n);
    add(f->x, f->delta, n * c->width);
    return status;
}

static enum vcl_status embed(struct vcl_forward *f, const uint32_t *tokens, size_t n)
{
    const struct vcl_network *network = f->network;
    const size_t width = network->config.width;
    enum vcl_status status = vcl_store_rows(f->store, network->embedding, tokens, n, f->x);
    for (size_t i = 0; i < n && network->positions && status == VCL_OK; i++) {
        const uint32_t position = (uint32_t)(f->kv.length + i);
        status = vcl_store_rows(f->store, network->positions, &position, 1, f->normed);
        add(f->x + i * width, f->normed, width);
    }
    return status;
}

static float *trail_at(const struct vcl_forward *f, size_t layer)
{
    return f->trail + (layer * f->kv.positions + f->kv.length) * f->network->config.width;
}

/* From x, which enters layer `first`. */
static enum vcl_status read_layers(struct vcl_forward *f, size_t first, size_t n, float *hidden)
{
    const size_t layers = f->network->config.layers;
    enum vcl_status status = VCL_OK;
    for (size_t layer = first; layer <= layers && status == VCL_OK; layer++) {
        if (f->trail && first == 0)
            memcpy(trail_at(f, layer), f->x, n * f->network->config.width * sizeof *f->x);
        if (layer < layers)
            status = read_layer(f, layer, n);
    }
    f->kv.length += n;
    normalise(f, &f->network->norm, n, hidden);
    return status;
}

static enum vcl_status read_batch(struct vcl_forward *f, const uint32_t *tokens, size_t n, float *hidden)
{
    const enum vcl_status status = embed(f, tokens, n);
    return status == VCL_OK ? read_layers(f, 0, n, hidden) : status;
}

enum vcl_status vcl_forward_read(struct vcl_forward *f, const uint32_t *tokens, size_t n, float *hidden)
{
    enum vcl_status status = n <= f->kv.positions - f->kv.length ? VCL_OK : VCL_E_ARGUMENT;
    while (n && status == VCL_OK) {
        const size_t count = n < f->batch ? n : f->batch;
        status = read_batch(f, tokens, count, hidden);
        tokens += count;
        hidden += count * f->network->config.width;
        n -= count;
    }
    return status;
}

enum vcl_status vcl_forward_logits(struct vcl_forward *f, const float *hidden, size_t n, float *logits)
{
    return vcl_store_multiply(f->store, f->network->head, hidden, n, logits);
}

void vcl_forward_leave_trail(struct vcl_forward *f, float *trail) { f->trail = trail; }

enum vcl_status vcl_forward_resume(struct vcl_forward *f, size_t layer, size_t n, float *hidden)
{
    enum vcl_status status = VCL_OK;
    vcl_forward_rewind(f, 0);
    for (size_t count; n && status == VCL_OK; n -= count) {
        count = n < f->batch ? n : f->batch;
        memcpy(f->x, trail_at(f, layer), count * f->network->config.width * sizeof *f->x);
        status = read_layers(f, layer, count, hidden);
        hidden += count * f->network->config.width;
    }
    return status;
}
