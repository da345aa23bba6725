/* forward.h - tokens through the network: hidden states, then logits. */
#ifndef VCL_RUN_FORWARD_H
#define VCL_RUN_FORWARD_H

#include "kv.h"
#include "network.h"

struct vcl_forward; /* a sequence being read: its KV cache and the memory of one pass */

/* For sequences of at most `positions`.  VCL_E_ARGUMENT where the model has fewer. */
enum vcl_status vcl_forward_create(const struct vcl_network *network, size_t positions,
                                   struct vcl_forward **forward, struct vcl_error *error);
void vcl_forward_destroy(struct vcl_forward *forward); /* NULL is fine */
/* The same with a cache that goes through the hook, or is kept by it: then with memory for one layer.  Batches
 * are of at most 256 tokens and begin at multiples of that where a sequence is read as a whole. */
enum vcl_status vcl_forward_create_hooked(const struct vcl_network *network, size_t positions,
                                          struct vcl_cache_hook hook, struct vcl_forward **forward,
                                          struct vcl_error *error);
/* Back to the sequence's first `length` tokens, all read; 0: a new sequence, all that a hook with fill does. */
void vcl_forward_rewind(struct vcl_forward *forward, size_t length);
size_t vcl_forward_length(const struct vcl_forward *forward);

/* n more tokens of the sequence, all below the vocabulary.  hidden: n x width, the last layer's output after
 * its norm.  VCL_E_MEMORY, VCL_E_ARGUMENT (no room). */
enum vcl_status vcl_forward_read(struct vcl_forward *forward, const uint32_t *tokens, size_t n,
                                 float *hidden);
/* What enters each layer, and the last norm, is left in trail, (layers + 1) x positions x width floats of
 * the caller's.  NULL: no trail.  A sequence of which n tokens were read so can be read again from any
 * layer on, whose weights may have changed since. */
void vcl_forward_leave_trail(struct vcl_forward *forward, float *trail);
enum vcl_status vcl_forward_resume(struct vcl_forward *forward, size_t layer, size_t n, float *hidden);
/* logits: n x vocab. */
enum vcl_status vcl_forward_logits(struct vcl_forward *forward, const float *hidden, size_t n, float *logits);

#endif
