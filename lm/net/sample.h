/* sample.h - the next token, drawn from logits. */
#ifndef VCL_RUN_SAMPLE_H
#define VCL_RUN_SAMPLE_H

#include <stddef.h>
#include <stdint.h>

struct vcl_sampler {
    double temperature; /* 0: always the likeliest */
    double top_p;       /* of the likeliest tokens, as many as hold this share; 1: all */
    uint64_t state;     /* of the generator; begins as the seed */
    struct vcl_candidate *candidates;
    size_t vocab;
};

int vcl_sampler_create(struct vcl_sampler *sampler, size_t vocab); /* 0: out of memory */
void vcl_sampler_destroy(struct vcl_sampler *sampler);
uint32_t vcl_sample(struct vcl_sampler *sampler, const float *logits);

#endif
