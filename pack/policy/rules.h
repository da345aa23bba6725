/* rules.h - REGEX=VALUE: what the user wants of the tensors whose names match. */
#ifndef VCL_RULES_H
#define VCL_RULES_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "common/errand.h"

struct vcl_rule {
    char *text; /* as given */
    pcre2_code *regex;
    int exact; /* lossless or copy; else goal and target */
    int copy;
    enum vcl_goal goal;
    double target;
};
struct vcl_rules {
    struct vcl_rule *at;
    size_t count, room;
    pcre2_match_context *limits;
    pcre2_match_data *match; /* written when matching: one thread at a time */
};

/* NULL where a goal can have this target; else what it can have. */
const char *vcl_target_range(enum vcl_goal goal, double target);
/* Both append.  `where`: what the rule stands in, for messages.  VCL_E_ARGUMENT where it is no rule. */
enum vcl_status vcl_rules_add(struct vcl_errand *job, struct vcl_rules *rules, const char *text,
                              const char *where);
enum vcl_status vcl_rules_read(struct vcl_errand *job, struct vcl_rules *rules, const char *path);
/* rule: the first that matches, NULL if none does.  VCL_E_ARGUMENT where one takes too long to tell. */
enum vcl_status vcl_rules_find(struct vcl_errand *job, const struct vcl_rules *rules, const char *name,
                               const struct vcl_rule **rule);
void vcl_rules_free(struct vcl_rules *rules);

#endif
