/* rules.h - REGEX=VALUE: what the user wants of the tensors whose names match. */
#ifndef VCL_RULES_H
#define VCL_RULES_H

#include <regex.h>

#include "cli.h"

struct vcl_rule {
    char *text; /* as given */
    regex_t regex;
    int exact; /* lossless or copy; else goal and target */
    int copy;
    enum vcl_goal goal;
    double target;
};
struct vcl_rules {
    struct vcl_rule *at;
    size_t count;
};

/* Both append, and return 0 or an exit code with the message said. */
int vcl_rules_add(struct vcl_rules *rules, const char *text, const char *where);
int vcl_rules_read(struct vcl_rules *rules, const char *path);
/* The first rule that matches, NULL if none does. */
const struct vcl_rule *vcl_rules_find(const struct vcl_rules *rules, const char *name);
void vcl_rules_free(struct vcl_rules *rules);

#endif
