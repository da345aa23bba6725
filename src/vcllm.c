/* vcllm.c - the public API of vcllm.h: checks every argument, then calls the floor below. */
#include "vcllm.h"

#include "base/common.h"
#include "base/cpu.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/sized.h"
#include "codec/decode.h"
#include "codec/encode.h"
#include "codec/floor.h"
#include "codec/frame.h"
#include "codec/matrix.h"
#include "codec/product.h"
#include "context.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

#define TEXT_OF(x) #x
#define TEXT(x) TEXT_OF(x)

const char *vcl_version(void)
{
    return TEXT(VCL_VERSION_MAJOR) "." TEXT(VCL_VERSION_MINOR) "." TEXT(VCL_VERSION_PATCH);
}

/* ---- contexts -------------------------------------------------------------------------------- */

void vcl_options_init_sized(struct vcl_options *options, size_t size)
{
    const struct vcl_options defaults = { .threads = 1 };
    vcl_init_sized(&defaults, sizeof defaults, options, size);
}

/* Bytes of freed buffers that a context keeps for its next call: about a tile's. */
#define SPARES_PER_THREAD ((size_t)40 << 20)

static int copy_module_dir(struct vcl_context *ctx, const char *dir)
{
    if (!dir)
        return 1;
    ctx->module_dir = vcl_alloc(&ctx->mem, strlen(dir) + 1, 1);
    if (ctx->module_dir)
        memcpy(ctx->module_dir, dir, strlen(dir) + 1);
    return ctx->module_dir != NULL;
}

/* The portable loops stand for all of the codec, which is compiled as they are. */
static int rounds_products(const struct vcl_kernels *kernels)
{
    return vcl_kernels_for(VCL_CPU_C)->rounds_products() && kernels->rounds_products();
}

unsigned vcl_cpu(void) { return vcl_cpu_level(); }

/* The caller's options as the library has them, and its allocator; 0 where they cannot be. */
static int take_options(const struct vcl_options *given, struct vcl_options *taken, struct vcl_mem *mem)
{
    vcl_options_init(taken);
    if ((given && !vcl_take_sized(given, taken, sizeof *taken)) || !taken->allocate != !taken->release)
        return 0;
    *mem = vcl_mem_default();
    if (taken->allocate)
        *mem = (struct vcl_mem){ taken->user, taken->allocate, taken->release, NULL };
    return 1;
}

enum vcl_status vcl_pool_create(const struct vcl_options *given, struct vcl_pool **pool)
{
    struct vcl_options options;
    struct vcl_mem mem;
    if (!pool || !take_options(given, &options, &mem))
        return VCL_E_ARGUMENT;
    *pool = vcl_pool_make(&mem, options.threads);
    return *pool ? VCL_OK : VCL_E_MEMORY;
}

enum vcl_status vcl_context_create(const struct vcl_options *given, struct vcl_context **out)
{
    struct vcl_options options;
    struct vcl_mem mem;
    if (!out || !take_options(given, &options, &mem))
        return VCL_E_ARGUMENT;
    if (!rounds_products(vcl_kernels_for(vcl_cpu_level())))
        return VCL_E_BUILD;
    struct vcl_context *ctx = vcl_alloc(&mem, 1, sizeof *ctx);
    if (!ctx)
        return VCL_E_MEMORY;
    ctx->mem = mem;
    ctx->options = options;
    ctx->kernels = vcl_kernels_for(vcl_cpu_level());
    ctx->pool = options.pool ? options.pool : vcl_pool_make(&ctx->mem, options.threads);
    if (!ctx->pool || !copy_module_dir(ctx, options.module_dir)
        || !vcl_mem_keep(&ctx->mem, SPARES_PER_THREAD * vcl_pool_threads(ctx->pool))) {
        vcl_context_destroy(ctx);
        return VCL_E_MEMORY;
    }
    *out = ctx;
    return VCL_OK;
}

