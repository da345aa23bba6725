/* saved.c - a cache of pages to a file and back, so that a long prompt is read once.
 *
 * The file is a compressed safetensors file as docs/format.md has it, with checksums of everything: the
 * tokens, the plain tokens' keys and values, a tensor for each page, and in the metadata what they belong
 * to. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model_cache.h"
#include "paged_parts.h"
#include "vcllm_file.h"

#define VERSION "1"
enum { NAME = 32, PAIRS = 9, MOST_TOKENS = 1 << 24 };
/* Real keys and values do not shrink to a tenth without loss: what unfolds further than this is hostile. */
enum { FREE = 64 << 20, MOST_RATIO = 64 };

/* ---- metadata --------------------------------------------------------------------------------- */

struct texts {
    struct vcl_model_cache cache;
    char recipe[17], page[12], first[12], recent[12];
};

static void hash_text(const struct vcl_kv_recipe *recipe, char text[17])
{
    struct vcl_kv_recipe_info info = { .size = sizeof info };
    text[0] = '\0';
    if (recipe && vcl_kv_recipe_describe(recipe, &info) == VCL_OK)
        snprintf(text, 17, "%016llx", (unsigned long long)info.hash);
}

static void describe(const struct vcl_paged *p, struct texts *t, struct vcl_pair pairs[PAIRS])
{
    t->cache = vcl_model_cache_of(p->network);
    hash_text(p->plan.recipe, t->recipe);
    snprintf(t->page, sizeof t->page, "%lu", (unsigned long)p->plan.page);
    snprintf(t->first, sizeof t->first, "%lu", (unsigned long)p->plan.first);
    snprintf(t->recent, sizeof t->recent, "%lu", (unsigned long)p->plan.recent);
    const struct vcl_pair all[PAIRS] = {
        { "format", "pt" },
        { "vcllm.cache", VERSION },
        { "vcllm.cache.revision", t->cache.revision },
        { "vcllm.cache.rope", t->cache.rope },
        { "vcllm.cache.layout", t->cache.layout },
        { "vcllm.cache.recipe", t->recipe },
        { "vcllm.cache.page", t->page },
        { "vcllm.cache.first", t->first },
        { "vcllm.cache.recent", t->recent },
    };
    memcpy(pairs, all, sizeof all);
}

/* ---- writing ---------------------------------------------------------------------------------- */

/* A tensor of the file.  plain: its values are gathered, else they are `bytes` of data. */
struct item {
    char name[NAME];
    struct vcl_tensor tensor;
    const void *data;
    const struct vcl_plain *plain;
};

static struct vcl_tensor plain_tensor(const struct vcl_paged *p, const struct vcl_plain *plain)
{
    const struct vcl_config *c = &p->network->config;
    return (struct vcl_tensor){ .dtype = VCL_DTYPE_F16,
                                .rank = 5,
                                .dims = { 2, p->layers, plain->count, c->kv_heads, c->head_dim } };
}

static struct vcl_tensor row_tensor(enum vcl_dtype dtype, size_t n)
{
    return (struct vcl_tensor){ .dtype = dtype, .rank = 1, .dims = { n } };
}

static size_t list_items(const struct vcl_paged *p, const uint32_t *tokens, struct item *items)
{
    size_t n = 0;
    items[n++] = (struct item){ "tokens", row_tensor(VCL_DTYPE_U32, p->length), tokens, NULL };
    if (p->first.count > 0)
        items[n++] = (struct item){ "first", plain_tensor(p, &p->first), NULL, &p->first };
    if (p->last.count > 0)
        items[n++] = (struct item){ "last", plain_tensor(p, &p->last), NULL, &p->last };
    for (size_t i = 0; i < p->count; i++) {
        items[n] = (struct item){ "", row_tensor(VCL_DTYPE_U8, p->pages[i].size), p->pages[i].bytes, NULL };
        snprintf(items[n++].name, NAME, "page.%07zu", i);
    }
    return n;
}

/* Keys, then values, of all layers, without the room between. */
static void *gather(const struct vcl_paged *p, const struct vcl_plain *plain)
{
    const size_t layer = plain->count * p->side;
    uint16_t *to = malloc(2 * p->layers * layer * sizeof *to + 1);
    for (size_t i = 0; i < 2 * p->layers && to; i++)
        memcpy(to + i * layer, vcl_plain_rows(p, plain, i >= p->layers, i % p->layers, plain->begin),
               layer * sizeof *to);
    return to;
}

