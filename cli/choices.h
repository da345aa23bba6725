/* choices.h - eval --choices: how often a model finds the right answer. */
#ifndef VCL_CLI_CHOICES_H
#define VCL_CLI_CHOICES_H

#include "language.h"

struct vcl_cli_choices {
    const char *file, *model;
    const char *baseline; /* or NULL */
    int json;
};

/* Reads, scores, reports; baseline NULL: none.  Prints why it fails and returns an exit code. */
int vcl_cli_eval_choices(const struct vcl_cli_choices *what, const struct vcl_network *network,
                         const struct vcl_network *baseline);

#endif
