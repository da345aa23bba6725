/* sensitivity.c - one reading that sees what every matrix is multiplied with, then a reading for every
 * matrix. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/eval.h"
#include "sensitivity.h"

enum { POSITIONS = 64 }; /* whose logits are made at a time */

struct vcl_sensitivity {
    const struct vcl_network *network;
    const struct vcl_draft *draft;
    struct vcl_watch watch;
    size_t count, groups;
    struct vcl_network_matrix *matrices;
    struct vcl_moments **moments;
    struct vcl_forward *forward;
    float *hidden;   /* of a sequence */
    float *trails;   /* of all sequences, or NULL: then all layers are read anew */
    float *baseline; /* logits of all sequences */
    float *logits;
    struct vcl_score *scores;
    const struct vcl_weight *last; /* what the store multiplied before, and with what */
    const float *last_x;
};

/* ---- readings -------------------------------------------------------------------------------- */

struct noise_scoring {
    const struct vcl_sensitivity *m;
    const float *baseline;
    struct vcl_score *scores;
};

static void score_part(void *user, size_t part, unsigned thread)
{
    const struct noise_scoring *s = user;
    const size_t vocab = s->m->network->config.vocab;
    (void)thread;
    vcl_score(s->m->logits + part * vocab, s->baseline + part * vocab, vocab, 0, &s->scores[part]);
}

/* Logits of sequence s: kept as the baseline's, or compared with them. */
static enum vcl_status finish_sequence(struct vcl_sensitivity *m, size_t s, int keep)
{
    const struct vcl_config *c = &m->network->config;
    const size_t length = m->draft->length;
    for (size_t i = 0; i < length; i += POSITIONS) {
        const size_t n = length - i < POSITIONS ? length - i : POSITIONS, at = s * length + i;
        const struct noise_scoring scoring = { m, m->baseline + at * c->vocab, m->scores + at };
        float *logits = keep ? m->baseline + at * c->vocab : m->logits;
        const enum vcl_status status = vcl_forward_logits(m->forward, m->hidden + i * c->width, n, logits);
        if (status != VCL_OK)
            return status;
        if (!keep)
            vcl_pool_run(vcl_store_pool(m->network->store), n, score_part, (void *)&scoring);
    }
    return VCL_OK;
}

static size_t trail_floats(const struct vcl_sensitivity *m)
{
    return (m->network->config.layers + 1) * m->draft->length * m->network->config.width;
}

/* Reads sequence s: the first time (keep), or from `layer` on. */
static enum vcl_status read_sequence(struct vcl_sensitivity *m, size_t s, size_t layer, int keep)
{
    const size_t length = m->draft->length;
    const int trail = m->trails && (keep || layer > 0);
    vcl_forward_leave_trail(m->forward, trail ? m->trails + s * trail_floats(m) : NULL);
    if (trail && !keep)
        return vcl_forward_resume(m->forward, layer, length, m->hidden);
    vcl_forward_rewind(m->forward, 0);
    return vcl_forward_read(m->forward, m->draft->tokens + s * length, length, m->hidden);
}

static enum vcl_status read_draft(struct vcl_sensitivity *m, size_t layer, int keep)
{
    for (size_t s = 0; s < m->draft->sequences; s++) {
        enum vcl_status status = read_sequence(m, s, layer, keep);
        if (status == VCL_OK)
            status = finish_sequence(m, s, keep);
        if (status != VCL_OK)
            return status;
        if (m->watch.progress && m->watch.progress(m->watch.user, m->draft->length))
            return VCL_E_CANCELLED;
    }
    return VCL_OK;
}

/* ---- moments --------------------------------------------------------------------------------- */

static struct vcl_network_matrix *find(const struct vcl_sensitivity *m, const struct vcl_weight *weight)
{
    struct vcl_network_matrix *matrix = m->matrices;
    while (matrix->weight != weight)
        matrix++;
    return matrix;
}

static struct vcl_moments *add_group(struct vcl_sensitivity *m, size_t cols)
{
    struct vcl_moments *moments = vcl_moments_create(cols);
    if (moments)
        m->moments[m->groups++] = moments;
    return moments;
}

