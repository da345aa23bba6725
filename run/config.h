/* config.h - config.json of a Hugging Face model: its shape, checked, and what the runtime cannot do refused. */
#ifndef VCL_RUN_CONFIG_H
#define VCL_RUN_CONFIG_H

#include "fault.h"

enum { VCL_MAX_EOS = 8 };

struct vcl_config {
    size_t layers, width, heads, kv_heads, head_dim, ffn, vocab;
    size_t context; /* most positions */
    double norm_eps, rope_theta;
    int tied; /* the head is the embedding */
    size_t eos_count, eos[VCL_MAX_EOS];
};

/* Reads FOLDER/config.json. */
enum vcl_status vcl_config_read(const char *folder, struct vcl_config *config, struct vcl_error *error);

#endif
