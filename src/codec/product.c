/* product.c - a coded matrix times vectors.
 *
 * Three ways.  Fused: outputs are the coded matrix' rows, which are lanes; a stripe's decoded columns go
 * from registers into sums (one vector), or in chunks that stay in the first cache through the panel
 * kernel (more).  Through a window: tiles are decoded to rows of floats, as many tiles as there are
 * threads, and the rows multiplied; for the product the other way round, and for every frame that the
 * fused kernels do not know.  By strips, for the other way round of a transpose in several columns of tiles:
 * a window would hold a row of tiles, a strip has outputs of its own.  Every way the decoded values and the order of additions are the same
 * (product_loops.h), and so is the result. */
#include "product.h"

#include <string.h>

#include "base/common.h"
#include "codec/tile.h"

enum {
    VECTORS = 512, /* at most at a time: what is packed of them is 2 KiB for every term */
    CHUNK = 128    /* columns of a stripe, 16 KiB */
};

/* ---- vectors ----------------------------------------------------------------------------------- */

/* In groups of 8, 4, 2 and 1, a group term by term: where groups of w begin at vector v, x[v * terms + k *
 * w + i] is term k of vector v + i. */
struct vectors {
    const float *x;
    size_t n;
    uint64_t terms;
    float *y;
    size_t stride; /* of y */
};

static uint32_t group_at(const struct vectors *v, size_t at)
{
    const size_t left = v->n - at;
    return left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
}

static void pack(const struct vectors *v, const float *x, size_t x_stride, float *packed)
{
    for (size_t at = 0; at < v->n; at += group_at(v, at)) {
        const uint32_t width = group_at(v, at);
        float *const group = packed + at * v->terms;
        for (uint64_t k = 0; k < v->terms; k++)
            for (uint32_t i = 0; i < width; i++)
                group[k * width + i] = x[(at + i) * x_stride + k];
    }
}

/* Adds to the outputs from `output` on what the terms from `term` on bring; that is a block's first.
 * w[k][o] is `stride` values apart. */
static void multiply_terms(const struct vcl_kernels *kernels, const struct vectors *v, const float *w,
                           size_t stride, uint64_t term, uint32_t terms, uint64_t output, uint32_t outputs)
{
    for (size_t at = 0; at < v->n; at += group_at(v, at)) {
        const uint32_t width = group_at(v, at);
        kernels->multiply_panel(w, stride, terms, v->x + at * v->terms + term * width, width, outputs,
                                v->y + at * v->stride + output, v->stride);
    }
}

/* ---- stripes ----------------------------------------------------------------------------------- */

/* Columns of a stripe to values, w[column][lane]; at most CHUNK. */
static void decode_chunk(const struct vcl_lanes *lanes, const struct vcl_stripe *stripe,
                         const struct vcl_point_values *values, struct vcl_lanes_reader *reader,
                         uint32_t first, uint32_t count, float *w)
{
    const struct vcl_kernels *const kernels = lanes->kernels;
    int16_t j[CHUNK * VCL_STRIPE_LANES];
    const uint32_t done = kernels->decode_blocks(stripe, reader, values, first, count, w);
    kernels->decode_columns(stripe, reader, first + done, count - done, j);
    kernels->find_values(values, j, first + done, count - done, w + (size_t)done * VCL_STRIPE_LANES);
}

struct fused {
    const struct vcl_env *env;
    const struct vcl_matrix *m;
    const struct vectors *v;
    size_t parts;     /* jobs of a band, each with some of the vectors */
    uint64_t first;   /* band of the first job */
    uint64_t *failed; /* by job: the tile that is damaged, UINT64_MAX for none */
};

