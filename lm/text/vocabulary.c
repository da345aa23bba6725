/* vocabulary.c - tokenizer.json of a BPE, of bytes or of characters, to tables.
 *
 * Every part of the file that changes which tokens come out is either understood or refused by name. */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "pipeline.h"
#include "vocabulary.h"

/* A large vocabulary's file has 10 to 40 MB. */
enum { FILE_LIMIT = 256 << 20 };

static enum vcl_status fail(struct vcl_tokenizer *t, struct vcl_error *error, const char *what)
{
    return vcl_fault(error, VCL_E_FORMAT, "%s: %s", t->file, what);
}

static struct vcl_fields fields_of(struct vcl_tokenizer *t, json_t *object, const char *prefix,
                                   struct vcl_error *error)
{
    return (struct vcl_fields){ object, t->file, prefix, error, VCL_OK };
}

/* ---- the byte alphabet ----------------------------------------------------------------------- */

/* Printable bytes stand for themselves, the 68 others are numbered from U+0100. */
static unsigned letter_of(unsigned byte)
{
    unsigned number = 256;
    for (unsigned b = 0; b < 256; b++) {
        const int printable = (b >= 33 && b <= 126) || (b >= 161 && b != 173);
        if (b == byte)
            return printable ? b : number;
        number += !printable;
    }
    return 0;
}

/* The letter as UTF-8, with a NUL. */
static void write_letter(unsigned code, char letter[3])
{
    size_t n = 0;
    if (code >= 128)
        letter[n++] = (char)(0xC0 | code >> 6);
    letter[n++] = (char)(code < 128 ? code : 0x80 | (code & 63));
    letter[n] = '\0';
}

/* All letters have one or two bytes, so one table of U+0000 to U+07FF is enough. */
static void make_alphabet(int16_t alphabet[2048])
{
    for (size_t i = 0; i < 2048; i++)
        alphabet[i] = -1;
    for (unsigned b = 0; b < 256; b++)
        alphabet[letter_of(b)] = (int16_t)b;
}

/* A token's bytes.  One with other characters keeps its text: only an added token has such. */
static int spell_letters(const int16_t *alphabet, const char *word, struct vcl_piece *piece)
{
    const unsigned char *c = (const unsigned char *)word;
    piece->n = strlen(word);
    piece->bytes = malloc(piece->n + 1);
    if (!piece->bytes)
        return 0;
    size_t n = 0;
    while (*c) {
        const unsigned code = *c < 0x80 ? *c : *c < 0xE0 ? (*c & 31u) << 6 | (c[1] & 63u) : 2047;
        if (alphabet[code] < 0) {
            memcpy(piece->bytes, word, piece->n);
            return 1;
        }
        piece->bytes[n++] = (char)alphabet[code];
        c += *c < 0x80 ? 1 : 2;
    }
    piece->n = n;
    return 1;
}

/* ---- words and merges ------------------------------------------------------------------------ */

static enum vcl_status check_number(struct vcl_tokenizer *t, const char *word, const json_t *value,
                                    struct vcl_error *error)
{
    const json_int_t number = json_integer_value(value);
    if (!json_is_integer(value) || number < 0 || (uint64_t)number >= t->vocab)
        return vcl_fault(error, VCL_E_FORMAT,
                         "%s: token '%.64s' has no number below the model's vocabulary of %zu", t->file, word,
                         t->vocab);
    if (t->pieces[number].bytes)
        return vcl_fault(error, VCL_E_FORMAT, "%s: two tokens have the number %lld", t->file,
                         (long long)number);
    return VCL_OK;
}

/* <0x41>: the byte; -1: none. */
static int byte_of(const char *text, size_t n)
{
    const char digits[3] = { n == 6 ? text[3] : 0, n == 6 ? text[4] : 0 };
    if (n != 6 || memcmp(text, "<0x", 3) || text[5] != '>' || !isxdigit((unsigned char)digits[0])
        || !isxdigit((unsigned char)digits[1]))
        return -1;
    return (int)strtol(digits, NULL, 16);
}

