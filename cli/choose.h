/* choose.h - what is done with each tensor of a model, and why. */
#ifndef VCL_CHOOSE_H
#define VCL_CHOOSE_H

#include "allot/importance.h"
#include "rules.h"

enum vcl_action { VCL_ACTION_EXACT, VCL_ACTION_LOSSY, VCL_ACTION_ALIAS };

struct vcl_choice {
    enum vcl_action action;
    enum vcl_codec exact; /* how it is kept where it is exact: lossless, or exact for bytes as they are */
    enum vcl_goal goal;   /* of lossy ones */
    double target;
    const struct vcl_rule *rule; /* the rule that decided, or NULL */
    const char *reason;          /* why it is exact; NULL where a rule decided and for lossy ones */
    size_t same_as;              /* of an alias: the entry it repeats */
    uint64_t values;
    uint64_t room;                   /* most bytes that may ever be written for its frame */
    uint64_t bound;                  /* most bytes its frame can end up with */
    uint64_t exact_bytes;            /* of its exact frame; 0 = not measured */
    int packed;                      /* already quantised by other software */
    const struct vcl_inputs *inputs; /* of --imatrix: what errors in its columns cost, or NULL */
    /* Of --allocate: what the tensor is in the network, or NULL. */
    const struct vcl_network_matrix *matrix;
    double row_floor; /* of --row-floor: dB for each of its rows, 0 for none */
};

struct vcl_policy {
    struct vcl_rules rules;
    struct vcl_params params; /* goal and target: of tensors without a rule */
    int lossless;
    uint64_t size;       /* --size; 0 = none */
    const char *imatrix; /* --imatrix; NULL = none */
    int allocate;        /* as asked: enum vcl_allocate */
    double row_floor;    /* --row-floor in dB; 0 = none, below 0: as the rows' sizes ask for it */
};

/* One choice per entry; free() it.  NULL where a name of the model cannot be described (message said, *code
 * set). */
struct vcl_choice *vcl_choose(const struct vcl_model *model, const struct vcl_policy *policy, int *code);
/* Says which rules decide nothing. */
void vcl_choose_warn(const struct vcl_model *model, const struct vcl_policy *policy);
/* ties.c: makes aliases of tensors that repeat an earlier one of their shard.  Reads the model; returns an
 * exit code. */
int vcl_choose_ties(const struct vcl_model *model, struct vcl_choice *choices);
/* imatrix.c: reads policy->imatrix and tells lossy choices their inputs, which live as long as *importance.
 * Returns an exit code. */
int vcl_choose_inputs(const struct vcl_model *model, const struct vcl_policy *policy,
                      struct vcl_choice *choices, struct vcl_importance **importance);
/* row_floor.c: gives lossy choices that are looked up by row their floor, and says which cannot have one
 * where it was asked for.  Reads them where it was not.  Returns an exit code. */
int vcl_choose_floors(const struct vcl_model *model, const struct vcl_policy *policy,
                      struct vcl_choice *choices);
/* budget.c: where some tensors are so small that a frame takes more than their share of --bits, the others
 * pay.  VCL_EXIT_BOUND with a message where they cannot. */
int vcl_choose_bits(const struct vcl_model *model, const struct vcl_policy *policy,
                    struct vcl_choice *choices);
/* exact_size.c: measures exact_bytes of tensors that are exact, and of those whose exact frame may fit into
 * their share of --size.  Reads the model; returns an exit code. */
struct vcl_work;
int vcl_choose_exact_sizes(const struct vcl_model *model, const struct vcl_policy *policy,
                           struct vcl_choice *choices, struct vcl_work *work);
/* budget.c: sets the target that fills --size; late_bytes: room in the last shard's header that is not in
 * its layout yet. VCL_EXIT_BOUND with a message where nothing fits. */
int vcl_choose_size(const struct vcl_model *model, const struct vcl_policy *policy,
                    struct vcl_choice *choices, size_t late_bytes);
/* Its target may be moved: lossy, in bits, and no rule's. */
int vcl_choice_is_free(const struct vcl_choice *choice);
/* Sets target, bound and, where the exact frame is within the target, the action. */
void vcl_choice_aim(struct vcl_choice *choice, const struct vcl_tensor *tensor, enum vcl_goal goal,
                    double target);

#endif
