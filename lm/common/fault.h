/* fault.h - how every part of the runtime says what went wrong. */
#ifndef VCL_RUN_FAULT_H
#define VCL_RUN_FAULT_H

#include "vcllm_file.h"

/* Fills *error (may be NULL) and returns status, so that `return vcl_fault(...)` reads well. */
enum vcl_status vcl_fault(struct vcl_error *error, enum vcl_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
enum vcl_status vcl_fault_memory(struct vcl_error *error);

/* Many names in few words: "a, b, c, ...". */
struct vcl_named {
    size_t count;
    char text[320];
};
void vcl_named_add(struct vcl_named *named, const char *name);

#endif
