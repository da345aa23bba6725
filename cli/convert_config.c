/* convert_config.c - config.json and generation_config.json from the metadata of a GGUF file.
 *
 * Keys are those of ggml's docs/gguf.md; defaults, where a key may be absent, those of llama.cpp.  Which keys
 * there may be at all is in convert_keys.c. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "convert.h"

enum { MOST_LAYERS = 4096, MOST_WIDTH = 1 << 20, MOST_CONTEXT = 1 << 24, MOST_VOCAB = 1 << 24 };

static void set_integer(json_t *object, const char *name, int64_t value)
{
    vcl_json_set(object, name, json_integer(value));
}

/* ---- sizes ----------------------------------------------------------------------------------- */

static uint64_t size_of(struct vcl_convert *job, const char *key, int64_t high, uint64_t absent)
{
    return (uint64_t)vcl_metadata_integer(&job->metadata, key, 1, high, absent ? (int64_t)absent : -1);
}

/* As many as there are tokens: llama.cpp takes no other embedding. */
static uint64_t count_tokens(struct vcl_convert *job)
{
    struct vcl_metadata *m = &job->metadata;
    struct vcl_value value;
    const size_t tokens = vcl_metadata_list(m, "tokenizer.ggml.tokens", VCL_ITEM_TEXT, 1, &value);
    if (tokens == 0 || tokens > MOST_VOCAB)
        vcl_metadata_fault(m, "the key 'tokenizer.ggml.tokens' lists %zu tokens; 1 to %d can be", tokens,
                           MOST_VOCAB);
    const uint64_t said = size_of(job, ".vocab_size", MOST_VOCAB, tokens ? tokens : 1);
    if (said != tokens)
        vcl_metadata_fault(m, "the key '%.60s.vocab_size' is %llu; 'tokenizer.ggml.tokens' lists %zu tokens",
                           m->architecture, (unsigned long long)said, tokens);
    return tokens;
}

/* The sizes, heads and their dimensions agree with one another; with the tensors' shapes, convert_names.c
 * sees. */
static void check_heads(struct vcl_convert *job)
{
    struct vcl_metadata *m = &job->metadata;
    const uint64_t value_dim = size_of(job, ".attention.value_length", MOST_WIDTH, job->head_dim);
    if (job->heads % job->kv_heads)
        vcl_metadata_fault(
            m,
            "the key '%.60s.attention.head_count_kv' is %llu, which does not divide the %llu of "
            "head_count",
            m->architecture, (unsigned long long)job->kv_heads, (unsigned long long)job->heads);
    if (value_dim != job->head_dim)
        vcl_metadata_fault(m,
                           "the key '%.60s.attention.value_length' is %llu, but a head's queries and keys "
                           "have %llu dimensions",
                           m->architecture, (unsigned long long)value_dim, (unsigned long long)job->head_dim);
}

static void read_sizes(struct vcl_convert *job)
{
    uint64_t *sizes = job->sizes;
    job->layers = size_of(job, ".block_count", MOST_LAYERS, 0);
    job->heads = size_of(job, ".attention.head_count", MOST_WIDTH, 0);
    job->kv_heads = size_of(job, ".attention.head_count_kv", (int64_t)job->heads, job->heads);
    sizes[VCL_SIZE_WIDTH] = size_of(job, ".embedding_length", MOST_WIDTH, 0);
    const uint64_t share = sizes[VCL_SIZE_WIDTH] / job->heads;
    job->head_dim = size_of(job, ".attention.key_length", MOST_WIDTH, share ? share : 1);
    sizes[VCL_SIZE_QUERIES] = job->heads * job->head_dim;
    sizes[VCL_SIZE_KEYS] = job->kv_heads * job->head_dim;
    sizes[VCL_SIZE_FUSED] = 3 * sizes[VCL_SIZE_WIDTH];
    sizes[VCL_SIZE_FFN] = size_of(job, ".feed_forward_length", MOST_WIDTH, 0);
    sizes[VCL_SIZE_CONTEXT] = size_of(job, ".context_length", MOST_CONTEXT, 0);
    sizes[VCL_SIZE_VOCAB] = count_tokens(job);
    check_heads(job);
}