static enum vcl_status spell_characters(const struct vcl_tokenizer *t, const char *word,
                                        struct vcl_piece *piece, struct vcl_error *error)
{
    struct vcl_error why = { 0 };
    const enum vcl_status status =
        vcl_rewrite_run(&t->decoder, word, strlen(word), 0, &piece->bytes, &piece->n, &why);
    if (status != VCL_OK)
        return vcl_fault(error, status, "%s: field 'decoder': token '%.64s' %s", t->file, word, why.text);
    const int byte = t->byte_pieces ? byte_of(piece->bytes, piece->n) : -1;
    if (byte >= 0) {
        *piece->bytes = (char)byte;
        piece->n = 1;
    }
    return VCL_OK;
}

static enum vcl_status load_words(struct vcl_tokenizer *t, struct vcl_error *error)
{
    int16_t alphabet[2048];
    const char *word;
    json_t *value;
    enum vcl_status status = VCL_OK;
    make_alphabet(alphabet);
    json_object_foreach(t->words, word, value)
    {
        status = check_number(t, word, value, error);
        struct vcl_piece *piece = status == VCL_OK ? &t->pieces[json_integer_value(value)] : NULL;
        if (piece && !t->bytes_only)
            status = spell_characters(t, word, piece, error);
        else if (piece && !spell_letters(alphabet, word, piece))
            status = vcl_fault_memory(error);
        if (status != VCL_OK)
            return status;
    }
    return VCL_OK;
}

/* The token of each byte: a letter, or <0x41>; 0 where one has none.  Vocabularies lack bytes that no text
 * had. */
static int find_bytes(struct vcl_tokenizer *t)
{
    char word[8];
    int all = 1;
    for (unsigned b = 0; b < 256; b++) {
        write_letter(letter_of(b), t->letters[b]);
        snprintf(word, sizeof word, "<0x%02X>", b);
        const char *name = t->bytes_only ? t->letters[b] : word;
        const json_t *value = t->bytes_only || t->fallback ? json_object_get(t->words, name) : NULL;
        t->bytes[b] = value ? (uint32_t)json_integer_value(value) : VCL_NO_TOKEN;
        all &= value != NULL;
    }
    return all;
}

/* What becomes of bytes and characters that have no token. */
static void find_unknown(struct vcl_tokenizer *t, struct vcl_fields *model)
{
    const char *name = vcl_field_text(model, "unk_token", "");
    const json_t *value = name ? json_object_get(t->words, name) : NULL;
    t->fuse_unknown = vcl_field_flag(model, "fuse_unk", 0);
    t->unknown = value ? (uint32_t)json_integer_value(value) : VCL_NO_TOKEN;
    if (!value && name && *name)
        vcl_field_fault(model, "unk_token", "is no token of model.vocab");
}

/* "left right" or ["left", "right"]; 0 where it is neither, or one of the three tokens is missing. */
static int find_merge(const struct vcl_tokenizer *t, const json_t *item, char *text, size_t room,
                      uint32_t tokens[3])
{
    const char *both = json_string_value(item), *space = both ? strchr(both, ' ') : NULL;
    const char *left = both ? both : json_string_value(json_array_get(item, 0));
    const char *right = space ? space + 1 : json_string_value(json_array_get(item, 1));
    if (!left || !right || (json_is_array(item) && json_array_size(item) != 2)
        || (space && strchr(right, ' ')))
        return 0;
    const size_t n = space ? (size_t)(space - left) : strlen(left);
    const char *const starts[3] = { left, right, NULL };
    if (n + strlen(right) >= room)
        return 0;
    for (int k = 0; k < 3; k++) {
        memcpy(text, starts[k] ? starts[k] : left, k == 1 ? strlen(right) : n);
        text[k == 1 ? strlen(right) : n] = '\0';
        if (k == 2)
            strcpy(text + n, right);
        const json_t *value = json_object_get(t->words, text);
        if (!value)
            return 0;
        tokens[k] = (uint32_t)json_integer_value(value);
    }
    return 1;
}

