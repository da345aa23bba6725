/* language.h - what the verbs run and eval share: a model to run, and text as tokens. */
#ifndef VCL_CLI_LANGUAGE_H
#define VCL_CLI_LANGUAGE_H

#include "cli.h"
#include "eval/eval.h"
#include "net/network.h"
#include "text/tokenizer.h"

/* Each prints why it fails and returns an exit code. */
int vcl_cli_pool(int jobs, struct vcl_pool **pool);
/* memory: of --memory, VCL_MEMORY_DEFAULT without. */
int vcl_cli_network(const char *folder, struct vcl_pool *pool, uint64_t memory, struct vcl_network *network);
/* Says what of an opened model the user may not expect. */
void vcl_cli_note_network(const char *folder, const struct vcl_network *network);
int vcl_cli_tokenizer(const char *folder, const struct vcl_network *network,
                      struct vcl_tokenizer **tokenizer);
/* After all texts: says how much of them had no token. */
void vcl_cli_note_left_out(const char *folder, const struct vcl_tokenizer *tokenizer);

/* A file of tokens, u16 or u32 by the ending of its name (.u16, .u32), little-endian; free() *tokens. */
int vcl_cli_read_tokens(const char *path, uint32_t **tokens, size_t *count);
/* A text file, encoded by the model's tokenizer. */
int vcl_cli_read_text(const char *path, const char *folder, const struct vcl_network *network,
                      uint32_t **tokens, size_t *count);

/* "weights 110.20 MiB, 108.00 MiB of them coded; peak memory 140.10 MiB"; free() it. */
char *vcl_cli_memory_words(const struct vcl_network *network);

/* For the runtime's progress: a window or text more, of so many tokens; nonzero after an interruption. */
int vcl_cli_on_tokens(void *user, size_t tokens);
/* {"mean": .., "error": ..} */
void vcl_cli_set_estimate(json_t *document, const char *key, struct vcl_estimate estimate);

#endif
