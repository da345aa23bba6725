/* paged.c - a KV cache as coded pages and a few plain tokens.
 *
 * Tokens come in layer by layer and are rounded to F16, which every later token sees.  When a page's tokens
 * are through all layers and old enough, they are coded together and leave the plain part.  Before a layer's
 * attention its pages are decoded, side by side on the network's pool, into the one layer's room that the
 * forward pass has: so much, and no more, is ever decoded. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "paged_parts.h"

/* ---- creation -------------------------------------------------------------------------------- */

static unsigned threads_of(const struct vcl_paged *p)
{
    return vcl_pool_threads(vcl_store_pool(p->network->store));
}

static int create_plain(const struct vcl_paged *p, struct vcl_plain *plain, size_t room)
{
    size_t values;
    plain->room = room;
    if (__builtin_mul_overflow(p->layers * p->side, room, &values))
        return 0;
    for (int kind = 0; kind < 2; kind++)
        plain->data[kind] = calloc(values ? values : 1, sizeof(uint16_t));
    return plain->data[0] && plain->data[1];
}

static enum vcl_status create_seat(const struct vcl_paged *p, struct vcl_seat *seat)
{
    enum vcl_status status = vcl_context_create(NULL, &seat->ctx);
    if (status == VCL_OK && p->plan.recipe)
        status = vcl_kv_coder_create(seat->ctx, p->plan.recipe, p->plan.page, &seat->coder);
    for (int kind = 0; kind < 2; kind++)
        seat->rows[kind] = calloc(p->plan.page, p->side * sizeof(float));
    return status == VCL_OK && !(seat->rows[0] && seat->rows[1]) ? VCL_E_MEMORY : status;
}

/* Pages of a sequence, and the largest of them. */
static int create_pages(struct vcl_paged *p, size_t positions)
{
    const struct vcl_kv_range range = { .size = sizeof range, .tokens = p->plan.page };
    p->most = p->plan.recipe ? positions / p->plan.page : 0;
    p->pages = calloc(p->most + 1, sizeof *p->pages);
    p->draft_bytes = p->plan.recipe ? vcl_kv_bound(p->plan.recipe, &range) : 0;
    p->draft = malloc(p->draft_bytes + 1);
    return p->pages && p->draft;
}

static enum vcl_status create_all(struct vcl_paged *p, size_t positions)
{
    const size_t first = p->plan.first < positions ? p->plan.first : positions;
    const size_t last =
        (size_t)p->plan.recent + 2 * (size_t)p->plan.page; /* as they are added, before they leave */
    enum vcl_status status = VCL_OK;
    if (!create_plain(p, &p->first, first)
        || !create_plain(p, &p->last, p->plan.recipe && last < positions ? last : positions)
        || !create_pages(p, positions))
        return VCL_E_MEMORY;
    p->last.begin = p->first.room;
    p->seats = calloc(threads_of(p), sizeof *p->seats);
    for (unsigned i = 0; i < threads_of(p) && p->seats && status == VCL_OK; i++)
        status = create_seat(p, &p->seats[i]);
    return p->seats ? status : VCL_E_MEMORY;
}

enum vcl_status vcl_paged_create(const struct vcl_network *network, const struct vcl_paged_plan *plan,
                                 size_t positions, struct vcl_paged **paged, struct vcl_error *error)
{
    struct vcl_paged *p = calloc(1, sizeof *p);
    *paged = NULL;
    if (!p)
        return vcl_fault_memory(error);
    p->network = network;
    p->plan = *plan;
    p->positions = positions;
    p->layers = network->config.layers;
    p->side = network->config.kv_heads * network->config.head_dim;
    const enum vcl_status status = create_all(p, positions);
    if (status != VCL_OK) {
        vcl_paged_destroy(p);
        return vcl_fault(error, status, "a cache of %zu positions: %s", positions, vcl_status_text(status));
    }
    *paged = p;
    return VCL_OK;
}

/* Pages are kept or dropped whole; what was plain can end anywhere. */
size_t vcl_paged_keep(struct vcl_paged *p, size_t tokens)
{
    if (tokens >= p->length)
        return p->length;
    if (tokens >= p->last.begin && tokens >= p->first.room) {
        p->last.count = tokens - p->last.begin;
        return p->length = tokens;
    }
    const size_t pages = tokens > p->first.room ? (tokens - p->first.room) / p->plan.page : 0;
    while (p->count > pages) {
        p->coded -= p->pages[--p->count].size;
        free(p->pages[p->count].bytes);
    }
    p->last.count = 0;
    p->last.begin = vcl_paged_start(p, pages);
    p->first.count = tokens < p->first.room ? tokens : p->first.room;
    return p->length = tokens < p->first.room ? tokens : p->last.begin;
}

