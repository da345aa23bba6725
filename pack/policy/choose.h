/* choose.h - what is done with each tensor of a model, and why. */
#ifndef VCL_CHOOSE_H
#define VCL_CHOOSE_H

#include "common/work.h"
#include "layout/shard.h"
#include "rules.h"

struct vcl_policy {
    struct vcl_rules rules;
    struct vcl_params params; /* goal and target: of tensors without a rule */
    int lossless;
    uint64_t size;       /* --size; 0 = none */
    const char *imatrix; /* --imatrix; NULL = none */
    int allocate; /* --allocate, as asked; like imatrix what others choose by, kept for --resume to compare */
    double row_floor; /* --row-floor in dB; 0 = none, below 0: as the rows' sizes ask for it */
};

/* One choice per entry; free() *choices. */
enum vcl_status vcl_choose(struct vcl_errand *job, const struct vcl_model *model,
                           const struct vcl_policy *policy, struct vcl_choice **choices);
/* Notes which rules decide nothing, and which tensors are quantised already. */
enum vcl_status vcl_choose_warn(struct vcl_errand *job, const struct vcl_model *model,
                                const struct vcl_policy *policy, const struct vcl_choice *choices);
/* ties.c: makes aliases of tensors that repeat an earlier one of their shard.  Reads the model. */
enum vcl_status vcl_choose_ties(struct vcl_errand *job, const struct vcl_model *model,
                                struct vcl_choice *choices);
/* row_floor.c: gives lossy choices that are looked up by row their floor, and says which cannot have one
 * where it was asked for.  Reads them where it was not. */
enum vcl_status vcl_choose_floors(struct vcl_errand *job, const struct vcl_model *model,
                                  const struct vcl_policy *policy, struct vcl_choice *choices);
/* budget.c: where some tensors are so small that a frame takes more than their share of --bits, the others
 * pay.  VCL_E_RATE where they cannot. */
enum vcl_status vcl_choose_bits(struct vcl_errand *job, const struct vcl_model *model,
                                const struct vcl_policy *policy, struct vcl_choice *choices);
/* exact_size.c: measures exact_bytes of tensors that are exact, and of those whose exact frame may fit into
 * their share of --size.  Reads the model. */
enum vcl_status vcl_choose_exact_sizes(struct vcl_work *work, const struct vcl_model *model,
                                       const struct vcl_policy *policy, struct vcl_choice *choices);
/* Codes the entry's first values, as a tensor of that shape, to see what that takes; nothing is kept.  A
 * target that cannot be met is no failure.  report may be NULL. */
enum vcl_status vcl_encode_nowhere(struct vcl_errand *job, const struct vcl_model *model,
                                   const struct vcl_entry *entry, const struct vcl_tensor *tensor,
                                   const struct vcl_params *params, struct vcl_context *ctx,
                                   struct vcl_report *report);
/* budget.c: sets the target that fills --size; late_bytes: room in the last shard's header that is not in
 * its layout yet.  VCL_E_RATE where nothing fits. */
enum vcl_status vcl_choose_size(struct vcl_errand *job, const struct vcl_model *model,
                                const struct vcl_policy *policy, struct vcl_choice *choices,
                                size_t late_bytes);
/* Its target may be moved: lossy, in bits, and no rule's. */
int vcl_choice_is_free(const struct vcl_choice *choice);
/* Sets target, bound and, where the exact frame is within the target, the action. */
void vcl_choice_aim(struct vcl_choice *choice, const struct vcl_tensor *tensor, enum vcl_goal goal,
                    double target);

#endif
