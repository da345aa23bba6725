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

struct pattern {
    const char *from, *to; /* '#': the layer */
    enum turn turn;
};

static const struct pattern LLAMA[] = {
    { "token_embd.weight", "model.embed_tokens.weight", AS_IT_IS },
    { "output_norm.weight", "model.norm.weight", AS_IT_IS },
    { "output.weight", "lm_head.weight", AS_IT_IS },
    { "blk.#.attn_norm.weight", "model.layers.#.input_layernorm.weight", AS_IT_IS },
    { "blk.#.attn_q.weight", "model.layers.#.self_attn.q_proj.weight", QUERIES },
    { "blk.#.attn_k.weight", "model.layers.#.self_attn.k_proj.weight", KEYS },
    { "blk.#.attn_v.weight", "model.layers.#.self_attn.v_proj.weight", AS_IT_IS },
    { "blk.#.attn_output.weight", "model.layers.#.self_attn.o_proj.weight", AS_IT_IS },
    { "blk.#.ffn_norm.weight", "model.layers.#.post_attention_layernorm.weight", AS_IT_IS },
    { "blk.#.ffn_gate.weight", "model.layers.#.mlp.gate_proj.weight", AS_IT_IS },
    { "blk.#.ffn_up.weight", "model.layers.#.mlp.up_proj.weight", AS_IT_IS },
    { "blk.#.ffn_down.weight", "model.layers.#.mlp.down_proj.weight", AS_IT_IS },
    { NULL, NULL, AS_IT_IS },
};

static const struct pattern QWEN2[] = {
    { "token_embd.weight", "model.embed_tokens.weight", AS_IT_IS },
    { "output_norm.weight", "model.norm.weight", AS_IT_IS },
    { "output.weight", "lm_head.weight", AS_IT_IS },
    { "blk.#.attn_norm.weight", "model.layers.#.input_layernorm.weight", AS_IT_IS },
    { "blk.#.attn_q.weight", "model.layers.#.self_attn.q_proj.weight", AS_IT_IS },
    { "blk.#.attn_k.weight", "model.layers.#.self_attn.k_proj.weight", AS_IT_IS },
    { "blk.#.attn_v.weight", "model.layers.#.self_attn.v_proj.weight", AS_IT_IS },
    { "blk.#.attn_q.bias", "model.layers.#.self_attn.q_proj.bias", AS_IT_IS },
    { "blk.#.attn_k.bias", "model.layers.#.self_attn.k_proj.bias", AS_IT_IS },
    { "blk.#.attn_v.bias", "model.layers.#.self_attn.v_proj.bias", AS_IT_IS },
    { "blk.#.attn_output.weight", "model.layers.#.self_attn.o_proj.weight", AS_IT_IS },
    { "blk.#.ffn_norm.weight", "model.layers.#.post_attention_layernorm.weight", AS_IT_IS },
    { "blk.#.ffn_gate.weight", "model.layers.#.mlp.gate_proj.weight", AS_IT_IS },
    { "blk.#.ffn_up.weight", "model.layers.#.mlp.up_proj.weight", AS_IT_IS },
    { "blk.#.ffn_down.weight", "model.layers.#.mlp.down_proj.weight", AS_IT_IS },
    { NULL, NULL, AS_IT_IS },
};

static const struct pattern GPT2[] = {
    { "token_embd.weight", "transformer.wte.weight", AS_IT_IS },
    { "position_embd.weight", "transformer.wpe.weight", AS_IT_IS },
    { "output_norm.weight", "transformer.ln_f.weight", AS_IT_IS },
    { "output_norm.bias", "transformer.ln_f.bias", AS_IT_IS },
    { "output.weight", "lm_head.weight", AS_IT_IS },
    { "blk.#.attn_norm.weight", "transformer.h.#.ln_1.weight", AS_IT_IS },
    { "blk.#.attn_norm.bias", "transformer.h.#.ln_1.bias", AS_IT_IS },
    { "blk.#.attn_qkv.weight", "transformer.h.#.attn.c_attn.weight", TRANSPOSED },
    { "blk.#.attn_qkv.bias", "transformer.h.#.attn.c_attn.bias", AS_IT_IS },
    { "blk.#.attn_output.weight", "transformer.h.#.attn.c_proj.weight", TRANSPOSED },
    { "blk.#.attn_output.bias", "transformer.h.#.attn.c_proj.bias", AS_IT_IS },
    { "blk.#.ffn_norm.weight", "transformer.h.#.ln_2.weight", AS_IT_IS },
    { "blk.#.ffn_norm.bias", "transformer.h.#.ln_2.bias", AS_IT_IS },
    { "blk.#.ffn_up.weight", "transformer.h.#.mlp.c_fc.weight", TRANSPOSED },
    { "blk.#.ffn_up.bias", "transformer.h.#.mlp.c_fc.bias", AS_IT_IS },
    { "blk.#.ffn_down.weight", "transformer.h.#.mlp.c_proj.weight", TRANSPOSED },
    { "blk.#.ffn_down.bias", "transformer.h.#.mlp.c_proj.bias", AS_IT_IS },
    { NULL, NULL, AS_IT_IS },
};

