/* kv_page.c - pages of a KV cache: THE FILE TO READ FIRST in this folder.
 *
 * In: keys before their rotation and values of some tokens.  Out: a header, the rows' classes, and indices of the
 * tensor codec, part after part: the tokens are rows, a part's components columns.  All parts share the lanes'
 * states, which are what a page costs besides: a page of few values has eight of them instead of 32. */
#include "kv/kv_page.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/common.h"
#include "base/dtype.h"
#include "codec/scale.h"

static const uint8_t magic[4] = { 'V', 'K', 'P', 0 }; /* and the version */

enum { HEADER = 28, BOTH = VCL_KV_KEYS | VCL_KV_VALUES };

/* ---- header ------------------------------------------------------------------------------------ */

static void write_header(const struct vcl_kv_header *h, uint8_t *dst)
{
    memcpy(dst, magic, sizeof magic);
    vcl_store64(dst + 8, h->recipe);
    vcl_store32(dst + 16, h->position);
    vcl_store16(dst + 20, (uint16_t)h->tokens);
    vcl_store16(dst + 22, (uint16_t)h->first_layer);
    vcl_store16(dst + 24, (uint16_t)h->layers);
    dst[26] = (uint8_t)h->sides;
    dst[27] = 0;
}

static enum vcl_status fail(const char **reason, enum vcl_status status, const char *why)
{
    *reason = why;
    return status;
}

enum vcl_status vcl_kv_parse(const uint8_t *page, size_t bytes, struct vcl_kv_header *h, const char **reason)
{
    if (memcmp(page, magic, vcl_min(bytes, 3)) != 0)
        return fail(reason, VCL_E_FORMAT, "not a page of a KV cache: wrong magic bytes");
    if (bytes < HEADER)
        return fail(reason, VCL_E_TRUNCATED, "page of a KV cache is cut off in its header");
    if (page[3] != magic[3])
        return fail(reason, VCL_E_VERSION, "page of a KV cache of a version this library does not know");
    *h = (struct vcl_kv_header){ vcl_load64(page + 8),  vcl_load32(page + 16), vcl_load16(page + 20),
                                 vcl_load16(page + 22), vcl_load16(page + 24), page[26] };
    if (h->tokens == 0 || h->tokens > VCL_KV_TOKENS || h->layers == 0 || h->sides == 0 || h->sides > BOTH
        || page[27] != 0)
        return fail(reason, VCL_E_FORMAT, "page of a KV cache with impossible tokens, layers or sides");
    return VCL_OK;
}

const char *vcl_kv_plan(const struct vcl_kv_recipe *recipe, const struct vcl_kv_range *range,
                        struct vcl_kv_header *h)
{
    const uint32_t all = recipe->shape.layers;
    if (range->first_layer >= all || range->layers > all - range->first_layer)
        return "range.first_layer and layers go beyond the recipe's layers";
    if (range->tokens == 0 || range->tokens > VCL_KV_TOKENS || range->first_token != 0)
        return "range.tokens must be 1 to 4096, first_token 0";
    if (range->position > UINT32_MAX - range->tokens)
        return "range.position must be below 2^32, with the tokens";
    if (range->sides > BOTH)
        return "range.sides has a bit that is neither keys nor values";
    *h = (struct vcl_kv_header){ recipe->hash,
                                 (uint32_t)range->position,
                                 range->tokens,
                                 range->first_layer,
                                 range->layers ? range->layers : all - range->first_layer,
                                 range->sides ? range->sides : BOTH };
    return NULL;
}

static int holds(const struct vcl_kv_header *h, const struct vcl_kv_coding *part)
{
    return part->layer >= h->first_layer && part->layer - h->first_layer < h->layers
        && (part->sides & ~h->sides) == 0;
}

static unsigned sides_in(uint32_t sides) { return (sides & 1) + (sides >> 1); }

/* The page's parts; 0 where they do not make up all its sides of all its layers. */
static size_t count_parts(const struct vcl_kv_recipe *recipe, const struct vcl_kv_header *h)
{
    size_t count = 0;
    unsigned sides = 0;
    for (size_t i = 0; i < recipe->count; i++)
        if (holds(h, recipe->parts + i)) {
            count++;
            sides += sides_in(recipe->parts[i].sides);
        }
    return sides == h->layers * sides_in(h->sides) ? count : 0;
}

