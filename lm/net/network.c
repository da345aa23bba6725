/* network.c - finds a model's tensors by the names Hugging Face gives them, family by family. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <jansson.h>

#include "network.h"

/* Loads tensors into a network, or lists them; after the first failure nothing more. */
struct loader {
    struct vcl_network *network;
    struct vcl_outline *outline; /* NULL: load */
    struct vcl_error *error;
    enum vcl_status status;
    json_t *seen;       /* the names asked for */
    const char *prefix; /* of every name: "model." */
    char layer[48];     /* after it, of a layer's tensors: "layers.3." */
    int biases;         /* norms and linear layers have them */
    int transposed;     /* linear layers are stored (in, out) */
};

enum { MOST_LAYER_PARTS = 16, MOST_OTHER_PARTS = 8, MOST_BUFFERS = 6 };

static void see(struct loader *l, const char *name)
{
    if (l->status == VCL_OK && json_object_set_new(l->seen, name, json_true()))
        l->status = vcl_fault_memory(l->error);
}

static void list(const struct loader *l, enum vcl_part_kind kind, const char *name,
                 const struct vcl_tensor *shape, unsigned axis)
{
    struct vcl_part *part = &l->outline->parts[l->outline->count++];
    *part = (struct vcl_part){ .kind = kind, .shape = *shape, .axis = axis };
    snprintf(part->name, sizeof part->name, "%s", name);
}

static void matrix(struct loader *l, enum vcl_part_kind kind, const char *name, size_t rows, size_t cols,
                   int transposed, const struct vcl_weight **weight)
{
    struct vcl_store *store = l->network->store;
    const unsigned axis = (kind != VCL_PART_WRITER) != transposed;
    const struct vcl_tensor shape = { VCL_DTYPE_F32,
                                      2,
                                      { transposed ? cols : rows, transposed ? rows : cols } };
    see(l, name);
    if (l->status != VCL_OK)
        return;
    if (l->outline)
        list(l, kind, name, &shape, axis);
    else
        l->status = transposed ? vcl_store_transposed(store, name, rows, cols, weight, l->error)
                               : vcl_store_matrix(store, name, rows, cols, weight, l->error);
}

static void vector(struct loader *l, enum vcl_part_kind kind, const char *name, size_t n,
                   const float **values)
{
    see(l, name);
    if (l->status != VCL_OK)
        return;
    if (l->outline)
        list(l, kind, name, &(struct vcl_tensor){ VCL_DTYPE_F32, 1, { n } }, 0);
    else
        l->status = vcl_store_vector(l->network->store, name, n, values, l->error);
}

static void embedding(struct loader *l, const char *part, size_t rows, const struct vcl_weight **weight)
{
    char name[VCL_PART_NAME];
    snprintf(name, sizeof name, "%s%s.weight", l->prefix, part);
    matrix(l, VCL_PART_EMBEDDING, name, rows, l->network->config.width, 0, weight);
}

static void norm(struct loader *l, const char *part, struct vcl_norm *norm)
{
    char name[VCL_PART_NAME];
    snprintf(name, sizeof name, "%s%s%s.weight", l->prefix, l->layer, part);
    vector(l, VCL_PART_NORM, name, l->network->config.width, &norm->weight);
    snprintf(name, sizeof name, "%s%s%s.bias", l->prefix, l->layer, part);
    if (l->biases)
        vector(l, VCL_PART_NORM_BIAS, name, l->network->config.width, &norm->bias);
}

static void linear(struct loader *l, int writes, const char *part, size_t rows, size_t cols,
                   struct vcl_linear *linear)
{
    char name[VCL_PART_NAME];
    snprintf(name, sizeof name, "%s%s%s.weight", l->prefix, l->layer, part);
    matrix(l, writes ? VCL_PART_WRITER : VCL_PART_READER, name, rows, cols, l->transposed, &linear->weight);
    snprintf(name, sizeof name, "%s%s%s.bias", l->prefix, l->layer, part);
    if (l->biases)
        vector(l, writes ? VCL_PART_WRITER_BIAS : VCL_PART_READER_BIAS, name, rows, &linear->bias);
}

/* From the norm before it, and to the sum. */
static void reader(struct loader *l, const char *part, size_t rows, struct vcl_linear *weights)
{
    linear(l, 0, part, rows, l->network->config.width, weights);
}

static void writer(struct loader *l, const char *part, size_t cols, struct vcl_linear *weights)
{
    linear(l, 1, part, l->network->config.width, cols, weights);
}

