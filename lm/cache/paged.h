/* paged.h - a KV cache that is kept as coded pages: what of a long text stays in memory while a model runs. */
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

struct vcl_paged_use {
    size_t tokens, coded_tokens; /* of the sequence so far, and in pages */
    uint64_t coded;              /* bytes of pages */
    uint64_t plain;              /* bytes of the plain tokens */
    uint64_t room;               /* bytes set aside for plain tokens, and for a layer as attention reads it */
    double bits;                 /* a value in pages, of all sequences; NAN without any */
};
struct vcl_paged_use vcl_paged_use(const struct vcl_paged *paged);

#endif
