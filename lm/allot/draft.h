/* draft.h - text that a model writes itself, to be measured on: it needs nobody's data. */
#ifndef VCL_RUN_DRAFT_H
#define VCL_RUN_DRAFT_H

#include "net/forward.h"

struct vcl_draft {
    size_t sequences, length; /* of tokens; length at most the model's context */
    uint32_t *tokens;         /* [sequence][position] */
    int goes_on; /* where the model names no first token: a sequence begins with the last of the one before */
};

/* Called now and then with the tokens read or written since; nonzero = stop with VCL_E_CANCELLED. */
struct vcl_watch {
    int (*progress)(void *user, size_t tokens);
    void *user;
};

/* Draws every token as the model predicts it (temperature 1); the first is the model's own first token or,
 * where it names none and no text goes on, any.  The same seed gives the same text.  free() draft->tokens. */
enum vcl_status vcl_draft_write(const struct vcl_network *network, uint64_t seed,
                                const struct vcl_watch *watch, struct vcl_draft *draft,
                                struct vcl_error *error);

#endif
