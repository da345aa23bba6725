/* normal.c - the normal forms of Unicode, by utf8proc's tables.
 *
 * An ASCII character stays what it is and joins with nothing before it, so a text is cut before each:
 * ASCII is copied, and memory is needed for the longest piece alone.  Marks are put in order here:
 * utf8proc's own way takes the square of their number. */
#include <stdlib.h>
#include <string.h>

#include "normal.h"

enum vcl_form vcl_normal_form(const char *name)
{
    static const char *const names[VCL_FORMS] = { "NFC", "NFD", "NFKC", "NFKD" };
    int form = 0;
    while (form < VCL_FORMS && strcmp(names[form], name) != 0)
        form++;
    return (enum vcl_form)form;
}

#ifdef VCL_UTF8PROC

#include <utf8proc.h>

enum { LONGEST = 32 }; /* no character becomes more than 18 */

static const utf8proc_option_t OPTIONS[VCL_FORMS] = {
    [VCL_NFC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE,
    [VCL_NFD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE,
    [VCL_NFKC] = UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT,
    [VCL_NFKD] = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT,
};

struct normal {
    utf8proc_option_t options;
    size_t most;
    utf8proc_int32_t *codes, *sorted; /* of a piece, room for each */
    size_t count, room;
    char *bytes;
    size_t length, space;
    struct vcl_error *error;
};

static enum vcl_status make_room(struct normal *m, size_t more)
{
    if (more <= m->room - m->count)
        return VCL_OK;
    const size_t room = 2 * m->room + more;
    utf8proc_int32_t *codes = NULL, *sorted = NULL;
    if (room <= SIZE_MAX / sizeof *codes)
        codes = realloc(m->codes, room * sizeof *codes);
    if (codes)
        sorted = realloc(m->sorted, room * sizeof *sorted);
    m->codes = codes ? codes : m->codes;
    m->sorted = sorted ? sorted : m->sorted;
    m->room = sorted ? room : m->room;
    return sorted ? VCL_OK : vcl_fault_memory(m->error);
}

static enum vcl_status put(struct normal *m, const char *bytes, size_t n)
{
    if (n > m->most - m->length)
        return vcl_fault(m->error, VCL_E_LIMIT, "grows beyond %zu bytes by the tokenizer's steps", m->most);
    if (n > m->space - m->length) {
        const size_t space = 2 * m->space + n;
        char *more = realloc(m->bytes, space);
        if (!more)
            return vcl_fault_memory(m->error);
        m->bytes = more;
        m->space = space;
    }
    memcpy(m->bytes + m->length, bytes, n);
    m->length += n;
    return VCL_OK;
}

/* One character, taken apart as far as the form says; its length is added to *at. */
static enum vcl_status take_character(struct normal *m, const char *text, size_t n, size_t *at)
{
    utf8proc_int32_t code = -1;
    const utf8proc_ssize_t bytes =
        utf8proc_iterate((const utf8proc_uint8_t *)text + *at, (utf8proc_ssize_t)(n - *at), &code);
    if (make_room(m, LONGEST) != VCL_OK)
        return VCL_E_MEMORY;
    const utf8proc_ssize_t made =
        utf8proc_decompose_char(code, m->codes + m->count, LONGEST, m->options, NULL);
    if (bytes <= 0 || made < 0 || made > LONGEST)
        return vcl_fault(m->error, VCL_E_FORMAT, "has no character that utf8proc knows at byte %zu", *at);
    *at += (size_t)bytes;
    m->count += (size_t)made;
    return VCL_OK;
}

static enum vcl_status take_apart(struct normal *m, const char *text, size_t n)
{
    enum vcl_status status = VCL_OK;
    m->count = 0;
    for (size_t at = 0; at < n && status == VCL_OK;)
        status = take_character(m, text, n, &at);
    return status;
}

static unsigned class_of(utf8proc_int32_t code)
{
    return (unsigned)utf8proc_get_property(code)->combining_class & 255u;
}

/* A run of marks by class, those of one class as they were. */
static void sort_marks(struct normal *m, size_t from, size_t to)
{
    size_t starts[257] = { 0 };
    for (size_t i = from; i < to; i++)
        starts[class_of(m->codes[i]) + 1]++;
    for (size_t c = 0; c < 256; c++)
        starts[c + 1] += starts[c];
    for (size_t i = from; i < to; i++)
        m->sorted[starts[class_of(m->codes[i])]++] = m->codes[i];
    memcpy(m->codes + from, m->sorted, (to - from) * sizeof *m->codes);
}

static void sort_all(struct normal *m)
{
    for (size_t i = 0, from = 0; i <= m->count; i++)
        if (i == m->count || class_of(m->codes[i]) == 0) {
            if (i - from > 1)
                sort_marks(m, from, i);
            from = i + 1;
        }
}

static enum vcl_status normalize_piece(struct normal *m, const char *text, size_t n)
{
    utf8proc_uint8_t bytes[4];
    enum vcl_status status = take_apart(m, text, n);
    if (status != VCL_OK)
        return status;
    sort_all(m);
    const utf8proc_ssize_t left = utf8proc_normalize_utf32(m->codes, (utf8proc_ssize_t)m->count, m->options);
    for (utf8proc_ssize_t i = 0; i < left && status == VCL_OK; i++)
        status = put(m, (const char *)bytes, (size_t)utf8proc_encode_char(m->codes[i], bytes));
    return status;
}

/* Bytes from `at` on that stay: ASCII, but for the last one where something else follows. */
static size_t count_plain(const char *text, size_t at, size_t n)
{
    size_t end = at;
    while (end < n && (unsigned char)text[end] < 0x80)
        end++;
    return end == n || end == at ? end - at : end - at - 1;
}

/* From `at` on up to an ASCII character. */
static size_t count_piece(const char *text, size_t at, size_t n)
{
    size_t end = at + 1;
    while (end < n && (unsigned char)text[end] >= 0x80)
        end++;
    return end - at;
}

enum vcl_status vcl_normal_check(const char *where, struct vcl_error *error)
{
    (void)where, (void)error;
    return VCL_OK;
}

enum vcl_status vcl_normal_run(enum vcl_form form, const char *text, size_t n, size_t most, char **result,
                               size_t *length, struct vcl_error *error)
{
    struct normal m = { .options = OPTIONS[form], .most = most, .error = error, .space = n + 1 };
    m.bytes = malloc(m.space);
    enum vcl_status status = m.bytes ? VCL_OK : vcl_fault_memory(error);
    for (size_t at = 0; at < n && status == VCL_OK;) {
        const size_t plain = count_plain(text, at, n);
        status = put(&m, text + at, plain);
        at += plain;
        const size_t piece = status == VCL_OK && at < n ? count_piece(text, at, n) : 0;
        if (piece)
            status = normalize_piece(&m, text + at, piece);
        at += piece;
    }
    free(m.codes);
    free(m.sorted);
    if (status != VCL_OK) {
        free(m.bytes);
        return status;
    }
    *result = m.bytes;
    *length = m.length;
    return VCL_OK;
}

#else

enum vcl_status vcl_normal_check(const char *where, struct vcl_error *error)
{
    return vcl_fault(
        error, VCL_E_CODEC,
        "%s: this vcllm was built without utf8proc (libutf8proc-dev), which normal forms of Unicode "
        "need; --tokens works without",
        where);
}

enum vcl_status vcl_normal_run(enum vcl_form form, const char *text, size_t n, size_t most, char **result,
                               size_t *length, struct vcl_error *error)
{
    (void)form, (void)text, (void)n, (void)most, (void)result, (void)length;
    return vcl_normal_check("normalizer", error);
}

#endif
