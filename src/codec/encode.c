/* encode.c - a whole tensor to a frame.
 *
 * In: a source of values and a target.  Out: tiles and header, written to a sink.  One pass measures,
 * then the rate search runs passes with different steps; each writes its tiles where they would stand,
 * so the last one is already the frame when it meets the target.  Large tensors search on a few tiles
 * first.
 *
 * The step has three knobs, from coarse to fine: the depth of the samples, QP, and a multiplier on the
 * rounding step.  x, the logarithm of the step in levels of an 8-bit range, stands for all three.
 * Where even QP's finest is too coarse, the rounded tensor itself is coded exactly, and the multiplier
 * alone sets the rate. */
#include "encode.h"

#include "base/common.h"
#include "codec/rate.h"
#include "codec/walk.h"

#include <math.h>
#include <stdio.h>

enum { PROBE_TILES = 4, PROBE_ABOVE = 8 }; /* tensors of more tiles are searched on a few of them first */

struct setting {
    double x;
    int lossless;
};

struct encoder {
    const struct vcl_env *env;
    const struct vcl_source *source;
    const struct vcl_params *params;
    const struct vcl_sink *sink;
    struct vcl_frame frame;
    struct vcl_tile_coder coder;
    struct vcl_walk walk;
    uint8_t *table;
    uint64_t bound; /* nothing is written beyond */
    struct vcl_tile_stats stats;
    struct vcl_video_range ranges[3]; /* of depths 8, 10, 12; known[] says which were asked */
    int known[3];

    int writing;                     /* this pass: a whole one */
    uint64_t stored, tiles, sampled; /* its bytes, tiles and values so far */
    struct vcl_error_sums sums;
    struct setting last; /* of the last whole pass */
    int lossless;        /* what the search now running varies */
    int probing;
    double trials;
};

/* ---- passes ---------------------------------------------------------------------------------- */

static enum vcl_status read_tile(const struct encoder *e, struct vcl_rect rect, struct vcl_tile_work *work)
{
    const uint64_t bits = vcl_dtype_bits(e->frame.tensor.dtype);
    const int whole_rows = rect.cols == e->frame.plan.cols;
    const uint32_t reads = whole_rows ? 1 : rect.rows;
    const size_t bytes = (size_t)(rect.cols * bits / 8) * (whole_rows ? rect.rows : 1);
    for (uint32_t r = 0; r < reads; r++) {
        const uint64_t first = (rect.row + r) * e->frame.plan.cols + rect.col;
        const uint64_t offset = first / 8 * bits + first % 8 * bits / 8;
        if (e->source->read(e->source->user, offset, work->raw + r * bytes, bytes)) {
            snprintf(work->message, sizeof work->message, "reading %zu bytes at tensor offset %llu failed",
                     bytes, (unsigned long long)offset);
            return VCL_E_IO;
        }
    }
    return VCL_OK;
}

static enum vcl_status encode_tile(void *user, uint64_t tile, struct vcl_tile_work *work)
{
    const struct encoder *const e = user;
    const struct vcl_rect rect = vcl_plan_tile(&e->frame.plan, tile);
    const enum vcl_status status = read_tile(e, rect, work);
    return status ? status : vcl_tile_encode(&e->frame, &e->coder, rect, work);
}

static enum vcl_status write_tile(const struct encoder *e, uint64_t tile, const struct vcl_tile_work *work)
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
    struct encoder *const e = user;
    const struct vcl_rect rect = vcl_plan_tile(&e->frame.plan, tile);
    const enum vcl_status status = e->writing ? write_tile(e, tile, work) : VCL_OK;
    if (status)
        snprintf(work->message, sizeof work->message, "writing %zu bytes failed", work->size);
    e->stored += work->size;
    e->tiles++;
    e->sampled += (uint64_t)rect.rows * rect.cols;
    e->sums.signal += work->sums.signal;
    e->sums.error += work->sums.error;
    return status;
}

/* Codes all tiles, or with probing PROBE_TILES of them, with the frame's present settings. */
static enum vcl_status run_pass(struct encoder *e)
{
    const uint64_t tiles = e->frame.plan.tiles;
    e->writing = !e->probing;
    e->stored = e->tiles = e->sampled = 0;
    memset(&e->sums, 0, sizeof e->sums);
    const enum vcl_status status = e->probing
                                     ? vcl_walk_run(&e->walk, tiles / (2 * PROBE_TILES), tiles / PROBE_TILES,
                                                    PROBE_TILES, encode_tile, take_tile, e)
                                     : vcl_walk_run(&e->walk, 0, 1, tiles, encode_tile, take_tile, e);
    e->trials += (double)e->tiles / (double)(tiles ? tiles : 1);
    return status;
}

