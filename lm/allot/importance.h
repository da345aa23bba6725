/* importance.h - llama.cpp's importance matrices: mean squares of what matrices are multiplied with. */
#ifndef VCL_RUN_IMPORTANCE_H
#define VCL_RUN_IMPORTANCE_H

#include "common/fault.h"

struct vcl_importance;

/* Of one matrix of a checkpoint. */
struct vcl_inputs {
    float *weight; /* what a squared error costs at each input, above 0: its mean square; only ratios count */
    size_t count;  /* of inputs */
    int transposed; /* the checkpoint has the matrix as (inputs, outputs) */
};

/* Reads a file in either of llama.cpp's formats, GGUF or the older .dat.  VCL_E_FORMAT names entry and
 * offset. */
enum vcl_status vcl_importance_read(const char *path, struct vcl_importance **importance,
                                    struct vcl_error *error);
void vcl_importance_free(struct vcl_importance *importance); /* NULL is fine */
/* By the name that LLaMA, GPT-2 and GPT-NeoX checkpoints give the matrix; *inputs, which lives as long as the
 * importance, is NULL where the file or the names of llama.cpp have none. */
enum vcl_status vcl_importance_find(struct vcl_importance *importance, const char *name,
                                    const struct vcl_inputs **inputs, struct vcl_error *error);

#endif
