/* tensor.c - the tensor codec's stages on one tile: scale, trellis, model, rANS; and back.
 *
 * In: a tile of floats.  Out: row classes and rANS lanes.  The matrix' rows are the lanes and its columns run
 * in sequence, so that a decoded column times an input value goes straight into the accumulators of a
 * matrix-vector product, and an encoder can feed errors back from column to column. */
#include "tensor.h"

#include <math.h>
#include <string.h>

#include "base/common.h"
#include "codec/lanes.h"
#include "codec/scale.h"
#include "codec/trellis.h"

static size_t padded_rows(const struct vcl_frame *frame, uint32_t rows)
{
    return (size_t)vcl_round_up(rows, (uint64_t)frame->lanes);
}

/* ---- buffers --------------------------------------------------------------------------------- */

enum vcl_status vcl_tensor_work_create(const struct vcl_mem *mem, const struct vcl_frame *frame, int encoding,
                                       struct vcl_tensor_work *work)
{
    const uint32_t rows = (uint32_t)vcl_min(frame->plan.tile_rows, frame->plan.rows);
    const uint32_t cols = (uint32_t)vcl_min(frame->plan.tile_cols, frame->plan.cols);
    const size_t stripe = (size_t)frame->lanes * cols;
    memset(work, 0, sizeof *work);
    work->u = vcl_alloc(mem, stripe, sizeof *work->u);
    work->class = vcl_alloc(mem, stripe, 1);
    work->j = vcl_alloc(mem, padded_rows(frame, rows) * cols, sizeof *work->j);
    work->scratch = vcl_alloc(mem, encoding ? vcl_trellis_scratch(frame->states, frame->lanes, cols) : 0, 1);
    work->row_class = vcl_alloc(mem, rows, 1);
    if (work->u && work->class && work->j && work->scratch && work->row_class)
        return VCL_OK;
    vcl_tensor_work_destroy(mem, work);
    return VCL_E_MEMORY;
}

void vcl_tensor_work_destroy(const struct vcl_mem *mem, struct vcl_tensor_work *work)
{
    vcl_free(mem, work->u);
    vcl_free(mem, work->class);
    vcl_free(mem, work->j);
    vcl_free(mem, work->scratch);
    vcl_free(mem, work->row_class);
    memset(work, 0, sizeof *work);
}

