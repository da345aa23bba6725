/* tensor.c - steps 2 to 7 of the tensor codec on one tile: means off, transform, scale, trellis, model, rANS;
 * and back.
 *
 * In: a tile of floats.  Out: row classes and rANS lanes.  The matrix' rows are the lanes and its columns run
 * in sequence, so that a decoded column times an input value goes straight into the accumulators of a
 * matrix-vector product, and an encoder can feed errors back from column to column. */
#include "tensor.h"

#include <math.h>
#include <string.h>

#include "base/common.h"
#include "base/dtype.h"
#include "codec/lanes.h"
#include "codec/scale.h"
#include "codec/trellis.h"

static size_t padded_rows(const struct vcl_frame *frame, uint32_t rows)
{
    return (size_t)vcl_round_up(rows, (uint64_t)frame->lanes);
}

enum { CHUNK = 128 }; /* columns decoded at a time: their indices need not leave the first cache */

/* ---- buffers --------------------------------------------------------------------------------- */

/* The most that the search may turn to. */
static int most_states(const struct vcl_frame *frame)
{
    return frame->states ? frame->states : VCL_RESCUE_STATES;
}

enum vcl_status vcl_tensor_work_create(const struct vcl_mem *mem, const struct vcl_frame *frame, int encoding,
                                       struct vcl_tensor_work *work)
{
    const uint32_t rows = (uint32_t)vcl_min(frame->plan.tile_rows, frame->plan.rows);
    const uint32_t cols = (uint32_t)vcl_min(frame->plan.tile_cols, frame->plan.cols);
    const size_t stripe = (size_t)frame->lanes * cols;
    memset(work, 0, sizeof *work);
    if (encoding) {
        work->u = vcl_alloc_raw(mem, stripe, sizeof *work->u);
        work->scratch = vcl_alloc_raw(mem, vcl_trellis_scratch(most_states(frame), cols), 1);
    }
    work->j = vcl_alloc_raw(mem, encoding ? padded_rows(frame, rows) * cols : CHUNK * VCL_STRIPE_LANES,
                            sizeof *work->j);
    work->row_class = vcl_alloc(mem, rows, 1);
    if (work->j && work->row_class && (!encoding || (work->u && work->scratch)))
        return VCL_OK;
    vcl_tensor_work_destroy(mem, work);
    return VCL_E_MEMORY;
}

enum vcl_status vcl_tensor_work_add_feedback(const struct vcl_mem *mem, const struct vcl_frame *frame,
                                             struct vcl_tensor_work *work)
{
    const uint32_t cols = (uint32_t)vcl_min(frame->plan.tile_cols, frame->plan.cols);
    work->feedback_scratch = vcl_alloc_raw(mem, vcl_feedback_scratch(most_states(frame), cols), 1);
    return work->feedback_scratch ? VCL_OK : VCL_E_MEMORY;
}

void vcl_tensor_work_destroy(const struct vcl_mem *mem, struct vcl_tensor_work *work)
{
    vcl_free(mem, work->u);
    vcl_free(mem, work->j);
    vcl_free(mem, work->scratch);
    vcl_free(mem, work->feedback_scratch);
    vcl_free(mem, work->row_class);
    memset(work, 0, sizeof *work);
}

/* ---- prediction and transform ------------------------------------------------------------------ */

static void add_means(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                      struct vcl_rect rect, float sign, float *x)
{
    const float *const mean = tables->col_mean + rect.col;
    const float one = sign * tables->mean;
    if (frame->flags & VCL_FLAG_COL_MEANS)
        for (uint32_t r = 0; r < rect.rows; r++)
            for (uint32_t c = 0; c < rect.cols; c++)
                x[(size_t)r * rect.cols + c] += sign * mean[c];
    else if (frame->flags & VCL_FLAG_MEAN)
        for (size_t i = 0; i < (size_t)rect.rows * rect.cols; i++)
            x[i] += one;
}

