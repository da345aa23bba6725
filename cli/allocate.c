/* allocate.c - --allocate: from the model's own text to bits for every tensor.
 *
 * The model writes a draft.  self: white noise in a matrix changes what the model predicts there by so
 * much (sensitivity.h), the coder leaves so much error at so many bits (curve.h), and from both follow the
 * bits (shares.h); errors are fed back by the moments of the matrix' inputs (moments.h).  depth: bits rise
 * or fall with the layer, at the slope whose noise changes least. */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "allocate.h"
#include "curve.h"
#include "allot/importance.h"
#include "language.h"

enum { SEED = 1, SLOPES = 9 };
static const double STEEPEST = 1.5; /* bits from the first layer to the last */
static const double LEAST = 0.5;    /* bits of a layer */
static const double SPEED = 2e10;   /* multiply-adds a second that a thread is taken to do, logits included */
static const double MOST_WORK = 1.2e13; /* multiply-adds that auto spends: ten minutes of a thread */

/* How much text.  auto takes the first that is within MOST_WORK. */
static const struct {
    size_t sequences, length;
} DRAFTS[] = { { 12, 256 }, { 6, 96 } };
enum { LONGEST, SHORTEST };

/* Errors that are large do not add up as the moments say: the fewer bits, the weaker the feedback. */
static double damping_at(double bits) { return fmin(4 * exp2(-2 * bits), 1); }

static int on_tokens(void *user, size_t tokens)
{
    (void)user;
    vcl_progress_add(0, tokens);
    return vcl_interrupted();
}
static const struct vcl_watch WATCH = { on_tokens, NULL };

/* ---- what it takes --------------------------------------------------------------------------- */

struct effort {
    double matrices, values, bytes; /* of the weights as the runtime holds them */
};

static struct effort sum_up(const struct vcl_model *model)
{
    struct effort effort = { 0 };
    for (size_t i = 0; i < vcl_model_count(model); i++) {
        const struct vcl_tensor *tensor = &vcl_model_entry(model, i)->tensor;
        uint64_t values = 0;
        if (tensor->rank != 2 || !vcl_dtype_is_float(tensor->dtype)
            || vcl_tensor_size(tensor, &values, NULL) != VCL_OK)
            continue;
        effort.matrices++;
        effort.values += (double)values;
        effort.bytes += (double)values * (tensor->dtype == VCL_DTYPE_BF16 ? 2 : 4);
    }
    return effort;
}

/* Multiply-adds: the draft is written, read once, and once more for every slope or, from its layer on,
 * every matrix. */
static double work_of(const struct effort *effort, enum vcl_allocate how, size_t draft)
{
    const double readings = how == VCL_ALLOCATE_SELF ? effort->matrices / 2 : SLOPES;
    return (double)(DRAFTS[draft].sequences * DRAFTS[draft].length) * effort->values * (readings + 3);
}

/* The plan's `how` and draft.  What auto decides depends on the model and on memory, not on how fast the
 * machine is: --resume finds the same. */
static void plan(struct vcl_allocation *a, const struct effort *effort)
{
    const double room = (double)vcl_memory_free(), copies = effort->bytes + 4 * effort->values;
    a->chosen_draft = LONGEST;
    if (a->how == VCL_ALLOCATE_DEPTH)
        a->chosen_draft = SHORTEST;
    if (a->how != VCL_ALLOCATE_AUTO)
        return;
    if (room > 0 && copies > 0.8 * room) {
        vcl_note("allocate: running the model takes %s, %s are free: every tensor gets the same rate",
                 vcl_words_size((uint64_t)copies).text, vcl_words_size((uint64_t)room).text);
        a->how = VCL_ALLOCATE_FIXED;
        return;
    }
    a->how = VCL_ALLOCATE_SELF;
    while (a->chosen_draft < SHORTEST && work_of(effort, a->how, a->chosen_draft) > MOST_WORK)
        a->chosen_draft++;
    if (work_of(effort, a->how, a->chosen_draft) <= MOST_WORK)
        return;
    a->how = VCL_ALLOCATE_DEPTH;
    vcl_note("allocate: depth; --allocate self would take about %s",
             vcl_words_time(work_of(effort, VCL_ALLOCATE_SELF, LONGEST) / SPEED / a->threads).text);
}

/* ---- which tensors --------------------------------------------------------------------------- */

struct free_tensors { /* whose bits are to be found */
    size_t count, *entries;
    double values, bits; /* in sum */
};

static struct free_tensors list_free(const struct vcl_allocation *a, const struct vcl_model *model,
                                     const struct vcl_choice *choices)
{
    struct free_tensors list = { .entries = vcl_zeros(vcl_model_count(model), sizeof *list.entries) };
    for (size_t i = 0; i < vcl_model_count(model); i++)
        if (vcl_choice_is_free(&choices[i]) && a->matrices[i]) {
            list.entries[list.count++] = i;
            list.values += (double)choices[i].values;
            list.bits += (double)choices[i].values * choices[i].target;
        }
    return list;
}

