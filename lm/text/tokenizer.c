/* tokenizer.c - text to tokens: added tokens first, what is between them rewritten and split into words,
 * words merged. */
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

static void free_added(struct vcl_added_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->items[i].text);
    free(list->items);
}

void vcl_tokenizer_close(struct vcl_tokenizer *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->vocab; i++)
        free(t->pieces[i].bytes);
    free(t->pieces);
    free_added(&t->added);
    free_added(&t->normalized);
    vcl_bpe_destroy(t->bpe);
    vcl_split_destroy(t->split);
    json_decref(t->root);
    free(t);
}

const struct vcl_named *vcl_tokenizer_beyond(const struct vcl_tokenizer *t) { return &t->beyond; }
uint64_t vcl_tokenizer_left_out(const struct vcl_tokenizer *t) { return t->left_out; }

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
    uint64_t left_out; /* bytes without a token */
    char *word;        /* in the byte alphabet, where words are looked up whole */
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

/* The number of the token that these bytes are in the byte alphabet, -1 if they are none. */
static long find_letters(struct encoding *e, const char *text, size_t n)
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
    const json_t *value = json_object_getn(e->t->words, e->word, at);
    return value ? (long)json_integer_value(value) : -1;
}

static long find_characters(const struct encoding *e, const char *text, size_t n)
{
    const json_t *value = json_object_getn(e->t->words, text, n);
    return value ? (long)json_integer_value(value) : -1;
}

static long find_whole(struct encoding *e, const char *text, size_t n)
{
    return e->t->bytes_only ? find_letters(e, text, n) : find_characters(e, text, n);
}

/* A byte or character of n bytes: its token, or those of its bytes if all have one; else 0. */
static size_t spell_letter(const struct encoding *e, const char *text, size_t n, uint32_t *tokens)
{
    const long token = e->t->bytes_only ? -1 : find_characters(e, text, n);
    if (token >= 0) {
        *tokens = (uint32_t)token;
        return 1;
    }
    for (size_t i = 0; i < n; i++) {
        tokens[i] = e->t->bytes[(unsigned char)text[i]];
        if (tokens[i] == VCL_NO_TOKEN)
            return 0;
    }
    return n;
}

/* The tokens of a word's letters, n at most. */
static size_t spell(struct encoding *e, const char *text, size_t n, uint32_t *tokens)
{
    const struct vcl_tokenizer *t = e->t;
    size_t count = 0, length;
    int unknown = 0; /* the last one */
    for (size_t at = 0; at < n; at += length) {
        length = t->bytes_only ? 1 : character((const unsigned char *)text + at, n - at);
        const size_t made = spell_letter(e, text + at, length, tokens + count);
        count += made;
        if (!made && t->unknown == VCL_NO_TOKEN)
            e->left_out += length;
        else if (!made && (!unknown || !t->fuse_unknown))
            tokens[count++] = t->unknown;
        unknown = !made;
    }
    return count;
}

static enum vcl_status encode_word(void *user, const char *text, size_t n, struct vcl_error *error)
{
    struct encoding *e = user;
    const long whole = e->t->whole_words ? find_whole(e, text, n) : -1;
    if (whole >= 0)
        return append(e, &(uint32_t){ (uint32_t)whole }, 1, error);
    if (!make_room(e, n))
        return vcl_fault_memory(error);
    uint32_t *tokens = e->tokens + e->count;
    const size_t left = vcl_bpe_merge(e->t->bpe, &e->space, tokens, spell(e, text, n, tokens));
    if (left == SIZE_MAX)
        return vcl_fault_memory(error);
    e->count += left;
    return VCL_OK;
}

/* ---- added tokens ---------------------------------------------------------------------------- */

/* The longest added token that the text begins with; NULL: none. */
static const struct vcl_added *find_added(const struct vcl_added_list *list, const char *text, size_t n)
{
    const unsigned first = (unsigned char)*text;
    const struct vcl_added *longest = NULL;
    for (size_t i = list->first[first]; i < list->first[first + 1]; i++) {
        const struct vcl_added *added = &list->items[i];
        if (added->n <= n && memcmp(added->text, text, added->n) == 0 && (!longest || added->n > longest->n))
            longest = added;
    }
    return longest;
}

/* Length of the white space character (Unicode's) at c, of which n bytes are there; 0: another. */
static size_t white_space(const char *c, size_t n)
{
    static const char *const wide[] = { "\xC2\x85",     "\xC2\xA0",     "\xE1\x9A\x80", "\xE2\x80\xA8",
                                        "\xE2\x80\xA9", "\xE2\x80\xAF", "\xE2\x81\x9F", "\xE3\x80\x80" };
    if (n >= 1 && (*c == ' ' || (*c >= '\t' && *c <= '\r')))
        return 1;
    for (size_t i = 0; i < sizeof wide / sizeof *wide; i++)
        if (n >= strlen(wide[i]) && memcmp(c, wide[i], strlen(wide[i])) == 0)
            return strlen(wide[i]);
    return n >= 3 && memcmp(c, "\xE2\x80", 2) == 0 && (unsigned char)c[2] <= 0x8A ? 3 : 0;
}

