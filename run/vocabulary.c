/* vocabulary.c - tokenizer.json of a byte-level BPE to tables.
 *
 * Every part of the file that changes which tokens come out is either understood or refused by name. */
#include <stdlib.h>
#include <string.h>

#include "vocabulary.h"

/* A large vocabulary's file has 10 to 40 MB. */
enum { FILE_LIMIT = 256 << 20 };

/* GPT-2's: contractions, letters, digits, others, each with a space before; spaces. */
static const char GPT2_PATTERN[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

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
static int spell(const int16_t *alphabet, const char *word, struct vcl_piece *piece)
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

static enum vcl_status load_words(struct vcl_tokenizer *t, struct vcl_error *error)
{
    int16_t alphabet[2048];
    const char *word;
    json_t *value;
    make_alphabet(alphabet);
    json_object_foreach(t->words, word, value)
    {
        const enum vcl_status status = check_number(t, word, value, error);
        if (status != VCL_OK)
            return status;
        if (!spell(alphabet, word, &t->pieces[json_integer_value(value)]))
            return vcl_fault_memory(error);
    }
    for (unsigned b = 0; b < 256; b++) {
        write_letter(letter_of(b), t->letters[b]);
        value = json_object_get(t->words, t->letters[b]);
        if (!value)
            return vcl_fault(error, VCL_E_FORMAT, "%s: model.vocab has no token for the byte 0x%02X", t->file,
                             b);
        t->bytes[b] = (uint32_t)json_integer_value(value);
    }
    return VCL_OK;
}

/* "left right" or ["left", "right"]; 0 where it is neither, or one of the three tokens is missing. */
static int find_merge(const struct vcl_tokenizer *t, const json_t *item, char *text, size_t room,
                      uint32_t tokens[3])
{
    const char *both = json_string_value(item), *space = both ? strchr(both, ' ') : NULL;
    const char *left = both ? both : json_string_value(json_array_get(item, 0));
    const char *right = space ? space + 1 : json_string_value(json_array_get(item, 1));
    if (!left || !right || (json_is_array(item) && json_array_size(item) != 2))
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
    static const char *const refused[] = { "dropout", "byte_fallback", "fuse_unk" };
    static const char *const affixes[] = { "continuing_subword_prefix", "end_of_word_suffix" };
    struct vcl_fields fields = fields_of(t, model, "model.", error);
    const char *type = vcl_field_text(&fields, "type", "BPE");
    if (type && strcmp(type, "BPE"))
        vcl_field_refuse(&fields, "type");
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        vcl_field_refuse(&fields, refused[i]);
    for (size_t i = 0; i < sizeof affixes / sizeof *affixes; i++) {
        const char *affix = vcl_field_text(&fields, affixes[i], "");
        if (affix && *affix)
            vcl_field_refuse(&fields, affixes[i]);
    }
    t->whole_words = vcl_field_flag(&fields, "ignore_merges", 0);
    t->words = vcl_field(&fields, "vocab");
    if (!json_is_object(t->words))
        vcl_field_fault(&fields, "vocab", "is no object");
    if (fields.status == VCL_OK)
        fields.status = load_words(t, error);
    return fields.status == VCL_OK ? load_merges(t, vcl_field(&fields, "merges"), error) : fields.status;
}

/* ---- added tokens ---------------------------------------------------------------------------- */

static enum vcl_status load_added_token(struct vcl_tokenizer *t, json_t *item, struct vcl_error *error)
{
    static const char *const refused[] = { "lstrip", "rstrip", "single_word" };
    struct vcl_fields fields = fields_of(t, item, "added_tokens.", error);
    const char *content = vcl_field_text(&fields, "content", NULL);
    const size_t number = vcl_field_size(&fields, "id", 0, t->vocab - 1, SIZE_MAX);
    const int special = vcl_field_flag(&fields, "special", 0);
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        vcl_field_refuse(&fields, refused[i]);
    if (number == SIZE_MAX)
        vcl_field_fault(&fields, "id", "is missing");
    if (content && !*content)
        vcl_field_fault(&fields, "content", "is empty");
    if (fields.status != VCL_OK)
        return fields.status;
    free(t->pieces[number].bytes); /* it may be a word as well */
    t->pieces[number] = (struct vcl_piece){ strdup(content), strlen(content), 1 + special };
    return t->pieces[number].bytes ? VCL_OK : vcl_fault_memory(error);
}

/* Lists them by first byte, so that most positions of a text try none. */
static int list_added(struct vcl_tokenizer *t)
{
    size_t count = 0, at[256];
    for (size_t i = 0; i < t->vocab; i++)
        if (t->pieces[i].added) {
            t->first[(unsigned char)*t->pieces[i].bytes + 1]++;
            count++;
        }
    t->added = calloc(count + 1, sizeof *t->added);
    for (unsigned b = 0; b < 256; b++) {
        at[b] = t->first[b];
        t->first[b + 1] += t->first[b];
    }
    for (size_t i = 0; i < t->vocab && t->added; i++)
        if (t->pieces[i].added)
            t->added[at[(unsigned char)*t->pieces[i].bytes]++] = (uint32_t)i;
    return t->added != NULL;
}

static enum vcl_status load_added(struct vcl_tokenizer *t, const json_t *list, struct vcl_error *error)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        const enum vcl_status status = load_added_token(t, item, error);
        if (status != VCL_OK)
            return status;
    }
    return list_added(t) ? VCL_OK : vcl_fault_memory(error);
}

/* ---- splitting ------------------------------------------------------------------------------- */

