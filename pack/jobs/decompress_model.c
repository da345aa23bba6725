/* decompress_model.c - a compressed model to what it was: files to files, folders to folders.
 *
 * The container's hash is checked before anything is written, every tile's checksums while it decodes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "decompress.h"
#include "folder/folder.h"
#include "layout/shard.h"

enum vcl_status vcl_decompress_open(struct vcl_decompress *d)
{
    const enum vcl_status status = vcl_open_checked(d->job, d->input, &d->reading, &d->model);
    if (status)
        return status;
    if (!vcl_model_is_compressed(d->model, 0)) /* or all shards are, else it would not have been opened */
        return vcl_errand_fail(d->job, VCL_E_ARGUMENT, "%s: is not compressed",
                               vcl_model_shard_path(d->model, 0));
    return VCL_OK;
}

enum vcl_status vcl_decompress_check_output(const struct vcl_decompress *d)
{
    struct stat in, out;
    if (stat(d->output, &out))
        return errno == ENOENT ? VCL_OK
                               : vcl_errand_fail(d->job, VCL_E_IO, "%s: %s", d->output, strerror(errno));
    if (S_ISDIR(out.st_mode))
        return vcl_errand_fail(d->job, VCL_E_IO, "%s: is a folder", d->output);
    if (stat(d->input, &in) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
        return vcl_errand_fail(d->job, VCL_E_ARGUMENT, "%s: input and output are the same file", d->output);
    return d->force ? VCL_OK
                    : vcl_errand_fail(d->job, VCL_E_IO, "%s: is there already; -f replaces it", d->output);
}

/* Bytes of all frames and of all tensors, for total_size in the index. */
static enum vcl_status sum_bytes(const struct vcl_decompress *d, uint64_t *frames, uint64_t *plain)
{
    *frames = *plain = 0;
    for (size_t i = 0; i < vcl_model_count(d->model); i++)
        *frames += vcl_model_entry(d->model, i)->bytes;
    for (size_t i = 0; i < vcl_model_shards(d->model); i++) {
        struct vcl_shard shard;
        const enum vcl_status status = vcl_shard_describe_plain(d->job, &shard, d->model, i, d->dtype);
        if (status)
            return status;
        *plain += vcl_shard_bytes(&shard);
        vcl_shard_free(&shard);
    }
    return VCL_OK;
}

static enum vcl_status fill_folder(void *user, struct vcl_folder *folder)
{
    struct vcl_decompress *d = user;
    uint64_t frames, plain;
    enum vcl_status status = sum_bytes(d, &frames, &plain);
    if (!status)
        status = vcl_sides_restore(folder, frames, plain);
    for (size_t i = 0; i < vcl_model_shards(d->model) && !status; i++) {
        char *path = vcl_path_in(folder->partial, vcl_model_shard_name(d->model, i));
        status = path ? vcl_decompress_shard(d, i, path, 1) : vcl_errand_memory(d->job);
        free(path);
    }
    return status;
}

static enum vcl_status write_folder(struct vcl_decompress *d)
{
    struct vcl_folder folder;
    enum vcl_status status = vcl_folder_open(&folder, d->job, d->model, d->output, 0);
    if (!status)
        status = vcl_folder_write(&folder, d->force, fill_folder, d);
    vcl_folder_close(&folder);
    return status;
}

enum vcl_status vcl_decompress_write(struct vcl_decompress *d)
{
    const int to_folder = vcl_model_is_folder(d->model);
    enum vcl_status status = to_folder ? VCL_OK : vcl_decompress_check_output(d);
    if (!status)
        status = vcl_work_create(&d->work, d->job, d->threads, d->pool);
    if (status)
        return status;
    vcl_work_start(d->job, "decompress", d->model);
    status = to_folder ? write_folder(d) : vcl_decompress_shard(d, 0, d->output, d->force);
    vcl_errand_stop(d->job);
    return status;
}

void vcl_decompress_release(struct vcl_decompress *d)
{
    vcl_work_destroy(&d->work);
    vcl_model_close(d->model);
}
