/* paged_parts.h - what a cache of pages is made of: paged.c fills it, saved.c files it. */
#ifndef VCL_RUN_PAGED_PARTS_H
#define VCL_RUN_PAGED_PARTS_H

#include <stdatomic.h>

#include "paged.h"

/* Plain tokens in sequence: keys and values, [layer][room][side] each, in F16. */
struct vcl_plain {
    uint16_t *data[2];
    size_t begin, count, room; /* positions */
};

/* Of a thread. */
struct vcl_seat {
    struct vcl_context *ctx;
    struct vcl_kv_coder *coder; /* NULL without a recipe */
    float *rows[2];             /* keys and values of a page's tokens, of one layer */
};

struct vcl_paged_page {
    void *bytes;
    size_t size;
};

struct vcl_paged {
    const struct vcl_network *network;
    struct vcl_paged_plan plan;
    size_t positions, layers, side; /* side: values of a token's keys in a layer, and of its values */
    struct vcl_plain first, last;   /* of the sequence */
    size_t length;                  /* tokens through all layers */
    size_t batch;                   /* tokens on their way */
    struct vcl_paged_page *pages;
    size_t count, most;
    struct vcl_seat *seats; /* [thread] */
    void *draft;            /* the largest page */
    size_t draft_bytes;
    uint64_t coded;                   /* bytes of the pages */
    uint64_t ever_bytes, ever_tokens; /* in pages, of all sequences */
    atomic_int failed;
    struct vcl_error error;
};

/* The first token of a page by number; where the last tokens begin after so many pages. */
static inline size_t vcl_paged_start(const struct vcl_paged *p, size_t page)
{
    return p->first.room + page * p->plan.page;
}

static inline uint16_t *vcl_plain_rows(const struct vcl_paged *p, const struct vcl_plain *plain, int kind,
                                       size_t layer, size_t position)
{
    return plain->data[kind] + (layer * plain->room + position - plain->begin) * p->side;
}

#endif
