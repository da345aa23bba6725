/* budget.c - the targets that keep the whole to --bits, or the output to --size.
 *
 * From the size go headers, exact tensors and those a rule gives their own bits; what remains is spread
 * evenly over the values left.  Where that is more than a tensor's exact form takes (exact_size.c), the
 * tensor is kept exactly and the rest shared out again: each round only raises the others' share, so it
 * ends. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "choose.h"
#include "common/words.h"

enum { HEADER_EXTRA = 192 }; /* the file's first 8 bytes, vcllm.hash, alignment of the frames to 64 bytes */
static const double LEAST_BITS = 0.01, MOST_BITS = 64;

static enum vcl_status add_headers(struct vcl_errand *job, const struct vcl_model *model,
                                   const struct vcl_choice *choices, size_t late_bytes, uint64_t *bytes)
{
    for (size_t i = 0; i < vcl_model_shards(model); i++) {
        struct vcl_error error = { 0 };
        struct vcl_shard shard;
        size_t length;
        char *text;
        enum vcl_status status = vcl_shard_describe_frames(job, &shard, model, i, choices, 0);
        if (status)
            return status;
        shard.layout.frames = 0; /* the text of these entries with the widest offsets they can have */
        status = vcl_layout_header(&shard.layout, &text, &length, &error);
        vcl_shard_free(&shard);
        if (status != VCL_OK)
            return vcl_errand_check(job, status, &error);
        free(text);
        *bytes += length + HEADER_EXTRA;
    }
    *bytes += late_bytes;
    return VCL_OK;
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

/* Bits a value of a frame that says nothing of its values: header, tile table and the states of its lanes
 * (docs/format.md, Codec 4; those of the video codecs are much the same). */
static double least_share(const struct vcl_model *model, size_t i, const struct vcl_choice *choice)
{
    enum { FRAME_BYTES = 80, TILE_BYTES = 18, FEW = 32768, TILE_SHIFT = 20 };
    const double tiles = (double)((choice->values >> TILE_SHIFT) + 1);
    const double bytes = FRAME_BYTES + 8 * vcl_model_entry(model, i)->tensor.rank
                       + tiles * (TILE_BYTES + (choice->values <= FEW ? 32 : 128));
    return 8 * bytes / (double)choice->values;
}

/* The share of tensors that need no more, where those that need more than it get what they need, times
 * `generous`: each round they may be more, and the share falls.  Below 0 where that takes all. */
static double common_share(const struct vcl_model *model, const struct vcl_choice *choices, double bits,
                           double generous)
{
    double share = bits, before;
    do {
        double left = 0, values = 0;
        before = share;
        for (size_t i = 0; i < vcl_model_count(model); i++) {
            if (!vcl_choice_is_free(&choices[i]))
                continue;
            const double n = (double)choices[i].values, its = generous * least_share(model, i, &choices[i]);
            left += (its > before ? bits - its : bits) * n;
            values += its > before ? 0 : n;
        }
        share = values > 0 ? left / values : left < 0 ? -1 : before;
    } while (share < before && share > 0);
    return share;
}

/* Small tensors get what their frames take, and the others pay; `target`: what was asked for, for the
 * message. */
static enum vcl_status let_others_pay(struct vcl_errand *job, const struct vcl_model *model,
                                      struct vcl_choice *choices, double bits, const char *target)
{
    double generous = 1.5, share = common_share(model, choices, bits, generous);
    if (share < LEAST_BITS)
        share = common_share(model, choices, bits, generous = 1);
    if (share < 0)
        return vcl_errand_fail(job, VCL_E_RATE, "%s: the frames' headers alone take more", target);
    for (size_t i = 0; i < vcl_model_count(model); i++) {
        const double its = generous * least_share(model, i, &choices[i]);
        if (vcl_choice_is_free(&choices[i]) && (its > share || share < bits))
            vcl_choice_aim(&choices[i], &vcl_model_entry(model, i)->tensor, VCL_GOAL_BITS,
                           fmax(its > share ? its : share, LEAST_BITS));
    }
    return VCL_OK;
}

enum vcl_status vcl_choose_bits(struct vcl_errand *job, const struct vcl_model *model,
                                const struct vcl_policy *policy, struct vcl_choice *choices)
{
    char target[64];
    snprintf(target, sizeof target, "--bits %g", policy->params.target);
    return let_others_pay(job, model, choices, policy->params.target, target);
}

enum vcl_status vcl_choose_size(struct vcl_errand *job, const struct vcl_model *model,
                                const struct vcl_policy *policy, struct vcl_choice *choices,
                                size_t late_bytes)
{
    uint64_t headers = 0;
    const enum vcl_status status = add_headers(job, model, choices, late_bytes, &headers);
    double bits = 0;
    if (status)
        return status;
    for (size_t exact = 1; exact;) {
        uint64_t fixed = headers, values;
        sum_up(model, choices, &fixed, &values);
        const double left = (double)policy->size - (double)fixed;
        bits = values ? 8 * left / (double)values : 0;
        if (left < 0 || (values && bits < LEAST_BITS))
            return vcl_errand_fail(
                job, VCL_E_RATE,
                "--size %s: headers and exact tensors alone take %s, for the other %llu values"
                " %s is left; keep fewer tensors exact or allow more",
                vcl_words_size(policy->size).text, vcl_words_size(fixed).text, (unsigned long long)values,
                left < 0 ? "nothing" : "too little");
        bits = bits < MOST_BITS ? bits : MOST_BITS;
        exact = aim_all(model, choices, bits);
    }
    char target[64];
    snprintf(target, sizeof target, "--size %s", vcl_words_size(policy->size).text);
    return bits > 0 ? let_others_pay(job, model, choices, bits, target) : VCL_OK;
}
