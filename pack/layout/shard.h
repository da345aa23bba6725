/* shard.h - what was decided for each tensor, and what follows from it for the file that holds it. */
#ifndef VCL_SHARD_H
#define VCL_SHARD_H

#include "common/errand.h"

enum vcl_action { VCL_ACTION_EXACT, VCL_ACTION_LOSSY, VCL_ACTION_ALIAS };

/* What squared errors cost in the columns of a matrix as it is coded, for vcl_params. */
struct vcl_column_costs {
    const float *weight;   /* NULL: nothing is known */
    const float *feedback; /* count x count, or NULL */
    uint64_t count;        /* of columns */
    int transposed;        /* the coded matrix is the transpose */
};

struct vcl_choice {
    enum vcl_action action;
    enum vcl_codec exact; /* how it is kept where it is exact: lossless, or exact for bytes as they are */
    enum vcl_goal goal;   /* of lossy ones */
    double target;
    const struct vcl_rule *rule; /* the rule that decided, or NULL */
    const char *reason;          /* why it is exact; NULL where a rule decided and for lossy ones */
    size_t same_as;              /* of an alias: the entry it repeats */
    uint64_t values;
    uint64_t room;                    /* most bytes that may ever be written for its frame */
    uint64_t bound;                   /* most bytes its frame can end up with */
    uint64_t exact_bytes;             /* of its exact frame; 0 = not measured */
    int packed;                       /* already quantised by other software */
    struct vcl_column_costs inputs;   /* of --imatrix: what errors in its columns cost */
    struct vcl_column_costs products; /* of --allocate: the same with feedback, in place of the former */
    double row_floor;                 /* of --row-floor: dB for each of its rows, 0 for none */
};

struct vcl_shard {
    size_t first, last;       /* its entries in the model: first to last-1 */
    struct vcl_layout layout; /* of the file to be written; points into what follows */
    struct vcl_entry *entries;
    struct vcl_pair *pairs;
    char *header; /* the original one, or what is kept of it, where it is needed */
};
/* The compressed form; late_bytes: room for metadata that is added after the tensors.  After a failure there
 * is nothing to free, here and below. */
enum vcl_status vcl_shard_describe_frames(struct vcl_errand *job, struct vcl_shard *shard,
                                          const struct vcl_model *model, size_t number,
                                          const struct vcl_choice *choices, size_t late_bytes);
/* The plain form of a compressed shard; floats become `dtype` unless it is VCL_DTYPE_COUNT. */
enum vcl_status vcl_shard_describe_plain(struct vcl_errand *job, struct vcl_shard *shard,
                                         const struct vcl_model *model, size_t number, enum vcl_dtype dtype);
/* A shard of a plain model once more, with room for `more` entries behind its own. */
enum vcl_status vcl_shard_describe_same(struct vcl_errand *job, struct vcl_shard *shard,
                                        const struct vcl_model *model, size_t number, size_t more);
void vcl_shard_free(struct vcl_shard *shard);
/* Bytes of the tensors in the plain form. */
uint64_t vcl_shard_bytes(const struct vcl_shard *shard);

#endif