static void multiply_stripe(const struct vectors *v, struct vcl_rect rect, uint32_t row,
                            const struct vcl_lanes *lanes, const struct vcl_point_values *values,
                            struct vcl_lanes_reader *reader)
{
    const struct vcl_stripe stripe = vcl_lanes_stripe(lanes, row);
    float w[CHUNK * VCL_STRIPE_LANES], *const y = v->y + rect.row + row;
    uint32_t done = 0;
    vcl_lanes_begin(reader);
    if (v->n == 1 && stripe.active == VCL_STRIPE_LANES)
        done = lanes->kernels->multiply_blocks(&stripe, reader, values, 0, rect.cols, v->x + rect.col, y);
    for (uint32_t c = done; c < rect.cols && !reader->damaged; c += CHUNK) {
        const uint32_t count = (uint32_t)vcl_min(rect.cols - c, CHUNK);
        decode_chunk(lanes, &stripe, values, reader, c, count, w);
        multiply_terms(lanes->kernels, v, w, VCL_STRIPE_LANES, rect.col + c, count, rect.row + row,
                       (uint32_t)stripe.active);
    }
}

static size_t vectors_of_part(size_t n, size_t parts)
{
    return (size_t)vcl_round_up(vcl_ceil_div(n, parts), VCL_GROUP);
}

/* Some of the vectors, in whole groups. */
static struct vectors part_of(const struct vectors *v, size_t part, size_t parts)
{
    const size_t most = vectors_of_part(v->n, parts), at = part * most;
    struct vectors some = *v;
    some.n = at < v->n ? (size_t)vcl_min(v->n - at, most) : 0;
    some.x += some.n ? at * v->terms : 0;
    some.y += some.n ? at * v->stride : 0;
    return some;
}

/* Fewer bands than threads, or a few more, leave threads idle: then a band is decoded more than once, each
 * time for a part of the vectors.  Decoding takes as long as multiplying by about 26 vectors
 * (bench_product). */
static size_t choose_parts(uint64_t bands, unsigned threads, size_t n)
{
    enum { DECODING = 26, MOST = 16 };
    uint64_t least = UINT64_MAX;
    size_t best = 1;
    for (size_t parts = 1; parts <= MOST; parts++) {
        const uint64_t time = vcl_ceil_div(bands * parts, threads) * (DECODING + vectors_of_part(n, parts));
        if (time < least) {
            least = time;
            best = parts;
        }
    }
    return best;
}

/* All tiles side by side: each output is one job's. */
static void multiply_band(void *user, size_t job, unsigned thread)
{
    const struct fused *const f = user;
    (void)thread;
    const struct vcl_plan *const plan = &f->m->frame.plan;
    const struct vectors v = part_of(f->v, job % f->parts, f->parts);
    const uint64_t band = f->first + job / f->parts;
    f->failed[job] = UINT64_MAX;
    for (uint64_t tile = band * plan->across; tile < (band + 1) * plan->across && v.n > 0; tile++) {
        const struct vcl_rect rect = vcl_plan_tile(plan, tile);
        struct vcl_lanes lanes;
        struct vcl_point_values values;
        struct vcl_lanes_reader reader;
        int whole = vcl_matrix_lanes(f->m, f->env->kernels, tile, &lanes, &values, &reader);
        for (uint32_t row = 0; whole && row < rect.rows; row += VCL_STRIPE_LANES)
            multiply_stripe(&v, rect, row, &lanes, &values, &reader);
        whole = whole && vcl_lanes_close(&lanes, &reader);
        f->failed[job] = whole ? UINT64_MAX : tile;
        if (!whole)
            return;
    }
}

static enum vcl_status report_damage(const struct vcl_env *env, const uint64_t *failed, size_t jobs)
{
    for (size_t i = 0; i < jobs; i++)
        if (failed[i] != UINT64_MAX)
            return vcl_env_fail(env, VCL_E_FORMAT,
                                "tile %llu: stored bytes are no stream of the tensor codec",
                                (unsigned long long)failed[i]);
    return VCL_OK;
}

static int is_cancelled(const struct vcl_env *env) { return env->cancel && env->cancel(env->user); }

static enum vcl_status multiply_fused(const struct vcl_env *env, const struct vcl_matrix *m,
                                      const struct vectors *v)
{
    enum { JOBS = 64 };
    const uint64_t bands = m->frame.plan.tiles / m->frame.plan.across;
    uint64_t failed[JOBS];
    struct fused f = { env, m, v, choose_parts(bands, vcl_pool_threads(env->pool), v->n), 0, failed };
    const size_t together = JOBS / f.parts;
    enum vcl_status status = VCL_OK;
    for (; f.first < bands && !status; f.first += together) {
        const size_t jobs = (size_t)vcl_min(bands - f.first, together) * f.parts;
        if (is_cancelled(env))
            return vcl_env_fail(env, VCL_E_CANCELLED, "cancelled");
        vcl_pool_run(env->pool, jobs, multiply_band, &f);
        status = report_damage(env, failed, jobs);
    }
    return status;
}

