/* describe.c - the layout of the file that compress or decompress writes for a shard.
 *
 * Compressing: every tensor becomes a 1-D U8 tensor of at most its bound; the original metadata stays and,
 * where the original header is not the canonical one, what makes it another is kept (docs/format.md,
 * "Container"). Decompressing: the reverse, from the frames' headers. */
#include "shard.h"

#include <stdlib.h>
#include <string.h>

#include "common/texts.h"

static const char OURS[] = "vcllm.";

static enum vcl_status describe_failed(struct vcl_errand *job, const struct vcl_model *model, size_t number,
                                       const struct vcl_error *error)
{
    return vcl_errand_fail(job, error->status, "%s: %s", vcl_model_shard_path(model, number), error->text);
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

/* The shard's own metadata, without ours, and room for one pair more.  0: out of memory. */
static int copy_metadata(struct vcl_shard *shard, const struct vcl_model *model, size_t number)
{
    struct vcl_pair pair;
    size_t count = 0;
    while (vcl_model_metadata_at(model, number, count, &pair.key, &pair.value))
        count++;
    shard->pairs = vcl_calloc(count + 1, sizeof *shard->pairs);
    for (size_t i = 0; i < count && shard->pairs; i++) {
        vcl_model_metadata_at(model, number, i, &pair.key, &pair.value);
        if (strncmp(pair.key, OURS, sizeof OURS - 1) != 0)
            shard->pairs[shard->layout.metadata_count++] = pair;
    }
    shard->layout.metadata = shard->pairs;
    return shard->pairs != NULL;
}

enum vcl_status vcl_shard_describe_same(struct vcl_errand *job, struct vcl_shard *shard,
                                        const struct vcl_model *model, size_t number, size_t more)
{
    *shard = (struct vcl_shard){ 0 };
    vcl_layout_init(&shard->layout);
    find_entries(shard, model, number);
    shard->layout.count = shard->last - shard->first;
    shard->entries = vcl_calloc(shard->layout.count + more, sizeof *shard->entries);
    shard->layout.entries = shard->entries;
    if (!shard->entries || !copy_metadata(shard, model, number)) {
        vcl_shard_free(shard);
        return vcl_errand_memory(job);
    }
    for (size_t i = shard->first; i < shard->last; i++)
        shard->entries[i - shard->first] = *vcl_model_entry(model, i);
    return VCL_OK;
}

/* What is to be kept of the original header, while the layout is still the original's. */
static enum vcl_status keep_header(struct vcl_errand *job, struct vcl_shard *shard,
                                   const struct vcl_model *model, size_t number)
{
    struct vcl_error error = { 0 };
    size_t length;
    const char *header = vcl_model_shard_header(model, number, &length);
    if (vcl_layout_keep_header(&shard->layout, header, length, &shard->header, &error) != VCL_OK)
        return describe_failed(job, model, number, &error);
    if (shard->header)
        shard->pairs[shard->layout.metadata_count++] = (struct vcl_pair){ "vcllm.header", shard->header };
    return VCL_OK;
}

static enum vcl_status restore_header(struct vcl_errand *job, struct vcl_shard *shard,
                                      const struct vcl_model *model, size_t number)
{
    struct vcl_error error = { 0 };
    const char *kept = vcl_model_metadata(model, number, "vcllm.header");
    size_t length;
    if (!kept)
        return VCL_OK;
    if (vcl_layout_restore_header(&shard->layout, kept, &shard->header, &length, &error) != VCL_OK)
        return describe_failed(job, model, number, &error);
    shard->layout.header = shard->header;
    shard->layout.header_length = length;
    return VCL_OK;
}

enum vcl_status vcl_shard_describe_frames(struct vcl_errand *job, struct vcl_shard *shard,
                                          const struct vcl_model *model, size_t number,
                                          const struct vcl_choice *choices, size_t late_bytes)
{
    enum vcl_status status = vcl_shard_describe_same(job, shard, model, number, 0);
    if (!status)
        status = keep_header(job, shard, model, number);
    if (status) {
        vcl_shard_free(shard);
        return status;
    }
    for (size_t i = 0; i < shard->layout.count; i++) {
        const uint64_t room = choices[shard->first + i].room;
        shard->entries[i].tensor = (struct vcl_tensor){ VCL_DTYPE_U8, 1, { room } };
        shard->entries[i].bytes = room;
    }
    shard->layout.frames = 1;
    shard->layout.late_bytes = late_bytes;
    return VCL_OK;
}

static enum vcl_status describe_entry(struct vcl_errand *job, const struct vcl_model *model,
                                      struct vcl_entry *entry, size_t index, enum vcl_dtype dtype)
{
    struct vcl_error error = { 0 };
    struct vcl_info info = { .size = sizeof info };
    enum vcl_status status = vcl_model_frame(model, vcl_model_entry(model, index), &info, NULL, &error);
    if (status != VCL_OK)
        return vcl_errand_check(job, status, &error);
    entry->tensor = info.tensor;
    if (dtype != VCL_DTYPE_COUNT && vcl_dtype_is_float(info.tensor.dtype))
        entry->tensor.dtype = dtype;
    status = vcl_tensor_size(&entry->tensor, NULL, &entry->bytes);
    return status == VCL_OK
             ? VCL_OK
             : vcl_errand_fail(job, status, "tensor '%s': %s", entry->name, vcl_status_text(status));
}

enum vcl_status vcl_shard_describe_plain(struct vcl_errand *job, struct vcl_shard *shard,
                                         const struct vcl_model *model, size_t number, enum vcl_dtype dtype)
{
    enum vcl_status status = vcl_shard_describe_same(job, shard, model, number, 0);
    for (size_t i = 0; i < shard->layout.count && !status; i++)
        status = describe_entry(job, model, &shard->entries[i], shard->first + i, dtype);
    if (!status && dtype == VCL_DTYPE_COUNT)
        status = restore_header(job, shard, model, number);
    if (status)
        vcl_shard_free(shard);
    return status;
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
