/* paged.h - a KV cache that is kept as coded pages: what of a long text stays in memory. */
#ifndef VCL_RUN_PAGED_H
#define VCL_RUN_PAGED_H

#include "net/kv.h"
#include "net/network.h"
#include "vcllm_kv.h"

/* Tokens that are plain, 16 bits a value (F16): the first of a sequence, those of the page being filled, and
 * `recent` before them.  All others are in pages, each of all layers. */
struct vcl_paged_plan {
    const struct vcl_kv_recipe *recipe; /* the network's (model_cache.h); NULL: all tokens are plain */
    uint32_t page;                      /* tokens, 1 to 4096 */
    uint32_t first, recent;
};

struct vcl_paged;

/* For sequences of at most `positions`.  The network and the recipe must outlive it. */
enum vcl_status vcl_paged_create(const struct vcl_network *network, const struct vcl_paged_plan *plan,
                                 size_t positions, struct vcl_paged **paged, struct vcl_error *error);
void vcl_paged_destroy(struct vcl_paged *paged); /* NULL is fine */

/* For one vcl_forward at a time.  A token sees the same tokens plain and the same coded however a text was
 * cut into readings. */
struct vcl_cache_hook vcl_paged_hook(struct vcl_paged *paged);
/* What went wrong where the hook failed; else an empty text. */
const char *vcl_paged_fault(const struct vcl_paged *paged);

/* Back to at most the sequence's first `tokens`; returns how many are left, for pages are dropped whole. */
size_t vcl_paged_keep(struct vcl_paged *paged, size_t tokens);

struct vcl_paged_use {
    size_t tokens, coded_tokens; /* of the sequence so far, and in pages */
    uint64_t coded;              /* bytes of pages */
    uint64_t plain;              /* bytes of the plain tokens */
    uint64_t room;               /* bytes set aside for plain tokens, and for a layer as attention reads it */
    double bits;                 /* a value in pages, of all sequences; NAN without any */
};
struct vcl_paged_use vcl_paged_use(const struct vcl_paged *paged);

/* To a file and back (docs/format.md, "File of a KV cache").  tokens: of the sequence, as many as it has.
 * VCL_E_IO where the file is there and is not to be replaced. */
enum vcl_status vcl_paged_save(const struct vcl_paged *paged, const uint32_t *tokens, const char *path,
                               int overwrite, struct vcl_error *error);
/* A cache with room for `positions`, as the file's plan says, for a sequence that begins with `tokens`: of
 * those of the file it keeps what is the same, less than n.  recipe: the one that the file's pages were coded
 * by, or NULL where it has none; VCL_E_ARGUMENT where it is another, or the file another model's.
 * VCL_E_FORMAT, VCL_E_CHECKSUM and so on for damage. */
enum vcl_status vcl_paged_load(const struct vcl_network *network, const struct vcl_kv_recipe *recipe,
                               const char *path, const uint32_t *tokens, size_t n, size_t positions,
                               struct vcl_paged **paged, struct vcl_error *error);

/* What a file says of the cache in it. */
struct vcl_saved {
    struct vcl_paged_plan plan; /* recipe NULL */
    char revision[20], rope[128], layout[64], recipe[20];
    size_t tokens, pages;
    uint64_t page_bytes, plain_bytes, bytes; /* of pages, of plain keys and values, of the file */
};
/* Checks every checksum. */
enum vcl_status vcl_saved_read(const char *path, struct vcl_saved *saved, struct vcl_error *error);

#endif