void vcl_tensor_center(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                       struct vcl_rect rect, float *x)
{
    add_means(frame, tables, rect, -1, x);
}

void vcl_tensor_prepare(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                        struct vcl_rect rect, float *x)
{
    vcl_transform_tile(frame->transform, x, rect.rows, rect.cols);
    for (uint32_t c = 0; frame->flags & VCL_FLAG_COL_STEPS && c < rect.cols; c++) {
        const float factor = vcl_tensor_step_factor(-tables->col_exponent[rect.col + c]);
        for (uint32_t r = 0; r < rect.rows; r++)
            x[(size_t)r * rect.cols + c] *= factor;
    }
    for (uint32_t r = 0; r < rect.rows; r++)
        if (rect.row + r >= tables->kept_rows)
            memset(x + (size_t)r * rect.cols, 0, rect.cols * sizeof *x);
}

void vcl_tensor_restore(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                        struct vcl_rect rect, float *x)
{
    vcl_transform_tile_back(frame->transform, x, rect.rows, rect.cols);
    add_means(frame, tables, rect, 1, x);
}

void vcl_tensor_counts_add(struct vcl_tensor_counts *sum, const struct vcl_tensor_counts *counts)
{
    for (int class = 0; class < VCL_MODEL_CLASSES; class ++)
        for (int i = 0; i < 2 * VCL_MODEL_SYMBOLS; i++)
            sum->symbols[class][i] += counts->symbols[class][i];
    sum->error += counts->error;
    for (int p = 0; p < VCL_COUNTED_POINTS; p++) {
        sum->move[p] += counts->move[p];
        sum->seen[p] += counts->seen[p];
    }
}

/* ---- lanes ----------------------------------------------------------------------------------- */

static int limit_class(int class)
{
    return class < 0 ? 0 : class >= VCL_MODEL_CLASSES ? VCL_MODEL_CLASSES - 1 : class;
}

/* A bit for every class that a row's and a column's may add up to. */
static uint64_t classes_of(const struct vcl_lanes *lanes, int least_col, int most_col)
{
    uint64_t mask = 0;
    for (uint32_t r = 0; r < lanes->rows; r++)
        for (int t = limit_class(lanes->row_class[r] + least_col),
                 most = limit_class(lanes->row_class[r] + most_col);
             t <= most; t++)
            mask |= (uint64_t)1 << t;
    return mask;
}

/* Tables of the classes that the lanes need, and whether they have low bits.  Classes 0, of lanes without a row,
 * count too. */
static void prepare_classes(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                            int decoding, struct vcl_lanes *lanes)
{
    int least = 0, most = 0;
    for (uint32_t c = 0; lanes->col_class && c < lanes->cols; c++) {
        least = lanes->col_class[c] < least ? lanes->col_class[c] : least;
        most = lanes->col_class[c] > most ? lanes->col_class[c] : most;
    }
    uint64_t needed = classes_of(lanes, least, most);
    for (int t = limit_class(least); lanes->rows % (uint32_t)lanes->lanes && t <= limit_class(most); t++)
        needed |= (uint64_t)1 << t;
    vcl_tensor_tables_need(frame, tables, decoding, needed);
    lanes->low_from = needed >> VCL_LOW_CLASS ? VCL_LOW_CLASS : VCL_MODEL_CLASSES;
}

/* NULL if all are 0, as they mostly are. */
static const int8_t *classes_or_none(const int8_t *class, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (class[i] != 0)
            return class;
    return NULL;
}

static struct vcl_lanes lanes_of(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                                 struct vcl_rect rect, const int8_t *row_class)
{
    return (struct vcl_lanes){ .kernels = tables->kernels,
                               .v = frame->states,
                               .lanes = frame->lanes,
                               .rows = rect.rows,
                               .cols = rect.cols,
                               .row_class = row_class,
                               .col_class = classes_or_none(tables->col_class + rect.col, rect.cols),
                               .codes = tables->classes->codes[0],
                               .slots = tables->classes->slots[0] };
}