static size_t skip_space(const char *text, size_t at, size_t n)
{
    size_t length;
    while ((length = white_space(text + at, n - at)) != 0)
        at += length;
    return at;
}

/* Length of the white space character that ends at `at`; 0: another. */
static size_t white_space_before(const char *text, size_t from, size_t at)
{
    for (size_t length = 1; length <= 3 && length <= at - from; length++)
        if (white_space(text + at - length, length) == length)
            return length;
    return 0;
}

/* Not beyond `from`, even where that is behind `at`. */
static size_t skip_space_back(const char *text, size_t from, size_t at)
{
    size_t length;
    while (at > from && (length = white_space_before(text, from, at)) != 0)
        at -= length;
    return at > from ? at : from;
}

/* What becomes of a text between added tokens; first: it begins the whole. */
struct between {
    enum vcl_status (*encode)(struct encoding *e, const char *text, size_t n, int first,
                              struct vcl_error *error);
};

/* One that the model does not have is no text either. */
static enum vcl_status append_added(struct encoding *e, const struct vcl_added *added,
                                    struct vcl_error *error)
{
    if (added->token < e->t->vocab)
        return append(e, &added->token, 1, error);
    return vcl_fault(
        error, VCL_E_FORMAT, "has the added token '%.*s', number %lu, beyond the model's vocabulary of %zu",
        (int)(added->n < 64 ? added->n : 64), added->text, (unsigned long)added->token, e->t->vocab);
}

/* Added tokens of the list become one token each; one that takes along nothing but white space that is taken
 * already becomes none. */
static enum vcl_status cut_added(struct encoding *e, const struct vcl_added_list *list,
                                 const struct between *between, const char *text, size_t n, int first,
                                 struct vcl_error *error)
{
    size_t from = 0;
    enum vcl_status status = VCL_OK;
    for (size_t at = 0; at < n && status == VCL_OK;) {
        const struct vcl_added *added = find_added(list, text + at, n - at);
        if (!added) {
            at++;
            continue;
        }
        const size_t start = added->strip_left ? skip_space_back(text, from, at) : at;
        if (start > from)
            status = between->encode(e, text + from, start - from, first && from == 0, error);
        at += added->n;
        if (!added->strip_right)
            from = at;
        else if (from <= at) /* else it is in white space that ends at `from` */
            from = skip_space(text, at, n);
        if (status == VCL_OK && start < from)
            status = append_added(e, added, error);
    }
    return status == VCL_OK && from < n ? between->encode(e, text + from, n - from, first && from == 0, error)
                                        : status;
}

/* Without added tokens: cut into words. */
static enum vcl_status encode_plain(struct encoding *e, const char *text, size_t n, int first,
                                    struct vcl_error *error)
{
    const struct vcl_split_call call = { encode_word, e };
    char *changed;
    enum vcl_status status = vcl_rewrite_run(&e->t->prefix, text, n, first, &changed, &n, error);
    if (status != VCL_OK)
        return status;
    status = vcl_split_run(e->t->split, changed, n, &call, error);
    free(changed);
    return status;
}

/* Without the added tokens that are looked for in the text as it is. */
static enum vcl_status encode_section(struct encoding *e, const char *text, size_t n, int first,
                                      struct vcl_error *error)
{
    static const struct between plain = { encode_plain };
    char *changed;
    enum vcl_status status = vcl_rewrite_run(&e->t->normalizer, text, n, first, &changed, &n, error);
    if (status != VCL_OK)
        return status;
    status = cut_added(e, &e->t->normalized, &plain, changed, n, first, error);
    free(changed);
    return status;
}

enum vcl_status vcl_tokenizer_encode(struct vcl_tokenizer *t, const char *text, size_t n, uint32_t **tokens,
                                     size_t *count, struct vcl_error *error)
{
    static const struct between section = { encode_section };
    struct encoding e = { .t = t };
    enum vcl_status status = check_utf8(text, n, error);
    if (status == VCL_OK)
        status = append(&e, t->before, t->before_count, error);
    if (status == VCL_OK)
        status = cut_added(&e, &t->added, &section, text, n, 1, error);
    if (status == VCL_OK)
        status = append(&e, t->after, t->after_count, error);
    vcl_bpe_release(&e.space);
    free(e.word);
    if (status != VCL_OK) {
        free(e.tokens);
        return status;
    }
    t->left_out += e.left_out;
    *tokens = e.tokens;
    *count = e.count;
    return VCL_OK;
}
