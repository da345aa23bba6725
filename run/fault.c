/* fault.c - an error as status and one line of text. */
#include <stdarg.h>
#include <stdio.h>

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
