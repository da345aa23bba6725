/* convert_config.c - config.json and generation_config.json from the metadata of a GGUF file.
 *
 * Keys are those of ggml's docs/gguf.md; defaults, where a key may be absent, those of llama.cpp.  What
 * changes the model and has no place here is refused by name. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "convert.h"

enum {
    MOST_LAYERS = 4096,
    MOST_WIDTH = 1 << 20,
    MOST_CONTEXT = 1 << 24,
    MOST_VOCAB = 1 << 24,
    NO_TOKEN = MOST_VOCAB + 1
};

static void set_integer(json_t *object, const char *name, int64_t value)
{
    vcl_json_set(object, name, json_integer(value));
}

/* What all architectures have; the shape is that of the embedding. */
static void read_sizes(struct vcl_convert *job)
{
    struct vcl_metadata *m = &job->metadata;
    const struct vcl_entry *embedding = vcl_model_find(job->model, "token_embd.weight");
    job->layers = (uint64_t)vcl_metadata_integer(m, ".block_count", 1, MOST_LAYERS, -1);
    job->heads = (uint64_t)vcl_metadata_integer(m, ".attention.head_count", 1, MOST_WIDTH, -1);
    job->kv_heads = (uint64_t)vcl_metadata_integer(m, ".attention.head_count_kv", 1, (int64_t)job->heads,
                                                   (int64_t)job->heads);
    if (!embedding || embedding->tensor.rank != 2 || embedding->tensor.dims[0] == 0
        || embedding->tensor.dims[0] > MOST_VOCAB)
        vcl_metadata_fault(m, "tensor 'token_embd.weight' is missing, or no matrix of 1 to %d rows",
                           MOST_VOCAB);
    else
        job->vocab = embedding->tensor.dims[0];
}

static void refuse_others(struct vcl_metadata *m)
{
    const char *scaling = vcl_metadata_text(m, ".rope.scaling.type");
    if (scaling && strcmp(scaling, "none") && strcmp(scaling, "linear"))
        vcl_metadata_fault(m, "the key '%.60s.rope.scaling.type' is '%.60s', which is not supported",
                           m->architecture, scaling);
    if (vcl_metadata_integer(m, ".expert_count", 0, MOST_WIDTH, 0) > 0)
        vcl_metadata_fault(m, "models of several experts are not supported");
    if (vcl_metadata_integer(m, ".attention.sliding_window", 0, INT32_MAX, 0) > 0)
        vcl_metadata_fault(m, "a sliding window is not supported");
}

/* What Llama 3.1 and later divide the rate of pair `pair` by: 1 at wavelengths below ORIGINAL / HIGH,
 * `factor` above ORIGINAL / LOW, and between them what comes in by and by. */
enum { LOW = 1, HIGH = 4, ORIGINAL = 8192 };

static double llama3_factor(double theta, int64_t head_dim, int64_t pair, double factor)
{
    const double pi = 3.14159265358979323846;
    const double wavelength = 2 * pi * pow(theta, 2 * (double)pair / (double)head_dim);
    const double smooth = (ORIGINAL / wavelength - LOW) / (HIGH - LOW);
    return smooth <= 0 ? factor : smooth >= 1 ? 1 : 1 / ((1 - smooth) / factor + smooth);
}

/* The largest of the factors; 0: they are no Llama 3's. */
static double find_factor(const struct vcl_convert *job, const struct vcl_entry *entry, int64_t head_dim,
                          double theta)
{
    const size_t count = (size_t)head_dim / 2;
    float *factors = vcl_zeros(count + 1, sizeof *factors);
    double largest = 0;
    int known = entry->tensor.dtype == VCL_DTYPE_F32 && entry->bytes == count * sizeof *factors
             && vcl_model_read(job->model, entry, 0, factors, count * sizeof *factors, NULL) == VCL_OK;
    for (size_t i = 0; i < count && known; i++)
        largest = fmax(largest, (double)factors[i]);
    for (size_t i = 0; i < count && known; i++) {
        const double expected = llama3_factor(theta, head_dim, (int64_t)i, largest);
        known = fabs(expected / (double)factors[i] - 1) < 1e-4;
    }
    free(factors);
    return known ? largest : 0;
}

