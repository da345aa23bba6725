/* pages.c - a batch's tokens layer by layer through vcllm_kv.h.
 *
 * A layer's keys and values must be decoded before the next layer is computed, so each layer is coded by
 * itself first.  A host would code a full page with all its layers at once: that is done once more with what
 * was kept when the last layer is there, and these are the bytes that count.  The values are the same either
 * way. */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "pages.h"

/* Of a thread. */
struct desk {
    struct vcl_context *ctx;
    struct vcl_kv_coder *coder;
    void *page;
};

struct vcl_pages {
    const struct vcl_network *network;
    uint32_t tokens, exact_first; /* struct vcl_paging's */
    size_t side, page_bytes;
    struct desk *desks; /* [thread] */
    size_t room;        /* tokens of a batch */
    float *kept[2];     /* keys and values as they were: [layer][room][side] */
    uint64_t bytes, values;
    atomic_int failed; /* status of a part that failed */
    struct vcl_error error;
};

/* ---- creation -------------------------------------------------------------------------------- */

static enum vcl_status create_desk(const struct vcl_pages *p, const struct vcl_kv_recipe *recipe,
                                   struct desk *desk)
{
    enum vcl_status status = vcl_context_create(NULL, &desk->ctx);
    if (status == VCL_OK)
        status = vcl_kv_coder_create(desk->ctx, recipe, p->tokens, &desk->coder);
    desk->page = malloc(p->page_bytes);
    return status == VCL_OK && !desk->page ? VCL_E_MEMORY : status;
}

static unsigned threads_of(const struct vcl_network *network)
{
    return vcl_pool_threads(vcl_store_pool(network->store));
}

enum vcl_status vcl_pages_create(const struct vcl_network *network, const struct vcl_kv_recipe *recipe,
                                 struct vcl_paging paging, struct vcl_pages **pages, struct vcl_error *error)
{
    const struct vcl_kv_range range = { .size = sizeof range, .tokens = paging.tokens };
    struct vcl_pages *p = calloc(1, sizeof *p);
    enum vcl_status status = VCL_OK;
    *pages = NULL;
    if (!p)
        return vcl_fault_memory(error);
    p->network = network;
    p->tokens = paging.tokens;
    p->exact_first = paging.exact_first;
    p->side = network->config.kv_heads * network->config.head_dim;
    p->page_bytes = vcl_kv_bound(recipe, &range);
    p->desks = calloc(threads_of(network), sizeof *p->desks);
    if (!p->desks || !p->page_bytes)
        status = p->desks ? VCL_E_ARGUMENT : VCL_E_MEMORY;
    for (unsigned i = 0; i < threads_of(network) && status == VCL_OK; i++)
        status = create_desk(p, recipe, &p->desks[i]);
    if (status != VCL_OK) {
        vcl_pages_destroy(p);
        return vcl_fault(error, status, "%s", vcl_status_text(status));
    }
    *pages = p;
    return VCL_OK;
}

void vcl_pages_destroy(struct vcl_pages *p)
{
    if (!p)
        return;
    for (unsigned i = 0; i < threads_of(p->network) && p->desks; i++) {
        vcl_kv_coder_destroy(p->desks[i].coder);
        vcl_context_destroy(p->desks[i].ctx);
        free(p->desks[i].page);
    }
    free(p->desks);
    free(p->kept[0]);
    free(p->kept[1]);
    free(p);
}

double vcl_pages_bits(const struct vcl_pages *p)
{
    return p->values ? 8 * (double)p->bytes / (double)p->values : NAN;
}

const char *vcl_pages_fault(const struct vcl_pages *p) { return p->error.text; }

/* ---- coding ---------------------------------------------------------------------------------- */

struct coding {
    struct vcl_pages *pages;
    const struct vcl_cache_tokens *of;
    _Atomic uint64_t bytes;
};

static struct vcl_kv_range range_of(const struct coding *c, size_t part)
{
    const size_t first = part * c->pages->tokens, left = c->of->count - first;
    return (struct vcl_kv_range){ .size = sizeof(struct vcl_kv_range),
                                  .tokens = left < c->pages->tokens ? (uint32_t)left : c->pages->tokens,
                                  .position = c->of->position + first };
}

static struct vcl_kv_view view_of(const struct vcl_pages *p, float *data)
{
    return (struct vcl_kv_view){ data, VCL_DTYPE_F32, p->room * p->side, p->side,
                                 p->network->config.head_dim };
}

