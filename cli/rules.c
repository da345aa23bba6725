/* rules.c - parses rules and finds the one for a tensor's name.
 *
 * A rule is split at its last '=', so that the expression may hold any; the expression is unanchored; the
 * first rule that matches wins, in the order of the command line, files included.  Expressions are PCRE2's,
 * with the options that make what POSIX extended ones have mean the same: libc's crash on deep nesting and
 * take any memory that repeats ask for, these have limits on both and on steps. */
#include <stdlib.h>
#include <string.h>

#include "rules.h"

enum { RULE_FILE_LIMIT = 1 << 20, LONGEST = 4096, STEP_LIMIT = 1000000, MEMORY_LIMIT_KIB = 16384 };

static int parse_value(struct vcl_rule *rule, const char *text)
{
    rule->copy = strcmp(text, "copy") == 0;
    rule->exact = rule->copy || strcmp(text, "lossless") == 0;
    if (rule->exact)
        return 1;
    rule->goal = strncmp(text, "snr:", 4) == 0   ? VCL_GOAL_SNR
               : strncmp(text, "error:", 6) == 0 ? VCL_GOAL_ERROR
                                                 : VCL_GOAL_BITS;
    if (rule->goal == VCL_GOAL_SNR)
        return vcl_parse_number(text + 4, &rule->target) && rule->target >= -10 && rule->target <= 200;
    if (rule->goal == VCL_GOAL_ERROR)
        return vcl_parse_number(text + 6, &rule->target) && rule->target > 0;
    return vcl_parse_number(text, &rule->target) && rule->target >= 0.01 && rule->target <= 64;
}

static int refuse(struct vcl_rule *rule, const char *where, const char *text, const char *why)
{
    vcl_say("%s: '%.*s%s': %s", where, LONGEST, text, strlen(text) > LONGEST ? "..." : "", why);
    free(rule->text);
    return VCL_EXIT_USAGE;
}

/* NULL where it is none; why: what is wrong with it. */
static pcre2_code *compile(const char *text, size_t n, char *why, size_t room)
{
    const uint32_t options = PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C | PCRE2_DOTALL | PCRE2_DOLLAR_ENDONLY;
    PCRE2_UCHAR words[128];
    PCRE2_SIZE at;
    int number;
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)text, n, options, &number, &at, NULL);
    if (code)
        return code;
    pcre2_get_error_message(number, words, sizeof words);
    snprintf(why, room, "character %zu: %s", (size_t)at, (const char *)words);
    return NULL;
}

/* Where memory is out, matching fails with that. */
static void append(struct vcl_rules *rules, const struct vcl_rule *rule)
{
    if (rules->count == rules->room) {
        rules->room = 2 * rules->room + 16;
        struct vcl_rule *grown = vcl_zeros(rules->room, sizeof *grown);
        if (rules->count)
            memcpy(grown, rules->at, rules->count * sizeof *grown);
        free(rules->at);
        rules->at = grown;
    }
    if (!rules->match) {
        rules->match = pcre2_match_data_create(1, NULL);
        rules->limits = pcre2_match_context_create(NULL);
        if (rules->limits) {
            pcre2_set_match_limit(rules->limits, STEP_LIMIT);
            pcre2_set_depth_limit(rules->limits, STEP_LIMIT);
            pcre2_set_heap_limit(rules->limits, MEMORY_LIMIT_KIB);
        }
    }
    rules->at[rules->count++] = *rule;
}

int vcl_rules_add(struct vcl_rules *rules, const char *text, const char *where)
{
    struct vcl_rule rule = { .text = vcl_text("%s", text) };
    char why[160];
    const char *equals = strrchr(rule.text, '=');
    if (!equals || equals == rule.text || !parse_value(&rule, equals + 1))
        return refuse(&rule, where, text,
                      "is no rule: REGEX=BITS (0.01 to 64), REGEX=snr:DB, REGEX=error:E, REGEX=lossless or "
                      "REGEX=copy");
    if (equals - rule.text > LONGEST)
        return refuse(&rule, where, text, "an expression has 4096 bytes at most");
    rule.regex = compile(rule.text, (size_t)(equals - rule.text), why, sizeof why);
    if (!rule.regex)
        return refuse(&rule, where, text, why);
    append(rules, &rule);
    return VCL_EXIT_OK;
}

static char *trim(char *line)
{
    line += strspn(line, " \t\r");
    for (size_t n = strlen(line); n && strchr(" \t\r", line[n - 1]); n--)
        line[n - 1] = '\0';
    return line;
}

int vcl_rules_read(struct vcl_rules *rules, const char *path)
{
    struct vcl_error error = { 0 };
    void *bytes;
    size_t n;
    int code = VCL_EXIT_OK;
    const enum vcl_status status = vcl_read_file(path, RULE_FILE_LIMIT, &bytes, &n, &error);
    if (status != VCL_OK)
        return vcl_tell(status, "%s", error.text);
    if (memchr(bytes, 0, n)) {
        vcl_say("%s: holds a NUL; rules are lines of text", path);
        free(bytes);
        return VCL_EXIT_USAGE;
    }

    char *rest = bytes;
    for (unsigned number = 1; rest && !code; number++) {
        const char *line = trim(strsep(&rest, "\n"));
        char *where = vcl_text("%s:%u", path, number);
        if (*line && *line != '#')
            code = vcl_rules_add(rules, line, where);
        free(where);
    }
    free(bytes);
    return code;
}

int vcl_rules_find(const struct vcl_rules *rules, const char *name, const struct vcl_rule **rule)
{
    const size_t n = strlen(name);
    *rule = NULL;
    for (size_t i = 0; i < rules->count && !*rule; i++) {
        const int found =
            pcre2_match(rules->at[i].regex, (PCRE2_SPTR)name, n, 0, 0, rules->match, rules->limits);
        if (found < 0 && found != PCRE2_ERROR_NOMATCH) {
            vcl_say("rule '%s': whether it matches '%s' takes too many steps or too much memory to tell",
                    rules->at[i].text, name);
            return VCL_EXIT_USAGE;
        }
        if (found >= 0)
            *rule = &rules->at[i];
    }
    return VCL_EXIT_OK;
}

void vcl_rules_free(struct vcl_rules *rules)
{
    for (size_t i = 0; i < rules->count; i++) {
        pcre2_code_free(rules->at[i].regex);
        free(rules->at[i].text);
    }
    free(rules->at);
    pcre2_match_data_free(rules->match);
    pcre2_match_context_free(rules->limits);
}
