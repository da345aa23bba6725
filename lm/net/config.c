/* config.c - config.json to struct vcl_config.
 *
 * Every field that changes what is computed is either read or refused by name; fields that only matter to
 * training or to other software are not looked at.  The limits keep every product of two sizes far below 63
 * bits; whether they are true is seen from the tensors' shapes (model.c). */
#include <stdio.h>
#include <string.h>

#include "config.h"
#include "common/fields.h"

enum {
    CONFIG_LIMIT = 1 << 20,
    MOST_LAYERS = 4096,
    MOST_WIDTH = 1 << 20,
    MOST_VOCAB = 1 << 24,
    MOST_CONTEXT = 1 << 24
};

/* names: ended by NULL. */
static int is_among(const char *text, const char *const *names)
{
    while (text && *names && strcmp(text, *names))
        names++;
    return text && *names;
}

static void read_shape(struct vcl_fields *fields, struct vcl_config *config)
{
    config->width = vcl_field_size(fields, "hidden_size", 1, MOST_WIDTH, 0);
    config->layers = vcl_field_size(fields, "num_hidden_layers", 1, MOST_LAYERS, 0);
    config->heads = vcl_field_size(fields, "num_attention_heads", 1, MOST_WIDTH, 0);
    config->kv_heads = vcl_field_size(fields, "num_key_value_heads", 1, config->heads, config->heads);
    config->head_dim = vcl_field_size(fields, "head_dim", 2, 4096,
                                      config->width / config->heads > 1 ? config->width / config->heads : 0);
    config->ffn = vcl_field_size(fields, "intermediate_size", 1, MOST_WIDTH, 0);
    config->vocab = vcl_field_size(fields, "vocab_size", 1, MOST_VOCAB, 0);
    config->context = vcl_field_size(fields, "max_position_embeddings", 1, MOST_CONTEXT, 2048);
    if (config->heads % config->kv_heads)
        vcl_field_fault(fields, "num_key_value_heads", "does not divide num_attention_heads");
    if (config->head_dim % 2)
        vcl_field_fault(fields, "head_dim", "is odd, which rotary positions cannot be");
}

/* Llama 3.1's: between the two wavelengths original / low and original / high the factor comes in by and
 * by. */
static void read_llama3(struct vcl_fields *rope, struct vcl_config *config)
{
    config->rope_scaling = VCL_ROPE_LLAMA3;
    config->rope_low = vcl_field_real(rope, "low_freq_factor", 1e-6, 1e6, 0);
    config->rope_high = vcl_field_real(rope, "high_freq_factor", 1e-6, 1e6, 0);
    config->rope_original =
        (double)vcl_field_size(rope, "original_max_position_embeddings", 1, MOST_CONTEXT, 0);
    if (config->rope_high <= config->rope_low)
        vcl_field_fault(rope, "high_freq_factor", "is not above low_freq_factor");
}

/* The type and its numbers; older files call it "type".  Those that depend on the length of the text
 * (dynamic), or change attention besides (yarn, longrope), are refused. */
static void read_scaling(struct vcl_fields *rope, struct vcl_config *config)
{
    const char *name = vcl_field(rope, "rope_type") ? "rope_type" : "type";
    const char *type = vcl_field_text(rope, name, "default");
    if (!type || strcmp(type, "default") == 0)
        return;
    if (strcmp(type, "linear") && strcmp(type, "llama3")) {
        vcl_field_refuse(rope, name);
        return;
    }
    config->rope_scaling = VCL_ROPE_LINEAR;
    config->rope_factor = vcl_field_real(rope, "factor", 1, 1e6, 0);
    if (strcmp(type, "llama3") == 0)
        read_llama3(rope, config);
}

/* How much of a head its position turns: in a LLaMA all. */
static void read_rotary(struct vcl_fields *fields, const char *name, double absent, struct vcl_config *config)
{
    const double share = vcl_field_real(fields, name, 0, 1, absent);
    config->rotary = (size_t)((double)config->head_dim * share);
    if (config->family == VCL_LLAMA && share < 1)
        vcl_field_refuse(fields, name);
    if (config->rotary % 2 || config->rotary == 0)
        vcl_field_fault(fields, name, "does not give an even number of dimensions");
}

static void refuse_nested(struct vcl_fields *rope)
{
    const char *name;
    json_t *value;
    json_object_foreach(rope->object, name, value)
    {
        if (json_is_object(value))
            vcl_field_fault(rope, name, "is an object: positions by the kind of layer are not supported");
    }
}

