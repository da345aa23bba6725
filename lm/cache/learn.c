/* learn.c - a basis for every part of the cache, and the step of all for a rate: THE FILE TO READ FIRST in
 * this folder.
 *
 * In: squares of vectors and of gradients, from text that the model writes itself (gather.h).  Out: a
 * recipe.  The second moments of gradients, with labels drawn from the model's own predictions, are the
 * Fisher information: what errors cost.  In the basis that makes it the identity and the covariance diagonal
 * (eigen.h) one step for all layers, keys and values is the best allocation.
 *
 * A direction that nobody read in this text looks as if errors there cost nothing, and a rare query that
 * does read it would be ruined.  So a tenth of what the layer's own attention says (metric.h) is added, and
 * no side counts less than LEAST of its kind's geometric mean over the layers. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eigen.h"
#include "learn.h"
#include "model_cache.h"

enum { TRIALS = 16 /* of steps */, PAGE = 64 /* tokens */ };
static const double LOCAL = 0.1, LEAST = 0.3;
static const double RIDGE = 1e-4; /* of the mean, on the diagonal of metric and covariance */
static const double NEAR = 0.01;  /* to the bits that were asked for */

struct learning {
    const struct vcl_network *network;
    const struct vcl_learn_options *options;
    struct vcl_context *ctx;
    struct vcl_error *error;
    struct vcl_cache_facts facts;
    struct vcl_kv_part *parts;
    size_t count, components;    /* parts, components of all of them */
    double *variance;            /* of each component */
    double level[2];             /* geometric means over layers: what an error costs in a key, in a value */
    float *mean, *basis;         /* of all parts */
    double *covariance, *metric; /* of one part */
};

/* ---- metric ---------------------------------------------------------------------------------- */

/* Element of a matrix of which the lower triangle is there. */
static double square_of(const struct vcl_moments *moments, size_t r, size_t c)
{
    const float sum = r > c ? moments->sums[r * moments->cols + c] : moments->sums[c * moments->cols + r];
    return moments->count ? (double)sum / (double)moments->count : 0;
}

/* Mean of the diagonal, of keys (0) or values (1). */
static double cost_of(const struct learning *l, size_t layer, size_t kind)
{
    const size_t side = l->facts.side;
    double sum = 0;
    for (size_t i = kind * side; i < (kind + 1) * side; i++)
        sum += square_of(l->facts.of[layer].gradients, i, i);
    return sum / (double)side;
}

/* Without gradients all sides are alike. */
static void find_levels(struct learning *l)
{
    for (size_t kind = 0; kind < 2; kind++) {
        double logs = 0;
        size_t count = 0;
        for (size_t layer = 0; layer < l->facts.layers; layer++) {
            const double cost = cost_of(l, layer, kind);
            logs += cost > 0 ? log(cost) : 0;
            count += cost > 0;
        }
        l->level[kind] = count ? exp(logs / (double)count) : 1;
    }
}

/* What the layer's attention alone says: nothing of two heads, or of a key with a value. */
static double local_of(const struct learning *l, size_t layer, size_t r, size_t c)
{
    const size_t side = l->facts.side, d = l->facts.dim, head = r / d;
    const double *metric = l->facts.of[layer].metric[r / side] + head % l->facts.heads * d * d;
    return head == c / d ? metric[r % d * d + c % d] : 0;
}

/* Values `from` to from + n - 1 of a token. */
static void make_metric(const struct learning *l, size_t layer, size_t from, size_t n)
{
    double scale[2], level[2];
    for (size_t kind = 0; kind < 2; kind++) {
        const double cost = cost_of(l, layer, kind);
        level[kind] = fmax(cost, LEAST * l->level[kind]);
        scale[kind] = cost > 0 ? sqrt(level[kind] / cost) : 0;
    }
    for (size_t r = 0; r < n; r++)
        for (size_t c = 0; c < n; c++) {
            const size_t row = from + r, col = from + c, a = row / l->facts.side, b = col / l->facts.side;
            l->metric[r * n + c] = square_of(l->facts.of[layer].gradients, row, col) * scale[a] * scale[b]
                                 + LOCAL * level[a] * local_of(l, layer, row, col)
                                 + (r == c ? RIDGE * level[a] : 0);
        }
}

/* ---- parts ----------------------------------------------------------------------------------- */

