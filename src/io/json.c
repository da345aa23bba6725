/* json.c - reads the few shapes of JSON that model files have: objects of strings, arrays of integers.
 *
 * In: text that a stranger wrote.  Out: strings and integers one after the other, into memory that the
 * caller has bounded.  A general library builds a tree of up to 75 bytes per byte of such text, and
 * Jansson's scanner goes on with a cut token where an allocation fails; this reader allocates nothing
 * per value and nests only in what it skips. */
#include "io.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void vcl_json_fail(struct vcl_json *json, enum vcl_status status, const char *format, ...)
{
    if (json->status != VCL_OK)
        return;
    va_list list;
    va_start(list, format);
    vsnprintf(json->fault, sizeof json->fault, format, list);
    va_end(list);
    json->status = status;
}

/* The next character that is no white space, 0 at the end. */
static char next(struct vcl_json *json)
{
    while (json->at < json->length) {
        const char c = json->text[json->at];
        if (c != ' ' && c != '\n' && c != '\t' && c != '\r')
            return c;
        json->at++;
    }
    return 0;
}

static void fail_at(struct vcl_json *json, const char *wanted)
{
    if (json->at == json->length)
        vcl_json_fail(json, VCL_E_FORMAT, "the JSON ends where %s should be", wanted);
    else
        vcl_json_fail(json, VCL_E_FORMAT, "%s should be here", wanted);
}

int vcl_json_expect(struct vcl_json *json, char c)
{
    const char wanted[] = { '\'', c, '\'', 0 };
    if (json->status != VCL_OK)
        return 0;
    if (next(json) != c || json->at == json->length) {
        fail_at(json, wanted);
        return 0;
    }
    json->at++;
    return 1;
}

int vcl_json_item(struct vcl_json *json, char close, size_t index)
{
    if (json->status != VCL_OK)
        return 0;
    char c = next(json);
    if (c == close) {
        json->at++;
        return 0;
    }
    if (index == 0)
        return 1;
    if (c != ',') {
        fail_at(json, close == '}' ? "',' or '}'" : "',' or ']'");
        return 0;
    }
    json->at++;
    if (next(json) != close)
        return 1;
    vcl_json_fail(json, VCL_E_FORMAT, "a comma stands before the closing bracket");
    return 0;
}

void vcl_json_end(struct vcl_json *json)
{
    if (json->status == VCL_OK && (next(json) != 0 || json->at < json->length))
        vcl_json_fail(json, VCL_E_FORMAT, "something follows the last '}'");
}

/* ---- strings --------------------------------------------------------------------------------- */

size_t vcl_utf8_length(const char *text, size_t left)
{
    const unsigned char *const b = (const unsigned char *)text;
    static const uint32_t smallest[5] = { 0, 0, 0x80, 0x800, 0x10000 };
    if (left == 0 || b[0] < 0x80)
        return left > 0;
    const size_t n = b[0] >= 0xF0 ? 4 : b[0] >= 0xE0 ? 3 : 2;
    if (b[0] < 0xC2 || b[0] > 0xF4 || n > left)
        return 0;
    uint32_t code = b[0] & (0x7Fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((b[i] & 0xC0) != 0x80)
            return 0;
        code = code << 6 | (b[i] & 0x3Fu);
    }
    const int surrogate = code >= 0xD800 && code < 0xE000;
    return code >= smallest[n] && code <= 0x10FFFF && !surrogate ? n : 0;
}

static size_t put_utf8(uint32_t code, char *dst)
{
    if (code < 0x80) {
        dst[0] = (char)code;
        return 1;
    }
    const size_t n = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i > 0; i--, code >>= 6)
        dst[i] = (char)(0x80 | (code & 0x3F));
    dst[0] = (char)(0xF0u << (4 - n) | code);
    return n;
}

/* Four hexadecimal digits after "\u"; the position is behind them afterwards. */
static int read_unit(struct vcl_json *json, uint32_t *unit)
{
    *unit = 0;
    for (int i = 0; i < 4; i++, json->at++) {
        const char c = json->at < json->length ? json->text[json->at] : 0;
        const int digit = c >= '0' && c <= '9' ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
        if (digit < 0) {
            vcl_json_fail(json, VCL_E_FORMAT, "\\u needs four hexadecimal digits");
            return 0;
        }
        *unit = *unit << 4 | (uint32_t)digit;
    }
    return 1;
}

