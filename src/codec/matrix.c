/* matrix.c - a coded matrix ready for products: its frame checked, its tables made.
 *
 * In: a frame in memory.  Out: what products need besides it, as little as can be: where models stay
 * compressed in memory, a matrix' tables must not outweigh its bytes.  A class' slot tables are 8 KiB;
 * they are made for the classes that some row (and column) has, which takes a look at every tile's class
 * list. */
#include "matrix.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/common.h"
#include "base/dtype.h"
#include "codec/scale.h"
#include "codec/tile.h"

_Static_assert((int)VCL_BLOCK == (int)VCL_STRIPE_LANES, "a block's outputs are a stripe's lanes");
_Static_assert((int)VCL_NEAR == (int)VCL_MOVED_POINTS, "points that move are looked up");

static void *hold(struct vcl_matrix *m, uint64_t count, size_t size)
{
    void *const block = count <= SIZE_MAX ? vcl_alloc(&m->mem, (size_t)count, size) : NULL;
    m->held += block ? (size_t)count * size : 0;
    return block;
}

void vcl_matrix_unmake(struct vcl_matrix *m)
{
    if (!m)
        return;
    const struct vcl_mem mem = m->mem;
    vcl_free(&mem, m->offsets);
    vcl_tensor_tables_destroy(&mem, m->tables);
    vcl_free(&mem, m->starts);
    vcl_free(&mem, m->row_class);
    vcl_free(&mem, m->col_class);
    vcl_free(&mem, m->slots);
    vcl_free(&mem, m->near);
    vcl_free(&mem, m->near_table);
    vcl_free(&mem, m->steps);
    vcl_free(&mem, m->means);
    vcl_free(&mem, m);
}

/* ---- the frame --------------------------------------------------------------------------------- */

static enum vcl_status parse(const struct vcl_env *env, const uint8_t *bytes, size_t n,
                             struct vcl_frame *frame)
{
    const char *reason = "";
    const enum vcl_status status = vcl_frame_parse(bytes, n, frame, &reason);
    if (status)
        return vcl_env_fail(env, status, "%s", reason);
    if (frame->frame_bytes != n)
        return frame->frame_bytes > n ? vcl_env_fail(env, VCL_E_TRUNCATED, "frame is cut off")
                                      : vcl_env_fail(env, VCL_E_FORMAT, "bytes after the frame's end");
    if (frame->codec == VCL_CODEC_ALIAS)
        return vcl_env_fail(env, VCL_E_ARGUMENT, "an alias frame has no values: open its target");
    if (!vcl_dtype_is_float(frame->tensor.dtype))
        return vcl_env_fail(env, VCL_E_ARGUMENT, "only F16, BF16, F32 and F64 tensors can be multiplied");
    return VCL_OK;
}

/* The last dimension is the row; 0 where there are too many rows. */
static int find_shape(struct vcl_matrix *m)
{
    const struct vcl_tensor *const tensor = &m->frame.tensor;
    m->rows = 1;
    m->cols = tensor->rank > 0 ? tensor->dims[tensor->rank - 1] : 1;
    for (unsigned i = 0; i + 1 < tensor->rank; i++)
        if (vcl_mul(m->rows, tensor->dims[i], &m->rows)) /* another dimension is 0 */
            return 0;
    return 1;
}

/* Where the coded matrix is neither the tensor's nor its transpose, its values are those of the tensor's
 * all the same, in order unless it is transposed. */
static void find_orientation(struct vcl_matrix *m)
{
    const struct vcl_plan *const plan = &m->frame.plan;
    const int transposed = m->frame.codec == VCL_CODEC_TENSOR && m->frame.flags & VCL_FLAG_TRANSPOSED;
    m->turned = transposed && plan->rows == m->cols && plan->cols == m->rows;
    m->line = m->turned ? m->rows : m->cols;
}

const uint8_t *vcl_matrix_tile(const struct vcl_matrix *m, uint64_t tile, size_t *bytes)
{
    *bytes = vcl_frame_read_entry(&m->frame, m->bytes, tile).size;
    return m->bytes + m->offsets[tile];
}