static uint32_t coded_cols(const struct vcl_kv_coding *part)
{
    return (uint32_t)part->recipe->frame.plan.cols;
}

int vcl_kv_has_parts(const struct vcl_kv_recipe *recipe, const struct vcl_kv_header *h)
{
    return count_parts(recipe, h) > 0;
}

size_t vcl_kv_page_bound(const struct vcl_kv_recipe *recipe, const struct vcl_kv_header *h)
{
    const size_t parts = count_parts(recipe, h);
    struct vcl_lanes lanes = { .rows = h->tokens };
    for (size_t i = 0; i < recipe->count; i++)
        lanes.cols += holds(h, recipe->parts + i) ? coded_cols(recipe->parts + i) : 0;
    return parts ? HEADER + parts * vcl_scales_bound(h->tokens) + vcl_lanes_bound(&lanes, 1) : 0;
}

/* ---- coders ------------------------------------------------------------------------------------ */

/* Lanes of a page of so many values. */
static int lanes_for(uint64_t values)
{
    enum { MANY = 32768 };
    return values >= MANY ? 32 : 8;
}

static uint64_t values_of(const struct vcl_kv_recipe *recipe, const struct vcl_kv_header *h)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < recipe->count; i++)
        sum += holds(h, recipe->parts + i) ? recipe->parts[i].basis.n : 0;
    return sum * h->tokens;
}

/* The part's frame in a page. */
static struct vcl_frame frame_of(const struct vcl_kv_coding *part, uint32_t tokens, int lanes)
{
    struct vcl_frame frame = part->recipe->frame;
    const uint64_t cols = frame.plan.cols;
    frame.plan = (struct vcl_plan){ tokens, cols, tokens, (uint32_t)cols, 1, 1 };
    frame.lanes = lanes;
    return frame;
}

/* What buffers for all parts must have room for. */
struct room {
    struct vcl_frame frame; /* the largest of everything */
    uint32_t cols;          /* of a part's values */
    size_t all;             /* coded columns of all parts */
};

static struct room room_for(const struct vcl_kv_recipe *recipe, uint32_t tokens)
{
    struct room room = { frame_of(recipe->parts, tokens, VCL_STRIPE_LANES), 0, 0 };
    struct vcl_plan *const plan = &room.frame.plan;
    for (size_t i = 0; i < recipe->count; i++) {
        const struct vcl_kv_coding *const part = recipe->parts + i;
        const int states = part->recipe->frame.states;
        plan->tile_cols = coded_cols(part) > plan->tile_cols ? coded_cols(part) : plan->tile_cols;
        room.frame.states = states > room.frame.states ? states : room.frame.states;
        room.cols = part->basis.cols > room.cols ? part->basis.cols : room.cols;
        room.all += coded_cols(part);
    }
    plan->cols = plan->tile_cols;
    return room;
}

static int allocate(struct vcl_kv_coder *c, const struct room *room)
{
    const struct vcl_mem *const mem = &c->mem;
    const struct vcl_lanes all = { .rows = c->tokens, .cols = (uint32_t)room->all };
    const size_t rows = (size_t)vcl_round_up(c->tokens, (uint64_t)VCL_STRIPE_LANES);
    c->x = vcl_alloc(mem, c->tokens, room->cols * sizeof *c->x);
    c->z = vcl_alloc(mem, c->tokens, room->cols * sizeof *c->z);
    c->j = vcl_alloc_raw(mem, rows, room->all * sizeof *c->j);
    c->lanes = vcl_alloc(mem, c->recipe->count, sizeof *c->lanes);
    c->row_class = vcl_alloc(mem, c->recipe->count, c->tokens);
    c->stored = vcl_alloc_raw(mem, vcl_lanes_bound(&all, 1), 1);
    c->scratch = vcl_alloc_raw(mem, vcl_scales_bound(c->tokens), 1);
    return c->x && c->z && c->j && c->lanes && c->row_class && c->stored && c->scratch
        && vcl_tensor_work_create(mem, &room->frame, 1, &c->work) == VCL_OK;
}

