/* product_template.h - the loops of products with coded matrices, compiled once per level of vectors.
 *
 * The file that includes it has what the level's header and lanes_*.h have, next_entries (a symbol for each
 * of 32 lanes) and store_points; NARROW and WIDE, the points around 0 that near_values looks up, and
 * near_points, which looks the narrow ones up; f_scale, a vector times a float; and PART_VECTORS and
 * PART_OUTPUTS, how many vectors and vectors of outputs at a time the registers have room for. */
#include <string.h>

#include "kernels/product_loops.h"

_Static_assert((int)VCL_BLOCK == (int)VCL_STRIPE_LANES, "a block has as many outputs as a stripe has lanes");
_Static_assert(VCL_GROUP % PART_VECTORS == 0 && VECTORS % PART_OUTPUTS == 0, "panels are whole parts");
_Static_assert(2 * VCL_NEAR == 64, "tables are looked up by six bits");

/* ---- points to values -------------------------------------------------------------------------- */

INLINE vf round_to(enum vcl_dtype dtype, vf x)
{
    if (dtype == VCL_DTYPE_BF16)
        return f_from_bits(i_and(round_bf16(x), i_bits(0xffff0000)));
    return dtype == VCL_DTYPE_F16 ? round_f16(x) : x;
}

/* Points to values of column c. */
INLINE vf values_of(const struct vcl_point_values *values, vf points, uint32_t c)
{
    vf x = f_mul(points, f_set(values->steps[c]));
    if (values->means)
        x = f_add(x, f_set(values->means[c]));
    return round_to(values->dtype, x);
}

/* Points beyond NARROW: on the lattice, but for those within VCL_NEAR that move. */
INLINE vf far_points(const struct vcl_point_values *values, vi index)
{
    const vi near = i_and(index, i_set(2 * VCL_NEAR - 1));
    const vi back = i_sub(i_xor(near, i_set(VCL_NEAR)), i_set(VCL_NEAR));
    const vf points = f_from_i(index);
    return values->moved ? f_gather_where(i_equal(back, index), points, values->point, near) : points;
}

INLINE void correct_far(const struct vcl_point_values *values, const vi entry[VECTORS], uint32_t c,
                        vf w[VECTORS])
{
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        const vf points = far_points(values, entry_index(entry[v]));
        w[v] = f_pick(beyond(entry[v], NARROW), w[v], values_of(values, points, c));
    }
}

/* Where points are wide, those that are not looked up are computed at once. */
INLINE void look_up(const float *table, const struct vcl_point_values *values, const vi entry[VECTORS],
                    uint32_t c, int wide, vf w[VECTORS])
{
    UNROLL
    for (int v = 0; v < VECTORS; v++)
        w[v] = near_values(table, entry[v], wide);
    if (wide && WIDE == NARROW)
        correct_far(values, entry, c, w);
}

TARGET void KERNEL(find_values)(const struct vcl_point_values *values, const int16_t *j, uint32_t first,
                                uint32_t count, float *w)
{
    for (uint32_t c = first; c < first + count; c++)
        for (int v = 0; v < VECTORS; v++, j += WIDTH, w += WIDTH) {
            const vi index = i_load16(j);
            const vm far = i_at_least(i_add(index, i_set(NARROW)), i_set(2 * NARROW)); /* of all 16 bits */
            const vf near = near_points(values->point, index);
            f_store(w, values_of(values, f_pick(far, near, far_points(values, index)), c));
        }
}

/* ---- decoding and multiplying ------------------------------------------------------------------ */

/* A stripe's columns from `first` on, times x added to the sums y; or (`stores`) their values to y. */
struct task {
    const struct vcl_stripe *stripe;
    struct vcl_lanes_reader *reader;
    const struct vcl_point_values *values;
    uint32_t first, count;
    const float *x;
    float *y;
};

/* Where a loop over columns stands: so many are done, and the block that they are in has come to sum. */
struct column_cursor {
    uint32_t done;
    float sum[VCL_STRIPE_LANES];
    int16_t j[VCL_STRIPE_LANES]; /* of the next column, taken off the lanes already, if it has an escape */
    uint32_t escaped;            /* these lanes */
};

INLINE const float *value_table(const struct vcl_point_values *values, uint32_t c)
{
    return values->values[values->table ? values->table[c] : 0];
}

