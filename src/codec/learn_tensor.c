/* learn_tensor.c - what passes over a sample teach of the tensor codec's settings.
 *
 * In: the counts of indices that a pass leaves.  Out: the model's shape and width, the centroids, what a bit
 * is worth, models of the classes' own.  What a sample teaches holds near the step that it was coded with and
 * nowhere else: an index that a table does not know costs ten times as much as one that it does. */
#include <float.h>
#include <math.h>
#include <string.h>

#include "base/common.h"
#include "codec/scale.h"
#include "codec/search_tensor.h"

#define ERROR_MOST 1.5 /* squared half-steps a value that tell what a bit is worth; 0.27 at ordinary rates */
#define WORTHWHILE 0.002 /* bits a value that models of the classes' own are to save */

/* ---- what a pass teaches ----------------------------------------------------------------------- */

static uint64_t total_of(const uint32_t symbols[2 * VCL_MODEL_SYMBOLS])
{
    uint64_t sum = 0;
    for (int i = 0; i < 2 * VCL_MODEL_SYMBOLS; i++)
        sum += symbols[i];
    return sum;
}

static double class_cost(const struct vcl_tensor_counts *counts, int class, int shape, int fine)
{
    struct vcl_symbol_model model;
    vcl_model_make(shape, class, fine, &model);
    return vcl_model_bits(&model, counts->symbols[class]);
}

/* Bits all counted symbols take. */
static double cost_of(const struct vcl_tensor_counts *counts, int shape, int fine)
{
    double sum = 0;
    for (int class = 0; class < VCL_MODEL_CLASSES; class ++)
        if (total_of(counts->symbols[class]) > 0)
            sum += class_cost(counts, class, shape, fine);
    return sum;
}

/* Shape and width that fit the counts best, found one after the other and once more. */
static double fit_model(const struct vcl_tensor_counts *counts, int shapes, int *best_shape, int *best_fine)
{
    double best = cost_of(counts, *best_shape, *best_fine);
    for (int round = 0; round < 2; round++) {
        for (int shape = 0; shape < shapes; shape++) {
            const double cost = cost_of(counts, shape, *best_fine);
            if (cost < best)
                best = cost, *best_shape = shape;
        }
        for (int step = 4; step > 0; step /= 2)
            for (int sign = -1; sign <= 1; sign += 2)
                for (int fine = *best_fine + sign * step; fine >= -VCL_FINE_MAX && fine <= VCL_FINE_MAX;
                     fine += sign * step) {
                    const double cost = cost_of(counts, *best_shape, fine);
                    if (cost >= best)
                        break;
                    best = cost, *best_fine = fine;
                }
    }
    return best;
}

double vcl_fixed_bits(const struct vcl_encoder *e)
{
    const struct vcl_frame *const f = &e->frame;
    const uint64_t a_tile =
        vcl_tensor_start_bytes(f) - (uint64_t)f->lanes; /* a third of a state tells of values */
    return 8 * (double)(f->header_bytes - f->side_bytes + f->plan.tiles * a_tile) / (double)f->values;
}

/* How far the search goes towards the least squared error: 1 all the way, 0 the nearest path and points on
 * the lattice.  Unbiased coding needs half a bit a value to be of use: below, its error is nearly the signal;
 * from 0.9 bits down to 0.3 the one passes into the other, so that SNR rises all the way. */
static double share_of_bias(const struct vcl_tensor_search *s)
{
    const struct vcl_params *const p = s->e->params;
    if (p->goal == VCL_GOAL_ERROR)
        return 0;
    if (p->objective == VCL_OBJECTIVE_MSE || s->biased)
        return 1;
    if (vcl_has_weights(p) || p->goal == VCL_GOAL_STEP)
        return 0;
    const double bits = p->target - vcl_fixed_bits(s->e);
    const double left = p->goal == VCL_GOAL_BITS ? (0.9 - bits) / 0.6 : (3.2 - p->target) / 1.85;
    return fmin(fmax(left, 0), 1);
}

/* Errors are fed back from points on the lattice. */
int vcl_has_centroids(const struct vcl_params *p)
{
    return !(p->disable & VCL_STAGE_CENTROIDS) && !p->feedback;
}

/* Of the model, in sixteenths of an octave of the half-step. */
static double width_of(const struct vcl_tensor_search *s, double x, const struct vcl_setting *setting)
{
    return rint(16 * (s->deviation - x) + setting->width);
}

enum { FEW = 64 }; /* values tell nothing of their point */

