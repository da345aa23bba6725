/* pipeline.c - normalizer, pre_tokenizer, decoder and post_processor of tokenizer.json.
 *
 * Each is one step or a Sequence of them; a step has a type and fields of its own. */
#include <string.h>

#include "pipeline.h"

enum { MOST_STEPS = 16 };

/* GPT-2's: contractions, letters, digits, others, each with a space before; spaces. */
static const char GPT2_PATTERN[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

/* A part of the file: its name, what a Sequence of it calls its list, and what reads a step. */
struct step_part {
    const char *name, *prefix, *list;
    void (*load)(struct vcl_tokenizer *t, struct vcl_fields *step, const char *type);
};

static enum vcl_status load_step(struct vcl_tokenizer *t, const struct step_part *part, json_t *object,
                                 struct vcl_error *error)
{
    struct vcl_fields step = { object, t->file, part->prefix, error, VCL_OK };
    const char *type = vcl_field_text(&step, "type", NULL);
    if (type)
        part->load(t, &step, type);
    return step.status;
}

/* Nothing where the part is absent. */
static enum vcl_status load_part(struct vcl_tokenizer *t, const struct step_part *part,
                                 struct vcl_error *error)
{
    json_t *object = json_object_get(t->root, part->name), *item;
    const json_t *list = json_object_get(object, part->list);
    const char *type = json_string_value(json_object_get(object, "type"));
    struct vcl_fields fields = { object, t->file, part->prefix, error, VCL_OK };
    size_t i;
    if (!object || json_is_null(object))
        return VCL_OK;
    if (!type || strcmp(type, "Sequence"))
        return load_step(t, part, object, error);
    if (!json_is_array(list) || json_array_size(list) > MOST_STEPS)
        vcl_field_fault(&fields, part->list, "is no list of at most 16 steps");
    json_array_foreach(list, i, item) if (fields.status == VCL_OK) fields.status =
        load_step(t, part, item, error);
    return fields.status;
}

static void refuse(struct vcl_fields *step) { vcl_field_refuse(step, "type"); }

/* ---- steps that rewrite ---------------------------------------------------------------------- */

static void add_rewrite(struct vcl_fields *step, struct vcl_rewrites *rewrites, enum vcl_rewrite_kind kind,
                        const char *from, const char *to)
{
    if (step->status != VCL_OK)
        return;
    if (strlen(from) > VCL_LONGEST_REWRITE || strlen(to) > VCL_LONGEST_REWRITE)
        vcl_field_fault(step, "type", "has a text of more than 64 bytes, which is not supported");
    else if (rewrites->count == VCL_MOST_REWRITES)
        vcl_field_fault(step, "type", "comes after 8 others, which is not supported");
    else {
        struct vcl_rewrite *rewrite = &rewrites->steps[rewrites->count++];
        rewrite->kind = kind;
        strcpy(rewrite->from, from);
        strcpy(rewrite->to, to);
    }
}

/* Replace: a text, which is no regular expression, by another. */
static void add_replacement(struct vcl_fields *step, struct vcl_rewrites *rewrites)
{
    json_t *pattern = vcl_field(step, "pattern");
    const char *from = json_string_value(json_object_get(pattern, "String"));
    const char *to = vcl_field_text(step, "content", NULL);
    if (!from)
        vcl_field_refuse(step, "pattern");
    if (!from || !*from)
        vcl_field_fault(step, "pattern", "is no text to replace");
    add_rewrite(step, rewrites, VCL_REPLACE, from, to);
}

/* A normal form of Unicode, by name. */
static void add_form(struct vcl_fields *step, struct vcl_rewrites *rewrites, enum vcl_form form)
{
    char where[4200];
    snprintf(where, sizeof where, "%s: field 'normalizer'", step->file);
    if (step->status == VCL_OK)
        step->status = vcl_normal_check(where, step->error);
    add_rewrite(step, rewrites, VCL_NORMALIZE, "", "");
    if (step->status == VCL_OK)
        rewrites->steps[rewrites->count - 1].form = form;
}

static void load_normalizer(struct vcl_tokenizer *t, struct vcl_fields *step, const char *type)
{
    const enum vcl_form form = vcl_normal_form(type);
    if (form != VCL_FORMS)
        add_form(step, &t->normalizer, form);
    else if (strcmp(type, "Replace") == 0)
        add_replacement(step, &t->normalizer);
    else if (strcmp(type, "Prepend") == 0)
        add_rewrite(step, &t->normalizer, VCL_PREPEND, "", vcl_field_text(step, "prepend", NULL));
    else
        refuse(step);
}

enum vcl_status vcl_pipeline_normalizer(struct vcl_tokenizer *t, struct vcl_error *error)
{
    static const struct step_part part = { "normalizer", "normalizer.", "normalizers", load_normalizer };
    return load_part(t, &part, error);
}

/* ---- splitting ------------------------------------------------------------------------------- */

static void add_pattern(struct vcl_tokenizer *t, struct vcl_fields *step, const char *pattern)
{
    char where[4200];
    snprintf(where, sizeof where, "%s: field 'pre_tokenizer'", t->file);
    if (step->status == VCL_OK)
        step->status = vcl_split_add(&t->split, pattern, where, step->error);
}

static void load_split(struct vcl_tokenizer *t, struct vcl_fields *step)
{
    struct vcl_fields pattern = *step;
    const char *behavior = vcl_field_text(step, "behavior", NULL);
    vcl_field_refuse(step, "invert");
    if (behavior && strcmp(behavior, "Isolated"))
        vcl_field_refuse(step, "behavior");
    pattern.object = vcl_field(step, "pattern");
    pattern.prefix = "pre_tokenizer.pattern.";
    const char *regex = step->status == VCL_OK ? vcl_field_text(&pattern, "Regex", NULL) : NULL;
    if (step->status == VCL_OK)
        step->status = pattern.status;
    add_pattern(t, step, regex);
}

/* A prefix is put before what lies between added tokens: where another step has cut it, it is too late. */
static void add_prefix(struct vcl_tokenizer *t, struct vcl_fields *step, enum vcl_rewrite_kind kind,
                       const char *prefix)
{
    if (t->split || t->prefix.count)
        vcl_field_fault(step, "type", "puts a prefix behind another step, which is not supported");
    add_rewrite(step, &t->prefix, kind, "", prefix);
}

static void load_byte_level(struct vcl_tokenizer *t, struct vcl_fields *step)
{
    if (vcl_field_flag(step, "add_prefix_space", 0))
        add_prefix(t, step, VCL_PREFIX, " ");
    if (vcl_field_flag(step, "use_regex", 1))
        add_pattern(t, step, GPT2_PATTERN);
    t->bytes_only = 1;
}

/* The code point of a text of one character; 0: it has none or more. */
static unsigned only_character(const char *text)
{
    const unsigned char *c = (const unsigned char *)text;
    const size_t n = strlen(text), length = *c < 0x80 ? 1 : *c < 0xE0 ? 2 : *c < 0xF0 ? 3 : 4;
    unsigned code = length == 1 ? *c : *c & (0x7Fu >> length);
    if (n != length)
        return 0;
    for (size_t i = 1; i < length; i++)
        code = code << 6 | (c[i] & 63u);
    return code;
}

/* "always", "first" or "never"; older files say add_prefix_space. */
static const char *read_scheme(struct vcl_fields *step)
{
    const int prefix = vcl_field_flag(step, "add_prefix_space", 1);
    const char *scheme = vcl_field_text(step, "prepend_scheme", "always");
    return prefix ? scheme : "never";
}

/* Spaces become a letter, which also begins the text; words begin with it. */
static void load_metaspace(struct vcl_tokenizer *t, struct vcl_fields *step)
{
    char pattern[64];
    const char *letter = vcl_field_text(step, "replacement", NULL), *scheme = read_scheme(step);
    const int cut = vcl_field_flag(step, "split", 1);
    const unsigned code = letter ? only_character(letter) : 0;
    if (step->status != VCL_OK)
        return;
    if (!code)
        vcl_field_fault(step, "replacement", "is no single character");
    if (t->split || t->prefix.count)
        vcl_field_fault(step, "type", "is Metaspace behind another step, which is not supported");
    add_rewrite(step, &t->prefix, VCL_REPLACE, " ", letter);
    if (strcmp(scheme, "always") == 0)
        add_rewrite(step, &t->prefix, VCL_PREFIX, "", letter);
    else if (strcmp(scheme, "first") == 0 && t->normalizer.count == 0)
        add_rewrite(step, &t->prefix, VCL_PREFIX_FIRST, "", letter);
    else if (strcmp(scheme, "never"))
        vcl_field_refuse(step, "prepend_scheme");
    snprintf(pattern, sizeof pattern, "\\x{%x}[^\\x{%x}]*+", code, code);
    if (cut)
        add_pattern(t, step, pattern);
}

static void load_pre_tokenizer(struct vcl_tokenizer *t, struct vcl_fields *step, const char *type)
{
    if (t->bytes_only)
        vcl_field_fault(step, "type", "comes behind ByteLevel, which is not supported");
    else if (strcmp(type, "Split") == 0)
        load_split(t, step);
    else if (strcmp(type, "Digits") == 0)
        add_pattern(t, step, vcl_field_flag(step, "individual_digits", 0) ? "\\p{N}" : "\\p{N}+");
    else if (strcmp(type, "ByteLevel") == 0)
        load_byte_level(t, step);
    else if (strcmp(type, "Metaspace") == 0)
        load_metaspace(t, step);
    else
        refuse(step);
}

enum vcl_status vcl_pipeline_pre_tokenizer(struct vcl_tokenizer *t, struct vcl_error *error)
{
    static const struct step_part part = { "pre_tokenizer", "pre_tokenizer.", "pretokenizers",
                                           load_pre_tokenizer };
    return load_part(t, &part, error);
}

/* ---- printing -------------------------------------------------------------------------------- */

/* Fuse joins all tokens.  What is stripped after that are the ends of the whole text, which a text that is
 * continued does not have. */
static void load_decoder(struct vcl_tokenizer *t, struct vcl_fields *step, const char *type)
{
    if (strcmp(type, "Replace") == 0 && !t->byte_pieces && !t->fused)
        add_replacement(step, &t->decoder);
    else if (strcmp(type, "Metaspace") == 0 && !t->byte_pieces && !t->fused)
        add_rewrite(step, &t->decoder, VCL_REPLACE, vcl_field_text(step, "replacement", NULL), " ");
    else if (strcmp(type, "ByteFallback") == 0 && !t->fused)
        t->byte_pieces = 1;
    else if (strcmp(type, "Fuse") == 0)
        t->fused = 1;
    else if (strcmp(type, "Strip") || !t->fused)
        refuse(step);
}

/* Tokens made of bytes need none. */
enum vcl_status vcl_pipeline_decoder(struct vcl_tokenizer *t, struct vcl_error *error)
{
    static const struct step_part part = { "decoder", "decoder.", "decoders", load_decoder };
    struct vcl_fields fields = { t->root, t->file, "", error, VCL_OK };
    if (t->bytes_only)
        return VCL_OK;
    if (!vcl_field(&fields, part.name))
        vcl_field_fault(&fields, part.name, "is missing");
    return fields.status == VCL_OK ? load_part(t, &part, error) : fields.status;
}

/* ---- what is put around a text --------------------------------------------------------------- */

static size_t find_special(const struct vcl_tokenizer *t, const char *name)
{
    for (size_t i = 0; name && i < t->vocab; i++)
        if (t->pieces[i].added && strcmp(t->pieces[i].bytes, name) == 0)
            return i;
    return SIZE_MAX;
}

static void load_template(struct vcl_tokenizer *t, struct vcl_fields *step)
{
    size_t i;
    const json_t *item, *single = vcl_field(step, "single");
    int seen = 0;
    json_array_foreach(single, i, item)
    {
        const json_t *special = json_object_get(item, "SpecialToken");
        const size_t number = find_special(t, json_string_value(json_object_get(special, "id")));
        size_t *count = seen ? &t->after_count : &t->before_count;
        if (!special)
            seen = 1;
        else if (number == SIZE_MAX || *count == VCL_MOST_AFFIX)
            vcl_field_fault(step, "single", "names a token that is not added, or more than 8");
        else
            (seen ? t->after : t->before)[(*count)++] = (uint32_t)number;
    }
}

static void load_post_processor(struct vcl_tokenizer *t, struct vcl_fields *step, const char *type)
{
    if (strcmp(type, "TemplateProcessing") == 0)
        load_template(t, step);
    else if (strcmp(type, "ByteLevel")) /* which only moves offsets */
        refuse(step);
}

enum vcl_status vcl_pipeline_post_processor(struct vcl_tokenizer *t, struct vcl_error *error)
{
    static const struct step_part part = { "post_processor", "post_processor.", "processors",
                                           load_post_processor };
    return load_part(t, &part, error);
}
