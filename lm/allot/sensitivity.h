/* sensitivity.h - what errors in each matrix of a model cost, measured on a draft. */
#ifndef VCL_RUN_SENSITIVITY_H
#define VCL_RUN_SENSITIVITY_H

#include "draft.h"
#include "moments.h"

struct vcl_network_matrix {
    char *name;
    struct vcl_weight *weight; /* while the network is open */
    size_t rows, cols;         /* outputs, inputs */
    int transposed;            /* stored (cols, rows) in the file */
    double
        cost; /* of white noise in this matrix: nats of KL(model || with noise) a token, for every unit of the
                  * noise's summed squares; 0 before it is measured, NAN where predictions are no numbers */
    struct vcl_moments *moments; /* of its inputs, shared; NULL: it is only looked up, or memory is short */
};

struct vcl_sensitivity;

/* Reads the draft once: its logits, and the moments of all inputs where `moments` says so.  Memory: tokens
 * x vocabulary floats, tokens x (layers + 1) x width, and the moments.  Network and draft must stay until
 * the noise is measured; the matrices stay. */
enum vcl_status vcl_sensitivity_open(const struct vcl_network *network, const struct vcl_draft *draft,
                                     int moments, const struct vcl_watch *watch,
                                     struct vcl_sensitivity **sensitivity, struct vcl_error *error);
void vcl_sensitivity_close(struct vcl_sensitivity *sensitivity); /* NULL is fine */
/* The moments of all inputs as vcl_moments_factor leaves them. */
enum vcl_status vcl_sensitivity_factor(struct vcl_sensitivity *sensitivity, double damping,
                                       struct vcl_error *error);
/* In the order in which the network was loaded. */
struct vcl_network_matrix *vcl_sensitivity_matrices(const struct vcl_sensitivity *sensitivity, size_t *count);

/* Reads the draft with white noise in all matrices, that in matrix i ratio[i] times its mean square (0:
 * none).  *kl: nats a token.  Takes a copy of those matrices in f32. */
enum vcl_status vcl_sensitivity_noise(struct vcl_sensitivity *sensitivity, const double *ratio, double *kl,
                                      struct vcl_error *error);
/* The cost of every matrix by itself: a reading for each. */
enum vcl_status vcl_sensitivity_costs(struct vcl_sensitivity *sensitivity, double ratio,
                                      struct vcl_error *error);

#endif
