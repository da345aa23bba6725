/* tokenizer.c - so far none. */
#include "tokenizer.h"

enum vcl_status vcl_tokenizer_open(const char *folder, size_t vocab, struct vcl_tokenizer **tokenizer,
                                   struct vcl_error *error)
{
    (void)vocab;
    *tokenizer = NULL;
    return vcl_fault(error, VCL_E_CODEC, "%s: tokenizers are not supported yet", folder);
}

void vcl_tokenizer_close(struct vcl_tokenizer *tokenizer) { (void)tokenizer; }

enum vcl_status vcl_tokenizer_encode(const struct vcl_tokenizer *tokenizer, const char *text, size_t n,
                                     uint32_t **tokens, size_t *count, struct vcl_error *error)
{
    (void)tokenizer, (void)text, (void)n, (void)tokens, (void)count;
    return vcl_fault(error, VCL_E_CODEC, "tokenizers are not supported yet");
}

const char *vcl_tokenizer_bytes(const struct vcl_tokenizer *tokenizer, uint32_t token, size_t *n)
{
    (void)tokenizer, (void)token;
    *n = 0;
    return NULL;
}
