/* kept.c - vcllm.header: an original header as what differs from the canonical one.
 *
 * In: a layout, whose canonical header both sides can make, and the header as it was.  Out: nothing where
 * the two are the same; else copies from the canonical header and from what has been restored, and the text
 * between them (docs/format.md, "Container").  Another order of tensors or keys then takes some twenty
 * bytes a tensor instead of its whole entry once more, quotes escaped.  Copies begin at quotes: names are
 * found by a table, the rest of an entry in the neighbourhood of its name. */
#include "io.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    MOST_TIMES = 4,  /* a header that is longer than so many canonical ones is kept to the letter */
    LEAST_COPY = 16, /* a copy takes about as many characters itself */
    NEAR = 512,      /* how far an entry is taken to reach */
    LONGEST = 256    /* of a token that is hashed */
};

enum place { OUTSIDE, INSIDE, ESCAPED }; /* of strings; behind a backslash in one */

/* The canonical header and, behind it, the original one: text that copies come from, and what is copied. */
struct keeper {
    char *text;
    size_t canonical, end;
    size_t indexed; /* strings before here are in the table */
    enum place place;
    uint32_t *last; /* where a token of this hash was last, plus 1 */
    size_t mask;
    size_t origin; /* where the last copy that the table led to came from */
    FILE *out;
};

static size_t token_hash(const struct keeper *k, size_t at)
{
    uint64_t hash = 0xcbf29ce484222325u;
    const size_t most = vcl_min(k->end - at, LONGEST);
    for (size_t i = 0; i < most && (i == 0 || k->text[at + i] != '"'); i++)
        hash = (hash ^ (uint8_t)k->text[at + i]) * 0x100000001b3u;
    return (size_t)(hash ^ hash >> 32) & k->mask;
}

/* After this character. */
static enum place step(enum place place, char c)
{
    if (place == INSIDE)
        return c == '"' ? OUTSIDE : c == '\\' ? ESCAPED : INSIDE;
    return place == ESCAPED || c == '"' ? INSIDE : OUTSIDE;
}

static int is_opening(const struct keeper *k, size_t at) { return k->place == OUTSIDE && k->text[at] == '"'; }

static void index_up_to(struct keeper *k, size_t at)
{
    for (; k->indexed < at; k->indexed++) {
        if (is_opening(k, k->indexed))
            k->last[token_hash(k, k->indexed)] = (uint32_t)k->indexed + 1;
        k->place = step(k->place, k->text[k->indexed]);
    }
}

/* Bytes at `from` that are those at `at`, a string, too.  They do not end inside another string, which is
 * found as a whole. */
static size_t match(const struct keeper *k, size_t from, size_t at)
{
    enum place place = OUTSIDE;
    size_t n = 0, opening = 0;
    for (; at + n < k->end && k->text[from + n] == k->text[at + n]; n++) {
        if (place == OUTSIDE && k->text[at + n] == '"')
            opening = n;
        place = step(place, k->text[at + n]);
    }
    return place == OUTSIDE ? n : opening;
}

/* The same token in the entry whose name was copied last. */
static size_t match_near(const struct keeper *k, size_t at, size_t *from)
{
    const char *const start = k->text + at, *const end = memchr(start + 1, '"', k->end - at - 1);
    const size_t n = end != NULL ? (size_t)(end - start) + 1 : 0;
    const size_t most = vcl_min(k->origin + NEAR, at) - k->origin;
    const char *const found = n > 0 ? memmem(k->text + k->origin, most, start, n) : NULL;
    if (found == NULL)
        return 0;
    *from = (size_t)(found - k->text);
    return match(k, *from, at);
}

static size_t find_copy(struct keeper *k, size_t at, size_t *from)
{
    const uint32_t last = k->last[token_hash(k, at)];
    const size_t by_table = last > 0 ? match(k, last - 1, at) : 0;
    const size_t by_place = match_near(k, at, from);
    if (by_place >= LEAST_COPY && by_place >= by_table)
        return by_place;
    if (by_table < LEAST_COPY)
        return 0;
    *from = k->origin = last - 1;
    return by_table;
}

static void put_text(struct keeper *k, size_t from, size_t to)
{
    if (from == to)
        return;
    fprintf(k->out, "%zu:", to - from);
    fwrite(k->text + from, 1, to - from, k->out);
}

static void put_items(struct keeper *k)
{
    size_t from, written = k->canonical;
    for (size_t at = k->canonical; at < k->end;) {
        index_up_to(k, at);
        const size_t n = is_opening(k, at) ? find_copy(k, at, &from) : 0;
        if (n > 0) {
            put_text(k, written, at);
            fprintf(k->out, "%zu@%zu;", n, from);
            written = at + n;
        }
        at += n > 0 ? n : 1;
    }
    put_text(k, written, k->end);
}