/* Tables of the rows' classes, moved by the column's. */
INLINE const uint32_t *slots_of(const struct vcl_stripe *t, uint32_t c)
{
    return t->slots + (t->col_class ? (ptrdiff_t)t->col_class[c] * (1 << TABLE_LOG2) : 0);
}

INLINE void add_sums(float *y, vf sum[VECTORS])
{
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        f_store(y + WIDTH * v, f_add(f_load(y + WIDTH * v), sum[v]));
        sum[v] = f_set(0);
    }
}

/* Columns until an escape, or until less than a block is left or the words run short; returns whether it
 * was an escape. */
INLINE int run_columns(const struct task *task, struct column_cursor *at, int stores, int wide)
{
    const ptrdiff_t most = 2 * VCL_BLOCK * VCL_STRIPE_LANES;
    const uint32_t within = !wide ? NARROW : WIDE == NARROW ? VCL_ESCAPE_POINT : WIDE;
    const uint8_t *const end = task->reader->words_end;
    vf sum[VECTORS];
    uint32_t c = at->done;
    struct lanes s;
    at->escaped = 0;
    load_lanes(task->stripe, task->reader, &s);
    UNROLL
    for (int v = 0; v < VECTORS; v++)
        sum[v] = f_load(at->sum + WIDTH * v);
    while (c % VCL_BLOCK != 0 || (task->count - c >= VCL_BLOCK && end - s.words >= most)) {
        const uint32_t col = task->first + c;
        vi entry[VECTORS];
        vf w[VECTORS];
        next_entries(&s, slots_of(task->stripe, col), entry);
        look_up(value_table(task->values, col), task->values, entry, col, wide, w);
        if (__builtin_expect(any_beyond(entry, within), 0)) {
            at->escaped = lanes_beyond(entry, VCL_ESCAPE_POINT);
            if (at->escaped) {
                store_points(entry, at->j);
                break;
            }
            correct_far(task->values, entry, col, w);
        }
        UNROLL
        for (int v = 0; v < VECTORS; v++)
            if (stores)
                f_store(task->y + (size_t)c * VCL_STRIPE_LANES + WIDTH * v, w[v]);
            else
                sum[v] = f_add(sum[v], f_mul(w[v], f_set(task->x[c])));
        c++;
        if (!stores && c % VCL_BLOCK == 0)
            add_sums(task->y, sum);
    }
    UNROLL
    for (int v = 0; v < VECTORS; v++)
        f_store(at->sum + WIDTH * v, sum[v]);
    at->done = c;
    store_lanes(&s, task->reader);
    return at->escaped != 0;
}

/* The column that the cursor holds. */
static void run_escaped(const struct task *task, struct column_cursor *at, int stores)
{
    const uint32_t c = at->done++;
    float w[VCL_STRIPE_LANES];
    vcl_get_escapes(task->stripe, task->reader, at->escaped, 0, at->j);
    vcl_find_values_c(task->values, at->j, task->first + c, 1,
                      stores ? task->y + (size_t)c * VCL_STRIPE_LANES : w);
    for (int l = 0; l < VCL_STRIPE_LANES && !stores; l++)
        at->sum[l] += w[l] * task->x[c];
    for (int l = 0; l < VCL_STRIPE_LANES && !stores && at->done % VCL_BLOCK == 0; l++) {
        task->y[l] += at->sum[l];
        at->sum[l] = 0;
    }
}

INLINE uint32_t run_blocks(const struct task *task, int stores, int wide)
{
    struct column_cursor at = { 0 };
    while (run_columns(task, &at, stores, wide))
        run_escaped(task, &at, stores);
    return at.done;
}

INLINE uint32_t run_stripe(const struct task *task, int stores)
{
    const struct vcl_stripe *const t = task->stripe;
    const struct vcl_point_values *const values = task->values;
    if (t->lanes != VCL_STRIPE_LANES || t->active != t->lanes || vcl_stripe_is_low(t) || values->means)
        return 0;
    return values->wide ? run_blocks(task, stores, 1) : run_blocks(task, stores, 0);
}

TARGET uint32_t KERNEL(multiply_blocks)(const struct vcl_stripe *t, struct vcl_lanes_reader *r,
                                        const struct vcl_point_values *values, uint32_t first, uint32_t count,
                                        const float *x, float *y)
{
    const struct task task = { t, r, values, first, count, x, y };
    return run_stripe(&task, 0);
}

