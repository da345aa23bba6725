/* say.c - messages, exit codes, JSON.
 *
 * Names in model files are foreign text: whatever goes to a terminal passes through here, and control
 * characters with which a name could move the cursor are replaced. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"

int vcl_exit_of(enum vcl_status status)
{
    switch (status) {
    case VCL_OK: return VCL_EXIT_OK;
    case VCL_E_ARGUMENT: return VCL_EXIT_USAGE;
    case VCL_E_SPACE:
    case VCL_E_IO: return VCL_EXIT_IO;
    case VCL_E_CANCELLED: return VCL_EXIT_INTERRUPTED;
    case VCL_E_CODEC: return VCL_EXIT_CODEC;
    case VCL_E_RATE: return VCL_EXIT_BOUND;
    case VCL_E_MEMORY:
    case VCL_E_FORMAT:
    case VCL_E_TRUNCATED:
    case VCL_E_CHECKSUM:
    case VCL_E_VERSION:
    case VCL_E_LIMIT:
    case VCL_E_BACKEND:
    case VCL_E_BUILD: break;
    }
    return VCL_EXIT_FAILED;
}

/* ---- messages -------------------------------------------------------------------------------- */

static void say(const char *format, va_list arguments)
{
    char line[4096];
    vsnprintf(line, sizeof line, format, arguments);
    vcl_make_printable(line);
    vcl_progress_clear();
    fprintf(stderr, "vcllm: %s\n", line);
}

void vcl_say(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    say(format, arguments);
    va_end(arguments);
}

void vcl_note(const char *format, ...)
{
    va_list arguments;
    if (vcl_is_quiet())
        return;
    va_start(arguments, format);
    say(format, arguments);
    va_end(arguments);
}

int vcl_tell(enum vcl_status status, const char *format, ...)
{
    va_list arguments;
    if (status != VCL_E_CANCELLED) {
        va_start(arguments, format);
        say(format, arguments);
        va_end(arguments);
    }
    return vcl_exit_of(status);
}

static _Noreturn void die_of_memory(void)
{
    vcl_say("out of memory");
    vcl_remove_guarded();
    _Exit(VCL_EXIT_FAILED);
}

void *vcl_zeros(size_t count, size_t size)
{
    void *block = vcl_calloc(count, size);
    if (!block)
        die_of_memory();
    return block;
}

char *vcl_text(const char *format, ...)
{
    va_list arguments;
    char *text;
    va_start(arguments, format);
    if (vasprintf(&text, format, arguments) < 0)
        die_of_memory();
    va_end(arguments);
    return text;
}

int vcl_close_stdout(int code)
{
    const int failed = ferror(stdout);
    if (fflush(stdout) == 0 && !failed)
        return code;
    vcl_say("standard output: %s", failed ? "a write failed" : strerror(errno));
    return VCL_EXIT_IO;
}

/* ---- names ----------------------------------------------------------------------------------- */

int vcl_name_width(const char *name)
{
    int width = 0;
    for (; *name; name++)
        width += ((unsigned char)*name & 0xC0) != 0x80; /* UTF-8: count first bytes only */
    return width;
}

void vcl_print_name(const char *name, int width)
{
    for (; *name; width--) {
        const size_t n = vcl_printable_length(name);
        if (n)
            fwrite(name, 1, n, stdout);
        else
            putchar('?');
        name += n ? n : 1;
    }
    for (; width > 0; width--)
        putchar(' ');
}

/* ---- JSON ------------------------------------------------------------------------------------ */

json_t *vcl_json_real(double x) { return isfinite(x) ? json_real(x) : json_null(); }

json_t *vcl_json_text(const char *text)
{
    json_t *value = vcl_any_text(text);
    if (!value)
        die_of_memory();
    return value;
}

json_t *vcl_json_shape(const struct vcl_tensor *tensor)
{
    json_t *shape = json_array();
    for (unsigned i = 0; i < tensor->rank; i++)
        vcl_json_append(shape, json_integer((json_int_t)tensor->dims[i]));
    return shape;
}

void vcl_json_set(json_t *object, const char *key, json_t *value)
{
    if (json_object_set_new(object, key, value))
        die_of_memory();
}

void vcl_json_append(json_t *array, json_t *value)
{
    if (json_array_append_new(array, value))
        die_of_memory();
}

json_t *vcl_json_document(const char *verb)
{
    json_t *document = json_object();
    vcl_json_set(document, "schema", json_integer(1));
    vcl_json_set(document, "verb", json_string(verb));
    return document;
}

void vcl_json_print(json_t *document)
{
    json_dumpf(document, stdout,
               JSON_INDENT(2) | JSON_REAL_PRECISION(15)); /* a failed write shows in vcl_close_stdout */
    putchar('\n');
    json_decref(document);
}

static void dump(const json_t *value)
{
    json_dumpf(value, stdout, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
}

void vcl_json_print_list(json_t *document, const char *key, size_t count,
                         json_t *(*make)(const void *user, size_t i), const void *user)
{
    const char *name;
    json_t *value;
    fputs("{\n", stdout);
    json_object_foreach(document, name, value)
    {
        printf("  \"%s\": ", name);
        dump(value);
        fputs(",\n", stdout);
    }
    printf("  \"%s\": [", key);
    for (size_t i = 0; i < count; i++) {
        json_t *item = make(user, i);
        fputs(i ? ",\n    " : "\n    ", stdout);
        dump(item);
        json_decref(item);
    }
    fputs("\n  ]\n}\n", stdout);
    json_decref(document);
}
