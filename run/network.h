/* network.h - a model opened: its configuration, and its weights by their place in the network. */
#ifndef VCL_RUN_NETWORK_H
#define VCL_RUN_NETWORK_H

#include "config.h"
#include "store.h"

struct vcl_layer {
    const float *attention_norm, *ffn_norm;
    const struct vcl_weight *q, *k, *v, *o, *gate, *up, *down;
};

struct vcl_network {
    struct vcl_config config;
    struct vcl_store *store;
    const struct vcl_weight *embedding, *head;
    const float *norm;
    struct vcl_layer *layers;
};

/* folder: config.json and safetensors files beside it.  Every shape is checked.  The team must outlive the
 * network. */
enum vcl_status vcl_network_open(const char *folder, struct vcl_team *team, struct vcl_network *network,
                                 struct vcl_error *error);
void vcl_network_close(struct vcl_network *network);

#endif
