/* texts.c - memory and text for what must go on, or end well, without them. */
#include "texts.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void *vcl_calloc(size_t count, size_t size) { return calloc(count ? count : 1, size ? size : 1); }

char *vcl_compose(const char *format, ...)
{
    va_list arguments;
    char *text;
    va_start(arguments, format);
    const int length = vasprintf(&text, format, arguments);
    va_end(arguments);
    return length < 0 ? NULL : text;
}

struct dumped {
    char *text;
    size_t length, room;
    int failed;
};

static int append(const char *bytes, size_t n, void *user)
{
    struct dumped *dumped = user;
    if (dumped->length + n >= dumped->room) {
        const size_t room = 2 * (dumped->length + n) + 64;
        char *grown = dumped->failed ? NULL : realloc(dumped->text, room);
        if (!grown) {
            dumped->failed = 1;
            return -1;
        }
        dumped->text = grown;
        dumped->room = room;
    }
    memcpy(dumped->text + dumped->length, bytes, n);
    dumped->length += n;
    dumped->text[dumped->length] = '\0';
    return 0;
}

/* Not json_dumps: that of jansson 2.14 leaves a key out, in silence, where memory is out for it. */
char *vcl_dump(const json_t *value, size_t flags)
{
    struct dumped dumped = { 0 };
    if (json_dump_callback(value, append, &dumped, flags) == 0 && !dumped.failed)
        return dumped.text;
    free(dumped.text);
    return NULL;
}

json_t *vcl_any_text(const char *text)
{
    json_t *value = json_string(text);
    if (value)
        return value;
    char *ascii = strdup(text);
    for (char *c = ascii; c && *c; c++)
        if ((unsigned char)*c >= 0x80)
            *c = '?';
    value = ascii ? json_string(ascii) : NULL;
    free(ascii);
    return value;
}
