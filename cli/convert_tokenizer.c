/* convert_tokenizer.c - tokenizer.json and tokenizer_config.json from the metadata of a GGUF file.
 *
 * In: tokenizer.ggml.*: tokens with their kinds; of a BPE of bytes ("gpt2") its merges and the name of what
 * splits a text into words, which GGUF knows by name alone; of SentencePiece's ("llama") scores.  The
 * expressions behind the names are those of the tokenizer.json files that convert_hf_to_gguf.py of llama.cpp
 * gives these names to.  A SentencePiece model says only how good a token is: as transformers does, every two
 * tokens that make a third become a merge, those of better tokens first. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "convert.h"

/* Kinds of tokens, as in sentencepiece_model.proto; llama.cpp adds the first. */
enum { UNDEFINED, NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE };

enum { LONGEST_PIECE = 1024 }; /* of SentencePiece, where every place to cut it is tried */

#define SPACE "\xE2\x96\x81"

struct tokens {
    struct vcl_convert *job;
    struct vcl_metadata *m;
    size_t count;
    char **texts;
    int64_t *kinds;
    double *scores;
    json_t *words; /* text to number */
};

static void free_tokens(struct tokens *t)
{
    for (size_t i = 0; t->texts && i < t->count; i++)
        free(t->texts[i]);
    free(t->texts);
    free(t->kinds);
    free(t->scores);
    json_decref(t->words);
}

/* ---- lists ----------------------------------------------------------------------------------- */

static void read_texts(struct tokens *t)
{
    struct vcl_value value;
    struct vcl_item item;
    t->count = vcl_metadata_list(t->m, "tokenizer.ggml.tokens", VCL_ITEM_TEXT, 1, &value);
    t->texts = vcl_zeros(t->count + 1, sizeof *t->texts);
    for (size_t i = 0; i < t->count && vcl_value_next(&value, &item); i++) {
        json_t *text = memchr(item.text, 0, item.length) ? NULL : json_stringn(item.text, item.length);
        if (!text)
            vcl_metadata_fault(
                t->m, "the key 'tokenizer.ggml.tokens': token %zu is not UTF-8, or has a NUL inside", i);
        t->texts[i] = vcl_text("%s", text ? json_string_value(text) : "");
        json_decref(text);
    }
}

/* A list with an item for each token; 0: it is not there. */
static int read_beside(struct tokens *t, const char *key, enum vcl_item_kind kind, int needed,
                       struct vcl_value *value)
{
    const size_t n = vcl_metadata_list(t->m, key, kind, needed, value);
    if (n != 0 && n != t->count)
        vcl_metadata_fault(t->m, "the key '%s' has the length %zu; 'tokenizer.ggml.tokens' has %zu", key, n,
                           t->count);
    return !t->m->code && n == t->count;
}

static void read_kinds(struct tokens *t)
{
    static const char key[] = "tokenizer.ggml.token_type";
    struct vcl_value value;
    struct vcl_item item;
    const int there = read_beside(t, key, VCL_ITEM_INTEGER, 0, &value);
    t->kinds = vcl_zeros(t->count + 1, sizeof *t->kinds);
    for (size_t i = 0; i < t->count; i++) {
        t->kinds[i] = there && vcl_value_next(&value, &item) ? item.integer : NORMAL;
        if (t->kinds[i] < UNDEFINED || t->kinds[i] > BYTE)
            vcl_metadata_fault(t->m, "the key '%s' is %lld for token %zu, '%.100s'; it is from %d to %d", key,
                               (long long)t->kinds[i], i, t->texts[i], UNDEFINED, BYTE);
    }
}

/* All of them finite: merges are sorted by them. */
static void read_scores(struct tokens *t)
{
    static const char key[] = "tokenizer.ggml.scores";
    struct vcl_value value;
    struct vcl_item item;
    const int there = read_beside(t, key, VCL_ITEM_REAL, 1, &value);
    t->scores = vcl_zeros(t->count + 1, sizeof *t->scores);
    for (size_t i = 0; there && i < t->count && vcl_value_next(&value, &item); i++) {
        t->scores[i] = item.real;
        if (!isfinite(item.real))
            vcl_metadata_fault(t->m, "the key '%s' is %g for token %zu, '%.100s'; it is a finite number", key,
                               item.real, i, t->texts[i]);
    }
}