static enum vcl_status write_item(const struct vcl_paged *p, const struct item *item,
                                  struct vcl_writer *writer, struct vcl_error *error)
{
    struct vcl_params params;
    size_t bytes = (size_t)vcl_bound(&item->tensor);
    void *const frame = malloc(bytes), *const values = item->plain ? gather(p, item->plain) : NULL;
    struct vcl_context *const ctx = p->seats[0].ctx;
    const struct vcl_sink sink = vcl_writer_sink(writer);
    enum vcl_status status = frame && (values || !item->plain) ? VCL_OK : vcl_fault_memory(error);
    vcl_params_init(&params);
    params.codec = item->tensor.dtype == VCL_DTYPE_U8 ? VCL_CODEC_EXACT : VCL_CODEC_LOSSLESS;
    if (status == VCL_OK) {
        status =
            vcl_encode_buffer(ctx, &item->tensor, values ? values : item->data, &params, frame, &bytes, NULL);
        if (status != VCL_OK)
            vcl_fault(error, status, "%s: %s", item->name, vcl_context_message(ctx));
    }
    if (status == VCL_OK && sink.write(sink.user, 0, frame, bytes) != 0)
        status = vcl_fault(error, VCL_E_IO, "%s", vcl_writer_failure(writer));
    if (status == VCL_OK)
        status = vcl_writer_end(writer, bytes, error);
    free(frame);
    free(values);
    return status;
}

static enum vcl_status write_items(const struct vcl_paged *p, const struct item *items, size_t count,
                                   const char *path, int overwrite, struct vcl_error *error)
{
    struct vcl_entry *entries = calloc(count, sizeof *entries);
    struct texts texts;
    struct vcl_pair pairs[PAIRS];
    struct vcl_layout layout;
    struct vcl_writer *writer = NULL;
    if (!entries)
        return vcl_fault_memory(error);
    for (size_t i = 0; i < count; i++)
        entries[i] = (struct vcl_entry){ .name = items[i].name, .bytes = vcl_bound(&items[i].tensor) };
    describe(p, &texts, pairs);
    vcl_layout_init(&layout);
    layout.count = count;
    layout.entries = entries;
    layout.metadata_count = PAIRS;
    layout.metadata = pairs;
    layout.frames = 1;
    layout.overwrite = overwrite;
    enum vcl_status status = vcl_writer_create(path, &layout, 0, &writer, error);
    for (size_t i = 0; i < count && status == VCL_OK; i++)
        status = write_item(p, &items[i], writer, error);
    if (status == VCL_OK)
        status = vcl_writer_commit(writer, error);
    else
        vcl_writer_abandon(writer);
    free(entries);
    return status;
}

enum vcl_status vcl_paged_save(const struct vcl_paged *p, const uint32_t *tokens, const char *path,
                               int overwrite, struct vcl_error *error)
{
    struct item *items = calloc(p->count + 3, sizeof *items);
    if (!items)
        return vcl_fault_memory(error);
    const size_t count = list_items(p, tokens, items);
    const enum vcl_status status = write_items(p, items, count, path, overwrite, error);
    free(items);
    return status;
}

/* ---- reading ---------------------------------------------------------------------------------- */

struct saved_file {
    const char *path;
    struct vcl_model *model;
    struct vcl_error *error;
};

static const char *text_of(const struct saved_file *r, const char *key)
{
    const char *value = vcl_model_metadata(r->model, 0, key);
    return value ? value : "";
}

static enum vcl_status bad(const struct saved_file *r, enum vcl_status status, const char *what)
{
    return vcl_fault(r->error, status, "%s: %s", r->path, what);
}

/* A number of at most `most`; most + 1: it is none. */
static uint32_t number_of(const struct saved_file *r, const char *key, uint32_t most)
{
    const char *text = text_of(r, key);
    char *end;
    errno = 0;
    const unsigned long n = strtoul(text, &end, 10);
    return *text >= '0' && *text <= '9' && *end == '\0' && errno == 0 && n <= most ? (uint32_t)n : most + 1;
}

static enum vcl_status read_plan(const struct saved_file *r, struct vcl_paged_plan *plan)
{
    enum { PAGE = 4096, MOST = 1 << 20 };
    plan->page = number_of(r, "vcllm.cache.page", PAGE);
    plan->first = number_of(r, "vcllm.cache.first", MOST);
    plan->recent = number_of(r, "vcllm.cache.recent", MOST);
    if (strcmp(text_of(r, "vcllm.cache"), VERSION) != 0)
        return bad(r, VCL_E_FORMAT, "is no KV cache of this version (vcllm.cache is not " VERSION ")");
    if (plan->page < 1 || plan->page > PAGE || plan->first > MOST || plan->recent > MOST)
        return bad(r, VCL_E_FORMAT, "vcllm.cache.page, .first or .recent is no number in its range");
    return VCL_OK;
}

