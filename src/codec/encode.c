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
#include "codec/palette.h"

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

/* What analysis and search have filled. */
static void release_tables(struct vcl_encoder *e)
{
    const struct vcl_mem *const mem = e->env->mem;
    vcl_free(mem, e->col_energy);
    vcl_free(mem, e->col_sum);
    vcl_tensor_tables_destroy(mem, e->tables);
    vcl_free(mem, e->side);
    e->side = NULL;
    e->col_energy = e->col_sum = NULL;
    e->tables = NULL;
    e->coder.tables = NULL;
}

static void release(struct vcl_encoder *e)
{
    vcl_walk_destroy(&e->walk);
    vcl_free(e->env->mem, e->table);
    e->table = NULL;
    release_tables(e);
    vcl_floor_free(e);
}

/* A frame of all bytes; or only *bytes, how many it would take, and nothing that is written. */
static enum vcl_status code_exactly(struct vcl_encoder *e, enum vcl_codec codec, uint64_t *bytes)
{
    const uint64_t bound = e->bound;
    struct vcl_trial trial;
    e->frame.codec = codec;
    e->frame.flags = 0;
    e->frame.side_bytes = 0;
    vcl_plan_flat(e->frame.values, &e->frame.plan);
    enum vcl_status status = prepare(e);
    e->bound = bytes ? 0 : bound;
    if (!status)
        status = vcl_encoder_pass(e, VCL_PASS_WHOLE, &trial);
    e->bound = bound;
    if (!status && bytes)
        *bytes = vcl_encoder_frame_bytes(e);
    if (!status && !bytes)
        status = write_header(e);
    release(e);
    return status;
}

