/* decompress.h - the verb decompress: what was asked for, and the parts that do it. */
#ifndef VCL_DECOMPRESS_H
#define VCL_DECOMPRESS_H

#include "cli.h"
#include "work.h"

struct vcl_decompress {
    const char *input, *output;
    const char *tensor;   /* --tensor, or NULL */
    const char *rows;     /* --rows as given, or NULL */
    enum vcl_dtype dtype; /* --dtype; VCL_DTYPE_COUNT: as the tensors are */
    const char *decoder;
    struct vcl_reading reading;
    int jobs, force, json, quiet;

    struct vcl_model *model;
    struct vcl_work work;
    size_t tensors; /* written so far, for the summary */
    uint64_t bytes;
};

/* decompress_shard.c: one shard to a plain file. */
int vcl_decompress_shard(struct vcl_decompress *job, size_t number, const char *path, int overwrite);
/* decompress_tensor.c: --tensor, to a file or to standard output. */
int vcl_decompress_tensor(struct vcl_decompress *job);

#endif
