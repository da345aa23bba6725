/* decompress.h - a compressed model to what it was: what was asked for, and how far it is. */
#ifndef VCL_DECOMPRESS_H
#define VCL_DECOMPRESS_H

#include "common/work.h"
#include "folder/opened.h"

struct vcl_decompress {
    struct vcl_errand *job;
    const char *input, *output;
    enum vcl_dtype dtype; /* of all float tensors; VCL_DTYPE_COUNT: as they are */
    const char *decoder;
    struct vcl_reading reading;
    unsigned threads;      /* 0: as many as CPUs */
    struct vcl_pool *pool; /* in place of them, or NULL */
    int force;

    struct vcl_model *model;
    struct vcl_work work;
    size_t tensors; /* written so far */
    uint64_t bytes;
};

/* Opens the model, which must be compressed, and makes the contexts; then vcl_decompress_release. */
enum vcl_status vcl_decompress_open(struct vcl_decompress *d);
/* A file to a file, a folder to a folder. */
enum vcl_status vcl_decompress_write(struct vcl_decompress *d);
/* Whether the output can be one file. */
enum vcl_status vcl_decompress_check_output(const struct vcl_decompress *d);
void vcl_decompress_release(struct vcl_decompress *d);

/* decompress_shard.c: one shard to a plain file. */
enum vcl_status vcl_decompress_shard(struct vcl_decompress *d, size_t number, const char *path,
                                     int overwrite);

#endif
