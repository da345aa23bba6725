/* opened.c - opens models; a compressed one only where it is what was written.
 *
 * Frames have checksums of their own; what stands around them has vcllm.hash (names, shapes, places,
 * metadata) and vcllm.files (the files beside the shards).  Every verb comes through here, so none works
 * with names that were exchanged or with another config.json. */
#include <string.h>

#include "folder.h"

int vcl_cli_open_any(const char *path, const struct vcl_reading *reading, struct vcl_model **model)
{
    struct vcl_model_options options;
    struct vcl_error error = { 0 };

    vcl_model_options_init(&options);
    options.io = reading->io ? VCL_IO_MMAP : VCL_IO_PREAD;
    if (reading->header_limit)
        options.header_limit = reading->header_limit;
    const enum vcl_status status = vcl_model_open(path, &options, model, &error);
    return status == VCL_OK ? VCL_EXIT_OK
                            : vcl_tell(status, "%s%s", error.text,
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

size_t vcl_headers_verify(const struct vcl_model *model, size_t *compressed)
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
            vcl_tell(error.status, "%s", error.text);
            faults++;
        }
    }
    if (*compressed == 0 || *compressed == shards)
        return faults;
    vcl_say("%s: only %zu of %zu shards are compressed", vcl_model_shard_path(model, 0), *compressed, shards);
    return faults + 1;
}

/* The headers, and the index, which has been read. */
static int check_container(const struct vcl_model *model)
{
    const char *index = vcl_model_index_path(model), *slash = index ? strrchr(index, '/') : NULL;
    size_t compressed;
    if (vcl_headers_verify(model, &compressed))
        return VCL_EXIT_FAILED;
    return compressed && index ? vcl_sides_check(model, slash ? slash + 1 : index) : VCL_EXIT_OK;
}

int vcl_cli_open(const char *path, const struct vcl_reading *reading, struct vcl_model **model)
{
    int code = vcl_cli_open_any(path, reading, model);
    if (!code)
        code = check_container(*model);
    if (code) {
        vcl_model_close(*model);
        *model = NULL;
    }
    return code;
}

int vcl_cli_check_side(const char *path, const char *name)
{
    const struct vcl_reading reading = { 0 };
    struct vcl_model *model;
    if (!vcl_is_in(path, name)) /* whoever reads it says so */
        return VCL_EXIT_OK;
    int code = vcl_cli_open(path, &reading, &model);
    if (!code)
        code = vcl_sides_check(model, name);
    vcl_model_close(model);
    return code;
}