static enum vcl_status encode_exact(struct vcl_encoder *e, enum vcl_codec codec)
{
    return code_exactly(e, codec, NULL);
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
        const int floored = p->row_floor > 0, transpose = p->transpose || floored;
        e->frame.flags |= transpose ? VCL_FLAG_TRANSPOSED : 0u;
        vcl_plan_stripes(&e->frame.tensor, e->frame.values, transpose, &e->frame.plan, &e->frame.lanes);
        if (floored)
            vcl_plan_columns(&e->frame.plan);
        e->frame.states = scalar ? 0 : states[p->effort];
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
    const enum vcl_status status = vcl_encoder_measure(e, VCL_PASS_WHOLE);
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

/* Again with finer steps for the rows that came out below their floor, while there are bits for them. */
static enum vcl_status search_rows(struct vcl_encoder *e, int *found, unsigned *flags)
{
    enum { TRIES = 6 };
    const struct vcl_frame fresh = e->frame;
    enum vcl_status status = vcl_floor_begin(e);
    for (int i = 0, again = 1; i < TRIES && again && !status; i++) {
        status = vcl_floor_choose(e);
        if (status || (i > 0 && e->floor.all))
            break;
        release_tables(e);
        e->frame = fresh;
        *found = 0;
        *flags = 0;
        status = search_tensor(e, found, flags);
        again = !status && vcl_floor_raise(e);
    }
    e->row_snr = status ? NAN : vcl_floor_worst(e);
    return status;
}

static enum vcl_status search_video(struct vcl_encoder *e, int *found, unsigned *flags)
{
    const enum vcl_status status = measure_video(e);
    return status ? status : vcl_search_video(e, found, flags);
}

static const char *const goal_units[] = { "bits per value", "dB", "of largest error", "as half-step" };

static enum vcl_status miss(const struct vcl_encoder *e)
{
    const struct vcl_params *const p = e->params;
    return vcl_env_fail(e->env, VCL_E_RATE, "%s cannot code this tensor at %g %s", vcl_codec_name(p->codec),
                        p->target, goal_units[p->goal]);
}

/* Bits from which on a target that nothing meets is better missed by an exact frame than by one of zeros. */
#define LITTLE 0.5

/* Zeros meet any rate; where it had room for more, values are so small, or so unlike in size, that all of
 * them round to 0. */
static int has_room(const struct vcl_encoder *e)
{
    const double used = 8 * (double)vcl_encoder_frame_bytes(e) / (double)e->frame.values;
    return e->params->goal == VCL_GOAL_BITS && used < 0.5 * e->params->target && e->params->target >= LITTLE;
}

static enum vcl_status encode_lossy(struct vcl_encoder *e, int nearest, unsigned *flags)
{
    const struct vcl_params *const p = e->params;
    int found = 0;
    *flags = 0;
    choose_frame(e);
    enum vcl_status status = prepare(e);
    if (!status && p->codec != VCL_CODEC_TENSOR)
        status = search_video(e, &found, flags);
    else if (!status)
        status = p->row_floor > 0 ? search_rows(e, &found, flags) : search_tensor(e, &found, flags);
    const int lost = e->sums.signal > 0 && vcl_snr(&e->sums) <= 0;
    *flags |= (nearest && !found ? VCL_REPORT_MISSED : 0u) | (lost ? VCL_REPORT_ZERO : 0u);
    if (vcl_snr(&e->sums) < 0 || (lost && has_room(e)))
        found = nearest = 0;
    if (!status && ((!found && !nearest) || vcl_encoder_frame_bytes(e) > e->bound))
        status = miss(e);
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
    report->row_snr = !(e->params->row_floor > 0) ? NAN : exact ? INFINITY : e->row_snr;
}

/* ---- exact where exact is no larger --------------------------------------------------------------- */

enum { SPOTS = 4, LOOK = 256, READ = 4096 }; /* places looked at; values looked at; values that are coded */

/* Reads n values in the middle of one of SPOTS equal parts. */
static enum vcl_status read_spot(const struct vcl_encoder *e, int spot, uint64_t n, uint8_t *raw,
                                 uint64_t *first)
{
    const uint64_t w = vcl_dtype_bits(e->frame.tensor.dtype) / 8, part = e->frame.values / SPOTS;
    *first = part * (uint64_t)spot + (part > n ? (part - n) / 2 : 0);
    *first = vcl_min(*first, e->frame.values - n);
    return e->source->read(e->source->user, *first * w, raw, (size_t)(n * w))
             ? vcl_env_fail(e->env, VCL_E_IO, "reading a sample of the tensor failed")
             : VCL_OK;
}

/* Of the spots: the least and the most values that differ among LOOK neighbours, or among all there are. */
struct unlike {
    uint64_t looked_at;
    unsigned least, most;
};

static enum vcl_status count_unlike(const struct vcl_encoder *e, struct unlike *unlike)
{
    const size_t w = vcl_dtype_bits(e->frame.tensor.dtype) / 8;
    const uint64_t look = vcl_min(LOOK, e->frame.values);
    struct vcl_palette_finder *const finder = vcl_palette_create(e->env->mem);
    uint8_t raw[LOOK * 8];
    enum vcl_status status = finder ? VCL_OK : vcl_env_fail(e->env, VCL_E_MEMORY, "no memory for a sample");
    uint64_t first;
    *unlike = (struct unlike){ look, LOOK, 0 };
    for (int i = 0; i < SPOTS && !status; i++) {
        status = read_spot(e, i, look, raw, &first);
        const unsigned count = status ? 0 : vcl_palette_unlike(finder, raw, (size_t)look, (unsigned)w);
        unlike->least = count < unlike->least ? count : unlike->least;
        unlike->most = count > unlike->most ? count : unlike->most;
    }
    vcl_palette_destroy(e->env->mem, finder);
    return status;
}

/* Do the values of a small tensor lie on few points, so that what a step gives depends on how it falls on
 * them? */
static enum vcl_status look_for_points(struct vcl_encoder *e)
{
    struct unlike unlike;
    if (e->params->codec != VCL_CODEC_TENSOR || e->frame.values > VCL_SMALL)
        return VCL_OK;
    const enum vcl_status status = count_unlike(e, &unlike);
    e->few_points = !status && 2 * unlike.most <= unlike.looked_at;
    return status;
}

/* Bits a value that a sample takes, coded losslessly. */
static enum vcl_status estimate_exact(const struct vcl_encoder *e, double *bits)
{
    const struct vcl_tensor *const tensor = &e->frame.tensor;
    const size_t w = vcl_dtype_bits(tensor->dtype) / 8;
    const uint64_t read = vcl_min(READ, e->frame.values);
    uint8_t *const raw = vcl_alloc_raw(e->env->mem, (size_t)read, w);
    enum vcl_status status = raw ? VCL_OK : vcl_env_fail(e->env, VCL_E_MEMORY, "no memory for a sample");
    uint64_t first;
    *bits = 0;
    for (int i = 0; i < SPOTS && !status; i++) {
        status = read_spot(e, i, read, raw, &first);
        if (!status)
            *bits += vcl_lossless_estimate(e->env->mem, e->env->kernels, tensor, first, raw, (size_t)read * w)
                   / SPOTS;
    }
    vcl_free(e->env->mem, raw);
    return status;
}

/* Could a lossless frame take no more than so many bits a value?  Few values that differ among neighbours say
 * so, else only a sample coded losslessly, for rates at which that could be.  A small tensor is
 * always tried. */
static enum vcl_status may_be_exact(const struct vcl_encoder *e, double bits, int *may)
{
    enum { ORDINARY = 200, MANY = 8 }; /* of LOOK neighbours; bits below which unlike values are not exact */
    struct unlike unlike;
    double exact;
    *may = e->frame.values <= VCL_SMALL;
    if (*may)
        return VCL_OK;
    if (bits < MANY) {
        const enum vcl_status status = count_unlike(e, &unlike);
        if (status || unlike.least > ORDINARY)
            return status;
    }
    const enum vcl_status status = estimate_exact(e, &exact);
    *may = !status && exact <= 1.3 * bits + 0.2;
    return status;
}

/* Writes a lossless frame where it takes no more than so many bytes. */
static enum vcl_status try_exact(struct vcl_encoder *e, double most_bytes, int *written)
{
    uint64_t bytes = 0;
    enum vcl_status status = most_bytes < INFINITY ? code_exactly(e, VCL_CODEC_LOSSLESS, &bytes) : VCL_OK;
    *written = !status && (double)bytes <= most_bytes;
    return *written ? encode_exact(e, VCL_CODEC_LOSSLESS) : status;
}

/* The same in place of the lossy frame just written, where it is no larger. */
static enum vcl_status replace_by_exact(struct vcl_encoder *e, int *written)
{
    const struct vcl_frame frame = e->frame;
    const struct vcl_error_sums sums = e->sums;
    const double bytes = (double)frame.frame_bytes;
    enum vcl_status status = may_be_exact(e, 8 * bytes / (double)frame.values, written);
    if (!status && *written)
        status = try_exact(e, bytes, written);
    if (!*written) {
        e->frame = frame;
        e->sums = sums;
    }
    return status;
}

/* A frame that meets the target, exact where that is no larger. */
static enum vcl_status encode_well(struct vcl_encoder *e, unsigned *flags)
{
    const struct vcl_params *const p = e->params;
    const int by_bits = p->goal == VCL_GOAL_BITS;
    const double room = by_bits ? p->target * (double)e->frame.values / 8 : INFINITY;
    int exact = 0;
    enum vcl_status status = look_for_points(e);
    if (!status && by_bits)
        status = may_be_exact(e, p->target, &exact);
    const int tried = exact;
    if (!status && exact)
        status = try_exact(e, room, &exact);
    if (!status && !exact)
        status = encode_lossy(e, 0, flags);
    if (status == VCL_E_RATE) {
        status = tried ? VCL_OK : try_exact(e, room, &exact);
        if (!status && !exact)
            status = p->nearest && by_bits && p->target < LITTLE ? encode_lossy(e, 1, flags) : miss(e);
    }
    if (status == VCL_E_RATE && p->nearest) { /* nothing else works */
        *flags = VCL_REPORT_MISSED;
        status = try_exact(e, INFINITY, &exact);
    }
    if (!status && !exact && (!by_bits || *flags & VCL_REPORT_MISSED))
        status = replace_by_exact(e, &exact);
    if (exact)
        *flags = VCL_REPORT_FELL_BACK | (*flags & VCL_REPORT_MISSED);
    return status;
}

static struct vcl_encoder encoder_of(const struct vcl_env *env, const struct vcl_tensor *tensor,
                                     const struct vcl_source *source, const struct vcl_params *params,
                                     const struct vcl_sink *sink)
{
    struct vcl_encoder e = { .env = env, .source = source, .params = params, .sink = sink };
    e.frame.tensor = *tensor;
    vcl_tensor_size(tensor, &e.frame.values, NULL);
    e.coder.kernels = env->kernels;
    e.bound = vcl_bound(tensor);
    return e;
}

enum vcl_status vcl_encode_frame(const struct vcl_env *env, const struct vcl_tensor *tensor,
                                 const struct vcl_source *source, const struct vcl_params *params,
                                 const struct vcl_sink *sink, struct vcl_report *report)
{
    struct vcl_encoder e = encoder_of(env, tensor, source, params, sink);
    enum vcl_status status;
    unsigned flags = 0;
    if (params->codec == VCL_CODEC_LOSSLESS)
        status = encode_exact(&e, VCL_CODEC_LOSSLESS);
    else if (params->codec == VCL_CODEC_EXACT || e.frame.values == 0)
        status = encode_exact(&e, VCL_CODEC_EXACT);
    else
        status = encode_well(&e, &flags);
    if (!status)
        fill_report(&e, flags, report);
    return status;
}

/* ---- recipes --------------------------------------------------------------------------------------- */

static enum vcl_status make_recipe(const struct vcl_encoder *e, struct vcl_recipe **recipe)
{
    uint8_t *const bytes = vcl_alloc_raw(e->env->mem, vcl_recipe_bound(e->frame.plan.cols), 1);
    if (!bytes)
        return vcl_env_fail(e->env, VCL_E_MEMORY, "no memory for a recipe");
    const size_t size = vcl_recipe_write(&e->frame, e->tables, bytes);
    const enum vcl_status status = vcl_recipe_make(e->env, bytes, size, recipe);
    vcl_free(e->env->mem, bytes);
    return status;
}

enum vcl_status vcl_learn_recipe(const struct vcl_env *env, const struct vcl_tensor *tensor,
                                 const struct vcl_source *source, const struct vcl_params *params,
                                 struct vcl_recipe **recipe, struct vcl_report *report)
{
    static const struct vcl_sink nowhere;
    struct vcl_encoder e = encoder_of(env, tensor, source, params, &nowhere);
    unsigned flags = 0;
    int found = 0;
    e.bound = 0; /* nothing is written */
    choose_frame(&e);
    enum vcl_status status = look_for_points(&e);
    if (!status)
        status = prepare(&e);
    if (!status)
        status = search_tensor(&e, &found, &flags);
    const int nothing = !(vcl_snr(&e.sums) > 0) && params->goal != VCL_GOAL_STEP;
    if (!status && (nothing || (!found && !params->nearest)))
        status = miss(&e);
    if (!status)
        status = make_recipe(&e, recipe);
    if (!status) {
        e.frame.frame_bytes = vcl_encoder_frame_bytes(&e);
        fill_report(&e, flags | (found ? 0u : VCL_REPORT_MISSED), report);
    }
    release(&e);
    return status;
}

/* The recipe's part of the frame, and its tables, which stay its own. */
static void take_recipe(const struct vcl_recipe *recipe, struct vcl_encoder *e)
{
    const struct vcl_tensor tensor = e->frame.tensor;
    const uint64_t values = e->frame.values;
    e->frame = recipe->frame;
    e->frame.tensor = tensor;
    e->frame.values = values;
    vcl_plan_stripes(&tensor, values, (e->frame.flags & VCL_FLAG_TRANSPOSED) != 0, &e->frame.plan,
                     &e->frame.lanes);
    e->frame.flags |= VCL_FLAG_NON_FINITE; /* so that buffers have room for the lists */
    e->tables = recipe->tables;
    e->coder.tables = recipe->tables;
}

/* *worth: the frame is one that may be written. */
static enum vcl_status encode_once(struct vcl_encoder *e, const struct vcl_recipe *recipe, int *worth)
{
    struct vcl_trial trial;
    take_recipe(recipe, e);
    enum vcl_status status = prepare(e);
    e->frame.flags &= ~(uint32_t)VCL_FLAG_NON_FINITE;
    if (!status)
        status = vcl_encoder_pass(e, VCL_PASS_WHOLE, &trial);
    *worth =
        !status && vcl_encoder_frame_bytes(e) <= e->bound && !(e->sums.signal > 0 && vcl_snr(&e->sums) <= 0);
    if (*worth) {
        e->frame.snr = (float)vcl_snr(&e->sums);
        status = write_header(e);
    }
    e->tables = NULL; /* the recipe's */
    release(e);
    return status;
}

enum vcl_status vcl_encode_with_recipe(const struct vcl_env *env, const struct vcl_recipe *recipe,
                                       const struct vcl_tensor *tensor, const struct vcl_source *source,
                                       const struct vcl_sink *sink, struct vcl_report *report)
{
    static const struct vcl_params plain = { .codec = VCL_CODEC_TENSOR };
    struct vcl_encoder e = encoder_of(env, tensor, source, &plain, sink);
    int worth = 0;
    enum vcl_status status = VCL_OK;
    if (e.frame.values > 0)
        status = encode_once(&e, recipe, &worth);
    if (!status && !worth)
        status = encode_exact(&e, VCL_CODEC_LOSSLESS);
    if (!status)
        fill_report(&e, worth ? 0 : VCL_REPORT_FELL_BACK, report);
    return status;
}
