/* convert_names.c - tensors of a GGUF file by their names in a checkpoint, and how their values are turned.
 *
 * Names are those of gguf-py's tensor_mapping.py, turned round, and turns those that
 * convert_hf_to_gguf.py (https://github.com/ggml-org/llama.cpp) makes, undone: a LLaMA's queries and keys
 * have in GGUF the two halves that a rotary position mixes side by side, row by row of a head; GPT-2's
 * matrices, (in, out) in its checkpoints, are (out, in) in GGUF. */
#include <stdlib.h>
#include <string.h>

#include "convert.h"

enum turn { AS_IT_IS, QUERIES, KEYS, TRANSPOSED };
enum { LLAMA = 1, QWEN2 = 2, GPT2 = 4, ROTARY = LLAMA | QWEN2 };

struct pattern {
    unsigned families;
    const char *from, *to;    /* '#': the layer */
    enum vcl_size rows, cols; /* in the GGUF file; without cols a vector */
    enum turn turn;
};

#define VOCAB VCL_SIZE_VOCAB
#define WIDTH VCL_SIZE_WIDTH
#define Q VCL_SIZE_QUERIES
#define K VCL_SIZE_KEYS
#define QKV VCL_SIZE_FUSED
#define FFN VCL_SIZE_FFN
#define CONTEXT VCL_SIZE_CONTEXT
#define VECTOR VCL_SIZE_NONE

static const char HEAD[] = "output.weight"; /* the only one that may be absent */

static const struct pattern PATTERNS[] = {
    { ROTARY, "token_embd.weight", "model.embed_tokens.weight", VOCAB, WIDTH, AS_IT_IS },
    { ROTARY, "output_norm.weight", "model.norm.weight", WIDTH, VECTOR, AS_IT_IS },
    { ROTARY, HEAD, "lm_head.weight", VOCAB, WIDTH, AS_IT_IS },
    { ROTARY, "blk.#.attn_norm.weight", "model.layers.#.input_layernorm.weight", WIDTH, VECTOR, AS_IT_IS },
    { LLAMA, "blk.#.attn_q.weight", "model.layers.#.self_attn.q_proj.weight", Q, WIDTH, QUERIES },
    { LLAMA, "blk.#.attn_k.weight", "model.layers.#.self_attn.k_proj.weight", K, WIDTH, KEYS },
    { QWEN2, "blk.#.attn_q.weight", "model.layers.#.self_attn.q_proj.weight", Q, WIDTH, AS_IT_IS },
    { QWEN2, "blk.#.attn_k.weight", "model.layers.#.self_attn.k_proj.weight", K, WIDTH, AS_IT_IS },
    { ROTARY, "blk.#.attn_v.weight", "model.layers.#.self_attn.v_proj.weight", K, WIDTH, AS_IT_IS },
    { QWEN2, "blk.#.attn_q.bias", "model.layers.#.self_attn.q_proj.bias", Q, VECTOR, AS_IT_IS },
    { QWEN2, "blk.#.attn_k.bias", "model.layers.#.self_attn.k_proj.bias", K, VECTOR, AS_IT_IS },
    { QWEN2, "blk.#.attn_v.bias", "model.layers.#.self_attn.v_proj.bias", K, VECTOR, AS_IT_IS },
    { ROTARY, "blk.#.attn_output.weight", "model.layers.#.self_attn.o_proj.weight", WIDTH, Q, AS_IT_IS },
    { ROTARY, "blk.#.ffn_norm.weight", "model.layers.#.post_attention_layernorm.weight", WIDTH, VECTOR,
      AS_IT_IS },
    { ROTARY, "blk.#.ffn_gate.weight", "model.layers.#.mlp.gate_proj.weight", FFN, WIDTH, AS_IT_IS },
    { ROTARY, "blk.#.ffn_up.weight", "model.layers.#.mlp.up_proj.weight", FFN, WIDTH, AS_IT_IS },
    { ROTARY, "blk.#.ffn_down.weight", "model.layers.#.mlp.down_proj.weight", WIDTH, FFN, AS_IT_IS },
    { GPT2, "token_embd.weight", "transformer.wte.weight", VOCAB, WIDTH, AS_IT_IS },
    { GPT2, "position_embd.weight", "transformer.wpe.weight", CONTEXT, WIDTH, AS_IT_IS },
    { GPT2, "output_norm.weight", "transformer.ln_f.weight", WIDTH, VECTOR, AS_IT_IS },
    { GPT2, "output_norm.bias", "transformer.ln_f.bias", WIDTH, VECTOR, AS_IT_IS },
    { GPT2, HEAD, "lm_head.weight", VOCAB, WIDTH, AS_IT_IS },
    { GPT2, "blk.#.attn_norm.weight", "transformer.h.#.ln_1.weight", WIDTH, VECTOR, AS_IT_IS },
    { GPT2, "blk.#.attn_norm.bias", "transformer.h.#.ln_1.bias", WIDTH, VECTOR, AS_IT_IS },
    { GPT2, "blk.#.attn_qkv.weight", "transformer.h.#.attn.c_attn.weight", QKV, WIDTH, TRANSPOSED },
    { GPT2, "blk.#.attn_qkv.bias", "transformer.h.#.attn.c_attn.bias", QKV, VECTOR, AS_IT_IS },
    { GPT2, "blk.#.attn_output.weight", "transformer.h.#.attn.c_proj.weight", WIDTH, WIDTH, TRANSPOSED },
    { GPT2, "blk.#.attn_output.bias", "transformer.h.#.attn.c_proj.bias", WIDTH, VECTOR, AS_IT_IS },
    { GPT2, "blk.#.ffn_norm.weight", "transformer.h.#.ln_2.weight", WIDTH, VECTOR, AS_IT_IS },
    { GPT2, "blk.#.ffn_norm.bias", "transformer.h.#.ln_2.bias", WIDTH, VECTOR, AS_IT_IS },
    { GPT2, "blk.#.ffn_up.weight", "transformer.h.#.mlp.c_fc.weight", FFN, WIDTH, TRANSPOSED },
    { GPT2, "blk.#.ffn_up.bias", "transformer.h.#.mlp.c_fc.bias", FFN, VECTOR, AS_IT_IS },
    { GPT2, "blk.#.ffn_down.weight", "transformer.h.#.mlp.c_proj.weight", WIDTH, FFN, TRANSPOSED },
    { GPT2, "blk.#.ffn_down.bias", "transformer.h.#.mlp.c_proj.bias", WIDTH, VECTOR, AS_IT_IS },
    { 0, NULL, NULL, VECTOR, VECTOR, AS_IT_IS },
};