static int make_table(struct keeper *k)
{
    size_t tokens = 0, room = 1024;
    for (size_t i = 0; i < k->end; i++)
        tokens += k->text[i] == '"';
    while (room < tokens)
        room *= 2;
    k->mask = room - 1;
    k->last = calloc(room, sizeof *k->last);
    return k->last != NULL;
}

/* 0 where memory is out.  text: canonical and original, one behind the other. */
static int pack(char *text, size_t canonical, size_t end, char **packed, size_t *length)
{
    struct keeper k = { .text = text, .canonical = canonical, .end = end };
    *packed = NULL;
    k.out = open_memstream(packed, length);
    int good = k.out != NULL && make_table(&k);
    if (good) {
        fputc('~', k.out);
        put_items(&k);
    }
    good &= k.out != NULL && !ferror(k.out);
    if (k.out != NULL)
        good &= fclose(k.out) == 0 && *packed != NULL;
    free(k.last);
    if (good)
        return 1;
    free(*packed);
    *packed = NULL;
    return 0;
}

enum vcl_status vcl_layout_keep_header(const struct vcl_layout *layout, const char *header, size_t length,
                                       char **kept, struct vcl_error *error)
{
    char *text;
    size_t canonical, packed;
    *kept = NULL;
    const enum vcl_status status = vcl_layout_header(layout, &text, &canonical, error);
    if (status != VCL_OK)
        return status;
    if (length == canonical && memcmp(header, text, length) == 0) {
        free(text);
        return VCL_OK;
    }
    char *const both = realloc(text, canonical + length);
    if (both != NULL)
        memcpy(both + canonical, header, length);
    int good = both != NULL;
    if (good && length <= MOST_TIMES * canonical)
        good = pack(both, canonical, canonical + length, kept, &packed);
    free(both != NULL ? both : text);
    if (good && (*kept == NULL || packed >= length)) {
        free(*kept);
        *kept = strndup(header, length);
    }
    return *kept != NULL ? VCL_OK : vcl_fail_memory(error, NULL);
}

/* ---- the way back ---------------------------------------------------------------------------- */

/* 1 to 999,999,999 in plain digits, 0 too where it is a place; then this character. */
static int read_number(const char **at, char end, size_t *value)
{
    const size_t digits = strspn(*at, "0123456789");
    if (digits == 0 || digits > 9 || (digits > 1 && **at == '0') || (*at)[digits] != end)
        return 0;
    *value = strtoul(*at, NULL, 10);
    *at += digits + 1;
    return 1;
}

/* Adds an item to the text of `end` bytes, of which there may be `room`; 0: it is none. */
static int unpack_item(const char **at, const char *stop, char *text, size_t *end, size_t room)
{
    size_t n, from;
    if (read_number(at, ':', &n)) {
        if (n > room - *end || n > (size_t)(stop - *at))
            return 0;
        memcpy(text + *end, *at, n);
        *at += n;
        *end += n;
        return 1;
    }
    if (!read_number(at, '@', &n) || !read_number(at, ';', &from) || from >= *end || n > room - *end)
        return 0;
    for (size_t i = 0; i < n; i++) /* it may reach into what it adds */
        text[(*end)++] = text[from++];
    return 1;
}

static enum vcl_status unpack(const struct vcl_layout *layout, const char *kept, char **header,
                              size_t *length, struct vcl_error *error)
{
    char *text;
    size_t canonical;
    const enum vcl_status status = vcl_layout_header(layout, &text, &canonical, error);
    if (status != VCL_OK)
        return status;
    const size_t room = (1 + MOST_TIMES) * canonical;
    char *const grown = realloc(text, room + 1);
    if (grown == NULL) {
        free(text);
        return vcl_fail_memory(error, NULL);
    }
    const char *at = kept + 1, *const stop = kept + strlen(kept);
    size_t end = canonical;
    int good = 1;
    while (good && at < stop)
        good = unpack_item(&at, stop, grown, &end, room);
    *length = end - canonical;
    memmove(grown, grown + canonical, *length);
    grown[*length] = 0;
    char *const fitted = realloc(grown, *length + 1);
    *header = fitted ? fitted : grown;
    if (good)
        return VCL_OK;
    free(*header);
    return vcl_fail(error, VCL_E_FORMAT, NULL, "metadata vcllm.header: no item at character %zu",
                    (size_t)(at - kept));
}

enum vcl_status vcl_layout_restore_header(const struct vcl_layout *layout, const char *kept, char **header,
                                          size_t *length, struct vcl_error *error)
{
    if (*kept == '~')
        return unpack(layout, kept, header, length, error);
    *length = strlen(kept);
    *header = strdup(kept);
    return *header != NULL ? VCL_OK : vcl_fail_memory(error, NULL);
}