enum vcl_status vcl_kv_coder_make(const struct vcl_env *env, const struct vcl_kv_recipe *recipe,
                                  uint32_t tokens, struct vcl_kv_coder **out)
{
    struct vcl_mem mem = *env->mem;
    const struct room room = room_for(recipe, tokens);
    if (room.all * tokens > VCL_KV_VALUES_MOST)
        return vcl_env_fail(env, VCL_E_LIMIT, "pages of %u tokens and %zu components: above 2^28 values",
                            tokens, room.all);
    mem.spares = NULL;
    struct vcl_kv_coder *const coder = vcl_alloc(&mem, 1, sizeof *coder);
    if (!coder)
        return vcl_env_fail(env, VCL_E_MEMORY, "no memory for a coder of KV pages");
    coder->mem = mem;
    coder->recipe = recipe;
    coder->tokens = tokens;
    if (!allocate(coder, &room)) {
        vcl_kv_coder_unmake(coder);
        return vcl_env_fail(env, VCL_E_MEMORY, "no memory for a coder of KV pages of %u tokens", tokens);
    }
    *out = coder;
    return VCL_OK;
}

void vcl_kv_coder_unmake(struct vcl_kv_coder *c)
{
    if (!c)
        return;
    const struct vcl_mem mem = c->mem;
    void *const blocks[] = { c->x, c->z, c->j, c->lanes, c->row_class, c->stored, c->scratch };
    vcl_tensor_work_destroy(&mem, &c->work);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        vcl_free(&mem, blocks[i]);
    vcl_free(&mem, c);
}

/* ---- views ------------------------------------------------------------------------------------- */

/* Where one side of a layer's vectors stand among a part's values, and in the caller's memory. */
struct side {
    const struct vcl_kv_view *view;
    uint32_t layer;         /* of the view */
    uint32_t dim, at;       /* of a head; of the side in the part */
    uint32_t heads, stride; /* of the part's values for a token */
};

/* The caller's head h of token t. */
static uint8_t *head_of(const struct side *s, uint32_t t, uint32_t h)
{
    const struct vcl_kv_view *const v = s->view;
    const size_t at = s->layer * v->layer_stride + t * v->token_stride + h * v->head_stride;
    return (uint8_t *)v->data + at * (vcl_dtype_bits(v->dtype) / 8);
}

/* The sides of a part that have a view; returns how many. */
static int sides_of(const struct vcl_kv_recipe *recipe, const struct vcl_kv_coding *part,
                    uint32_t first_layer, const struct vcl_kv_view *keys, const struct vcl_kv_view *values,
                    struct side sides[2])
{
    const struct vcl_kv_shape *const s = &recipe->shape;
    const uint32_t layer = part->layer - first_layer, stride = part->basis.cols;
    int n = 0;
    if (part->sides & VCL_KV_KEYS && keys)
        sides[n++] = (struct side){ keys, layer, s->key_dim, 0, s->heads, stride };
    if (part->sides & VCL_KV_VALUES && values)
        sides[n++] = (struct side){ values,       layer,
                                    s->value_dim, part->sides & VCL_KV_KEYS ? s->heads * s->key_dim : 0,
                                    s->heads,     stride };
    return n;
}

static void gather(const struct vcl_kernels *kernels, const struct side *s, uint32_t tokens, float *x)
{
    for (uint32_t t = 0; t < tokens; t++)
        for (uint32_t h = 0; h < s->heads; h++)
            kernels->to_f32(s->view->dtype, head_of(s, t, h), x + (size_t)t * s->stride + s->at + h * s->dim,
                            s->dim);
}

static void scatter(const struct side *s, uint32_t tokens, const float *x)
{
    for (uint32_t t = 0; t < tokens; t++)
        for (uint32_t h = 0; h < s->heads; h++)
            vcl_from_f32(s->view->dtype, x + (size_t)t * s->stride + s->at + h * s->dim, head_of(s, t, h),
                         s->dim);
}

/* ---- encoding ---------------------------------------------------------------------------------- */

/* Components of a token that have no index: too far from what the recipe was learned from, or not numbers.  Those
 * beyond `tokens`: none. */
