/* recipe.c - all that settles how the values of a matrix are coded, apart from the search that found it.
 *
 * In: frame and tables of an encoder whose last pass met its target; or a recipe's bytes, which nobody vouches
 * for.  Out: bytes; or the same frame and tables again.  Learning ends in bytes and every recipe begins from
 * them, so that one just learned and one from a file cannot differ. */
#include "codec/recipe.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/common.h"
#include "codec/scale.h"

static const uint8_t magic[4] = { 'V', 'C', 'L', 'R' };

enum { FIXED = 32, PRICED = 1, ONE_ROW_CLASS = 2 };
#define LAMBDA_MOST 16.f

/* ---- to bytes ---------------------------------------------------------------------------------- */

/* The header of a frame of the same settings without values. */
static struct vcl_frame empty_frame(const struct vcl_frame *frame)
{
    struct vcl_frame empty = *frame;
    empty.tensor = (struct vcl_tensor){ frame->tensor.dtype, 2, { 0, frame->plan.cols } };
    empty.values = 0;
    empty.flags &= ~(uint32_t)VCL_FLAG_NON_FINITE;
    empty.snr = 0;
    vcl_plan_parse(0, frame->plan.cols, VCL_UNIT_ROWS, 1, &empty.plan);
    empty.header_bytes = (uint32_t)vcl_frame_header_bytes(&empty);
    empty.frame_bytes = vcl_round_up(empty.header_bytes, 8);
    return empty;
}

size_t vcl_recipe_bound(uint64_t cols) { return FIXED + VCL_FRAME_FIELDS + vcl_tensor_side_bound(cols) + 8; }

/* All but the side bytes, with the hash over them. */
struct recipe_text {
    uint8_t fixed[FIXED], header[VCL_FRAME_FIELDS], hash[4];
    size_t header_bytes; /* before the side bytes */
};

static void make_text(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                      struct recipe_text *text)
{
    const struct vcl_frame empty = empty_frame(frame);
    uint8_t *const p = text->fixed;
    XXH3_state_t hash;
    memset(p, 0, FIXED);
    memcpy(p, magic, sizeof magic);
    vcl_store64(p + 8, vcl_double_bits(tables->row_unit));
    vcl_store32(p + 16, vcl_float_bits(tables->lambda));
    p[20] = (uint8_t)tables->row_base;
    p[21] = (uint8_t)((tables->priced ? PRICED : 0) | (tables->one_row_class ? ONE_ROW_CLASS : 0));
    vcl_store32(p + 28, vcl_hash32(p, 28));
    text->header_bytes = vcl_frame_write(&empty, text->header);
    XXH3_64bits_reset(&hash);
    XXH3_64bits_update(&hash, text->header, text->header_bytes);
    XXH3_64bits_update(&hash, frame->side, frame->side_bytes);
    vcl_store32(text->hash, (uint32_t)XXH3_64bits_digest(&hash));
}

size_t vcl_recipe_write(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables, uint8_t *dst)
{
    struct recipe_text text;
    make_text(frame, tables, &text);
    uint8_t *const side = dst + FIXED + text.header_bytes;
    memcpy(dst, text.fixed, FIXED);
    memcpy(dst + FIXED, text.header, text.header_bytes);
    memcpy(side, frame->side, frame->side_bytes);
    memcpy(side + frame->side_bytes, text.hash, sizeof text.hash);
    return (size_t)(side - dst) + frame->side_bytes + sizeof text.hash;
}

size_t vcl_recipe_bytes(const struct vcl_recipe *r) { return FIXED + vcl_frame_header_bytes(&r->frame); }

uint64_t vcl_recipe_hash(const struct vcl_recipe *r)
{
    struct recipe_text text;
    XXH3_state_t hash;
    make_text(&r->frame, r->tables, &text);
    XXH3_64bits_reset(&hash);
    XXH3_64bits_update(&hash, text.fixed, FIXED);
    XXH3_64bits_update(&hash, text.header, text.header_bytes);
    XXH3_64bits_update(&hash, r->frame.side, r->frame.side_bytes);
    XXH3_64bits_update(&hash, text.hash, sizeof text.hash);
    return XXH3_64bits_digest(&hash);
}

