/* split.c - pre-splitting by PCRE2, whose Unicode classes are those the tokenizers' own engine knows.
 *
 * A hostile expression is stopped by PCRE2's limits on steps and memory, which no sane one comes near. */
#include <stdlib.h>
#include <string.h>

#include "split.h"

#ifdef VCL_PCRE2

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum { STEP_LIMIT = 10000000, MEMORY_LIMIT_KIB = 65536 };

struct vcl_split {
    pcre2_code *code;
    pcre2_match_context *context;
    pcre2_match_data *match;
    struct vcl_split *next;
};

enum vcl_status vcl_split_add(struct vcl_split **split, const char *pattern, const char *where,
                              struct vcl_error *error)
{
    int number;
    PCRE2_SIZE at;
    PCRE2_UCHAR why[128];
    while (*split)
        split = &(*split)->next;
    *split = calloc(1, sizeof **split);
    if (!*split)
        return vcl_fault_memory(error);
    (*split)->code =
        pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, PCRE2_UTF | PCRE2_UCP, &number, &at, NULL);
    if (!(*split)->code) {
        pcre2_get_error_message(number, why, sizeof why);
        return vcl_fault(error, VCL_E_FORMAT, "%s: character %zu: %s", where, (size_t)at, (const char *)why);
    }
    (*split)->context = pcre2_match_context_create(NULL);
    (*split)->match = pcre2_match_data_create_from_pattern((*split)->code, NULL);
    if (!(*split)->context || !(*split)->match)
        return vcl_fault_memory(error);
    pcre2_set_match_limit((*split)->context, STEP_LIMIT);
    pcre2_set_heap_limit((*split)->context, MEMORY_LIMIT_KIB);
    return VCL_OK;
}

void vcl_split_destroy(struct vcl_split *split)
{
    while (split) {
        struct vcl_split *next = split->next;
        pcre2_match_data_free(split->match);
        pcre2_match_context_free(split->context);
        pcre2_code_free(split->code);
        free(split);
        split = next;
    }
}

enum vcl_status vcl_split_run(const struct vcl_split *split, const char *text, size_t n,
                              const struct vcl_split_call *call, struct vcl_error *error)
{
    size_t at = 0;
    enum vcl_status status = VCL_OK;
    if (!split)
        return n ? call->each(call->user, text, n, error) : VCL_OK;
    while (status == VCL_OK && at < n) {
        const int found = pcre2_match(split->code, (PCRE2_SPTR)text, n, at,
                                      PCRE2_NO_UTF_CHECK | PCRE2_NOTEMPTY, split->match, split->context);
        if (found < 0 && found != PCRE2_ERROR_NOMATCH)
            return vcl_fault(error, VCL_E_LIMIT,
                             "the tokenizer's expression fails at byte %zu (PCRE2 error %d)", at, found);
        const PCRE2_SIZE *ends = pcre2_get_ovector_pointer(split->match);
        const size_t from = found < 0 || ends[0] < at ? n : ends[0], to = from == n ? n : ends[1];
        status = vcl_split_run(split->next, text + at, from - at, call, error);
        if (status == VCL_OK)
            status = vcl_split_run(split->next, text + from, to - from, call, error);
        at = to;
    }
    return status;
}

#else

enum vcl_status vcl_split_add(struct vcl_split **split, const char *pattern, const char *where,
                              struct vcl_error *error)
{
    (void)split, (void)pattern;
    return vcl_fault(error, VCL_E_CODEC,
                     "%s: this vcllm was built without PCRE2 (libpcre2-dev), which tokenizers "
                     "need; --tokens works without",
                     where);
}

void vcl_split_destroy(struct vcl_split *split) { (void)split; }

enum vcl_status vcl_split_run(const struct vcl_split *split, const char *text, size_t n,
                              const struct vcl_split_call *call, struct vcl_error *error)
{
    (void)split;
    return n ? call->each(call->user, text, n, error) : VCL_OK;
}

#endif
