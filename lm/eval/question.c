/* question.c - JSON lines to questions.
 *
 * A choice is encoded together with its context, for a token may span the end of one and the beginning of the
 * other.  What is scored is what follows the tokens that the context and all its choices share. */
#include <stdlib.h>
#include <string.h>

#include "common/fields.h"
#include "question.h"

#define FILE_LIMIT ((uint64_t)1 << 32)

struct reading {
    struct vcl_tokenizer *tokenizer;
    size_t context;
    struct vcl_question *questions;
    size_t count, room;
};

void vcl_questions_free(struct vcl_question *questions, size_t count)
{
    for (size_t q = 0; q < count; q++) {
        for (size_t c = 0; c < questions[q].count; c++)
            free(questions[q].choices[c].tokens);
        free(questions[q].choices);
    }
    free(questions);
}

static size_t without_space(const char *text) { return strlen(text + strspn(text, " \t\n\r")); }

/* The context, and the choice behind it, as tokens. */
static enum vcl_status encode(const struct reading *r, struct vcl_fields *line, const char *context,
                              const char *choice, uint32_t **tokens, size_t *n)
{
    struct vcl_error why = { 0 };
    const size_t length = strlen(context), more = strlen(choice);
    char *text = malloc(length + more + 1);
    if (!text)
        return line->status = vcl_fault_memory(line->error);
    memcpy(text, context, length);
    memcpy(text + length, choice, more + 1);
    line->status = vcl_tokenizer_encode(r->tokenizer, text, length + more, tokens, n, &why);
    if (line->status != VCL_OK)
        vcl_fault(line->error, line->status, "%s: %s", line->file, why.text);
    free(text);
    return line->status;
}

static size_t common(const uint32_t *a, const uint32_t *b, size_t n)
{
    size_t i = 0;
    while (i < n && a[i] == b[i])
        i++;
    return i;
}

static void read_choice(const struct reading *r, struct vcl_fields *line, const char *context,
                        const json_t *item, struct vcl_question *question)
{
    struct vcl_answer *choice = &question->choices[question->count];
    const char *text = json_string_value(item);
    if (!text || without_space(text) == 0) {
        vcl_field_fault(line, "choices", "has one that is no text, or empty");
        return;
    }
    choice->bytes = without_space(text);
    if (encode(r, line, context, text, &choice->tokens, &choice->n) != VCL_OK)
        return;
    question->count++;
    if (choice->n == 0)
        vcl_field_fault(line, "choices", "has one without a token");
    if (line->status == VCL_OK && choice->n > r->context + 1)
        line->status = vcl_fault(line->error, VCL_E_FORMAT,
                                 "%s: with choice %zu there are %zu tokens; the model's context is %zu",
                                 line->file, question->count - 1, choice->n, r->context);
}

/* As many as all choices and the context begin with. */
static void find_shared(struct vcl_fields *line, const uint32_t *context, size_t n,
                        struct vcl_question *question)
{
    question->shared = n;
    for (size_t c = 0; c < question->count; c++) {
        const struct vcl_answer *choice = &question->choices[c];
        const size_t most = choice->n - 1 < question->shared ? choice->n - 1 : question->shared;
        question->shared = common(context, choice->tokens, most);
    }
    if (question->shared == 0)
        vcl_field_fault(line, "context", "has no token that all choices follow");
}

static void read_question(const struct reading *r, struct vcl_fields *line, struct vcl_question *question)
{
    const char *context = vcl_field_text(line, "context", NULL);
    const json_t *list = vcl_field(line, "choices"), *item;
    const size_t count = json_array_size(list);
    uint32_t *tokens = NULL;
    size_t i, n = 0;
    if (!json_is_array(list) || count < 2 || count > VCL_MOST_CHOICES)
        vcl_field_fault(line, "choices", list ? "is no list of 2 to 256 texts" : "is missing");
    question->answer = vcl_field_size(line, "answer", 0, count ? count - 1 : 0, SIZE_MAX);
    if (question->answer == SIZE_MAX)
        vcl_field_fault(line, "answer", "is missing");
    question->choices = calloc(count + 1, sizeof *question->choices);
    if (line->status == VCL_OK && !question->choices)
        line->status = vcl_fault_memory(line->error);
    if (line->status != VCL_OK || encode(r, line, context, "", &tokens, &n) != VCL_OK)
        return;
    json_array_foreach(list, i, item) if (line->status == VCL_OK)
        read_choice(r, line, context, item, question);
    if (line->status == VCL_OK)
        find_shared(line, tokens, n, question);
    free(tokens);
}

static struct vcl_question *next_question(struct reading *r)
{
    if (r->count == r->room) {
        const size_t room = 2 * r->room + 64;
        struct vcl_question *more = realloc(r->questions, room * sizeof *more);
        if (!more)
            return NULL;
        r->questions = more;
        r->room = room;
    }
    r->questions[r->count] = (struct vcl_question){ 0 };
    return &r->questions[r->count++];
}

static enum vcl_status read_line(struct reading *r, const char *where, const char *text, size_t n,
                                 struct vcl_error *error)
{
    json_error_t fault;
    struct vcl_fields line = { NULL, where, "", error, VCL_OK };
    struct vcl_question *question = next_question(r);
    if (!question)
        return vcl_fault_memory(error);
    line.object = json_loadb(text, n, JSON_REJECT_DUPLICATES, &fault);
    if (!line.object)
        return vcl_fault(error, VCL_E_FORMAT, "%s: column %d: %s", where, fault.column, fault.text);
    if (json_is_object(line.object))
        read_question(r, &line, question);
    else
        line.status = vcl_fault(error, VCL_E_FORMAT, "%s: is no JSON object", where);
    json_decref(line.object);
    return line.status;
}

static enum vcl_status read_lines(struct reading *r, const char *path, const char *text, size_t n,
                                  struct vcl_error *error)
{
    char where[4200];
    enum vcl_status status = VCL_OK;
    const char *const end = text + n;
    for (size_t line = 1; text < end && status == VCL_OK; line++) {
        const char *newline = memchr(text, '\n', (size_t)(end - text)), *stop = newline ? newline : end;
        snprintf(where, sizeof where, "%s: line %zu", path, line);
        if (text + strspn(text, " \t\r") < stop)
            status = read_line(r, where, text, (size_t)(stop - text), error);
        text = stop + (newline != NULL);
    }
    if (status == VCL_OK && r->count == 0)
        status = vcl_fault(error, VCL_E_FORMAT, "%s: has no questions", path);
    return status;
}

enum vcl_status vcl_questions_read(const char *path, struct vcl_tokenizer *tokenizer, size_t context,
                                   struct vcl_question **questions, size_t *count, struct vcl_error *error)
{
    struct reading r = { .tokenizer = tokenizer, .context = context };
    void *text = NULL;
    size_t n = 0;
    enum vcl_status status = vcl_read_file(path, FILE_LIMIT, &text, &n, error);
    if (status == VCL_OK)
        status = read_lines(&r, path, text, n, error);
    free(text);
    if (status != VCL_OK) {
        vcl_questions_free(r.questions, r.count);
        return status;
    }
    *questions = r.questions;
    *count = r.count;
    return VCL_OK;
}