static enum vcl_status locate_tiles(const struct vcl_env *env, struct vcl_matrix *m)
{
    const uint64_t tiles = m->frame.plan.tiles;
    m->offsets = hold(m, tiles, sizeof *m->offsets);
    if (!m->offsets)
        return vcl_env_fail(env, VCL_E_MEMORY, "no memory for the tile offsets");
    for (uint64_t i = 0; i < tiles; i++)
        if (vcl_frame_read_entry(&m->frame, m->bytes, i).size > vcl_tile_room(&m->frame))
            return vcl_env_fail(env, VCL_E_FORMAT, "tile %llu: more bytes than its values can take",
                                (unsigned long long)i);
    for (uint64_t offset = vcl_frame_locate(&m->frame, m->bytes, m->offsets); offset < m->frame.frame_bytes;
         offset++)
        if (m->bytes[offset] != 0)
            return vcl_env_fail(env, VCL_E_FORMAT, "padding at the frame's end is not zero");
    return VCL_OK;
}

/* ---- checksums --------------------------------------------------------------------------------- */

enum { CHECKS = 64 }; /* jobs that share the tiles */

struct check {
    const struct vcl_matrix *m;
    uint64_t damaged[CHECKS]; /* the first of the job's tiles that is, or the number of tiles */
};

/* An exact tile's bytes are its values: both of its checksums are theirs. */
static int is_whole(const struct vcl_matrix *m, uint64_t tile)
{
    size_t bytes;
    const uint8_t *const stored = vcl_matrix_tile(m, tile, &bytes);
    const struct vcl_tile_entry entry = vcl_frame_read_entry(&m->frame, m->bytes, tile);
    return vcl_hash_matches(stored, bytes, entry.stored_hash)
        && (m->frame.codec != VCL_CODEC_EXACT || vcl_hash_matches(stored, bytes, entry.decoded_hash));
}

static void check_tiles(void *user, size_t job, unsigned thread)
{
    struct check *const check = user;
    (void)thread;
    const uint64_t tiles = check->m->frame.plan.tiles, end = tiles * (job + 1) / CHECKS;
    uint64_t tile = tiles * job / CHECKS;
    while (tile < end && is_whole(check->m, tile))
        tile++;
    check->damaged[job] = tile < end ? tile : tiles;
}

static enum vcl_status check_all(const struct vcl_env *env, const struct vcl_matrix *m)
{
    struct check check = { .m = m };
    vcl_pool_run(env->pool, CHECKS, check_tiles, &check);
    for (int i = 0; i < CHECKS; i++)
        if (check.damaged[i] < m->frame.plan.tiles)
            return vcl_env_fail(env, VCL_E_CHECKSUM,
                                "tile %llu: stored bytes are damaged: their checksum does not match",
                                (unsigned long long)check.damaged[i]);
    return VCL_OK;
}

/* ---- tables ------------------------------------------------------------------------------------ */

/* Can the kernels of products take its tiles?  They know lanes of whole stripes in the order of the tensor's
 * matrix, and values that need nothing more than their step, their mean and rounding. */
static int is_simple(const struct vcl_matrix *m)
{
    const struct vcl_frame *const frame = &m->frame;
    const struct vcl_plan *const plan = &frame->plan;
    const uint32_t known = VCL_FLAG_ANY_MEAN | VCL_FLAG_COL_STEPS | VCL_FLAG_TRANSPOSED
                         | VCL_FLAG_CLASS_MODELS | VCL_FLAG_TABLES | VCL_FLAG_POINTS;
    return frame->codec == VCL_CODEC_TENSOR && !(frame->flags & ~known) && !frame->transform.down
        && !frame->transform.along && frame->lanes == VCL_STRIPE_LANES && plan->cols == m->line
        && (!(frame->flags & VCL_FLAG_TRANSPOSED) || m->turned)
        && (plan->tile_rows % VCL_BLOCK == 0 || plan->rows <= plan->tile_rows)
        && (plan->tile_cols % VCL_BLOCK == 0 || plan->across == 1);
}

/* No value reaches the dtype's limit, at which decoding would stop it. */
static int stays_finite(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables)
{
    double step = 0, mean = 0;
    for (uint64_t c = 0; c < frame->plan.cols; c++) {
        step = fmax(step, tables->col_step[c]);
        mean = fmax(mean, fabs((double)tables->col_mean[c]));
    }
    return step * 32768 + mean < 0.99 * vcl_dtype_max(frame->tensor.dtype);
}

/* All rows' classes, one tile after the other. */
static enum vcl_status read_row_classes(const struct vcl_env *env, struct vcl_matrix *m)
{
    const struct vcl_plan *const plan = &m->frame.plan;
    int8_t *class = m->row_class;
    for (uint64_t i = 0; i < plan->tiles; i++) {
        const uint32_t rows = vcl_plan_tile(plan, i).rows;
        size_t bytes;
        const uint8_t *const stored = vcl_matrix_tile(m, i, &bytes);
        const size_t used = vcl_scales_read(stored, bytes, class, rows, 1);
        if (used == 0 || used > bytes)
            return vcl_env_fail(env, VCL_E_FORMAT, "tile %llu: classes of the rows are damaged",
                                (unsigned long long)i);
        m->starts[i] = (uint32_t)used;
        class += rows;
    }
    return VCL_OK;
}