/* ---- families -------------------------------------------------------------------------------- */

static void llama_layer(struct loader *l, const struct vcl_config *c, struct vcl_layer *layer)
{
    const size_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    norm(l, "input_layernorm", &layer->attention_norm);
    reader(l, "self_attn.q_proj", q, &layer->q);
    reader(l, "self_attn.k_proj", kv, &layer->k);
    reader(l, "self_attn.v_proj", kv, &layer->v);
    writer(l, "self_attn.o_proj", q, &layer->o);
    norm(l, "post_attention_layernorm", &layer->ffn_norm);
    reader(l, "mlp.gate_proj", c->ffn, &layer->gate);
    reader(l, "mlp.up_proj", c->ffn, &layer->up);
    writer(l, "mlp.down_proj", c->ffn, &layer->down);
}

static void gpt2_layer(struct loader *l, const struct vcl_config *c, struct vcl_layer *layer)
{
    norm(l, "ln_1", &layer->attention_norm);
    reader(l, "attn.c_attn", 3 * c->width, &layer->fused);
    writer(l, "attn.c_proj", c->width, &layer->o);
    norm(l, "ln_2", &layer->ffn_norm);
    reader(l, "mlp.c_fc", c->ffn, &layer->up);
    writer(l, "mlp.c_proj", c->ffn, &layer->down);
}

static void neox_layer(struct loader *l, const struct vcl_config *c, struct vcl_layer *layer)
{
    const size_t q = c->heads * c->head_dim;
    norm(l, "input_layernorm", &layer->attention_norm);
    reader(l, "attention.query_key_value", 3 * q, &layer->fused);
    writer(l, "attention.dense", q, &layer->o);
    norm(l, "post_attention_layernorm", &layer->ffn_norm);
    reader(l, "mlp.dense_h_to_4h", c->ffn, &layer->up);
    writer(l, "mlp.dense_4h_to_h", c->ffn, &layer->down);
}

/* How each family names its tensors, and how names of buffers end, which older files have: masks, and the
 * rates of the rotations. */
struct names {
    const char *prefix, *embedding, *layer, *norm, *head;
    void (*load_layer)(struct loader *l, const struct vcl_config *c, struct vcl_layer *layer);
    const char *buffers[MOST_BUFFERS];
};
#define ROTARY_BUFFERS ".rotary_emb.inv_freq", ".rotary_emb.cos_cached", ".rotary_emb.sin_cached"
static const struct names families[] = {
    [VCL_LLAMA] = { "model.",
                    "embed_tokens",
                    "layers",
                    "norm",
                    "lm_head.weight",
                    llama_layer,
                    { ROTARY_BUFFERS } },
    [VCL_GPT2] = { "transformer.",
                   "wte",
                   "h",
                   "ln_f",
                   "lm_head.weight",
                   gpt2_layer,
                   { ".attn.bias", ".attn.masked_bias" } },
    [VCL_NEOX] = { "gpt_neox.",
                   "embed_in",
                   "layers",
                   "final_layer_norm",
                   "embed_out.weight",
                   neox_layer,
                   { ROTARY_BUFFERS, ".attention.bias", ".attention.masked_bias" } },
};

/* A tied head may still be stored as a tensor of its own; where it is another than the embedding it is the
 * head: what was trained and saved is what counts. */
static void head(struct loader *l, const struct names *names)
{
    struct vcl_network *network = l->network;
    struct vcl_config *c = &network->config;
    const struct vcl_tensor shape = { VCL_DTYPE_F32, 2, { c->vocab, c->width } };
    char embedding[VCL_PART_NAME];
    int same = 1;
    snprintf(embedding, sizeof embedding, "%s%s.weight", l->prefix, names->embedding);
    if (l->status == VCL_OK && c->tied && vcl_store_has(network->store, names->head))
        l->status = vcl_store_same(network->store, embedding, names->head, &shape, &same, l->error);
    network->own_head = c->tied && !same;
    c->tied = c->tied && same;
    if (c->tied && !l->outline) {
        network->head = network->embedding;
        see(l, names->head);
    } else
        matrix(l, VCL_PART_HEAD, names->head, c->vocab, c->width, 0, &network->head);
}

static int is_buffer(const struct names *names, const char *name)
{
    const size_t n = strlen(name);
    for (size_t i = 0; i < MOST_BUFFERS && names->buffers[i]; i++) {
        const size_t length = strlen(names->buffers[i]);
        if (n >= length && strcmp(name + n - length, names->buffers[i]) == 0)
            return 1;
    }
    return 0;
}

