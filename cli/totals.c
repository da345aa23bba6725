/* totals.c - what a compressed model costs: `bits` over its lossy frames and, always beside it, `file bits`.
 *
 * compress prints these of the file it has just written, info of any: both from the headers on the disk, so
 * that neither can claim what is not there. */
#include <math.h>

#include "totals.h"

static int take_entry(struct vcl_totals *totals, const struct vcl_model *model, const struct vcl_entry *entry)
{
    struct vcl_error error = { 0 };
    struct vcl_info info = { .size = sizeof info };
    uint64_t bytes;
    enum vcl_status status = vcl_model_frame(model, entry, &info, NULL, &error);
    if (status != VCL_OK)
        return vcl_tell(status, "%s", error.text);
    status = vcl_tensor_size(&info.tensor, NULL, &bytes);
    if (status != VCL_OK)
        return vcl_tell(status, "tensor '%s': %s", entry->name, vcl_status_text(status));

    totals->tensors++;
    totals->raw_bytes += bytes;
    totals->container_bytes -= info.frame_bytes;
    totals->header_bytes += info.header_bytes;
    totals->tile_bytes += info.frame_bytes - info.header_bytes;
    if (info.codec == VCL_CODEC_ALIAS) {
        totals->aliases++;
        return VCL_EXIT_OK;
    }
    totals->values += info.values;
    if (info.codec == VCL_CODEC_EXACT || info.codec == VCL_CODEC_LOSSLESS) {
        totals->exact++;
        return VCL_EXIT_OK;
    }
    totals->lossy++;
    totals->lossy_values += info.values;
    totals->lossy_bytes += info.frame_bytes;
    if (info.snr < totals->worst_snr || !totals->worst_name) {
        totals->worst_snr = info.snr;
        totals->worst_name = entry->name;
    }
    return VCL_EXIT_OK;
}

int vcl_totals_take(struct vcl_totals *totals, const struct vcl_model *model)
{
    int code = VCL_EXIT_OK;
    *totals = (struct vcl_totals){ .worst_snr = INFINITY };
    for (size_t i = 0; i < vcl_model_shards(model); i++)
        totals->file_bytes += vcl_model_shard_bytes(model, i);
    totals->container_bytes = totals->file_bytes;
    for (size_t i = 0; i < vcl_model_count(model) && !code; i++)
        code = take_entry(totals, model, vcl_model_entry(model, i));
    return code;
}

static double per_value(uint64_t bytes, uint64_t values)
{
    return values ? 8 * (double)bytes / (double)values : NAN;
}

double vcl_totals_bits(const struct vcl_totals *totals)
{
    return per_value(totals->lossy_bytes, totals->lossy_values);
}

double vcl_totals_file_bits(const struct vcl_totals *totals)
{
    return per_value(totals->file_bytes, totals->values);
}

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
    vcl_json_set(object, "worst_tensor",
                 totals->worst_name ? vcl_json_text(totals->worst_name) : json_null());
    return object;
}
