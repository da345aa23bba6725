/* rules.c - parses rules and finds the one for a tensor's name.
 *
 * A rule is split at its last '=', so that the expression may hold any; the expression is an unanchored
 * POSIX extended one; the first rule that matches wins, in the order of the command line, files included. */
#include <stdlib.h>
#include <string.h>

#include "rules.h"

enum { RULE_FILE_LIMIT = 1 << 20 };

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

int vcl_rules_add(struct vcl_rules *rules, const char *text, const char *where)
{
    struct vcl_rule rule = { .text = vcl_text("%s", text) };
    char message[256];
    char *equals = strrchr(rule.text, '=');

    if (!equals || equals == rule.text || !parse_value(&rule, equals + 1)) {
        vcl_say(
            "%s: '%s' is no rule: REGEX=BITS (0.01 to 64), REGEX=snr:DB, REGEX=error:E, REGEX=lossless or "
            "REGEX=copy",
            where, text);
        free(rule.text);
        return VCL_EXIT_USAGE;
    }
    *equals = '\0';
    const int failed = regcomp(&rule.regex, rule.text, REG_EXTENDED | REG_NOSUB);
    *equals = '=';
    if (failed) {
        regerror(failed, &rule.regex, message, sizeof message);
        vcl_say("%s: '%s': %s", where, text, message);
        free(rule.text);
        return VCL_EXIT_USAGE;
    }
    struct vcl_rule *grown = vcl_zeros(rules->count + 1, sizeof *grown);
    if (rules->count)
        memcpy(grown, rules->at, rules->count * sizeof *grown);
    free(rules->at);
    rules->at = grown;
    rules->at[rules->count++] = rule;
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

const struct vcl_rule *vcl_rules_find(const struct vcl_rules *rules, const char *name)
{
    for (size_t i = 0; i < rules->count; i++)
        if (regexec(&rules->at[i].regex, name, 0, NULL, 0) == 0)
            return &rules->at[i];
    return NULL;
}

void vcl_rules_free(struct vcl_rules *rules)
{
    for (size_t i = 0; i < rules->count; i++) {
        regfree(&rules->at[i].regex);
        free(rules->at[i].text);
    }
    free(rules->at);
}
