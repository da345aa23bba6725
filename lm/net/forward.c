/* forward.c - the forward pass: THE FILE TO READ FIRST, and layer.c after it.
 *
 * Tokens go through in batches of at most 256: weights are read once a batch. */
#include <stdlib.h>
#include <string.h>

#include "forward.h"
#include "layer.h"

enum { BATCH = 256 };

struct vcl_forward {
    struct vcl_flow flow;
    float *trail; /* [layer or last norm][position][width], the caller's, or NULL */
};

enum vcl_status vcl_forward_create_hooked(const struct vcl_network *network, size_t positions,
                                          struct vcl_cache_hook hook, struct vcl_forward **forward,
                                          struct vcl_error *error)
{
    struct vcl_forward *f = calloc(1, sizeof *f);
    *forward = NULL;
    if (!f)
        return vcl_fault_memory(error);
    const size_t batch = hook.fill && hook.page < BATCH ? hook.page : BATCH;
    const enum vcl_status status = vcl_flow_create(network, positions, positions < batch ? positions : batch,
                                                   hook.fill ? 1 : network->config.layers, &f->flow, error);
    if (status != VCL_OK) {
        vcl_forward_destroy(f);
        return status;
    }
    f->flow.hook = hook;
    *forward = f;
    return VCL_OK;
}

enum vcl_status vcl_forward_create(const struct vcl_network *network, size_t positions,
                                   struct vcl_forward **forward, struct vcl_error *error)
{
    return vcl_forward_create_hooked(network, positions, (struct vcl_cache_hook){ 0 }, forward, error);
}

void vcl_forward_destroy(struct vcl_forward *f)
{
    if (!f)
        return;
    vcl_flow_destroy(&f->flow);
    free(f);
}

void vcl_forward_rewind(struct vcl_forward *f, size_t length) { f->flow.kv.length = length; }
size_t vcl_forward_length(const struct vcl_forward *f) { return f->flow.kv.length; }

static size_t width_of(const struct vcl_forward *f) { return f->flow.network->config.width; }

static float *trail_at(const struct vcl_forward *f, size_t layer)
{
    return f->trail + (layer * f->flow.kv.positions + f->flow.kv.length) * width_of(f);
}

/* From x, which enters layer `first`. */
static enum vcl_status read_layers(struct vcl_forward *f, size_t first, size_t n, float *hidden)
{
    struct vcl_flow *flow = &f->flow;
    const size_t layers = flow->network->config.layers;
    enum vcl_status status = VCL_OK;
    for (size_t layer = first; layer <= layers && status == VCL_OK; layer++) {
        if (f->trail && first == 0)
            memcpy(trail_at(f, layer), flow->x, n * width_of(f) * sizeof *flow->x);
        if (layer < layers)
            status = vcl_flow_layer(flow, layer, n);
    }
    if (status == VCL_OK && flow->hook.fill)
        status = flow->hook.end(flow->hook.user);
    flow->kv.length += n;
    vcl_flow_normalise(flow, &flow->network->norm, flow->x, n, hidden);
    return status;
}

static enum vcl_status read_batch(struct vcl_forward *f, const uint32_t *tokens, size_t n, float *hidden)
{
    const enum vcl_status status = vcl_flow_embed(&f->flow, tokens, n);
    return status == VCL_OK ? read_layers(f, 0, n, hidden) : status;
}

/* Tokens to read at once of the n that are left. */
static size_t next_batch(const struct vcl_forward *f, size_t n)
{
    const struct vcl_cache_hook *hook = &f->flow.hook;
    const size_t at = f->flow.kv.length, most = n < f->flow.batch ? n : f->flow.batch;
    if (!hook->fill)
        return most;
    const size_t left = at < hook->first ? hook->first - at : hook->page - (at - hook->first) % hook->page;
    return left < most ? left : most;
}

enum vcl_status vcl_forward_read(struct vcl_forward *f, const uint32_t *tokens, size_t n, float *hidden)
{
    enum vcl_status status = n <= f->flow.kv.positions - f->flow.kv.length ? VCL_OK : VCL_E_ARGUMENT;
    while (n && status == VCL_OK) {
        const size_t count = next_batch(f, n);
        status = read_batch(f, tokens, count, hidden);
        tokens += count;
        hidden += count * width_of(f);
        n -= count;
    }
    return status;
}

enum vcl_status vcl_forward_logits(struct vcl_forward *f, const float *hidden, size_t n, float *logits)
{
    return vcl_store_multiply(f->flow.store, f->flow.network->head, hidden, n, logits);
}

void vcl_forward_leave_trail(struct vcl_forward *f, float *trail) { f->trail = trail; }

enum vcl_status vcl_forward_resume(struct vcl_forward *f, size_t layer, size_t n, float *hidden)
{
    enum vcl_status status = VCL_OK;
    vcl_forward_rewind(f, 0);
    for (size_t count; n && status == VCL_OK; n -= count) {
        count = n < f->flow.batch ? n : f->flow.batch;
        memcpy(f->flow.x, trail_at(f, layer), count * width_of(f) * sizeof *f->flow.x);
        status = read_layers(f, layer, count, hidden);
        hidden += count * width_of(f);
    }
    return status;
}