/* Where the mean of a point's values lies, in half-steps from it. */
static double move_of(const struct vcl_tensor_counts *counts, int j)
{
    const int p = j + VCL_MOVED_POINTS + 1;
    return counts->seen[p] >= FEW ? counts->move[p] / (double)counts->seen[p] : 0;
}

/* Of both points of a size, outwards. */
static double outward(const struct vcl_tensor_counts *counts, int size)
{
    const int p = VCL_MOVED_POINTS + 1 + size, q = VCL_MOVED_POINTS + 1 - size;
    const uint64_t seen = counts->seen[p] + counts->seen[q];
    return seen >= FEW ? (counts->move[p] - counts->move[q]) / (double)seen : 0;
}

/* Of half-steps in `unit`ths. */
static int8_t to_byte(double unit, double half_steps)
{
    return (int8_t)fmin(fmax(rint(unit * half_steps), -128), 127);
}

/* Settings of the next pass from the indices of the last; returns the bits a value its symbols would take. */
double vcl_learn(struct vcl_tensor_search *s)
{
    const struct vcl_tensor_counts *const counts = &s->e->counts;
    const struct vcl_params *const p = s->e->params;
    const int shapes = p->disable & VCL_STAGE_MODEL ? 1 : VCL_SHAPES;
    int fine = s->e->frame.fine;
    const double n = (double)s->e->sampled, share = share_of_bias(s);
    const double bits = s->own ? 0 : fit_model(counts, shapes, &s->now.shape, &fine) / n;
    s->now.width = width_of(s, s->last, &s->now) + fine - s->e->frame.fine - 16 * (s->deviation - s->last);
    s->learned = s->last;
    s->error = counts->error / fmax(n * s->lively, 1);
    s->now.lambda = (float)(share * 2 * 0.69314718 * fmin(counts->error / n, ERROR_MOST));
    for (int m = 0; m < VCL_CENTROIDS && vcl_has_centroids(p); m++)
        s->now.centroid[m] = to_byte(256 * share, outward(counts, m + 1));
    for (int j = -VCL_MOVED_POINTS; j < VCL_MOVED_POINTS; j++)
        s->now.move[j + VCL_MOVED_POINTS] = to_byte(VCL_MOVE_UNIT * share, move_of(counts, j));
    return bits;
}

/* ---- passes ---------------------------------------------------------------------------------- */

/* A step of 12 significant bits: the same on machines whose exp2 differ in the last. */
static float step_of(double x)
{
    const float step = (float)exp2(x);
    return vcl_float_from_bits(vcl_float_bits(step) & 0xfffff000);
}

/* What a class leaves of it. */
static int fine_of(const struct vcl_tensor_search *s, double x, const struct vcl_setting *setting,
                   double class)
{
    const double fine = width_of(s, x, setting) - 4 * (class - VCL_MODEL_UNIT);
    return (int)fmin(fmax(fine, -VCL_FINE_MAX), VCL_FINE_MAX);
}

enum vcl_status vcl_run_setting(struct vcl_tensor_search *s, const struct vcl_setting *setting,
                                enum vcl_pass pass, struct vcl_trial *trial)
{
    struct vcl_encoder *const e = s->e;
    const double x = setting->x;
    /* The step is free, classes are a quarter of an octave apart: `fine` takes the sixteenths that are
     * left of the mean deviation, so that rows keep their classes to each other and the rate is a smooth
     * function of the step. */
    const double class = s->own ? s->own_base : rint(width_of(s, x, setting) / 4) + VCL_MODEL_UNIT;
    e->frame.step = step_of(x);
    if (!(e->frame.step >= FLT_MIN && e->frame.step <= FLT_MAX))
        return vcl_env_fail(e->env, VCL_E_RATE, "values are too small or too large to be coded lossily");
    e->tables->row_base = (int)class;
    e->frame.fine = fine_of(s, x, setting, class);
    e->frame.shape = setting->shape;
    memcpy(e->frame.centroid, setting->centroid, VCL_CENTROIDS);
    if (e->frame.flags & VCL_FLAG_POINTS) {
        memset(e->frame.centroid, 0, VCL_CENTROIDS);
        memcpy(e->tables->move, setting->move, sizeof setting->move);
        vcl_tensor_tables_points(e->tables);
        const enum vcl_status status = vcl_encoder_side(e);
        if (status)
            return status;
    }
    e->tables->lambda = setting->lambda;
    if (!vcl_tensor_tables_steps(&e->frame, e->tables))
        return vcl_env_fail(e->env, VCL_E_RATE, "values are too large to be coded with these column weights");
    vcl_tensor_tables_renew(e->tables);
    s->last = x;
    return vcl_encoder_pass(e, pass, trial);
}

