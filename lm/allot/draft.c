/* draft.c - sequences drawn from a model, one after the other. */
#include <stdlib.h>

#include "draft.h"
#include "net/sample.h"

struct writer {
    struct vcl_forward *forward;
    struct vcl_sampler sampler;
    float *hidden, *logits;
};

static enum vcl_status create(const struct vcl_network *network, size_t length, struct writer *w,
                              struct vcl_error *error)
{
    const enum vcl_status status = vcl_forward_create(network, length, &w->forward, error);
    if (status != VCL_OK)
        return status;
    w->hidden = malloc(network->config.width * sizeof(float));
    w->logits = calloc(network->config.vocab, sizeof(float));
    return w->hidden && w->logits && vcl_sampler_create(&w->sampler, network->config.vocab)
             ? VCL_OK
             : vcl_fault_memory(error);
}

static void release(struct writer *w)
{
    vcl_sampler_destroy(&w->sampler);
    vcl_forward_destroy(w->forward);
    free(w->hidden);
    free(w->logits);
}

/* Logits that are all the same give any token. */
static enum vcl_status write_sequence(const struct vcl_network *network, struct writer *w, size_t length,
                                      size_t first, const struct vcl_watch *watch, uint32_t *tokens)
{
    const struct vcl_config *c = &network->config;
    enum vcl_status status = VCL_OK;
    vcl_forward_rewind(w->forward, 0);
    for (size_t i = 0; i < c->vocab; i++)
        w->logits[i] = 0;
    for (size_t i = 0; i < length && status == VCL_OK; i++) {
        tokens[i] = i == 0 && first < c->vocab ? (uint32_t)first : vcl_sample(&w->sampler, w->logits);
        status = vcl_forward_read(w->forward, &tokens[i], 1, w->hidden);
        if (status == VCL_OK)
            status = vcl_forward_logits(w->forward, w->hidden, 1, w->logits);
        if (status == VCL_OK && watch->progress && watch->progress(watch->user, 1))
            status = VCL_E_CANCELLED;
    }
    return status;
}

enum vcl_status vcl_draft_write(const struct vcl_network *network, uint64_t seed,
                                const struct vcl_watch *watch, struct vcl_draft *draft,
                                struct vcl_error *error)
{
    struct writer w = { .sampler = { .temperature = 1, .top_p = 1, .state = seed } };
    draft->tokens = calloc(draft->sequences, draft->length * sizeof *draft->tokens);
    enum vcl_status status =
        draft->tokens ? create(network, draft->length, &w, error) : vcl_fault_memory(error);
    for (size_t i = 0; i < draft->sequences && status == VCL_OK; i++) {
        uint32_t *tokens = draft->tokens + i * draft->length;
        const size_t bos = network->config.bos, last = draft->goes_on && i ? tokens[-1] : SIZE_MAX;
        status = write_sequence(network, &w, draft->length, bos < network->config.vocab ? bos : last, watch,
                                tokens);
        if (status != VCL_OK)
            vcl_fault(error, status, "%s", vcl_status_text(status));
    }
    release(&w);
    return status;
}
