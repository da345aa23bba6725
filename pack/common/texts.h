/* texts.h - memory and text that may not be had: NULL where memory is out. */
#ifndef VCL_TEXTS_H
#define VCL_TEXTS_H

#include <jansson.h>
#include <stddef.h>

/* Zeros; free() them.  Never asks for none. */
void *vcl_calloc(size_t count, size_t size);
/* printf's text; free() it. */
char *vcl_compose(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* json_dumps' text; free() it. */
char *vcl_dump(const json_t *value, size_t flags);
/* A JSON string of any bytes: file names may be no UTF-8. */
json_t *vcl_any_text(const char *text);

#endif
