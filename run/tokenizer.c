/* tokenizer.c - text to tokens: added tokens first, what is between them split into words, words merged. */
#include <stdlib.h>
#include <string.h>

#include "tokenizer.h"
#include "vocabulary.h"

enum vcl_status vcl_tokenizer_open(const char *folder, size_t vocab, struct vcl_tokenizer **tokenizer,
                                   struct vcl_error *error)
{
    struct vcl_tokenizer *t = calloc(1, sizeof *t);
    *tokenizer = NULL;
    if (!t)
        return vcl_fault_memory(error);
    const int length = snprintf(t->file, sizeof t->file, "%s/tokenizer.json", folder);
    const enum vcl_status status =
        length < (int)sizeof t->file
            ? vcl_vocabulary_load(t, vocab, error)
            : vcl_fault(error, VCL_E_ARGUMENT, "%.100s...: the path is too long", folder);
    if (status == VCL_OK)
        *tokenizer = t;
    else
        vcl_tokenizer_close(t);
    return status;
}

void vcl_tokenizer_close(struct vcl_tokenizer *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->vocab; i++)
        free(t->pieces[i].bytes);
    free(t->pieces);
    free(t->added);
    vcl_bpe_destroy(t->bpe);
    vcl_split_destroy(t->split);
    json_decref(t->root);
    free(t);
}

const char *vcl_tokenizer_bytes(const struct vcl_tokenizer *t, uint32_t token, size_t *n)
{
    const int known = token < t->vocab && t->pieces[token].bytes && t->pieces[token].added < 2;
    *n = known ? t->pieces[token].n : 0;
    return known ? t->pieces[token].bytes : NULL;
}

/* ---- UTF-8 ----------------------------------------------------------------------------------- */

/* Length of the character at c, of which n >= 1 bytes are there; 0 where it is none: overlong, a surrogate,
 * beyond U+10FFFF, cut. */
static size_t character(const unsigned char *c, size_t n)
{
    const size_t length = *c < 0x80 ? 1 : *c < 0xC2 ? 0 : *c < 0xE0 ? 2 : *c < 0xF0 ? 3 : *c < 0xF5 ? 4 : 0;
    if (length > n)
        return 0;
    for (size_t i = 1; i < length; i++)
        if ((c[i] & 0xC0) != 0x80)
            return 0;
    if ((*c == 0xE0 && c[1] < 0xA0) || (*c == 0xED && c[1] > 0x9F) || (*c == 0xF0 && c[1] < 0x90)
        || (*c == 0xF4 && c[1] > 0x8F))
        return 0;
    return length;
}

static enum vcl_status check_utf8(const char *text, size_t n, struct vcl_error *error)
{
    for (size_t at = 0; at < n;) {
        const size_t length = character((const unsigned char *)text + at, n - at);
        if (!length)
            return vcl_fault(error, VCL_E_FORMAT, "is not UTF-8 at byte %zu", at);
        at += length;
    }
    return VCL_OK;
}

/* ---- encoding -------------------------------------------------------------------------------- */

struct encoding {
    const struct vcl_tokenizer *t;
    struct vcl_bpe_space space;
    uint32_t *tokens;
    size_t count, room;
    char *word; /* in the byte alphabet */
    size_t word_room;
};

static int make_room(struct encoding *e, size_t more)
{
    if (more <= e->room - e->count)
        return 1;
    const size_t room = 2 * e->room + more;
    uint32_t *tokens = room <= SIZE_MAX / sizeof *tokens ? realloc(e->tokens, room * sizeof *tokens) : NULL;
    if (!tokens)
        return 0;
    e->tokens = tokens;
    e->room = room;
    return 1;
}

static enum vcl_status append(struct encoding *e, const uint32_t *tokens, size_t n, struct vcl_error *error)
{
    if (!make_room(e, n))
        return vcl_fault_memory(error);
    for (size_t i = 0; i < n; i++)
        e->tokens[e->count++] = tokens[i];
    return VCL_OK;
}