static uint32_t find_beyond(const struct vcl_frame *frame, uint32_t tokens, const float *z)
{
    const float most = frame->step * VCL_INDEX_MAX;
    for (uint32_t t = 0; t < tokens; t++)
        for (uint64_t c = 0; c < frame->plan.cols; c++)
            if (!(fabsf(z[t * frame->plan.cols + c]) <= most))
                return t;
    return tokens;
}

/* A part's values to indices at j; their rows' classes to row_class. */
static enum vcl_status quantise_part(const struct vcl_env *env, struct vcl_kv_coder *coder,
                                     const struct vcl_kv_coding *part, const struct side sides[2],
                                     const struct vcl_frame *frame, int16_t *j, int8_t *row_class,
                                     struct vcl_lanes *lanes)
{
    const struct vcl_basis *const b = &part->basis;
    const uint32_t tokens = frame->plan.tile_rows, cols = frame->plan.tile_cols;
    const struct vcl_rect rect = { 0, 0, tokens, cols };
    for (int i = 0; i < 2 && sides[i].view; i++)
        gather(env->kernels, &sides[i], tokens, coder->x);
    for (uint32_t t = 0; t < tokens; t++)
        for (uint32_t i = 0; i < b->n; i++)
            coder->x[(size_t)t * b->cols + i] -= b->mean[i];
    vcl_basis_forward(env->kernels, b, coder->x, tokens, cols, coder->z);
    const uint32_t beyond = find_beyond(frame, tokens, coder->z);
    if (beyond < tokens)
        return vcl_env_fail(env, VCL_E_ARGUMENT,
                            "layer %u, token %u of the page: not finite, or too large for the recipe",
                            part->layer, beyond);
    *lanes = vcl_tensor_quantise(frame, part->recipe->tables, rect, coder->z, &coder->work, j, coder->scratch,
                                 VCL_DTYPE_F32, NULL, NULL);
    memcpy(row_class, coder->work.row_class, tokens);
    lanes->row_class = row_class;
    return VCL_OK;
}

/* All of the page's parts; *count: how many. */
static enum vcl_status quantise(const struct vcl_env *env, struct vcl_kv_coder *coder,
                                const struct vcl_kv_header *h, const struct vcl_kv_view *keys,
                                const struct vcl_kv_view *values, size_t *count)
{
    const struct vcl_kv_recipe *const recipe = coder->recipe;
    const int lanes = lanes_for(values_of(recipe, h));
    const size_t rows = (size_t)vcl_round_up(h->tokens, (uint64_t)lanes);
    int16_t *j = coder->j;
    *count = 0;
    for (size_t i = 0; i < recipe->count; i++) {
        const struct vcl_kv_coding *const part = recipe->parts + i;
        struct side sides[2] = { { NULL } };
        if (!holds(h, part))
            continue;
        const struct vcl_frame frame = frame_of(part, h->tokens, lanes);
        sides_of(recipe, part, h->first_layer, keys, values, sides);
        const enum vcl_status status =
            quantise_part(env, coder, part, sides, &frame, j, coder->row_class + *count * coder->tokens,
                          coder->lanes + *count);
        if (status)
            return status;
        j += rows * frame.plan.tile_cols;
        ++*count;
    }
    return VCL_OK;
}

enum vcl_status vcl_kv_encode_page(const struct vcl_env *env, struct vcl_kv_coder *coder,
                                   const struct vcl_kv_header *h, const struct vcl_kv_view *keys,
                                   const struct vcl_kv_view *values, uint8_t *page, size_t *bytes)
{
    const size_t room = *bytes;
    size_t at = HEADER, count;
    const enum vcl_status status = quantise(env, coder, h, keys, values, &count);
    if (status)
        return status;
    if (room < HEADER + count * vcl_scales_bound(h->tokens))
        return vcl_env_fail(env, VCL_E_SPACE, "no room for the header of a KV page");
    for (size_t i = 0; i < count; i++)
        at += vcl_scales_write(coder->lanes[i].row_class, h->tokens, 1, page + at);
    const size_t stored = vcl_lanes_encode(coder->lanes, count, coder->j, coder->stored);
    if (room - at < stored)
        return vcl_env_fail(env, VCL_E_SPACE, "a KV page of %zu bytes does not fit its buffer", at + stored);
    memcpy(page + at, coder->stored, stored);
    at += stored;
    write_header(h, page);
    vcl_store32(page + 4, vcl_hash32(page + 8, at - 8));
    *bytes = at;
    return VCL_OK;
}