/* ---- windows ----------------------------------------------------------------------------------- */

/* Values of the tensor's matrix, or of the transpose that is coded, in their order as floats: what tiles
 * in a row hold.  Whole blocks of its rows are multiplied; what is left begins the next window. */
struct window {
    const struct vcl_env *env;
    const struct vcl_matrix *m;
    const struct vectors *v;
    int along; /* outputs are its rows; else its columns */
    float *values;
    uint64_t first, end;         /* values that are there */
    struct vcl_tile_work *works; /* one per thread, where tiles are decoded by vcl_tile_decode */
    uint8_t **stored;            /* their own */
    size_t slots;
    uint64_t tile; /* of the first job */
    struct vcl_tile_coder coder;
    uint64_t row, rows;      /* being multiplied: rows from `row` on */
    enum vcl_status *status; /* by slot */
};

/* The coded matrix is transposed, but of another shape than the tensor's: its values stand in no row. */
static int is_scattered(const struct vcl_matrix *m)
{
    return m->frame.codec == VCL_CODEC_TENSOR && m->frame.flags & VCL_FLAG_TRANSPOSED && !m->turned;
}

/* Where a row of a tile belongs. */
static uint64_t place_of(const struct window *w, struct vcl_rect rect, uint32_t row)
{
    return (rect.row + row) * w->m->frame.plan.cols + rect.col - w->first;
}

/* A tile to rows of floats, `stride` apart. */
static enum vcl_status decode_fused(const struct vcl_kernels *kernels, const struct vcl_matrix *m,
                                    uint64_t tile, float *to, size_t stride)
{
    const struct vcl_rect rect = vcl_plan_tile(&m->frame.plan, tile);
    struct vcl_lanes lanes;
    struct vcl_point_values values;
    struct vcl_lanes_reader reader;
    float chunk[CHUNK * VCL_STRIPE_LANES];
    if (!vcl_matrix_lanes(m, kernels, tile, &lanes, &values, &reader))
        return VCL_E_FORMAT;
    for (uint32_t row = 0; row < rect.rows && !reader.damaged; row += VCL_STRIPE_LANES) {
        const struct vcl_stripe stripe = vcl_lanes_stripe(&lanes, row);
        vcl_lanes_begin(&reader);
        for (uint32_t c = 0; c < rect.cols; c += CHUNK) {
            const uint32_t count = (uint32_t)vcl_min(rect.cols - c, CHUNK);
            decode_chunk(&lanes, &stripe, &values, &reader, c, count, chunk);
            kernels->turn(chunk, VCL_STRIPE_LANES, count, (uint32_t)stripe.active, to + row * stride + c,
                          stride);
        }
    }
    return vcl_lanes_close(&lanes, &reader) ? VCL_OK : VCL_E_FORMAT;
}

/* One row of a tile where the coded matrix is the transpose of another than the tensor's. */
static void scatter_row(const struct window *w, struct vcl_rect rect, uint32_t row, const uint8_t *raw)
{
    enum { PIECE = 256 };
    const struct vcl_plan *const plan = &w->m->frame.plan;
    const size_t size = vcl_dtype_bits(w->m->frame.tensor.dtype) / 8;
    float piece[PIECE];
    for (uint32_t c = 0; c < rect.cols; c += PIECE) {
        const uint32_t count = (uint32_t)vcl_min(rect.cols - c, PIECE);
        float *const to = w->values + (rect.col + c) * plan->rows + rect.row + row;
        w->env->kernels->to_f32(w->m->frame.tensor.dtype, raw + c * size, piece, count);
        for (uint32_t i = 0; i < count; i++)
            to[i * plan->rows] = piece[i];
    }
}