static uint64_t frame_bytes(const struct encoder *e)
{
    const double scale = e->sampled ? (double)e->frame.values / (double)e->sampled : 0;
    const uint64_t stored = e->probing ? (uint64_t)((double)e->stored * scale) : e->stored;
    return vcl_round_up(e->frame.header_bytes + stored, 8);
}

/* The header goes last: until then the frame is not one. */
static enum vcl_status write_header(struct encoder *e)
{
    uint8_t fields[VCL_FRAME_FIXED + 8 * VCL_MAX_RANK + 32], tail[8] = { 0 };
    const uint64_t end = e->frame.header_bytes + e->stored, table = e->frame.plan.tiles * VCL_TILE_ENTRY;
    XXH3_state_t hash;
    e->frame.frame_bytes = vcl_round_up(end, 8);
    const size_t n = vcl_frame_write(&e->frame, fields);
    XXH3_64bits_reset(&hash);
    XXH3_64bits_update(&hash, fields, n);
    XXH3_64bits_update(&hash, e->table, (size_t)table);
    vcl_store32(e->table + table, (uint32_t)XXH3_64bits_digest(&hash));
    const struct vcl_sink *const sink = e->sink;
    if ((e->frame.frame_bytes > end
         && sink->write(sink->user, end, tail, (size_t)(e->frame.frame_bytes - end)))
        || sink->write(sink->user, n, e->table, (size_t)table + 4) || sink->write(sink->user, 0, fields, n))
        return vcl_env_fail(e->env, VCL_E_IO, "writing the frame's header failed");
    return VCL_OK;
}

/* ---- settings -------------------------------------------------------------------------------- */

/* What the encoder can do at depth 8, 10 or 12, asked once. */
static enum vcl_status depth_range(struct encoder *e, int depth, const struct vcl_video_range **range)
{
    const int i = (depth - 8) / 2;
    char message[VCL_VIDEO_MESSAGE] = "";
    if (!e->known[i]) {
        const enum vcl_status status = e->env->video->range(&e->coder.config, depth, &e->ranges[i], message);
        if (status)
            return vcl_env_fail(e->env, status, "%s", message);
        e->known[i] = 1;
    }
    *range = &e->ranges[i];
    return VCL_OK;
}

/* Rounding to 8 bits adds 1/12 of a squared level of noise, a quantiser of step q adds q^2/12: where q
 * is 4 levels and more the former costs less than 0.05 bit. */
static int depth_wanted(const struct encoder *e, double x)
{
    if (e->params->depth)
        return e->params->depth;
    return x >= 2 ? 8 : x >= 0 ? 10 : 12;
}

/* The deepest depth up to the one wanted that works; 8 always must. */
static enum vcl_status choose_depth(struct encoder *e, int wanted, int lossless,
                                    const struct vcl_video_range **range)
{
    for (int depth = wanted;; depth -= 2) {
        const enum vcl_status status = depth_range(e, depth, range);
        if (!status && (*range)->works && (!lossless || (*range)->lossless)) {
            e->frame.depth = depth;
            return VCL_OK;
        }
        if (depth == 8 || e->params->depth)
            return status ? status
                          : vcl_env_fail(e->env, VCL_E_CODEC, "the encoder cannot code %d bits%s", depth,
                                         lossless ? " exactly" : "");
    }
}

static double range_of(const struct encoder *e)
{
    return e->frame.flags & VCL_FLAG_ROW_SCALES ? 1 : e->stats.absmax;
}

static enum vcl_status apply(struct encoder *e, struct setting setting)
{
    const struct vcl_video_range *range;
    const int wanted =
        setting.lossless ? (e->params->depth ? e->params->depth : 12) : depth_wanted(e, setting.x);
    const enum vcl_status status = choose_depth(e, wanted, setting.lossless, &range);
    double multiplier = exp2(setting.x);
    if (status)
        return status;
    e->coder.config.lossless = setting.lossless;
    if (!setting.lossless) {
        const double qp = floor(6 * setting.x + 4);
        e->coder.config.qp = (int)fmin(fmax(qp, range->qp_min), range->qp_max);
        multiplier = exp2(setting.x - (e->coder.config.qp - 4) / 6.0);
    }
    e->frame.step = (float)(fmax(multiplier, 1) * range_of(e) / ((1 << (e->frame.depth - 1)) - 1));
    return VCL_OK;
}

static enum vcl_status run_setting(struct encoder *e, struct setting setting, struct vcl_trial *trial)
{
    enum vcl_status status = apply(e, setting);
    if (!status)
        status = run_pass(e);
    if (status)
        return status;
    if (!e->probing)
        e->last = setting;
    trial->bits = 8 * (double)frame_bytes(e) / (double)e->frame.values;
    trial->snr = vcl_snr(&e->sums);
    return VCL_OK;
}