/* ---- models of classes ------------------------------------------------------------------------- */

/* A class' best shape and fine near the frame's, found by steps; returns the bits saved. */
static double fit_class(const struct vcl_tensor_counts *counts, int class, const struct vcl_frame *frame,
                        struct vcl_class_model *own)
{
    enum { MOST = 12 };
    const double plain = class_cost(counts, class, frame->shape, frame->fine);
    double best = plain;
    *own = (struct vcl_class_model){ .shape = (uint8_t)frame->shape };
    for (int round = 0; round < 2; round++)
        for (int way = 0; way < 4; way++)
            for (;;) {
                const int shape = own->shape + (way == 0) - (way == 1),
                          fine = own->fine + 2 * ((way == 2) - (way == 3));
                if (shape < 0 || shape >= VCL_SHAPES || fine < -MOST || fine > MOST)
                    break;
                const double cost = class_cost(counts, class, shape, frame->fine + fine);
                if (cost >= best)
                    break;
                best = cost, own->shape = (uint8_t)shape, own->fine = (int8_t)fine;
            }
    return plain - best;
}

static int most_frequent(const uint16_t freq[VCL_MODEL_SYMBOLS])
{
    int most = 0;
    for (int i = 1; i < VCL_MODEL_SYMBOLS; i++)
        most = freq[i] > freq[most] ? i : most;
    return most;
}

/* Frequencies of sum VCL_MODEL_TOTAL in proportion to counts, to which the model's are added as if seen
 * once in ever so many; escapes have one always, others where it is worth the 0.0014 bit it costs all. */
static void make_table(const uint32_t counts[VCL_MODEL_SYMBOLS], const uint16_t model[VCL_MODEL_SYMBOLS],
                       uint16_t freq[VCL_MODEL_SYMBOLS])
{
    enum { PRIOR = 32 };
    double total = PRIOR;
    int sum = 0;
    for (int i = 0; i < VCL_MODEL_SYMBOLS; i++)
        total += counts[i];
    for (int i = 0; i < VCL_MODEL_SYMBOLS; i++) {
        const double share =
            (counts[i] + PRIOR * (double)model[i] / VCL_MODEL_TOTAL) / total * VCL_MODEL_TOTAL;
        freq[i] = (uint16_t)fmin(rint(share), VCL_MODEL_TOTAL - 2);
        if (freq[i] == 0 && (i == 0 || i == VCL_MODEL_SYMBOLS - 1 || share > 0.125))
            freq[i] = 1;
        sum += freq[i];
    }
    for (; sum > VCL_MODEL_TOTAL; sum--)
        freq[most_frequent(freq)]--;
    const int most = most_frequent(freq);
    freq[most] = (uint16_t)(freq[most] + VCL_MODEL_TOTAL - sum);
}

/* What a class' own table saves over the model it has, in the whole tensor; less what chance in the sample
 * may have promised, and the table's bytes. */
static double table_saves(const struct vcl_tensor_search *s, int class, const struct vcl_class_model *own,
                          double scale, uint16_t freq[2][VCL_MODEL_SYMBOLS])
{
    const uint32_t *const symbols = s->e->counts.symbols[class];
    uint8_t bytes[VCL_TABLE_BYTES];
    struct vcl_symbol_model model, table;
    size_t size = 1;
    int used = 0;
    vcl_model_make(own->shape, class, s->e->frame.fine + own->fine, &model);
    for (int g = 0; g < 2; g++) {
        make_table(symbols + g * VCL_MODEL_SYMBOLS, model.freq[g], freq[g]);
        size += vcl_tensor_put_table(freq[g], bytes);
    }
    for (int i = 0; i < 2 * VCL_MODEL_SYMBOLS; i++)
        used += symbols[i] > 0;
    vcl_model_take(freq, &table);
    const double chance = 1.44 * used * (scale - 1);
    return (vcl_model_bits(&model, symbols) - vcl_model_bits(&table, symbols)) * scale - chance
         - 8.0 * (double)size;
}

