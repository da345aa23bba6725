/* merge.h - a model's weights with a rotation of the sum that its layers read and add to: the same
 * predictions from other matrices, in which no channel stands out. */
#ifndef VCL_RUN_MERGE_H
#define VCL_RUN_MERGE_H

#include "net/network.h"

struct vcl_merge;

/* Finds the model's tensors by name.  The pool must outlive it.  VCL_E_FORMAT where the file has more than
 * the network reads: what that would become is not known. */
enum vcl_status vcl_merge_open(const char *folder, uint64_t seed, struct vcl_pool *pool,
                               struct vcl_merge **merge, struct vcl_error *error);
void vcl_merge_close(struct vcl_merge *merge); /* NULL is fine */

/* What the merged model has under this name; NULL: what the model has. */
const struct vcl_part *vcl_merge_find(const struct vcl_merge *merge, const char *name);
/* The model as it is, without its tensors. */
const struct vcl_network *vcl_merge_network(const struct vcl_merge *merge);

/* Where by config.json the head is the embedding, which the last norm's weight cannot be merged into: the
 * embedding, the head that the merged model has besides, and what goes before the name of every other
 * tensor: hosts look for a head of GPT-2 beside names with "transformer." only.  0: the head is a tensor
 * already, and config.json says so. */
struct vcl_untied {
    const struct vcl_part *embedding, *head;
    const char *prefix;
};
int vcl_merge_unties(const struct vcl_merge *merge, struct vcl_untied *untied);

/* The part's values in a float dtype; free() *values.  Memory: the tensor twice. */
enum vcl_status vcl_merge_make(const struct vcl_merge *merge, const struct vcl_part *part,
                               enum vcl_dtype dtype, void **values, struct vcl_error *error);

#endif
