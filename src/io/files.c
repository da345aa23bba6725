/* files.c - plain files beside a model (config, tokenizer, index): read, written or copied as a whole.
 *
 * In: paths.  Out: bytes, and the XXH3-128 that a compressed folder keeps of every file it copied.
 * Copies stream, so a file may be of any size. */
#include "io.h"

#include <stdlib.h>

enum vcl_status vcl_write_file(const char *path, const void *bytes, size_t n, int overwrite,
                               struct vcl_error *error)
{
    struct vcl_output output;
    enum vcl_status status = vcl_output_create(&output, path, overwrite, error);
    if (status != VCL_OK)
        return status;
    status = vcl_output_write(&output, 0, bytes, n, error);
    if (status == VCL_OK)
        return vcl_output_commit(&output, n, error);
    vcl_output_abandon(&output);
    return status;
}

enum vcl_status vcl_read_file(const char *path, uint64_t limit, void **bytes, size_t *n,
                              struct vcl_error *error)
{
    struct vcl_file file;
    enum vcl_status status = vcl_file_open(&file, path, VCL_IO_PREAD, error);
    if (status != VCL_OK)
        return status;
    const size_t length = (size_t)file.bytes;
    char *text = NULL;
    if (file.bytes > limit || file.bytes >= SIZE_MAX)
        status = vcl_fail(error, VCL_E_LIMIT, path, "has %llu bytes; the limit is %llu",
                          (unsigned long long)file.bytes, (unsigned long long)limit);
    else if ((text = malloc(length + 1)) == NULL)
        status = vcl_fail_memory(error, path);
    else
        status = vcl_file_read(&file, 0, text, length, error);
    vcl_file_close(&file);
    if (status != VCL_OK) {
        free(text);
        return status;
    }
    text[length] = 0;
    *bytes = text;
    *n = length;
    return VCL_OK;
}

/* Streams the file through the hash and, if there is an output, into it. */
static enum vcl_status pour(struct vcl_file *file, const struct vcl_output *output, char hex[33],
                            struct vcl_error *error)
{
    enum { PIECE = 1 << 20 };
    XXH3_state_t state;
    uint8_t *const piece = malloc(PIECE);
    if (piece == NULL)
        return vcl_fail_memory(error, file->path);
    enum vcl_status status = VCL_OK;
    XXH3_128bits_reset(&state);
    for (uint64_t at = 0; status == VCL_OK && at < file->bytes; at += PIECE) {
        const size_t n = (size_t)vcl_min(PIECE, file->bytes - at);
        status = vcl_file_read(file, at, piece, n, error);
        if (status == VCL_OK && output != NULL)
            status = vcl_output_write(output, at, piece, n, error);
        XXH3_128bits_update(&state, piece, n);
    }
    free(piece);
    if (hex != NULL)
        vcl_hash_hex(XXH3_128bits_digest(&state), hex);
    return status;
}

static enum vcl_status copy_to(struct vcl_file *file, const char *to, int overwrite, char hex[33],
                               struct vcl_error *error)
{
    struct vcl_output output;
    enum vcl_status status = vcl_output_create(&output, to, overwrite, error);
    if (status != VCL_OK)
        return status;
    status = vcl_output_reserve(&output, file->bytes, file->bytes, error);
    if (status == VCL_OK)
        status = pour(file, &output, hex, error);
    if (status == VCL_OK)
        return vcl_output_commit(&output, file->bytes, error);
    vcl_output_abandon(&output);
    return status;
}

enum vcl_status vcl_copy_file(const char *from, const char *to, int overwrite, char hex[33],
                              struct vcl_error *error)
{
    struct vcl_file file;
    enum vcl_status status = vcl_file_open(&file, from, VCL_IO_PREAD, error);
    if (status != VCL_OK)
        return status;
    status = to != NULL ? copy_to(&file, to, overwrite, hex, error) : pour(&file, NULL, hex, error);
    vcl_file_close(&file);
    return status;
}