static void read_rope_object(struct vcl_fields *fields, const char *name, const char *prefix,
                             struct vcl_config *config)
{
    struct vcl_fields rope = *fields;
    rope.object = vcl_field(fields, name);
    rope.prefix = prefix;
    if (!rope.object || fields->status != VCL_OK)
        return;
    if (!json_is_object(rope.object))
        vcl_field_fault(fields, name, "is no object");
    else if (config->rope_scaling != VCL_ROPE_PLAIN)
        vcl_field_fault(fields, name, "is there beside rope_scaling");
    refuse_nested(&rope);
    config->rope_theta = vcl_field_real(&rope, "rope_theta", 1, 1e12, config->rope_theta);
    if (vcl_field(&rope, "partial_rotary_factor"))
        read_rotary(&rope, "partial_rotary_factor", 1, config);
    read_scaling(&rope, config);
    if (fields->status == VCL_OK)
        fields->status = rope.status;
}

/* What a family calls the base of the rotations and the share of a head, and that where it is absent. */
struct rope_names {
    const char *theta, *share;
    double absent;
};

/* transformers 5 writes an object rope_parameters in place of these and rope_scaling. */
static void read_rope(struct vcl_fields *fields, const struct rope_names *names, struct vcl_config *config)
{
    config->rope_theta = vcl_field_real(fields, names->theta, 1, 1e12, 1e4);
    read_rope_object(fields, "rope_scaling", "rope_scaling.", config);
    read_rope_object(fields, "rope_parameters", "rope_parameters.", config);
    if (!config->rotary)
        read_rotary(fields, names->share, names->absent, config);
}

/* Whether all layers have the window, where the file says of each what it has. */
static int is_everywhere(const struct vcl_fields *fields)
{
    const json_t *kinds = vcl_field(fields, "layer_types"), *item;
    size_t i;
    json_array_foreach(kinds, i, item)
    {
        const char *kind = json_string_value(item);
        if (!kind || strcmp(kind, "sliding_attention"))
            return 0;
    }
    return !kinds || json_is_array(kinds);
}

/* Where the window is as long as the context it is none.  A Mistral without the field has one of 4096: null
 * is none. */
static void read_window(struct vcl_fields *fields, int is_mistral, struct vcl_config *config)
{
    const size_t absent =
        is_mistral && !json_object_get(fields->object, "sliding_window") ? 4096 : UINT32_MAX;
    const size_t window = vcl_field_size(fields, "sliding_window", 1, UINT32_MAX, absent);
    if (!vcl_field_flag(fields, "use_sliding_window", 1) || window >= config->context)
        return;
    config->window = window;
    if (!is_everywhere(fields))
        vcl_field_refuse(fields, "layer_types");
}

static void refuse_others(struct vcl_fields *fields)
{
    static const char *const refused[] = { "attention_bias", "mlp_bias", "quantization_config", "clip_qkv" };
    static const char *const silu[] = { "silu", "swish", NULL };
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        vcl_field_refuse(fields, refused[i]);
    if (!is_among(vcl_field_text(fields, "hidden_act", "silu"), silu))
        vcl_field_refuse(fields, "hidden_act");
}

/* The token that begins a text, and those that end it: one number or a list of them. */
static void read_ends(struct vcl_fields *fields, struct vcl_config *config)
{
    config->bos = vcl_field_size(fields, "bos_token_id", 0, MOST_VOCAB, SIZE_MAX);
    const json_t *value = vcl_field(fields, "eos_token_id"), *item;
    const size_t count = json_is_array(value) ? json_array_size(value) : value ? 1 : 0;
    if (count > VCL_MAX_EOS)
        vcl_field_fault(fields, "eos_token_id", "lists more than 8 tokens");
    for (size_t i = 0; i < count && i < VCL_MAX_EOS; i++) {
        item = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_integer(item) || json_integer_value(item) < 0)
            vcl_field_fault(fields, "eos_token_id", "is no token");
        config->eos[config->eos_count++] = (size_t)json_integer_value(item);
    }
}

/* The names of the two functions; gelu_fast and others differ from gelu_new in the last bits. */
static void read_gelu(struct vcl_fields *fields, const char *name, const char *absent,
                      struct vcl_config *config)
{
    static const char *const by_tanh[] = { "gelu_new", "gelu_fast", "gelu_pytorch_tanh", NULL };
    static const char *const by_erf[] = { "gelu", "gelu_python", NULL };
    const char *text = vcl_field_text(fields, name, absent);
    config->gelu_tanh = is_among(text, by_tanh);
    if (!config->gelu_tanh && !is_among(text, by_erf))
        vcl_field_refuse(fields, name);
}

