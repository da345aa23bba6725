/* choice.h - multiple choice: how often a model finds the right choice the likeliest, alone and against another model. */
#ifndef VCL_RUN_CHOICE_H
#define VCL_RUN_CHOICE_H

#include "eval.h"
#include "question.h"

/* Shares of the questions, each with the standard error of a mean of independent questions.  The choice is
 * the likeliest one, or the one with most likelihood a byte (normalised); of equals the first. */
struct vcl_choice_eval {
    size_t questions, texts, tokens; /* texts: all choices; tokens: all that is read */
    double chance;                   /* of an answer at random */
    struct vcl_estimate accuracy[2]; /* plain, normalised */
    /* Against a baseline: */
    struct vcl_estimate baseline_accuracy[2], difference[2]; /* question by question */
    struct vcl_estimate same[2];                             /* both choose the same */
};

/* Fills in questions, texts, tokens and chance. */
void vcl_choice_plan(const struct vcl_question *questions, size_t count, struct vcl_choice_eval *plan);
/* baseline NULL: none; else of the same vocabulary.  progress as in struct vcl_eval_options, after each
 * text. */
enum vcl_status vcl_choice_run(const struct vcl_network *network, const struct vcl_network *baseline,
                               const struct vcl_question *questions, size_t count,
                               int (*progress)(void *user, size_t tokens), void *user,
                               struct vcl_choice_eval *result, struct vcl_error *error);

#endif
