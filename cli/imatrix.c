/* imatrix.c - --imatrix: an importance matrix of llama.cpp becomes weights of the matrices' columns. */
#include "choose.h"

/* As the tensor has them; 0: it is no matrix. */
static uint64_t inputs_of(const struct vcl_tensor *tensor, int transposed)
{
    return tensor->rank == 2 ? tensor->dims[transposed ? 0 : 1] : 0;
}

static int find_inputs(struct vcl_importance *importance, const struct vcl_entry *entry, const char *file,
                       const struct vcl_inputs **inputs)
{
    struct vcl_error error = { 0 };
    const enum vcl_status status = vcl_importance_find(importance, entry->name, inputs, &error);
    if (status != VCL_OK)
        return vcl_tell(status, "%s", error.text);
    if (*inputs && inputs_of(&entry->tensor, (*inputs)->transposed) != (*inputs)->count)
        return vcl_tell(VCL_E_FORMAT,
                        "%s: has %zu inputs for tensor '%s', which is %s: the file is another model's", file,
                        (*inputs)->count, entry->name, vcl_words_shape(&entry->tensor).text);
    return VCL_EXIT_OK;
}

int vcl_choose_inputs(const struct vcl_model *model, const struct vcl_policy *policy,
                      struct vcl_choice *choices, struct vcl_importance **importance)
{
    struct vcl_error error = { 0 };
    size_t found = 0;
    int code = VCL_EXIT_OK;
    if (vcl_importance_read(policy->imatrix, importance, &error) != VCL_OK)
        return vcl_tell(error.status, "%s", error.text);
    for (size_t i = 0; i < vcl_model_count(model) && !code; i++)
        if (choices[i].action == VCL_ACTION_LOSSY) {
            code = find_inputs(*importance, vcl_model_entry(model, i), policy->imatrix, &choices[i].inputs);
            found += choices[i].inputs != NULL;
        }
    if (!code && !found)
        code = vcl_tell(VCL_E_FORMAT, "%s: has no entry for any tensor of the model", policy->imatrix);
    return code;
}
