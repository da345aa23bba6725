/* normal.h - the tokenizer's: texts in the normal forms of Unicode. */
#ifndef VCL_RUN_NORMAL_H
#define VCL_RUN_NORMAL_H

#include "common/fault.h"

enum vcl_form { VCL_NFC, VCL_NFD, VCL_NFKC, VCL_NFKD, VCL_FORMS };

/* By name, "NFC"; VCL_FORMS: another. */
enum vcl_form vcl_normal_form(const char *name);
/* VCL_E_CODEC where this build has no utf8proc; `where` names file and field. */
enum vcl_status vcl_normal_check(const char *where, struct vcl_error *error);
/* n bytes of valid UTF-8; free() *result, of *length bytes.  VCL_E_LIMIT where they would be more than
 * `most`. */
enum vcl_status vcl_normal_run(enum vcl_form form, const char *text, size_t n, size_t most, char **result,
                               size_t *length, struct vcl_error *error);

#endif
