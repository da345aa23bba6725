/* network.c - finds a LLaMA's tensors by the names Hugging Face gives them. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "network.h"

/* Loads tensors into a network; after the first failure nothing more. */
struct loader {
    struct vcl_network *network;
    struct vcl_error *error;
    enum vcl_status status;
    size_t layer;
};

static void matrix(struct loader *loader, const char *name, size_t rows, size_t cols,
                   const struct vcl_weight **weight)
{
    if (loader->status == VCL_OK)
        loader->status = vcl_store_matrix(loader->network->store, name, rows, cols, weight, loader->error);
}

static void layer_matrix(struct loader *loader, const char *part, size_t rows, size_t cols,
                         const struct vcl_weight **weight)
{
    char name[128];
    snprintf(name, sizeof name, "model.layers.%zu.%s.weight", loader->layer, part);
    matrix(loader, name, rows, cols, weight);
}

static void vector(struct loader *loader, const char *name, const float **values)
{
    if (loader->status == VCL_OK)
        loader->status = vcl_store_vector(loader->network->store, name, loader->network->config.width, values,
                                          loader->error);
}

static void layer_vector(struct loader *loader, const char *part, const float **values)
{
    char name[128];
    snprintf(name, sizeof name, "model.layers.%zu.%s.weight", loader->layer, part);
    vector(loader, name, values);
}

static void load_layer(struct loader *loader, struct vcl_layer *layer)
{
    const struct vcl_config *c = &loader->network->config;
    const size_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
    layer_vector(loader, "input_layernorm", &layer->attention_norm);
    layer_matrix(loader, "self_attn.q_proj", q, c->width, &layer->q);
    layer_matrix(loader, "self_attn.k_proj", kv, c->width, &layer->k);
    layer_matrix(loader, "self_attn.v_proj", kv, c->width, &layer->v);
    layer_matrix(loader, "self_attn.o_proj", c->width, q, &layer->o);
    layer_vector(loader, "post_attention_layernorm", &layer->ffn_norm);
    layer_matrix(loader, "mlp.gate_proj", c->ffn, c->width, &layer->gate);
    layer_matrix(loader, "mlp.up_proj", c->ffn, c->width, &layer->up);
    layer_matrix(loader, "mlp.down_proj", c->width, c->ffn, &layer->down);
}

/* A tied head may still be stored as a tensor of its own; then it is not read. */
static enum vcl_status load(struct vcl_network *network, struct vcl_error *error)
{
    struct loader loader = { network, error, VCL_OK, 0 };
    const struct vcl_config *c = &network->config;
    matrix(&loader, "model.embed_tokens.weight", c->vocab, c->width, &network->embedding);
    for (; loader.layer < c->layers && loader.status == VCL_OK; loader.layer++)
        load_layer(&loader, &network->layers[loader.layer]);
    vector(&loader, "model.norm.weight", &network->norm);
    if (c->tied)
        network->head = network->embedding;
    else
        matrix(&loader, "lm_head.weight", c->vocab, c->width, &network->head);
    return loader.status;
}

enum vcl_status vcl_network_open(const char *folder, struct vcl_team *team, struct vcl_network *network,
                                 struct vcl_error *error)
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
    if (status != VCL_OK)
        vcl_network_close(network);
    return status;
}

void vcl_network_close(struct vcl_network *network)
{
    vcl_store_close(network->store);
    free(network->layers);
    *network = (struct vcl_network){ 0 };
}