static enum vcl_status add_pattern(struct vcl_tokenizer *t, const char *pattern, struct vcl_error *error)
{
    char where[4200];
    snprintf(where, sizeof where, "%s: field 'pre_tokenizer'", t->file);
    return vcl_split_add(&t->split, pattern, where, error);
}

static enum vcl_status load_split(struct vcl_tokenizer *t, struct vcl_fields *fields)
{
    struct vcl_fields pattern = *fields;
    const char *behavior = vcl_field_text(fields, "behavior", NULL);
    vcl_field_refuse(fields, "invert");
    if (behavior && strcmp(behavior, "Isolated"))
        vcl_field_refuse(fields, "behavior");
    pattern.object = vcl_field(fields, "pattern");
    pattern.prefix = "pre_tokenizer.pattern.";
    const char *regex = fields->status == VCL_OK ? vcl_field_text(&pattern, "Regex", NULL) : NULL;
    if (fields->status == VCL_OK)
        fields->status = pattern.status;
    return fields->status == VCL_OK ? add_pattern(t, regex, fields->error) : fields->status;
}

static enum vcl_status load_pre_tokenizer(struct vcl_tokenizer *t, json_t *object, struct vcl_error *error)
{
    struct vcl_fields fields = fields_of(t, object, "pre_tokenizer.", error);
    const char *type = vcl_field_text(&fields, "type", NULL);
    if (!type)
        return fields.status;
    if (strcmp(type, "Split") == 0)
        return load_split(t, &fields);
    if (strcmp(type, "Digits") == 0)
        return add_pattern(t, vcl_field_flag(&fields, "individual_digits", 0) ? "\\p{N}" : "\\p{N}+", error);
    if (strcmp(type, "ByteLevel")) {
        vcl_field_refuse(&fields, "type");
        return fields.status;
    }
    t->prefix_space |= vcl_field_flag(&fields, "add_prefix_space", 0);
    const int regex = vcl_field_flag(&fields, "use_regex", 1);
    return fields.status == VCL_OK && regex ? add_pattern(t, GPT2_PATTERN, error) : fields.status;
}

/* One pre-tokenizer, or a Sequence of them. */
static enum vcl_status load_pre_tokenizers(struct vcl_tokenizer *t, json_t *object, struct vcl_error *error)
{
    const char *type = json_string_value(json_object_get(object, "type"));
    json_t *item, *list = json_object_get(object, "pretokenizers");
    enum vcl_status status = VCL_OK;
    size_t i;
    if (!json_is_object(object))
        return fail(t, error, "field 'pre_tokenizer' is missing: only byte-level BPE is supported");
    if (!type || strcmp(type, "Sequence"))
        return load_pre_tokenizer(t, object, error);
    if (json_array_size(list) > 16)
        return fail(t, error, "field 'pre_tokenizer' has more than 16 steps");
    json_array_foreach(list, i, item) if (status == VCL_OK) status = load_pre_tokenizer(t, item, error);
    return status;
}

/* ---- what is put around a text --------------------------------------------------------------- */

static size_t find_special(const struct vcl_tokenizer *t, const char *name)
{
    for (size_t i = 0; name && i < t->vocab; i++)
        if (t->pieces[i].added && strcmp(t->pieces[i].bytes, name) == 0)
            return i;
    return SIZE_MAX;
}

static enum vcl_status load_template(struct vcl_tokenizer *t, struct vcl_fields *fields)
{
    size_t i;
    const json_t *item, *single = vcl_field(fields, "single");
    int seen = 0;
    json_array_foreach(single, i, item)
    {
        const json_t *special = json_object_get(item, "SpecialToken");
        const size_t number = find_special(t, json_string_value(json_object_get(special, "id")));
        size_t *count = seen ? &t->after_count : &t->before_count;
        if (!special)
            seen = 1;
        else if (number == SIZE_MAX || *count == VCL_MOST_AFFIX)
            vcl_field_fault(fields, "single", "names a token that is not added, or more than 8");
        else
            (seen ? t->after : t->before)[(*count)++] = (uint32_t)number;
    }
    return fields->status;
}

static enum vcl_status load_post_processor(struct vcl_tokenizer *t, json_t *object, int depth,
                                           struct vcl_error *error)
{
    struct vcl_fields fields = fields_of(t, object, "post_processor.", error);
    enum vcl_status status = VCL_OK;
    json_t *item;
    size_t i;
    if (!object || json_is_null(object))
        return VCL_OK;
    const char *type = vcl_field_text(&fields, "type", NULL);
    if (type && strcmp(type, "TemplateProcessing") == 0)
        return load_template(t, &fields);
    if (type && strcmp(type, "Sequence") == 0 && depth == 0) {
        json_array_foreach(json_object_get(object, "processors"), i, item) if (status == VCL_OK) status =
            load_post_processor(t, item, depth + 1, error);
        return status;
    }
    if (type && strcmp(type, "ByteLevel")) /* which only moves offsets */
        vcl_field_refuse(&fields, "type");
    return fields.status;
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
    vcl_field_refuse(&fields, "normalizer");
    vcl_field_refuse(&fields, "truncation");
    status = fields.status;
    if (status == VCL_OK)
        status = load_pre_tokenizers(t, vcl_field(&fields, "pre_tokenizer"), error);
    if (status == VCL_OK)
        status = load_model(t, vcl_field(&fields, "model"), error);
    if (status == VCL_OK)
        status = load_added(t, vcl_field(&fields, "added_tokens"), error);
    return status == VCL_OK ? load_post_processor(t, vcl_field(&fields, "post_processor"), 0, error) : status;
}