/* A field that must have this value where it is there: the only one that is supported. */
static void expect_flag(struct vcl_fields *fields, const char *name, int only)
{
    if (vcl_field_flag(fields, name, only) != only)
        vcl_field_fault(fields, name,
                        only ? "is false, which is not supported" : "is true, which is not supported");
}

static void read_gpt2(struct vcl_fields *fields, struct vcl_config *config)
{
    config->family = VCL_GPT2;
    config->width = vcl_field_size(fields, "n_embd", 1, MOST_WIDTH, 0);
    config->layers = vcl_field_size(fields, "n_layer", 1, MOST_LAYERS, 0);
    config->heads = config->kv_heads = vcl_field_size(fields, "n_head", 1, MOST_WIDTH, 0);
    config->head_dim = config->width / config->heads;
    config->ffn = vcl_field_size(fields, "n_inner", 1, MOST_WIDTH, 4 * config->width);
    config->vocab = vcl_field_size(fields, "vocab_size", 1, MOST_VOCAB, 0);
    config->context = vcl_field_size(fields, "n_positions", 1, MOST_CONTEXT, 0);
    config->norm_eps = vcl_field_real(fields, "layer_norm_epsilon", 0, 1, 1e-5);
    config->tied = vcl_field_flag(fields, "tie_word_embeddings", 1);
    if (config->width % config->heads)
        vcl_field_fault(fields, "n_head", "does not divide n_embd");
    read_gelu(fields, "activation_function", "gelu_new", config);
    expect_flag(fields, "scale_attn_weights", 1);
    expect_flag(fields, "scale_attn_by_inverse_layer_idx", 0);
    vcl_field_refuse(fields, "quantization_config");
    read_ends(fields, config);
}

static void read_neox(struct vcl_fields *fields, struct vcl_config *config)
{
    config->family = VCL_NEOX;
    read_shape(fields, config);
    config->norm_eps = vcl_field_real(fields, "layer_norm_eps", 0, 1, 1e-5);
    config->tied = vcl_field_flag(fields, "tie_word_embeddings", 0);
    config->parallel = vcl_field_flag(fields, "use_parallel_residual", 1);
    read_rope(fields, &(struct rope_names){ "rotary_emb_base", "rotary_pct", 0.25 }, config);
    if (config->kv_heads != config->heads)
        vcl_field_refuse(fields, "num_key_value_heads");
    read_gelu(fields, "hidden_act", "gelu", config);
    expect_flag(fields, "attention_bias", 1);
    vcl_field_refuse(fields, "quantization_config");
    read_ends(fields, config);
}

static void read_llama(struct vcl_fields *fields, int is_mistral, struct vcl_config *config)
{
    read_shape(fields, config);
    config->norm_eps = vcl_field_real(fields, "rms_norm_eps", 0, 1, 1e-6);
    config->tied = vcl_field_flag(fields, "tie_word_embeddings", 0);
    read_rope(fields, &(struct rope_names){ "rope_theta", "partial_rotary_factor", 1 }, config);
    read_window(fields, is_mistral, config);
    read_ends(fields, config);
    refuse_others(fields);
}

enum vcl_status vcl_config_read(const char *folder, struct vcl_config *config, struct vcl_error *error)
{
    char path[4096];
    *config = (struct vcl_config){ 0 };
    struct vcl_fields fields = { .file = path, .prefix = "", .error = error };
    if (snprintf(path, sizeof path, "%s/config.json", folder) >= (int)sizeof path)
        return vcl_fault(error, VCL_E_ARGUMENT, "%.100s...: the path is too long", folder);
    const enum vcl_status status = vcl_fields_load(path, CONFIG_LIMIT, &fields.object, error);
    if (status != VCL_OK)
        return status;
    const char *type = vcl_field_text(&fields, "model_type", NULL);
    const int is_mistral = type && strcmp(type, "mistral") == 0;
    if (is_mistral || (type && strcmp(type, "llama") == 0))
        read_llama(&fields, is_mistral, config);
    else if (type && strcmp(type, "gpt2") == 0)
        read_gpt2(&fields, config);
    else if (type && strcmp(type, "gpt_neox") == 0)
        read_neox(&fields, config);
    else
        vcl_field_refuse(&fields, "model_type");
    json_decref(fields.object);
    return fields.status;
}