void vcl_context_destroy(struct vcl_context *ctx)
{
    if (!ctx)
        return;
    if (!ctx->options.pool)
        vcl_pool_destroy(ctx->pool);
    vcl_video_unload(&ctx->module);
    vcl_free(&ctx->mem, ctx->module_dir);
    vcl_mem_drop(&ctx->mem);
    const struct vcl_mem mem = ctx->mem;
    vcl_free(&mem, ctx);
}

const char *vcl_context_message(const struct vcl_context *ctx) { return ctx->message; }

static enum vcl_status fail(struct vcl_context *ctx, enum vcl_status status, const char *why)
{
    return vcl_context_fail(ctx, status, why);
}

static enum vcl_status need_video(struct vcl_context *ctx, const struct vcl_video **video)
{
    char message[VCL_VIDEO_MESSAGE] = "";
    if (!ctx->module.handle) {
        const enum vcl_status status = vcl_video_load(ctx->module_dir, &ctx->module, message);
        if (status)
            return fail(ctx, status, message);
    }
    *video = ctx->module.video;
    return VCL_OK;
}

/* Everything a call needs for this codec. */
static enum vcl_status open_env(struct vcl_context *ctx, enum vcl_codec codec, struct vcl_env *env)
{
    *env = vcl_context_env(ctx);
    return vcl_codec_is_video(codec) ? need_video(ctx, &env->video) : VCL_OK;
}

/* ---- encoding -------------------------------------------------------------------------------- */

void vcl_params_init_sized(struct vcl_params *params, size_t size)
{
    const struct vcl_params defaults = { .codec = VCL_CODEC_TENSOR,
                                         .goal = VCL_GOAL_BITS,
                                         .target = 2.9,
                                         .effort = 5,
                                         .objective = VCL_OBJECTIVE_MSE,
                                         .seed = 1,
                                         .chroma = 400 };
    vcl_init_sized(&defaults, sizeof defaults, params, size);
}

enum vcl_status vcl_coded_shape(const struct vcl_tensor *tensor, int transpose, uint64_t *rows,
                                uint64_t *cols)
{
    struct vcl_plan plan;
    uint64_t values;
    int lanes;
    const enum vcl_status status = vcl_tensor_size(tensor, &values, NULL);
    if (status)
        return status;
    vcl_plan_stripes(tensor, values, transpose, &plan, &lanes);
    if (rows)
        *rows = plan.rows;
    if (cols)
        *cols = plan.cols;
    return VCL_OK;
}

/* 2^32.  Errors stay below 2^16 half-steps, columns' steps within 2^16 of the frame's either way, columns of
 * a tile below 2^16: sums stay below 2^96, in which no f32 overflows. */
#define FEEDBACK_MAX 4294967296.f

static int feedback_is_bounded(const float *feedback, uint64_t cols)
{
    for (uint64_t c = 1; c < cols; c++)
        for (uint64_t k = 0; k < c; k++)
            if (!(fabsf(feedback[c * cols + k]) <= FEEDBACK_MAX))
                return 0;
    return 1;
}

static const char *weights_fault(const struct vcl_tensor *tensor, const struct vcl_params *p)
{
    uint64_t cols;
    if (!p->col_weight && !p->feedback)
        return NULL;
    if (vcl_coded_shape(tensor, p->transpose, NULL, &cols) || cols != p->columns)
        return "params.columns is not the number of columns of the coded matrix";
    if (p->rotate)
        return "params.col_weight and feedback exclude params.rotate";
    for (uint64_t c = 0; p->col_weight && c < cols; c++)
        if (!(p->col_weight[c] > 0 && p->col_weight[c] <= FLT_MAX))
            return "params.col_weight must be above 0 and finite";
    if (p->feedback && !feedback_is_bounded(p->feedback, cols))
        return "params.feedback must be finite and at most 2^32 in magnitude";
    return NULL;
}

static const char *floor_fault(const struct vcl_tensor *tensor, const struct vcl_params *p)
{
    if (!(p->row_floor >= 0 && p->row_floor <= 60))
        return "params.row_floor must be 0 to 60 dB";
    if (p->row_floor == 0)
        return NULL;
    if (p->codec != VCL_CODEC_TENSOR || p->goal != VCL_GOAL_BITS)
        return "params.row_floor is for the tensor codec and a target in bits";
    if (p->rotate || p->col_weight || p->feedback)
        return "params.row_floor excludes params.rotate, col_weight and feedback";
    return vcl_floor_fits(tensor)
             ? NULL
             : "params.row_floor is for tensors of 32 rows and more of 64 values and more";
}