static enum vcl_status load_merges(struct vcl_tokenizer *t, const json_t *merges, struct vcl_error *error)
{
    char text[4096];
    uint32_t tokens[3];
    size_t i;
    const json_t *item;
    if (!json_is_array(merges))
        return fail(t, error, "field 'model.merges' is no list");
    t->bpe = vcl_bpe_create(json_array_size(merges));
    if (!t->bpe)
        return vcl_fault_memory(error);
    json_array_foreach(merges, i, item)
    {
        if (!find_merge(t, item, text, sizeof text, tokens))
            return vcl_fault(error, VCL_E_FORMAT,
                             "%s: model.merges[%zu] is no pair of tokens that make a third one", t->file, i);
        if (!vcl_bpe_add(t->bpe, tokens[0], tokens[1], tokens[2]))
            return vcl_fault(error, VCL_E_FORMAT, "%s: model.merges[%zu] is there twice", t->file, i);
    }
    return VCL_OK;
}

static enum vcl_status load_model(struct vcl_tokenizer *t, json_t *model, struct vcl_error *error)
{
    static const char *const affixes[] = { "continuing_subword_prefix", "end_of_word_suffix" };
    struct vcl_fields fields = fields_of(t, model, "model.", error);
    const char *type = vcl_field_text(&fields, "type", "BPE");
    if (type && strcmp(type, "BPE"))
        vcl_field_refuse(&fields, "type");
    vcl_field_refuse(&fields, "dropout");
    for (size_t i = 0; i < sizeof affixes / sizeof *affixes; i++) {
        const char *affix = vcl_field_text(&fields, affixes[i], "");
        if (affix && *affix)
            vcl_field_refuse(&fields, affixes[i]);
    }
    t->whole_words = vcl_field_flag(&fields, "ignore_merges", 0);
    t->fallback = vcl_field_flag(&fields, "byte_fallback", 0);
    t->words = vcl_field(&fields, "vocab");
    if (!json_is_object(t->words))
        vcl_field_fault(&fields, "vocab", "is no object");
    if (fields.status == VCL_OK)
        fields.status = load_words(t, error);
    if (fields.status == VCL_OK && !find_bytes(t))
        find_unknown(t, &fields);
    return fields.status == VCL_OK ? load_merges(t, vcl_field(&fields, "merges"), error) : fields.status;
}

/* ---- added tokens ---------------------------------------------------------------------------- */

static void check_added(const struct vcl_tokenizer *t, struct vcl_fields *fields, const char *content,
                        size_t number)
{
    const json_t *word = content ? json_object_get(t->words, content) : NULL;
    vcl_field_refuse(fields, "single_word");
    if (number == SIZE_MAX)
        vcl_field_fault(fields, "id", "is missing");
    else if (word && (size_t)json_integer_value(word) != number)
        vcl_field_fault(fields, "id", "is not the token's number in model.vocab");
    else if (number < t->vocab && t->pieces[number].added)
        vcl_field_fault(fields, "id", "is there twice");
    if (content && !*content)
        vcl_field_fault(fields, "content", "is empty");
}

/* The text to look for: what the normalizer makes of the token, where it is looked for after that. */
static enum vcl_status list_token(const struct vcl_tokenizer *t, struct vcl_fields *fields,
                                  const char *content, struct vcl_added_list *list, struct vcl_added *added)
{
    static const struct vcl_rewrites none;
    const struct vcl_rewrites *rewrites = list == &t->normalized ? &t->normalizer : &none;
    const enum vcl_status status =
        vcl_rewrite_run(rewrites, content, strlen(content), 1, &added->text, &added->n, fields->error);
    if (status != VCL_OK)
        return status;
    list->items[list->count++] = *added;
    if (added->n == 0)
        vcl_field_fault(fields, "content", "is empty once normalized");
    return fields->status;
}

