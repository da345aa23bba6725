/* network.h - a model opened: its configuration, and its weights by their place in the network. */
#ifndef VCL_RUN_NETWORK_H
#define VCL_RUN_NETWORK_H

#include "config.h"
#include "store.h"

struct vcl_norm {
    const float *weight, *bias; /* bias NULL: RMS norm, else layer norm */
};

struct vcl_linear {
    const struct vcl_weight *weight;
    const float *bias; /* or NULL */
};

struct vcl_layer {
    struct vcl_norm attention_norm, ffn_norm;
    struct vcl_linear q, k, v, o, up, down;
    struct vcl_linear fused; /* in place of q, k and v: GPT-2 and NeoX */
    struct vcl_linear gate;  /* SwiGLU's; weight NULL: GELU */
};

struct vcl_network {
    struct vcl_config config;
    struct vcl_store *store;
    const struct vcl_weight *embedding, *head;
    const struct vcl_weight *positions; /* embedded, or NULL */
    struct vcl_norm norm;
    struct vcl_layer *layers;
    int own_head;            /* said to be the embedding, but stored as another matrix, which is used */
    struct vcl_named unread; /* tensors of the file that have no place here, but for buffers */
};

/* folder: config.json and safetensors files beside it.  Every shape is checked.  The pool must outlive the
 * network.  memory: as vcl_store_settle's. */
enum vcl_status vcl_network_open(const char *folder, struct vcl_pool *pool, uint64_t memory,
                                 struct vcl_network *network, struct vcl_error *error);

/* What a tensor does with the sum that all layers read, through a norm, and add to. */
enum vcl_part_kind {
    VCL_PART_EMBEDDING, /* its rows are added to the sum */
    VCL_PART_NORM,
    VCL_PART_NORM_BIAS,
    VCL_PART_READER, /* of the norm that came last; its bias, where it has one, is the next part */
    VCL_PART_READER_BIAS,
    VCL_PART_WRITER, /* its outputs are added to the sum */
    VCL_PART_WRITER_BIAS,
    VCL_PART_HEAD /* a reader without a bias; the last part */
};
enum { VCL_PART_NAME = 128 };
struct vcl_part {
    char name[VCL_PART_NAME];
    enum vcl_part_kind kind;
    struct vcl_tensor shape; /* as it is stored, but for the dtype */
    unsigned axis;           /* of a matrix: that of the sum */
};
struct vcl_outline {
    size_t count;
    struct vcl_part *parts; /* in the order of the pass; free() it */
};
/* Opens a model without its tensors, and lists them by their places; nothing says that they are there.  A
 * tied head is listed by the name that it has where it is not tied. */
enum vcl_status vcl_network_outline(const char *folder, struct vcl_pool *pool, struct vcl_network *network,
                                    struct vcl_outline *outline, struct vcl_error *error);

/* VCL_E_ARGUMENT where a baseline's predictions cannot be compared with the network's: another vocabulary. */
enum vcl_status vcl_network_compare(const struct vcl_network *network, const struct vcl_network *baseline,
                                    struct vcl_error *error);
void vcl_network_close(struct vcl_network *network);

#endif
