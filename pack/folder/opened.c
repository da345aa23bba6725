/* opened.c - opens models; a compressed one only where it is what was written.
 *
 * Frames have checksums of their own; what stands around them has vcllm.hash (names, shapes, places,
 * metadata) and vcllm.files (the files beside the shards).  Every verb comes through here, so none works
 * with names that were exchanged or with another config.json. */
#include "opened.h"

#include <stdlib.h>
#include <string.h>

#include "folder.h"

enum vcl_status vcl_open_any(struct vcl_errand *job, const char *path, const struct vcl_reading *reading,
                             struct vcl_model **model)
{
    struct vcl_model_options options;
    struct vcl_error error = { 0 };

    vcl_model_options_init(&options);
    options.io = reading->io ? VCL_IO_MMAP : VCL_IO_PREAD;
    if (reading->header_limit)
        options.header_limit = reading->header_limit;
    const enum vcl_status status = vcl_model_open(path, &options, model, &error);
    return status == VCL_OK ? VCL_OK
                            : vcl_errand_fail(job, status, "%s%s", error.text,
                                              status == VCL_E_LIMIT ? "; --header-limit sets another" : "");
}

/* Marked as compressed, or with frames nevertheless: a flipped bit in the key of the hash makes it look
 * so. */
static int holds_frames(const struct vcl_model *model, size_t shard)
{
    struct vcl_info info = { .size = sizeof info };
    if (vcl_model_is_compressed(model, shard))
        return 1;
    for (size_t i = 0; i < vcl_model_count(model); i++) {
        const struct vcl_entry *entry = vcl_model_entry(model, i);
        if (entry->shard == shard && vcl_model_frame(model, entry, &info, NULL, NULL) == VCL_OK)
            return 1;
    }
    return 0;
}

size_t vcl_headers_verify(struct vcl_errand *job, const struct vcl_model *model, size_t *compressed)
{
    const size_t shards = vcl_model_shards(model);
    size_t faults = 0;
    *compressed = 0;
    for (size_t i = 0; i < shards; i++) {
        struct vcl_error error = { 0 };
        if (!holds_frames(model, i))
            continue;
        ++*compressed;
        if (vcl_model_check_hash(model, i, &error) != VCL_OK) {
            vcl_errand_check(job, error.status, &error);
            faults++;
        }
    }
    if (*compressed == 0 || *compressed == shards)
        return faults;
    vcl_errand_fail(job, VCL_E_FORMAT, "%s: only %zu of %zu shards are compressed",
                    vcl_model_shard_path(model, 0), *compressed, shards);
    return faults + 1;
}

/* The headers, and the index, which has been read. */
static enum vcl_status check_container(struct vcl_errand *job, const struct vcl_model *model)
{
    const char *index = vcl_model_index_path(model), *slash = index ? strrchr(index, '/') : NULL;
    size_t compressed;
    if (vcl_headers_verify(job, model, &compressed))
        return VCL_E_CHECKSUM;
    return compressed && index ? vcl_sides_check(job, model, slash ? slash + 1 : index) : VCL_OK;
}

enum vcl_status vcl_open_checked(struct vcl_errand *job, const char *path, const struct vcl_reading *reading,
                                 struct vcl_model **model)
{
    enum vcl_status status = vcl_open_any(job, path, reading, model);
    if (!status)
        status = check_container(job, *model);
    if (status) {
        vcl_model_close(*model);
        *model = NULL;
    }
    return status;
}

enum vcl_status vcl_check_side(struct vcl_errand *job, const char *path, const char *name)
{
    const struct vcl_reading reading = { 0 };
    struct vcl_model *model;
    if (!vcl_is_in(path, name)) /* whoever reads it says so */
        return VCL_OK;
    enum vcl_status status = vcl_open_checked(job, path, &reading, &model);
    if (!status)
        status = vcl_sides_check(job, model, name);
    vcl_model_close(model);
    return status;
}