void vcl_paged_destroy(struct vcl_paged *p)
{
    if (!p)
        return;
    vcl_paged_keep(p, 0);
    for (unsigned i = 0; i < threads_of(p) && p->seats; i++) {
        vcl_kv_coder_destroy(p->seats[i].coder);
        vcl_context_destroy(p->seats[i].ctx);
        free(p->seats[i].rows[0]);
        free(p->seats[i].rows[1]);
    }
    for (int kind = 0; kind < 2; kind++) {
        free(p->first.data[kind]);
        free(p->last.data[kind]);
    }
    free(p->seats);
    free(p->pages);
    free(p->draft);
    free(p);
}

const char *vcl_paged_fault(const struct vcl_paged *p) { return p->error.text; }

/* The first failure is kept. */
static enum vcl_status fail(struct vcl_paged *p, enum vcl_status status, size_t position, const char *words)
{
    int none = VCL_OK;
    if (atomic_compare_exchange_strong(&p->failed, &none, status))
        vcl_fault(&p->error, status, "the cache's tokens from %zu on: %s", position, words);
    return status;
}

/* ---- tokens come in -------------------------------------------------------------------------- */

/* Rounds to F16 what attention will see, too. */
static enum vcl_status take(struct vcl_paged *p, const struct vcl_plain *to, int kind,
                            const struct vcl_cache_tokens *tokens)
{
    float *rows = kind == 0 ? tokens->keys : tokens->values;
    uint16_t *const at = vcl_plain_rows(p, to, kind, tokens->layer, tokens->position);
    const size_t n = tokens->count * p->side;
    for (size_t i = 0; i < n; i++)
        if (!(fabsf(rows[i]) <= 65504))
            return fail(p, VCL_E_ARGUMENT, tokens->position + i / p->side,
                        "a key or value is beyond what F16 holds");
    vcl_convert(VCL_DTYPE_F32, rows, VCL_DTYPE_F16, at, n);
    vcl_convert(VCL_DTYPE_F16, at, VCL_DTYPE_F32, rows, n);
    return VCL_OK;
}

/* A batch is within the first tokens or after them (the hook's first). */
static enum vcl_status pass(void *user, const struct vcl_cache_tokens *tokens)
{
    struct vcl_paged *p = user;
    if (tokens->position == 0 && tokens->layer == 0)
        vcl_paged_keep(p, 0);
    struct vcl_plain *to = tokens->position < p->first.room ? &p->first : &p->last;
    enum vcl_status status = take(p, to, 0, tokens);
    if (status == VCL_OK)
        status = take(p, to, 1, tokens);
    p->batch = tokens->count;
    return status;
}

/* ---- a layer is wanted ----------------------------------------------------------------------- */

struct wanted {
    struct vcl_paged *paged;
    size_t layer, from; /* positions below it are not wanted */
    const struct vcl_cache_place *place;
};

static void put_page(const struct wanted *f, size_t page, const struct vcl_seat *seat)
{
    struct vcl_paged *p = f->paged;
    const struct vcl_kv_range range = { .size = sizeof range,
                                        .first_layer = (uint32_t)f->layer,
                                        .layers = 1 };
    const struct vcl_kv_view keys = { seat->rows[0], VCL_DTYPE_F32, 0, p->side, p->network->config.head_dim },
                             values = { seat->rows[1], VCL_DTYPE_F32, 0, p->side,
                                        p->network->config.head_dim };
    const size_t start = vcl_paged_start(p, page);
    if (start + p->plan.page <= f->from)
        return;
    const enum vcl_status status =
        vcl_kv_decode(seat->coder, p->pages[page].bytes, p->pages[page].size, &range, &keys, &values);
    if (status != VCL_OK) {
        fail(p, status, start, vcl_context_message(seat->ctx));
        return;
    }
    f->place->put(f->place->flow,
                  &(struct vcl_cache_tokens){ f->layer, start, p->plan.page, seat->rows[0], seat->rows[1] });
}

/* As many tokens as a page has, but for the last part. */
static size_t plain_parts(const struct vcl_paged *p, const struct vcl_plain *plain)
{
    return (plain->count + p->plan.page - 1) / p->plan.page;
}

static void put_plain(const struct wanted *f, const struct vcl_plain *from, size_t part,
                      const struct vcl_seat *seat)
{
    const struct vcl_paged *p = f->paged;
    const size_t done = part * p->plan.page, left = from->count - done, position = from->begin + done;
    const size_t n = left < p->plan.page ? left : p->plan.page;
    for (int kind = 0; kind < 2; kind++)
        vcl_convert(VCL_DTYPE_F16, vcl_plain_rows(p, from, kind, f->layer, position), VCL_DTYPE_F32,
                    seat->rows[kind], n * p->side);
    f->place->put(f->place->flow,
                  &(struct vcl_cache_tokens){ f->layer, position, n, seat->rows[0], seat->rows[1] });
}