/* ---- and back ---------------------------------------------------------------------------------- */

/* Bytes 0 to 31. */
struct fixed {
    double row_unit;
    float lambda;
    int row_base, how;
};

static enum vcl_status parse_fixed(const struct vcl_env *env, const uint8_t *src, size_t size,
                                   struct fixed *fixed)
{
    if (size < FIXED + VCL_PEEK_BYTES)
        return vcl_env_fail(env, VCL_E_TRUNCATED, "recipe is cut off at byte %zu", size);
    if (memcmp(src, magic, sizeof magic) != 0)
        return vcl_env_fail(env, VCL_E_FORMAT, "not a recipe: wrong magic bytes");
    if (vcl_load32(src + 4) != 0)
        return vcl_env_fail(env, VCL_E_VERSION, "recipe of a version this library does not know");
    if (!vcl_hash_matches(src, 28, vcl_load32(src + 28)))
        return vcl_env_fail(env, VCL_E_CHECKSUM, "recipe is damaged: the checksum at byte 28 does not match");
    *fixed = (struct fixed){ vcl_double_from_bits(vcl_load64(src + 8)),
                             vcl_float_from_bits(vcl_load32(src + 16)), (int8_t)src[20], src[21] };
    if (!(fixed->row_unit > 0 && fixed->row_unit <= DBL_MAX)
        || !(fixed->lambda >= 0 && fixed->lambda <= LAMBDA_MOST))
        return vcl_env_fail(env, VCL_E_FORMAT, "recipe with an impossible row unit or price of a bit");
    if (fixed->how & ~(PRICED | ONE_ROW_CLASS) || vcl_load32(src + 22) || src[26] || src[27])
        return vcl_env_fail(env, VCL_E_FORMAT, "reserved bytes of the recipe are not zero");
    return VCL_OK;
}

static enum vcl_status parse_header(const struct vcl_env *env, const uint8_t *src, size_t size,
                                    struct vcl_frame *frame)
{
    const char *reason;
    const enum vcl_status status = vcl_frame_parse(src, size, frame, &reason);
    if (status)
        return vcl_env_fail(env, status, "recipe: %s", reason);
    if (frame->codec != VCL_CODEC_TENSOR || frame->tensor.rank != 2 || frame->values != 0
        || frame->tensor.dims[1] != frame->plan.cols || frame->flags & VCL_FLAG_NON_FINITE
        || !(frame->step >= FLT_MIN))
        return vcl_env_fail(env, VCL_E_FORMAT, "recipe whose header is not that of a tensor without values");
    if (frame->plan.cols > VCL_RECIPE_COLS)
        return vcl_env_fail(env, VCL_E_LIMIT, "recipe of %llu columns: above %d",
                            (unsigned long long)frame->plan.cols, VCL_RECIPE_COLS);
    if (frame->header_bytes != size)
        return vcl_env_fail(env, VCL_E_FORMAT, "recipe of %zu bytes where its header says %u", size + FIXED,
                            frame->header_bytes + FIXED);
    return VCL_OK;
}

/* What an encoder needs of the tables besides what a decoder does. */
static void add_fixed(const struct fixed *fixed, struct vcl_recipe *r)
{
    struct vcl_tensor_tables *const tables = r->tables;
    tables->row_unit = fixed->row_unit;
    tables->lambda = fixed->lambda;
    tables->row_base = fixed->row_base;
    tables->priced = (fixed->how & PRICED) != 0;
    tables->one_row_class = (fixed->how & ONE_ROW_CLASS) != 0;
    for (uint64_t c = 0; c < r->frame.plan.cols; c++)
        tables->col_weight[c] = vcl_scale_weight(tables->col_class[c]);
    r->flags = r->frame.flags;
    r->priced = tables->priced;
    r->step = r->frame.step;
    r->fine = r->frame.fine;
    r->row_base = fixed->row_base;
}

