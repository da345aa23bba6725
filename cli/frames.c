/* frames.c - a tensor as JSON, and the sums over all of them as text and as JSON. */
#include <math.h>

#include "frames.h"

static json_t *describe(const struct vcl_entry *entry, const struct vcl_tensor *tensor)
{
    uint64_t bytes = 0, values = 0;
    json_t *object = json_object();
    vcl_tensor_size(tensor, &values, &bytes); /* checked when the model was opened */
    vcl_json_set(object, "name", vcl_json_text(entry->name));
    vcl_json_set(object, "shape", vcl_json_shape(tensor));
    vcl_json_set(object, "dtype", json_string(vcl_dtype_name(tensor->dtype)));
    vcl_json_set(object, "values", json_integer((json_int_t)values));
    vcl_json_set(object, "raw_bytes", json_integer((json_int_t)bytes));
    return object;
}

double vcl_frame_bits(const struct vcl_info *info)
{
    return info->values ? 8 * (double)info->frame_bytes / (double)info->values : 0;
}

json_t *vcl_plain_json(const struct vcl_entry *entry) { return describe(entry, &entry->tensor); }

static void add_coding(json_t *object, const struct vcl_info *info)
{
    vcl_json_set(object, "tiles", json_integer((json_int_t)info->tiles));
    vcl_json_set(object, "tile_rows", json_integer(info->tile_rows));
    vcl_json_set(object, "tile_cols", json_integer(info->tile_cols));
    vcl_json_set(object, "depth", json_integer(info->depth));
    vcl_json_set(object, "states", json_integer(info->states));
    vcl_json_set(object, "transposed", json_boolean(info->transposed));
    vcl_json_set(object, "transform_down", json_integer(info->transform_down));
    vcl_json_set(object, "transform_along", json_integer(info->transform_along));
    vcl_json_set(object, "rotated", json_boolean(info->rotated));
    vcl_json_set(object, "row_scales", json_boolean(info->row_scales));
    vcl_json_set(object, "non_finite", json_boolean(info->non_finite));
}

json_t *vcl_frame_json(const struct vcl_entry *entry, const struct vcl_info *info,
                       const struct vcl_entry *target)
{
    json_t *object = describe(entry, &info->tensor);
    vcl_json_set(object, "codec", json_string(vcl_codec_name(info->codec)));
    vcl_json_set(object, "frame_bytes", json_integer((json_int_t)info->frame_bytes));
    vcl_json_set(object, "frame_header_bytes", json_integer((json_int_t)info->header_bytes));
    if (target) {
        vcl_json_set(object, "same_as", vcl_json_text(target->name));
        return object;
    }
    vcl_json_set(object, "bits", vcl_json_real(vcl_frame_bits(info)));
    vcl_json_set(object, "snr", vcl_json_real(info->snr)); /* null: nothing was lost */
    if (info->codec != VCL_CODEC_EXACT && info->codec != VCL_CODEC_LOSSLESS)
        add_coding(object, info);
    return object;
}

/* ---- totals ---------------------------------------------------------------------------------- */

static void print_share(const char *name, uint64_t bytes, uint64_t whole)
{
    printf("  %-22s %12s  %6.2f %%\n", name, vcl_words_size(bytes).text,
           whole ? 100 * (double)bytes / (double)whole : 0);
}

void vcl_totals_print(const struct vcl_totals *totals)
{
    const double bits = vcl_totals_bits(totals), file_bits = vcl_totals_file_bits(totals);
    printf("%zu tensors: %zu lossy, %zu exact, %zu tied; %llu values\n", totals->tensors, totals->lossy,
           totals->exact, totals->aliases, (unsigned long long)totals->values);
    if (!isnan(bits))
        printf("bits      %8.4f  of the lossily coded values (%s in %llu values)\n", bits,
               vcl_words_size(totals->lossy_bytes).text, (unsigned long long)totals->lossy_values);
    if (!isnan(file_bits))
        printf("file bits %8.4f  of all values (%s -> %s)\n", file_bits,
               vcl_words_size(totals->raw_bytes).text, vcl_words_size(totals->file_bytes).text);
    if (totals->worst_name) {
        printf("worst SNR %s  ", vcl_words_snr(totals->worst_snr).text);
        vcl_print_name(totals->worst_name, 0);
        putchar('\n');
    }
    puts("file:");
    print_share("container headers", totals->container_bytes, totals->file_bytes);
    print_share("frame headers", totals->header_bytes, totals->file_bytes);
    print_share("tiles", totals->tile_bytes, totals->file_bytes);
}

static void set_count(json_t *object, const char *key, uint64_t count)
{
    vcl_json_set(object, key, json_integer((json_int_t)count));
}

json_t *vcl_totals_json(const struct vcl_totals *totals)
{
    json_t *object = json_object();
    set_count(object, "tensors", totals->tensors);
    set_count(object, "lossy", totals->lossy);
    set_count(object, "exact", totals->exact);
    set_count(object, "tied", totals->aliases);
    set_count(object, "values", totals->values);
    set_count(object, "lossy_values", totals->lossy_values);
    set_count(object, "lossy_bytes", totals->lossy_bytes);
    set_count(object, "raw_bytes", totals->raw_bytes);
    set_count(object, "file_bytes", totals->file_bytes);
    set_count(object, "container_bytes", totals->container_bytes);
    set_count(object, "frame_header_bytes", totals->header_bytes);
    set_count(object, "tile_bytes", totals->tile_bytes);
    vcl_json_set(object, "bits", vcl_json_real(vcl_totals_bits(totals)));
    vcl_json_set(object, "file_bits", vcl_json_real(vcl_totals_file_bits(totals)));
    vcl_json_set(object, "worst_snr", vcl_json_real(totals->worst_snr));
    vcl_json_set(object, "worst_tensor", totals->worst_name ? vcl_any_text(totals->worst_name) : json_null());
    return object;
}