size_t vcl_tensor_start_bytes(const struct vcl_frame *frame)
{
    const size_t list = frame->flags & VCL_FLAG_NON_FINITE ? 4 : 0;
    return list + 2 + 4 + 3 * (size_t)frame->lanes; /* row classes, count of escapes, most of a state */
}

size_t vcl_tensor_bound(uint32_t rows, uint32_t cols)
{
    const struct vcl_lanes lanes = { .rows = rows, .cols = cols };
    return vcl_scales_bound(rows) + vcl_lanes_bound(&lanes, 1);
}

/* Rows of one frequency are alike. */
static uint32_t row_period(const struct vcl_frame *frame)
{
    return frame->transform.down ? 1u << frame->transform.down : 1;
}

/* ---- scale ----------------------------------------------------------------------------------- */

static int8_t clamp_class(int class) { return (int8_t)(class < -64 ? -64 : class > 64 ? 64 : class); }

static int8_t row_class_of(const struct vcl_tensor_tables *tables, double variance)
{
    return clamp_class(tables->row_base + vcl_scale_class(variance * tables->row_unit));
}

/* Bits a value that rounding deviations to quarter-octaves costs, when `fine` can no more make up for
 * it: a model wrong by d in the logarithm costs d^2 nats, and d is spread over an eighth of an octave
 * either way. */
#define ROUNDING_LOSS 0.0036

/* Below this class a row has class 0 with all columns: it need not be told from others. */
static int least_row_class(const struct vcl_tensor_tables *tables, struct vcl_rect rect)
{
    int most = 0;
    for (uint32_t c = 0; c < rect.cols; c++)
        most = tables->col_class[rect.col + c] > most ? tables->col_class[rect.col + c] : most;
    return -most;
}

/* Rows' classes from their energy over what the columns' classes promise; one for all where more classes
 * cost more than they save.  What is small against a half-step takes no bits, however small it is. */
static void choose_row_classes(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                               struct vcl_rect rect, const float *x, int8_t *class, uint8_t *scratch)
{
    const double least = least_row_class(tables, rect), unit = (double)frame->step * frame->step / 8;
    double sum = 0, log_sum = 0;
    for (uint32_t r = 0; r < rect.rows; r++) {
        const float *const row = x + (size_t)r * rect.cols;
        const double variance =
            tables->kernels->energy(row, tables->col_weight + rect.col, rect.cols) / rect.cols;
        class[r] = (int8_t)fmax(row_class_of(tables, variance), least);
        sum += variance;
        log_sum += log2(1 + variance / unit);
    }
    const double each = 0.5 * (log2(1 + sum / rect.rows / unit) - log_sum / rect.rows) - ROUNDING_LOSS;
    const double saved = each * rect.rows * rect.cols;
    const double cost = 8 * (double)vcl_scales_write(class, rect.rows, row_period(frame), scratch);
    if (!(saved > cost) || tables->one_row_class)
        memset(class, row_class_of(tables, sum / rect.rows), rect.rows);
}

/* ---- encoding -------------------------------------------------------------------------------- */

/* Sums by lane, so that a compiler may use vectors of any width. */
struct lane_sums {
    uint32_t *symbols[VCL_STRIPE_LANES]; /* of the lane's class */
    int low[VCL_STRIPE_LANES];           /* its indices' low bits */
    double error[VCL_STRIPE_LANES];
    double move[VCL_COUNTED_POINTS][VCL_STRIPE_LANES]; /* by j; all farther out in the first and the last */
    uint32_t seen[VCL_COUNTED_POINTS][4];
};

static void find_symbols(const struct vcl_stripe *stripe, uint32_t col, struct vcl_tensor_counts *counts,
                         struct lane_sums *sums)
{
    for (int l = 0; l < stripe->active; l++) {
        sums->symbols[l] = counts->symbols[vcl_stripe_class(stripe, l, col)];
        sums->low[l] = (int)vcl_stripe_low_bits(stripe, l, col);
    }
}