/* Models of their own for the classes where a sample says that they pay; returns the bits saved. */
double vcl_choose_class_models(struct vcl_tensor_search *s)
{
    struct vcl_encoder *const e = s->e;
    const double scale = (double)e->frame.values / (double)e->sampled;
    double saved = -16, tables = 0;
    e->frame.flags &= ~(uint32_t)(VCL_FLAG_CLASS_MODELS | VCL_FLAG_TABLES);
    for (int class = 0; class < VCL_MODEL_CLASSES; class ++) {
        struct vcl_class_model *const own = &e->tables->own[class];
        *own = (struct vcl_class_model){ .shape = (uint8_t)e->frame.shape };
        if (total_of(e->counts.symbols[class]) == 0)
            continue;
        saved += scale * fit_class(&e->counts, class, &e->frame, own) - 8;
        const double more = table_saves(s, class, own, scale, own->freq);
        own->tabled = more > 0;
        tables += more > 0 ? more : 0;
    }
    if (saved + tables > 0)
        e->frame.flags |= VCL_FLAG_CLASS_MODELS | (tables > 0 ? VCL_FLAG_TABLES : 0u);
    return saved + tables;
}

double vcl_telling_x(const struct vcl_tensor_search *s) { return fmax(s->deviation - 1.5, s->least); }

/* Bits a value that tables of the classes' own would save over the model just fitted, by the counts of the last
 * pass: what their symbols take beyond their entropy, less a table's bytes and what chance may have promised. */
double vcl_promise_of(const struct vcl_tensor_search *s)
{
    const struct vcl_encoder *const e = s->e;
    const double scale = (double)e->frame.values / (double)e->sampled;
    const int fine = fine_of(s, s->last, &s->now, e->tables->row_base);
    double sum = 0;
    for (int class = 0; class < VCL_MODEL_CLASSES && !(e->params->disable & VCL_STAGE_MODEL); class ++) {
        const uint32_t *const symbols = e->counts.symbols[class];
        if (total_of(symbols) == 0)
            continue;
        int used = 0;
        const double least =
            vcl_model_entropy(symbols, &used) + vcl_model_entropy(symbols + VCL_MODEL_SYMBOLS, &used);
        const double saved = (class_cost(&e->counts, class, s->now.shape, fine) - least) * scale;
        sum += fmax(saved - used * (8 + 1.44 * (scale - 1)) - 32, 0);
    }
    return sum > WORTHWHILE * (double)e->frame.values ? sum / (double)e->frame.values : 0;
}

struct vcl_setting vcl_first_setting(const struct vcl_tensor_search *s)
{
    return (struct vcl_setting){ .lambda = (float)(0.375 * share_of_bias(s)) }; /* 2 ln 2 x 0.27 */
}

/* ---- lists of the columns ---------------------------------------------------------------------- */

/* The mean of log2 of what a class stands for: the rows' deviation, less what the columns' classes take. */
static double mean_deviation(const struct vcl_encoder *e)
{
    double sum = 0;
    for (uint64_t c = 0; c < e->frame.plan.cols; c++)
        sum += e->tables->col_class[c];
    return e->stats.log_deviation / (double)e->stats.lively + sum / (double)e->frame.plan.cols / 4;
}

void vcl_find_deviations(struct vcl_tensor_search *s)
{
    s->deviation = s->e->stats.energy > 0 ? mean_deviation(s->e) : 0;
    s->lively = (double)s->e->stats.lively / (double)s->measured;
    s->e->tables->row_unit = exp2(-2 * s->deviation);
}

enum vcl_status vcl_remember_lists(struct vcl_tensor_search *s)
{
    const struct vcl_encoder *const e = s->e;
    const size_t cols = (size_t)e->frame.plan.cols;
    s->lists = 1;
    s->class = vcl_alloc_raw(e->env->mem, 2 * cols, 1);
    if (!s->class)
        return vcl_env_fail(e->env, VCL_E_MEMORY, "no memory for the columns' classes");
    s->exponent = s->class + cols;
    memcpy(s->class, e->tables->col_class, cols);
    memcpy(s->exponent, e->tables->col_exponent, cols);
    return VCL_OK;
}

/* The columns as they were analysed, or all alike, and nothing told of them: lists cost what low rates do not
 * have.  Flags are the caller's business. */
void vcl_set_lists(struct vcl_tensor_search *s, int lists)
{
    struct vcl_tensor_tables *const tables = s->e->tables;
    for (size_t c = 0; c < (size_t)s->e->frame.plan.cols; c++) {
        tables->col_class[c] = lists ? s->class[c] : 0;
        tables->col_exponent[c] = lists ? s->exponent[c] : 0;
        tables->col_weight[c] = vcl_scale_weight(tables->col_class[c]);
    }
    s->lists = lists;
    vcl_find_deviations(s);
}

enum vcl_status vcl_drop_lists(struct vcl_tensor_search *s)
{
    vcl_set_lists(s, 0);
    s->e->frame.flags &= ~(uint32_t)(VCL_FLAG_COL_MEANS | VCL_FLAG_COL_STEPS);
    return vcl_encoder_side(s->e);
}