static void make_covariance(const struct learning *l, size_t layer, size_t from, size_t n)
{
    const struct vcl_layer_facts *facts = &l->facts.of[layer];
    const double *sums = facts->sums + from, count = (double)facts->squares->count;
    double mean = 0;
    for (size_t r = 0; r < n; r++) {
        for (size_t c = 0; c < n; c++)
            l->covariance[r * n + c] =
                square_of(facts->squares, from + r, from + c) - sums[r] / count * (sums[c] / count);
        mean += l->covariance[r * n + r] / (double)n;
    }
    for (size_t r = 0; r < n; r++)
        l->covariance[r * n + r] += RIDGE * mean;
}

/* The next part: of a layer both sides, or one. */
static enum vcl_status make_part(struct learning *l, size_t layer, uint32_t sides)
{
    const size_t side = l->facts.side, n = sides == (VCL_KV_KEYS | VCL_KV_VALUES) ? 2 * side : side;
    const size_t from = sides == VCL_KV_VALUES ? side : 0;
    const struct vcl_layer_facts *facts = &l->facts.of[layer];
    const float *vectors = l->facts.vectors + (2 * layer * side + from) * l->facts.kept;
    float *mean = l->mean + l->components, *basis = l->basis + l->components * n;
    make_metric(l, layer, from, n);
    make_covariance(l, layer, from, n);
    const enum vcl_status status =
        vcl_eigen_basis(n, l->covariance, l->metric, l->variance + l->components, l->error);
    for (size_t i = 0; i < n; i++)
        mean[i] =
            (float)((double)facts->origin[from + i] + facts->sums[from + i] / (double)facts->squares->count);
    for (size_t i = 0; i < n * n; i++)
        basis[i] = (float)l->covariance[i];
    l->parts[l->count++] =
        (struct vcl_kv_part){ (uint32_t)layer, sides, mean, basis, vectors, l->facts.kept };
    l->components += n;
    return status;
}

static enum vcl_status make_parts(struct learning *l)
{
    enum vcl_status status = VCL_OK;
    find_levels(l);
    for (size_t layer = 0; layer < l->facts.layers && status == VCL_OK; layer++) {
        status = make_part(l, layer, l->options->apart ? VCL_KV_KEYS : VCL_KV_KEYS | VCL_KV_VALUES);
        if (status == VCL_OK && l->options->apart)
            status = make_part(l, layer, VCL_KV_VALUES);
    }
    return status;
}

/* ---- the step -------------------------------------------------------------------------------- */

/* Of ideal coding at this error: reverse water-filling. */
static double ideal_bits(const struct learning *l, double error)
{
    double bits = 0;
    for (size_t i = 0; i < l->components; i++)
        bits += l->variance[i] > error ? log2(l->variance[i] / error) / 2 : 0;
    return bits / (double)l->components;
}

/* Where the search begins: the trellis leaves 0.27 of a half-step's square. */
static double first_guess(const struct learning *l)
{
    double low = -100, high = 100; /* log2 of the error */
    while (high - low > 0.01) {
        const double middle = (low + high) / 2;
        *(ideal_bits(l, exp2(middle)) > l->options->bits ? &low : &high) = middle;
    }
    return (low - log2(0.27)) / 2;
}

/* Of all vectors in pages. */
static enum vcl_status weigh(const struct learning *l, struct vcl_kv_coder *coder, size_t room, void *page,
                             double *bits)
{
    const size_t side = l->facts.side, kept = l->facts.kept, token = (l->options->apart ? 1 : 2) * side;
    uint64_t sum = 0;
    for (size_t first = 0, bytes; first < kept; first += PAGE, sum += bytes) {
        float *data = l->facts.vectors + first * token;
        const struct vcl_kv_view keys = { data, VCL_DTYPE_F32, 2 * kept * side, token, l->facts.dim };
        struct vcl_kv_view values = keys;
        values.data = data + (l->options->apart ? kept : 1) * side;
        const struct vcl_kv_range range = { .size = sizeof range,
                                            .tokens = kept - first < PAGE ? (uint32_t)(kept - first) : PAGE };
        bytes = room;
        const enum vcl_status status = vcl_kv_encode(coder, &range, &keys, &values, page, &bytes);
        if (status != VCL_OK)
            return status;
    }
    *bits = 8 * (double)sum / (2 * (double)kept * (double)side * (double)l->facts.layers);
    return VCL_OK;
}