static int has_feedback(const struct vcl_network_matrix *matrix)
{
    return matrix->moments && matrix->moments->feedback;
}

/* Finds every entry's matrix, and tells its choice what errors in it cost. */
static void match(struct vcl_allocation *a, const struct vcl_model *model, struct vcl_choice *choices)
{
    size_t count;
    const struct vcl_network_matrix *matrices = vcl_sensitivity_matrices(a->sensitivity, &count);
    a->matrices = vcl_zeros(vcl_model_count(model), sizeof *a->matrices);
    for (size_t i = 0; i < vcl_model_count(model); i++)
        for (size_t m = 0; m < count && !a->matrices[i]; m++)
            if (strcmp(vcl_model_entry(model, i)->name, matrices[m].name) == 0) {
                a->matrices[i] = &matrices[m];
                if (has_feedback(&matrices[m]))
                    choices[i].products =
                        (struct vcl_column_costs){ matrices[m].moments->col_weight,
                                                   matrices[m].moments->feedback, matrices[m].cols,
                                                   matrices[m].transposed };
            }
}

static void aim(const struct vcl_model *model, struct vcl_choice *choices, size_t entry, double bits)
{
    vcl_choice_aim(&choices[entry], &vcl_model_entry(model, entry)->tensor, VCL_GOAL_BITS, bits);
}

/* ---- self ------------------------------------------------------------------------------------ */

/* With few bits most values become zero, and what is left out is the matrix itself, not noise: the
 * measured costs say nothing of that.  The video codecs, which make the squared error small, begin with it
 * sooner. */
static double least_bits(const struct vcl_params *params, const struct vcl_curve *curve)
{
    const double least = params->codec == VCL_CODEC_TENSOR ? 1 : 2;
    return fmax(least, curve->count > 1 ? 1.25 * curve->bits[1] : least);
}

static enum vcl_status share_out(const struct vcl_allocation *a, const struct vcl_model *model,
                                 const struct vcl_params *params, struct vcl_choice *choices,
                                 struct vcl_work *work)
{
    const struct free_tensors list = list_free(a, model, choices);
    struct vcl_curve *curves = vcl_zeros(list.count, sizeof *curves);
    struct vcl_share *shares = vcl_zeros(list.count, sizeof *shares);
    vcl_progress_start("curves", list.count, list.count);
    const enum vcl_status status =
        vcl_curves_measure(a, model, choices, params, list.entries, list.count, curves, work);
    vcl_progress_stop();
    for (size_t i = 0; i < list.count; i++) {
        const struct vcl_network_matrix *matrix = a->matrices[list.entries[i]];
        shares[i] =
            (struct vcl_share){ .values = (double)choices[list.entries[i]].values,
                                .cost = matrix->cost * (has_feedback(matrix) ? matrix->moments->gain : 1),
                                .curve = curves[i],
                                .least = least_bits(params, &curves[i]) };
    }
    if (!status && vcl_share_out(shares, list.count, list.bits))
        for (size_t i = 0; i < list.count; i++)
            aim(model, choices, list.entries[i], shares[i].bits);
    free(curves);
    free(shares);
    free(list.entries);
    return status;
}

/* Mean squares of the user's text in place of those of the draft, whose correlations stay. */
static enum vcl_status take_squares(struct vcl_allocation *a, struct vcl_error *error)
{
    size_t count;
    struct vcl_network_matrix *matrices = vcl_sensitivity_matrices(a->sensitivity, &count);
    enum vcl_status status = VCL_OK;
    for (size_t i = 0; i < count && status == VCL_OK && a->importance; i++) {
        const struct vcl_inputs *inputs;
        status = vcl_importance_find(a->importance, matrices[i].name, &inputs, error);
        if (status == VCL_OK && inputs && matrices[i].moments && inputs->count == matrices[i].cols)
            matrices[i].moments->squares = inputs->weight;
    }
    return status;
}

static enum vcl_status measure_costs(struct vcl_allocation *a, const struct vcl_params *params, double bits,
                                     struct vcl_error *error)
{
    enum vcl_status status = vcl_sensitivity_costs(a->sensitivity, exp2(-2 * bits), error);
    if (status == VCL_OK)
        status = take_squares(a, error);
    if (status != VCL_OK || params->codec != VCL_CODEC_TENSOR || params->rotate)
        return status;
    return vcl_sensitivity_factor(a->sensitivity, damping_at(bits), error);
}

/* ---- depth ----------------------------------------------------------------------------------- */

