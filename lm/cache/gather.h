/* gather.h - what a text that the model writes itself tells of the keys and values in its cache. */
#ifndef VCL_RUN_GATHER_H
#define VCL_RUN_GATHER_H

#include "allot/draft.h"
#include "allot/moments.h"

struct vcl_learn_options {
    size_t sequences, length; /* of the model's own text; length at most its context */
    uint64_t seed;
    int apart;   /* a layer's keys and values each in a basis of their own, else together */
    int local;   /* what errors cost by the layer's own attention alone (metric.h), else by their gradients */
    double bits; /* a value, of all bytes of that text's pages of 64 tokens */
    const char *model; /* its name, for messages */
    struct vcl_watch watch;
};

/* Of one layer.  A vector is what a token has there: the keys of all heads before rotation, then the
 * values. */
struct vcl_layer_facts {
    float *origin; /* the mean of the first text, which comes off before squares are taken */
    double *sums;  /* of vectors without it */
    struct vcl_moments *squares, *gradients; /* of these vectors; of the loss' gradients */
    double *metric[2];                       /* of keys, of values: [head][dim][dim] (metric.h) */
};
struct vcl_cache_facts {
    size_t layers, heads, dim, side; /* side: values of a layer's keys for one token */
    struct vcl_layer_facts *of;
    size_t kept;    /* tokens of the text, spread over it */
    float *vectors; /* theirs: [layer][token][2 side], or [layer][keys, values][token][side] if apart */
};

/* Writes the text, reads it forward and, but with `local`, twice backward.  vcl_facts_free takes what failed,
 * too.  VCL_E_ARGUMENT, VCL_E_MEMORY, VCL_E_CANCELLED, VCL_E_FORMAT where the model's loss is no number. */
enum vcl_status vcl_facts_gather(const struct vcl_network *network, const struct vcl_learn_options *options,
                                 struct vcl_cache_facts *facts, struct vcl_error *error);
void vcl_facts_free(struct vcl_cache_facts *facts);
/* Tokens written, read forward or read backward in sum: what progress comes to. */
size_t vcl_facts_work(const struct vcl_learn_options *options);

#endif
