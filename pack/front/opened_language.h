/* opened_language.h - models opened to be run, and text as their tokens: with all checks, and notes of what
 * one may not expect. */
#ifndef VCL_OPENED_LANGUAGE_H
#define VCL_OPENED_LANGUAGE_H

#include "common/errand.h"
#include "net/network.h"
#include "text/tokenizer.h"

/* folder and memory as vcl_network_open's; a compressed model only where config.json is as it was. */
enum vcl_status vcl_open_network(struct vcl_errand *job, const char *folder, struct vcl_pool *pool,
                                 uint64_t memory, struct vcl_network *network);
void vcl_note_network(struct vcl_errand *job, const char *folder, const struct vcl_network *network);
enum vcl_status vcl_open_tokenizer(struct vcl_errand *job, const char *folder,
                                   const struct vcl_network *network, struct vcl_tokenizer **tokenizer);
/* After all texts: how much of them had no token. */
void vcl_note_left_out(struct vcl_errand *job, const char *folder, const struct vcl_tokenizer *tokenizer);
/* A text by the model's tokenizer; `name` is what messages call it.  free() *tokens. */
enum vcl_status vcl_encode_text(struct vcl_errand *job, const char *folder, const struct vcl_network *network,
                                const char *name, const void *text, size_t bytes, uint32_t **tokens,
                                size_t *count);

#endif