/* The number in a tensor's name, "model.layers.3.": its layer; -1: none. */
static long layer_of(const char *name)
{
    for (const char *part = name; part; part = strchr(part, '.')) {
        part += *part == '.';
        char *end;
        const long layer = isdigit((unsigned char)*part) ? strtol(part, &end, 10) : -1;
        if (layer >= 0 && *end == '.')
            return layer;
    }
    return -1;
}

/* Bits of every matrix that rise by `slope` from the first layer to the last, `bits` on average.  0 where
 * one of them would have less than LEAST. */
static int slope_bits(const struct vcl_network_matrix *matrices, size_t count, double slope, double bits,
                      double *at)
{
    double values = 0, sum = 0, last = 1, least = INFINITY;
    for (size_t i = 0; i < count; i++)
        last = fmax(last, (double)layer_of(matrices[i].name));
    for (size_t i = 0; i < count; i++) {
        const long layer = layer_of(matrices[i].name);
        const double n = (double)matrices[i].rows * (double)matrices[i].cols;
        at[i] = layer < 0 ? 0 : slope * ((double)layer / last - 0.5);
        values += n;
        sum += n * at[i];
    }
    for (size_t i = 0; i < count; i++) {
        at[i] += bits - sum / values;
        least = fmin(least, at[i]);
    }
    return least >= LEAST;
}

static enum vcl_status find_slope(const struct vcl_allocation *a, double bits, double *slope,
                                  struct vcl_error *error)
{
    size_t count;
    const struct vcl_network_matrix *matrices = vcl_sensitivity_matrices(a->sensitivity, &count);
    double *ratio = vcl_zeros(count, sizeof *ratio), least = INFINITY, kl;
    enum vcl_status status = VCL_OK;
    for (int k = 0; k < SLOPES && status == VCL_OK; k++) {
        const double tried = STEEPEST * (2.0 * k / (SLOPES - 1) - 1);
        if (!slope_bits(matrices, count, tried, bits, ratio))
            continue;
        for (size_t i = 0; i < count; i++)
            ratio[i] = exp2(-2 * ratio[i]);
        status = vcl_sensitivity_noise(a->sensitivity, ratio, &kl, error);
        if (status == VCL_OK && kl < least) {
            least = kl;
            *slope = tried;
        }
    }
    free(ratio);
    return status;
}

/* Of the tensors that are free, on average what they had; as they are where that is too little for the
 * slope. */
static void tilt(const struct vcl_allocation *a, const struct vcl_model *model, struct vcl_choice *choices)
{
    const struct free_tensors list = list_free(a, model, choices);
    struct vcl_network_matrix *matrices = vcl_zeros(list.count, sizeof *matrices);
    double *bits = vcl_zeros(list.count, sizeof *bits);
    for (size_t i = 0; i < list.count; i++)
        matrices[i] = *a->matrices[list.entries[i]];
    const int enough =
        list.count && slope_bits(matrices, list.count, a->slope, list.bits / list.values, bits);
    for (size_t i = 0; i < list.count && enough; i++)
        aim(model, choices, list.entries[i], bits[i]);
    free(matrices);
    free(bits);
    free(list.entries);
}

/* Weights that are no numbers, or a model that predicts the same whatever is done to it, have no costs. */
static int has_costs(const struct vcl_allocation *a)
{
    size_t count;
    double sum = 0;
    const struct vcl_network_matrix *matrices = vcl_sensitivity_matrices(a->sensitivity, &count);
    for (size_t i = 0; i < count; i++)
        sum += matrices[i].cost;
    return isfinite(sum) && sum > 0;
}

/* ---- all of it ------------------------------------------------------------------------------- */

static enum vcl_status measure(struct vcl_allocation *a, const struct vcl_params *params,
                               const struct effort *effort, double bits)
{
    struct vcl_error error = { 0 };
    const int self = a->how == VCL_ALLOCATE_SELF;
    const size_t readings = self ? (size_t)effort->matrices : SLOPES;
    a->draft.sequences = DRAFTS[a->chosen_draft].sequences;
    a->draft.length = DRAFTS[a->chosen_draft].length;
    if (a->draft.length > a->network.config.context)
        a->draft.length = a->network.config.context;
    vcl_progress_start_tokens("allocate", readings, a->draft.sequences * a->draft.length * (readings + 2));
    enum vcl_status status = vcl_draft_write(&a->network, SEED, &WATCH, &a->draft, &error);
    if (status == VCL_OK)
        status = vcl_sensitivity_open(&a->network, &a->draft, self, &WATCH, &a->sensitivity, &error);
    if (status == VCL_OK)
        status = self ? measure_costs(a, params, bits, &error) : find_slope(a, bits, &a->slope, &error);
    vcl_progress_stop();
    return status == VCL_OK ? VCL_OK : vcl_errand_fail(vcl_cli_errand(), status, "allocate: %s", error.text);
}