static int limit(int x, int least, int most) { return x < least ? least : x > most ? most : x; }

/* Which classes have tables, in their order; row_class and col_class become sums of their numbers. */
struct choice {
    int8_t class[VCL_MODEL_CLASSES];
    int count;
};

struct range {
    int least, most;
};

static struct range range_of(const int8_t *class, uint64_t n)
{
    struct range range = { INT8_MAX, INT8_MIN };
    for (uint64_t i = 0; i < n; i++) {
        range.least = class[i] < range.least ? class[i] : range.least;
        range.most = class[i] > range.most ? class[i] : range.most;
    }
    return range;
}

static void move_classes(int8_t *class, uint64_t n, int by)
{
    for (uint64_t i = 0; i < n; i++)
        class[i] = (int8_t)(class[i] + by);
}

/* Where columns have no classes, those that occur; of those with low bits all from the first to the last, so
 * that the kernels can still tell how many. */
static void choose_row_classes(struct vcl_matrix *m, uint64_t n, struct choice *choice)
{
    int8_t number[VCL_MODEL_CLASSES];
    int most = 0;
    memset(number, -1, sizeof number);
    for (uint64_t i = 0; i < n; i++) {
        m->row_class[i] = (int8_t)limit(m->row_class[i], 0, VCL_MODEL_CLASSES - 1);
        number[m->row_class[i]] = 0;
        most = m->row_class[i] > most ? m->row_class[i] : most;
    }
    for (int t = 0; t <= most; t++)
        if (number[t] == 0 || t >= VCL_LOW_CLASS) {
            choice->class[choice->count] = (int8_t)t;
            number[t] = (int8_t)choice->count++;
        }
    for (uint64_t i = 0; i < n; i++)
        m->row_class[i] = number[m->row_class[i]];
    if (most >= VCL_LOW_CLASS)
        m->low_from = number[VCL_LOW_CLASS];
}

/* Else all sums from the least to the largest, those below the classes for the least one.  A row whose sums are
 * beyond with all columns is as good as one where they just are.  Where there are too many, or some are beyond the
 * last, classes keep their numbers, and only what limits the sums can decode them. */
static void choose_sums(struct vcl_matrix *m, uint64_t n, struct choice *choice)
{
    const uint64_t cols = m->frame.plan.cols;
    const struct range col = range_of(m->col_class, cols);
    const int low = limit(-col.most, INT8_MIN, INT8_MAX);
    const int high = limit(VCL_MODEL_CLASSES - 1 - col.least, low, INT8_MAX);
    for (uint64_t i = 0; i < n; i++)
        m->row_class[i] = (int8_t)limit(m->row_class[i], low, high);
    const struct range row = range_of(m->row_class, n);
    int first = row.least + col.least;
    choice->count = row.most + col.most - first + 1;
    if (row.most + col.most >= VCL_LOW_CLASS)
        m->low_from = VCL_LOW_CLASS - first;
    if (choice->count > VCL_MODEL_CLASSES || row.most + col.most >= VCL_MODEL_CLASSES) {
        m->low_from = VCL_LOW_CLASS;
        choice->count = VCL_MODEL_CLASSES;
        first = 0;
    } else {
        move_classes(m->row_class, n, -row.least);
        move_classes(m->col_class, cols, -col.least);
    }
    for (int i = 0; i < choice->count; i++)
        choice->class[i] = (int8_t)limit(first + i, 0, VCL_MODEL_CLASSES - 1);
}

/* Of 1024, how often a class' points are beyond those that one permutation looks up. */
static int frequency_beyond(const struct vcl_symbol_model *model)
{
    int most = 0;
    for (int g = 0; g < 2; g++) {
        int sum = 0;
        for (int s = 1; s < VCL_MODEL_SYMBOLS - 1; s++) {
            const int j = 2 * (s - 32) + g;
            sum += j < -VCL_NEAR / 2 || j >= VCL_NEAR / 2 ? model->freq[g][s] : 0;
        }
        most = sum > most ? sum : most;
    }
    return most;
}

