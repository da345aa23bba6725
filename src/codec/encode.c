/* encode.c - a whole tensor to a frame.
 *
 * In: a source of values and a target.  Out: tiles and header, written to a sink.  One pass measures, then
 * the codec's search runs passes with different steps; each writes its tiles where they would stand, so the
 * last one is already the frame when it meets the target.  Large tensors search on a few tiles first. */
#include "encode.h"

#include <math.h>
#include <stdio.h>

#include "base/common.h"
#include "base/transpose.h"
#include "codec/encoder.h"

/* ---- passes ---------------------------------------------------------------------------------- */

/* `count` lines of `bytes` each, of the tensor's matrix (rows, or columns of its transpose), to dst. */
static enum vcl_status read_lines(const struct vcl_encoder *e, uint64_t first_value, uint64_t line_values,
                                  uint64_t count, size_t bytes, uint8_t *dst, struct vcl_tile_work *work)
{
    const uint64_t bits = vcl_dtype_bits(e->frame.tensor.dtype);
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t first = first_value + i * line_values,
                       offset = first / 8 * bits + first % 8 * bits / 8;
        if (e->source->read(e->source->user, offset, dst + i * bytes, bytes)) {
            snprintf(work->message, sizeof work->message, "reading %zu bytes at tensor offset %llu failed",
                     bytes, (unsigned long long)offset);
            return VCL_E_IO;
        }
    }
    return VCL_OK;
}

/* The tensor's rows are the coded matrix' columns: some at a time. */
static enum vcl_status read_transposed(const struct vcl_encoder *e, struct vcl_rect rect,
                                       struct vcl_tile_work *work)
{
    const size_t size = vcl_dtype_bits(e->frame.tensor.dtype) / 8;
    const uint64_t rows = e->frame.plan.rows;
    for (uint32_t c = 0; c < rect.cols; c += VCL_TRANSPOSED_LINES) {
        const uint32_t n = (uint32_t)vcl_min(rect.cols - c, VCL_TRANSPOSED_LINES);
        const enum vcl_status status =
            read_lines(e, (rect.col + c) * rows + rect.row, rows, n, rect.rows * size, work->lines, work);
        if (status)
            return status;
        vcl_transpose(work->lines, n, rect.rows, size, rect.rows, work->raw + c * size, rect.cols);
    }
    return VCL_OK;
}

enum vcl_status vcl_encoder_read(const struct vcl_encoder *e, struct vcl_rect rect,
                                 struct vcl_tile_work *work)
{
    const uint64_t bits = vcl_dtype_bits(e->frame.tensor.dtype), cols = e->frame.plan.cols;
    const int whole_rows = rect.cols == cols;
    work->raw = work->own;
    if (e->frame.flags & VCL_FLAG_TRANSPOSED)
        return read_transposed(e, rect, work);
    if (whole_rows && e->source->base) { /* only read from */
        const uint64_t first = rect.row * cols;
        work->raw = (uint8_t *)(uintptr_t)e->source->base + first / 8 * bits + first % 8 * bits / 8;
        return VCL_OK;
    }
    return read_lines(e, rect.row * cols + rect.col, cols, whole_rows ? 1 : rect.rows,
                      (size_t)(rect.cols * bits / 8) * (whole_rows ? rect.rows : 1), work->raw, work);
}

/* A tile, or when the tensor codec probes a unit. */
static struct vcl_rect piece(const struct vcl_encoder *e, uint64_t i)
{
    return e->probing && e->frame.codec == VCL_CODEC_TENSOR ? vcl_plan_unit(&e->frame.plan, i)
                                                            : vcl_plan_tile(&e->frame.plan, i);
}

static enum vcl_status encode_tile(void *user, uint64_t tile, struct vcl_tile_work *work)
{
    const struct vcl_encoder *const e = user;
    const struct vcl_rect rect = piece(e, tile);
    const enum vcl_status status = vcl_encoder_read(e, rect, work);
    return status ? status : vcl_tile_encode(&e->frame, &e->coder, rect, work);
}

