/* budget.c - the target that makes the output no larger than --size.
 *
 * From the size go headers, exact tensors and those a rule gives their own bits; what remains is spread
 * evenly over the values left.  Where that is more than a tensor's exact form takes, the tensor is kept
 * exactly and the rest shared out again: each round only raises the others' share, so it ends. */
#include <stdlib.h>

#include "shard.h"

enum { HEADER_EXTRA = 192 }; /* the file's first 8 bytes, vcllm.hash, alignment of the frames to 64 bytes */
static const double LEAST_BITS = 0.01, MOST_BITS = 64;

static int add_headers(const struct vcl_model *model, const struct vcl_choice *choices, size_t late_bytes,
                       uint64_t *bytes)
{
    for (size_t i = 0; i < vcl_model_shards(model); i++) {
        struct vcl_error error = { 0 };
        struct vcl_shard shard;
        size_t length;
        char *text;
        const int code = vcl_shard_describe_frames(&shard, model, i, choices, 0);
        if (code)
            return code;
        shard.layout.frames = 0; /* the text of these entries with the widest offsets they can have */
        const enum vcl_status status = vcl_layout_header(&shard.layout, &text, &length, &error);
        vcl_shard_free(&shard);
        if (status != VCL_OK)
            return vcl_tell(status, "%s", error.text);
        free(text);
        *bytes += length + HEADER_EXTRA;
    }
    *bytes += late_bytes;
    return VCL_EXIT_OK;
}

/* Bytes of what has no say in the target, and the values that share the rest. */
static void sum_up(const struct vcl_model *model, const struct vcl_choice *choices, uint64_t *bytes,
                   uint64_t *values)
{
    *values = 0;
    for (size_t i = 0; i < vcl_model_count(model); i++) {
        if (vcl_choice_is_free(&choices[i]))
            *values += choices[i].values;
        else
            *bytes += choices[i].bound;
    }
}

static size_t aim_all(const struct vcl_model *model, struct vcl_choice *choices, double bits)
{
    size_t exact = 0;
    for (size_t i = 0; i < vcl_model_count(model); i++) {
        if (!vcl_choice_is_free(&choices[i]))
            continue;
        vcl_choice_aim(&choices[i], &vcl_model_entry(model, i)->tensor, VCL_GOAL_BITS, bits);
        exact += choices[i].action == VCL_ACTION_EXACT;
    }
    return exact;
}

int vcl_choose_size(const struct vcl_model *model, const struct vcl_policy *policy,
                    struct vcl_choice *choices, size_t late_bytes)
{
    uint64_t headers = 0;
    const int code = add_headers(model, choices, late_bytes, &headers);
    if (code)
        return code;
    for (size_t exact = 1; exact;) {
        uint64_t fixed = headers, values;
        sum_up(model, choices, &fixed, &values);
        const double left = (double)policy->size - (double)fixed;
        const double bits = values ? 8 * left / (double)values : 0;
        if (left < 0 || (values && bits < LEAST_BITS))
            return vcl_tell(VCL_E_RATE,
                            "--size %s: headers and exact tensors alone take %s, for the other %llu values"
                            " %s is left; keep fewer tensors exact or allow more",
                            vcl_words_size(policy->size).text, vcl_words_size(fixed).text,
                            (unsigned long long)values, left < 0 ? "nothing" : "too little");
        exact = aim_all(model, choices, bits < MOST_BITS ? bits : MOST_BITS);
    }
    return VCL_EXIT_OK;
}
