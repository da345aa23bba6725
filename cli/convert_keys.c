/* convert_keys.c - no key of a GGUF file is left out that changes the model.
 *
 * In: all keys of the architecture and of the tokenizer.  Out: the first that has no place in the folder, by
 * name.  A key that is not in the table is refused too: what it changes nobody knows here.  Keys are those of
 * gguf-py's constants.py, and what they do what llama.cpp (https://github.com/ggml-org/llama.cpp) makes of
 * them.  All others (general.*, quantize.*, tokenizer.chat_template, ...) tell about the model. */
#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

#include "convert.h"

enum { ANY = -1 };

struct known {
    const char *key; /* a pattern; '.' first: of the architecture */
    double only;     /* the value at which it changes nothing; ANY: it is read, or never changes anything */
};

static const struct known KNOWN[] = {
    /* read: convert_config.c */
    { ".block_count", ANY },
    { ".context_length", ANY },
    { ".embedding_length", ANY },
    { ".feed_forward_length", ANY },
    { ".vocab_size", ANY },
    { ".attention.head_count", ANY },
    { ".attention.head_count_kv", ANY },
    { ".attention.key_length", ANY },
    { ".attention.value_length", ANY },
    { ".attention.layer_norm_epsilon", ANY },
    { ".attention.layer_norm_rms_epsilon", ANY },
    { ".attention.sliding_window", ANY },
    { ".rope.dimension_count", ANY },
    { ".rope.freq_base", ANY },
    { ".rope.scale_linear", ANY },
    { ".rope.scaling.type", ANY },
    { ".rope.scaling.factor", ANY },
    /* of no effect */
    { ".tensor_data_layout", ANY },
    { ".rope.scaling.finetuned", ANY },
    { ".rope.scaling.original_context_length", ANY }, /* of yarn and longrope, which are refused */
    /* of no effect at one value */
    { ".attention.causal", 1 },
    { ".attention.clamp_kqv", 0 },
    { ".attention.max_alibi_bias", 0 },
    { ".attention.scale", 0 },
    { ".attn_logit_softcapping", 0 },
    { ".embedding_scale", 1 },
    { ".expert_count", 0 },
    { ".expert_used_count", 0 },
    { ".final_logit_softcapping", 0 },
    { ".logit_scale", 1 },
    { ".pooling_type", 0 },
    { ".residual_scale", 1 },
    { ".rope.scaling.attn_factor", 1 },
    { ".use_parallel_residual", 0 },
    /* convert_tokenizer.c; other special tokens are for prompts of other software */
    { "tokenizer.ggml.model", ANY },
    { "tokenizer.ggml.pre", ANY },
    { "tokenizer.ggml.tokens", ANY },
    { "tokenizer.ggml.token_type", ANY },
    { "tokenizer.ggml.scores", ANY },
    { "tokenizer.ggml.merges", ANY },
    { "tokenizer.ggml.add_bos_token", ANY },
    { "tokenizer.ggml.add_eos_token", ANY },
    { "tokenizer.ggml.add_space_prefix", ANY },
    { "tokenizer.ggml.*_token_id", ANY },
    { "tokenizer.ggml.add_sep_token", 0 },
    { "tokenizer.ggml.remove_extra_whitespaces", 0 },
};

/* The key as the table has it; NULL: it tells about the model. */
static const char *part_of(const struct vcl_metadata *m, const char *key)
{
    const size_t n = strlen(m->architecture);
    if (strncmp(key, m->architecture, n) == 0 && key[n] == '.')
        return key + n;
    return strncmp(key, "tokenizer.ggml.", 15) == 0 ? key : NULL;
}

static int has(struct vcl_value value, double only)
{
    struct vcl_item item;
    if (value.is_list || !vcl_value_next(&value, &item) || item.kind == VCL_ITEM_TEXT)
        return 0;
    return (item.kind == VCL_ITEM_REAL ? item.real : (double)item.integer) == only;
}

static void check_key(struct vcl_metadata *m, const char *key, const char *part,
                      const struct vcl_value *value)
{
    const struct known *known = KNOWN, *end = KNOWN + sizeof KNOWN / sizeof *KNOWN;
    while (known < end && fnmatch(known->key, part, 0) != 0)
        known++;
    if (known == end)
        vcl_metadata_fault(
            m, "the key '%.100s' is not known here; without it the folder may be another model", key);
    else if (known->only != ANY && !has(*value, known->only))
        vcl_metadata_fault(m,
                           "the key '%.100s' is %.60s, which no field of a %.60s's folder says; without it "
                           "the folder would be another model",
                           key, vcl_metadata_words(m, key), m->architecture);
}

int vcl_convert_keys(struct vcl_convert *job)
{
    struct vcl_metadata *m = &job->metadata;
    struct vcl_value value;
    const char *key, *part;
    for (size_t i = 0; !m->code && vcl_model_value_at(job->model, 0, i, &key, &value); i++)
        if ((part = part_of(m, key)) != NULL)
            check_key(m, key, part, &value);
    return m->code;
}