/* The first failure is kept; the part that had it writes what it was. */
static void fail(struct vcl_pages *p, const struct desk *desk, enum vcl_status status, size_t layer)
{
    int none = VCL_OK;
    if (atomic_compare_exchange_strong(&p->failed, &none, status))
        vcl_fault(&p->error, status, "a page of the cache at layer %zu: %s", layer,
                  vcl_context_message(desk->ctx));
}

/* A page of one layer, there and back. */
static void code_part(void *user, size_t part, unsigned thread)
{
    const struct coding *c = user;
    struct vcl_pages *p = c->pages;
    const struct desk *desk = &p->desks[thread];
    const size_t at = part * p->tokens * p->side;
    const struct vcl_kv_view keys = view_of(p, c->of->keys + at), values = view_of(p, c->of->values + at);
    struct vcl_kv_range range = range_of(c, part);
    size_t bytes = p->page_bytes;
    range.first_layer = (uint32_t)c->of->layer;
    range.layers = 1;
    enum vcl_status status = vcl_kv_encode(desk->coder, &range, &keys, &values, desk->page, &bytes);
    if (status == VCL_OK)
        status = vcl_kv_decode(desk->coder, desk->page, bytes, NULL, &keys, &values);
    if (status != VCL_OK)
        fail(p, desk, status, c->of->layer);
}

/* A page of all layers, for its size. */
static void weigh_part(void *user, size_t part, unsigned thread)
{
    struct coding *c = user;
    struct vcl_pages *p = c->pages;
    const struct desk *desk = &p->desks[thread];
    const size_t at = part * p->tokens * p->side;
    const struct vcl_kv_view keys = view_of(p, p->kept[0] + at), values = view_of(p, p->kept[1] + at);
    const struct vcl_kv_range range = range_of(c, part);
    size_t bytes = p->page_bytes;
    const enum vcl_status status = vcl_kv_encode(desk->coder, &range, &keys, &values, desk->page, &bytes);
    if (status != VCL_OK)
        fail(p, desk, status, c->of->layer);
    else
        atomic_fetch_add(&c->bytes, bytes);
}

static int make_room(struct vcl_pages *p, size_t tokens)
{
    const size_t each = p->network->config.layers * p->side * sizeof(float);
    for (int kind = 0; kind < 2 && tokens > p->room; kind++) {
        free(p->kept[kind]);
        p->kept[kind] = calloc(tokens, each);
    }
    p->room = tokens > p->room ? tokens : p->room;
    return p->kept[0] && p->kept[1];
}

static void keep(const struct vcl_pages *p, const struct vcl_cache_tokens *of)
{
    const size_t to = of->layer * p->room * p->side, bytes = of->count * p->side * sizeof(float);
    memcpy(p->kept[0] + to, of->keys, bytes);
    memcpy(p->kept[1] + to, of->values, bytes);
}

/* Without the tokens that are kept as they are. */
static struct vcl_cache_tokens leave_first(const struct vcl_pages *p, const struct vcl_cache_tokens *all)
{
    const size_t left = all->position < p->exact_first ? p->exact_first - all->position : 0,
                 kept = left < all->count ? left : all->count;
    struct vcl_cache_tokens rest = *all;
    rest.position += kept;
    rest.count -= kept;
    rest.keys += kept * p->side;
    rest.values += kept * p->side;
    return rest;
}

static enum vcl_status pass(void *user, const struct vcl_cache_tokens *all)
{
    struct vcl_pages *p = user;
    struct vcl_pool *pool = vcl_store_pool(p->network->store);
    const struct vcl_cache_tokens rest = leave_first(p, all), *const of = &rest;
    struct coding coding = { .pages = p, .of = of };
    const size_t parts = (of->count + p->tokens - 1) / p->tokens;
    if (of->layer == 0 && of->count > 0 && !make_room(p, of->count))
        return vcl_fault_memory(&p->error);
    if (of->count > 0)
        keep(p, of);
    vcl_pool_run(pool, parts, code_part, &coding);
    if (of->layer + 1 < p->network->config.layers || p->failed)
        return (enum vcl_status)p->failed;
    vcl_pool_run(pool, parts, weigh_part, &coding);
    const uint64_t token = 2 * (uint64_t)p->side * p->network->config.layers; /* values */
    p->bytes += coding.bytes + 2 * (all->count - of->count) * token;
    p->values += all->count * token;
    return (enum vcl_status)p->failed;
}

struct vcl_cache_hook vcl_pages_hook(struct vcl_pages *p)
{
    return (struct vcl_cache_hook){ .pass = pass, .user = p };
}
