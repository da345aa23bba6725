/* network.c - finds a model's tensors by the names Hugging Face gives them, family by family. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "network.h"

/* Loads tensors into a network; after the first failure nothing more. */
struct loader {
    struct vcl_network *network;
    struct vcl_error *error;
    enum vcl_status status;
    const char *prefix; /* of every name: "model." */
    char layer[48];     /* after it, of a layer's tensors: "layers.3." */
    int biases;         /* norms and linear layers have them */
    int transposed;     /* linear layers are stored (in, out) */
};

static void matrix(struct loader *l, const char *name, size_t rows, size_t cols,
                   const struct vcl_weight **weight)
{
    if (l->status == VCL_OK)
        l->status = vcl_store_matrix(l->network->store, name, rows, cols, weight, l->error);
}

static void vector(struct loader *l, const char *name, size_t n, const float **values)
{
    if (l->status == VCL_OK)
        l->status = vcl_store_vector(l->network->store, name, n, values, l->error);
}

static void embedding(struct loader *l, const char *part, size_t rows, const struct vcl_weight **weight)
{
    char name[128];
    snprintf(name, sizeof name, "%s%s.weight", l->prefix, part);
    matrix(l, name, rows, l->network->config.width, weight);
}

static void norm(struct loader *l, const char *part, struct vcl_norm *norm)
{
    char name[128];
    snprintf(name, sizeof name, "%s%s%s.weight", l->prefix, l->layer, part);
    vector(l, name, l->network->config.width, &norm->weight);
    snprintf(name, sizeof name, "%s%s%s.bias", l->prefix, l->layer, part);
    if (l->biases)
        vector(l, name, l->network->config.width, &norm->bias);
}

static void linear(struct loader *l, const char *part, size_t rows, size_t cols, struct vcl_linear *linear)
{
    char name[128];
    snprintf(name, sizeof name, "%s%s%s.weight", l->prefix, l->layer, part);
    if (!l->transposed)
        matrix(l, name, rows, cols, &linear->weight);
    else if (l->status == VCL_OK)
        l->status = vcl_store_transposed(l->network->store, name, rows, cols, &linear->weight, l->error);
    snprintf(name, sizeof name, "%s%s%s.bias", l->prefix, l->layer, part);
    if (l->biases)
        vector(l, name, rows, &linear->bias);
}

/* ---- families -------------------------------------------------------------------------------- */

static void llama_layer(struct loader *l, const struct vcl_config *c, struct vcl_layer *layer)
{
    const size_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    norm(l, "input_layernorm", &layer->attention_norm);
    linear(l, "self_attn.q_proj", q, c->width, &layer->q);
    linear(l, "self_attn.k_proj", kv, c->width, &layer->k);
    linear(l, "self_attn.v_proj", kv, c->width, &layer->v);
    linear(l, "self_attn.o_proj", c->width, q, &layer->o);
    norm(l, "post_attention_layernorm", &layer->ffn_norm);
    linear(l, "mlp.gate_proj", c->ffn, c->width, &layer->gate);
    linear(l, "mlp.up_proj", c->ffn, c->width, &layer->up);
    linear(l, "mlp.down_proj", c->width, c->ffn, &layer->down);
}

static void gpt2_layer(struct loader *l, const struct vcl_config *c, struct vcl_layer *layer)
{
    norm(l, "ln_1", &layer->attention_norm);
    linear(l, "attn.c_attn", 3 * c->width, c->width, &layer->fused);
    linear(l, "attn.c_proj", c->width, c->width, &layer->o);
    norm(l, "ln_2", &layer->ffn_norm);
    linear(l, "mlp.c_fc", c->ffn, c->width, &layer->up);
    linear(l, "mlp.c_proj", c->width, c->ffn, &layer->down);
}

static void neox_layer(struct loader *l, const struct vcl_config *c, struct vcl_layer *layer)
{
    const size_t q = c->heads * c->head_dim;
    norm(l, "input_layernorm", &layer->attention_norm);
    linear(l, "attention.query_key_value", 3 * q, c->width, &layer->fused);
    linear(l, "attention.dense", c->width, q, &layer->o);
    norm(l, "post_attention_layernorm", &layer->ffn_norm);
    linear(l, "mlp.dense_h_to_4h", c->ffn, c->width, &layer->up);
    linear(l, "mlp.dense_4h_to_h", c->width, c->ffn, &layer->down);
}

/* How each family names its tensors. */
struct names {
    const char *prefix, *embedding, *layer, *norm, *head;
    void (*load_layer)(struct loader *l, const struct vcl_config *c, struct vcl_layer *layer);
};
static const struct names families[] = {
    [VCL_LLAMA] = { "model.", "embed_tokens", "layers", "norm", "lm_head.weight", llama_layer },
    [VCL_GPT2] = { "transformer.", "wte", "h", "ln_f", "lm_head.weight", gpt2_layer },
    [VCL_NEOX] = { "gpt_neox.", "embed_in", "layers", "final_layer_norm", "embed_out.weight", neox_layer },
};

/* A tied head may still be stored as a tensor of its own; then it is not read. */
static enum vcl_status load(struct vcl_network *network, struct vcl_error *error)
{
    const struct vcl_config *c = &network->config;
    const struct names *names = &families[c->family];
    struct loader l = { .network = network, .error = error, .prefix = names->prefix };
    l.biases = c->family != VCL_LLAMA;
    l.transposed = c->family == VCL_GPT2;
    if (c->family == VCL_GPT2 && vcl_store_has(network->store, "wte.weight"))
        l.prefix = ""; /* the published files have none */
    embedding(&l, names->embedding, c->vocab, &network->embedding);
    if (c->family == VCL_GPT2)
        embedding(&l, "wpe", c->context, &network->positions);
    for (size_t i = 0; i < c->layers && l.status == VCL_OK; i++) {
        snprintf(l.layer, sizeof l.layer, "%s.%zu.", names->layer, i);
        names->load_layer(&l, c, &network->layers[i]);
    }
    l.layer[0] = '\0';
    norm(&l, names->norm, &network->norm);
    if (c->tied)
        network->head = network->embedding;
    else
        matrix(&l, names->head, c->vocab, c->width, &network->head);
    return l.status;
}

enum vcl_status vcl_network_open(const char *folder, struct vcl_team *team, uint64_t memory,
                                 struct vcl_network *network, struct vcl_error *error)
{
    struct stat about;
    *network = (struct vcl_network){ 0 };
    if (stat(folder, &about) == 0 && !S_ISDIR(about.st_mode))
        return vcl_fault(error, VCL_E_ARGUMENT,
                         "%s: is no folder; a model to run is a folder with config.json", folder);
    enum vcl_status status = vcl_config_read(folder, &network->config, error);
    if (status == VCL_OK)
        status = vcl_store_open(folder, team, &network->store, error);
    if (status == VCL_OK) {
        network->layers = calloc(network->config.layers, sizeof *network->layers);
        status = network->layers ? load(network, error) : vcl_fault_memory(error);
    }
    if (status == VCL_OK)
        status = vcl_store_settle(network->store, memory, error);
    if (status != VCL_OK)
        vcl_network_close(network);
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