/* First what vectors do well, then what they do not. */
static void count_column(const struct vcl_stripe *stripe, const float *u, const int16_t *j,
                         struct lane_sums *sums)
{
    enum { MOST = VCL_MOVED_POINTS, LEAST = -VCL_MOVED_POINTS - 1 };
    float move[VCL_STRIPE_LANES];
    int symbol[VCL_STRIPE_LANES], point[VCL_STRIPE_LANES];
    for (int l = 0; l < stripe->lanes; l++) {
        const float e = u[l] - (float)j[l];
        const int k = j[l] >> (sums->low[l] + 1), beyond = k < -31 || k > 30;
        sums->error[l] += (double)e * e;
        move[l] = e;
        symbol[l] = (j[l] & 1) * VCL_MODEL_SYMBOLS + (beyond ? (k & 1) * 63 : k + 32);
        point[l] = (j[l] < LEAST ? LEAST : j[l] > MOST ? MOST : j[l]) - LEAST;
    }
    for (int l = 0; l < stripe->active; l++) {
        sums->symbols[l][symbol[l]]++;
        sums->move[point[l]][l] += move[l];
        sums->seen[point[l]][l & 3]++;
    }
}

static void count_stripe(const struct vcl_stripe *stripe, const float *u, const int16_t *j,
                         struct vcl_tensor_counts *counts)
{
    struct lane_sums sums = { 0 };
    find_symbols(stripe, 0, counts, &sums);
    for (uint32_t c = 0; c < stripe->cols; c++, u += stripe->lanes, j += stripe->lanes) {
        if (stripe->col_class)
            find_symbols(stripe, c, counts, &sums);
        count_column(stripe, u, j, &sums);
    }
    for (int l = 0; l < stripe->active; l++) {
        counts->error += sums.error[l];
        for (int p = 0; p < VCL_COUNTED_POINTS; p++)
            counts->move[p] += sums.move[p][l];
    }
    for (int p = 0; p < VCL_COUNTED_POINTS; p++)
        for (int i = 0; i < 4; i++)
            counts->seen[p] += sums.seen[p][i];
}

static struct vcl_points points_of(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                                   struct vcl_rect rect, enum vcl_dtype dtype)
{
    struct vcl_points points = { .steps = tables->col_step + rect.col,
                                 .limit = vcl_dtype_max(dtype),
                                 .dtype = dtype };
    for (int m = 1; m <= VCL_CENTROIDS; m++)
        points.offset[m] = (float)frame->centroid[m - 1] / 256;
    if (frame->flags & VCL_FLAG_POINTS)
        points.moves = tables->moves + 1;
    return points;
}

static void find_path(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                      struct vcl_rect rect, const struct vcl_stripe *stripe, struct vcl_tensor_work *work,
                      int16_t *j)
{
    if (!tables->feedback) {
        tables->kernels->search(stripe, work->u, work->scratch, j);
        return;
    }
    const struct vcl_feedback feedback = { .matrix = tables->feedback,
                                           .stride = (size_t)frame->plan.cols,
                                           .first = (size_t)rect.col,
                                           .factor = tables->col_factor + rect.col,
                                           .inverse = tables->col_inverse + rect.col };
    tables->kernels->search_feedback(stripe, &feedback, work->u, work->feedback_scratch, j);
}