/* A model that the runtime does not know is no failure unless it was asked to run. */
static enum vcl_status open_network(struct vcl_allocation *a, const char *folder, struct vcl_pool *pool,
                                    int asked)
{
    struct vcl_error error = { 0 };
    const enum vcl_status status = vcl_network_open(folder, pool, VCL_MEMORY_DEFAULT, &a->network, &error);
    if (status == VCL_OK) {
        vcl_cli_note_network(folder, &a->network);
        return VCL_OK;
    }
    if (asked)
        return vcl_errand_fail(vcl_cli_errand(), status, "allocate: %s", error.text);
    if (vcl_is_in(folder, "config.json"))
        vcl_note("allocate: every tensor gets the same rate, for the model cannot be run: %s", error.text);
    a->how = VCL_ALLOCATE_FIXED;
    return VCL_OK;
}

static double mean_target(const struct vcl_model *model, const struct vcl_choice *choices)
{
    double values = 0, bits = 0;
    for (size_t i = 0; i < vcl_model_count(model); i++)
        if (vcl_choice_is_free(&choices[i])) {
            values += (double)choices[i].values;
            bits += (double)choices[i].values * choices[i].target;
        }
    return values > 0 ? bits / values : 0;
}

/* The network is open. */
static enum vcl_status allocate(struct vcl_allocation *a, const struct vcl_model *model,
                                const struct vcl_params *params, const struct effort *effort, double bits,
                                struct vcl_choice *choices, struct vcl_work *work)
{
    const enum vcl_status status = measure(a, params, effort, bits);
    if (status)
        return status;
    if (a->how == VCL_ALLOCATE_SELF && !has_costs(a)) {
        vcl_note("allocate: every tensor gets the same rate, for what the model predicts is no measure");
        a->how = VCL_ALLOCATE_FIXED;
        return VCL_OK;
    }
    match(a, model, choices);
    if (a->how == VCL_ALLOCATE_SELF)
        return share_out(a, model, params, choices, work);
    tilt(a, model, choices);
    return VCL_OK;
}

enum vcl_status vcl_allocate_model(struct vcl_allocation *a, const struct vcl_model *model,
                                   const char *folder, const struct vcl_params *params,
                                   struct vcl_choice *choices, struct vcl_work *work)
{
    const struct effort effort = sum_up(model);
    const double bits = mean_target(model, choices);
    const int asked = a->how != VCL_ALLOCATE_AUTO;
    a->threads = work->threads;
    plan(a, &effort);
    if (bits <= 0)
        a->how = VCL_ALLOCATE_FIXED;
    if (a->how != VCL_ALLOCATE_FIXED)
        a->seconds = work_of(&effort, a->how, a->chosen_draft) / SPEED / a->threads;
    if (a->how == VCL_ALLOCATE_FIXED || a->dry_run)
        return VCL_OK;
    enum vcl_status status = open_network(a, folder, work->pool, asked);
    if (!status && a->how != VCL_ALLOCATE_FIXED)
        status = allocate(a, model, params, &effort, bits, choices, work);
    vcl_network_close(&a->network);
    return status;
}

static const char *const NAMES[] = { "auto", "fixed", "depth", "self" };

const char *vcl_allocation_name(const struct vcl_allocation *a) { return NAMES[a->how]; }

void vcl_allocation_print(const struct vcl_allocation *a)
{
    if (a->how == VCL_ALLOCATE_DEPTH)
        printf("allocate  depth: %+.2f bits from the first layer to the last, by %zu x %zu tokens of its own "
               "text\n",
               a->slope, a->draft.sequences, a->draft.length);
    else if (a->how == VCL_ALLOCATE_SELF)
        printf("allocate  self: by %zu x %zu tokens of the model's own text; SNR is low where errors matter "
               "least\n",
               a->draft.sequences, a->draft.length);
}

json_t *vcl_allocation_json(const struct vcl_allocation *a)
{
    json_t *object = json_object();
    vcl_json_set(object, "how", json_string(vcl_allocation_name(a)));
    vcl_json_set(object, "sequences", json_integer((json_int_t)a->draft.sequences));
    vcl_json_set(object, "length", json_integer((json_int_t)a->draft.length));
    vcl_json_set(object, "slope", a->how == VCL_ALLOCATE_DEPTH ? vcl_json_real(a->slope) : json_null());
    return object;
}

void vcl_allocation_release(struct vcl_allocation *a)
{
    vcl_sensitivity_close(a->sensitivity);
    vcl_importance_free(a->importance);
    vcl_network_close(&a->network);
    free(a->draft.tokens);
    free(a->matrices);
}