static size_t read_unicode_escape(struct vcl_json *json, char *dst)
{
    uint32_t code, low;
    if (!read_unit(json, &code))
        return 0;
    if (code >= 0xD800 && code < 0xDC00) {
        if (json->length - json->at < 6 || memcmp(json->text + json->at, "\\u", 2) != 0)
            low = 0;
        else if (json->at += 2, !read_unit(json, &low))
            return 0;
        code = low >= 0xDC00 && low < 0xE000 ? 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00) : 0xD800;
    }
    if (code >= 0xD800 && code < 0xE000)
        vcl_json_fail(json, VCL_E_FORMAT, "half of a surrogate pair stands alone");
    else if (code == 0)
        vcl_json_fail(json, VCL_E_FORMAT, "a string holds a NUL");
    return json->status == VCL_OK ? put_utf8(code, dst) : 0;
}

static size_t read_escape(struct vcl_json *json, char *dst)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    const char c = json->length - json->at > 1 ? json->text[json->at + 1] : 0;
    const char *const known = c != 0 ? strchr(names, c) : NULL;
    if (c != 'u' && known == NULL) {
        vcl_json_fail(json, VCL_E_FORMAT, "a string holds an escape that JSON does not have");
        return 0;
    }
    json->at += 2;
    if (known == NULL)
        return read_unicode_escape(json, dst);
    *dst = values[known - names];
    return 1;
}

static size_t read_character(struct vcl_json *json, char *dst)
{
    const char *const p = json->text + json->at;
    const size_t n = vcl_utf8_length(p, json->length - json->at);
    if (n == 0)
        vcl_json_fail(json, VCL_E_FORMAT, "a string holds bytes that are not UTF-8");
    else if ((unsigned char)*p < 0x20)
        vcl_json_fail(json, VCL_E_FORMAT, "a string holds the bare control character 0x%02X", (unsigned)*p);
    if (json->status != VCL_OK)
        return 0;
    memcpy(dst, p, n);
    json->at += n;
    return n;
}

int vcl_json_string(struct vcl_json *json, char *dst)
{
    if (!vcl_json_expect(json, '"'))
        return 0;
    while (json->at < json->length && json->text[json->at] != '"') {
        char piece[4];
        const size_t n =
            json->text[json->at] == '\\' ? read_escape(json, piece) : read_character(json, piece);
        if (n == 0)
            return 0;
        if (dst != NULL) {
            memcpy(dst, piece, n);
            dst += n;
        }
    }
    if (json->at == json->length) {
        vcl_json_fail(json, VCL_E_FORMAT, "the JSON ends inside a string");
        return 0;
    }
    json->at++;
    if (dst != NULL)
        *dst = 0;
    return 1;
}

/* ---- numbers and the rest -------------------------------------------------------------------- */

static int is_digit(const struct vcl_json *json)
{
    return json->at < json->length && json->text[json->at] >= '0' && json->text[json->at] <= '9';
}

int vcl_json_integer(struct vcl_json *json, uint64_t *value)
{
    if (json->status != VCL_OK)
        return 0;
    const char first = next(json);
    const size_t start = json->at;
    for (*value = 0; is_digit(json); json->at++)
        if (vcl_mul(*value, 10, value) || vcl_add(*value, (uint64_t)(json->text[json->at] - '0'), value)
            || *value > INT64_MAX) {
            vcl_json_fail(json, VCL_E_LIMIT, "a number is beyond 63 bits");
            return 0;
        }
    const size_t digits = json->at - start;
    const char behind = json->at < json->length ? json->text[json->at] : ' ';
    if (first == '-')
        vcl_json_fail(json, VCL_E_FORMAT, "a number is negative");
    else if (digits == 0 || (digits > 1 && first == '0') || behind == '.' || behind == 'e' || behind == 'E')
        vcl_json_fail(json, VCL_E_FORMAT, "an integer should be here");
    return json->status == VCL_OK;
}

static void skip_digits(struct vcl_json *json)
{
    if (!is_digit(json))
        fail_at(json, "a digit");
    while (is_digit(json))
        json->at++;
}

static int skip_one_of(struct vcl_json *json, char a, char b)
{
    const char c = json->at < json->length ? json->text[json->at] : 0;
    const int there = c != 0 && (c == a || c == b);
    json->at += (size_t)there;
    return there;
}

static void skip_number(struct vcl_json *json)
{
    skip_one_of(json, '-', '-');
    if (!skip_one_of(json, '0', '0'))
        skip_digits(json);
    if (skip_one_of(json, '.', '.'))
        skip_digits(json);
    if (skip_one_of(json, 'e', 'E')) {
        skip_one_of(json, '+', '-');
        skip_digits(json);
    }
}