static int make_slots(struct vcl_matrix *m, const struct vcl_tensor_tables *tables,
                      const struct choice *choice)
{
    enum { RARE = 2 }; /* 6 % of columns */
    m->slots = hold(m, (uint64_t)choice->count, 2 * VCL_MODEL_TOTAL * sizeof *m->slots);
    for (int i = 0; m->slots && i < choice->count; i++) {
        struct vcl_symbol_model model;
        vcl_tensor_model(&m->frame, tables, choice->class[i], &model);
        vcl_model_slots(&model, m->slots + (size_t)i * 2 * VCL_MODEL_TOTAL);
        m->values.wide |= frequency_beyond(&model) > RARE;
    }
    return m->slots != NULL;
}

/* Values of the points near 0 with this step, as decoding rounds them. */
static void make_near(const struct vcl_point_values *values, float step, float near[2 * VCL_NEAR])
{
    uint8_t narrow[2 * VCL_NEAR * sizeof(float)];
    for (int i = 0; i < 2 * VCL_NEAR; i++)
        near[i] = values->point[i] * step;
    vcl_from_f32(values->dtype, near, narrow, 2 * VCL_NEAR);
    vcl_to_f32(values->dtype, narrow, near, 2 * VCL_NEAR);
}

static int make_near_tables(struct vcl_matrix *m, const struct vcl_tensor_tables *tables)
{
    enum { EXPONENTS = 2 * VCL_EXPONENT_MAX + 1 };
    const uint64_t cols = m->frame.plan.cols;
    uint8_t number[EXPONENTS];
    int count = 0;
    memset(number, UINT8_MAX, sizeof number);
    for (uint64_t c = 0; c < cols; c++) {
        uint8_t *const its = &number[tables->col_exponent[c] + VCL_EXPONENT_MAX];
        *its = *its == UINT8_MAX ? (uint8_t)count++ : *its;
        m->near_table[c] = *its;
    }
    m->near = hold(m, (uint64_t)count, sizeof *m->near);
    for (uint64_t c = 0; m->near && c < cols; c++)
        make_near(&m->values, tables->col_step[c], m->near[m->near_table[c]]);
    return m->near != NULL;
}

static void find_points(struct vcl_matrix *m, const struct vcl_tensor_tables *tables)
{
    const float *const moves = tables->moves + VCL_MOVED_POINTS + 1;
    for (int i = 0; i < 2 * VCL_NEAR; i++) {
        const int j = i < VCL_NEAR ? i : i - 2 * VCL_NEAR, size = j < 0 ? -j : j;
        const float move = size >= 1 && size <= VCL_CENTROIDS ? (float)m->frame.centroid[size - 1] / 256 : 0;
        m->values.point[i] = (float)j + (m->frame.flags & VCL_FLAG_POINTS ? moves[j] : j < 0 ? -move : move);
        if (j < -VCL_NEAR / 2 || j >= VCL_NEAR / 2)
            m->values.moved |= m->values.point[i] != (float)j;
    }
    m->values.dtype = m->frame.tensor.dtype == VCL_DTYPE_F64 ? VCL_DTYPE_F32 : m->frame.tensor.dtype;
}

/* Room for what there is of every row and column. */
static int hold_lines(struct vcl_matrix *m, const struct vcl_tensor_tables *tables)
{
    const struct vcl_plan *const plan = &m->frame.plan;
    const size_t cols = (size_t)plan->cols;
    int classes = 0;
    for (size_t c = 0; c < cols; c++)
        classes |= tables->col_class[c] != 0;
    m->starts = hold(m, plan->tiles, sizeof *m->starts);
    m->row_class = hold(m, plan->rows * plan->across, 1);
    m->col_class = classes ? hold(m, cols, 1) : NULL;
    m->near_table = hold(m, cols, 1);
    m->steps = hold(m, cols, sizeof *m->steps);
    m->means = m->frame.flags & VCL_FLAG_ANY_MEAN ? hold(m, cols, sizeof *m->means) : NULL;
    if (!m->starts || !m->row_class || !m->near_table || !m->steps || (classes && !m->col_class)
        || (m->frame.flags & VCL_FLAG_ANY_MEAN && !m->means))
        return 0;
    memcpy(m->steps, tables->col_step, cols * sizeof *m->steps);
    if (m->col_class)
        memcpy(m->col_class, tables->col_class, cols);
    if (m->means)
        memcpy(m->means, tables->col_mean, cols * sizeof *m->means);
    return 1;
}

