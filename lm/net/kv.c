/* kv.c - the KV cache as plain arrays; a head's positions lie in sequence, as attention reads them. */
#include <stdlib.h>

#include "kv.h"

static size_t offset(const struct vcl_kv *kv, size_t layer, size_t head)
{
    return (layer * kv->heads + head) * kv->positions * kv->head_dim;
}

enum vcl_status vcl_kv_create(const struct vcl_config *config, size_t positions, struct vcl_kv *kv,
                              struct vcl_error *error)
{
    size_t floats, row = config->layers * config->kv_heads * config->head_dim;
    *kv = (struct vcl_kv){ .positions = positions,
                           .layers = config->layers,
                           .heads = config->kv_heads,
                           .head_dim = config->head_dim };
    if (!__builtin_mul_overflow(row, positions, &floats)) {
        kv->keys = calloc(floats, sizeof(float));
        kv->values = calloc(floats, sizeof(float));
    }
    if (kv->keys && kv->values)
        return VCL_OK;
    vcl_kv_destroy(kv);
    return vcl_fault(error, VCL_E_MEMORY, "out of memory for the keys and values of %zu positions",
                     positions);
}

void vcl_kv_destroy(struct vcl_kv *kv)
{
    free(kv->keys);
    free(kv->values);
    kv->keys = kv->values = NULL;
}

float *vcl_kv_keys(const struct vcl_kv *kv, size_t layer, size_t head)
{
    return kv->keys + offset(kv, layer, head);
}

float *vcl_kv_values(const struct vcl_kv *kv, size_t layer, size_t head)
{
    return kv->values + offset(kv, layer, head);
}