/* The number of the token that the word is, -1 if it is none. */
static long find_whole(struct encoding *e, const char *text, size_t n)
{
    size_t at = 0;
    if (2 * n + 1 > e->word_room) {
        free(e->word);
        e->word = malloc(2 * n + 1);
        e->word_room = e->word ? 2 * n + 1 : 0;
        if (!e->word)
            return -1;
    }
    for (size_t i = 0; i < n; i++)
        for (const char *c = e->t->letters[(unsigned char)text[i]]; *c; c++)
            e->word[at++] = *c;
    e->word[at] = '\0';
    const json_t *value = json_object_get(e->t->words, e->word);
    return value ? (long)json_integer_value(value) : -1;
}

static enum vcl_status encode_word(void *user, const char *text, size_t n, struct vcl_error *error)
{
    struct encoding *e = user;
    const long whole = e->t->whole_words ? find_whole(e, text, n) : -1;
    if (whole >= 0)
        return append(e, &(uint32_t){ (uint32_t)whole }, 1, error);
    if (!make_room(e, n))
        return vcl_fault_memory(error);
    for (size_t i = 0; i < n; i++)
        e->tokens[e->count + i] = e->t->bytes[(unsigned char)text[i]];
    const size_t left = vcl_bpe_merge(e->t->bpe, &e->space, e->tokens + e->count, n);
    if (left == SIZE_MAX)
        return vcl_fault_memory(error);
    e->count += left;
    return VCL_OK;
}

/* Text without added tokens. */
static enum vcl_status encode_plain(struct encoding *e, const char *text, size_t n, struct vcl_error *error)
{
    const struct vcl_split_call call = { encode_word, e };
    if (!e->t->prefix_space || n == 0 || *text == ' ')
        return vcl_split_run(e->t->split, text, n, &call, error);
    char *spaced = malloc(n + 1);
    if (!spaced)
        return vcl_fault_memory(error);
    *spaced = ' ';
    memcpy(spaced + 1, text, n);
    const enum vcl_status status = vcl_split_run(e->t->split, spaced, n + 1, &call, error);
    free(spaced);
    return status;
}

/* The longest added token that the text begins with; NULL: none. */
static const struct vcl_piece *find_added(const struct vcl_tokenizer *t, const char *text, size_t n,
                                          uint32_t *token)
{
    const unsigned first = (unsigned char)*text;
    const struct vcl_piece *longest = NULL;
    for (size_t i = t->first[first]; i < t->first[first + 1]; i++) {
        const struct vcl_piece *piece = &t->pieces[t->added[i]];
        if (piece->n <= n && memcmp(piece->bytes, text, piece->n) == 0
            && (!longest || piece->n > longest->n)) {
            longest = piece;
            *token = t->added[i];
        }
    }
    return longest;
}

static enum vcl_status encode_text(struct encoding *e, const char *text, size_t n, struct vcl_error *error)
{
    size_t from = 0;
    enum vcl_status status = VCL_OK;
    for (size_t at = 0; at < n && status == VCL_OK;) {
        uint32_t token;
        const struct vcl_piece *piece = find_added(e->t, text + at, n - at, &token);
        if (!piece) {
            at++;
            continue;
        }
        status = encode_plain(e, text + from, at - from, error);
        if (status == VCL_OK)
            status = append(e, &token, 1, error);
        at = from = at + piece->n;
    }
    return status == VCL_OK ? encode_plain(e, text + from, n - from, error) : status;
}

enum vcl_status vcl_tokenizer_encode(const struct vcl_tokenizer *t, const char *text, size_t n,
                                     uint32_t **tokens, size_t *count, struct vcl_error *error)
{
    struct encoding e = { .t = t };
    enum vcl_status status = check_utf8(text, n, error);
    if (status == VCL_OK)
        status = append(&e, t->before, t->before_count, error);
    if (status == VCL_OK)
        status = encode_text(&e, text, n, error);
    if (status == VCL_OK)
        status = append(&e, t->after, t->after_count, error);
    vcl_bpe_release(&e.space);
    free(e.word);
    if (status != VCL_OK) {
        free(e.tokens);
        return status;
    }
    *tokens = e.tokens;
    *count = e.count;
    return VCL_OK;
}