static enum vcl_status run_trial(void *user, double x, struct vcl_trial *trial)
{
    struct encoder *const e = user;
    return run_setting(e, (struct setting){ x, e->lossless }, trial);
}

/* ---- the search ------------------------------------------------------------------------------ */

/* Step for the target on a Gaussian of the tensor's deviation: an entropy-coded quantiser of step q
 * spends about log2(s/q) + 2.1 bits, less at low rates, and errs by q^2/12 (measured on x265,
 * docs/design.md). */
static double guess_x(const struct encoder *e)
{
    const double deviation = 127 * sqrt(e->stats.scaled_energy / (double)e->frame.values) / range_of(e);
    if (e->params->goal == VCL_GOAL_BITS)
        return log2(deviation) - 0.5 * log2((exp2(2 * e->params->target) - 1) / 18.8);
    return log2(deviation) + 0.5 * log2(12) - e->params->target / 6.0206;
}

static enum vcl_status search_setting(struct encoder *e, int lossless, double low, double high, double guess,
                                      struct vcl_rate_result *result)
{
    struct vcl_rate_search search = { e->params->goal, e->params->target, low, high, guess, e, run_trial };
    enum vcl_status status = VCL_OK;
    e->lossless = lossless;
    if (e->frame.plan.tiles > PROBE_ABOVE) {
        e->probing = 1;
        status = vcl_rate_run(&search, result);
        e->probing = 0;
        search.guess = result->found ? result->x : result->last_x;
    }
    return status ? status : vcl_rate_run(&search, result);
}

/* Finest step the encoder has, in x. */
static enum vcl_status lowest_x(struct encoder *e, double *low)
{
    const struct vcl_video_range *range;
    const enum vcl_status status = choose_depth(e, e->params->depth ? e->params->depth : 12, 0, &range);
    if (!status)
        *low = (range->qp_min - 4) / 6.0;
    return status;
}

/* The rounded tensor coded exactly: with the finest rounding first, which may be below the target
 * already (then the tensor is saturated), else as coarsely rounded as the target allows. */
static enum vcl_status search_exact(struct encoder *e, struct vcl_rate_result *result, unsigned *flags)
{
    struct vcl_trial trial;
    const struct setting finest = { 0, 1 };
    const enum vcl_goal goal = e->params->goal;
    enum vcl_status status = run_setting(e, finest, &trial);
    if (status)
        return status;
    const int meets = vcl_rate_meets(goal, e->params->target, &trial);
    if ((goal == VCL_GOAL_BITS) == meets) {
        *result = (struct vcl_rate_result){ meets, 0, trial, meets, 0 };
        *flags |= meets ? VCL_REPORT_SATURATED : 0;
        return VCL_OK;
    }
    const double gap =
        goal == VCL_GOAL_BITS ? trial.bits - e->params->target : (trial.snr - e->params->target) / 6.0206;
    return search_setting(e, 1, 0, e->frame.depth - 2, fmin(gap, 20), result);
}

/* Leaves the best setting's tiles in the sink.  *found: 0 if no setting meets the target. */
static enum vcl_status search(struct encoder *e, int *found, unsigned *flags)
{
    const double high = (51 - 4) / 6.0 + 6;
    struct vcl_rate_result lossy = { 0 }, exact = { 0 };
    struct setting best = { 0, 0 };
    double low;
    enum vcl_status status = lowest_x(e, &low);
    if (status)
        return status;
    const double guess = e->stats.energy > 0 ? guess_x(e) : -INFINITY;
    if (guess > low - 1)
        status = search_setting(e, 0, low, high, guess, &lossy);
    if (status)
        return status;
    const int at_the_end = !lossy.accepted && (lossy.last_x <= low + 0.01 || guess <= low - 1);
    const struct vcl_video_range *range;
    if (at_the_end && !choose_depth(e, e->params->depth ? e->params->depth : 12, 1, &range))
        status = search_exact(e, &exact, flags);
    if (status)
        return status;
    *found = lossy.found || exact.found;
    if (!*found)
        return VCL_OK;
    best = exact.found ? (struct setting){ exact.x, 1 } : (struct setting){ lossy.x, 0 };
    if (best.x == e->last.x && best.lossless == e->last.lossless)
        return VCL_OK;
    struct vcl_trial trial;
    return run_setting(e, best, &trial);
}

/* ---- the whole ------------------------------------------------------------------------------- */

static enum vcl_status measure_tile(void *user, uint64_t tile, struct vcl_tile_work *work)
{
    const struct encoder *const e = user;
    const struct vcl_rect rect = vcl_plan_tile(&e->frame.plan, tile);
    const enum vcl_status status = read_tile(e, rect, work);
    if (!status)
        vcl_tile_measure(&e->frame, rect, work, &work->stats);
    return status;
}

