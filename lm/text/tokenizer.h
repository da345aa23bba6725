/* tokenizer.h - text to tokens and back, by a model's tokenizer.json. */
#ifndef VCL_RUN_TOKENIZER_H
#define VCL_RUN_TOKENIZER_H

#include "common/fault.h"

struct vcl_tokenizer;

/* Reads FOLDER/tokenizer.json: a BPE, of bytes or of characters (as SentencePiece makes), whose parts are all
 * known (VCL_E_FORMAT names one that is not).
 * vocab: how many tokens the model has.  VCL_E_CODEC where this build has no PCRE2, or no utf8proc
 * and it is needed. */
enum vcl_status vcl_tokenizer_open(const char *folder, size_t vocab, struct vcl_tokenizer **tokenizer,
                                   struct vcl_error *error);
void vcl_tokenizer_close(struct vcl_tokenizer *tokenizer); /* NULL is fine */

/* Added tokens whose numbers the model does not have. */
const struct vcl_named *vcl_tokenizer_beyond(const struct vcl_tokenizer *tokenizer);

/* n bytes of UTF-8 (VCL_E_FORMAT names the offset where they are not); free() *tokens.  Added tokens in the
 * text become one token each, VCL_E_FORMAT names one that the model does not have; what the post-processor
 * adds (a first token, say) is there. */
enum vcl_status vcl_tokenizer_encode(struct vcl_tokenizer *tokenizer, const char *text, size_t n,
                                     uint32_t **tokens, size_t *count, struct vcl_error *error);
/* Bytes of all texts so far for which there is no token, nor one for what is unknown: they were left out. */
uint64_t vcl_tokenizer_left_out(const struct vcl_tokenizer *tokenizer);
/* The bytes of one token, which may be part of a character; NULL and 0 for a number that is no token. */
const char *vcl_tokenizer_bytes(const struct vcl_tokenizer *tokenizer, uint32_t token, size_t *n);

#endif