/* ---- decoding ---------------------------------------------------------------------------------- */

/* The rows' classes of all the page's parts; the bytes they take, 0 if they are damaged. */
static size_t read_classes(struct vcl_kv_coder *coder, uint32_t tokens, size_t count, const uint8_t *src,
                           size_t bytes)
{
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        const size_t n =
            vcl_scales_read(src + at, bytes - at, coder->row_class + i * coder->tokens, tokens, 1);
        if (n == 0)
            return 0;
        at += n;
    }
    return at;
}

/* The next part of the stream, to the views that there are for it. */
static enum vcl_status decode_part(const struct vcl_env *env, struct vcl_kv_coder *coder,
                                   const struct vcl_kv_coding *part, const struct vcl_frame *frame,
                                   const int8_t *row_class, struct vcl_lanes_reader *r,
                                   const struct vcl_kv_range *range, const struct side sides[2])
{
    const uint32_t tokens = frame->plan.tile_rows, cols = frame->plan.tile_cols;
    const struct vcl_rect rect = { 0, 0, tokens, cols };
    if (!vcl_tensor_decode_lanes(frame, part->recipe->tables, rect, row_class, r, &coder->work, VCL_DTYPE_F32,
                                 coder->z))
        return vcl_env_fail(env, VCL_E_FORMAT, "layer %u of a KV page is damaged", part->layer);
    if (!sides[0].view)
        return VCL_OK;
    vcl_basis_inverse(env->kernels, &part->basis, coder->z + (size_t)range->first_token * cols, range->tokens,
                      cols, coder->x);
    for (int s = 0; s < 2 && sides[s].view; s++)
        scatter(&sides[s], range->tokens, coder->x);
    return VCL_OK;
}

enum vcl_status vcl_kv_decode_page(const struct vcl_env *env, struct vcl_kv_coder *coder,
                                   const struct vcl_kv_header *h, const uint8_t *page, size_t bytes,
                                   const struct vcl_kv_range *range, const struct vcl_kv_view *keys,
                                   const struct vcl_kv_view *values)
{
    const struct vcl_kv_recipe *const recipe = coder->recipe;
    const size_t count = count_parts(recipe, h), end_layer = range->first_layer + range->layers;
    const struct vcl_lanes lanes = { .lanes = lanes_for(values_of(recipe, h)) };
    const size_t classes = read_classes(coder, h->tokens, count, page + HEADER, bytes - HEADER);
    const uint8_t *const stream = page + HEADER + classes;
    struct vcl_lanes_reader r;
    size_t done = 0;
    if (count == 0)
        return vcl_env_fail(env, VCL_E_FORMAT, "a KV page that the recipe's parts cannot make up");
    if (classes == 0 || !vcl_lanes_open(&lanes, stream, bytes - HEADER - classes, &r))
        return vcl_env_fail(env, VCL_E_FORMAT, "a KV page whose classes or states are damaged");
    for (size_t i = 0; i < recipe->count && recipe->parts[i].layer < end_layer; i++) {
        const struct vcl_kv_coding *const part = recipe->parts + i;
        struct side sides[2] = { { NULL } };
        if (!holds(h, part))
            continue;
        const struct vcl_frame frame = frame_of(part, h->tokens, lanes.lanes);
        if (part->layer >= range->first_layer)
            sides_of(recipe, part, range->first_layer, keys, values, sides);
        const enum vcl_status status = decode_part(
            env, coder, part, &frame, coder->row_class + done++ * coder->tokens, &r, range, sides);
        if (status)
            return status;
    }
    return done < count || vcl_lanes_close(&lanes, &r)
             ? VCL_OK
             : vcl_env_fail(env, VCL_E_FORMAT, "a KV page that goes on behind its last layer");
}
