/* frames.c - one tensor as JSON, and frames where none should be. */
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