/* GGUF has a factor for each pair; a checkpoint the numbers they come from, which are the same in all Llamas
 * but for the largest. */
static void set_llama3(struct vcl_metadata *m, json_t *config, double factor)
{
    if (factor < 1 || json_object_get(config, "rope_scaling")) {
        vcl_metadata_fault(m, "tensor 'rope_freqs.weight' does not hold the factors of a Llama 3");
        return;
    }
    json_t *object = json_object();
    vcl_json_set(object, "rope_type", json_string("llama3"));
    vcl_json_set(object, "factor", json_real(factor));
    vcl_json_set(object, "low_freq_factor", json_real(LOW));
    vcl_json_set(object, "high_freq_factor", json_real(HIGH));
    set_integer(object, "original_max_position_embeddings", ORIGINAL);
    vcl_json_set(config, "rope_scaling", object);
}

static void set_rope(const struct vcl_convert *job, struct vcl_metadata *m, json_t *config, int64_t head_dim)
{
    const char *scaling = vcl_metadata_text(m, ".rope.scaling.type");
    const int64_t turned =
        vcl_metadata_integer(m, ".rope.dimension_count", 1, MOST_WIDTH, head_dim > 0 ? head_dim : 1);
    if (turned != head_dim)
        vcl_metadata_fault(m, "positions turn %lld of a head's %lld dimensions, which is not supported",
                           (long long)turned, (long long)head_dim);
    const double theta = vcl_metadata_real(m, ".rope.freq_base", 1, 1e12, 1e4);
    vcl_json_set(config, "rope_theta", json_real(theta));
    if (scaling && strcmp(scaling, "linear") == 0) {
        json_t *object = json_object();
        vcl_json_set(object, "type", json_string("linear"));
        vcl_json_set(object, "factor", json_real(vcl_metadata_real(m, ".rope.scaling.factor", 1, 1e6, -1)));
        vcl_json_set(config, "rope_scaling", object);
    }
    const struct vcl_entry *factors = vcl_model_find(job->model, "rope_freqs.weight");
    if (factors && !m->code)
        set_llama3(m, config, find_factor(job, factors, head_dim, theta));
}

static void set_llama(struct vcl_convert *job, json_t *config)
{
    struct vcl_metadata *m = &job->metadata;
    const int64_t width = vcl_metadata_integer(m, ".embedding_length", 1, MOST_WIDTH, -1);
    const int64_t head_dim =
        vcl_metadata_integer(m, ".attention.key_length", 1, MOST_WIDTH, width / (int64_t)job->heads);
    set_integer(config, "hidden_size", width);
    set_integer(config, "intermediate_size",
                vcl_metadata_integer(m, ".feed_forward_length", 1, MOST_WIDTH, -1));
    set_integer(config, "num_hidden_layers", (int64_t)job->layers);
    set_integer(config, "num_attention_heads", (int64_t)job->heads);
    set_integer(config, "num_key_value_heads", (int64_t)job->kv_heads);
    set_integer(config, "head_dim", head_dim);
    set_integer(config, "max_position_embeddings",
                vcl_metadata_integer(m, ".context_length", 1, MOST_CONTEXT, -1));
    vcl_json_set(config, "rms_norm_eps",
                 json_real(vcl_metadata_real(m, ".attention.layer_norm_rms_epsilon", 0, 1, -1)));
    vcl_json_set(config, "hidden_act", json_string("silu"));
    set_rope(job, m, config, head_dim);
    refuse_others(m);
}

static void set_gpt2(struct vcl_convert *job, json_t *config)
{
    struct vcl_metadata *m = &job->metadata;
    set_integer(config, "n_embd", vcl_metadata_integer(m, ".embedding_length", 1, MOST_WIDTH, -1));
    set_integer(config, "n_inner", vcl_metadata_integer(m, ".feed_forward_length", 1, MOST_WIDTH, -1));
    set_integer(config, "n_layer", (int64_t)job->layers);
    set_integer(config, "n_head", (int64_t)job->heads);
    set_integer(config, "n_positions", vcl_metadata_integer(m, ".context_length", 1, MOST_CONTEXT, -1));
    vcl_json_set(config, "layer_norm_epsilon",
                 json_real(vcl_metadata_real(m, ".attention.layer_norm_epsilon", 0, 1, 1e-5)));
    vcl_json_set(config, "activation_function", json_string("gelu_new"));
}