/* The file, its hash checked, and how its cache is kept; close r->model, after a failure, too. */
static enum vcl_status open_saved(struct saved_file *r, struct vcl_paged_plan *plan)
{
    enum vcl_status status = vcl_model_open(r->path, NULL, &r->model, r->error);
    if (status == VCL_OK)
        status = vcl_model_check_hash(r->model, 0, r->error);
    return status == VCL_OK ? read_plan(r, plan) : status;
}

static enum vcl_status check_model(const struct saved_file *r, const struct vcl_network *network,
                                   const struct vcl_kv_recipe *recipe)
{
    const struct vcl_model_cache own = vcl_model_cache_of(network);
    char hash[17];
    hash_text(recipe, hash);
    if (strcmp(own.revision, text_of(r, "vcllm.cache.revision")) != 0)
        return vcl_fault(r->error, VCL_E_ARGUMENT,
                         "%s: is of another model, revision '%.40s'; this one is %s", r->path,
                         text_of(r, "vcllm.cache.revision"), own.revision);
    if (strcmp(own.rope, text_of(r, "vcllm.cache.rope")) != 0
        || strcmp(own.layout, text_of(r, "vcllm.cache.layout")) != 0)
        return vcl_fault(r->error, VCL_E_ARGUMENT, "%s: keys are rotated otherwise: '%.150s'; here '%s'",
                         r->path, text_of(r, "vcllm.cache.rope"), own.rope);
    if (strcmp(hash, text_of(r, "vcllm.cache.recipe")) != 0)
        return vcl_fault(r->error, VCL_E_ARGUMENT, "%s: was coded by recipe '%.40s'; this one is '%s'",
                         r->path, text_of(r, "vcllm.cache.recipe"), hash);
    return VCL_OK;
}

/* The named tensor's values, free() them, and its first dimension, at most `most`; shape has the others. */
static enum vcl_status read_item(const struct saved_file *r, struct vcl_context *ctx, const char *name,
                                 const struct vcl_tensor *shape, size_t most, void **values, size_t *n)
{
    const struct vcl_entry *entry = vcl_model_find(r->model, name);
    struct vcl_info info = { .size = sizeof info };
    uint64_t bytes = 0;
    *values = NULL;
    if (!entry)
        return vcl_fault(r->error, VCL_E_FORMAT, "%s: has no tensor '%s'", r->path, name);
    enum vcl_status status = vcl_model_frame(r->model, entry, &info, NULL, r->error);
    if (status != VCL_OK)
        return status;
    const size_t first = (size_t)info.tensor.dims[0];
    if (info.tensor.dtype != shape->dtype || info.tensor.rank != shape->rank || first < 1 || first > most
        || memcmp(info.tensor.dims + 1, shape->dims + 1, (shape->rank - 1) * sizeof *shape->dims) != 0)
        return vcl_fault(r->error, VCL_E_FORMAT, "%s: tensor '%s' has another type or shape than a cache's",
                         r->path, name);
    vcl_tensor_size(&info.tensor, NULL, &bytes);
    if (bytes > FREE && bytes / MOST_RATIO > entry->bytes)
        return vcl_fault(r->error, VCL_E_LIMIT, "%s: tensor '%s' would be more than %d times its frame",
                         r->path, name, MOST_RATIO);
    void *frame = malloc((size_t)entry->bytes + 1);
    *values = malloc((size_t)bytes + 1);
    *n = first;
    status = frame && *values ? vcl_model_read(r->model, entry, 0, frame, (size_t)entry->bytes, r->error)
                              : vcl_fault_memory(r->error);
    if (status == VCL_OK) {
        status = vcl_decode_buffer(ctx, frame, (size_t)entry->bytes, *values, (size_t)bytes);
        if (status != VCL_OK)
            vcl_fault(r->error, status, "%s: tensor '%s': %s", r->path, name, vcl_context_message(ctx));
    }
    free(frame);
    return status;
}