TARGET uint32_t KERNEL(decode_blocks)(const struct vcl_stripe *t, struct vcl_lanes_reader *r,
                                      const struct vcl_point_values *values, uint32_t first, uint32_t count,
                                      float *w)
{
    const struct task task = { t, r, values, first, count, NULL, w };
    return run_stripe(&task, 1);
}

/* ---- panels ------------------------------------------------------------------------------------ */

/* A block's terms: n vectors, from x on, `width` of them side by side, times m vectors of outputs, added
 * to y. */
INLINE void multiply_part(const float *w, size_t stride, uint32_t terms, const float *x, uint32_t width,
                          float *y, int n, int m)
{
    vf sum[VCL_GROUP][VECTORS];
    UNROLL
    for (int v = 0; v < n; v++)
        UNROLL
    for (int o = 0; o < m; o++)
        sum[v][o] = f_set(0);
    for (uint32_t k = 0; k < terms; k++, w += stride, x += width) {
        vf row[VECTORS];
        UNROLL
        for (int o = 0; o < m; o++)
            row[o] = f_load(w + WIDTH * o);
        UNROLL
        for (int v = 0; v < n; v++)
            UNROLL
        for (int o = 0; o < m; o++)
            sum[v][o] = f_add(sum[v][o], f_scale(row[o], x + v));
    }
    UNROLL
    for (int v = 0; v < n; v++)
        UNROLL
    for (int o = 0; o < m; o++) {
        float *const to = y + v * VCL_BLOCK + WIDTH * o;
        f_store(to, f_add(f_load(to), sum[v][o]));
    }
}

INLINE void multiply_block(const float *w, size_t stride, uint32_t terms, const float *x, uint32_t width,
                           float *y)
{
    if (width == 1)
        multiply_part(w, stride, terms, x, 1, y, 1, VECTORS);
    else if (width == 2)
        multiply_part(w, stride, terms, x, 2, y, 2, VECTORS);
    else if (width < PART_VECTORS)
        multiply_part(w, stride, terms, x, 4, y, 4, PART_OUTPUTS);
    else
        for (uint32_t v = 0; v < width; v += PART_VECTORS)
            for (uint32_t o = 0; o < VECTORS; o += PART_OUTPUTS)
                multiply_part(w + WIDTH * o, stride, terms, x + v, width, y + v * VCL_BLOCK + WIDTH * o,
                              PART_VECTORS, PART_OUTPUTS);
}

/* Through sums of its own: those of several vectors are often as far apart as the first cache cannot hold. */
TARGET void KERNEL(multiply_panel)(const float *w, size_t stride, uint32_t terms, const float *x,
                                   uint32_t width, uint32_t outputs, float *y, size_t y_stride)
{
    float sums[VCL_GROUP][VCL_BLOCK] = { 0 };
    for (uint32_t v = 0; v < width; v++)
        memcpy(sums[v], y + v * y_stride, outputs * sizeof *y);
    for (uint32_t k = 0; k < terms; k += VCL_BLOCK)
        multiply_block(w + k * stride, stride, terms - k < VCL_BLOCK ? terms - k : VCL_BLOCK,
                       x + (size_t)k * width, width, sums[0]);
    for (uint32_t v = 0; v < width; v++)
        memcpy(y + v * y_stride, sums[v], outputs * sizeof *y);
}

/* Squares of WIDTH by WIDTH, and what is left at the edges the portable way. */
TARGET void KERNEL(turn)(const float *src, size_t src_stride, uint32_t rows, uint32_t cols, float *dst,
                         size_t dst_stride)
{
    const uint32_t whole_rows = rows / WIDTH * WIDTH, whole_cols = cols / WIDTH * WIDTH;
    for (uint32_t i = 0; i < whole_rows; i += WIDTH)
        for (uint32_t j = 0; j < whole_cols; j += WIDTH) {
            vf square[WIDTH];
            UNROLL
            for (int k = 0; k < WIDTH; k++)
                square[k] = f_load(src + (i + (size_t)k) * src_stride + j);
            transpose(square);
            UNROLL
            for (int k = 0; k < WIDTH; k++)
                f_store(dst + (j + (size_t)k) * dst_stride + i, square[k]);
        }
    vcl_turn_c(src + whole_cols, src_stride, whole_rows, cols - whole_cols, dst + whole_cols * dst_stride,
               dst_stride);
    vcl_turn_c(src + whole_rows * src_stride, src_stride, rows - whole_rows, cols, dst + whole_rows,
               dst_stride);
}
