/* config.h - config.json of a Hugging Face model: its shape, checked; what cannot be run is refused. */
#ifndef VCL_RUN_CONFIG_H
#define VCL_RUN_CONFIG_H

#include "common/fault.h"

enum { VCL_MAX_EOS = 8 };

enum vcl_rope_scaling { VCL_ROPE_PLAIN, VCL_ROPE_LINEAR, VCL_ROPE_LLAMA3 };

enum vcl_family { VCL_LLAMA, VCL_GPT2, VCL_NEOX };

struct vcl_config {
    enum vcl_family family;
    size_t layers, width, heads, kv_heads, head_dim, ffn, vocab;
    size_t context; /* most positions */
    size_t window;  /* positions that one sees, itself included; 0: all until it */
    double norm_eps, rope_theta;
    enum vcl_rope_scaling rope_scaling;
    double rope_factor, rope_low, rope_high, rope_original; /* as config.json has them; 0 where not needed */
    size_t rotary; /* dimensions of a head that are turned by its position; 0: positions are embedded */
    int tied;      /* the head is the embedding */
    int parallel;  /* attention and MLP read the same sum and are added to it together */
    int gelu_tanh; /* GELU by tanh, as GPT-2 has it; else by erf */
    size_t bos;    /* begins a text; SIZE_MAX: none */
    size_t eos_count, eos[VCL_MAX_EOS];
};

/* Reads FOLDER/config.json. */
enum vcl_status vcl_config_read(const char *folder, struct vcl_config *config, struct vcl_error *error);

#endif