static const struct pattern *patterns_of(const char *architecture)
{
    return strcmp(architecture, "llama") == 0 ? LLAMA : strcmp(architecture, "qwen2") == 0 ? QWEN2 : GPT2;
}

/* The layer's digits, or nothing where the pattern has no '#'; NULL: the name is another. */
static const char *match(const char *pattern, const char *name, size_t *digits)
{
    const size_t before = strcspn(pattern, "#");
    *digits = pattern[before] ? strspn(name + (strnlen(name, before)), "0123456789") : 0;
    if (strncmp(pattern, name, before) != 0 || (pattern[before] && !*digits))
        return NULL;
    const char *rest = pattern + before + (pattern[before] == '#');
    return strcmp(rest, name + before + *digits) == 0 ? name + before : NULL;
}

static char *name_of(const struct pattern *pattern, const char *layer, size_t digits)
{
    const int before = (int)strcspn(pattern->to, "#");
    return pattern->to[before]
             ? vcl_text("%.*s%.*s%s", before, pattern->to, (int)digits, layer, pattern->to + before + 1)
             : vcl_text("%s", pattern->to);
}

/* Heads divide the rows into even numbers of them. */
static void turn_heads(struct vcl_convert *job, struct vcl_converted *tensor, uint64_t heads)
{
    const struct vcl_tensor *shape = &tensor->from->tensor;
    if (shape->rank != 2 || shape->dims[0] % (2 * heads))
        vcl_metadata_fault(&job->metadata, "tensor '%.160s' has no %llu heads of even numbers of rows",
                           tensor->from->name, (unsigned long long)heads);
    tensor->heads = heads;
}

static void transpose(struct vcl_convert *job, struct vcl_converted *tensor)
{
    const struct vcl_tensor *shape = &tensor->from->tensor;
    if (shape->rank != 2)
        vcl_metadata_fault(&job->metadata, "tensor '%.160s' is no matrix", tensor->from->name);
    tensor->transposed = 1;
    tensor->tensor.dims[0] = shape->dims[1];
    tensor->tensor.dims[1] = shape->dims[0];
}

static void plan_tensor(struct vcl_convert *job, const struct pattern *pattern, const char *layer,
                        size_t digits, struct vcl_converted *tensor)
{
    tensor->name = name_of(pattern, layer, digits);
    tensor->tensor = tensor->from->tensor;
    if (digits > 9 || (digits && strtoull(layer, NULL, 10) >= job->layers))
        vcl_metadata_fault(&job->metadata, "tensor '%.160s' is of no layer below %llu", tensor->from->name,
                           (unsigned long long)job->layers);
    if (pattern->turn == QUERIES || pattern->turn == KEYS)
        turn_heads(job, tensor, pattern->turn == KEYS ? job->kv_heads : job->heads);
    else if (pattern->turn == TRANSPOSED)
        transpose(job, tensor);
    if (job->dtype != VCL_DTYPE_COUNT && vcl_dtype_is_float(tensor->tensor.dtype))
        tensor->tensor.dtype = job->dtype;
    if (vcl_tensor_size(&tensor->tensor, NULL, &tensor->bytes) != VCL_OK)
        vcl_metadata_fault(&job->metadata, "tensor '%.160s' is too large", tensor->from->name);
}

static void add_tensor(struct vcl_convert *job, const struct vcl_entry *entry)
{
    const struct pattern *pattern = patterns_of(job->metadata.architecture);
    const char *layer = NULL;
    size_t digits = 0;
    while (pattern->from && !(layer = match(pattern->from, entry->name, &digits)))
        pattern++;
    if (!pattern->from) {
        vcl_metadata_fault(&job->metadata, "tensor '%.160s' is none of a %.60s that can be converted",
                           entry->name, job->metadata.architecture);
        return;
    }
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
    return patterns_of(job->metadata.architecture) == LLAMA && strcmp(entry->name, "rope_freqs.weight") == 0;
}

int vcl_convert_names(struct vcl_convert *job)
{
    const struct vcl_entry *embedding = vcl_model_find(job->model, "token_embd.weight");
    const struct vcl_entry *head = vcl_model_find(job->model, "output.weight");
    job->tied = !head || (embedding && are_equal(job, embedding, head));
    job->tensors = vcl_zeros(vcl_model_count(job->model) + 1, sizeof *job->tensors);
    for (size_t i = 0; i < vcl_model_count(job->model); i++) {
        const struct vcl_entry *entry = vcl_model_entry(job->model, i);
        if ((!job->tied || entry != head) && !is_said_elsewhere(job, entry))
            add_tensor(job, entry);
    }
    return job->metadata.code;
}
