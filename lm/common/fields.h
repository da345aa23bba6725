/* fields.h - JSON files with the fields a model needs: each is read with its range, and named where it is
 * missing or something else. */
#ifndef VCL_RUN_FIELDS_H
#define VCL_RUN_FIELDS_H

#include <jansson.h>

#include "fault.h"

/* An object of a file being read.  The first fault is kept in error, and later calls give what they give. */
struct vcl_fields {
    json_t *object;
    const char *file;   /* for messages */
    const char *prefix; /* "" or "rope_scaling.": where in the file */
    struct vcl_error *error;
    enum vcl_status status;
};

/* FOLDER/NAME as a JSON object, at most `limit` bytes, without duplicate keys; json_decref(*root). */
enum vcl_status vcl_fields_load(const char *path, size_t limit, json_t **root, struct vcl_error *error);

/* The field, NULL where it is absent or null. */
json_t *vcl_field(const struct vcl_fields *fields, const char *name);
/* Of the field, or `absent` where it is absent or null; absent < low: it must be there. */
size_t vcl_field_size(struct vcl_fields *fields, const char *name, size_t low, size_t high, size_t absent);
double vcl_field_real(struct vcl_fields *fields, const char *name, double low, double high, double absent);
int vcl_field_flag(struct vcl_fields *fields, const char *name, int absent);
/* NULL where it must be there (absent NULL) and is not. */
const char *vcl_field_text(struct vcl_fields *fields, const char *name, const char *absent);
/* A fault where the field is there, not null and not false: a thing this runtime does not do. */
void vcl_field_refuse(struct vcl_fields *fields, const char *name);
void vcl_field_fault(struct vcl_fields *fields, const char *name, const char *what);

#endif
