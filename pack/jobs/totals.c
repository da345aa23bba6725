/* totals.c - what a compressed model costs: `bits` over its lossy frames and, always beside it, `file bits`.
 *
 * compress prints these of the file it has just written, info of any: both from the headers on the disk, so
 * that neither can claim what is not there. */
#include "totals.h"

#include <math.h>

static enum vcl_status take_entry(struct vcl_errand *job, struct vcl_totals *totals,
                                  const struct vcl_model *model, const struct vcl_entry *entry)
{
    struct vcl_error error = { 0 };
    struct vcl_info info = { .size = sizeof info };
    uint64_t bytes;
    enum vcl_status status = vcl_model_frame(model, entry, &info, NULL, &error);
    if (status != VCL_OK)
        return vcl_errand_check(job, status, &error);
    status = vcl_tensor_size(&info.tensor, NULL, &bytes);
    if (status != VCL_OK)
        return vcl_errand_fail(job, status, "tensor '%s': %s", entry->name, vcl_status_text(status));

    totals->tensors++;
    totals->raw_bytes += bytes;
    totals->container_bytes -= info.frame_bytes;
    totals->header_bytes += info.header_bytes;
    totals->tile_bytes += info.frame_bytes - info.header_bytes;
    if (info.codec == VCL_CODEC_ALIAS) {
        totals->aliases++;
        return VCL_OK;
    }
    totals->values += info.values;
    if (info.codec == VCL_CODEC_EXACT || info.codec == VCL_CODEC_LOSSLESS) {
        totals->exact++;
        return VCL_OK;
    }
    totals->lossy++;
    totals->lossy_values += info.values;
    totals->lossy_bytes += info.frame_bytes;
    if (info.snr < totals->worst_snr || !totals->worst_name) {
        totals->worst_snr = info.snr;
        totals->worst_name = entry->name;
    }
    return VCL_OK;
}

enum vcl_status vcl_totals_take(struct vcl_errand *job, struct vcl_totals *totals,
                                const struct vcl_model *model)
{
    enum vcl_status status = VCL_OK;
    *totals = (struct vcl_totals){ .worst_snr = INFINITY };
    for (size_t i = 0; i < vcl_model_shards(model); i++)
        totals->file_bytes += vcl_model_shard_bytes(model, i);
    totals->container_bytes = totals->file_bytes;
    for (size_t i = 0; i < vcl_model_count(model) && !status; i++)
        status = take_entry(job, totals, model, vcl_model_entry(model, i));
    return status;
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
