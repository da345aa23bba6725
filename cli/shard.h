/* shard.h - one shard of a model on its way into or out of its compressed form. */
#ifndef VCL_SHARD_H
#define VCL_SHARD_H

#include "choose.h"
#include "work.h"

/* ---- describe.c: what the file to be written holds ------------------------------------------- */

struct vcl_shard {
    size_t first, last;       /* its entries in the model: first to last-1 */
    struct vcl_layout layout; /* of the file to be written; points into what follows */
    struct vcl_entry *entries;
    struct vcl_pair *pairs;
    char *header; /* the original one, or what is kept of it, where it is needed */
};
/* The compressed form; late_bytes: room for metadata that is added after the tensors. */
int vcl_shard_describe_frames(struct vcl_shard *shard, const struct vcl_model *model, size_t number,
                              const struct vcl_choice *choices, size_t late_bytes);
/* The plain form of a compressed shard; floats become `dtype` unless it is VCL_DTYPE_COUNT. */
int vcl_shard_describe_plain(struct vcl_shard *shard, const struct vcl_model *model, size_t number,
                             enum vcl_dtype dtype);
/* A shard of a plain model once more, with room for `more` entries behind its own. */
void vcl_shard_describe_same(struct vcl_shard *shard, const struct vcl_model *model, size_t number,
                             size_t more);
void vcl_shard_free(struct vcl_shard *shard);
/* Bytes of the tensors in the plain form. */
uint64_t vcl_shard_bytes(const struct vcl_shard *shard);

/* ---- compress_shard.c ------------------------------------------------------------------------ */

struct vcl_result {
    struct vcl_report report;
    int done; /* 0: kept from an earlier run; the report is empty */
};
struct vcl_encoding {
    const struct vcl_model *model;
    const struct vcl_choice *choices;
    const struct vcl_params *params;
    struct vcl_work *work;
    struct vcl_result *results; /* one per entry */
    int verbose, overwrite;
};
/* What a folder adds to its last shard, once all frames are written: metadata vcllm.files. */
struct vcl_late {
    size_t bytes; /* room in the header */
    void *user;
    /* frame_bytes: of this shard.  Returns the text through *value, free()d by the caller, or an
     * exit code. */
    int (*make)(void *user, uint64_t frame_bytes, char **value);
};
/* disk_bytes: what must be free before it starts.  late may be NULL. */
int vcl_encode_shard(const struct vcl_encoding *encoding, size_t number, const char *path,
                     uint64_t disk_bytes, const struct vcl_late *late);
/* Most bytes all frames of the entries first to last-1 take while they are written; `certain` leaves out
 * those with a goal in dB, which usually end far below their raw size. */
uint64_t vcl_encode_disk_most(const struct vcl_choice *choices, size_t first, size_t last);
uint64_t vcl_encode_disk_certain(const struct vcl_choice *choices, size_t first, size_t last);
/* How much of the progress a tensor is: lossy coding takes far longer than copying. */
uint64_t vcl_encode_effort(const struct vcl_choice *choice, const struct vcl_entry *entry);
/* Codes the entry's first values, as a tensor of that shape, to see what that takes; nothing is kept.  A target
 * that cannot be met is no failure.  report may be NULL.  Returns an exit code. */
int vcl_encode_nowhere(const struct vcl_model *model, const struct vcl_entry *entry,
                       const struct vcl_tensor *tensor, const struct vcl_params *params,
                       struct vcl_context *ctx, struct vcl_report *report);
/* Codes 64 x 64 values as the parameters say, so that a missing encoder shows before the work.  Returns an
 * exit code. */
int vcl_encode_try(const struct vcl_params *params, struct vcl_work *work);

#endif