/* Those that end a text: where a turn of talk ends otherwise, both. */
static void set_ends(struct vcl_metadata *m, json_t *object)
{
    static const char *const keys[] = { "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id" };
    json_t *ends = json_array();
    for (size_t i = 0; i < 2; i++) {
        const int64_t token = vcl_metadata_integer(m, keys[i], 0, MOST_VOCAB, NO_TOKEN);
        const json_t *first = json_array_get(ends, 0);
        if (token != NO_TOKEN && (!first || json_integer_value(first) != token))
            vcl_json_append(ends, json_integer(token));
    }
    if (json_array_size(ends) == 1)
        vcl_json_set(object, "eos_token_id", json_incref(json_array_get(ends, 0)));
    else if (json_array_size(ends) == 2)
        vcl_json_set(object, "eos_token_id", json_incref(ends));
    json_decref(ends);
}

static void set_tokens(struct vcl_metadata *m, json_t *object)
{
    static const char *const keys[][2] = { { "tokenizer.ggml.bos_token_id", "bos_token_id" },
                                           { "tokenizer.ggml.padding_token_id", "pad_token_id" } };
    for (size_t i = 0; i < 2; i++) {
        const int64_t token = vcl_metadata_integer(m, keys[i][0], 0, MOST_VOCAB, NO_TOKEN);
        if (token != NO_TOKEN)
            set_integer(object, keys[i][1], token);
    }
    set_ends(m, object);
}

struct family {
    const char *architecture, *class;
    void (*set)(struct vcl_convert *job, json_t *config);
};

static const struct family *family_of(const char *architecture)
{
    static const struct family families[] = { { "llama", "LlamaForCausalLM", set_llama },
                                              { "qwen2", "Qwen2ForCausalLM", set_llama },
                                              { "gpt2", "GPT2LMHeadModel", set_gpt2 } };
    for (size_t i = 0; i < sizeof families / sizeof *families; i++)
        if (strcmp(families[i].architecture, architecture) == 0)
            return &families[i];
    return NULL;
}

static const char *dtype_word(enum vcl_dtype dtype)
{
    return dtype == VCL_DTYPE_F16 ? "float16" : dtype == VCL_DTYPE_BF16 ? "bfloat16" : "float32";
}

int vcl_convert_config(struct vcl_convert *job)
{
    const struct family *family = family_of(job->metadata.architecture);
    if (!family) {
        vcl_metadata_fault(&job->metadata,
                           "the architecture '%.60s' is not supported; llama, qwen2 and gpt2 are",
                           job->metadata.architecture);
        return job->metadata.code;
    }
    read_sizes(job);
    int code = job->metadata.code ? job->metadata.code : vcl_convert_names(job);
    if (code)
        return code;
    json_t *config = json_object(), *generation = json_object(), *classes = json_array();
    vcl_json_append(classes, json_string(family->class));
    vcl_json_set(config, "architectures", classes);
    vcl_json_set(config, "model_type", json_string(family->architecture));
    family->set(job, config);
    set_integer(config, "vocab_size", (int64_t)job->vocab);
    vcl_json_set(config, "tie_word_embeddings", json_boolean(job->tied));
    const enum vcl_dtype dtype = vcl_model_find(job->model, "token_embd.weight")->tensor.dtype;
    vcl_json_set(config, "torch_dtype",
                 json_string(dtype_word(job->dtype == VCL_DTYPE_COUNT ? dtype : job->dtype)));
    set_tokens(&job->metadata, config);
    set_tokens(&job->metadata, generation);
    vcl_json_set(job->sides, "config.json", config);
    vcl_json_set(job->sides, "generation_config.json", generation);
    return job->metadata.code;
}