static enum vcl_status write_tile(const struct vcl_encoder *e, uint64_t tile,
                                  const struct vcl_tile_work *work)
{
    const uint64_t offset = e->frame.header_bytes + e->stored;
    uint8_t *const entry = e->table + tile * VCL_TILE_ENTRY;
    vcl_store32(entry, (uint32_t)work->size);
    vcl_store32(entry + 4, work->stored_hash);
    vcl_store32(entry + 8, work->decoded_hash);
    if (offset + work->size > e->bound)
        return VCL_OK; /* this pass cannot be kept: only its size is of interest */
    return e->sink->write(e->sink->user, offset, work->stored, work->size) ? VCL_E_IO : VCL_OK;
}

static enum vcl_status take_tile(void *user, uint64_t tile, struct vcl_tile_work *work)
{
    struct vcl_encoder *const e = user;
    const struct vcl_rect rect = piece(e, tile);
    const enum vcl_status status = !e->probing ? write_tile(e, tile, work) : VCL_OK;
    if (status)
        snprintf(work->message, sizeof work->message, "writing %zu bytes failed", work->size);
    e->stored += work->size;
    e->tiles++;
    e->aside += work->stats.non_finite;
    e->sampled += (uint64_t)rect.rows * rect.cols;
    e->sums.signal += work->sums.signal;
    e->sums.error += work->sums.error;
    e->sums.max_error = fmax(e->sums.max_error, work->sums.max_error);
    if (e->coder.counting)
        vcl_tensor_counts_add(&e->counts, work->counts);
    return status;
}

struct sample {
    uint64_t first, step, count;
};

static struct sample spread(uint64_t all, uint64_t wanted)
{
    const uint64_t count = vcl_min(all, wanted), step = count ? all / count : 1;
    return (struct sample){ step / 2, step, count };
}

static struct sample sample_of(const struct vcl_encoder *e)
{
    const struct vcl_plan *const plan = &e->frame.plan;
    if (!e->probing)
        return (struct sample){ 0, 1, plan->tiles };
    if (e->frame.codec != VCL_CODEC_TENSOR)
        return spread(plan->tiles, VCL_PROBE_TILES);
    if (vcl_encoder_samples_all(e))
        return (struct sample){ 0, 1, vcl_plan_units(plan) };
    const uint64_t values = VCL_UNIT_ROWS * vcl_min(plan->tile_cols, plan->cols);
    const uint64_t wanted = vcl_ceil_div(VCL_SAMPLE_VALUES, values);
    return spread(vcl_plan_units(plan), wanted < 4 ? 4 : wanted);
}

int vcl_encoder_samples_all(const struct vcl_encoder *e) { return e->frame.values <= 2 * VCL_SAMPLE_VALUES; }

enum vcl_status
vcl_encoder_walk_sample(struct vcl_encoder *e,
                        enum vcl_status (*work)(void *user, uint64_t unit, struct vcl_tile_work *buffers),
                        enum vcl_status (*done)(void *user, uint64_t unit, struct vcl_tile_work *buffers))
{
    e->probing = 1;
    const struct sample sample = sample_of(e);
    const enum vcl_status status =
        vcl_walk_run(&e->walk, sample.first, sample.step, sample.count, work, done, e);
    e->probing = 0;
    return status;
}

/* Codes all tiles, or when probing a sample, with the frame's present settings. */
static enum vcl_status run_pass(struct vcl_encoder *e)
{
    const struct sample sample = sample_of(e);
    e->stored = e->tiles = e->sampled = e->aside = 0;
    memset(&e->sums, 0, sizeof e->sums);
    memset(&e->counts, 0, sizeof e->counts);
    const enum vcl_status status =
        vcl_walk_run(&e->walk, sample.first, sample.step, sample.count, encode_tile, take_tile, e);
    e->trials += (double)e->sampled / (double)(e->frame.values ? e->frame.values : 1);
    return status;
}

/* When probing, the sample's bytes in proportion; what every piece starts with is there once a tile only. */
static uint64_t frame_bytes(const struct vcl_encoder *e)
{
    const double scale = e->sampled ? (double)e->frame.values / (double)e->sampled : 0;
    const uint64_t start = e->frame.codec == VCL_CODEC_TENSOR ? vcl_tensor_start_bytes(&e->frame) : 0;
    uint64_t stored = e->stored;
    if (e->probing)
        stored = (uint64_t)((double)(e->stored - e->tiles * start) * scale) + e->frame.plan.tiles * start;
    return vcl_round_up(e->frame.header_bytes + stored, 8);
}

