/* coded_cache.c - a coded KV cache, made as the options of run and eval say. */
#include <math.h>

#include "cache/model_cache.h"
#include "coded_cache.h"

enum { PLAIN_BITS = 16 };

int vcl_cli_codes_cache(const struct vcl_cache_options *o) { return o->bits > 0 || o->recipe; }

int vcl_cli_check_cache(const struct vcl_cache_options *o)
{
    if (o->bits > 0 && o->recipe)
        return vcl_tell(VCL_E_ARGUMENT,
                        "one of --kv-bits and --kv-recipe says how the cache is coded, not both");
    if (o->bits > 8 && o->bits != PLAIN_BITS)
        return vcl_tell(VCL_E_ARGUMENT, "--kv-bits is 0.1 to 8, or 16 for a cache that is not coded");
    return VCL_EXIT_OK;
}

void vcl_cli_settle_cache(struct vcl_cache_options *o)
{
    enum { PAGE = 64, FIRST = 4 };
    o->page = o->page ? o->page : PAGE;
    if (o->first == VCL_CACHE_NOT_GIVEN)
        o->first = o->recent == VCL_CACHE_NOT_GIVEN ? 0 : FIRST;
}

static int open_recipe(const char *folder, const struct vcl_network *network,
                       const struct vcl_cache_options *o, struct vcl_cache_recipe *recipe)
{
    const struct vcl_cache_lesson lesson = { .bits = o->bits, .seed = 1 };
    struct vcl_error error = { 0 };
    if (o->bits == PLAIN_BITS)
        return VCL_EXIT_OK;
    const int code = o->recipe ? vcl_cli_read_cache_recipe(o->recipe, recipe)
                               : vcl_cli_learn_cache(folder, network, &lesson, recipe);
    if (code || vcl_model_cache_check(network, recipe->recipe, &error) == VCL_OK)
        return code;
    return vcl_tell(error.status, "%s: %s", o->recipe, error.text);
}

int vcl_cli_open_cache(const char *folder, const struct vcl_network *network,
                       const struct vcl_cache_options *o, size_t positions, struct vcl_coded_cache *cache)
{
    struct vcl_error error = { 0 };
    const int code = open_recipe(folder, network, o, &cache->recipe);
    if (code)
        return code;
    const struct vcl_kv_recipe *recipe = cache->recipe.recipe;
    const uint32_t page = (uint32_t)o->page, first = (uint32_t)o->first;
    const enum vcl_status status =
        o->recent == VCL_CACHE_NOT_GIVEN
            ? vcl_pages_create(network, recipe, (struct vcl_paging){ page, first }, &cache->pages, &error)
            : vcl_paged_create(network, &(struct vcl_paged_plan){ recipe, page, first, (uint32_t)o->recent },
                               positions, &cache->paged, &error);
    return status == VCL_OK ? VCL_EXIT_OK : vcl_tell(status, "%s", error.text);
}

int vcl_cli_load_cache(const char *folder, const struct vcl_network *network,
                       const struct vcl_cache_options *o, const char *path, const uint32_t *tokens, size_t n,
                       size_t positions, struct vcl_coded_cache *cache, size_t *kept)
{
    struct vcl_error error = { 0 };
    const int code = o->recipe ? open_recipe(folder, network, o, &cache->recipe) : VCL_EXIT_OK;
    if (code)
        return code;
    if (vcl_paged_load(network, cache->recipe.recipe, path, tokens, n, positions, &cache->paged, &error)
        != VCL_OK)
        return vcl_tell(error.status, "%s", error.text);
    *kept = vcl_paged_use(cache->paged).tokens;
    return VCL_EXIT_OK;
}

void vcl_cli_close_cache(struct vcl_coded_cache *cache)
{
    vcl_pages_destroy(cache->pages);
    vcl_paged_destroy(cache->paged);
    vcl_cli_free_cache_recipe(&cache->recipe);
}

struct vcl_cache_hook vcl_cli_cache_hook(const struct vcl_coded_cache *cache)
{
    return cache->pages ? vcl_pages_hook(cache->pages)
         : cache->paged ? vcl_paged_hook(cache->paged)
                        : (struct vcl_cache_hook){ 0 };
}

const char *vcl_cli_cache_fault(const struct vcl_coded_cache *cache)
{
    return cache->pages ? vcl_pages_fault(cache->pages) : cache->paged ? vcl_paged_fault(cache->paged) : "";
}

double vcl_cli_cache_bits(const struct vcl_coded_cache *cache)
{
    return cache->pages ? vcl_pages_bits(cache->pages)
         : cache->paged ? vcl_paged_use(cache->paged).bits
                        : (double)NAN;
}

void vcl_cli_note_cache(const struct vcl_coded_cache *cache, const struct vcl_network *network)
{
    const struct vcl_config *c = &network->config;
    const struct vcl_paged_use use = vcl_paged_use(cache->paged);
    const uint64_t token = 2 * (uint64_t)c->layers * c->kv_heads * c->head_dim * sizeof(float);
    if (use.coded_tokens > 0)
        vcl_note(
            "cache: %zu of %zu tokens in pages, %s at %.3f bits a value; %s of room for the others and one "
            "layer; all as 32-bit floats would take %s",
            use.coded_tokens, use.tokens, vcl_words_size(use.coded).text, use.bits,
            vcl_words_size(use.room).text, vcl_words_size(use.tokens * token).text);
    else
        vcl_note(
            "cache: %zu tokens at 16 bits a value, %s of room for them and one layer; as 32-bit floats they "
            "would take %s",
            use.tokens, vcl_words_size(use.room).text, vcl_words_size(use.tokens * token).text);
}