struct vcl_tensor_tables *vcl_tensor_tables_create(const struct vcl_mem *mem, const struct vcl_frame *frame)
{
    struct vcl_tensor_tables *const tables = vcl_alloc(mem, 1, sizeof *tables);
    const size_t cols = (size_t)frame->plan.cols;
    if (!tables)
        return NULL;
    tables->col_class = vcl_alloc(mem, cols, 1);
    tables->col_weight = vcl_alloc(mem, cols, sizeof *tables->col_weight);
    tables->col_mean = vcl_alloc(mem, cols, sizeof *tables->col_mean);
    if (tables->col_class && tables->col_weight && tables->col_mean) {
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
    vcl_free(mem, tables->col_class);
    vcl_free(mem, tables->col_weight);
    vcl_free(mem, tables->col_mean);
    vcl_free(mem, tables);
}

int vcl_tensor_tables_read(const struct vcl_frame *frame, struct vcl_tensor_tables *tables)
{
    const size_t cols = (size_t)frame->plan.cols, means = frame->flags & VCL_FLAG_COL_MEANS ? 2 * cols : 0;
    if (frame->side_bytes < means)
        return 0;
    const size_t classes = frame->side_bytes - means;
    if (classes > 0 && vcl_scales_read(frame->side, classes, tables->col_class, cols) != classes)
        return 0;
    for (size_t c = 0; means > 0 && c < cols; c++) {
        tables->col_mean[c] = vcl_float_from_bits((uint32_t)vcl_load16(frame->side + classes + 2 * c) << 16);
        if (!isfinite(tables->col_mean[c]))
            return 0;
    }
    return 1;
}

void vcl_tensor_add_means(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                          struct vcl_rect rect, float sign, float *x)
{
    if (!(frame->flags & VCL_FLAG_COL_MEANS))
        return;
    const float *const mean = tables->col_mean + rect.col;
    for (uint32_t r = 0; r < rect.rows; r++)
        for (uint32_t c = 0; c < rect.cols; c++)
            x[(size_t)r * rect.cols + c] += sign * mean[c];
}

void vcl_tensor_counts_add(struct vcl_tensor_counts *sum, const struct vcl_tensor_counts *counts)
{
    for (int class = 0; class < VCL_MODEL_CLASSES; class ++)
        for (int i = 0; i < 2 * VCL_MODEL_SYMBOLS; i++)
            sum->symbols[class][i] += counts->symbols[class][i];
    sum->error += counts->error;
    for (int m = 0; m < VCL_CENTROIDS; m++) {
        sum->shift[m] += counts->shift[m];
        sum->shifted[m] += counts->shifted[m];
    }
}

void vcl_tensor_tables_make(const struct vcl_frame *frame, int decoding, struct vcl_tensor_tables *tables)
{
    for (int class = 0; class < VCL_MODEL_CLASSES; class ++) {
        vcl_model_make(frame->shape, class, frame->fine, &tables->models[class]);
        if (decoding)
            vcl_model_slots(&tables->models[class], tables->slots[class]);
        else
            vcl_model_costs(&tables->models[class], tables->costs[class]);
    }
}

static struct vcl_lanes lanes_of(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                                 struct vcl_rect rect, const struct vcl_tensor_work *work)
{
    return (struct vcl_lanes){ .v = frame->states,
                               .lanes = frame->lanes,
                               .shift = frame->shift,
                               .rows = rect.rows,
                               .cols = rect.cols,
                               .row_class = work ? work->row_class : NULL,
                               .col_class = tables ? tables->col_class + rect.col : NULL,
                               .models = tables ? tables->models : NULL,
                               .slots = tables ? tables->slots[0] : NULL };
}

size_t vcl_tensor_bound(const struct vcl_frame *frame, uint32_t rows, uint32_t cols)
{
    const struct vcl_lanes lanes = lanes_of(frame, NULL, (struct vcl_rect){ 0, 0, rows, cols }, NULL);
    return vcl_scales_bound(rows) + vcl_lanes_bound(&lanes);
}

/* ---- scale ----------------------------------------------------------------------------------- */

/* Sixteen sums side by side: the same additions on every CPU, whatever its vectors' width. */
static double weighted_energy(const float *x, const double *weight, size_t n)
{
    double sums[16] = { 0 }, sum = 0;
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (size_t k = 0; k < 16; k++)
            sums[k] += (double)x[i + k] * x[i + k] * weight[i + k];
    for (; i < n; i++)
        sums[i % 16] += (double)x[i] * x[i] * weight[i];
    for (size_t k = 0; k < 16; k++)
        sum += sums[k];
    return sum;
}

static int8_t clamp_class(int class) { return (int8_t)(class < -64 ? -64 : class > 64 ? 64 : class); }

static int8_t row_class_of(const struct vcl_tensor_tables *tables, double variance)
{
    return clamp_class(tables->row_base + vcl_scale_class(variance * tables->row_unit));
}

/* Bits a value that rounding deviations to quarter-octaves costs, when `fine` can no more make up for it: a
 * model wrong by d in the logarithm costs d^2 nats, and d is spread over an eighth of an octave either way. */
#define ROUNDING_LOSS 0.0036

/* Rows' classes from their energy over what the columns' classes promise; one for all where more classes
 * cost more than they save. */
static void choose_row_classes(const struct vcl_tensor_tables *tables, struct vcl_rect rect, const float *x,
                               int8_t *class, uint8_t *scratch)
{
    double sum = 0, log_sum = 0;
    for (uint32_t r = 0; r < rect.rows; r++) {
        const float *const row = x + (size_t)r * rect.cols;
        const double variance = weighted_energy(row, tables->col_weight + rect.col, rect.cols) / rect.cols;
        class[r] = row_class_of(tables, variance);
        sum += variance;
        log_sum += variance > 0 ? log2(variance) : -100;
    }
    const double each = 0.5 * (log2(sum / rect.rows) - log_sum / rect.rows) - ROUNDING_LOSS;
    const double saved = each * rect.rows * rect.cols;
    const double cost = 8 * (double)vcl_scales_write(class, rect.rows, scratch);
    if (!(saved > cost))
        memset(class, row_class_of(tables, sum / rect.rows), rect.rows);
}

/* ---- encoding -------------------------------------------------------------------------------- */

static void load_stripe(const struct vcl_frame *frame, struct vcl_rect rect, const float *x, uint32_t first,
                        const struct vcl_lanes *lanes, struct vcl_tensor_work *work)
{
    const float inverse = 1 / frame->step;
    for (int l = 0; l < frame->lanes; l++) {
        const uint32_t row = first + (uint32_t)l;
        for (uint32_t c = 0; c < rect.cols; c++) {
            const size_t at = (size_t)c * (size_t)frame->lanes + (size_t)l;
            const float u = row < rect.rows ? x[(size_t)row * rect.cols + c] * inverse : 0;
            work->u[at] = u > VCL_INDEX_MAX ? VCL_INDEX_MAX : u < -VCL_INDEX_MAX ? -VCL_INDEX_MAX : u;
            work->class[at] = (uint8_t)(row < rect.rows ? vcl_lanes_class(lanes, row, c) : 0);
        }
    }
}

static void count_stripe(const struct vcl_frame *frame, struct vcl_rect rect, uint32_t first,
                         const int16_t *j, const struct vcl_tensor_work *work,
                         struct vcl_tensor_counts *counts)
{
    for (uint32_t c = 0; c < rect.cols; c++)
        for (int l = 0; l < frame->lanes && first + (uint32_t)l < rect.rows; l++) {
            const size_t at = (size_t)c * (size_t)frame->lanes + (size_t)l;
            const int g = j[at] & 1, k = ((j[at] - g) / 2) >> frame->shift, m = j[at] < 0 ? -j[at] : j[at];
            const float e = work->u[at] - (float)j[at];
            counts->symbols[work->class[at]][g * VCL_MODEL_SYMBOLS + vcl_symbol_of(k)]++;
            counts->error += (double)e * e;
            if (m >= 1 && m <= VCL_CENTROIDS) {
                counts->shift[m - 1] += j[at] < 0 ? -e : e;
                counts->shifted[m - 1]++;
            }
        }
}

/* A point's value: j, moved by its centroid's offset, times the step. */
static void store_values(const struct vcl_frame *frame, struct vcl_rect rect, const int16_t *j, float *y)
{
    float offset[VCL_CENTROIDS + 1] = { 0 };
    for (int m = 1; m <= VCL_CENTROIDS; m++)
        offset[m] = (float)frame->centroid[m - 1] / 256;
    for (uint32_t r = 0; r < rect.rows; r++) {
        const uint32_t stripe = r / (uint32_t)frame->lanes, lane = r % (uint32_t)frame->lanes;
        const int16_t *const from = j + (size_t)stripe * rect.cols * (size_t)frame->lanes + lane;
        for (uint32_t c = 0; c < rect.cols; c++) {
            const int p = from[(size_t)c * (size_t)frame->lanes], m = p < 0 ? -p : p;
            const float move = m <= VCL_CENTROIDS ? offset[m] : 0;
            y[(size_t)r * rect.cols + c] = ((float)p + (p < 0 ? -move : move)) * frame->step;
        }
    }
}

size_t vcl_tensor_encode(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                         struct vcl_rect rect, const float *x, struct vcl_tensor_work *work, uint8_t *dst,
                         float *y, struct vcl_tensor_counts *counts)
{
    const float *costs[VCL_MODEL_CLASSES];
    const struct vcl_lanes lanes = lanes_of(frame, tables, rect, work);
    const size_t stripe_values = (size_t)frame->lanes * rect.cols;
    for (int class = 0; class < VCL_MODEL_CLASSES; class ++)
        costs[class] = tables->costs[class];
    choose_row_classes(tables, rect, x, work->row_class, dst);
    for (uint32_t first = 0; first < rect.rows; first += (uint32_t)frame->lanes) {
        int16_t *const j = work->j + first / (uint32_t)frame->lanes * stripe_values;
        load_stripe(frame, rect, x, first, &lanes, work);
        const struct vcl_stripe stripe = { frame->lanes, rect.cols,     work->u,      work->class,
                                           costs,        frame->states, frame->shift, tables->lambda };
        vcl_trellis_search(&stripe, work->scratch, j);
        count_stripe(frame, rect, first, j, work, counts);
    }
    store_values(frame, rect, work->j, y);
    const size_t n = vcl_scales_write(work->row_class, rect.rows, dst);
    return n + vcl_lanes_encode(&lanes, work->j, dst + n);
}

/* ---- decoding -------------------------------------------------------------------------------- */

int vcl_tensor_decode(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                      struct vcl_rect rect, const uint8_t *src, size_t bytes, struct vcl_tensor_work *work,
                      float *y)
{
    const size_t n = vcl_scales_read(src, bytes, work->row_class, rect.rows);
    const struct vcl_lanes lanes = lanes_of(frame, tables, rect, work);
    if (n == 0 || n > bytes || !vcl_lanes_decode(&lanes, src + n, bytes - n, work->j))
        return 0;
    store_values(frame, rect, work->j, y);
    return 1;
}
