/* fields.c - JSON objects read field by field. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fields.h"

enum vcl_status vcl_fields_load(const char *path, size_t limit, json_t **root, struct vcl_error *error)
{
    void *bytes = NULL;
    size_t n = 0;
    json_error_t fault;
    const enum vcl_status status = vcl_read_file(path, limit, &bytes, &n, error);
    if (status != VCL_OK)
        return status;
    *root = json_loadb(bytes, n, JSON_REJECT_DUPLICATES, &fault);
    free(bytes);
    if (!*root)
        return vcl_fault(error, VCL_E_FORMAT, "%s: line %d, column %d: %s", path, fault.line, fault.column,
                         fault.text);
    if (json_is_object(*root))
        return VCL_OK;
    json_decref(*root);
    *root = NULL;
    return vcl_fault(error, VCL_E_FORMAT, "%s: is no JSON object", path);
}

json_t *vcl_field(const struct vcl_fields *fields, const char *name)
{
    json_t *value = json_object_get(fields->object, name);
    return json_is_null(value) ? NULL : value;
}

void vcl_field_fault(struct vcl_fields *fields, const char *name, const char *what)
{
    if (fields->status == VCL_OK)
        fields->status = vcl_fault(fields->error, VCL_E_FORMAT, "%s: field '%s%s' %s", fields->file,
                                   fields->prefix, name, what);
}

size_t vcl_field_size(struct vcl_fields *fields, const char *name, size_t low, size_t high, size_t absent)
{
    char what[96];
    const json_t *value = vcl_field(fields, name);
    if (!value && absent >= low)
        return absent;
    const json_int_t number = json_integer_value(value);
    if (json_is_integer(value) && number >= (json_int_t)low && number <= (json_int_t)high)
        return (size_t)number;
    snprintf(what, sizeof what, value ? "is no whole number from %zu to %zu" : "is missing", low, high);
    vcl_field_fault(fields, name, what);
    return low;
}

double vcl_field_real(struct vcl_fields *fields, const char *name, double low, double high, double absent)
{
    char what[96];
    const json_t *value = vcl_field(fields, name);
    if (!value && absent >= low)
        return absent;
    const double number = json_number_value(value);
    if (json_is_number(value) && number >= low && number <= high)
        return number;
    snprintf(what, sizeof what, value ? "is no number from %g to %g" : "is missing", low, high);
    vcl_field_fault(fields, name, what);
    return low;
}

int vcl_field_flag(struct vcl_fields *fields, const char *name, int absent)
{
    const json_t *value = vcl_field(fields, name);
    if (!value)
        return absent;
    if (!json_is_boolean(value))
        vcl_field_fault(fields, name, "is neither true nor false");
    return json_is_true(value);
}

const char *vcl_field_text(struct vcl_fields *fields, const char *name, const char *absent)
{
    const json_t *value = vcl_field(fields, name);
    if (!value && absent)
        return absent;
    if (!json_is_string(value))
        vcl_field_fault(fields, name, value ? "is no text" : "is missing");
    return json_string_value(value);
}

void vcl_field_refuse(struct vcl_fields *fields, const char *name)
{
    char what[160];
    const json_t *value = vcl_field(fields, name);
    if (!value || json_is_false(value))
        return;
    char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
    snprintf(what, sizeof what, "is %.100s, which is not supported", text ? text : "set");
    free(text);
    vcl_field_fault(fields, name, what);
}