/* ---- learning from a sample -------------------------------------------------------------------- */

enum vcl_status vcl_drop_own_models(struct vcl_tensor_search *s)
{
    struct vcl_frame *const frame = &s->e->frame;
    if (s->e->tables->priced)
        s->now = s->plain;
    s->own = s->e->tables->priced = 0;
    if (!(frame->flags & VCL_OWN_MODELS))
        return VCL_OK;
    frame->flags &= ~(uint32_t)VCL_OWN_MODELS;
    return vcl_encoder_side(s->e);
}

enum vcl_status vcl_sample_pass(struct vcl_tensor_search *s, double x, struct vcl_trial *trial)
{
    s->now.x = x;
    return vcl_run_setting(s, &s->now, VCL_PASS_SAMPLE, trial);
}

/* Learns at x from the sample what holds for all classes; *expected: what a pass should give with this, and
 * with the models of the classes' own that the counts promise. */
enum vcl_status vcl_survey(struct vcl_tensor_search *s, double x, struct vcl_trial *expected)
{
    const struct vcl_encoder *const e = s->e;
    enum vcl_status status = vcl_drop_own_models(s);
    if (!status)
        status = vcl_sample_pass(s, x, expected);
    if (status)
        return status;
    const double before = cost_of(&e->counts, e->frame.shape, e->frame.fine) / (double)e->sampled;
    expected->bits -= before - vcl_learn(s) + vcl_promise_of(s);
    return VCL_OK;
}

/* Takes models of the classes' own where the counts of the last pass say that they save 0.002 bit a value and
 * more; the next passes then keep the classes' numbers. */
enum vcl_status vcl_take_own_models(struct vcl_tensor_search *s)
{
    struct vcl_encoder *const e = s->e;
    s->own_base = e->tables->row_base;
    e->frame.shape = s->now.shape; /* as the next pass will have them */
    e->frame.fine = fine_of(s, s->last, &s->now, s->own_base);
    s->saved =
        e->params->disable & VCL_STAGE_MODEL ? 0 : vcl_choose_class_models(s) / (double)e->frame.values;
    if (s->saved < WORTHWHILE)
        return vcl_drop_own_models(s);
    s->own = 1;
    return vcl_encoder_side(e);
}

/* A pass with the models of the classes' own. */
enum vcl_status vcl_try_own_models(struct vcl_tensor_search *s, double x, struct vcl_trial *expected)
{
    const enum vcl_status status = vcl_sample_pass(s, x, expected);
    if (!status)
        vcl_learn(s);
    return status;
}

/* Learns all there is to learn at x. */
enum vcl_status vcl_settle(struct vcl_tensor_search *s, double x, struct vcl_trial *expected)
{
    enum vcl_status status = vcl_survey(s, x, expected);
    if (!status)
        status = vcl_take_own_models(s);
    return status || !s->own ? status : vcl_try_own_models(s, x, expected);
}

/* ---- settings that are taken up again ------------------------------------------------------------ */

struct vcl_kept vcl_save_setting(const struct vcl_tensor_search *s, const struct vcl_setting *setting,
                                 const struct vcl_trial *trial)
{
    struct vcl_kept kept = { .setting = *setting,
                             .own = s->own,
                             .own_base = s->own_base,
                             .priced = s->e->tables->priced,
                             .states = s->e->frame.states,
                             .lists = s->lists,
                             .rows = s->e->tables->kept_rows,
                             .flags = s->e->frame.flags,
                             .trial = *trial };
    memcpy(kept.models, s->e->tables->own, sizeof kept.models);
    return kept;
}

enum vcl_status vcl_restore_setting(struct vcl_tensor_search *s, const struct vcl_kept *kept)
{
    s->now = kept->setting;
    s->learned = kept->setting.x;
    s->own = kept->own;
    s->own_base = kept->own_base;
    s->e->tables->priced = kept->priced;
    s->e->frame.states = kept->states;
    s->e->tables->kept_rows = kept->rows;
    if (s->lists != kept->lists)
        vcl_set_lists(s, kept->lists);
    s->e->frame.flags = kept->flags;
    s->e->frame.shape = kept->setting.shape; /* which the models' side bytes lean on */
    memcpy(s->e->tables->own, kept->models, sizeof kept->models);
    return vcl_encoder_side(s->e);
}

double vcl_waste_of(const struct vcl_trial *trial) { return trial->bits - trial->snr / 6.0206; }