static unsigned family_of(const struct vcl_convert *job)
{
    const char *name = job->metadata.architecture;
    return strcmp(name, "llama") == 0 ? LLAMA : strcmp(name, "qwen2") == 0 ? QWEN2 : GPT2;
}

/* The layer's digits, or nothing where the pattern has no '#'; NULL: the name is another. */
static const char *match(const char *pattern, const char *name, size_t *digits)
{
    const size_t before = strcspn(pattern, "#");
    *digits = pattern[before] ? strspn(name + (strnlen(name, before)), "0123456789") : 0;
    if (strncmp(pattern, name, before) != 0 || (pattern[before] && !*digits)
        || (*digits > 1 && name[before] == '0'))
        return NULL;
    const char *rest = pattern + before + (pattern[before] == '#');
    return strcmp(rest, name + before + *digits) == 0 ? name + before : NULL;
}

static char *fill(const char *pattern, const char *layer, size_t digits)
{
    const int before = (int)strcspn(pattern, "#");
    return pattern[before] ? vcl_text("%.*s%.*s%s", before, pattern, (int)digits, layer, pattern + before + 1)
                           : vcl_text("%s", pattern);
}

/* ---- what must be there ---------------------------------------------------------------------- */

static void check_shape(struct vcl_convert *job, const struct pattern *pattern, const struct vcl_entry *entry)
{
    static const char *const words[] = { [VOCAB] = "tokens",
                                         [WIDTH] = "embedding_length",
                                         [Q] = "head_count x key_length",
                                         [K] = "head_count_kv x key_length",
                                         [QKV] = "3 x embedding_length",
                                         [FFN] = "feed_forward_length",
                                         [CONTEXT] = "context_length" };
    const struct vcl_tensor *has = &entry->tensor, wanted = {
        has->dtype, pattern->cols ? 2 : 1, { job->sizes[pattern->rows], job->sizes[pattern->cols] }
    };
    if (has->rank != wanted.rank || memcmp(has->dims, wanted.dims, wanted.rank * sizeof *wanted.dims) != 0)
        vcl_metadata_fault(
            &job->metadata, "tensor '%.160s' has the shape %s; by the keys it should have %s (%s%s%s)",
            entry->name, vcl_words_shape(has).text, vcl_words_shape(&wanted).text, words[pattern->rows],
            pattern->cols ? ", " : "", pattern->cols ? words[pattern->cols] : "");
    if (!vcl_dtype_is_float(has->dtype))
        vcl_metadata_fault(&job->metadata, "tensor '%.160s' is of type %s, which weights are not",
                           entry->name, vcl_dtype_name(has->dtype));
}

static void check_layer(struct vcl_convert *job, const struct vcl_entry *entry, const char *layer,
                        size_t digits)
{
    if (digits > 9 || (digits && strtoull(layer, NULL, 10) >= job->layers))
        vcl_metadata_fault(&job->metadata,
                           "tensor '%.160s' is of layer %.*s; by the key '%.60s.block_count' "
                           "the last is %llu",
                           entry->name, (int)(digits < 20 ? digits : 20), layer, job->metadata.architecture,
                           (unsigned long long)(job->layers - 1));
}