/* What is wrong with the parameters; NULL if nothing. */
static const char *params_fault(const struct vcl_tensor *tensor, const struct vcl_params *p)
{
    if (vcl_codec_is_exact(p->codec))
        return NULL;
    if (!vcl_codec_is_video(p->codec) && p->codec != VCL_CODEC_TENSOR)
        return "params.codec must be exact, lossless, h264, h265 or tensor";
    if (!vcl_dtype_is_float(tensor->dtype))
        return "only F16, BF16, F32 and F64 tensors can be coded lossily";
    if (p->goal != VCL_GOAL_BITS && p->goal != VCL_GOAL_SNR && p->goal != VCL_GOAL_ERROR
        && p->goal != VCL_GOAL_STEP)
        return "params.goal is none of vcl_goal";
    if (p->goal == VCL_GOAL_BITS && !(p->target >= 0.01 && p->target <= 64))
        return "params.target must be 0.01 to 64 bits per value";
    if (p->goal == VCL_GOAL_SNR && !(p->target >= -10 && p->target <= 200))
        return "params.target must be -10 to 200 dB";
    if (p->goal == VCL_GOAL_ERROR && !(p->target > 0 && p->target <= DBL_MAX))
        return "params.target must be an error above 0 and finite";
    if (p->goal == VCL_GOAL_STEP && !(p->target >= FLT_MIN && p->target <= FLT_MAX))
        return "params.target must be a step above 0 and finite";
    if (p->goal == VCL_GOAL_STEP && p->codec != VCL_CODEC_TENSOR)
        return "params.target as a step is for the tensor codec alone";
    if (p->goal == VCL_GOAL_ERROR && (p->codec != VCL_CODEC_TENSOR || p->feedback))
        return "params.target as a largest error is for the tensor codec alone, and not with feedback";
    if (p->objective != VCL_OBJECTIVE_MODEL && p->objective != VCL_OBJECTIVE_MSE)
        return "params.objective is none of vcl_objective";
    if (p->disable > 2 * VCL_STAGE_CENTROIDS - 1)
        return "params.disable has a bit that is no VCL_STAGE_*";
    if (p->effort < 1 || p->effort > 9)
        return "params.effort must be 1 to 9";
    if (p->depth != 0 && p->depth != 8 && p->depth != 10 && p->depth != 12)
        return "params.depth must be 0, 8, 10 or 12";
    if (p->chroma != 400 && p->chroma != 420)
        return "params.chroma must be 400 or 420";
    const char *const fault = floor_fault(tensor, p);
    return fault || p->codec != VCL_CODEC_TENSOR ? fault : weights_fault(tensor, p);
}

/* params and report are the library's own. */
static enum vcl_status encode(struct vcl_context *ctx, const struct vcl_tensor *tensor,
                              const struct vcl_source *source, const struct vcl_params *params,
                              const struct vcl_sink *sink, struct vcl_report *report)
{
    struct vcl_env env;
    enum vcl_status status = vcl_tensor_size(tensor, NULL, NULL);
    if (status || vcl_bound(tensor) == 0)
        return fail(ctx, status ? status : VCL_E_LIMIT, "the tensor's dtype or shape is impossible");
    const char *const fault = params_fault(tensor, params);
    if (fault)
        return fail(ctx, VCL_E_ARGUMENT, fault);
    status = open_env(ctx, params->codec, &env);
    return status ? status : vcl_encode_frame(&env, tensor, source, params, sink, report);
}

/* The caller's params as the library has them; NULL, or what is wrong with them or with the report. */
static const char *take_params(const struct vcl_params *params, struct vcl_params *taken,
                               const struct vcl_report *report)
{
    vcl_params_init(taken);
    if (!vcl_take_sized(params, taken, sizeof *taken))
        return "params.size is none (call vcl_params_init), or params of a newer version";
    return report && !vcl_is_sized(report) ? "report.size must be sizeof report" : NULL;
}