/* Pages, then the first tokens, then the last. */
static void fill_part(void *user, size_t part, unsigned thread)
{
    const struct wanted *f = user;
    const struct vcl_paged *p = f->paged;
    const struct vcl_seat *seat = &p->seats[thread];
    const size_t plain = part - p->count, first = plain_parts(p, &p->first);
    if (part < p->count)
        put_page(f, part, seat);
    else if (plain < first)
        put_plain(f, &p->first, plain, seat);
    else
        put_plain(f, &p->last, plain - first, seat);
}

static enum vcl_status fill(void *user, size_t layer, size_t from, const struct vcl_cache_place *place)
{
    struct vcl_paged *p = user;
    struct wanted wanted = { p, layer, from, place };
    const size_t parts = p->count + plain_parts(p, &p->first) + plain_parts(p, &p->last);
    vcl_pool_run(vcl_store_pool(p->network->store), parts, fill_part, &wanted);
    return (enum vcl_status)p->failed;
}

/* ---- tokens leave for a page ------------------------------------------------------------------ */

/* The oldest of the last ones. */
static enum vcl_status code_page(struct vcl_paged *p)
{
    const struct vcl_kv_range range = { .size = sizeof range,
                                        .tokens = p->plan.page,
                                        .position = p->last.begin };
    const struct vcl_seat *seat = &p->seats[0];
    struct vcl_kv_view views[2];
    size_t bytes = p->draft_bytes;
    for (int kind = 0; kind < 2; kind++)
        views[kind] = (struct vcl_kv_view){ p->last.data[kind], VCL_DTYPE_F16, p->last.room * p->side,
                                            p->side, p->network->config.head_dim };
    const enum vcl_status status = vcl_kv_encode(seat->coder, &range, &views[0], &views[1], p->draft, &bytes);
    if (status != VCL_OK)
        return fail(p, status, p->last.begin, vcl_context_message(seat->ctx));
    struct vcl_paged_page *page = &p->pages[p->count];
    page->bytes = malloc(bytes);
    if (!page->bytes)
        return fail(p, VCL_E_MEMORY, p->last.begin, "out of memory");
    memcpy(page->bytes, p->draft, bytes);
    page->size = bytes;
    p->count++;
    p->coded += bytes;
    p->ever_bytes += bytes;
    p->ever_tokens += p->plan.page;
    return VCL_OK;
}

static void drop_oldest(struct vcl_paged *p)
{
    struct vcl_plain *last = &p->last;
    const size_t gone = p->plan.page, left = last->count - gone;
    for (int kind = 0; kind < 2; kind++)
        for (size_t layer = 0; layer < p->layers; layer++) {
            uint16_t *rows = last->data[kind] + layer * last->room * p->side;
            memmove(rows, rows + gone * p->side, left * p->side * sizeof *rows);
        }
    last->begin += gone;
    last->count = left;
}

static enum vcl_status end(void *user)
{
    struct vcl_paged *p = user;
    struct vcl_plain *to = p->length < p->first.room ? &p->first : &p->last;
    enum vcl_status status = VCL_OK;
    to->count += p->batch;
    p->length += p->batch;
    if (!p->plan.recipe
        || p->last.count % p->plan.page != 0) /* only when a page is full: batches end there */
        return VCL_OK;
    while (p->last.count >= (size_t)p->plan.recent + p->plan.page && status == VCL_OK) {
        status = code_page(p);
        if (status == VCL_OK)
            drop_oldest(p);
    }
    return status;
}

struct vcl_cache_hook vcl_paged_hook(struct vcl_paged *p)
{
    return (struct vcl_cache_hook){
        .pass = pass, .fill = fill, .end = end, .first = p->first.room, .page = p->plan.page, .user = p
    };
}

struct vcl_paged_use vcl_paged_use(const struct vcl_paged *p)
{
    const uint64_t token = 2 * (uint64_t)p->layers * p->side; /* values */
    const size_t coded = p->count * p->plan.page;
    const uint64_t layer = 2 * sizeof(float) * (uint64_t)p->side; /* of a position */
    return (struct vcl_paged_use){
        .tokens = p->length,
        .coded_tokens = coded,
        .coded = p->coded,
        .plain = (p->length - coded) * token * sizeof(uint16_t),
        .room = (p->first.room + p->last.room) * token * sizeof(uint16_t) + p->positions * layer,
        .bits =
            p->ever_tokens > 0 ? 8 * (double)p->ever_bytes / ((double)p->ever_tokens * (double)token) : NAN,
    };
}