static enum vcl_status add_stats(void *user, uint64_t tile, struct vcl_tile_work *work)
{
    struct encoder *const e = user;
    (void)tile;
    e->stats.non_finite += work->stats.non_finite;
    e->stats.energy += work->stats.energy;
    e->stats.scaled_energy += work->stats.scaled_energy;
    e->stats.absmax = fmaxf(e->stats.absmax, work->stats.absmax);
    return VCL_OK;
}

/* Buffers and table for e->frame's plan. */
static enum vcl_status prepare(struct encoder *e)
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

static void release(struct encoder *e)
{
    vcl_walk_destroy(&e->walk);
    vcl_free(e->env->mem, e->table);
    e->table = NULL;
}

static enum vcl_status encode_exact(struct encoder *e)
{
    e->frame.codec = VCL_CODEC_EXACT;
    e->frame.flags = 0;
    vcl_plan_flat(e->frame.values, &e->frame.plan);
    enum vcl_status status = prepare(e);
    if (!status)
        status = run_pass(e);
    if (!status)
        status = write_header(e);
    release(e);
    return status;
}

static enum vcl_status encode_video(struct encoder *e, unsigned *flags)
{
    const struct vcl_params *const p = e->params;
    int found = 0;
    e->frame.codec = p->codec;
    e->frame.chroma = p->chroma;
    e->frame.seed = p->rotate ? p->seed : 0;
    e->frame.flags = (p->rotate ? VCL_FLAG_ROTATED : 0u) | (p->row_scales ? VCL_FLAG_ROW_SCALES : 0u);
    e->frame.flags |= VCL_FLAG_NON_FINITE; /* until measured, so that buffers have room for the lists */
    e->coder.video = e->env->video;
    e->coder.decoder = p->decoder;
    e->coder.config = (struct vcl_video_config){ p->codec, p->encoder, p->effort, p->chroma, 0, 0 };
    vcl_plan_pictures(&e->frame.tensor, e->frame.values, VCL_VIDEO_MAX_SIDE, &e->frame.plan);

    enum vcl_status status = prepare(e);
    if (!status)
        status = vcl_walk_run(&e->walk, 0, 1, e->frame.plan.tiles, measure_tile, add_stats, e);
    if (e->stats.non_finite == 0)
        e->frame.flags &= ~(uint32_t)VCL_FLAG_NON_FINITE;
    if (!status)
        status = search(e, &found, flags);
    if (!status && (!found || frame_bytes(e) > e->bound))
        status =
            vcl_env_fail(e->env, VCL_E_RATE, "%s cannot code this tensor at %g %s", vcl_codec_name(p->codec),
                         p->target, p->goal == VCL_GOAL_BITS ? "bits per value" : "dB");
    if (!status) {
        e->frame.snr = (float)vcl_snr(&e->sums);
        status = write_header(e);
    }
    release(e);
    return status;
}

static void fill_report(const struct encoder *e, unsigned flags, struct vcl_report *report)
{
    const int exact = e->frame.codec == VCL_CODEC_EXACT;
    if (!report)
        return;
    *report = (struct vcl_report){ .frame_bytes = e->frame.frame_bytes,
                                   .values = e->frame.values,
                                   .trials = e->trials,
                                   .codec = e->frame.codec,
                                   .flags = flags };
    report->bits = e->frame.values ? 8 * (double)e->frame.frame_bytes / (double)e->frame.values : 0;
    report->snr = exact ? INFINITY : vcl_snr(&e->sums);
    report->depth = exact ? 0 : e->frame.depth;
}

enum vcl_status vcl_encode_frame(const struct vcl_env *env, const struct vcl_tensor *tensor,
                                 const struct vcl_source *source, const struct vcl_params *params,
                                 const struct vcl_sink *sink, struct vcl_report *report)
{
    struct encoder e = { .env = env, .source = source, .params = params, .sink = sink };
    enum vcl_status status;
    unsigned flags = 0;
    e.frame.tensor = *tensor;
    vcl_tensor_size(tensor, &e.frame.values, NULL);
    e.bound = vcl_bound(tensor);
    const int fits =
        params->goal == VCL_GOAL_SNR || 8 * (double)e.bound <= params->target * (double)e.frame.values;
    if (params->codec == VCL_CODEC_EXACT || e.frame.values == 0)
        status = encode_exact(&e);
    else if (params->goal == VCL_GOAL_BITS && fits)
        flags = VCL_REPORT_FELL_BACK, status = encode_exact(&e);
    else
        status = encode_video(&e, &flags);
    if (status == VCL_E_RATE && fits) {
        flags = VCL_REPORT_FELL_BACK;
        status = encode_exact(&e);
    }
    if (!status)
        fill_report(&e, flags, report);
    return status;
}
