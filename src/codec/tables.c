/* tables.c - what all tiles of a tensor frame share: classes, steps and means of the columns, models of the
 * classes; and the side bytes that tell a decoder of them.
 *
 * In: what analysis and search chose, or a frame's side bytes, which nobody vouches for.  Out: side bytes;
 * and what the kernels look up, made of a class when a tile first needs it, for most frames need few of
 * the forty. */
#include "tables.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/common.h"
#include "codec/rans.h"
#include "codec/scale.h"
#include "codec/trellis.h"

/* What the format says and the kernels were made for. */
_Static_assert((int)VCL_STATES_MAX == (int)VCL_TRELLIS_BITS_MAX, "a trellis for every number of states");
_Static_assert((int)VCL_CENTROIDS < (int)VCL_OFFSETS, "an offset for every point that centroids move");
_Static_assert(VCL_POINT_COSTS == 2 * VCL_MODEL_SYMBOLS, "a cost for every symbol of both codebooks");

/* ---- buffers --------------------------------------------------------------------------------- */

struct vcl_tensor_tables *vcl_tensor_tables_create(const struct vcl_mem *mem,
                                                   const struct vcl_kernels *kernels,
                                                   const struct vcl_frame *frame)
{
    struct vcl_tensor_tables *const tables = vcl_alloc(mem, 1, sizeof *tables);
    const size_t cols = (size_t)frame->plan.cols;
    if (!tables)
        return NULL;
    tables->kernels = kernels;
    tables->row_unit = 1;
    tables->kept_rows = UINT64_MAX;
    tables->classes = vcl_alloc_raw(mem, 1, sizeof *tables->classes);
    if (tables->classes) {
        pthread_mutex_init(&tables->classes->lock, NULL);
        atomic_init(&tables->classes->ready[0], 0);
        atomic_init(&tables->classes->ready[1], 0);
    }
    tables->col_class = vcl_alloc(mem, cols, 1);
    tables->col_weight = vcl_alloc(mem, cols, sizeof *tables->col_weight);
    tables->col_mean = vcl_alloc(mem, cols, sizeof *tables->col_mean);
    tables->col_level = vcl_alloc(mem, cols, 1);
    tables->col_exponent = vcl_alloc(mem, cols, 1);
    tables->col_step = vcl_alloc(mem, cols, sizeof *tables->col_step);
    if (tables->classes && tables->col_class && tables->col_weight && tables->col_mean && tables->col_level
        && tables->col_exponent && tables->col_step) {
        for (size_t c = 0; c < cols; c++)
            tables->col_weight[c] = 1;
        return tables;
    }
    vcl_tensor_tables_destroy(mem, tables);
    return NULL;
}

void vcl_tensor_tables_destroy(const struct vcl_mem *mem, struct vcl_tensor_tables *tables)
{
    if (!tables)
        return;
    if (tables->classes)
        pthread_mutex_destroy(&tables->classes->lock);
    vcl_free(mem, tables->classes);
    vcl_free(mem, tables->col_class);
    vcl_free(mem, tables->col_weight);
    vcl_free(mem, tables->col_mean);
    vcl_free(mem, tables->col_level);
    vcl_free(mem, tables->col_exponent);
    vcl_free(mem, tables->col_step);
    vcl_free(mem, tables->col_factor);
    vcl_free(mem, tables->col_inverse);
    vcl_free(mem, tables);
}

/* ---- means and steps ----------------------------------------------------------- */

int vcl_tensor_tables_means(const struct vcl_frame *frame, struct vcl_tensor_tables *tables)
{
    int finite = 1;
    for (uint64_t c = 0; c < frame->plan.cols; c++) {
        tables->col_mean[c] = tables->mean + ldexpf(tables->col_level[c], tables->mean_exponent);
        finite &= isfinite(tables->col_mean[c]) != 0;
    }
    return finite;
}

float vcl_tensor_step_factor(int exponent)
{
    static const float fractions[] = { 1, 0x1.306fep+0f, 0x1.6a09e6p+0f, 0x1.ae89fap+0f };
    return ldexpf(fractions[exponent & 3], exponent >> 2);
}

int vcl_tensor_tables_steps(const struct vcl_frame *frame, struct vcl_tensor_tables *tables)
{
    int possible = 1;
    tables->least_step = FLT_MAX;
    for (uint64_t c = 0; c < frame->plan.cols; c++) {
        const int exponent = tables->col_exponent[c];
        tables->col_step[c] = exponent ? frame->step * vcl_tensor_step_factor(exponent) : frame->step;
        possible &=
            exponent >= -VCL_EXPONENT_MAX && exponent <= VCL_EXPONENT_MAX && isfinite(tables->col_step[c]);
        tables->least_step = fminf(tables->least_step, tables->col_step[c]);
    }
    return possible;
}

