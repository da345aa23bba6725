/* vcllm_kv.c - the public API of vcllm_kv.h: checks every argument, then calls the floor below. */
#include "vcllm_kv.h"

#include "base/common.h"
#include "base/sized.h"
#include "context.h"
#include "kv/kv_page.h"

enum { BOTH = VCL_KV_KEYS | VCL_KV_VALUES };

/* ---- recipes --------------------------------------------------------------------------------- */

enum vcl_status vcl_kv_recipe_learn(struct vcl_context *ctx, const struct vcl_kv_shape *shape,
                                    const struct vcl_kv_identity *identity, const struct vcl_kv_part *parts,
                                    size_t count, double step, struct vcl_kv_recipe **recipe, double *bits)
{
    if (!ctx)
        return VCL_E_ARGUMENT;
    ctx->message[0] = 0;
    if (!shape || !identity || !parts || !recipe || !bits)
        return vcl_context_fail(ctx, VCL_E_ARGUMENT, "a NULL argument");
    *recipe = NULL;
    const struct vcl_env env = vcl_context_env(ctx);
    return vcl_kv_learn(&env, shape, identity, parts, count, step, recipe, bits);
}

void vcl_kv_recipe_destroy(struct vcl_kv_recipe *recipe) { vcl_kv_recipe_unmake(recipe); }

enum vcl_status vcl_kv_recipe_describe(const struct vcl_kv_recipe *recipe, struct vcl_kv_recipe_info *info)
{
    if (!recipe || !info)
        return VCL_E_ARGUMENT;
    const struct vcl_kv_recipe_info own = { .shape = recipe->shape,
                                            .identity = { recipe->text[0], recipe->text[1], recipe->text[2],
                                                          recipe->text[3] },
                                            .hash = recipe->hash,
                                            .parts = recipe->count,
                                            .bytes = recipe->size,
                                            .step = recipe->parts[0].recipe->frame.step };
    return vcl_give_sized(&own, sizeof own, info) ? VCL_OK : VCL_E_ARGUMENT;
}

enum vcl_status vcl_kv_recipe_save(const struct vcl_kv_recipe *recipe, void *bytes, size_t *size)
{
    if (!recipe || !bytes || !size)
        return VCL_E_ARGUMENT;
    const size_t room = *size;
    *size = recipe->size;
    if (room < recipe->size)
        return VCL_E_SPACE;
    memcpy(bytes, recipe->bytes, recipe->size);
    return VCL_OK;
}

enum vcl_status vcl_kv_recipe_load(struct vcl_context *ctx, const void *bytes, size_t size,
                                   struct vcl_kv_recipe **recipe)
{
    if (!ctx)
        return VCL_E_ARGUMENT;
    ctx->message[0] = 0;
    if (!bytes || !recipe)
        return vcl_context_fail(ctx, VCL_E_ARGUMENT, "a NULL argument");
    *recipe = NULL;
    const struct vcl_env env = vcl_context_env(ctx);
    return vcl_kv_recipe_make(&env, bytes, size, recipe);
}

/* ---- pages ----------------------------------------------------------------------------------- */

size_t vcl_kv_bound(const struct vcl_kv_recipe *recipe, const struct vcl_kv_range *range)
{
    struct vcl_kv_range taken = { 0 };
    struct vcl_kv_header header;
    if (!recipe || !range || !vcl_take_sized(range, &taken, sizeof taken)
        || vcl_kv_plan(recipe, &taken, &header))
        return 0;
    return vcl_kv_page_bound(recipe, &header);
}

enum vcl_status vcl_kv_coder_create(struct vcl_context *ctx, const struct vcl_kv_recipe *recipe,
                                    uint32_t tokens, struct vcl_kv_coder **coder)
{
    if (!ctx)
        return VCL_E_ARGUMENT;
    ctx->message[0] = 0;
    if (!recipe || !coder)
        return vcl_context_fail(ctx, VCL_E_ARGUMENT, "a NULL argument");
    *coder = NULL;
    if (tokens == 0 || tokens > VCL_KV_TOKENS)
        return vcl_context_fail(ctx, VCL_E_ARGUMENT, "a page has 1 to 4096 tokens");
    const struct vcl_env env = vcl_context_env(ctx);
    const enum vcl_status status = vcl_kv_coder_make(&env, recipe, tokens, coder);
    if (!status)
        (*coder)->ctx = ctx;
    return status;
}

void vcl_kv_coder_destroy(struct vcl_kv_coder *coder) { vcl_kv_coder_unmake(coder); }

/* NULL, or what is wrong with a view of a side of the page. */
static const char *view_fault(const struct vcl_kv_view *view)
{
    const int known =
        view
        && (view->dtype == VCL_DTYPE_F16 || view->dtype == VCL_DTYPE_BF16 || view->dtype == VCL_DTYPE_F32);
    return known && view->data ? NULL : "a view without data, or of a dtype other than F16, BF16 and F32";
}

static const char *range_fault(const struct vcl_kv_coder *coder, const struct vcl_kv_range *range,
                               struct vcl_kv_header *header)
{
    struct vcl_kv_range taken = { 0 };
    if (!vcl_take_sized(range, &taken, sizeof taken))
        return "range.size must be sizeof range";
    const char *const fault = vcl_kv_plan(coder->recipe, &taken, header);
    if (fault)
        return fault;
    if (header->tokens > coder->tokens)
        return "range.tokens are more than the coder has room for";
    return vcl_kv_has_parts(coder->recipe, header)
             ? NULL
             : "range.sides has one side of a part in which keys and values are coded together";
}