enum vcl_status vcl_encoder_pass(struct vcl_encoder *e, struct vcl_trial *trial)
{
    enum vcl_status status = run_pass(e);
    if (!status && e->aside > 0 && !(e->frame.flags & VCL_FLAG_NON_FINITE)) {
        e->frame.flags |= VCL_FLAG_NON_FINITE; /* they need a list */
        status = run_pass(e);
    }
    trial->bits = 8 * (double)frame_bytes(e) / (double)e->frame.values;
    trial->snr = vcl_snr(&e->sums);
    return status;
}

/* The header goes last: until then the frame is not one. */
static enum vcl_status write_header(struct vcl_encoder *e)
{
    uint8_t fields[VCL_FRAME_FIELDS], tail[8] = { 0 };
    const uint64_t end = e->frame.header_bytes + e->stored, table = e->frame.plan.tiles * VCL_TILE_ENTRY;
    XXH3_state_t hash;
    e->frame.frame_bytes = vcl_round_up(end, 8);
    const size_t n = vcl_frame_write(&e->frame, fields);
    XXH3_64bits_reset(&hash);
    XXH3_64bits_update(&hash, fields, n);
    XXH3_64bits_update(&hash, e->frame.side, e->frame.side_bytes);
    XXH3_64bits_update(&hash, e->table, (size_t)table);
    vcl_store32(e->table + table, (uint32_t)XXH3_64bits_digest(&hash));
    const struct vcl_sink *const sink = e->sink;
    if ((e->frame.frame_bytes > end
         && sink->write(sink->user, end, tail, (size_t)(e->frame.frame_bytes - end)))
        || sink->write(sink->user, n + e->frame.side_bytes, e->table, (size_t)table + 4)
        || sink->write(sink->user, n, e->frame.side, e->frame.side_bytes)
        || sink->write(sink->user, 0, fields, n))
        return vcl_env_fail(e->env, VCL_E_IO, "writing the frame's header failed");
    return VCL_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

static enum vcl_status measure_tile(void *user, uint64_t tile, struct vcl_tile_work *work)
{
    const struct vcl_encoder *const e = user;
    const struct vcl_rect rect = piece(e, tile);
    const enum vcl_status status = vcl_encoder_read(e, rect, work);
    return status ? status : vcl_tile_measure(&e->frame, &e->coder, rect, work, &work->stats);
}

static enum vcl_status add_stats(void *user, uint64_t tile, struct vcl_tile_work *work)
{
    struct vcl_encoder *const e = user;
    const struct vcl_rect rect = piece(e, tile);
    e->sampled += (uint64_t)rect.rows * rect.cols;
    e->stats.non_finite += work->stats.non_finite;
    e->stats.energy += work->stats.energy;
    e->stats.scaled_energy += work->stats.scaled_energy;
    e->stats.log_deviation += work->stats.log_deviation;
    e->stats.absmax = fmaxf(e->stats.absmax, work->stats.absmax);
    for (uint32_t c = 0; e->col_energy && c < rect.cols; c++) {
        e->col_energy[rect.col + c] += work->col_energy[c];
        e->col_sum[rect.col + c] += work->col_sum[c];
    }
    return VCL_OK;
}

enum vcl_status vcl_encoder_measure(struct vcl_encoder *e)
{
    const struct sample sample = sample_of(e);
    memset(&e->stats, 0, sizeof e->stats);
    e->sampled = 0;
    if (e->col_energy) {
        memset(e->col_energy, 0, (size_t)e->frame.plan.cols * sizeof *e->col_energy);
        memset(e->col_sum, 0, (size_t)e->frame.plan.cols * sizeof *e->col_sum);
    }
    return vcl_walk_run(&e->walk, sample.first, sample.step, sample.count, measure_tile, add_stats, e);
}

/* Buffers and table for e->frame's plan. */
static enum vcl_status prepare(struct vcl_encoder *e)
{
    const uint64_t bytes = vcl_frame_header_bytes(&e->frame);
    if (bytes == UINT64_MAX)
        return vcl_env_fail(e->env, VCL_E_LIMIT, "too many tiles for one frame");
    e->frame.header_bytes = (uint32_t)bytes;
    e->table = vcl_alloc(e->env->mem, (size_t)e->frame.plan.tiles * VCL_TILE_ENTRY + 4, 1);
    if (!e->table)
        return vcl_env_fail(e->env, VCL_E_MEMORY, "no memory for the tile table");
    return vcl_walk_create(e->env, &e->frame, 0, &e->walk);
}

static void release(struct vcl_encoder *e)
{
    const struct vcl_mem *const mem = e->env->mem;
    vcl_walk_destroy(&e->walk);
    vcl_free(mem, e->table);
    vcl_free(mem, e->col_energy);
    vcl_free(mem, e->col_sum);
    vcl_tensor_tables_destroy(mem, e->tables);
    vcl_free(mem, e->side);
    e->table = e->side = NULL;
    e->col_energy = e->col_sum = NULL;
    e->tables = NULL;
    e->coder.tables = NULL;
}

static enum vcl_status encode_exact(struct vcl_encoder *e, enum vcl_codec codec)
{
    e->frame.codec = codec;
    e->frame.flags = 0;
    e->frame.side_bytes = 0;
    e->coder.counting = 0; /* a search that failed may have been */
    vcl_plan_flat(e->frame.values, &e->frame.plan);
    enum vcl_status status = prepare(e);
    if (!status)
        status = run_pass(e);
    if (!status)
        status = write_header(e);
    release(e);
    return status;
}

/* The plan and the parameters that hold for the whole search. */
static void choose_frame(struct vcl_encoder *e)
{
    const struct vcl_params *const p = e->params;
    e->frame.codec = p->codec;
    const int scalar = p->disable & VCL_STAGE_TRELLIS || p->goal == VCL_GOAL_ERROR;
    const int rotated = p->rotate && p->goal != VCL_GOAL_ERROR;
    e->frame.seed = rotated ? p->seed : 0;
    e->frame.flags = rotated ? VCL_FLAG_ROTATED : 0u;
    e->frame.flags |= VCL_FLAG_NON_FINITE; /* until measured, so that buffers have room for the lists */
    if (p->codec == VCL_CODEC_TENSOR) {
        static const int states[10] = { 0, 0, 2, 3, 3, 3, 4, 5, 6, 8 };
        e->frame.flags |= p->transpose ? VCL_FLAG_TRANSPOSED : 0u;
        vcl_plan_stripes(&e->frame.tensor, e->frame.values, p->transpose, &e->frame.plan, &e->frame.lanes);
        e->frame.states = scalar ? 0 : states[p->effort];
        e->frame.shift = VCL_SHIFT_MAX; /* likewise */
        return;
    }
    vcl_plan_pictures(&e->frame.tensor, e->frame.values, VCL_VIDEO_MAX_SIDE, &e->frame.plan);
    e->frame.chroma = p->chroma;
    e->frame.flags |= p->row_scales ? VCL_FLAG_ROW_SCALES : 0u;
    e->coder.video = e->env->video;
    e->coder.decoder = p->decoder;
    e->coder.config = (struct vcl_video_config){ p->codec, p->encoder, p->effort, p->chroma, 0, 0 };
}

static enum vcl_status create_tables(struct vcl_encoder *e)
{
    const struct vcl_mem *const mem = e->env->mem;
    e->col_energy = vcl_alloc(mem, (size_t)e->frame.plan.cols, sizeof *e->col_energy);
    e->col_sum = vcl_alloc(mem, (size_t)e->frame.plan.cols, sizeof *e->col_sum);
    e->tables = vcl_tensor_tables_create(mem, e->env->kernels, &e->frame);
    e->coder.tables = e->tables;
    return e->col_energy && e->col_sum && e->tables
             ? VCL_OK
             : vcl_env_fail(e->env, VCL_E_MEMORY, "no memory for the model's tables");
}

static enum vcl_status measure_video(struct vcl_encoder *e)
{
    const enum vcl_status status = vcl_encoder_measure(e);
    if (e->stats.non_finite == 0)
        e->frame.flags &= ~(uint32_t)VCL_FLAG_NON_FINITE;
    return status;
}

static enum vcl_status search_tensor(struct vcl_encoder *e, int *found)
{
    enum vcl_status status = create_tables(e);
    if (!status)
        status = vcl_analyse(e);
    return status ? status : vcl_search_tensor(e, found);
}

static enum vcl_status search_video(struct vcl_encoder *e, int *found, unsigned *flags)
{
    const enum vcl_status status = measure_video(e);
    return status ? status : vcl_search_video(e, found, flags);
}

static const char *const goal_units[] = { "bits per value", "dB", "of largest error" };

static enum vcl_status encode_lossy(struct vcl_encoder *e, unsigned *flags)
{
    const struct vcl_params *const p = e->params;
    int found = 0;
    choose_frame(e);
    enum vcl_status status = prepare(e);
    if (!status)
        status = p->codec == VCL_CODEC_TENSOR ? search_tensor(e, &found) : search_video(e, &found, flags);
    /* A flat picture meets any rate: values so small, or so unlike in size, that all of them round to 0. */
    if (*flags & VCL_REPORT_SATURATED && e->sums.signal > 0 && vcl_snr(&e->sums) <= 0)
        found = 0;
    if (!status && (!found || frame_bytes(e) > e->bound))
        status = vcl_env_fail(e->env, VCL_E_RATE, "%s cannot code this tensor at %g %s",
                              vcl_codec_name(p->codec), p->target, goal_units[p->goal]);
    if (!status) {
        e->frame.snr = (float)vcl_snr(&e->sums);
        status = write_header(e);
    }
    release(e);
    return status;
}

static void fill_report(const struct vcl_encoder *e, unsigned flags, struct vcl_report *report)
{
    const int exact = vcl_codec_is_exact(e->frame.codec);
    if (!report)
        return;
    *report = (struct vcl_report){ .frame_bytes = e->frame.frame_bytes,
                                   .values = e->frame.values,
                                   .trials = e->trials,
                                   .codec = e->frame.codec,
                                   .flags = flags };
    report->bits = e->frame.values ? 8 * (double)e->frame.frame_bytes / (double)e->frame.values : 0;
    report->snr = exact ? INFINITY : vcl_snr(&e->sums);
    report->max_error = exact ? 0 : e->sums.max_error;
    report->depth = exact ? 0 : e->frame.depth;
}

enum vcl_status vcl_encode_frame(const struct vcl_env *env, const struct vcl_tensor *tensor,
                                 const struct vcl_source *source, const struct vcl_params *params,
                                 const struct vcl_sink *sink, struct vcl_report *report)
{
    struct vcl_encoder e = { .env = env, .source = source, .params = params, .sink = sink };
    enum vcl_status status;
    unsigned flags = 0;
    e.frame.tensor = *tensor;
    vcl_tensor_size(tensor, &e.frame.values, NULL);
    e.coder.kernels = env->kernels;
    e.bound = vcl_bound(tensor);
    const int fits =
        params->goal != VCL_GOAL_BITS || 8 * (double)e.bound <= params->target * (double)e.frame.values;
    if (params->codec == VCL_CODEC_LOSSLESS)
        status = encode_exact(&e, VCL_CODEC_LOSSLESS);
    else if (params->codec == VCL_CODEC_EXACT || e.frame.values == 0)
        status = encode_exact(&e, VCL_CODEC_EXACT);
    else if (params->goal == VCL_GOAL_BITS && fits)
        flags = VCL_REPORT_FELL_BACK, status = encode_exact(&e, VCL_CODEC_LOSSLESS);
    else
        status = encode_lossy(&e, &flags);
    if (status == VCL_E_RATE && fits) {
        flags = VCL_REPORT_FELL_BACK;
        status = encode_exact(&e, VCL_CODEC_LOSSLESS);
    }
    if (!status)
        fill_report(&e, flags, report);
    return status;
}
