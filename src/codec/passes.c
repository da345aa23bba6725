/* passes.c - what an encoder does with all tiles of a tensor, or with a sample: reads, measures, codes.
 *
 * In: the frame and the coder as they now say.  Out: statistics, or tiles in the sink where they would
 * stand, with what they took.  A sample is made of stripes, or for video codecs of tiles, evenly spread. */
#include <math.h>
#include <stdio.h>

#include "base/common.h"
#include "base/dtype.h"
#include "base/transpose.h"
#include "codec/encoder.h"

/* ---- reading --------------------------------------------------------------------------------- */

/* `count` lines of `bytes` each, of the tensor's matrix (rows, or columns of its transpose), to dst. */
static enum vcl_status read_lines(const struct vcl_encoder *e, uint64_t first_value, uint64_t line_values,
                                  uint64_t count, size_t bytes, uint8_t *dst, struct vcl_tile_work *work)
{
    for (uint64_t i = 0; i < count; i++) {
        const uint64_t offset = vcl_dtype_bytes(e->frame.tensor.dtype, first_value + i * line_values);
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
    const enum vcl_dtype dtype = e->frame.tensor.dtype;
    const uint64_t cols = e->frame.plan.cols;
    const int whole_rows = rect.cols == cols;
    work->raw = work->own;
    if (e->frame.flags & VCL_FLAG_TRANSPOSED)
        return read_transposed(e, rect, work);
    if (whole_rows && e->source->base) { /* only read from */
        work->raw = (uint8_t *)(uintptr_t)e->source->base + vcl_dtype_bytes(dtype, rect.row * cols);
        return VCL_OK;
    }
    return read_lines(e, rect.row * cols + rect.col, cols, whole_rows ? 1 : rect.rows,
                      (size_t)vcl_dtype_bytes(dtype, rect.cols) * (whole_rows ? rect.rows : 1), work->raw,
                      work);
}

/* ---- samples --------------------------------------------------------------------------------- */

/* A tile, or in a sample of the tensor codec a unit. */
static struct vcl_rect piece(const struct vcl_encoder *e, uint64_t i)
{
    return e->pass == VCL_PASS_SAMPLE && e->frame.codec == VCL_CODEC_TENSOR
             ? vcl_plan_unit(&e->frame.plan, i)
             : vcl_plan_tile(&e->frame.plan, i);
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
    if (e->pass != VCL_PASS_SAMPLE)
        return (struct sample){ 0, 1, plan->tiles };
    if (e->frame.codec != VCL_CODEC_TENSOR)
        return spread(plan->tiles, VCL_PROBE_TILES);
    if (vcl_encoder_samples_all(e))
        return (struct sample){ 0, 1, vcl_plan_units(plan) };
    const uint64_t values = VCL_UNIT_ROWS * vcl_min(plan->tile_cols, plan->cols);
    const uint64_t wanted = vcl_ceil_div(VCL_SAMPLE_VALUES, values);
    struct sample sample = spread(vcl_plan_units(plan), wanted < 4 ? 4 : wanted);
    if (e->params->row_floor > 0 && plan->across > 1 && sample.step % plan->across == 0)
        sample.step -= plan->across > sample.count ? plan->across / sample.count : 1; /* other columns too */
    return sample;
}

/* What is coded of piece i: of a sample's wide ones some columns here, others there. */
static struct vcl_rect coded_piece(const struct vcl_encoder *e, uint64_t i)
{
    struct vcl_rect rect = piece(e, i);
    const uint64_t parts = rect.cols / VCL_PROBE_COLS;
    if (e->pass != VCL_PASS_SAMPLE || e->frame.codec != VCL_CODEC_TENSOR || e->params->feedback || parts < 2
        || vcl_encoder_samples_all(e))
        return rect;
    const struct sample sample = sample_of(e);
    rect.col += (i - sample.first) / sample.step % parts * VCL_PROBE_COLS;
    rect.cols = VCL_PROBE_COLS;
    return rect;
}

int vcl_encoder_samples_all(const struct vcl_encoder *e) { return e->frame.values <= 2 * VCL_SAMPLE_VALUES; }

enum vcl_status
vcl_encoder_walk_sample(struct vcl_encoder *e,
                        enum vcl_status (*work)(void *user, uint64_t unit, struct vcl_tile_work *buffers),
                        enum vcl_status (*done)(void *user, uint64_t unit, struct vcl_tile_work *buffers))
{
    e->pass = VCL_PASS_SAMPLE;
    const struct sample sample = sample_of(e);
    return vcl_walk_run(&e->walk, sample.first, sample.step, sample.count, work, done, e);
}

/* ---- measuring ------------------------------------------------------------------------------- */

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
    e->stats.lively += work->stats.lively;
    e->stats.largest = fmaxf(e->stats.largest, work->stats.largest);
    e->stats.absmax = fmaxf(e->stats.absmax, work->stats.absmax);
    for (uint32_t c = 0; e->col_energy && c < rect.cols; c++) {
        e->col_energy[rect.col + c] += work->col_energy[c];
        e->col_sum[rect.col + c] += work->col_sum[c];
    }
    return VCL_OK;
}