enum vcl_status vcl_encode(struct vcl_context *ctx, const struct vcl_tensor *tensor,
                           const struct vcl_source *source, const struct vcl_params *params,
                           const struct vcl_sink *sink, struct vcl_report *report)
{
    struct vcl_params taken;
    struct vcl_report own = { 0 };
    if (!ctx)
        return VCL_E_ARGUMENT;
    ctx->message[0] = 0;
    if (!tensor || !source || !source->read || !params || !sink || !sink->write)
        return fail(ctx, VCL_E_ARGUMENT, "a NULL argument");
    const char *const fault = take_params(params, &taken, report);
    if (fault)
        return fail(ctx, VCL_E_ARGUMENT, fault);
    const enum vcl_status status = encode(ctx, tensor, source, &taken, sink, &own);
    if (report)
        vcl_give_sized(&own, sizeof own, report);
    return status;
}

struct buffer {
    uint8_t *bytes;
    uint64_t room;
};

static int read_buffer(void *user, uint64_t offset, void *dst, size_t bytes)
{
    const struct buffer *const b = user;
    if (offset > b->room || bytes > b->room - offset)
        return 1;
    memcpy(dst, b->bytes + offset, bytes);
    return 0;
}

/* Bytes beyond the end are dropped: a trial that will not be kept may write there. */
static int write_buffer(void *user, uint64_t offset, const void *src, size_t bytes)
{
    const struct buffer *const b = user;
    if (bytes > 0 && offset <= b->room && bytes <= b->room - offset)
        memcpy(b->bytes + offset, src, bytes);
    return 0;
}

enum vcl_status vcl_encode_buffer(struct vcl_context *ctx, const struct vcl_tensor *tensor,
                                  const void *values, const struct vcl_params *params, void *frame,
                                  size_t *bytes, struct vcl_report *report)
{
    uint64_t size = 0;
    struct vcl_report own = { .size = sizeof own };
    if (!ctx)
        return VCL_E_ARGUMENT;
    if (!tensor || !bytes || !frame || vcl_tensor_size(tensor, NULL, &size) || (size > 0 && !values))
        return fail(ctx, VCL_E_ARGUMENT, "a NULL argument or an impossible tensor");
    struct buffer from = { (uint8_t *)(uintptr_t)values, size }, to = { frame, *bytes }; /* only read from */
    const struct vcl_source source = { &from, read_buffer, values };
    const struct vcl_sink sink = { &to, write_buffer, NULL };
    if (report && !vcl_is_sized(report))
        return fail(ctx, VCL_E_ARGUMENT, "report.size must be sizeof report");
    const enum vcl_status status = vcl_encode(ctx, tensor, &source, params, &sink, &own);
    if (report)
        vcl_give_sized(&own, sizeof own, report);
    if (status)
        return status;
    *bytes = (size_t)own.frame_bytes;
    return own.frame_bytes <= to.room ? VCL_OK : fail(ctx, VCL_E_SPACE, "the frame does not fit its buffer");
}

enum vcl_status vcl_alias_encode(const struct vcl_tensor *tensor, const char *target, void *dst,
                                 size_t *bytes)
{
    struct vcl_frame frame = { .codec = VCL_CODEC_ALIAS };
    if (!tensor || !target || !dst || !bytes || vcl_tensor_size(tensor, NULL, NULL))
        return VCL_E_ARGUMENT;
    frame.tensor = *tensor;
    frame.target_length = strlen(target);
    if (frame.target_length == 0 || frame.target_length > VCL_MAX_NAME)
        return VCL_E_ARGUMENT;
    frame.header_bytes = (uint32_t)vcl_frame_header_bytes(&frame);
    frame.frame_bytes = frame.header_bytes;
    const size_t room = *bytes;
    *bytes = (size_t)frame.frame_bytes;
    if (room < frame.frame_bytes)
        return VCL_E_SPACE;
    uint8_t *const out = dst;
    memset(out, 0, (size_t)frame.frame_bytes);
    const size_t n = vcl_frame_write(&frame, out);
    memcpy(out + n, target, frame.target_length);
    vcl_store32(out + frame.header_bytes - 4, vcl_hash32(out, frame.header_bytes - 4));
    return VCL_OK;
}