static enum vcl_status read_plain(const struct saved_file *r, struct vcl_paged *p, struct vcl_plain *to,
                                  const char *name)
{
    const struct vcl_tensor shape = plain_tensor(p, to);
    const size_t layer = to->count * p->side;
    void *values = NULL;
    size_t n;
    if (to->count == 0)
        return VCL_OK;
    const enum vcl_status status = read_item(r, p->seats[0].ctx, name, &shape, 2, &values, &n);
    if (status == VCL_OK && n != 2) {
        free(values);
        return bad(r, VCL_E_FORMAT, "plain tokens are not keys and values");
    }
    for (size_t i = 0; i < 2 * p->layers && status == VCL_OK; i++)
        memcpy(vcl_plain_rows(p, to, i >= p->layers, i % p->layers, to->begin),
               (const uint16_t *)values + i * layer, layer * sizeof(uint16_t));
    free(values);
    return status;
}

static enum vcl_status read_page(const struct saved_file *r, struct vcl_paged *p, size_t i)
{
    const struct vcl_tensor shape = row_tensor(VCL_DTYPE_U8, 0);
    struct vcl_paged_page *page = &p->pages[i];
    struct vcl_kv_info info = { .size = sizeof info };
    char name[NAME];
    snprintf(name, sizeof name, "page.%07zu", i);
    enum vcl_status status =
        read_item(r, p->seats[0].ctx, name, &shape, p->draft_bytes, &page->bytes, &page->size);
    p->count = i + 1; /* to be freed */
    if (status != VCL_OK)
        return status;
    p->coded += page->size;
    p->ever_bytes += page->size;
    p->ever_tokens += p->plan.page;
    status = vcl_kv_peek(page->bytes, page->size, &info);
    if (status == VCL_OK
        && (info.bytes != page->size || info.range.tokens != p->plan.page || info.range.first_layer != 0
            || info.range.layers != p->layers || info.range.position != vcl_paged_start(p, i)))
        status = VCL_E_FORMAT;
    return status == VCL_OK ? VCL_OK
                            : vcl_fault(r->error, status,
                                        "%s: tensor '%s' is not the page that belongs there", r->path, name);
}

/* ---- description ------------------------------------------------------------------------------ */

static void copy_text(const struct saved_file *r, const char *key, char *to, size_t room)
{
    snprintf(to, room, "%s", text_of(r, key));
}

/* Everything decodes; pages are pages. */
static enum vcl_status check_entry(const struct saved_file *r, struct vcl_context *ctx,
                                   const struct vcl_entry *entry, const struct vcl_info *info,
                                   struct vcl_saved *saved)
{
    struct vcl_kv_info page = { .size = sizeof page };
    void *values = NULL;
    size_t n;
    enum vcl_status status = read_item(r, ctx, entry->name, &info->tensor, SIZE_MAX, &values, &n);
    if (status == VCL_OK && strncmp(entry->name, "page.", 5) == 0) {
        status = vcl_kv_peek(values, n, &page);
        if (status != VCL_OK || page.bytes != n)
            status = vcl_fault(r->error, status == VCL_OK ? VCL_E_FORMAT : status,
                               "%s: tensor '%s' is no page", r->path, entry->name);
    }
    if (status == VCL_OK && strcmp(entry->name, "tokens") == 0)
        saved->tokens = n;
    free(values);
    return status;
}

static enum vcl_status describe_entries(const struct saved_file *r, struct vcl_context *ctx,
                                        struct vcl_saved *saved)
{
    for (size_t i = 0; i < vcl_model_count(r->model); i++) {
        const struct vcl_entry *entry = vcl_model_entry(r->model, i);
        struct vcl_info info = { .size = sizeof info };
        enum vcl_status status = vcl_model_frame(r->model, entry, &info, NULL, r->error);
        if (status == VCL_OK && info.tensor.rank < 1)
            status = bad(r, VCL_E_FORMAT, "has a tensor that no cache has");
        if (status == VCL_OK)
            status = check_entry(r, ctx, entry, &info, saved);
        if (status != VCL_OK)
            return status;
        if (strncmp(entry->name, "page.", 5) == 0) {
            saved->pages++;
            saved->page_bytes += entry->bytes;
        } else if (strcmp(entry->name, "tokens") != 0) {
            saved->plain_bytes += entry->bytes;
        }
    }
    return VCL_OK;
}