/* ---- positions ------------------------------------------------------------------------------- */

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

/* As llama.cpp has it: absent, the type is linear; the older key for the factor counts where the newer is
 * absent; 0 is no factor.  0: positions are not scaled. */
static double read_factor(struct vcl_metadata *m)
{
    const char *type = vcl_metadata_text(m, ".rope.scaling.type");
    const double older = vcl_metadata_real(m, ".rope.scale_linear", 0, 1e6, 0);
    const double factor = vcl_metadata_real(m, ".rope.scaling.factor", 0, 1e6, older);
    if (type && strcmp(type, "none") == 0)
        return 0;
    if (type && strcmp(type, "linear") != 0)
        vcl_metadata_fault(m, "the key '%.60s.rope.scaling.type' is '%.60s'; none and linear are supported",
                           m->architecture, type);
    else if (factor > 0 && factor < 1)
        vcl_metadata_fault(m, "positions are scaled by 1 / %g; only factors from 1 on are supported", factor);
    return factor == 1 ? 0 : factor;
}

static void set_rope(const struct vcl_convert *job, struct vcl_metadata *m, json_t *config)
{
    const int64_t head_dim = (int64_t)job->head_dim;
    const int64_t turned = vcl_metadata_integer(m, ".rope.dimension_count", 1, MOST_WIDTH, head_dim);
    if (turned != head_dim)
        vcl_metadata_fault(
            m,
            "the key '%.60s.rope.dimension_count' is %lld; only all %lld dimensions of a head are "
            "supported",
            m->architecture, (long long)turned, (long long)head_dim);
    if (head_dim % 2)
        vcl_metadata_fault(m,
                           "a head has %lld dimensions, an odd number, which positions cannot turn in pairs",
                           (long long)head_dim);
    const double theta = vcl_metadata_real(m, ".rope.freq_base", 1, 1e12, 1e4), factor = read_factor(m);
    vcl_json_set(config, "rope_theta", json_real(theta));
    if (factor > 0) {
        json_t *object = json_object();
        vcl_json_set(object, "type", json_string("linear"));
        vcl_json_set(object, "factor", json_real(factor));
        vcl_json_set(config, "rope_scaling", object);
    }
    const struct vcl_entry *factors = vcl_model_find(job->model, "rope_freqs.weight");
    if (factors && !m->code)
        set_llama3(m, config, find_factor(job, factors, head_dim, theta));
}

/* ---- families -------------------------------------------------------------------------------- */

/* A window as long as the context is none. */
static void refuse_window(struct vcl_convert *job)
{
    struct vcl_metadata *m = &job->metadata;
    const int64_t window = vcl_metadata_integer(m, ".attention.sliding_window", 0, UINT32_MAX, 0);
    if (window > 0 && (uint64_t)window < job->sizes[VCL_SIZE_CONTEXT])
        vcl_metadata_fault(m,
                           "the key '%.60s.attention.sliding_window' is %lld, below the context_length %llu: "
                           "a window is not supported",
                           m->architecture, (long long)window,
                           (unsigned long long)job->sizes[VCL_SIZE_CONTEXT]);
}

static void set_llama(struct vcl_convert *job, json_t *config)
{
    struct vcl_metadata *m = &job->metadata;
    set_integer(config, "hidden_size", (int64_t)job->sizes[VCL_SIZE_WIDTH]);
    set_integer(config, "intermediate_size", (int64_t)job->sizes[VCL_SIZE_FFN]);
    set_integer(config, "num_hidden_layers", (int64_t)job->layers);
    set_integer(config, "num_attention_heads", (int64_t)job->heads);
    set_integer(config, "num_key_value_heads", (int64_t)job->kv_heads);
    set_integer(config, "head_dim", (int64_t)job->head_dim);
    set_integer(config, "max_position_embeddings", (int64_t)job->sizes[VCL_SIZE_CONTEXT]);
    vcl_json_set(config, "rms_norm_eps",
                 json_real(vcl_metadata_real(m, ".attention.layer_norm_rms_epsilon", 0, 1, -1)));
    vcl_json_set(config, "hidden_act", json_string("silu"));
    set_rope(job, m, config);
    refuse_window(job);
}