/* What is in the file and in no place of the network: biases, norms, layers that config.json does not
 * mention. */
static void list_unread(const struct loader *l, const struct names *names)
{
    struct vcl_network *network = l->network;
    const char *name;
    for (size_t i = 0; (name = vcl_store_name(network->store, i)) != NULL; i++)
        if (!json_object_get(l->seen, name) && !is_buffer(names, name))
            vcl_named_add(&network->unread, name);
}

static void load_all(struct loader *l, const struct names *names)
{
    struct vcl_network *network = l->network;
    const struct vcl_config *c = &network->config;
    embedding(l, names->embedding, c->vocab, &network->embedding);
    if (c->family == VCL_GPT2)
        embedding(l, "wpe", c->context, &network->positions);
    for (size_t i = 0; i < c->layers && l->status == VCL_OK; i++) {
        snprintf(l->layer, sizeof l->layer, "%s.%zu.", names->layer, i);
        names->load_layer(l, c, &network->layers[i]);
    }
    l->layer[0] = '\0';
    norm(l, names->norm, &network->norm);
    head(l, names);
}

static enum vcl_status load(struct vcl_network *network, struct vcl_outline *outline, struct vcl_error *error)
{
    const enum vcl_family family = network->config.family;
    const struct names *names = &families[family];
    struct loader l = { network, outline, .error = error, .prefix = names->prefix, .seen = json_object() };
    l.biases = family != VCL_LLAMA;
    l.transposed = family == VCL_GPT2;
    if (family == VCL_GPT2 && vcl_store_has(network->store, "wte.weight"))
        l.prefix = ""; /* the published files have none */
    load_all(&l, names);
    list_unread(&l, names);
    json_decref(l.seen);
    return l.status;
}

/* All but the tensors. */
static enum vcl_status begin(const char *folder, struct vcl_pool *pool, struct vcl_network *network,
                             struct vcl_error *error)
{
    struct stat about;
    *network = (struct vcl_network){ 0 };
    if (stat(folder, &about) == 0 && !S_ISDIR(about.st_mode))
        return vcl_fault(error, VCL_E_ARGUMENT,
                         "%s: is no folder; a model to run is a folder with config.json, which 'vcllm "
                         "convert' makes of a GGUF file",
                         folder);
    enum vcl_status status = vcl_config_read(folder, &network->config, error);
    if (status == VCL_OK)
        status = vcl_store_open(folder, pool, &network->store, error);
    if (status == VCL_OK) {
        network->layers = calloc(network->config.layers, sizeof *network->layers);
        status = network->layers ? VCL_OK : vcl_fault_memory(error);
    }
    return status;
}

enum vcl_status vcl_network_open(const char *folder, struct vcl_pool *pool, uint64_t memory,
                                 struct vcl_network *network, struct vcl_error *error)
{
    enum vcl_status status = begin(folder, pool, network, error);
    if (status == VCL_OK)
        status = load(network, NULL, error);
    if (status == VCL_OK)
        status = vcl_store_settle(network->store, memory, error);
    if (status != VCL_OK)
        vcl_network_close(network);
    return status;
}

enum vcl_status vcl_network_outline(const char *folder, struct vcl_pool *pool, struct vcl_network *network,
                                    struct vcl_outline *outline, struct vcl_error *error)
{
    *outline = (struct vcl_outline){ 0 };
    enum vcl_status status = begin(folder, pool, network, error);
    if (status == VCL_OK) {
        const size_t most = network->config.layers * MOST_LAYER_PARTS + MOST_OTHER_PARTS;
        outline->parts = calloc(most, sizeof *outline->parts);
        status = outline->parts ? load(network, outline, error) : vcl_fault_memory(error);
    }
    if (status == VCL_OK)
        return status;
    vcl_network_close(network);
    free(outline->parts);
    return status;
}

enum vcl_status vcl_network_compare(const struct vcl_network *network, const struct vcl_network *baseline,
                                    struct vcl_error *error)
{
    if (baseline->config.vocab == network->config.vocab)
        return VCL_OK;
    return vcl_fault(error, VCL_E_ARGUMENT, "the baseline's vocabulary has %zu tokens, the model's %zu",
                     baseline->config.vocab, network->config.vocab);
}

void vcl_network_close(struct vcl_network *network)
{
    vcl_store_close(network->store);
    free(network->layers);
    *network = (struct vcl_network){ 0 };
}
