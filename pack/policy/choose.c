/* choose.c - decides for every tensor: coded lossily at which target, or kept exactly.
 *
 * The order: rules; --lossless; then what is exact by default - dtypes that are no float, tensors that
 * belong to a module that other software has quantised, vectors, fewer than 4096 values, routers of experts
 * - and all else at the common target.  No name alone decides but a rule's: quantised modules and routers
 * are known by dtypes and numbers too. */
#include "choose.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "common/texts.h"
#include "quantised.h"

enum { SMALL_VALUES = 4096, NAMES_SHOWN = 4 };

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

static enum vcl_status choose_one(struct vcl_errand *job, const struct vcl_quantised *quantised,
                                  const struct vcl_policy *policy, const struct vcl_entry *entry,
                                  struct vcl_choice *choice)
{
    const struct vcl_tensor *tensor = &entry->tensor;
    const struct vcl_rule *rule;
    enum vcl_status status = vcl_rules_find(job, &policy->rules, entry->name, &rule);
    if (status)
        return status;
    status = vcl_tensor_size(tensor, &choice->values, NULL);
    if (status != VCL_OK)
        return vcl_errand_fail(job, status, "tensor '%s': %s", entry->name, vcl_status_text(status));
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
    return VCL_OK;
}

enum vcl_status vcl_choose(struct vcl_errand *job, const struct vcl_model *model,
                           const struct vcl_policy *policy, struct vcl_choice **choices)
{
    const size_t count = vcl_model_count(model);
    struct vcl_quantised *quantised = vcl_quantised_find(model);
    *choices = vcl_calloc(count, sizeof **choices);
    enum vcl_status status = quantised && *choices ? VCL_OK : vcl_errand_memory(job);
    for (size_t i = 0; i < count && !status; i++)
        status = choose_one(job, quantised, policy, vcl_model_entry(model, i), &(*choices)[i]);
    vcl_quantised_free(quantised);
    if (!status)
        return VCL_OK;
    free(*choices);
    *choices = NULL;
    return status;
}

/* ---- what is worth a word --------------------------------------------------------------------- */

static enum vcl_status warn_rules(struct vcl_errand *job, const struct vcl_model *model,
                                  const struct vcl_rules *rules)
{
    unsigned char *used = vcl_calloc(rules->count, 1);
    if (!used)
        return vcl_errand_memory(job);
    for (size_t i = 0; i < vcl_model_count(model) && rules->count; i++) {
        const struct vcl_rule *rule;
        vcl_rules_find(job, rules, vcl_model_entry(model, i)->name, &rule); /* has matched before */
        if (rule)
            used[rule - rules->at] = 1;
    }
    for (size_t i = 0; i < rules->count; i++)
        if (!used[i])
            vcl_errand_note(job, "warning: rule '%s' decides nothing: it matches no tensor%s",
                            rules->at[i].text, i ? " that no earlier rule matches" : "");
    free(used);
    return VCL_OK;
}

static void warn_packed(struct vcl_errand *job, const struct vcl_model *model,
                        const struct vcl_choice *choices)
{
    char names[512] = "";
    size_t packed = 0, length = 0;
    for (size_t i = 0; i < vcl_model_count(model); i++) {
        if (!choices[i].packed || choices[i].action != VCL_ACTION_EXACT)
            continue;
        if (packed++ < NAMES_SHOWN && length < sizeof names)
            length += (size_t)snprintf(names + length, sizeof names - length, "%s%s", packed > 1 ? ", " : "",
                                       vcl_model_entry(model, i)->name);
    }
    if (packed)
        vcl_errand_note(
            job,
            "warning: %zu tensors are quantised already (FP8, FP4 or packed integers with their scales) "
            "and are kept exactly: %s%s",
            packed, names, packed > NAMES_SHOWN ? ", ..." : "");
}

enum vcl_status vcl_choose_warn(struct vcl_errand *job, const struct vcl_model *model,
                                const struct vcl_policy *policy, const struct vcl_choice *choices)
{
    const enum vcl_status status = warn_rules(job, model, &policy->rules);
    if (!status)
        warn_packed(job, model, choices);
    return status;
}
