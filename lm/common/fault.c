/* fault.c - an error as status and one line of text. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "fault.h"

enum vcl_status vcl_fault(struct vcl_error *error, enum vcl_status status, const char *format, ...)
{
    va_list arguments;
    if (!error)
        return status;
    error->status = status;
    va_start(arguments, format);
    vsnprintf(error->text, sizeof error->text, format, arguments);
    va_end(arguments);
    return status;
}

enum vcl_status vcl_fault_memory(struct vcl_error *error)
{
    return vcl_fault(error, VCL_E_MEMORY, "out of memory");
}

void vcl_named_add(struct vcl_named *named, const char *name)
{
    enum { MOST = 3 };
    const size_t at = strlen(named->text);
    const char *more = named->count++ < MOST ? name : named->count == MOST + 1 ? "..." : NULL;
    if (more)
        snprintf(named->text + at, sizeof named->text - at, "%s%.100s", at ? ", " : "", more);
}