/* Matrices that read the same vectors follow one another, as q, k and v do: the first of them counts.  Not
 * of a head that is the embedding: errors fed back for what it reads would stand in the rows that are looked
 * up. */
static void see(void *user, const struct vcl_weight *weight, const float *x, size_t n)
{
    struct vcl_sensitivity *m = user;
    if (weight == m->network->embedding)
        return;
    struct vcl_network_matrix *matrix = find(m, weight);
    const int shared = m->last && m->last != weight && m->last_x == x;
    if (!matrix->moments)
        matrix->moments = shared ? find(m, m->last)->moments : add_group(m, matrix->cols);
    if (!shared && matrix->moments)
        vcl_moments_add(matrix->moments, vcl_store_loops(m->network->store),
                        vcl_store_pool(m->network->store), x, n);
    m->last = weight;
    m->last_x = x;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int list_matrices(struct vcl_sensitivity *m)
{
    const struct vcl_store *store = m->network->store;
    size_t count = 0;
    for (struct vcl_weight *w = vcl_store_next(store, NULL); w; w = vcl_store_next(store, w))
        count++;
    m->matrices = calloc(count + 1, sizeof *m->matrices);
    m->moments = calloc(count + 1, sizeof *m->moments);
    if (!m->matrices || !m->moments)
        return 0;
    m->count = count;
    for (struct vcl_weight *w = vcl_store_next(store, NULL); w; w = vcl_store_next(store, w)) {
        const struct vcl_weight_info info = vcl_store_describe(w);
        struct vcl_network_matrix *matrix = &m->matrices[--count]; /* in the order they were loaded */
        *matrix = (struct vcl_network_matrix){ .name = strdup(info.name),
                                               .weight = w,
                                               .rows = info.rows,
                                               .cols = info.cols,
                                               .transposed = info.transposed };
        if (!matrix->name)
            return 0;
    }
    return 1;
}

static enum vcl_status create(struct vcl_sensitivity *m, struct vcl_error *error)
{
    const struct vcl_config *c = &m->network->config;
    const size_t tokens = m->draft->sequences * m->draft->length;
    const enum vcl_status status = vcl_forward_create(m->network, m->draft->length, &m->forward, error);
    if (status != VCL_OK)
        return status;
    m->hidden = malloc(m->draft->length * c->width * sizeof(float));
    m->baseline = calloc(tokens, c->vocab * sizeof(float));
    m->logits = calloc(POSITIONS, c->vocab * sizeof(float));
    m->trails = calloc(m->draft->sequences, trail_floats(m) * sizeof(float));
    m->scores = calloc(tokens, sizeof *m->scores);
    return m->hidden && m->baseline && m->logits && m->scores && list_matrices(m) ? VCL_OK
                                                                                  : vcl_fault_memory(error);
}

enum vcl_status vcl_sensitivity_open(const struct vcl_network *network, const struct vcl_draft *draft,
                                     int moments, const struct vcl_watch *watch,
                                     struct vcl_sensitivity **sensitivity, struct vcl_error *error)
{
    struct vcl_sensitivity *m = calloc(1, sizeof *m);
    *sensitivity = NULL;
    if (!m)
        return vcl_fault_memory(error);
    *m = (struct vcl_sensitivity){ .network = network, .draft = draft, .watch = *watch };
    enum vcl_status status = create(m, error);
    if (status == VCL_OK) {
        vcl_store_observe(network->store, (struct vcl_observer){ moments ? see : NULL, m });
        status = read_draft(m, 0, 1);
        vcl_store_observe(network->store, (struct vcl_observer){ 0 });
        if (status != VCL_OK)
            vcl_fault(error, status, "%s", vcl_status_text(status));
    }
    if (status == VCL_OK)
        *sensitivity = m;
    else
        vcl_sensitivity_close(m);
    return status;
}

void vcl_sensitivity_close(struct vcl_sensitivity *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->groups; i++)
        vcl_moments_destroy(m->moments[i]);
    for (size_t i = 0; i < m->count; i++)
        free(m->matrices[i].name);
    free(m->moments);
    free(m->matrices);
    vcl_forward_destroy(m->forward);
    free(m->hidden);
    free(m->trails);
    free(m->baseline);
    free(m->logits);
    free(m->scores);
    free(m);
}

