/* allocate.h - where a model's bits go: --allocate. */
#ifndef VCL_CLI_ALLOCATE_H
#define VCL_CLI_ALLOCATE_H

#include "allot/importance.h"
#include "allot/sensitivity.h"
#include "cli.h"
#include "policy/choose.h"

enum vcl_allocate { VCL_ALLOCATE_AUTO, VCL_ALLOCATE_FIXED, VCL_ALLOCATE_DEPTH, VCL_ALLOCATE_SELF };

struct vcl_allocation {
    enum vcl_allocate how; /* as asked; afterwards as done */
    size_t chosen_draft;   /* how much text */
    unsigned threads;
    int dry_run;    /* 1: only `how` and `seconds` are found */
    double seconds; /* that it is expected to take */
    double slope;   /* of depth: bits from the first layer to the last */

    struct vcl_importance *importance; /* of --imatrix, or NULL */
    struct vcl_network network;
    struct vcl_draft draft;
    struct vcl_sensitivity *sensitivity;
    /* For each entry of the model what it is in the network, or NULL. */
    const struct vcl_network_matrix **matrices;
};

/* Gives the tensors that no rule decides and whose goal is bits targets of their own, the same in sum, and
 * tells choices what errors in them cost.  The model runs for that; where it cannot, or would take too long,
 * less is done and a note says so.  What fails has been said, here and below. */
enum vcl_status vcl_allocate_model(struct vcl_allocation *allocation, const struct vcl_model *model,
                                   const char *folder, const struct vcl_params *params,
                                   struct vcl_choice *choices, struct vcl_work *work);
/* imatrix.c: reads --imatrix and tells lossy choices their inputs, which live as long as *importance. */
enum vcl_status vcl_choose_inputs(const struct vcl_model *model, const char *file, struct vcl_choice *choices,
                                  struct vcl_importance **importance);
const char *vcl_allocation_name(const struct vcl_allocation *allocation);
/* One line of the summary; nothing for fixed. */
void vcl_allocation_print(const struct vcl_allocation *allocation);
json_t *vcl_allocation_json(const struct vcl_allocation *allocation);
void vcl_allocation_release(struct vcl_allocation *allocation);

#endif