static void set_gpt2(struct vcl_convert *job, json_t *config)
{
    struct vcl_metadata *m = &job->metadata;
    const uint64_t width = job->sizes[VCL_SIZE_WIDTH];
    if (job->sizes[VCL_SIZE_QUERIES] != width || job->sizes[VCL_SIZE_KEYS] != width)
        vcl_metadata_fault(m,
                           "the keys 'gpt2.attention.*' give head_count %llu, head_count_kv %llu, key_length "
                           "%llu; a GPT-2's counts times the length are embedding_length, %llu",
                           (unsigned long long)job->heads, (unsigned long long)job->kv_heads,
                           (unsigned long long)job->head_dim, (unsigned long long)width);
    set_integer(config, "n_embd", (int64_t)width);
    set_integer(config, "n_inner", (int64_t)job->sizes[VCL_SIZE_FFN]);
    set_integer(config, "n_layer", (int64_t)job->layers);
    set_integer(config, "n_head", (int64_t)job->heads);
    set_integer(config, "n_positions", (int64_t)job->sizes[VCL_SIZE_CONTEXT]);
    vcl_json_set(config, "layer_norm_epsilon",
                 json_real(vcl_metadata_real(m, ".attention.layer_norm_epsilon", 0, 1, 1e-5)));
    vcl_json_set(config, "activation_function", json_string("gelu_new"));
    refuse_window(job);
}

/* ---- tokens ---------------------------------------------------------------------------------- */

enum { NO_TOKEN = MOST_VOCAB + 1 };

static int64_t token_of(struct vcl_convert *job, const char *key)
{
    return vcl_metadata_integer(&job->metadata, key, 0, (int64_t)job->sizes[VCL_SIZE_VOCAB] - 1, NO_TOKEN);
}

/* Those that end a text: where a turn of talk ends otherwise, both. */
static void set_ends(struct vcl_convert *job, json_t *object)
{
    static const char *const keys[] = { "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id" };
    json_t *ends = json_array();
    for (size_t i = 0; i < 2; i++) {
        const int64_t token = token_of(job, keys[i]);
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

static void set_tokens(struct vcl_convert *job, json_t *object)
{
    static const char *const keys[][2] = { { "tokenizer.ggml.bos_token_id", "bos_token_id" },
                                           { "tokenizer.ggml.padding_token_id", "pad_token_id" } };
    for (size_t i = 0; i < 2; i++) {
        const int64_t token = token_of(job, keys[i][0]);
        if (token != NO_TOKEN)
            set_integer(object, keys[i][1], token);
    }
    set_ends(job, object);
}

/* ---- both files ------------------------------------------------------------------------------ */

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
                           "the key 'general.architecture' is '%.60s'; llama, qwen2 and gpt2 are supported",
                           job->metadata.architecture);
        return job->metadata.code;
    }
    read_sizes(job);
    int code = job->metadata.code;
    if (!code)
        code = vcl_convert_keys(job);
    if (!code)
        code = vcl_convert_names(job);
    if (code)
        return code;
    json_t *config = json_object(), *generation = json_object(), *classes = json_array();
    vcl_json_append(classes, json_string(family->class));
    vcl_json_set(config, "architectures", classes);
    vcl_json_set(config, "model_type", json_string(family->architecture));
    family->set(job, config);
    set_integer(config, "vocab_size", (int64_t)job->sizes[VCL_SIZE_VOCAB]);
    vcl_json_set(config, "tie_word_embeddings", json_boolean(job->tied));
    const enum vcl_dtype dtype = vcl_model_find(job->model, "token_embd.weight")->tensor.dtype;
    vcl_json_set(config, "torch_dtype",
                 json_string(dtype_word(job->dtype == VCL_DTYPE_COUNT ? dtype : job->dtype)));
    set_tokens(job, config);
    set_tokens(job, generation);
    vcl_json_set(job->sides, "config.json", config);
    vcl_json_set(job->sides, "generation_config.json", generation);
    return job->metadata.code;
}