struct vcl_lanes vcl_tensor_quantise(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                                     struct vcl_rect rect, const float *x, struct vcl_tensor_work *work,
                                     int16_t *j, uint8_t *scratch, enum vcl_dtype dtype, void *y,
                                     struct vcl_tensor_counts *counts)
{
    const struct vcl_kernels *const kernels = tables->kernels;
    const struct vcl_points points = points_of(frame, tables, rect, dtype);
    const size_t size = vcl_dtype_bits(dtype) / 8;
    const struct vcl_scaling scaling = { 1 / frame->step, VCL_INDEX_MAX };
    choose_row_classes(frame, tables, rect, x, work->row_class, scratch);
    struct vcl_lanes lanes = lanes_of(frame, tables, rect, work->row_class);
    prepare_classes(frame, tables, 0, &lanes);
    for (uint32_t row = 0; row < rect.rows; row += (uint32_t)frame->lanes) {
        const size_t at = (size_t)row * rect.cols;
        struct vcl_stripe stripe = vcl_lanes_stripe(&lanes, row);
        stripe.bends = tables->classes->bends;
        stripe.costs = tables->priced ? tables->classes->costs[0] : NULL;
        stripe.moves = tables->moves;
        kernels->load_rows(&stripe, &scaling, x + at, rect.cols, work->u);
        find_path(frame, tables, rect, &stripe, work, j + at);
        if (counts)
            count_stripe(&stripe, work->u, j + at, counts);
        if (y)
            kernels->store_rows(&stripe, &points, j + at, 0, rect.cols, (uint8_t *)y + at * size, rect.cols);
    }
    return lanes;
}

size_t vcl_tensor_encode(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                         struct vcl_rect rect, const float *x, struct vcl_tensor_work *work, uint8_t *dst,
                         enum vcl_dtype dtype, void *y, struct vcl_tensor_counts *counts)
{
    const struct vcl_lanes lanes =
        vcl_tensor_quantise(frame, tables, rect, x, work, work->j, dst, dtype, y, counts);
    const size_t n = vcl_scales_write(work->row_class, rect.rows, row_period(frame), dst);
    return n + vcl_lanes_encode(&lanes, 1, work->j, dst + n);
}

/* ---- decoding -------------------------------------------------------------------------------- */

static void decode_stripe(const struct vcl_lanes *lanes, const struct vcl_points *points, uint32_t row,
                          struct vcl_lanes_reader *r, int16_t *j, uint8_t *dst)
{
    const size_t size = vcl_dtype_bits(points->dtype) / 8;
    const struct vcl_stripe stripe = vcl_lanes_stripe(lanes, row);
    vcl_lanes_begin(r);
    for (uint32_t c = 0; c < lanes->cols && !r->damaged; c += CHUNK) {
        const uint32_t count = lanes->cols - c < CHUNK ? lanes->cols - c : CHUNK;
        lanes->kernels->decode_columns(&stripe, r, c, count, j);
        lanes->kernels->store_rows(&stripe, points, j, c, count, dst + c * size, lanes->cols);
    }
}

int vcl_tensor_decode_lanes(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                            struct vcl_rect rect, const int8_t *row_class, struct vcl_lanes_reader *r,
                            struct vcl_tensor_work *work, enum vcl_dtype dtype, void *dst)
{
    const size_t row_bytes = rect.cols * (size_t)(vcl_dtype_bits(dtype) / 8);
    const struct vcl_points points = points_of(frame, tables, rect, dtype);
    struct vcl_lanes lanes = lanes_of(frame, tables, rect, row_class);
    prepare_classes(frame, tables, 1, &lanes);
    for (uint32_t row = 0; row < rect.rows; row += (uint32_t)frame->lanes)
        decode_stripe(&lanes, &points, row, r, work->j, (uint8_t *)dst + row * row_bytes);
    return !r->damaged;
}

int vcl_tensor_decode(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                      struct vcl_rect rect, const uint8_t *src, size_t bytes, struct vcl_tensor_work *work,
                      enum vcl_dtype dtype, void *dst)
{
    const size_t n = vcl_scales_read(src, bytes, work->row_class, rect.rows, row_period(frame));
    const struct vcl_lanes lanes = { .lanes = frame->lanes };
    struct vcl_lanes_reader r;
    if (n == 0 || n > bytes || !vcl_lanes_open(&lanes, src + n, bytes - n, &r))
        return 0;
    return vcl_tensor_decode_lanes(frame, tables, rect, work->row_class, &r, work, dtype, dst)
        && vcl_lanes_close(&lanes, &r);
}