/* ---- recipes --------------------------------------------------------------------------------- */

static const char *lesson_fault(const struct vcl_tensor *tensor, const struct vcl_params *p)
{
    uint64_t values, cols;
    if (p->codec != VCL_CODEC_TENSOR)
        return "recipes are for the tensor codec";
    if (p->feedback || p->row_floor > 0)
        return "params.feedback and row_floor are no part of a recipe";
    if (vcl_tensor_size(tensor, &values, NULL) || values == 0)
        return "there are no values to learn from";
    return vcl_coded_shape(tensor, p->transpose, NULL, &cols) || cols > VCL_RECIPE_COLS
             ? "the coded matrix has more than 2^20 columns"
             : NULL;
}

static enum vcl_status learn(struct vcl_context *ctx, const struct vcl_tensor *tensor,
                             const struct vcl_source *source, const struct vcl_params *params,
                             struct vcl_recipe **recipe, struct vcl_report *report)
{
    struct vcl_env env;
    const char *fault = lesson_fault(tensor, params);
    if (!fault)
        fault = params_fault(tensor, params);
    if (fault)
        return fail(ctx, VCL_E_ARGUMENT, fault);
    const enum vcl_status status = open_env(ctx, params->codec, &env);
    return status ? status : vcl_learn_recipe(&env, tensor, source, params, recipe, report);
}

enum vcl_status vcl_recipe_learn(struct vcl_context *ctx, const struct vcl_tensor *tensor,
                                 const struct vcl_source *source, const struct vcl_params *params,
                                 struct vcl_recipe **recipe, struct vcl_report *report)
{
    struct vcl_params taken;
    struct vcl_report own = { 0 };
    if (!ctx)
        return VCL_E_ARGUMENT;
    ctx->message[0] = 0;
    if (!tensor || !source || !source->read || !params || !recipe)
        return fail(ctx, VCL_E_ARGUMENT, "a NULL argument");
    *recipe = NULL;
    const char *const fault = take_params(params, &taken, report);
    if (fault)
        return fail(ctx, VCL_E_ARGUMENT, fault);
    const enum vcl_status status = learn(ctx, tensor, source, &taken, recipe, &own);
    if (report)
        vcl_give_sized(&own, sizeof own, report);
    return status;
}

void vcl_recipe_destroy(struct vcl_recipe *recipe) { vcl_recipe_unmake(recipe); }

static const char *fit_fault(const struct vcl_recipe *recipe, const struct vcl_tensor *tensor)
{
    const int transposed = (recipe->frame.flags & VCL_FLAG_TRANSPOSED) != 0;
    uint64_t cols;
    if (vcl_coded_shape(tensor, transposed, NULL, &cols) || vcl_bound(tensor) == 0)
        return "the tensor's dtype or shape is impossible";
    if (!vcl_dtype_is_float(tensor->dtype))
        return "only F16, BF16, F32 and F64 tensors can be coded with a recipe";
    return cols == recipe->frame.plan.cols ? NULL : "the coded matrix has not the recipe's columns";
}

enum vcl_status vcl_recipe_encode(struct vcl_context *ctx, const struct vcl_recipe *recipe,
                                  const struct vcl_tensor *tensor, const struct vcl_source *source,
                                  const struct vcl_sink *sink, struct vcl_report *report)
{
    struct vcl_report own = { 0 };
    struct vcl_env env;
    if (!ctx)
        return VCL_E_ARGUMENT;
    ctx->message[0] = 0;
    if (!recipe || !tensor || !source || !source->read || !sink || !sink->write)
        return fail(ctx, VCL_E_ARGUMENT, "a NULL argument");
    if (report && !vcl_is_sized(report))
        return fail(ctx, VCL_E_ARGUMENT, "report.size must be sizeof report");
    const char *const fault = fit_fault(recipe, tensor);
    if (fault)
        return fail(ctx, VCL_E_ARGUMENT, fault);
    enum vcl_status status = open_env(ctx, VCL_CODEC_TENSOR, &env);
    if (!status)
        status = vcl_encode_with_recipe(&env, recipe, tensor, source, sink, &own);
    if (report)
        vcl_give_sized(&own, sizeof own, report);
    return status;
}