/* Places in the vocabulary that nothing uses are left out. */
static void make_words(struct tokens *t)
{
    t->words = json_object();
    for (size_t i = 0; i < t->count && !t->m->code; i++) {
        if (t->kinds[i] == UNUSED)
            continue;
        const json_t *first = json_object_get(t->words, t->texts[i]);
        if (first)
            vcl_metadata_fault(t->m, "the key 'tokenizer.ggml.tokens' has '%.100s' twice, as %lld and %zu",
                               t->texts[i], (long long)json_integer_value(first), i);
        vcl_json_set(t->words, t->texts[i], json_integer((json_int_t)i));
    }
}

static json_t *list_added(const struct tokens *t)
{
    json_t *list = json_array();
    for (size_t i = 0; i < t->count; i++) {
        const int special = t->kinds[i] == CONTROL || t->kinds[i] == UNKNOWN;
        if (!special && t->kinds[i] != USER_DEFINED)
            continue;
        json_t *token = json_object();
        vcl_json_set(token, "id", json_integer((json_int_t)i));
        vcl_json_set(token, "content", json_string(t->texts[i]));
        vcl_json_set(token, "single_word", json_false());
        vcl_json_set(token, "lstrip", json_false());
        vcl_json_set(token, "rstrip", json_false());
        vcl_json_set(token, "normalized", json_false());
        vcl_json_set(token, "special", json_boolean(special));
        vcl_json_append(list, token);
    }
    return list;
}

/* A token by the key of its number; NULL: there is none. */
static const char *token_of(const struct tokens *t, const char *key)
{
    const int64_t none = (int64_t)t->count;
    const int64_t number = vcl_metadata_integer(t->m, key, 0, none - 1, none);
    if (number < none && t->kinds[number] == UNUSED)
        vcl_metadata_fault(t->m,
                           "the key '%s' is %lld, which is an unused token by 'tokenizer.ggml.token_type'",
                           key, (long long)number);
    return number < none && !t->m->code ? t->texts[number] : NULL;
}

/* ---- parts ----------------------------------------------------------------------------------- */

static json_t *part(const char *type)
{
    json_t *object = json_object();
    vcl_json_set(object, "type", json_string(type));
    return object;
}

/* The steps after one another; free where there is none. */
static json_t *sequence(const char *name, json_t *steps)
{
    json_t *object = part("Sequence");
    vcl_json_set(object, name, steps);
    return object;
}

static json_t *byte_level(int use_regex)
{
    json_t *object = part("ByteLevel");
    vcl_json_set(object, "add_prefix_space", json_false());
    vcl_json_set(object, "trim_offsets", json_true());
    vcl_json_set(object, "use_regex", json_boolean(use_regex));
    return object;
}

static json_t *replace(const char *from, const char *to)
{
    json_t *object = part("Replace"), *pattern = json_object();
    vcl_json_set(pattern, "String", json_string(from));
    vcl_json_set(object, "pattern", pattern);
    vcl_json_set(object, "content", json_string(to));
    return object;
}

static json_t *special(const char *token)
{
    json_t *object = json_object(), *inside = json_object();
    vcl_json_set(inside, "id", json_string(token));
    vcl_json_set(inside, "type_id", json_integer(0));
    vcl_json_set(object, "SpecialToken", inside);
    return object;
}

static json_t *text_itself(const char *name, int type)
{
    json_t *object = json_object(), *inside = json_object();
    vcl_json_set(inside, "id", json_string(name));
    vcl_json_set(inside, "type_id", json_integer(type));
    vcl_json_set(object, "Sequence", inside);
    return object;
}

static json_t *special_tokens(const struct tokens *t, const char *const names[2])
{
    json_t *object = json_object();
    for (size_t i = 0; i < 2; i++) {
        if (!names[i])
            continue;
        json_t *token = json_object(), *ids = json_array(), *texts = json_array();
        vcl_json_append(ids, json_incref(json_object_get(t->words, names[i])));
        vcl_json_append(texts, json_string(names[i]));
        vcl_json_set(token, "id", json_string(names[i]));
        vcl_json_set(token, "ids", ids);
        vcl_json_set(token, "tokens", texts);
        vcl_json_set(object, names[i], token);
    }
    return object;
}

/* The token that is put before or behind every text, NULL where none is.  It is special, whatever its kind
 * says: files older than the kinds have all tokens normal. */