static void skip_word(struct vcl_json *json, const char *word)
{
    const size_t n = strlen(word);
    if (json->length - json->at < n || memcmp(json->text + json->at, word, n) != 0)
        fail_at(json, "a value");
    else
        json->at += n;
}

static void skip_value(struct vcl_json *json, int depth)
{
    const char c = next(json), close = c == '{' ? '}' : ']';
    if (c == '"')
        vcl_json_string(json, NULL);
    else if (c == '-' || is_digit(json))
        skip_number(json);
    else if (c != '{' && c != '[')
        skip_word(json, c == 't' ? "true" : c == 'f' ? "false" : "null");
    else if (depth == 0)
        vcl_json_fail(json, VCL_E_LIMIT, "values are nested too deep");
    else {
        json->at++;
        for (size_t i = 0; vcl_json_item(json, close, i); i++)
            if (c == '[' || (vcl_json_string(json, NULL) && vcl_json_expect(json, ':')))
                skip_value(json, depth - 1);
    }
}

void vcl_json_skip(struct vcl_json *json)
{
    enum { DEEPEST = 64 }; /* bounds the stack */
    if (json->status == VCL_OK)
        skip_value(json, DEEPEST);
}

/* ---- objects of strings ---------------------------------------------------------------------- */

static int compare_keys(const void *a, const void *b)
{
    return strcmp((*(const struct vcl_pair *const *)a)->key, (*(const struct vcl_pair *const *)b)->key);
}

enum vcl_status vcl_pairs_sort(struct vcl_pairs *pairs, const char **twice)
{
    free(pairs->by_key);
    pairs->by_key = malloc((pairs->count + 1) * sizeof *pairs->by_key);
    if (pairs->by_key == NULL)
        return VCL_E_MEMORY;
    for (size_t i = 0; i < pairs->count; i++)
        pairs->by_key[i] = &pairs->pair[i];
    qsort(pairs->by_key, pairs->count, sizeof *pairs->by_key, compare_keys);
    for (size_t i = 1; i < pairs->count; i++)
        if (strcmp(pairs->by_key[i - 1]->key, pairs->by_key[i]->key) == 0) {
            *twice = pairs->by_key[i]->key;
            return VCL_E_FORMAT;
        }
    return VCL_OK;
}

const char *vcl_pairs_find(const struct vcl_pairs *pairs, const char *key)
{
    const struct vcl_pair wanted = { key, NULL }, *const wanted_at = &wanted;
    if (pairs->count == 0)
        return NULL;
    const struct vcl_pair *const *const found =
        bsearch(&wanted_at, pairs->by_key, pairs->count, sizeof *pairs->by_key, compare_keys);
    return found != NULL ? (*found)->value : NULL;
}

void vcl_pairs_free(struct vcl_pairs *pairs)
{
    free(pairs->pair);
    free(pairs->by_key);
    memset(pairs, 0, sizeof *pairs);
}

static const char *take_string(struct vcl_json *json, char **strings)
{
    const char *const start = *strings;
    if (!vcl_json_string(json, *strings))
        return NULL;
    *strings += strlen(start) + 1;
    return start;
}

void vcl_json_pairs(struct vcl_json *json, struct vcl_pairs *pairs, char **strings)
{
    /* A pair takes 6 characters at least, "":"", so this is enough; pages that are not used cost nothing. */
    const size_t most = (json->length - json->at) / 6 + 1;
    pairs->pair = malloc(most * sizeof *pairs->pair);
    if (pairs->pair == NULL)
        vcl_json_fail(json, VCL_E_MEMORY, "out of memory");
    vcl_json_expect(json, '{');
    while (vcl_json_item(json, '}', pairs->count)) {
        struct vcl_pair *const pair = &pairs->pair[pairs->count];
        pair->key = take_string(json, strings);
        vcl_json_expect(json, ':');
        pair->value = take_string(json, strings);
        pairs->count += json->status == VCL_OK;
    }
    if (json->status != VCL_OK)
        return;
    struct vcl_pair *const fitted = realloc(pairs->pair, (pairs->count + 1) * sizeof *pairs->pair);
    pairs->pair = fitted != NULL ? fitted : pairs->pair;
    const char *twice = "";
    const enum vcl_status status = vcl_pairs_sort(pairs, &twice);
    if (status == VCL_E_MEMORY)
        vcl_json_fail(json, status, "out of memory");
    else if (status != VCL_OK)
        vcl_json_fail(json, status, "key " VCL_NAME " is there twice", twice);
}