struct vcl_network_matrix *vcl_sensitivity_matrices(const struct vcl_sensitivity *m, size_t *count)
{
    *count = m->count;
    return m->matrices;
}

enum vcl_status vcl_sensitivity_factor(struct vcl_sensitivity *m, double damping, struct vcl_error *error)
{
    enum vcl_status status = VCL_OK;
    for (size_t i = 0; i < m->groups && status == VCL_OK; i++)
        status = vcl_moments_factor(m->moments[i], vcl_store_pool(m->network->store), damping);
    return status == VCL_OK ? VCL_OK : vcl_fault_memory(error);
}

/* ---- noise ----------------------------------------------------------------------------------- */

/* Into every matrix that has a ratio; *energy: of all of it. */
static enum vcl_status perturb(struct vcl_sensitivity *m, const double *ratio, double *energy)
{
    enum vcl_status status = VCL_OK;
    *energy = 0;
    for (size_t i = 0; i < m->count && status == VCL_OK; i++) {
        double added = 0;
        if (ratio[i] > 0)
            status = vcl_store_perturb(m->matrices[i].weight, ratio[i], i + 1, &added);
        *energy += added;
    }
    return status;
}

/* The layer that a weight is in; the number of layers for the head, 0 for what comes before all of them. */
static size_t layer_of(const struct vcl_network *network, const struct vcl_weight *weight)
{
    const size_t layers = network->config.layers;
    for (size_t i = 0; i < layers; i++) {
        const struct vcl_layer *l = &network->layers[i];
        const struct vcl_linear *const all[] = { &l->q,  &l->k,    &l->v,     &l->o,
                                                 &l->up, &l->down, &l->fused, &l->gate };
        for (size_t k = 0; k < sizeof all / sizeof *all; k++)
            if (all[k]->weight == weight)
                return i;
    }
    return weight == network->head && weight != network->embedding ? layers : 0;
}

/* The first that noise is in. */
static size_t first_layer(const struct vcl_sensitivity *m, const double *ratio)
{
    size_t first = m->network->config.layers;
    for (size_t i = 0; i < m->count; i++) {
        const size_t layer = layer_of(m->network, m->matrices[i].weight);
        first = ratio[i] > 0 && layer < first ? layer : first;
    }
    return first;
}

static enum vcl_status measure(struct vcl_sensitivity *m, const double *ratio, double *kl, double *energy,
                               struct vcl_error *error)
{
    const size_t tokens = m->draft->sequences * m->draft->length;
    enum vcl_status status = perturb(m, ratio, energy);
    if (status == VCL_OK)
        status = read_draft(m, first_layer(m, ratio), 0);
    for (size_t i = 0; i < m->count; i++)
        vcl_store_restore(m->matrices[i].weight);
    if (status != VCL_OK)
        return vcl_fault(error, status, "%s", vcl_status_text(status));
    *kl = 0;
    for (size_t i = 0; i < tokens; i++)
        *kl += m->scores[i].kl / (double)tokens;
    return VCL_OK;
}

enum vcl_status vcl_sensitivity_noise(struct vcl_sensitivity *m, const double *ratio, double *kl,
                                      struct vcl_error *error)
{
    double energy;
    return measure(m, ratio, kl, &energy, error);
}

enum vcl_status vcl_sensitivity_costs(struct vcl_sensitivity *m, double ratio, struct vcl_error *error)
{
    double *ratios = calloc(m->count + 1, sizeof *ratios), kl, energy;
    enum vcl_status status = ratios ? VCL_OK : vcl_fault_memory(error);
    for (size_t i = 0; i < m->count && status == VCL_OK; i++) {
        ratios[i] = ratio;
        status = measure(m, ratios, &kl, &energy, error);
        if (status == VCL_OK && energy > 0)
            m->matrices[i].cost = kl > 0 || isnan(kl) ? kl / energy : 0;
        ratios[i] = 0;
    }
    free(ratios);
    return status;
}
