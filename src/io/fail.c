/* fail.c - how file calls say what went wrong.
 *
 * In: a status, the file, a printf format.  Out: one line in a struct vcl_error.  Paths and tensor
 * names come from strangers, so whatever could steer a terminal, and broken UTF-8, becomes '?'; a long
 * path loses its beginning, not the message behind it. */
#include "io.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

static void make_printable(char *text)
{
    size_t left = strlen(text);
    while (left > 0) {
        const size_t n = vcl_utf8_length(text, left);
        const unsigned char *const b = (const unsigned char *)text;
        const int control = n == 0 || b[0] < 0x20 || b[0] == 0x7F || (b[0] == 0xC2 && b[1] < 0xA0);
        const size_t step = n ? n : 1;
        if (control)
            memset(text, '?', step);
        text += step;
        left -= step;
    }
}

static size_t put_path(char *text, size_t room, const char *path)
{
    const size_t keep = 400, length = strlen(path);
    const int n = length > keep ? snprintf(text, room, "...%s: ", path + length - keep)
                                : snprintf(text, room, "%s: ", path);
    return n > 0 ? (size_t)n : 0;
}

enum vcl_status vcl_fail(struct vcl_error *error, enum vcl_status status, const char *path,
                         const char *format, ...)
{
    if (error == NULL)
        return status;
    const int saved = errno; /* for %m */
    const size_t used = path != NULL ? put_path(error->text, sizeof error->text, path) : 0;
    va_list list;
    va_start(list, format);
    errno = saved;
    vsnprintf(error->text + used, sizeof error->text - used, format, list);
    va_end(list);
    make_printable(error->text);
    error->status = status;
    return status;
}

enum vcl_status vcl_fail_memory(struct vcl_error *error, const char *path)
{
    return vcl_fail(error, VCL_E_MEMORY, path, "out of memory");
}
