/* coded_cache.h - what the verbs run and eval share of a coded KV cache: options, making, words. */
#ifndef VCL_CLI_CODED_CACHE_H
#define VCL_CLI_CODED_CACHE_H

#include "cache/paged.h"
#include "cache/pages.h"
#include "cache_recipe.h"

struct vcl_cache_options {
    double bits;             /* 0: not given; 16: plain */
    const char *recipe;      /* a file's, or NULL */
    int page, first, recent; /* 0, and twice VCL_CACHE_NOT_GIVEN: not given */
};
enum { VCL_CACHE_NOT_GIVEN = -1 };
#define VCL_CACHE_DEFAULT                                           \
    {                                                               \
        .first = VCL_CACHE_NOT_GIVEN, .recent = VCL_CACHE_NOT_GIVEN \
    }
/* In a verb's table of options. */
#define VCL_CACHE_OPTIONS(kv)                                                         \
    { "kv-bits", 0, VCL_OPTION_NUMBER, &(kv).bits, 0.1, 16, NULL, NULL },             \
        { "kv-recipe", 0, VCL_OPTION_TEXT, &(kv).recipe, 0, 0, NULL, NULL },          \
        { "kv-page", 0, VCL_OPTION_INTEGER, &(kv).page, 1, 256, NULL, NULL },         \
        { "kv-exact-first", 0, VCL_OPTION_INTEGER, &(kv).first, 0, 256, NULL, NULL }, \
    {                                                                                 \
        "kv-recent", 0, VCL_OPTION_INTEGER, &(kv).recent, 0, 65536, NULL, NULL        \
    }

/* One of the two: pages codes every token's keys and values, its own too; paged keeps them as a host does. */
struct vcl_coded_cache {
    struct vcl_cache_recipe recipe;
    struct vcl_pages *pages;
    struct vcl_paged *paged;
};

int vcl_cli_codes_cache(const struct vcl_cache_options *options);
/* Usage errors of the options alone. */
int vcl_cli_check_cache(const struct vcl_cache_options *options);
/* What was not given: pages of 64 tokens; the first 4 plain where recent is given, else none. */
void vcl_cli_settle_cache(struct vcl_cache_options *options);
/* Settled options: paged, for at most `positions`; pages where recent was not given.  Prints why it fails and
 * returns an exit code; close it then, too. */
int vcl_cli_open_cache(const char *folder, const struct vcl_network *network,
                       const struct vcl_cache_options *options, size_t positions,
                       struct vcl_coded_cache *cache);
/* The same, paged, from a file that holds one, for a sequence that begins with the tokens: the file says how
 * it is kept.  *kept: how many of the tokens need not be read. */
int vcl_cli_load_cache(const char *folder, const struct vcl_network *network,
                       const struct vcl_cache_options *options, const char *path, const uint32_t *tokens,
                       size_t n, size_t positions, struct vcl_coded_cache *cache, size_t *kept);
void vcl_cli_close_cache(struct vcl_coded_cache *cache);

/* Of none, too. */
struct vcl_cache_hook vcl_cli_cache_hook(const struct vcl_coded_cache *cache);
const char *vcl_cli_cache_fault(const struct vcl_coded_cache *cache); /* empty: none */
double vcl_cli_cache_bits(const struct vcl_coded_cache *cache);       /* NAN: no pages yet */
/* Says what a paged cache takes, and what plain floats would. */
void vcl_cli_note_cache(const struct vcl_coded_cache *cache, const struct vcl_network *network);

#endif
