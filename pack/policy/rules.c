/* rules.c - parses rules and finds the one for a tensor's name.
 *
 * A rule is split at its last '=', so that the expression may hold any; the expression is unanchored; the
 * first rule that matches wins, in the order of the command line, files included.  Expressions are PCRE2's,
 * with the options that make what POSIX extended ones have mean the same: libc's crash on deep nesting and
 * take any memory that repeats ask for, these have limits on both and on steps. */
#include "rules.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/texts.h"
#include "common/words.h"

enum { RULE_FILE_LIMIT = 1 << 20, LONGEST = 4096, STEP_LIMIT = 1000000, MEMORY_LIMIT_KIB = 16384 };

const char *vcl_target_range(enum vcl_goal goal, double target)
{
    switch (goal) {
    case VCL_GOAL_BITS: return target >= 0.01 && target <= 64 ? NULL : "0.01 to 64 bits per value";
    case VCL_GOAL_SNR: return target >= -10 && target <= 200 ? NULL : "-10 to 200 dB";
    case VCL_GOAL_STEP:
    case VCL_GOAL_ERROR: return target > 0 && isfinite(target) ? NULL : "finite and above 0";
    }
    return "that of an enum vcl_goal";
}

static int parse_value(struct vcl_rule *rule, const char *text)
{
    rule->copy = strcmp(text, "copy") == 0;
    rule->exact = rule->copy || strcmp(text, "lossless") == 0;
    if (rule->exact)
        return 1;
    rule->goal = strncmp(text, "snr:", 4) == 0   ? VCL_GOAL_SNR
               : strncmp(text, "error:", 6) == 0 ? VCL_GOAL_ERROR
                                                 : VCL_GOAL_BITS;
    text += rule->goal == VCL_GOAL_SNR ? 4 : rule->goal == VCL_GOAL_ERROR ? 6 : 0;
    return vcl_parse_number(text, &rule->target) && !vcl_target_range(rule->goal, rule->target);
}

static enum vcl_status refuse(struct vcl_errand *job, const char *where, const char *text, const char *why)
{
    return vcl_errand_fail(job, VCL_E_ARGUMENT, "%s: '%.*s%s': %s", where, LONGEST, text,
                           strlen(text) > LONGEST ? "..." : "", why);
}

/* NULL where it is none; why: what is wrong with it. */
static pcre2_code *compile(const char *text, size_t n, char *why, size_t room)
{
    const uint32_t options = PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C | PCRE2_DOTALL | PCRE2_DOLLAR_ENDONLY;
    PCRE2_UCHAR words[128];
    PCRE2_SIZE at;
    int number;
    pcre2_code *status = pcre2_compile((PCRE2_SPTR)text, n, options, &number, &at, NULL);
    if (status)
        return status;
    pcre2_get_error_message(number, words, sizeof words);
    snprintf(why, room, "character %zu: %s", (size_t)at, (const char *)words);
    return NULL;
}

/* 0: out of memory. */
static int make_room(struct vcl_rules *rules)
{
    if (rules->count == rules->room) {
        struct vcl_rule *grown = reallocarray(rules->at, 2 * rules->room + 16, sizeof *grown);
        if (!grown)
            return 0;
        rules->at = grown;
        rules->room = 2 * rules->room + 16;
    }
    if (!rules->match)
        rules->match = pcre2_match_data_create(1, NULL);
    if (!rules->limits && (rules->limits = pcre2_match_context_create(NULL))) {
        pcre2_set_match_limit(rules->limits, STEP_LIMIT);
        pcre2_set_depth_limit(rules->limits, STEP_LIMIT);
        pcre2_set_heap_limit(rules->limits, MEMORY_LIMIT_KIB);
    }
    return rules->match && rules->limits;
}

/* Into *rule; what it holds is freed by the caller, after a failure too. */
static enum vcl_status parse(struct vcl_errand *job, struct vcl_rule *rule, const char *text,
                             const char *where)
{
    char why[160];
    const char *equals = strrchr(rule->text, '=');
    if (!equals || equals == rule->text || !parse_value(rule, equals + 1))
        return refuse(job, where, text,
                      "is no rule: REGEX=BITS (0.01 to 64), REGEX=snr:DB, REGEX=error:E, REGEX=lossless or "
                      "REGEX=copy");
    if (equals - rule->text > LONGEST)
        return refuse(job, where, text, "an expression has 4096 bytes at most");
    rule->regex = compile(rule->text, (size_t)(equals - rule->text), why, sizeof why);
    return rule->regex ? VCL_OK : refuse(job, where, text, why);
}

static void free_rule(struct vcl_rule *rule)
{
    pcre2_code_free(rule->regex);
    free(rule->text);
}

enum vcl_status vcl_rules_add(struct vcl_errand *job, struct vcl_rules *rules, const char *text,
                              const char *where)
{
    struct vcl_rule rule = { .text = strdup(text) };
    if (!rule.text || !make_room(rules)) {
        free(rule.text);
        return vcl_errand_memory(job);
    }
    const enum vcl_status status = parse(job, &rule, text, where);
    if (status)
        free_rule(&rule);
    else
        rules->at[rules->count++] = rule;
    return status;
}

static char *trim(char *line)
{
    line += strspn(line, " \t\r");
    for (size_t n = strlen(line); n && strchr(" \t\r", line[n - 1]); n--)
        line[n - 1] = '\0';
    return line;
}

enum vcl_status vcl_rules_read(struct vcl_errand *job, struct vcl_rules *rules, const char *path)
{
    struct vcl_error error = { 0 };
    void *bytes;
    size_t n;
    enum vcl_status status = vcl_read_file(path, RULE_FILE_LIMIT, &bytes, &n, &error);
    if (status != VCL_OK)
        return vcl_errand_check(job, status, &error);
    if (memchr(bytes, 0, n)) {
        free(bytes);
        return vcl_errand_fail(job, VCL_E_ARGUMENT, "%s: holds a NUL; rules are lines of text", path);
    }

    char *rest = bytes;
    for (unsigned number = 1; rest && !status; number++) {
        const char *line = trim(strsep(&rest, "\n"));
        char *where = vcl_compose("%s:%u", path, number);
        if (*line && *line != '#')
            status = where ? vcl_rules_add(job, rules, line, where) : vcl_errand_memory(job);
        free(where);
    }
    free(bytes);
    return status;
}

enum vcl_status vcl_rules_find(struct vcl_errand *job, const struct vcl_rules *rules, const char *name,
                               const struct vcl_rule **rule)
{
    const size_t n = strlen(name);
    *rule = NULL;
    for (size_t i = 0; i < rules->count && !*rule; i++) {
        const int found =
            pcre2_match(rules->at[i].regex, (PCRE2_SPTR)name, n, 0, 0, rules->match, rules->limits);
        if (found < 0 && found != PCRE2_ERROR_NOMATCH)
            return vcl_errand_fail(
                job, VCL_E_ARGUMENT,
                "rule '%s': whether it matches '%s' takes too many steps or too much memory to tell",
                rules->at[i].text, name);
        if (found >= 0)
            *rule = &rules->at[i];
    }
    return VCL_OK;
}

void vcl_rules_free(struct vcl_rules *rules)
{
    for (size_t i = 0; i < rules->count; i++)
        free_rule(&rules->at[i]);
    free(rules->at);
    pcre2_match_data_free(rules->match);
    pcre2_match_context_free(rules->limits);
}