enum vcl_status vcl_saved_read(const char *path, struct vcl_saved *saved, struct vcl_error *error)
{
    struct saved_file r = { path, NULL, error };
    struct vcl_context *ctx = NULL;
    *saved = (struct vcl_saved){ 0 };
    enum vcl_status status = open_saved(&r, &saved->plan);
    if (status == VCL_OK && (status = vcl_context_create(NULL, &ctx)) != VCL_OK)
        vcl_fault(error, status, "%s", vcl_status_text(status));
    if (status == VCL_OK)
        status = describe_entries(&r, ctx, saved);
    if (status == VCL_OK) {
        copy_text(&r, "vcllm.cache.revision", saved->revision, sizeof saved->revision);
        copy_text(&r, "vcllm.cache.rope", saved->rope, sizeof saved->rope);
        copy_text(&r, "vcllm.cache.layout", saved->layout, sizeof saved->layout);
        copy_text(&r, "vcllm.cache.recipe", saved->recipe, sizeof saved->recipe);
        saved->bytes = vcl_model_shard_bytes(r.model, 0);
    }
    vcl_context_destroy(ctx);
    vcl_model_close(r.model);
    return status;
}

/* ---- loading ---------------------------------------------------------------------------------- */

/* How many of n tokens are where: the first, in pages, the last. */
static enum vcl_status divide(const struct saved_file *r, struct vcl_paged *p, size_t n, size_t *pages)
{
    const size_t first = n < p->first.room ? n : p->first.room, rest = n - first, page = p->plan.page;
    for (*pages = 0; *pages < rest / page; ++*pages) {
        char name[NAME];
        snprintf(name, sizeof name, "page.%07zu", *pages);
        if (!vcl_model_find(r->model, name))
            break;
    }
    p->first.count = first;
    p->last.begin = vcl_paged_start(p, *pages);
    p->last.count = rest - *pages * page;
    p->length = n;
    return *pages <= p->most && p->last.count <= p->last.room
             ? VCL_OK
             : bad(r, VCL_E_FORMAT, "has not the pages that its number of tokens needs");
}

static enum vcl_status read_tokens(const struct saved_file *r, const struct vcl_network *network,
                                   uint32_t **tokens, size_t *n)
{
    const struct vcl_tensor shape = row_tensor(VCL_DTYPE_U32, 0);
    const size_t most = network->config.context < MOST_TOKENS ? network->config.context : MOST_TOKENS;
    struct vcl_context *ctx;
    void *values = NULL;
    enum vcl_status status = vcl_context_create(NULL, &ctx);
    if (status != VCL_OK)
        return vcl_fault(r->error, status, "%s", vcl_status_text(status));
    status = read_item(r, ctx, "tokens", &shape, most, &values, n);
    vcl_context_destroy(ctx);
    *tokens = values;
    return status;
}

static enum vcl_status read_all(const struct saved_file *r, struct vcl_paged *p, size_t n)
{
    size_t pages;
    enum vcl_status status = divide(r, p, n, &pages);
    for (size_t i = 0; i < pages && status == VCL_OK; i++)
        status = read_page(r, p, i);
    if (status == VCL_OK)
        status = read_plain(r, p, &p->first, "first");
    return status == VCL_OK ? read_plain(r, p, &p->last, "last") : status;
}

static size_t common(const uint32_t *a, size_t n, const uint32_t *b, size_t m)
{
    size_t i = 0;
    while (i < n && i < m && a[i] == b[i])
        i++;
    return i;
}

static enum vcl_status load(const struct saved_file *r, const struct vcl_network *network,
                            struct vcl_paged_plan *plan, const uint32_t *tokens, size_t n, size_t positions,
                            struct vcl_paged **paged)
{
    uint32_t *saved = NULL;
    size_t count = 0;
    enum vcl_status status = check_model(r, network, plan->recipe);
    if (status == VCL_OK)
        status = read_tokens(r, network, &saved, &count);
    if (status == VCL_OK)
        status = vcl_paged_create(network, plan, positions > count ? positions : count, paged, r->error);
    if (status == VCL_OK)
        status = read_all(r, *paged, count);
    if (status == VCL_OK)
        vcl_paged_keep(*paged, common(saved, count, tokens, n - 1)); /* the last one's logits are wanted */
    free(saved);
    return status;
}

enum vcl_status vcl_paged_load(const struct vcl_network *network, const struct vcl_kv_recipe *recipe,
                               const char *path, const uint32_t *tokens, size_t n, size_t positions,
                               struct vcl_paged **paged, struct vcl_error *error)
{
    struct saved_file r = { path, NULL, error };
    struct vcl_paged_plan plan = { .recipe = recipe };
    *paged = NULL;
    enum vcl_status status = open_saved(&r, &plan);
    if (status == VCL_OK)
        status = load(&r, network, &plan, tokens, n, positions, paged);
    if (status != VCL_OK) {
        vcl_paged_destroy(*paged);
        *paged = NULL;
    }
    vcl_model_close(r.model);
    return status;
}
