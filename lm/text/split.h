/* split.h - the tokenizer's: a text cut where a regular expression says, as tokenizers do before they merge. */
#ifndef VCL_RUN_SPLIT_H
#define VCL_RUN_SPLIT_H

#include "common/fault.h"

struct vcl_split; /* a list of expressions; each cuts the pieces of the one before */

/* `where` names file and field for messages.  VCL_E_CODEC where this build has no PCRE2. */
enum vcl_status vcl_split_add(struct vcl_split **split, const char *pattern, const char *where,
                              struct vcl_error *error);
void vcl_split_destroy(struct vcl_split *split); /* NULL is fine */

/* Calls each(user, text, n) for every piece in order: every match and what lies between matches.  text is
 * valid UTF-8.  Stops where `each` fails.  split NULL: one piece. */
struct vcl_split_call {
    enum vcl_status (*each)(void *user, const char *text, size_t n, struct vcl_error *error);
    void *user;
};
enum vcl_status vcl_split_run(const struct vcl_split *split, const char *text, size_t n,
                              const struct vcl_split_call *call, struct vcl_error *error);

#endif
