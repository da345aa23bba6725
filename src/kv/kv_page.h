/* kv_page.h - pages of a KV cache, and what codes them. */
#ifndef VCL_KV_PAGE_H
#define VCL_KV_PAGE_H

#include "codec/tensor.h"
#include "kv/kv_recipe.h"

enum { VCL_KV_TOKENS = 4096, VCL_KV_VALUES_MOST = 1 << 28 }; /* most tokens and values of a page */

/* A page's first bytes as they are, or are to be. */
struct vcl_kv_header {
    uint64_t recipe;
    uint32_t position, tokens, first_layer, layers, sides;
};

enum vcl_status vcl_kv_parse(const uint8_t *page, size_t bytes, struct vcl_kv_header *header,
                             const char **reason);

/* The header of a page of this range; NULL, or what is wrong with the range. */
const char *vcl_kv_plan(const struct vcl_kv_recipe *recipe, const struct vcl_kv_range *range,
                        struct vcl_kv_header *header);
/* Does the recipe have parts that make up all sides of all layers of such a page, and no more?  And its most
 * bytes. */
int vcl_kv_has_parts(const struct vcl_kv_recipe *recipe, const struct vcl_kv_header *header);
size_t vcl_kv_page_bound(const struct vcl_kv_recipe *recipe, const struct vcl_kv_header *header);

/* One thread's buffers for pages of at most so many tokens. */
struct vcl_kv_coder {
    struct vcl_mem mem;
    struct vcl_context *ctx; /* whose message tells of failures */
    const struct vcl_kv_recipe *recipe;
    uint32_t tokens;
    float *x, *z;            /* tokens x the most columns: values, components */
    int16_t *j;              /* all parts' indices */
    struct vcl_lanes *lanes; /* of each part */
    int8_t *row_class;       /* [part][token] */
    uint8_t *stored;         /* the page's lanes */
    uint8_t *scratch;        /* a class list */
    struct vcl_tensor_work work;
};

enum vcl_status vcl_kv_coder_make(const struct vcl_env *env, const struct vcl_kv_recipe *recipe,
                                  uint32_t tokens, struct vcl_kv_coder **coder);
void vcl_kv_coder_unmake(struct vcl_kv_coder *coder);

/* The views' sides are those of the header.  *bytes: in, the room; out, what the page takes. */
enum vcl_status vcl_kv_encode_page(const struct vcl_env *env, struct vcl_kv_coder *coder,
                                   const struct vcl_kv_header *header, const struct vcl_kv_view *keys,
                                   const struct vcl_kv_view *values, uint8_t *page, size_t *bytes);
/* range: within the page; a view that is NULL is left out. */
enum vcl_status vcl_kv_decode_page(const struct vcl_env *env, struct vcl_kv_coder *coder,
                                   const struct vcl_kv_header *header, const uint8_t *page, size_t bytes,
                                   const struct vcl_kv_range *range, const struct vcl_kv_view *keys,
                                   const struct vcl_kv_view *values);

#endif