/* Values of a tile in the tensor's dtype to their places. */
static void put_values(const struct window *w, struct vcl_rect rect, const uint8_t *raw)
{
    const enum vcl_dtype dtype = w->m->frame.tensor.dtype;
    const size_t bytes = rect.cols * (size_t)(vcl_dtype_bits(dtype) / 8);
    for (uint32_t r = 0; r < rect.rows; r++, raw += bytes)
        if (is_scattered(w->m))
            scatter_row(w, rect, r, raw);
        else
            w->env->kernels->to_f32(dtype, raw, w->values + place_of(w, rect, r), rect.cols);
}

static enum vcl_status fill_decoded(const struct window *w, uint64_t tile, struct vcl_rect rect,
                                    struct vcl_tile_work *work)
{
    vcl_tile_look_up(&w->m->frame, w->m->bytes, tile, work);
    work->stored = (uint8_t *)(uintptr_t)vcl_matrix_tile(w->m, tile, &work->size); /* only read */
    const enum vcl_status status = vcl_tile_decode(&w->m->frame, &w->coder, rect, work);
    if (!status)
        put_values(w, rect, work->raw);
    return status;
}

static enum vcl_status fill_exact(const struct window *w, uint64_t tile, struct vcl_rect rect)
{
    size_t bytes;
    const uint8_t *const raw = vcl_matrix_tile(w->m, tile, &bytes);
    if (bytes != (size_t)rect.rows * rect.cols * (vcl_dtype_bits(w->m->frame.tensor.dtype) / 8))
        return VCL_E_FORMAT;
    put_values(w, rect, raw);
    return VCL_OK;
}

static void fill_tile(void *user, size_t slot, unsigned thread)
{
    const struct window *const w = user;
    (void)thread;
    const uint64_t tile = w->tile + slot;
    const struct vcl_rect rect = vcl_plan_tile(&w->m->frame.plan, tile);
    if (w->m->fused)
        w->status[slot] = decode_fused(w->env->kernels, w->m, tile, w->values + place_of(w, rect, 0),
                                       (size_t)w->m->frame.plan.cols);
    else if (w->m->frame.codec == VCL_CODEC_EXACT)
        w->status[slot] = fill_exact(w, tile, rect);
    else
        w->status[slot] = fill_decoded(w, tile, rect, &w->works[slot]);
}

static const char *fault_of(const struct window *w, size_t slot)
{
    const char *const words = w->works ? w->works[slot].message : "";
    return words[0] ? words : "stored bytes are no stream of the frame's codec";
}

/* Tiles from first to end - 1, which follow those that are there. */
static enum vcl_status fill(struct window *w, uint64_t first, uint64_t end)
{
    for (w->tile = first; w->tile < end; w->tile += w->slots) {
        const size_t jobs = (size_t)vcl_min(end - w->tile, w->slots);
        if (is_cancelled(w->env))
            return vcl_env_fail(w->env, VCL_E_CANCELLED, "cancelled");
        for (size_t i = 0; i < jobs && w->works; i++)
            w->works[i].message[0] = 0;
        vcl_pool_run(w->env->pool, jobs, fill_tile, w);
        for (size_t i = 0; i < jobs; i++)
            if (w->status[i])
                return vcl_env_fail(w->env, w->status[i], "tile %llu: %s", (unsigned long long)(w->tile + i),
                                    fault_of(w, i));
    }
    return VCL_OK;
}

/* Outputs are a block of rows. */
static void multiply_rows(void *user, size_t job, unsigned thread)
{
    const struct window *const w = user;
    (void)thread;
    const size_t line = (size_t)w->m->line;
    const uint64_t row = w->row + job * VCL_BLOCK;
    const uint32_t rows = (uint32_t)vcl_min(w->row + w->rows - row, VCL_BLOCK);
    const float *const from = w->values + (row * line - w->first);
    float chunk[CHUNK * VCL_BLOCK] = { 0 };
    for (size_t c = 0; c < line; c += CHUNK) {
        const uint32_t count = (uint32_t)vcl_min(line - c, CHUNK);
        w->env->kernels->turn(from + c, line, rows, count, chunk, VCL_BLOCK);
        multiply_terms(w->env->kernels, w->v, chunk, VCL_BLOCK, c, count, row, rows);
    }
}