enum vcl_status vcl_tensor_tables_add_feedback(const struct vcl_mem *mem, const struct vcl_frame *frame,
                                               const float *feedback, struct vcl_tensor_tables *tables)
{
    const size_t cols = (size_t)frame->plan.cols;
    tables->feedback = feedback;
    tables->col_factor = vcl_alloc_raw(mem, cols, sizeof *tables->col_factor);
    tables->col_inverse = vcl_alloc_raw(mem, cols, sizeof *tables->col_inverse);
    if (!tables->col_factor || !tables->col_inverse)
        return VCL_E_MEMORY;
    for (size_t c = 0; c < cols; c++) {
        tables->col_factor[c] = vcl_tensor_step_factor(tables->col_exponent[c]);
        tables->col_inverse[c] = vcl_tensor_step_factor(-tables->col_exponent[c]);
    }
    return VCL_OK;
}

/* ---- points ---------------------------------------------------------------------------------- */

void vcl_tensor_tables_points(struct vcl_tensor_tables *tables)
{
    for (int i = 0; i < 2 * VCL_MOVED_POINTS; i++)
        tables->moves[i + 1] = (float)tables->move[i] / VCL_MOVE_UNIT;
}

/* The first that moves, how many until the last, their moves. */
static size_t write_points(const struct vcl_tensor_tables *tables, uint8_t *dst)
{
    int first = 0, last = 2 * VCL_MOVED_POINTS - 1;
    while (first < last && tables->move[first] == 0)
        first++;
    while (last > first && tables->move[last] == 0)
        last--;
    dst[0] = (uint8_t)(first - VCL_MOVED_POINTS);
    dst[1] = (uint8_t)(last - first + 1);
    memcpy(dst + 2, tables->move + first, (size_t)(last - first + 1));
    return 2 + (size_t)(last - first + 1);
}

static int read_points(const struct vcl_frame *frame, size_t *n, struct vcl_tensor_tables *tables)
{
    const uint8_t *const src = frame->side + *n;
    const size_t left = frame->side_bytes - *n;
    if (left < 2 || src[1] == 0 || left < 2 + (size_t)src[1])
        return 0;
    const int first = (int8_t)src[0] + VCL_MOVED_POINTS;
    if (first < 0 || first + src[1] > 2 * VCL_MOVED_POINTS)
        return 0;
    memcpy(tables->move + first, src + 2, src[1]);
    *n += 2 + (size_t)src[1];
    vcl_tensor_tables_points(tables);
    return 1;
}

/* ---- models of the classes --------------------------------------------------------------------- */

void vcl_tensor_tables_plain(const struct vcl_frame *frame, struct vcl_tensor_tables *tables)
{
    for (int class = 0; class < VCL_MODEL_CLASSES; class ++)
        tables->own[class] = (struct vcl_class_model){ .shape = (uint8_t)frame->shape };
}

void vcl_tensor_model(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables, int class,
                      struct vcl_symbol_model *model)
{
    const struct vcl_class_model *const own = &tables->own[class];
    if (frame->flags & VCL_FLAG_TABLES && own->tabled)
        vcl_model_take(own->freq, model);
    else if (frame->flags & VCL_FLAG_CLASS_MODELS)
        vcl_model_make(own->shape, class, frame->fine + own->fine, model);
    else
        vcl_model_make(frame->shape, class, frame->fine, model);
}

void vcl_tensor_tables_renew(struct vcl_tensor_tables *tables)
{
    atomic_store(&tables->classes->ready[0], 0);
    atomic_store(&tables->classes->ready[1], 0);
}

/* Symbol y of codebook g stands at 2 y + g. */
static void price_points(const struct vcl_symbol_model *model, float lambda, float costs[VCL_POINT_COSTS])
{
    float bits[2 * VCL_MODEL_SYMBOLS];
    vcl_model_costs(model, bits);
    for (int g = 0; g < 2; g++)
        for (int s = 0; s < VCL_MODEL_SYMBOLS; s++)
            costs[2 * s + g] = lambda * bits[g * VCL_MODEL_SYMBOLS + s];
}