static void check_there(struct vcl_convert *job, const char *pattern, uint64_t layer)
{
    char digits[24];
    const int n = snprintf(digits, sizeof digits, "%llu", (unsigned long long)layer);
    char *name = fill(pattern, digits, (size_t)n);
    if (!vcl_model_find(job->model, name))
        vcl_metadata_fault(&job->metadata, "tensor '%s' is missing; a %.60s with layers 0 to %llu has it",
                           name, job->metadata.architecture, (unsigned long long)(job->layers - 1));
    free(name);
}

static void check_all_there(struct vcl_convert *job)
{
    for (const struct pattern *pattern = PATTERNS; pattern->from; pattern++) {
        const uint64_t count = strchr(pattern->from, '#') ? job->layers : 1;
        if (!(pattern->families & family_of(job)) || pattern->from == HEAD)
            continue;
        for (uint64_t i = 0; i < count && !job->metadata.code; i++)
            check_there(job, pattern->from, i);
    }
}

/* ---- what it becomes ------------------------------------------------------------------------- */

static void plan_tensor(struct vcl_convert *job, const struct pattern *pattern, const char *layer,
                        size_t digits, struct vcl_converted *tensor)
{
    const struct vcl_tensor *shape = &tensor->from->tensor;
    tensor->name = fill(pattern->to, layer, digits);
    tensor->tensor = *shape;
    tensor->heads = pattern->turn == QUERIES ? job->heads : pattern->turn == KEYS ? job->kv_heads : 0;
    tensor->transposed = pattern->turn == TRANSPOSED;
    if (tensor->transposed) {
        tensor->tensor.dims[0] = shape->dims[1];
        tensor->tensor.dims[1] = shape->dims[0];
    }
    if (job->dtype != VCL_DTYPE_COUNT)
        tensor->tensor.dtype = job->dtype;
    if (vcl_tensor_size(&tensor->tensor, NULL, &tensor->bytes) != VCL_OK)
        vcl_metadata_fault(&job->metadata, "tensor '%.160s' is too large", tensor->from->name);
}

static void add_tensor(struct vcl_convert *job, const struct vcl_entry *entry)
{
    const struct pattern *pattern = PATTERNS;
    const char *layer = NULL;
    size_t digits = 0;
    while (pattern->from
           && !(pattern->families & family_of(job) && (layer = match(pattern->from, entry->name, &digits))))
        pattern++;
    if (!pattern->from) {
        vcl_metadata_fault(&job->metadata, "tensor '%.160s' is none that convert knows in a %.60s",
                           entry->name, job->metadata.architecture);
        return;
    }
    check_layer(job, entry, layer, digits);
    check_shape(job, pattern, entry);
    if (pattern->from == HEAD && job->tied)
        return;
    job->tensors[job->count].from = entry;
    plan_tensor(job, pattern, layer, digits, &job->tensors[job->count++]);
}

/* Two tensors of the same values, as they are stored in the same type: files repeat the embedding as head. */
static int are_equal(const struct vcl_convert *job, const struct vcl_entry *a, const struct vcl_entry *b)
{
    enum { CHUNK = 1 << 20 };
    int equal = a->bytes == b->bytes && a->tensor.dtype == b->tensor.dtype;
    unsigned char *chunks = vcl_zeros(2, CHUNK);
    for (uint64_t at = 0; equal && at < a->bytes; at += CHUNK) {
        const size_t n = a->bytes - at < CHUNK ? (size_t)(a->bytes - at) : CHUNK;
        equal = vcl_model_read(job->model, a, at, chunks, n, NULL) == VCL_OK
             && vcl_model_read(job->model, b, at, chunks + CHUNK, n, NULL) == VCL_OK
             && memcmp(chunks, chunks + CHUNK, n) == 0;
    }
    free(chunks);
    return equal;
}

/* The factors of a Llama 3's positions, which config.json has (convert_config.c). */
static int is_said_elsewhere(const struct vcl_convert *job, const struct vcl_entry *entry)
{
    return family_of(job) == LLAMA && strcmp(entry->name, "rope_freqs.weight") == 0;
}

int vcl_convert_names(struct vcl_convert *job)
{
    const struct vcl_entry *embedding = vcl_model_find(job->model, "token_embd.weight");
    const struct vcl_entry *head = vcl_model_find(job->model, HEAD);
    job->tied = !head || (embedding && are_equal(job, embedding, head));
    job->tensors = vcl_zeros(vcl_model_count(job->model) + 1, sizeof *job->tensors);
    check_all_there(job);
    for (size_t i = 0; i < vcl_model_count(job->model) && !job->metadata.code; i++) {
        const struct vcl_entry *entry = vcl_model_entry(job->model, i);
        if (!is_said_elsewhere(job, entry))
            add_tensor(job, entry);
    }
    return job->metadata.code;
}