static enum vcl_status parse(const struct vcl_env *env, const uint8_t *bytes, size_t size,
                             struct vcl_recipe *r)
{
    struct fixed fixed = { 0 };
    enum vcl_status status = parse_fixed(env, bytes, size, &fixed);
    if (!status)
        status = parse_header(env, bytes + FIXED, size - FIXED, &r->frame);
    if (status)
        return status;
    const size_t room = vcl_tensor_side_bound(r->frame.plan.cols);
    r->tables = vcl_tensor_tables_create(&r->mem, env->kernels, &r->frame);
    r->side = vcl_alloc_raw(&r->mem, room > r->frame.side_bytes ? room : r->frame.side_bytes, 1);
    if (!r->tables || !r->side)
        return vcl_env_fail(env, VCL_E_MEMORY, "no memory for a recipe");
    memcpy(r->side, r->frame.side, r->frame.side_bytes);
    r->frame.side = r->side;
    if (!vcl_tensor_tables_read(&r->frame, r->tables))
        return vcl_env_fail(env, VCL_E_FORMAT, "side data of the recipe are damaged");
    add_fixed(&fixed, r);
    return VCL_OK;
}

enum vcl_status vcl_recipe_make(const struct vcl_env *env, const uint8_t *bytes, size_t size,
                                struct vcl_recipe **out)
{
    struct vcl_mem mem = *env->mem;
    mem.spares = NULL; /* they are the context's, which a recipe may outlive */
    struct vcl_recipe *const r = vcl_alloc(&mem, 1, sizeof *r);
    if (!r)
        return vcl_env_fail(env, VCL_E_MEMORY, "no memory for a recipe");
    r->mem = mem;
    const enum vcl_status status = parse(env, bytes, size, r);
    if (status)
        vcl_recipe_unmake(r);
    else
        *out = r;
    return status;
}

void vcl_recipe_unmake(struct vcl_recipe *r)
{
    if (!r)
        return;
    const struct vcl_mem mem = r->mem;
    vcl_tensor_tables_destroy(&mem, r->tables);
    vcl_free(&mem, r->side);
    vcl_free(&mem, r);
}

/* ---- another step ------------------------------------------------------------------------------ */

enum { OWN_MODELS = VCL_FLAG_CLASS_MODELS | VCL_FLAG_TABLES | VCL_FLAG_POINTS };

/* Octaves from the step that taught them within which models of the classes' own hold, as in the search: an
 * eighth away those of two-humped values cost 0.6 bit more than none, a quarter away 5.7. */
#define HOLDS 0.12

/* Classes tell of deviations in steps: a coarser step lowers them, in quarter octaves, and `fine` takes the
 * sixteenths that are left, as in the search.  Models of their own know classes by the numbers they had. */
int vcl_recipe_rescale(struct vcl_recipe *r, double factor)
{
    const double octaves = log2(factor);
    const int own = r->flags & OWN_MODELS && fabs(octaves) <= HOLDS;
    const double quarters = own ? 0 : -rint(4 * octaves), row_base = r->row_base + quarters,
                 fine = r->fine - rint(16 * octaves) - 4 * quarters;
    struct vcl_frame frame = r->frame;
    frame.step = (float)(r->step * factor);
    if (!(frame.step >= FLT_MIN && frame.step <= FLT_MAX) || fabs(row_base) > INT8_MAX
        || !vcl_tensor_tables_steps(&frame, r->tables)) {
        vcl_tensor_tables_steps(&r->frame, r->tables);
        return 0;
    }
    frame.flags = own ? r->flags : r->flags & ~(uint32_t)OWN_MODELS;
    frame.fine = (int)fmin(fmax(fine, -VCL_FINE_MAX), VCL_FINE_MAX);
    frame.side_bytes = (uint32_t)vcl_tensor_side_write(&frame, r->tables, r->side);
    frame.side = r->side;
    r->frame = frame;
    r->tables->row_base = (int)row_base;
    r->tables->priced = own && r->priced;
    vcl_tensor_tables_points(r->tables);
    if (!own)
        memset(r->tables->moves, 0, sizeof r->tables->moves);
    vcl_tensor_tables_renew(r->tables);
    return 1;
}