static const char *token_around(struct tokens *t, const char *flag, int absent, const char *key)
{
    const char *text = vcl_metadata_flag(t->m, flag, absent) ? token_of(t, key) : NULL;
    if (text)
        t->kinds[json_integer_value(json_object_get(t->words, text))] = CONTROL;
    return text;
}

/* What is put around every text: the token that begins one, that which ends one, or neither. */
static json_t *post_processor(struct tokens *t, int begins)
{
    const char *before =
        token_around(t, "tokenizer.ggml.add_bos_token", begins, "tokenizer.ggml.bos_token_id");
    const char *after = token_around(t, "tokenizer.ggml.add_eos_token", 0, "tokenizer.ggml.eos_token_id");
    if (!before && !after)
        return NULL;
    json_t *object = part("TemplateProcessing"), *single = json_array(), *pair = json_array();
    for (int k = 0; k < 3; k++) {
        json_t *list = k ? pair : single;
        if (before)
            vcl_json_append(list, special(before));
        vcl_json_append(list, text_itself(k == 2 ? "B" : "A", k == 2));
        if (after)
            vcl_json_append(list, special(after));
    }
    vcl_json_set(object, "single", single);
    vcl_json_set(object, "pair", pair);
    vcl_json_set(object, "special_tokens", special_tokens(t, (const char *const[]){ before, after }));
    return object;
}

static json_t *bpe(const struct tokens *t, const char *unknown, json_t *merges)
{
    json_t *model = part("BPE");
    vcl_json_set(model, "dropout", json_null());
    vcl_json_set(model, "unk_token", unknown ? json_string(unknown) : json_null());
    vcl_json_set(model, "continuing_subword_prefix", json_null());
    vcl_json_set(model, "end_of_word_suffix", json_null());
    vcl_json_set(model, "fuse_unk", json_false());
    vcl_json_set(model, "byte_fallback", json_false());
    vcl_json_set(model, "ignore_merges", json_false());
    vcl_json_set(model, "vocab", json_incref(t->words));
    vcl_json_set(model, "merges", merges);
    return model;
}

/* ---- of bytes: "gpt2" ------------------------------------------------------------------------ */

/* How a text is split; all before ByteLevel. */
struct splitting {
    const char *name, *regex; /* NULL: GPT-2's own */
    int digits, nfc, ignore_merges,
        begins; /* each digit alone first; ...; whether texts begin with a token */
};

