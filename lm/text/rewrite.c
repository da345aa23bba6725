/* rewrite.c - text in, text out, one step after the other.  Texts and steps are UTF-8, so that bytes can be
 * compared for characters. */
#include <stdlib.h>
#include <string.h>

#include "rewrite.h"

/* No step of a real tokenizer makes more of a text than three times its bytes; NFKC and NFKD of one character
 * eleven times. */
enum { MOST_GROWTH = 16, SLACK = 1024 };

static char *copy(const char *text, size_t n)
{
    char *bytes = malloc(n + 1);
    if (bytes)
        memcpy(bytes, text, n);
    return bytes;
}

static char *prepend(const char *prefix, const char *text, size_t n, size_t *length)
{
    const size_t more = strlen(prefix);
    char *bytes = malloc(more + n + 1);
    if (bytes) {
        memcpy(bytes, prefix, more);
        memcpy(bytes + more, text, n);
    }
    *length = more + n;
    return bytes;
}

static size_t count_matches(const char *text, size_t n, const char *what)
{
    const char *at = text, *const end = text + n;
    const size_t length = strlen(what);
    size_t count = 0;
    for (; (at = memmem(at, (size_t)(end - at), what, length)) != NULL; at += length)
        count++;
    return count;
}

static char *replace(const struct vcl_rewrite *step, const char *text, size_t n, size_t room)
{
    const size_t from = strlen(step->from), to = strlen(step->to);
    const char *const end = text + n, *match;
    char *bytes = malloc(room + 1), *at = bytes;
    while (bytes && (match = memmem(text, (size_t)(end - text), step->from, from)) != NULL) {
        memcpy(at, text, (size_t)(match - text));
        at += match - text;
        memcpy(at, step->to, to);
        at += to;
        text = match + from;
    }
    if (bytes)
        memcpy(at, text, (size_t)(end - text));
    return bytes;
}

static int needs_prefix(const struct vcl_rewrite *step, const char *text, size_t n, int first)
{
    const size_t length = strlen(step->to);
    if (n == 0 || (step->kind == VCL_PREFIX_FIRST && !first))
        return 0;
    return step->kind == VCL_PREPEND || n < length || memcmp(text, step->to, length) != 0;
}

/* Puts what the step makes of *text in its place. */
static enum vcl_status apply(const struct vcl_rewrite *step, int first, size_t most, char **text, size_t *n,
                             struct vcl_error *error)
{
    size_t length = *n;
    char *made = NULL;
    if (step->kind == VCL_NORMALIZE) {
        const enum vcl_status status = vcl_normal_run(step->form, *text, *n, most, &made, &length, error);
        if (status != VCL_OK)
            return status;
    } else if (step->kind == VCL_REPLACE) {
        const size_t count = count_matches(*text, *n, step->from);
        length = *n - count * strlen(step->from) + count * strlen(step->to);
        if (length > most)
            return vcl_fault(error, VCL_E_LIMIT, "grows to %zu bytes by the tokenizer's steps, more than %zu",
                             length, most);
        made = replace(step, *text, *n, length);
    } else if (needs_prefix(step, *text, *n, first))
        made = prepend(step->to, *text, *n, &length);
    else
        return VCL_OK;
    free(*text);
    *text = made;
    *n = length;
    return made ? VCL_OK : vcl_fault_memory(error);
}

enum vcl_status vcl_rewrite_run(const struct vcl_rewrites *rewrites, const char *text, size_t n, int first,
                                char **result, size_t *length, struct vcl_error *error)
{
    const size_t most = MOST_GROWTH * n + SLACK;
    enum vcl_status status = VCL_OK;
    char *bytes = copy(text, n);
    if (!bytes)
        return vcl_fault_memory(error);
    for (size_t i = 0; i < rewrites->count && status == VCL_OK; i++)
        status = apply(&rewrites->steps[i], first, most, &bytes, &n, error);
    if (status != VCL_OK) {
        free(bytes);
        return status;
    }
    *result = bytes;
    *length = n;
    return VCL_OK;
}