static enum vcl_status load_added_token(struct vcl_tokenizer *t, json_t *item, struct vcl_error *error)
{
    struct vcl_fields fields = fields_of(t, item, "added_tokens.", error);
    const char *content = vcl_field_text(&fields, "content", NULL);
    const size_t number = vcl_field_size(&fields, "id", 0, VCL_NO_TOKEN - 1, SIZE_MAX);
    const int special = vcl_field_flag(&fields, "special", 0);
    struct vcl_added_list *list =
        vcl_field_flag(&fields, "normalized", !special) ? &t->normalized : &t->added;
    struct vcl_added added = { .token = (uint32_t)number,
                               .strip_left = vcl_field_flag(&fields, "lstrip", 0),
                               .strip_right = vcl_field_flag(&fields, "rstrip", 0) };
    check_added(t, &fields, content, number);
    if (fields.status != VCL_OK)
        return fields.status;
    if (number >= t->vocab) {
        vcl_named_add(&t->beyond, content);
        return list_token(t, &fields, content, list, &added);
    }
    free(t->pieces[number].bytes); /* it may be a word as well */
    t->pieces[number] = (struct vcl_piece){ strdup(content), strlen(content), 1 + special };
    return t->pieces[number].bytes ? list_token(t, &fields, content, list, &added) : vcl_fault_memory(error);
}

static int by_text(const void *a, const void *b)
{
    const struct vcl_added *left = a, *right = b;
    const int order = memcmp(left->text, right->text, left->n < right->n ? left->n : right->n);
    return order ? order : (left->n > right->n) - (left->n < right->n);
}

/* By first byte, so that most positions of a text try none. */
static void sort_added(struct vcl_added_list *list)
{
    qsort(list->items, list->count, sizeof *list->items, by_text);
    for (size_t i = 0; i < list->count; i++)
        list->first[(unsigned char)*list->items[i].text + 1]++;
    for (size_t b = 0; b < 256; b++)
        list->first[b + 1] += list->first[b];
}

static enum vcl_status load_added(struct vcl_tokenizer *t, const json_t *tokens, struct vcl_error *error)
{
    struct vcl_added_list *const lists[2] = { &t->added, &t->normalized };
    size_t i;
    json_t *item;
    for (int k = 0; k < 2; k++) {
        lists[k]->items = calloc(json_array_size(tokens) + 1, sizeof *lists[k]->items);
        if (!lists[k]->items)
            return vcl_fault_memory(error);
    }
    json_array_foreach(tokens, i, item)
    {
        const enum vcl_status status = load_added_token(t, item, error);
        if (status != VCL_OK)
            return status;
    }
    sort_added(lists[0]);
    sort_added(lists[1]);
    return VCL_OK;
}

enum vcl_status vcl_vocabulary_load(struct vcl_tokenizer *t, size_t vocab, struct vcl_error *error)
{
    enum vcl_status status = vcl_fields_load(t->file, FILE_LIMIT, &t->root, error);
    struct vcl_fields fields = fields_of(t, t->root, "", error);
    if (status != VCL_OK)
        return status;
    t->pieces = calloc(vocab, sizeof *t->pieces);
    if (!t->pieces)
        return vcl_fault_memory(error);
    t->vocab = vocab;
    vcl_field_refuse(&fields, "truncation");
    status = fields.status;
    if (status == VCL_OK)
        status = vcl_pipeline_normalizer(t, error);
    if (status == VCL_OK)
        status = vcl_pipeline_pre_tokenizer(t, error);
    if (status == VCL_OK)
        status = vcl_pipeline_decoder(t, error);
    if (status == VCL_OK)
        status = load_model(t, vcl_field(&fields, "model"), error);
    if (status == VCL_OK)
        status = load_added(t, vcl_field(&fields, "added_tokens"), error);
    return status == VCL_OK ? vcl_pipeline_post_processor(t, error) : status;
}
