/* language.c - opening a model to run, and reading what it is to read. */
#include <stdlib.h>
#include <string.h>

#include "front/opened_language.h"
#include "language.h"

/* Texts are read whole: they are small beside a model. */
#define TEXT_LIMIT ((uint64_t)1 << 32)

int vcl_cli_pool(int jobs, struct vcl_pool **pool)
{
    struct vcl_options options;
    vcl_options_init(&options);
    options.threads = (unsigned)jobs;
    return vcl_pool_create(&options, pool) ? vcl_tell(VCL_E_MEMORY, "out of memory") : VCL_EXIT_OK;
}

int vcl_cli_network(const char *folder, struct vcl_pool *pool, uint64_t memory, struct vcl_network *network)
{
    return vcl_exit_of(vcl_open_network(vcl_cli_errand(), folder, pool, memory, network));
}

void vcl_cli_note_network(const char *folder, const struct vcl_network *network)
{
    vcl_note_network(vcl_cli_errand(), folder, network);
}

int vcl_cli_tokenizer(const char *folder, const struct vcl_network *network, struct vcl_tokenizer **tokenizer)
{
    return vcl_exit_of(vcl_open_tokenizer(vcl_cli_errand(), folder, network, tokenizer));
}

void vcl_cli_note_left_out(const char *folder, const struct vcl_tokenizer *tokenizer)
{
    vcl_note_left_out(vcl_cli_errand(), folder, tokenizer);
}

int vcl_cli_read_tokens(const char *path, uint32_t **tokens, size_t *count)
{
    struct vcl_error error = { 0 };
    const size_t length = strlen(path);
    const char *ending = length > 4 ? path + length - 4 : "";
    const size_t size = strcmp(ending, ".u16") == 0 ? 2 : strcmp(ending, ".u32") == 0 ? 4 : 0;
    void *bytes;
    size_t n;

    if (!size)
        return vcl_tell(VCL_E_ARGUMENT, "%s: a file of tokens ends in .u16 or .u32", path);
    if (vcl_read_file(path, TEXT_LIMIT, &bytes, &n, &error) != VCL_OK)
        return vcl_tell(error.status, "%s", error.text);
    *count = n / size;
    *tokens = vcl_zeros(*count, sizeof **tokens);
    for (size_t i = 0; i < *count * size; i++)
        (*tokens)[i / size] |= (uint32_t)((const unsigned char *)bytes)[i] << 8 * (i % size);
    free(bytes);
    if (n % size == 0)
        return VCL_EXIT_OK;
    free(*tokens);
    *tokens = NULL;
    return vcl_tell(VCL_E_FORMAT, "%s: %zu bytes are no whole number of tokens of %zu bytes", path, n, size);
}

int vcl_cli_read_text(const char *path, const char *folder, const struct vcl_network *network,
                      uint32_t **tokens, size_t *count)
{
    struct vcl_error error = { 0 };
    void *bytes;
    size_t n;
    if (vcl_read_file(path, TEXT_LIMIT, &bytes, &n, &error) != VCL_OK)
        return vcl_tell(error.status, "%s", error.text);
    const enum vcl_status status =
        vcl_encode_text(vcl_cli_errand(), folder, network, path, bytes, n, tokens, count);
    free(bytes);
    return vcl_exit_of(status);
}

char *vcl_cli_memory_words(const struct vcl_network *network)
{
    return vcl_text(
        "weights %s, %s of them coded; peak memory %s", vcl_words_size(vcl_store_bytes(network->store)).text,
        vcl_words_size(vcl_store_coded_bytes(network->store)).text, vcl_words_size(vcl_memory_peak()).text);
}

int vcl_cli_on_tokens(void *user, size_t tokens)
{
    (void)user;
    vcl_progress_add(1, tokens);
    return vcl_interrupted();
}

void vcl_cli_set_estimate(json_t *document, const char *key, struct vcl_estimate estimate)
{
    json_t *pair = json_object();
    vcl_json_set(pair, "mean", vcl_json_real(estimate.mean));
    vcl_json_set(pair, "error", vcl_json_real(estimate.error));
    vcl_json_set(document, key, pair);
}
