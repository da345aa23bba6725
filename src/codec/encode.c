/* encode.c - a whole tensor to a frame.
 *
 * In: a source of values and a target.  Out: tiles and header, written to a sink.  The codec's search runs
 * passes with different steps; each writes its tiles where they would stand, so the last one is already
 * the frame when it meets the target. */
#include "encode.h"

#include <math.h>
#include <stdio.h>

#include "base/common.h"
#include "codec/encoder.h"

/* ---- the header ------------------------------------------------------------------------------ */

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
        || (e->frame.side_bytes > 0 && sink->write(sink->user, n, e->frame.side, e->frame.side_bytes))
        || sink->write(sink->user, 0, fields, n))
        return vcl_env_fail(e->env, VCL_E_IO, "writing the frame's header failed");
    return VCL_OK;
}

/* ---- the whole ------------------------------------------------------------------------------- */

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
    struct vcl_trial trial;
    e->frame.codec = codec;
    e->frame.flags = 0;
    e->frame.side_bytes = 0;
    e->coder.counting = 0; /* a search that failed may have been */
    vcl_plan_flat(e->frame.values, &e->frame.plan);
    enum vcl_status status = prepare(e);
    if (!status)
        status = vcl_encoder_pass(e, &trial);
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
        static const int states[10] = { 0, 0, 2, 3, 3, 4, 5, 6, 7, 8 };
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

static enum vcl_status search_tensor(struct vcl_encoder *e, int *found, unsigned *flags)
{
    enum vcl_status status = create_tables(e);
    if (!status)
        status = vcl_analyse(e);
    return status ? status : vcl_search_tensor(e, found, flags);
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
        status =
            p->codec == VCL_CODEC_TENSOR ? search_tensor(e, &found, flags) : search_video(e, &found, flags);
    /* A flat picture meets any rate: values so small, or so unlike in size, that all of them round to 0. */
    if (*flags & VCL_REPORT_SATURATED && e->sums.signal > 0 && vcl_snr(&e->sums) <= 0)
        found = 0;
    if (!status && (!found || vcl_encoder_frame_bytes(e) > e->bound))
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