/* Columns that a job multiplies: a few jobs for every thread, but no slivers. */
static uint64_t slice_of(const struct window *w)
{
    const uint64_t least = 128, jobs = 4 * (uint64_t)vcl_pool_threads(w->env->pool);
    const uint64_t slice = vcl_round_up(vcl_ceil_div(w->m->line, jobs), VCL_BLOCK);
    return slice > least ? slice : least;
}

/* Rows of floats, `line` apart, of which the columns from `col` on are outputs and the rows from `row` on terms. */
struct columns {
    const float *values;
    size_t line;
    uint64_t row, rows, col, cols;
};

/* For several groups of vectors rows are brought together, since far apart they would fall on the same few lines
 * of the first cache. */
static void multiply_columns(const struct vcl_kernels *kernels, const struct vectors *v,
                             const struct columns *m)
{
    float panel[CHUNK * VCL_BLOCK] = { 0 };
    for (uint64_t row = 0; row < m->rows; row += CHUNK) {
        const uint32_t rows = (uint32_t)vcl_min(m->rows - row, CHUNK);
        const float *const from = m->values + row * m->line;
        for (size_t c = 0; c < m->cols; c += VCL_BLOCK) {
            const uint32_t cols = (uint32_t)vcl_min(m->cols - c, VCL_BLOCK);
            const int apart = cols == VCL_BLOCK && v->n <= VCL_GROUP;
            for (uint32_t r = 0; r < rows && !apart; r++)
                memcpy(panel + r * VCL_BLOCK, from + r * m->line + c, cols * sizeof *panel);
            multiply_terms(kernels, v, apart ? from + c : panel, apart ? m->line : VCL_BLOCK, m->row + row,
                           rows, m->col + c, cols);
        }
    }
}

static void multiply_cols(void *user, size_t job, unsigned thread)
{
    const struct window *const w = user;
    (void)thread;
    const uint64_t line = w->m->line, slice = slice_of(w), begin = job * slice;
    const struct columns columns = { .values = w->values + (w->row * line - w->first) + begin,
                                     .line = (size_t)line,
                                     .row = w->row,
                                     .rows = w->rows,
                                     .col = begin,
                                     .cols = vcl_min(begin + slice, line) - begin };
    multiply_columns(w->env->kernels, w->v, &columns);
}

/* Whole blocks of rows, and the last rows of all; the rest is moved to the front. */
static void multiply_window(struct window *w)
{
    const uint64_t line = w->m->line, block = line * VCL_BLOCK;
    const int last = w->end == w->m->frame.values;
    const uint64_t next = last ? w->end : w->end - w->end % block;
    w->row = w->first / line;
    w->rows = (next - w->first) / line;
    if (w->rows > 0 && w->along)
        vcl_pool_run(w->env->pool, (size_t)vcl_ceil_div(w->rows, VCL_BLOCK), multiply_rows, w);
    else if (w->rows > 0)
        vcl_pool_run(w->env->pool, (size_t)vcl_ceil_div(line, slice_of(w)), multiply_cols, w);
    memmove(w->values, w->values + (next - w->first), (size_t)(w->end - next) * sizeof *w->values);
    w->first = next;
}

/* Tiles that together are values in a row: one, those side by side, or all. */
static uint64_t tiles_in_unit(const struct vcl_matrix *m)
{
    const struct vcl_plan *const plan = &m->frame.plan;
    return is_scattered(m) ? plan->tiles : plan->rows == 1 ? 1 : plan->across;
}

/* Where the values end that the tiles before `tile` hold. */
static uint64_t end_of(const struct vcl_matrix *m, uint64_t tile)
{
    const struct vcl_plan *const plan = &m->frame.plan;
    if (tile >= plan->tiles)
        return m->frame.values;
    const struct vcl_rect rect = vcl_plan_tile(plan, tile);
    return rect.row * plan->cols + rect.col;
}

