/* rewrite.h - steps that change a text before it is cut, and tokens when they are printed. */
#ifndef VCL_RUN_REWRITE_H
#define VCL_RUN_REWRITE_H

#include "normal.h"

enum { VCL_MOST_REWRITES = 8, VCL_LONGEST_REWRITE = 64 };

enum vcl_rewrite_kind {
    VCL_REPLACE,      /* every `from` by `to` */
    VCL_PREPEND,      /* `to` before the text */
    VCL_PREFIX,       /* `to` before a text that does not begin with it */
    VCL_PREFIX_FIRST, /* so, but only at the beginning of the whole */
    VCL_NORMALIZE     /* in the normal form `form` */
};

struct vcl_rewrites {
    size_t count;
    struct vcl_rewrite {
        enum vcl_rewrite_kind kind;
        enum vcl_form form;
        char from[VCL_LONGEST_REWRITE + 1], to[VCL_LONGEST_REWRITE + 1];
    } steps[VCL_MOST_REWRITES];
};

/* All steps in order; an empty text stays empty.  first: the text begins the whole.  free() *result, of
 * *length bytes.  VCL_E_LIMIT where it grows to more than 16 n + 1024 bytes. */
enum vcl_status vcl_rewrite_run(const struct vcl_rewrites *rewrites, const char *text, size_t n, int first,
                                char **result, size_t *length, struct vcl_error *error);

#endif
