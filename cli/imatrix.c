/* imatrix.c - --imatrix: an importance matrix of llama.cpp becomes weights of the matrices' columns. */
#include "allocate.h"

/* As the tensor has them; 0: it is no matrix. */
static uint64_t inputs_of(const struct vcl_tensor *tensor, int transposed)
{
    return tensor->rank == 2 ? tensor->dims[transposed ? 0 : 1] : 0;
}

static enum vcl_status find_inputs(struct vcl_importance *importance, const struct vcl_entry *entry,
                                   const char *file, struct vcl_column_costs *costs)
{
    const struct vcl_inputs *inputs;
    struct vcl_error error = { 0 };
    const enum vcl_status status = vcl_importance_find(importance, entry->name, &inputs, &error);
    if (status != VCL_OK || !inputs)
        return vcl_errand_check(vcl_cli_errand(), status, &error);
    if (inputs_of(&entry->tensor, inputs->transposed) != inputs->count)
        return vcl_errand_fail(vcl_cli_errand(), VCL_E_FORMAT,
                               "%s: has %zu inputs for tensor '%s', which is %s: the file is another model's",
                               file, inputs->count, entry->name, vcl_words_shape(&entry->tensor).text);
    *costs = (struct vcl_column_costs){ inputs->weight, NULL, inputs->count, inputs->transposed };
    return VCL_OK;
}

enum vcl_status vcl_choose_inputs(const struct vcl_model *model, const char *file, struct vcl_choice *choices,
                                  struct vcl_importance **importance)
{
    struct vcl_error error = { 0 };
    size_t found = 0;
    enum vcl_status status =
        vcl_errand_check(vcl_cli_errand(), vcl_importance_read(file, importance, &error), &error);
    for (size_t i = 0; i < vcl_model_count(model) && !status; i++)
        if (choices[i].action == VCL_ACTION_LOSSY) {
            status = find_inputs(*importance, vcl_model_entry(model, i), file, &choices[i].inputs);
            found += choices[i].inputs.weight != NULL;
        }
    if (!status && !found)
        status = vcl_errand_fail(vcl_cli_errand(), VCL_E_FORMAT,
                                 "%s: has no entry for any tensor of the model", file);
    return status;
}
