/* metadata.c - the metadata of a GGUF file by key, checked: kinds and ranges. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "convert.h"

enum { LONGEST_KEY = 128 };

void vcl_metadata_fault(struct vcl_metadata *metadata, const char *format, ...)
{
    char text[512];
    va_list list;
    if (metadata->code)
        return;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    metadata->code = vcl_tell(VCL_E_FORMAT, "%s: %s", metadata->path, text);
}

void vcl_metadata_open(struct vcl_metadata *metadata, const struct vcl_model *model)
{
    *metadata = (struct vcl_metadata){ .model = model, .path = vcl_model_shard_path(model, 0) };
    metadata->architecture = vcl_metadata_text(metadata, "general.architecture");
    if (!metadata->architecture)
        vcl_metadata_fault(metadata, "the key 'general.architecture' is missing: the file holds no model");
}

static const char *whole_key(const struct vcl_metadata *metadata, const char *key, char whole[LONGEST_KEY])
{
    snprintf(whole, LONGEST_KEY, "%.60s%s", *key == '.' ? metadata->architecture : "", key);
    return whole;
}

const char *vcl_metadata_words(const struct vcl_metadata *metadata, const char *key)
{
    struct vcl_value value;
    const char *text = vcl_model_metadata(metadata->model, 0, key);
    if (!text)
        return vcl_model_value(metadata->model, 0, key, &value) && value.is_list ? "a list" : "not UTF-8";
    return *text ? text : "empty";
}

static void fault_of(struct vcl_metadata *metadata, const char *whole, const char *belongs)
{
    vcl_metadata_fault(metadata, "the key '%s' is %.60s; %s belongs there", whole,
                       vcl_metadata_words(metadata, whole), belongs);
}

/* The one item of a key; 0: it is not there. */
static int find_item(struct vcl_metadata *metadata, const char *key, int needed, struct vcl_item *item)
{
    char whole[LONGEST_KEY];
    struct vcl_value value;
    if (metadata->code)
        return 0;
    if (!vcl_model_value(metadata->model, 0, whole_key(metadata, key, whole), &value)) {
        if (needed)
            vcl_metadata_fault(metadata, "the key '%s' is missing", whole);
        return 0;
    }
    if (value.is_list) {
        fault_of(metadata, whole, "one value");
        return 0;
    }
    return vcl_value_next(&value, item);
}

int64_t vcl_metadata_integer(struct vcl_metadata *metadata, const char *key, int64_t low, int64_t high,
                             int64_t absent)
{
    char whole[LONGEST_KEY], belongs[80];
    struct vcl_item item;
    if (!find_item(metadata, key, absent < 0, &item))
        return absent < 0 ? low : absent;
    if (item.kind == VCL_ITEM_INTEGER && item.integer >= low && item.integer <= high)
        return item.integer;
    snprintf(belongs, sizeof belongs, "a whole number from %lld to %lld", (long long)low, (long long)high);
    fault_of(metadata, whole_key(metadata, key, whole), belongs);
    return low;
}

/* The number of fewest digits that is the same f32: 1e-05, not 9.99999975e-06. */
static double shortest(double value)
{
    char text[32];
    for (int digits = 1; digits < 9; digits++) {
        snprintf(text, sizeof text, "%.*g", digits, value);
        if (strtof(text, NULL) == (float)value)
            return strtod(text, NULL);
    }
    return value;
}

double vcl_metadata_real(struct vcl_metadata *metadata, const char *key, double low, double high,
                         double absent)
{
    char whole[LONGEST_KEY], belongs[80];
    struct vcl_item item;
    if (!find_item(metadata, key, absent < 0, &item))
        return absent;
    if (item.kind == VCL_ITEM_REAL && item.real >= low && item.real <= high)
        return shortest(item.real);
    snprintf(belongs, sizeof belongs, "a floating-point number from %g to %g", low, high);
    fault_of(metadata, whole_key(metadata, key, whole), belongs);
    return low;
}

int vcl_metadata_flag(struct vcl_metadata *metadata, const char *key, int absent)
{
    struct vcl_item item;
    if (!find_item(metadata, key, 0, &item))
        return absent;
    if (item.kind != VCL_ITEM_FLAG)
        fault_of(metadata, key, "true or false");
    return item.integer != 0;
}

const char *vcl_metadata_text(struct vcl_metadata *metadata, const char *key)
{
    char whole[LONGEST_KEY];
    struct vcl_item item;
    if (!find_item(metadata, key, 0, &item))
        return NULL;
    const char *text = vcl_model_metadata(metadata->model, 0, whole_key(metadata, key, whole));
    if (item.kind != VCL_ITEM_TEXT || !text)
        fault_of(metadata, whole, "text");
    return metadata->code ? NULL : text;
}

size_t vcl_metadata_list(struct vcl_metadata *metadata, const char *key, enum vcl_item_kind kind, int needed,
                         struct vcl_value *value)
{
    static const char *const kinds[] = { [VCL_ITEM_INTEGER] = "whole numbers",
                                         [VCL_ITEM_REAL] = "floating-point numbers",
                                         [VCL_ITEM_FLAG] = "true or false",
                                         [VCL_ITEM_TEXT] = "texts" };
    struct vcl_item item;
    *value = (struct vcl_value){ 0 };
    if (metadata->code)
        return 0;
    if (!vcl_model_value(metadata->model, 0, key, value)) {
        if (needed)
            vcl_metadata_fault(metadata, "the key '%s' is missing", key);
        return 0;
    }
    struct vcl_value first = *value;
    if (!value->is_list || (vcl_value_next(&first, &item) && item.kind != kind)) {
        vcl_metadata_fault(metadata, "the key '%s' is no list of %s", key, kinds[kind]);
        value->left = 0;
    }
    return (size_t)value->left;
}
