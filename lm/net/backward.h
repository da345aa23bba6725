/* backward.h - the gradients of a text's loss: of keys and values, and at the output of every product.
 *
 * The loss is the sum over all positions of -log of the probability that the model gives to the position's
 * label.  With labels drawn from these probabilities the mean of g g^T over draws is the Fisher
 * information: how the predictions' KL divergence grows with an error. */
#ifndef VCL_RUN_BACKWARD_H
#define VCL_RUN_BACKWARD_H

#include "network.h"

struct vcl_backward; /* the memory of one pass: what enters each layer, and one layer's values */

#define VCL_NO_LABEL UINT32_MAX /* of a position that adds nothing to the loss */

/* What a layer's cache is given of tokens 0 to count - 1, and the loss' gradients with respect to it, summed
 * over all queries that read it: [count][heads][head_dim] each.  Keys are as they are before rotation. */
struct vcl_key_values {
    size_t layer, count, heads, head_dim;
    const float *keys, *values, *key_gradients, *value_gradients;
};

/* Of `count` tokens from token `first` on: x that a matrix was multiplied with, [count][inputs], and the
 * loss' gradients with respect to the products, [count][outputs] (before a bias is added, or after: they are
 * the same).  The matrix' own gradient is the sum of g x^T over all calls, of which the head has many.  x
 * is NULL where rows were looked up, of an embedding: row tokens[i], or of positions row i, has g. */
struct vcl_gradient {
    const struct vcl_weight *weight;
    size_t first, count;
    const float *x, *g;
};

/* Called while the pass goes down, on the caller's thread; what is pointed to is good until they return.
 * Another status than VCL_OK ends the pass, which returns it.  Each may be NULL. */
struct vcl_backward_hooks {
    enum vcl_status (*key_values)(void *user, const struct vcl_key_values *of);
    enum vcl_status (*product)(void *user, const struct vcl_gradient *of);
    void *user;
};

/* For texts of at most `tokens` tokens.  VCL_E_ARGUMENT where the model has fewer positions; VCL_E_MEMORY. */
enum vcl_status vcl_backward_create(const struct vcl_network *network, size_t tokens,
                                    struct vcl_backward **backward, struct vcl_error *error);
void vcl_backward_destroy(struct vcl_backward *backward); /* NULL is fine */

/* A text of n >= 1 tokens.  labels: of each position the token that it should predict, or VCL_NO_LABEL;
 * seed not NULL: they are drawn, from the seed and the position, and left there.  Tokens and labels must be
 * below the vocabulary.  The same for any number of threads.  VCL_E_ARGUMENT (no room), VCL_E_FORMAT where
 * the loss is no finite number, what hooks return, what products fail with. */
enum vcl_status vcl_backward_run(struct vcl_backward *backward, const uint32_t *tokens, size_t n,
                                 uint32_t *labels, const uint64_t *seed,
                                 const struct vcl_backward_hooks *hooks, double *loss);

#endif