enum vcl_status vcl_recipe_scale(struct vcl_recipe *recipe, double factor)
{
    return recipe && factor > 0 && vcl_recipe_rescale(recipe, factor) ? VCL_OK : VCL_E_ARGUMENT;
}

enum vcl_status vcl_recipe_save(const struct vcl_recipe *recipe, void *bytes, size_t *size)
{
    if (!recipe || !size || !bytes)
        return VCL_E_ARGUMENT;
    const size_t room = *size;
    *size = vcl_recipe_bytes(recipe);
    if (room < *size)
        return VCL_E_SPACE;
    vcl_recipe_write(&recipe->frame, recipe->tables, bytes);
    return VCL_OK;
}

enum vcl_status vcl_recipe_describe(const struct vcl_recipe *recipe, struct vcl_recipe_info *info)
{
    if (!recipe || !info)
        return VCL_E_ARGUMENT;
    const struct vcl_recipe_info own = { .cols = recipe->frame.plan.cols,
                                         .transposed = (recipe->frame.flags & VCL_FLAG_TRANSPOSED) != 0,
                                         .bytes = vcl_recipe_bytes(recipe),
                                         .step = recipe->frame.step,
                                         .hash = vcl_recipe_hash(recipe) };
    return vcl_give_sized(&own, sizeof own, info) ? VCL_OK : VCL_E_ARGUMENT;
}

enum vcl_status vcl_recipe_load(struct vcl_context *ctx, const void *bytes, size_t size,
                                struct vcl_recipe **recipe)
{
    struct vcl_env env;
    if (!ctx)
        return VCL_E_ARGUMENT;
    ctx->message[0] = 0;
    if (!bytes || !recipe)
        return fail(ctx, VCL_E_ARGUMENT, "a NULL argument");
    *recipe = NULL;
    const enum vcl_status status = open_env(ctx, VCL_CODEC_TENSOR, &env);
    return status ? status : vcl_recipe_make(&env, bytes, size, recipe);
}

/* ---- decoding -------------------------------------------------------------------------------- */

static void fill_info(const struct vcl_frame *frame, struct vcl_info *info)
{
    *info = (struct vcl_info){ .tensor = frame->tensor,
                               .codec = frame->codec,
                               .frame_bytes = frame->frame_bytes,
                               .header_bytes = frame->header_bytes,
                               .values = frame->values,
                               .cols = frame->plan.cols,
                               .tiles = frame->plan.tiles,
                               .tile_rows = frame->plan.tile_rows,
                               .tile_cols = frame->plan.tile_cols,
                               .depth = frame->depth };
    info->rotated = (frame->flags & VCL_FLAG_ROTATED) != 0;
    info->row_scales = (frame->flags & VCL_FLAG_ROW_SCALES) != 0;
    info->non_finite = (frame->flags & VCL_FLAG_NON_FINITE) != 0;
    info->snr = frame->codec == VCL_CODEC_ALIAS  ? NAN
              : vcl_codec_is_exact(frame->codec) ? INFINITY
                                                 : frame->snr;
}

/* Only of a frame that was not refused: its fields are in their ranges. */
static void fill_tensor_info(const struct vcl_frame *frame, struct vcl_info *info)
{
    if (frame->codec != VCL_CODEC_TENSOR)
        return;
    info->transposed = (frame->flags & VCL_FLAG_TRANSPOSED) != 0;
    info->transform_down = frame->transform.down ? 1 << frame->transform.down : 0;
    info->transform_along = frame->transform.along ? 1 << frame->transform.along : 0;
    info->states = 1 << frame->states;
    info->lanes = frame->lanes;
}

