/* choose.c - decides for every tensor: coded lossily at which target, or kept exactly.
 *
 * The order: rules; --lossless; then what is exact by default - dtypes that are no float, tensors that
 * belong to a module that other software has quantised, vectors, fewer than 4096 values, routers of experts
 * - and all else at the common target.  No name alone decides but a rule's: quantised modules and routers
 * are known by dtypes and numbers too. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "choose.h"
#include "quantised.h"

enum { SMALL_VALUES = 4096 };

/* Dimensions of 1 do not make a matrix. */
static int is_vector(const struct vcl_tensor *tensor)
{
    unsigned dims = 0;
    for (unsigned i = 0; i < tensor->rank; i++)
        dims += tensor->dims[i] != 1;
    return dims <= 1;
}

static const char *exact_by_default(const struct vcl_choice *choice, const struct vcl_tensor *tensor)
{
    if (!vcl_dtype_is_float(tensor->dtype))
        return "no float dtype that can be coded lossily";
    if (choice->packed)
        return "part of a quantised module";
    if (is_vector(tensor))
        return tensor->rank <= 1 ? "rank 0 or 1" : "a vector: its other dimensions are 1";
    return choice->values < SMALL_VALUES ? "fewer than 4096 values" : NULL;
}

void vcl_choice_aim(struct vcl_choice *choice, const struct vcl_tensor *tensor, enum vcl_goal goal,
                    double target)
{
    const double budget = floor(target * (double)choice->values / 8);
    choice->action = VCL_ACTION_LOSSY;
    choice->goal = goal;
    choice->target = target;
    choice->room = choice->bound = vcl_bound(tensor);
    if (goal != VCL_GOAL_BITS)
        return;
    const uint64_t exact = choice->exact_bytes ? choice->exact_bytes : choice->room;
    if ((double)exact <= budget) {
        choice->action = VCL_ACTION_EXACT;
        choice->bound = exact;
        choice->reason = "its exact form is within the target";
    } else {
        choice->bound = (uint64_t)budget;
    }
}

int vcl_choice_is_free(const struct vcl_choice *choice)
{
    return choice->action == VCL_ACTION_LOSSY && choice->goal == VCL_GOAL_BITS && !choice->rule;
}

static int choose_one(const struct vcl_quantised *quantised, const struct vcl_policy *policy,
                      const struct vcl_entry *entry, struct vcl_choice *choice)
{
    const struct vcl_tensor *tensor = &entry->tensor;
    const struct vcl_rule *rule;
    const int code = vcl_rules_find(&policy->rules, entry->name, &rule);
    const enum vcl_status status = vcl_tensor_size(tensor, &choice->values, NULL);

    if (code)
        return code;
    if (status != VCL_OK)
        return vcl_tell(status, "tensor '%s': %s", entry->name, vcl_status_text(status));
    choice->packed = vcl_quantised_has(quantised, entry);
    choice->room = choice->bound = vcl_bound(tensor);
    choice->rule = rule;
    choice->exact = rule && rule->copy ? VCL_CODEC_EXACT : VCL_CODEC_LOSSLESS;
    if (rule && !rule->exact && vcl_dtype_is_float(tensor->dtype) && choice->values) {
        vcl_choice_aim(choice, tensor, rule->goal, rule->target);
    } else if (!rule || !rule->exact) {
        choice->rule = NULL;
        choice->reason = policy->lossless ? "--lossless" : exact_by_default(choice, tensor);
        if (!choice->reason && vcl_quantised_routes(quantised, entry))
            choice->reason = "the router of experts";
        if (!choice->reason)
            vcl_choice_aim(choice, tensor, policy->params.goal, policy->params.target);
    }
    return VCL_EXIT_OK;
}

struct vcl_choice *vcl_choose(const struct vcl_model *model, const struct vcl_policy *policy, int *code)
{
    const size_t count = vcl_model_count(model);
    struct vcl_choice *choices = vcl_zeros(count, sizeof *choices);
    struct vcl_quantised *quantised = vcl_quantised_find(model);
    *code = VCL_EXIT_OK;
    for (size_t i = 0; i < count && !*code; i++)
        *code = choose_one(quantised, policy, vcl_model_entry(model, i), &choices[i]);
    vcl_quantised_free(quantised);
    if (!*code)
        return choices;
    free(choices);
    return NULL;
}

void vcl_choose_warn(const struct vcl_model *model, const struct vcl_policy *policy)
{
    const struct vcl_rules *rules = &policy->rules;
    unsigned char *used = vcl_zeros(rules->count, 1);
    for (size_t i = 0; i < vcl_model_count(model) && rules->count; i++) {
        const struct vcl_rule *rule;
        vcl_rules_find(rules, vcl_model_entry(model, i)->name, &rule); /* has matched before */
        if (rule)
            used[rule - rules->at] = 1;
    }
    for (size_t i = 0; i < rules->count; i++)
        if (!used[i])
            vcl_note("warning: rule '%s' decides nothing: it matches no tensor%s", rules->at[i].text,
                     i ? " that no earlier rule matches" : "");
    free(used);
}