static enum vcl_status run_window(struct window *w, uint64_t unit)
{
    const uint64_t tiles = w->m->frame.plan.tiles;
    for (uint64_t tile = 0; tile < tiles; tile += unit) {
        const uint64_t next = vcl_min(tile + unit, tiles);
        const enum vcl_status status = fill(w, tile, next);
        if (status)
            return status;
        w->end = end_of(w->m, next);
        multiply_window(w);
    }
    return VCL_OK;
}

/* The most values that there are at once: of tiles that start at any multiple of `unit`, and less than a
 * block's before them. */
static uint64_t window_values(const struct vcl_matrix *m, uint64_t unit)
{
    uint64_t most = 0, block;
    for (uint64_t tile = 0; tile < m->frame.plan.tiles; tile += unit) {
        const uint64_t size = end_of(m, tile + unit) - end_of(m, tile);
        most = size > most ? size : most;
    }
    if (vcl_mul(m->line, VCL_BLOCK, &block) || block > m->frame.values)
        block = m->frame.values;
    return vcl_min(most + block, m->frame.values);
}

static enum vcl_status create_works(struct window *w)
{
    const struct vcl_mem *const mem = w->env->mem;
    const int decodes = !w->m->fused && w->m->frame.codec != VCL_CODEC_EXACT;
    w->status = vcl_alloc(mem, w->slots, sizeof *w->status);
    if (!decodes)
        return w->status ? VCL_OK : VCL_E_MEMORY;
    w->works = vcl_alloc(mem, w->slots, sizeof *w->works);
    w->stored = vcl_alloc(mem, w->slots, sizeof *w->stored);
    for (size_t i = 0; w->works && w->stored && i < w->slots; i++) {
        if (vcl_tile_work_create(mem, &w->m->frame, 1, &w->works[i]))
            return VCL_E_MEMORY;
        w->stored[i] = w->works[i].stored;
    }
    return w->status && w->works && w->stored ? VCL_OK : VCL_E_MEMORY;
}

static void destroy_works(struct window *w)
{
    const struct vcl_mem *const mem = w->env->mem;
    for (size_t i = 0; w->works && w->stored && i < w->slots; i++) {
        w->works[i].stored = w->stored[i];
        vcl_tile_work_destroy(mem, &w->works[i]);
    }
    vcl_free(mem, w->works);
    vcl_free(mem, w->stored);
    vcl_free(mem, w->status);
    vcl_free(mem, w->values);
}

static enum vcl_status multiply_through_window(const struct vcl_env *env, const struct vcl_matrix *m,
                                               int along, const struct vectors *v)
{
    const unsigned threads = vcl_pool_threads(env->pool);
    const uint64_t together = tiles_in_unit(m), unit = vcl_ceil_div(threads, together) * together;
    struct window w = { .env = env, .m = m, .v = v, .along = along };
    w.slots = (size_t)vcl_min(threads, m->frame.plan.tiles);
    w.coder = (struct vcl_tile_coder){ .kernels = env->kernels,
                                       .tables = m->tables,
                                       .video = env->video,
                                       .config = { .codec = m->frame.codec, .chroma = m->frame.chroma } };
    enum vcl_status status = create_works(&w);
    if (!status) {
        w.values = vcl_alloc_raw(env->mem, (size_t)window_values(m, unit), sizeof *w.values);
        status = w.values ? run_window(&w, unit) : VCL_E_MEMORY;
    }
    if (status == VCL_E_MEMORY)
        vcl_env_fail(env, status, "no memory for decoded rows");
    destroy_works(&w);
    return status;
}

/* ---- strips ------------------------------------------------------------------------------------ */

/* The product the other way round where tiles are narrow: rows of tiles side by side would be most of the
 * matrix, but each column of tiles has outputs of its own. */
struct strips {
    const struct vcl_env *env;
    const struct vcl_matrix *m;
    const struct vectors *v;
    float *values; /* a tile for every slot */
    uint64_t first;
    uint64_t *failed; /* by slot: the tile that is damaged, UINT64_MAX for none */
};

static size_t tile_values(const struct vcl_plan *plan)
{
    return (size_t)vcl_min(plan->tile_rows, plan->rows) * (size_t)vcl_min(plan->tile_cols, plan->cols);
}

