/* pages.h - a cache that goes through coded pages and back, to see what that does to a model. */
#ifndef VCL_RUN_PAGES_H
#define VCL_RUN_PAGES_H

#include "net/kv.h"
#include "net/network.h"
#include "vcllm_kv.h"

struct vcl_pages;

/* How a sequence is cut. */
struct vcl_paging {
    uint32_t tokens; /* of a page at most, 1 to 4096 */
    uint32_t
        exact_first; /* of a sequence, that are kept as they are: attention sinks; counted as 16 bits a value */
};

/* The recipe must be the network's (model_cache.h); both must
 * outlive the pages, and so must the recipe's context. */
enum vcl_status vcl_pages_create(const struct vcl_network *network, const struct vcl_kv_recipe *recipe,
                                 struct vcl_paging paging, struct vcl_pages **pages, struct vcl_error *error);
void vcl_pages_destroy(struct vcl_pages *pages); /* NULL is fine */

/* Codes and decodes the keys and values of every batch: a token sees its own as all others do.  A batch is
 * cut into pages from its first token on.  On the network's pool. */
struct vcl_cache_hook vcl_pages_hook(struct vcl_pages *pages);
/* Of all pages so far, each with all layers, all of their bytes, and of the tokens kept.  NAN before the first. */
double vcl_pages_bits(const struct vcl_pages *pages);
/* What went wrong where the hook failed; else an empty text. */
const char *vcl_pages_fault(const struct vcl_pages *pages);

#endif