enum vcl_status vcl_encoder_measure(struct vcl_encoder *e, enum vcl_pass pass)
{
    e->pass = pass;
    const struct sample sample = sample_of(e);
    memset(&e->stats, 0, sizeof e->stats);
    e->sampled = 0;
    if (e->col_energy) {
        memset(e->col_energy, 0, (size_t)e->frame.plan.cols * sizeof *e->col_energy);
        memset(e->col_sum, 0, (size_t)e->frame.plan.cols * sizeof *e->col_sum);
    }
    return vcl_walk_run(&e->walk, sample.first, sample.step, sample.count, measure_tile, add_stats, e);
}

/* ---- coding ---------------------------------------------------------------------------------- */

static enum vcl_status encode_tile(void *user, uint64_t tile, struct vcl_tile_work *work)
{
    const struct vcl_encoder *const e = user;
    const struct vcl_rect rect = coded_piece(e, tile);
    const enum vcl_status status = vcl_encoder_read(e, rect, work);
    if (status)
        return status;
    const enum vcl_status coded = vcl_tile_encode(&e->frame, &e->coder, rect, work);
    if (!coded && e->floor.size && e->pass != VCL_PASS_SAMPLE)
        vcl_floor_sum(e, rect, work);
    return coded;
}

static enum vcl_status write_tile(const struct vcl_encoder *e, uint64_t tile,
                                  const struct vcl_tile_work *work)
{
    const uint64_t offset = e->frame.header_bytes + e->stored;
    const struct vcl_tile_entry entry = { (uint32_t)work->size, work->stored_hash, work->decoded_hash };
    vcl_frame_write_entry(&entry, e->table + tile * VCL_TILE_ENTRY);
    if (offset + work->size > e->bound)
        return VCL_OK; /* this pass cannot be kept: only its size is of interest */
    return e->sink->write(e->sink->user, offset, work->stored, work->size) ? VCL_E_IO : VCL_OK;
}

static enum vcl_status take_tile(void *user, uint64_t tile, struct vcl_tile_work *work)
{
    struct vcl_encoder *const e = user;
    const struct vcl_rect rect = coded_piece(e, tile);
    const enum vcl_status status = e->pass != VCL_PASS_SAMPLE ? write_tile(e, tile, work) : VCL_OK;
    if (status)
        snprintf(work->message, sizeof work->message, "writing %zu bytes failed", work->size);
    e->stored += work->size;
    e->tiles++;
    e->aside += work->stats.non_finite;
    e->sampled += (uint64_t)rect.rows * rect.cols;
    e->sums.signal += work->sums.signal;
    e->sums.error += work->sums.error;
    e->sums.max_error = fmax(e->sums.max_error, work->sums.max_error);
    if (e->floor.size && e->pass != VCL_PASS_SAMPLE)
        vcl_floor_add(e, rect, work);
    if (e->coder.counting)
        vcl_tensor_counts_add(&e->counts, work->counts);
    return status;
}

/* Codes with the frame's present settings. */
static enum vcl_status run_pass(struct vcl_encoder *e)
{
    const struct sample sample = sample_of(e);
    e->stored = e->tiles = e->sampled = e->aside = 0;
    memset(&e->sums, 0, sizeof e->sums);
    memset(&e->counts, 0, sizeof e->counts);
    if (e->pass != VCL_PASS_SAMPLE)
        vcl_floor_forget(e);
    const enum vcl_status status =
        vcl_walk_run(&e->walk, sample.first, sample.step, sample.count, encode_tile, take_tile, e);
    e->trials += (double)e->sampled / (double)(e->frame.values ? e->frame.values : 1);
    return status;
}

/* Of a sample, its bytes in proportion; what every piece starts with is there once a tile only. */
uint64_t vcl_encoder_frame_bytes(const struct vcl_encoder *e)
{
    const double scale = e->sampled ? (double)e->frame.values / (double)e->sampled : 0;
    const uint64_t start = e->frame.codec == VCL_CODEC_TENSOR ? vcl_tensor_start_bytes(&e->frame) : 0;
    uint64_t stored = e->stored;
    if (e->pass == VCL_PASS_SAMPLE)
        stored = (uint64_t)((double)(e->stored - e->tiles * start) * scale) + e->frame.plan.tiles * start;
    return vcl_round_up(e->frame.header_bytes + stored, 8);
}

enum vcl_status vcl_encoder_pass(struct vcl_encoder *e, enum vcl_pass pass, struct vcl_trial *trial)
{
    e->pass = pass;
    e->coder.counting = pass != VCL_PASS_WHOLE && e->frame.codec == VCL_CODEC_TENSOR;
    enum vcl_status status = run_pass(e);
    if (!status && e->aside > 0 && !(e->frame.flags & VCL_FLAG_NON_FINITE)) {
        e->frame.flags |= VCL_FLAG_NON_FINITE; /* they need a list */
        status = run_pass(e);
    }
    trial->bits = 8 * (double)vcl_encoder_frame_bytes(e) / (double)e->frame.values;
    trial->snr = vcl_snr(&e->sums);
    return status;
}