static void multiply_strip(void *user, size_t slot, unsigned thread)
{
    const struct strips *const s = user;
    (void)thread;
    const struct vcl_plan *const plan = &s->m->frame.plan;
    float *const values = s->values + slot * tile_values(plan);
    s->failed[slot] = UINT64_MAX;
    for (uint64_t tile = s->first + slot; tile < plan->tiles; tile += plan->across) {
        const struct vcl_rect rect = vcl_plan_tile(plan, tile);
        const struct columns columns = { values, rect.cols, rect.row, rect.rows, rect.col, rect.cols };
        if (decode_fused(s->env->kernels, s->m, tile, values, rect.cols)) {
            s->failed[slot] = tile;
            return;
        }
        multiply_columns(s->env->kernels, s->v, &columns);
    }
}

static enum vcl_status multiply_strips(const struct vcl_env *env, const struct vcl_matrix *m,
                                       const struct vectors *v)
{
    const uint64_t across = m->frame.plan.across;
    const size_t slots = (size_t)vcl_min(vcl_pool_threads(env->pool), across);
    struct strips s = { .env = env, .m = m, .v = v };
    enum vcl_status status = VCL_OK;
    s.values = vcl_alloc_raw(env->mem, slots * tile_values(&m->frame.plan), sizeof *s.values);
    s.failed = vcl_alloc(env->mem, slots, sizeof *s.failed);
    if (!s.values || !s.failed)
        status = vcl_env_fail(env, VCL_E_MEMORY, "no memory for decoded tiles");
    for (; s.first < across && !status; s.first += slots) {
        const size_t jobs = (size_t)vcl_min(across - s.first, slots);
        if (is_cancelled(env))
            status = vcl_env_fail(env, VCL_E_CANCELLED, "cancelled");
        else
            vcl_pool_run(env->pool, jobs, multiply_strip, &s);
        if (!status)
            status = report_damage(env, s.failed, jobs);
    }
    vcl_free(env->mem, s.failed);
    vcl_free(env->mem, s.values);
    return status;
}

/* Enough strips for all threads: then they also take no more memory than a row of tiles. */
static int has_strips(const struct vcl_env *env, const struct vcl_matrix *m)
{
    const uint64_t across = m->frame.plan.across;
    return m->fused && m->turned && across > 1 && across >= vcl_pool_threads(env->pool);
}

/* ---- products ---------------------------------------------------------------------------------- */

static enum vcl_status multiply(const struct vcl_env *env, const struct vcl_matrix *m, int along,
                                const struct vectors *v)
{
    if (m->fused && along)
        return multiply_fused(env, m, v);
    return !along && has_strips(env, m) ? multiply_strips(env, m, v)
                                        : multiply_through_window(env, m, along, v);
}

enum vcl_status vcl_product(const struct vcl_env *env, const struct vcl_matrix *m, int transposed,
                            const float *x, size_t n, size_t x_stride, float *y, size_t y_stride)
{
    const uint64_t terms = transposed ? m->rows : m->cols, outputs = transposed ? m->cols : m->rows;
    const size_t most = n < VECTORS ? n : VECTORS;
    float *packed = NULL;
    enum vcl_status status = VCL_OK;
    for (size_t i = 0; i < n && outputs > 0; i++)
        memset(y + i * y_stride, 0, (size_t)outputs * sizeof *y);
    if (n == 0 || m->frame.values == 0)
        return VCL_OK;
    if (n > 1) {
        packed =
            terms <= SIZE_MAX / most ? vcl_alloc_raw(env->mem, most * (size_t)terms, sizeof *packed) : NULL;
        if (!packed)
            return vcl_env_fail(env, VCL_E_MEMORY, "no memory for packed vectors");
    }
    for (size_t i = 0; i < n && !status; i += most) {
        struct vectors v = { .x = packed, .n = n - i < most ? n - i : most, .terms = terms };
        v.y = y + i * y_stride;
        v.stride = y_stride;
        if (packed)
            pack(&v, x + i * x_stride, x_stride, packed);
        else
            v.x = x;
        status = multiply(env, m, m->turned == transposed, &v);
    }
    vcl_free(env->mem, packed);
    return status;
}
