/* describe.c - the layout of the file that compress or decompress writes for a shard.
 *
 * Compressing: every tensor becomes a 1-D U8 tensor of at most its bound; the original metadata stays and,
 * where the original header is not the canonical one, what makes it another is kept (docs/format.md,
 * "Container"). Decompressing: the reverse, from the frames' headers. */
#include <stdlib.h>
#include <string.h>

#include "shard.h"

static const char OURS[] = "vcllm.";

static int describe_failed(const struct vcl_model *model, size_t number, const struct vcl_error *error)
{
    return vcl_tell(error->status, "%s: %s", vcl_model_shard_path(model, number), error->text);
}

/* Entries run shard by shard. */
static void find_entries(struct vcl_shard *shard, const struct vcl_model *model, size_t number)
{
    const size_t count = vcl_model_count(model);
    while (shard->first < count && vcl_model_entry(model, shard->first)->shard < number)
        shard->first++;
    shard->last = shard->first;
    while (shard->last < count && vcl_model_entry(model, shard->last)->shard == number)
        shard->last++;
}

/* The shard's own metadata, without ours, and room for one pair more. */
static void copy_metadata(struct vcl_shard *shard, const struct vcl_model *model, size_t number)
{
    struct vcl_pair pair;
    size_t count = 0;
    while (vcl_model_metadata_at(model, number, count, &pair.key, &pair.value))
        count++;
    shard->pairs = vcl_zeros(count + 1, sizeof *shard->pairs);
    for (size_t i = 0; i < count; i++) {
        vcl_model_metadata_at(model, number, i, &pair.key, &pair.value);
        if (strncmp(pair.key, OURS, sizeof OURS - 1) != 0)
            shard->pairs[shard->layout.metadata_count++] = pair;
    }
    shard->layout.metadata = shard->pairs;
}

void vcl_shard_describe_same(struct vcl_shard *shard, const struct vcl_model *model, size_t number,
                             size_t more)
{
    *shard = (struct vcl_shard){ 0 };
    vcl_layout_init(&shard->layout);
    find_entries(shard, model, number);
    copy_metadata(shard, model, number);
    shard->layout.count = shard->last - shard->first;
    shard->entries = vcl_zeros(shard->layout.count + more, sizeof *shard->entries);
    shard->layout.entries = shard->entries;
    for (size_t i = shard->first; i < shard->last; i++)
        shard->entries[i - shard->first] = *vcl_model_entry(model, i);
}

/* What is to be kept of the original header, while the layout is still the original's. */
static int keep_header(struct vcl_shard *shard, const struct vcl_model *model, size_t number)
{
    struct vcl_error error = { 0 };
    size_t length;
    const char *header = vcl_model_shard_header(model, number, &length);
    if (vcl_layout_keep_header(&shard->layout, header, length, &shard->header, &error) != VCL_OK)
        return describe_failed(model, number, &error);
    if (shard->header)
        shard->pairs[shard->layout.metadata_count++] = (struct vcl_pair){ "vcllm.header", shard->header };
    return VCL_EXIT_OK;
}

static int restore_header(struct vcl_shard *shard, const struct vcl_model *model, size_t number)
{
    struct vcl_error error = { 0 };
    const char *kept = vcl_model_metadata(model, number, "vcllm.header");
    size_t length;
    if (!kept)
        return VCL_EXIT_OK;
    if (vcl_layout_restore_header(&shard->layout, kept, &shard->header, &length, &error) != VCL_OK)
        return describe_failed(model, number, &error);
    shard->layout.header = shard->header;
    shard->layout.header_length = length;
    return VCL_EXIT_OK;
}

int vcl_shard_describe_frames(struct vcl_shard *shard, const struct vcl_model *model, size_t number,
                              const struct vcl_choice *choices, size_t late_bytes)
{
    vcl_shard_describe_same(shard, model, number, 0);
    const int code = keep_header(shard, model, number);
    if (code) {
        vcl_shard_free(shard);
        return code;
    }
    for (size_t i = 0; i < shard->layout.count; i++) {
        const uint64_t room = choices[shard->first + i].room;
        shard->entries[i].tensor = (struct vcl_tensor){ VCL_DTYPE_U8, 1, { room } };
        shard->entries[i].bytes = room;
    }
    shard->layout.frames = 1;
    shard->layout.late_bytes = late_bytes;
    return VCL_EXIT_OK;
}

static int describe_entry(const struct vcl_model *model, struct vcl_entry *entry, size_t index,
                          enum vcl_dtype dtype)
{
    struct vcl_error error = { 0 };
    struct vcl_info info = { .size = sizeof info };
    enum vcl_status status = vcl_model_frame(model, vcl_model_entry(model, index), &info, NULL, &error);
    if (status != VCL_OK)
        return vcl_tell(status, "%s", error.text);
    entry->tensor = info.tensor;
    if (dtype != VCL_DTYPE_COUNT && vcl_dtype_is_float(info.tensor.dtype))
        entry->tensor.dtype = dtype;
    status = vcl_tensor_size(&entry->tensor, NULL, &entry->bytes);
    return status == VCL_OK ? VCL_EXIT_OK
                            : vcl_tell(status, "tensor '%s': %s", entry->name, vcl_status_text(status));
}

int vcl_shard_describe_plain(struct vcl_shard *shard, const struct vcl_model *model, size_t number,
                             enum vcl_dtype dtype)
{
    int code = VCL_EXIT_OK;
    vcl_shard_describe_same(shard, model, number, 0);
    for (size_t i = 0; i < shard->layout.count && !code; i++)
        code = describe_entry(model, &shard->entries[i], shard->first + i, dtype);
    if (!code && dtype == VCL_DTYPE_COUNT)
        code = restore_header(shard, model, number);
    if (code)
        vcl_shard_free(shard);
    return code;
}

void vcl_shard_free(struct vcl_shard *shard)
{
    free(shard->entries);
    free(shard->pairs);
    free(shard->header);
    *shard = (struct vcl_shard){ 0 };
}

uint64_t vcl_shard_bytes(const struct vcl_shard *shard)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < shard->layout.count; i++)
        bytes += shard->entries[i].bytes;
    return bytes;
}