enum vcl_status vcl_peek(const void *bytes, size_t n, struct vcl_info *info, const char **target,
                         size_t *target_length)
{
    struct vcl_frame frame;
    struct vcl_info own;
    const char *fault = NULL;
    if (!bytes || !info || !vcl_is_sized(info))
        return VCL_E_ARGUMENT;
    const enum vcl_status status = vcl_frame_parse(bytes, n, &frame, &fault);
    fill_info(&frame, &own);
    own.fault = fault;
    if (!status)
        fill_tensor_info(&frame, &own);
    vcl_give_sized(&own, sizeof own, info);
    if (status)
        return status;
    if (target)
        *target = frame.target;
    if (target_length)
        *target_length = frame.target_length;
    return VCL_OK;
}

/* Reads and checks the header; *header is the caller's to free. */
static enum vcl_status read_header(struct vcl_context *ctx, const struct vcl_source *source, uint64_t bytes,
                                   struct vcl_frame *frame, uint8_t **header)
{
    uint8_t start[VCL_PEEK_BYTES];
    const char *reason = "";
    const size_t n = (size_t)vcl_min(bytes, sizeof start);
    if (source->read(source->user, 0, start, n))
        return fail(ctx, VCL_E_IO, "reading the start of the frame failed");
    enum vcl_status status = vcl_frame_parse(start, n, frame, &reason);
    if (status != VCL_E_TRUNCATED || frame->header_bytes == 0 || frame->header_bytes > bytes)
        return fail(ctx, status, reason);
    const size_t length = frame->header_bytes;
    *header = vcl_alloc(&ctx->mem, length, 1);
    if (!*header)
        return fail(ctx, VCL_E_MEMORY, "no memory for the frame's header");
    if (source->read(source->user, 0, *header, length))
        return fail(ctx, VCL_E_IO, "reading the frame's header failed");
    status = vcl_frame_parse(*header, length, frame, &reason);
    if (status)
        return fail(ctx, status, reason);
    if (frame->frame_bytes != bytes)
        return fail(ctx, frame->frame_bytes > bytes ? VCL_E_TRUNCATED : VCL_E_FORMAT,
                    frame->frame_bytes > bytes ? "frame is cut off" : "bytes after the frame's end");
    return VCL_OK;
}

static enum vcl_status decode_rows(struct vcl_context *ctx, const struct vcl_frame *frame,
                                   const uint8_t *header, const struct vcl_source *source, uint64_t first,
                                   uint64_t count, const char *decoder, const struct vcl_sink *sink)
{
    const uint64_t rows = frame->tensor.rank ? frame->tensor.dims[0] : 1;
    struct vcl_env env;
    if (frame->codec == VCL_CODEC_ALIAS)
        return fail(ctx, VCL_E_ARGUMENT, "an alias frame has no values: decode its target");
    if (first > rows || (count != UINT64_MAX && count > rows - first))
        return fail(ctx, VCL_E_ARGUMENT, "rows beyond the tensor's end");
    const enum vcl_status status = open_env(ctx, frame->codec, &env);
    if (status)
        return status;
    return vcl_decode_frame(&env, frame, header, source, first, count == UINT64_MAX ? rows - first : count,
                            decoder, sink);
}

enum vcl_status vcl_decode(struct vcl_context *ctx, const struct vcl_source *source, uint64_t bytes,
                           uint64_t first, uint64_t count, const char *decoder, const struct vcl_sink *sink)
{
    struct vcl_frame frame;
    uint8_t *header = NULL;
    if (!ctx)
        return VCL_E_ARGUMENT;
    ctx->message[0] = 0;
    if (!source || !source->read || (sink && !sink->write))
        return fail(ctx, VCL_E_ARGUMENT, "a NULL argument");
    enum vcl_status status = read_header(ctx, source, bytes, &frame, &header);
    if (!status)
        status = decode_rows(ctx, &frame, header, source, first, count, decoder, sink);
    vcl_free(&ctx->mem, header);
    return status;
}

