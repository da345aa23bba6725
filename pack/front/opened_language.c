/* opened_language.c - opening a model to run, and its tokenizer. */
#include "opened_language.h"

#include "folder/opened.h"

enum vcl_status vcl_open_network(struct vcl_errand *job, const char *folder, struct vcl_pool *pool,
                                 uint64_t memory, struct vcl_network *network)
{
    struct vcl_error error = { 0 };
    enum vcl_status status = vcl_check_side(job, folder, "config.json");
    if (!status)
        status = vcl_errand_check(job, vcl_network_open(folder, pool, memory, network, &error), &error);
    if (!status)
        vcl_note_network(job, folder, network);
    return status;
}

void vcl_note_network(struct vcl_errand *job, const char *folder, const struct vcl_network *network)
{
    if (network->own_head)
        vcl_errand_note(
            job, "%s: the stored head is used: it is not the embedding, though tie_word_embeddings is true",
            folder);
    if (network->unread.count)
        vcl_errand_note(job, "%s: %zu tensor%s not read: %s", folder, network->unread.count,
                        network->unread.count == 1 ? " is" : "s are", network->unread.text);
}

enum vcl_status vcl_open_tokenizer(struct vcl_errand *job, const char *folder,
                                   const struct vcl_network *network, struct vcl_tokenizer **tokenizer)
{
    struct vcl_error error = { 0 };
    const size_t vocab = network->config.vocab;
    enum vcl_status status = vcl_check_side(job, folder, "tokenizer.json");
    if (!status)
        status = vcl_errand_check(job, vcl_tokenizer_open(folder, vocab, tokenizer, &error), &error);
    if (status)
        return status;
    const struct vcl_named *beyond = vcl_tokenizer_beyond(*tokenizer);
    if (beyond->count)
        vcl_errand_note(
            job, "%s/tokenizer.json: added tokens beyond the model's vocabulary of %zu are ignored: %s",
            folder, vocab, beyond->text);
    return VCL_OK;
}

void vcl_note_left_out(struct vcl_errand *job, const char *folder, const struct vcl_tokenizer *tokenizer)
{
    const uint64_t bytes = vcl_tokenizer_left_out(tokenizer);
    if (bytes)
        vcl_errand_note(job, "%s/tokenizer.json: has no token for %llu byte%s of the text: left out", folder,
                        (unsigned long long)bytes, bytes == 1 ? "" : "s");
}

enum vcl_status vcl_encode_text(struct vcl_errand *job, const char *folder, const struct vcl_network *network,
                                const char *name, const void *text, size_t bytes, uint32_t **tokens,
                                size_t *count)
{
    struct vcl_tokenizer *tokenizer;
    struct vcl_error error = { 0 };
    enum vcl_status status = vcl_open_tokenizer(job, folder, network, &tokenizer);
    if (status)
        return status;
    status = vcl_tokenizer_encode(tokenizer, text, bytes, tokens, count, &error);
    vcl_note_left_out(job, folder, tokenizer);
    vcl_tokenizer_close(tokenizer);
    return status == VCL_OK ? VCL_OK : vcl_errand_fail(job, status, "%s: %s", name, error.text);
}
