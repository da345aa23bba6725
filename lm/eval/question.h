/* question.h - questions of multiple choice, from a file, as tokens. */
#ifndef VCL_RUN_QUESTION_H
#define VCL_RUN_QUESTION_H

#include "text/tokenizer.h"

enum { VCL_MOST_CHOICES = 256 };

struct vcl_question {
    size_t count, answer; /* choices, and which is right */
    size_t shared;        /* tokens that all texts begin with and that belong to the context: one or more */
    struct vcl_answer {
        uint32_t *tokens; /* of the context and the choice; more than `shared` */
        size_t n;
        size_t bytes; /* of the choice, white space before it not counted: one or more */
    } * choices;
};

/* A file of JSON lines, each an object with "context" (a text), "choices" (2 to 256 texts, put behind the
 * context as they are) and "answer" (the number of the right one, from 0).  Other fields and empty lines
 * are passed over.  context: the most tokens that may be read to predict one more.  Errors name file and
 * line.  vcl_questions_free(*questions, *count). */
enum vcl_status vcl_questions_read(const char *path, struct vcl_tokenizer *tokenizer, size_t context,
                                   struct vcl_question **questions, size_t *count, struct vcl_error *error);
void vcl_questions_free(struct vcl_question *questions, size_t count);

#endif