/* The recipe's own bits have no headers and no ends of pages. */
static enum vcl_status count_bits(const struct learning *l, const struct vcl_kv_recipe *recipe, double *bits)
{
    const struct vcl_kv_range range = { .size = sizeof range, .tokens = PAGE };
    struct vcl_kv_coder *coder;
    const size_t room = vcl_kv_bound(recipe, &range);
    void *page = malloc(room);
    enum vcl_status status = vcl_kv_coder_create(l->ctx, recipe, PAGE, &coder);
    if (status == VCL_OK)
        status = page ? weigh(l, coder, room, page, bits) : VCL_E_MEMORY;
    vcl_kv_coder_destroy(coder);
    free(page);
    return status;
}

static enum vcl_status try_step(struct learning *l, double step, struct vcl_kv_recipe **recipe, double *bits)
{
    const struct vcl_model_cache cache = vcl_model_cache_of(l->network);
    const struct vcl_kv_identity identity = { l->options->model, cache.revision, cache.rope, cache.layout };
    enum vcl_status status =
        vcl_kv_recipe_learn(l->ctx, &cache.shape, &identity, l->parts, l->count, exp2(step), recipe, bits);
    if (status == VCL_OK)
        status = count_bits(l, *recipe, bits);
    return status == VCL_OK ? status : vcl_fault(l->error, status, "%s", vcl_context_message(l->ctx));
}

/* Bits fall by one for each octave of the step, at low rates by less: secants, kept between what was too few
 * and too many. */
static enum vcl_status search_step(struct learning *l, struct vcl_kv_recipe **recipe, double *bits)
{
    double step = first_guess(l), fine = -INFINITY, coarse = INFINITY, slope = -1, last = 0, last_bits = 0;
    for (int trial = 0; trial < TRIALS; trial++) {
        const enum vcl_status status = try_step(l, step, recipe, bits);
        if (status == VCL_OK && fabs(*bits / l->options->bits - 1) <= NEAR)
            return VCL_OK;
        vcl_kv_recipe_destroy(*recipe);
        *recipe = NULL;
        if (status != VCL_OK)
            return status;
        if (l->options->watch.progress && l->options->watch.progress(l->options->watch.user, 0))
            return vcl_fault(l->error, VCL_E_CANCELLED, "%s", vcl_status_text(VCL_E_CANCELLED));
        *(*bits > l->options->bits ? &fine : &coarse) = step;
        if (trial > 0 && *bits != last_bits)
            slope = fmin((*bits - last_bits) / (step - last), -0.05);
        last = step;
        last_bits = *bits;
        step += (l->options->bits - *bits) / slope;
        if (!(step > fine && step < coarse))
            step = (fine + coarse) / 2;
    }
    return vcl_fault(l->error, VCL_E_RATE,
                     "no step gives %g bits a value; the nearest that was tried gives %g", l->options->bits,
                     *bits);
}

/* ---- all of it ------------------------------------------------------------------------------- */

static enum vcl_status allocate(struct learning *l)
{
    const size_t n = (l->options->apart ? 1 : 2) * l->facts.side, all = 2 * l->facts.side * l->facts.layers;
    l->parts = calloc(2 * l->facts.layers, sizeof *l->parts);
    l->variance = calloc(all, sizeof *l->variance);
    l->mean = calloc(all, sizeof *l->mean);
    l->basis = calloc(all, n * sizeof *l->basis);
    l->covariance = calloc(n, n * sizeof *l->covariance);
    l->metric = calloc(n, n * sizeof *l->metric);
    return l->parts && l->variance && l->mean && l->basis && l->covariance && l->metric
             ? VCL_OK
             : vcl_fault_memory(l->error);
}

static void release(struct learning *l)
{
    vcl_facts_free(&l->facts);
    free(l->parts);
    free(l->variance);
    free(l->mean);
    free(l->basis);
    free(l->covariance);
    free(l->metric);
}

enum vcl_status vcl_learn_cache(const struct vcl_network *network, const struct vcl_learn_options *options,
                                struct vcl_context *ctx, struct vcl_kv_recipe **recipe, double *bits,
                                struct vcl_error *error)
{
    struct learning l = { .network = network, .options = options, .ctx = ctx, .error = error };
    *recipe = NULL;
    enum vcl_status status = vcl_eigen_check(error);
    if (status == VCL_OK)
        status = vcl_facts_gather(network, options, &l.facts, error);
    if (status == VCL_OK)
        status = allocate(&l);
    if (status == VCL_OK)
        status = make_parts(&l);
    if (status == VCL_OK)
        status = search_step(&l, recipe, bits);
    release(&l);
    return status;
}