static const char LLAMA3[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| "
                             "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
static const char QWEN2[] = "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| "
                            "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

static const struct splitting *find_splitting(struct tokens *t)
{
    static const struct splitting all[] = { { .name = "gpt-2" },
                                            { .name = "smollm", .digits = 1 },
                                            { "llama-bpe", LLAMA3, 0, 0, 1, 1 },
                                            { "qwen2", QWEN2, 0, 1, 0, 0 } };
    const char *name = vcl_metadata_text(t->m, "tokenizer.ggml.pre");
    if (!name && strcmp(t->m->architecture, "gpt2") == 0) /* files older than the key */
        name = "gpt-2";
    for (size_t i = 0; name && i < sizeof all / sizeof *all; i++)
        if (strcmp(all[i].name, name) == 0)
            return &all[i];
    vcl_metadata_fault(
        t->m, "the key 'tokenizer.ggml.pre' is %.60s; gpt-2, smollm, llama-bpe and qwen2 are supported",
        name ? vcl_metadata_words(t->m, "tokenizer.ggml.pre") : "missing");
    return NULL;
}

static json_t *pre_tokenizer(const struct splitting *splitting)
{
    json_t *steps = json_array(), *step, *pattern;
    if (splitting->digits) {
        step = part("Digits");
        vcl_json_set(step, "individual_digits", json_true());
        vcl_json_append(steps, step);
    }
    if (splitting->regex) {
        step = part("Split");
        pattern = json_object();
        vcl_json_set(pattern, "Regex", json_string(splitting->regex));
        vcl_json_set(step, "pattern", pattern);
        vcl_json_set(step, "behavior", json_string("Isolated"));
        vcl_json_set(step, "invert", json_false());
        vcl_json_append(steps, step);
    }
    vcl_json_append(steps, byte_level(!splitting->regex));
    return sequence("pretokenizers", steps);
}

/* "left right", of two tokens that are one together. */
static int is_merge(const struct tokens *t, const char *merge)
{
    const char *space = strchr(merge, ' ');
    if (!space || strchr(space + 1, ' '))
        return 0;
    char *left = vcl_text("%.*s", (int)(space - merge), merge), *both = vcl_text("%s%s", left, space + 1);
    const int known = json_object_get(t->words, left) && json_object_get(t->words, space + 1)
                   && json_object_get(t->words, both);
    free(left);
    free(both);
    return known;
}

/* As GGUF and older tokenizer.json files have them. */
static json_t *read_merges(struct tokens *t)
{
    struct vcl_value value;
    struct vcl_item item;
    json_t *merges = json_array();
    vcl_metadata_list(t->m, "tokenizer.ggml.merges", VCL_ITEM_TEXT, 1, &value);
    for (size_t i = 0; !t->m->code && vcl_value_next(&value, &item); i++) {
        json_t *merge = memchr(item.text, 0, item.length) ? NULL : json_stringn(item.text, item.length);
        if (merge && is_merge(t, json_string_value(merge)))
            vcl_json_append(merges, json_incref(merge));
        else
            vcl_metadata_fault(
                t->m,
                "the key 'tokenizer.ggml.merges': number %zu, '%.100s', is not two tokens with a "
                "space between them that are one together",
                i, merge ? json_string_value(merge) : "not UTF-8");
        json_decref(merge);
    }
    return merges;
}

static json_t *make_bytes(struct tokens *t)
{
    json_t *root = json_object();
    const struct splitting *splitting = find_splitting(t);
    if (!splitting)
        return root;
    json_t *model = bpe(t, NULL, read_merges(t)), *added = post_processor(t, splitting->begins);
    vcl_json_set(model, "ignore_merges", json_boolean(splitting->ignore_merges));
    vcl_json_set(root, "normalizer", splitting->nfc ? part("NFC") : json_null());
    vcl_json_set(root, "pre_tokenizer", pre_tokenizer(splitting));
    vcl_json_set(root, "post_processor", added ? added : byte_level(1));
    vcl_json_set(root, "decoder", byte_level(1));
    vcl_json_set(root, "model", model);
    return root;
}

/* ---- SentencePiece's: "llama" ---------------------------------------------------------------- */

struct scored_merge {
    double score;       /* of what it makes */
    size_t token, left; /* its number, bytes of the left part */
};

/* Better tokens first; of one token, and of equal ones, the longer left part. */
static int compare_merges(const void *a, const void *b)
{
    const struct scored_merge *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    if (x->token != y->token)
        return x->token < y->token ? -1 : 1;
    return x->left > y->left ? -1 : x->left < y->left;
}

struct scored_merges {
    struct scored_merge *items;
    size_t count, room;
};

static void add_merge(struct scored_merges *list, double score, size_t token, size_t left)
{
    if (list->count == list->room) {
        const size_t room = 2 * list->room + 1024;
        struct scored_merge *grown = vcl_zeros(room, sizeof *grown);
        if (list->count)
            memcpy(grown, list->items, list->count * sizeof *grown);
        free(list->items);
        list->items = grown;
        list->room = room;
    }
    list->items[list->count++] = (struct scored_merge){ score, token, left };
}

/* Every place between two characters where both parts are tokens. */
static void cut_token(struct tokens *t, size_t token, struct scored_merges *list)
{
    const char *text = t->texts[token];
    const size_t n = strlen(text);
    char left[LONGEST_PIECE + 1];
    if (n > LONGEST_PIECE) {
        vcl_metadata_fault(t->m, "the key 'tokenizer.ggml.tokens': token %zu has %zu bytes; the most is %d",
                           token, n, LONGEST_PIECE);
        return;
    }
    for (size_t i = 1; i < n; i++) {
        if ((text[i] & 0xC0) == 0x80 || !json_object_get(t->words, text + i))
            continue;
        memcpy(left, text, i);
        left[i] = '\0';
        if (json_object_get(t->words, left))
            add_merge(list, t->scores[token], token, i);
    }
}

static json_t *make_merges(struct tokens *t)
{
    json_t *merges = json_array();
    struct scored_merges list = { 0 };
    for (size_t i = 0; i < t->count && !t->m->code; i++)
        if (t->kinds[i] == NORMAL)
            cut_token(t, i, &list);
    if (list.count)
        qsort(list.items, list.count, sizeof *list.items, compare_merges);
    for (size_t i = 0; i < list.count; i++) {
        const char *text = t->texts[list.items[i].token];
        json_t *pair = json_array();
        vcl_json_append(pair, json_stringn(text, list.items[i].left));
        vcl_json_append(pair, json_string(text + list.items[i].left));
        vcl_json_append(merges, pair);
    }
    free(list.items);
    return merges;
}

static json_t *piece_normalizer(int prefix)
{
    json_t *steps = json_array(), *prepend = part("Prepend");
    vcl_json_set(prepend, "prepend", json_string(SPACE));
    if (prefix)
        vcl_json_append(steps, json_incref(prepend));
    json_decref(prepend);
    vcl_json_append(steps, replace(" ", SPACE));
    return sequence("normalizers", steps);
}

static json_t *piece_decoder(int prefix)
{
    json_t *steps = json_array();
    vcl_json_append(steps, replace(SPACE, " "));
    vcl_json_append(steps, part("ByteFallback"));
    vcl_json_append(steps, part("Fuse"));
    if (prefix) {
        json_t *strip = part("Strip");
        vcl_json_set(strip, "content", json_string(" "));
        vcl_json_set(strip, "start", json_integer(1));
        vcl_json_set(strip, "stop", json_integer(0));
        vcl_json_append(steps, strip);
    }
    return sequence("decoders", steps);
}

static json_t *make_pieces(struct tokens *t)
{
    const int prefix = vcl_metadata_flag(t->m, "tokenizer.ggml.add_space_prefix", 1);
    const char *unknown = NULL;
    json_t *root = json_object();
    read_scores(t);
    int bytes = 0;
    for (size_t i = 0; i < t->count; i++) {
        bytes |= t->kinds[i] == BYTE;
        unknown = t->kinds[i] == UNKNOWN && !unknown ? t->texts[i] : unknown;
    }
    json_t *model = bpe(t, unknown, make_merges(t)), *added = post_processor(t, 1);
    vcl_json_set(model, "fuse_unk", json_true());
    vcl_json_set(model, "byte_fallback", json_boolean(bytes));
    vcl_json_set(root, "normalizer", piece_normalizer(prefix));
    vcl_json_set(root, "pre_tokenizer", json_null());
    vcl_json_set(root, "post_processor", added ? added : json_null());
    vcl_json_set(root, "decoder", piece_decoder(prefix));
    vcl_json_set(root, "model", model);
    return root;
}

/* ---- both files ------------------------------------------------------------------------------ */

static json_t *make_settings(struct tokens *t)
{
    static const char *const keys[][2] = { { "tokenizer.ggml.bos_token_id", "bos_token" },
                                           { "tokenizer.ggml.eos_token_id", "eos_token" },
                                           { "tokenizer.ggml.unknown_token_id", "unk_token" },
                                           { "tokenizer.ggml.padding_token_id", "pad_token" } };
    json_t *object = json_object();
    vcl_json_set(object, "tokenizer_class", json_string("PreTrainedTokenizerFast"));
    vcl_json_set(object, "clean_up_tokenization_spaces", json_false());
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        const char *token = token_of(t, keys[i][0]);
        if (token)
            vcl_json_set(object, keys[i][1], json_string(token));
    }
    const char *chat = vcl_metadata_text(t->m, "tokenizer.chat_template");
    if (chat)
        vcl_json_set(object, "chat_template", json_string(chat));
    return object;
}

static json_t *make_tokenizer(struct tokens *t)
{
    const char *model = vcl_metadata_text(t->m, "tokenizer.ggml.model");
    if (model && strcmp(model, "gpt2") == 0)
        return make_bytes(t);
    if (model && strcmp(model, "llama") == 0)
        return make_pieces(t);
    vcl_metadata_fault(t->m, "the key 'tokenizer.ggml.model' is %.60s; gpt2 and llama are supported",
                       model ? model : "missing");
    return json_object();
}

int vcl_convert_tokenizer(struct vcl_convert *job)
{
    struct tokens t = { .job = job, .m = &job->metadata };
    read_texts(&t);
    read_kinds(&t);
    make_words(&t);
    json_t *root = make_tokenizer(&t), *settings = make_settings(&t);
    vcl_json_set(root, "version", json_string("1.0"));
    vcl_json_set(root, "truncation", json_null());
    vcl_json_set(root, "padding", json_null());
    vcl_json_set(root, "added_tokens", list_added(&t));
    vcl_json_set(job->sides, "tokenizer.json", root);
    vcl_json_set(job->sides, "tokenizer_config.json", settings);
    free_tokens(&t);
    return job->metadata.code;
}
