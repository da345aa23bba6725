/* rotate_model.h - the verb rotate: what was asked for, and the parts that do it. */
#ifndef VCL_ROTATE_MODEL_H
#define VCL_ROTATE_MODEL_H

#include "cli.h"
#include "merge/merge.h"

struct vcl_rotate {
    const char *input, *output;
    double seed;
    enum vcl_dtype dtype; /* --dtype; VCL_DTYPE_COUNT: as the tensors are */
    struct vcl_reading reading;
    int jobs, force, json, quiet;

    struct vcl_model *model;
    struct vcl_pool *pool;
    struct vcl_merge *merge;
    struct vcl_untied untied;
    int unties;     /* the head becomes a tensor of its own */
    size_t tensors; /* written so far */
    size_t made;    /* of them those that are not as they were */
    uint64_t bytes;
};

/* rotate_names.c: the tensor's name in the output; free() it. */
char *vcl_rotate_name(const struct vcl_rotate *job, const char *name);
/* Whether the output has one tensor more than the input, the head, and this shard has it. */
int vcl_rotate_adds_head(const struct vcl_rotate *job, size_t shard);

/* rotate_shard.c: one shard to a file. */
int vcl_rotate_shard(struct vcl_rotate *job, size_t number, const char *path);
/* rotate_sides.c: config.json and the index, in the partial folder, as they have become. */
int vcl_rotate_sides(const struct vcl_rotate *job, const struct vcl_folder *folder);

#endif