static void make_class(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables, int decoding,
                       int class)
{
    struct vcl_class_tables *const to = tables->classes;
    struct vcl_symbol_model model;
    vcl_tensor_model(frame, tables, class, &model);
    if (decoding) {
        vcl_model_slots(&model, to->slots[class]);
        return;
    }
    const int low = vcl_low_bits(class, VCL_LOW_CLASS);
    const int octave = (4 * (class - 4 * low - VCL_MODEL_UNIT) + frame->fine) >> 4;
    vcl_model_codes(&model, to->codes[class]);
    if (tables->priced)
        price_points(&model, tables->lambda, to->costs[class]);
    to->bends[class] = vcl_trellis_bend(&model, octave, tables->lambda, (unsigned)low);
}

void vcl_tensor_tables_need(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                            int decoding, uint64_t needed)
{
    struct vcl_class_tables *const to = tables->classes;
    _Atomic uint64_t *const ready = &to->ready[decoding != 0];
    if ((needed & ~atomic_load(ready)) == 0)
        return;
    pthread_mutex_lock(&to->lock);
    for (uint64_t missing = needed & ~atomic_load(ready); missing; missing &= missing - 1)
        make_class(frame, tables, decoding, __builtin_ctzll(missing));
    atomic_fetch_or(ready, needed);
    pthread_mutex_unlock(&to->lock);
}

/* ---- side bytes ------------------------------------------------------------------------------ */

size_t vcl_tensor_side_bound(uint64_t cols)
{
    enum { MEAN = 4, POINTS = 2 + 2 * VCL_MOVED_POINTS };
    enum { MODELS = 2 + VCL_MODEL_CLASSES, TABLES = 1 + VCL_MODEL_CLASSES * (1 + 2 * VCL_TABLE_BYTES) };
    return MODELS + TABLES + MEAN + POINTS + 1 + 3 * vcl_scales_bound((size_t)cols);
}

/* With these flags the classes of the columns are there even if all are 0. */
enum { COL_LISTS = VCL_FLAG_COL_STEPS | VCL_FLAG_COL_MEANS };

static int any_class(const struct vcl_tensor_tables *tables, size_t cols)
{
    int any = 0;
    for (size_t c = 0; c < cols; c++)
        any |= tables->col_class[c];
    return any != 0;
}

size_t vcl_tensor_put_table(const uint16_t freq[VCL_MODEL_SYMBOLS], uint8_t *dst)
{
    uint16_t wide[256] = { 0 };
    memcpy(wide, freq, VCL_MODEL_SYMBOLS * sizeof *freq);
    return vcl_rans_put_table(wide, dst);
}

static int is_plain(const struct vcl_frame *frame, const struct vcl_class_model *own)
{
    return own->shape == frame->shape && own->fine == 0;
}

/* A class model's byte is its shape and its fine, from -16 to 15. */
static size_t write_models(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                           uint8_t *dst)
{
    size_t n = 0;
    if (frame->flags & VCL_FLAG_CLASS_MODELS) {
        int first = 0, last = VCL_MODEL_CLASSES - 1;
        while (first < last && is_plain(frame, &tables->own[first]))
            first++;
        while (last > first && is_plain(frame, &tables->own[last]))
            last--;
        dst[n++] = (uint8_t)first;
        dst[n++] = (uint8_t)(last - first + 1);
        for (int t = first; t <= last; t++)
            dst[n++] = (uint8_t)(tables->own[t].shape + 8 * (tables->own[t].fine + 16));
    }
    if (frame->flags & VCL_FLAG_TABLES) {
        uint8_t *const count = dst + n++;
        *count = 0;
        for (int t = 0; t < VCL_MODEL_CLASSES; t++) {
            if (!tables->own[t].tabled)
                continue;
            ++*count;
            dst[n++] = (uint8_t)t;
            for (int g = 0; g < 2; g++)
                n += vcl_tensor_put_table(tables->own[t].freq[g], dst + n);
        }
    }
    return n;
}

size_t vcl_tensor_side_write(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                             uint8_t *dst)
{
    const size_t cols = (size_t)frame->plan.cols;
    size_t n = write_models(frame, tables, dst);
    if (frame->flags & VCL_FLAG_MEAN) {
        vcl_store32(dst + n, vcl_float_bits(tables->mean));
        n += 4;
    }
    if (frame->flags & VCL_FLAG_POINTS)
        n += write_points(tables, dst + n);
    if (frame->flags & COL_LISTS || any_class(tables, cols))
        n += vcl_scales_write(tables->col_class, cols, 1, dst + n);
    if (frame->flags & VCL_FLAG_COL_STEPS)
        n += vcl_scales_write(tables->col_exponent, cols, 1, dst + n);
    if (frame->flags & VCL_FLAG_COL_MEANS) {
        dst[n++] = (uint8_t)tables->mean_exponent;
        n += vcl_scales_write(tables->col_level, cols, 1, dst + n);
    }
    return n;
}