enum vcl_status vcl_kv_encode(struct vcl_kv_coder *coder, const struct vcl_kv_range *range,
                              const struct vcl_kv_view *keys, const struct vcl_kv_view *values, void *page,
                              size_t *bytes)
{
    struct vcl_kv_header header;
    if (!coder)
        return VCL_E_ARGUMENT;
    coder->ctx->message[0] = 0;
    if (!range || !page || !bytes)
        return vcl_context_fail(coder->ctx, VCL_E_ARGUMENT, "a NULL argument");
    const char *fault = range_fault(coder, range, &header);
    if (!fault && header.sides & VCL_KV_KEYS)
        fault = view_fault(keys);
    if (!fault && header.sides & VCL_KV_VALUES)
        fault = view_fault(values);
    if (fault)
        return vcl_context_fail(coder->ctx, VCL_E_ARGUMENT, fault);
    const struct vcl_env env = vcl_context_env(coder->ctx);
    return vcl_kv_encode_page(&env, coder, &header, keys, values, page, bytes);
}

/* The whole page where the caller's range says so; NULL, or what is wrong. */
static const char *wanted_fault(const struct vcl_kv_header *h, struct vcl_kv_range *r)
{
    if (r->layers == 0 && r->first_layer == 0)
        r->first_layer = h->first_layer, r->layers = h->layers;
    if (r->first_layer < h->first_layer || r->first_layer - h->first_layer >= h->layers)
        return "range.first_layer is not in the page";
    if (r->layers == 0)
        r->layers = h->first_layer + h->layers - r->first_layer;
    if (r->layers > h->first_layer + h->layers - r->first_layer)
        return "range.layers go beyond the page's";
    if (r->first_token >= h->tokens || r->tokens > h->tokens - r->first_token)
        return "range.first_token and tokens go beyond the page's";
    if (r->tokens == 0)
        r->tokens = h->tokens - r->first_token;
    return (r->sides & ~h->sides) != 0 ? "range.sides are not in the page" : NULL;
}

static enum vcl_status check_page(const struct vcl_kv_coder *coder, const uint8_t *page, size_t bytes,
                                  struct vcl_kv_header *header)
{
    const char *reason;
    const enum vcl_status status = vcl_kv_parse(page, bytes, header, &reason);
    if (status)
        return vcl_context_fail(coder->ctx, status, reason);
    if (!vcl_hash_matches(page + 8, bytes - 8, vcl_load32(page + 4)))
        return vcl_context_fail(coder->ctx, VCL_E_CHECKSUM,
                                "page of a KV cache is damaged or cut off: its checksum does not match");
    if (!vcl_hash_fits(header->recipe, coder->recipe->hash)) {
        snprintf(coder->ctx->message, sizeof coder->ctx->message,
                 "the page was coded with the recipe %016llx, this one is %016llx (%.100s)",
                 (unsigned long long)header->recipe, (unsigned long long)coder->recipe->hash,
                 coder->recipe->text[0]);
        return VCL_E_FORMAT;
    }
    if (header->tokens > coder->tokens)
        return vcl_context_fail(coder->ctx, VCL_E_ARGUMENT,
                                "the page has more tokens than the coder room for");
    return VCL_OK;
}

enum vcl_status vcl_kv_decode(struct vcl_kv_coder *coder, const void *page, size_t bytes,
                              const struct vcl_kv_range *range, const struct vcl_kv_view *keys,
                              const struct vcl_kv_view *values)
{
    struct vcl_kv_range taken = { 0 };
    struct vcl_kv_header header;
    if (!coder)
        return VCL_E_ARGUMENT;
    coder->ctx->message[0] = 0;
    if (!page || (range && !vcl_take_sized(range, &taken, sizeof taken)))
        return vcl_context_fail(coder->ctx, VCL_E_ARGUMENT, "no page, or range.size is not sizeof range");
    const enum vcl_status status = check_page(coder, page, bytes, &header);
    if (status)
        return status;
    const char *fault = wanted_fault(&header, &taken);
    const uint32_t sides = (taken.sides ? taken.sides : BOTH) & header.sides;
    const struct vcl_kv_view *const k = sides & VCL_KV_KEYS ? keys : NULL, *const v = sides & VCL_KV_VALUES
                                                                                        ? values
                                                                                        : NULL;
    if (!fault && k)
        fault = view_fault(k);
    if (!fault && v)
        fault = view_fault(v);
    if (fault)
        return vcl_context_fail(coder->ctx, VCL_E_ARGUMENT, fault);
    const struct vcl_env env = vcl_context_env(coder->ctx);
    return vcl_kv_decode_page(&env, coder, &header, page, bytes, &taken, k, v);
}

enum vcl_status vcl_kv_peek(const void *page, size_t bytes, struct vcl_kv_info *info)
{
    struct vcl_kv_header h;
    const char *reason;
    if (!page || !info)
        return VCL_E_ARGUMENT;
    const enum vcl_status status = vcl_kv_parse(page, bytes, &h, &reason);
    if (status)
        return status;
    const struct vcl_kv_info own = { .range = { .size = sizeof own.range,
                                                .first_layer = h.first_layer,
                                                .layers = h.layers,
                                                .tokens = h.tokens,
                                                .position = h.position,
                                                .sides = h.sides },
                                     .recipe = h.recipe,
                                     .bytes = bytes };
    return vcl_give_sized(&own, sizeof own, info) ? VCL_OK : VCL_E_ARGUMENT;
}