static enum vcl_status fuse(const struct vcl_env *env, struct vcl_matrix *m,
                            const struct vcl_tensor_tables *tables)
{
    const uint64_t rows = m->frame.plan.rows * m->frame.plan.across;
    struct choice choice = { .count = 0 };
    if (!hold_lines(m, tables))
        return vcl_env_fail(env, VCL_E_MEMORY, "no memory for the matrix' tables");
    const enum vcl_status status = read_row_classes(env, m);
    if (status)
        return status;
    m->low_from = VCL_MODEL_CLASSES;
    if (!m->col_class)
        choose_row_classes(m, rows, &choice);
    else
        choose_sums(m, rows, &choice);
    find_points(m, tables);
    if (!make_slots(m, tables, &choice) || !make_near_tables(m, tables))
        return vcl_env_fail(env, VCL_E_MEMORY, "no memory for the matrix' tables");
    m->values.values = (const float(*)[2 * VCL_NEAR]) m->near;
    m->fused = 1;
    return VCL_OK;
}

/* The tables that decoding has; kept only where tiles are decoded. */
static enum vcl_status make_tables(const struct vcl_env *env, struct vcl_matrix *m)
{
    if (m->frame.codec != VCL_CODEC_TENSOR || m->frame.values == 0)
        return VCL_OK;
    m->tables = vcl_tensor_tables_create(&m->mem, env->kernels, &m->frame);
    if (!m->tables)
        return vcl_env_fail(env, VCL_E_MEMORY, "no memory for the model's tables");
    if (!vcl_tensor_tables_read(&m->frame, m->tables))
        return vcl_env_fail(env, VCL_E_FORMAT, "side data of the columns is damaged");
    m->fused = is_simple(m) && stays_finite(&m->frame, m->tables);
    if (!m->fused) {
        m->held += sizeof *m->tables + sizeof *m->tables->classes;
        m->held += (size_t)m->frame.plan.cols * (2 + 2 * sizeof(float) + sizeof(double));
        return VCL_OK;
    }
    const enum vcl_status status = fuse(env, m, m->tables);
    vcl_tensor_tables_destroy(&m->mem, m->tables);
    m->tables = NULL;
    return status;
}

enum vcl_status vcl_matrix_make(const struct vcl_env *env, const uint8_t *bytes, size_t n,
                                struct vcl_matrix **matrix)
{
    struct vcl_mem mem = *env->mem;
    struct vcl_frame frame;
    enum vcl_status status = parse(env, bytes, n, &frame);
    if (status)
        return status;
    mem.spares = NULL;
    struct vcl_matrix *const m = vcl_alloc(&mem, 1, sizeof *m);
    if (!m)
        return vcl_env_fail(env, VCL_E_MEMORY, "no memory for a matrix");
    m->mem = mem;
    m->held = sizeof *m;
    m->bytes = bytes;
    m->frame = frame;
    if (!find_shape(m))
        status = vcl_env_fail(env, VCL_E_LIMIT, "the tensor has too many rows");
    find_orientation(m);
    if (!status)
        status = locate_tiles(env, m);
    if (!status)
        status = check_all(env, m);
    if (!status)
        status = make_tables(env, m);
    if (status)
        vcl_matrix_unmake(m);
    else
        *matrix = m;
    return status;
}

/* ---- reading ----------------------------------------------------------------------------------- */

int vcl_matrix_lanes(const struct vcl_matrix *m, const struct vcl_kernels *kernels, uint64_t tile,
                     struct vcl_lanes *lanes, struct vcl_point_values *values,
                     struct vcl_lanes_reader *reader)
{
    const struct vcl_plan *const plan = &m->frame.plan;
    const struct vcl_rect rect = vcl_plan_tile(plan, tile);
    const size_t row = (size_t)(rect.row * plan->across + tile % plan->across * rect.rows);
    size_t bytes;
    const uint8_t *const stored = vcl_matrix_tile(m, tile, &bytes);
    *lanes = (struct vcl_lanes){ .kernels = kernels,
                                 .v = m->frame.states,
                                 .lanes = m->frame.lanes,
                                 .low_from = m->low_from,
                                 .rows = rect.rows,
                                 .cols = rect.cols,
                                 .row_class = m->row_class + row,
                                 .col_class = m->col_class ? m->col_class + rect.col : NULL,
                                 .slots = m->slots };
    *values = m->values;
    values->table = m->near_table + rect.col;
    values->steps = m->steps + rect.col;
    values->means = m->means ? m->means + rect.col : NULL;
    return vcl_lanes_open(lanes, stored + m->starts[tile], bytes - m->starts[tile], reader);
}