enum vcl_status vcl_decode_buffer(struct vcl_context *ctx, const void *frame, size_t bytes, void *values,
                                  size_t room)
{
    struct vcl_info info = { .size = sizeof info };
    uint64_t size;
    if (!ctx)
        return VCL_E_ARGUMENT;
    if (!frame)
        return fail(ctx, VCL_E_ARGUMENT, "a NULL argument");
    struct buffer from = { (uint8_t *)(uintptr_t)frame, bytes },
                  to = { values, room }; /* from is only read */
    const struct vcl_source source = { &from, read_buffer, frame };
    const struct vcl_sink sink = { &to, write_buffer, values };
    if (vcl_peek(frame, bytes, &info, NULL, NULL) == VCL_OK
        && vcl_tensor_size(&info.tensor, NULL, &size) == VCL_OK && (size > room || (size > 0 && !values)))
        return fail(ctx, VCL_E_SPACE, "the values do not fit their buffer");
    return vcl_decode(ctx, &source, bytes, 0, UINT64_MAX, NULL, &sink);
}

/* ---- products -------------------------------------------------------------------------------- */

enum vcl_status vcl_matrix_open(struct vcl_context *ctx, const void *frame, size_t bytes,
                                struct vcl_matrix **matrix)
{
    struct vcl_env env;
    if (!ctx)
        return VCL_E_ARGUMENT;
    ctx->message[0] = 0;
    if (!frame || !matrix)
        return fail(ctx, VCL_E_ARGUMENT, "a NULL argument");
    *matrix = NULL;
    const enum vcl_status status = open_env(ctx, VCL_CODEC_EXACT, &env);
    return status ? status : vcl_matrix_make(&env, frame, bytes, matrix);
}

void vcl_matrix_close(struct vcl_matrix *matrix) { vcl_matrix_unmake(matrix); }

enum vcl_status vcl_matrix_describe(const struct vcl_matrix *matrix, struct vcl_matrix_info *info)
{
    const struct vcl_matrix_info own = { .rows = matrix->rows,
                                         .cols = matrix->cols,
                                         .bytes = matrix->held,
                                         .fused = matrix->fused && !matrix->turned,
                                         .fused_transposed = matrix->fused && matrix->turned };
    return vcl_give_sized(&own, sizeof own, info) ? VCL_OK : VCL_E_ARGUMENT;
}

static enum vcl_status multiply(struct vcl_context *ctx, const struct vcl_matrix *matrix, int transposed,
                                const float *x, size_t n, size_t x_stride, float *y, size_t y_stride)
{
    struct vcl_env env;
    if (!ctx)
        return VCL_E_ARGUMENT;
    ctx->message[0] = 0;
    if (!matrix || (n > 0 && (!x || !y)))
        return fail(ctx, VCL_E_ARGUMENT, "a NULL argument");
    const uint64_t terms = transposed ? matrix->rows : matrix->cols;
    const uint64_t outputs = transposed ? matrix->cols : matrix->rows;
    if (n > 1 && (x_stride < terms || y_stride < outputs))
        return fail(ctx, VCL_E_ARGUMENT, "a stride below the length of a vector");
    const enum vcl_status status = open_env(ctx, matrix->frame.codec, &env);
    return status ? status : vcl_product(&env, matrix, transposed, x, n, x_stride, y, y_stride);
}

enum vcl_status vcl_multiply(struct vcl_context *ctx, const struct vcl_matrix *matrix, const float *x,
                             size_t n, size_t x_stride, float *y, size_t y_stride)
{
    return multiply(ctx, matrix, 0, x, n, x_stride, y, y_stride);
}

enum vcl_status vcl_multiply_transposed(struct vcl_context *ctx, const struct vcl_matrix *matrix,
                                        const float *x, size_t n, size_t x_stride, float *y, size_t y_stride)
{
    return multiply(ctx, matrix, 1, x, n, x_stride, y, y_stride);
}

/* ---- backends -------------------------------------------------------------------------------- */

enum vcl_status vcl_probe(struct vcl_context *ctx, void (*each)(void *user, const struct vcl_backend *),
                          void *user)
{
    const struct vcl_video *video;
    if (!ctx || !each)
        return VCL_E_ARGUMENT;
    ctx->message[0] = 0;
    const enum vcl_status status = need_video(ctx, &video);
    if (!status)
        video->probe(each, user);
    return status;
}