static size_t read_class_models(const uint8_t *src, size_t bytes, struct vcl_class_model *own)
{
    if (bytes < 2 || src[1] == 0 || src[0] + src[1] > VCL_MODEL_CLASSES || bytes < 2 + (size_t)src[1])
        return 0;
    for (unsigned i = 0; i < src[1]; i++) {
        own[src[0] + i].shape = src[2 + i] % 8;
        own[src[0] + i].fine = (int8_t)(src[2 + i] / 8 - 16);
    }
    return 2 + (size_t)src[1];
}

static size_t read_table(const uint8_t *src, size_t bytes, uint16_t freq[VCL_MODEL_SYMBOLS])
{
    uint16_t wide[256];
    const size_t used = vcl_rans_get_table(src, bytes, VCL_MODEL_TOTAL, wide);
    if (used == 0 || src[1] >= VCL_MODEL_SYMBOLS)
        return 0;
    memcpy(freq, wide, VCL_MODEL_SYMBOLS * sizeof *freq);
    for (int s = 0; s < VCL_MODEL_SYMBOLS; s++)
        if (freq[s] >= VCL_MODEL_TOTAL)
            return 0;
    return used;
}

static size_t read_tables(const uint8_t *src, size_t bytes, struct vcl_class_model *own)
{
    size_t n = 1;
    int last = -1;
    if (bytes < 1 || src[0] == 0 || src[0] > VCL_MODEL_CLASSES)
        return 0;
    for (unsigned i = 0; i < src[0]; i++) {
        if (n == bytes || src[n] <= last || src[n] >= VCL_MODEL_CLASSES)
            return 0;
        last = src[n++];
        own[last].tabled = 1;
        for (int g = 0; g < 2; g++) {
            const size_t used = read_table(src + n, bytes - n, own[last].freq[g]);
            if (used == 0)
                return 0;
            n += used;
        }
    }
    return n;
}

/* Class models and tables; returns whether they are whole, with the bytes used in *n. */
static int read_models(const struct vcl_frame *frame, struct vcl_tensor_tables *tables, size_t bytes,
                       size_t *n)
{
    size_t used = 1;
    *n = 0;
    if (frame->flags & VCL_FLAG_CLASS_MODELS)
        *n += used = read_class_models(frame->side, bytes, tables->own);
    if (used > 0 && frame->flags & VCL_FLAG_TABLES)
        *n += used = read_tables(frame->side + *n, bytes - *n, tables->own);
    return used > 0;
}

/* One of the columns' lists, from byte *n on; returns whether it is whole. */
static int read_list(const struct vcl_frame *frame, size_t *n, int8_t *list)
{
    const size_t used =
        vcl_scales_read(frame->side + *n, frame->side_bytes - *n, list, (size_t)frame->plan.cols, 1);
    *n += used;
    return used > 0;
}

static int read_mean(const struct vcl_frame *frame, size_t *n, struct vcl_tensor_tables *tables)
{
    if (frame->side_bytes - *n < 4)
        return 0;
    tables->mean = vcl_float_from_bits(vcl_load32(frame->side + *n));
    *n += 4;
    return isfinite(tables->mean);
}

static int read_means(const struct vcl_frame *frame, size_t *n, struct vcl_tensor_tables *tables)
{
    if (*n == frame->side_bytes)
        return 0;
    tables->mean_exponent = (int8_t)frame->side[(*n)++];
    return read_list(frame, n, tables->col_level) && vcl_tensor_tables_means(frame, tables);
}

int vcl_tensor_tables_read(const struct vcl_frame *frame, struct vcl_tensor_tables *tables)
{
    size_t n;
    vcl_tensor_tables_plain(frame, tables);
    if (!read_models(frame, tables, frame->side_bytes, &n))
        return 0;
    if (frame->flags & VCL_FLAG_MEAN && !read_mean(frame, &n, tables))
        return 0;
    if (frame->flags & VCL_FLAG_POINTS && !read_points(frame, &n, tables))
        return 0;
    if ((frame->side_bytes > n || frame->flags & COL_LISTS) && !read_list(frame, &n, tables->col_class))
        return 0;
    if (frame->flags & VCL_FLAG_COL_STEPS && !read_list(frame, &n, tables->col_exponent))
        return 0;
    if (frame->flags & VCL_FLAG_COL_MEANS && !read_means(frame, &n, tables))
        return 0;
    if (!(frame->flags & VCL_FLAG_COL_MEANS) && !vcl_tensor_tables_means(frame, tables))
        return 0;
    return n == frame->side_bytes && vcl_tensor_tables_steps(frame, tables);
}
