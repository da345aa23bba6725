/* rotate_shard.c - one shard with its tensors rotated, and the others as they are, one after the other. */
#include <stdlib.h>

#include "rotate_model.h"
#include "layout/shard.h"

/* A shard on its way.  The layout's last entry may be a head that the input has not. */
struct rotated_shard {
    struct vcl_rotate *job;
    struct vcl_shard shard;
    char **names;
    struct vcl_writer *writer;
};

static const struct vcl_part *part_at(const struct rotated_shard *work, size_t i)
{
    const size_t index = work->shard.first + i;
    return index == work->shard.last
             ? work->job->untied.head
             : vcl_merge_find(work->job->merge, vcl_model_entry(work->job->model, index)->name);
}

/* Name, shape and dtype as they will be. */
static int describe(struct rotated_shard *work, size_t i)
{
    struct vcl_rotate *job = work->job;
    struct vcl_entry *entry = &work->shard.entries[i];
    const struct vcl_part *part = part_at(work, i);
    const enum vcl_dtype dtype = entry->tensor.dtype;
    entry->name = work->names[i] = vcl_rotate_name(job, entry->name);
    if (!part)
        return VCL_EXIT_OK;
    entry->tensor = part->shape;
    entry->tensor.dtype = job->dtype == VCL_DTYPE_COUNT ? dtype : job->dtype;
    const enum vcl_status status = vcl_tensor_size(&entry->tensor, NULL, &entry->bytes);
    return status == VCL_OK ? VCL_EXIT_OK
                            : vcl_tell(status, "tensor '%s': %s", entry->name, vcl_status_text(status));
}

static int describe_shard(struct rotated_shard *work, size_t number)
{
    const struct vcl_rotate *job = work->job;
    const size_t more = (size_t)vcl_rotate_adds_head(job, number);
    int code = vcl_exit_of(vcl_shard_describe_same(vcl_cli_errand(), &work->shard, job->model, number, more));
    if (code)
        return code;
    work->names = vcl_zeros(work->shard.layout.count + more, sizeof *work->names);
    if (more) {
        struct vcl_entry *head = &work->shard.entries[work->shard.layout.count++];
        *head = *vcl_model_find(job->model, job->untied.embedding->name);
        head->name = job->untied.head->name;
    }
    for (size_t i = 0; i < work->shard.layout.count && !code; i++)
        code = describe(work, i);
    return code;
}

/* ---- writing --------------------------------------------------------------------------------- */

static int write_failed(const struct rotated_shard *work)
{
    return vcl_tell(VCL_E_IO, "%s", vcl_writer_failure(work->writer));
}

static int write_part(const struct rotated_shard *work, const struct vcl_part *part,
                      const struct vcl_entry *entry)
{
    const struct vcl_sink sink = vcl_writer_sink(work->writer);
    struct vcl_error error = { 0 };
    void *values;
    const enum vcl_status status =
        vcl_merge_make(work->job->merge, part, entry->tensor.dtype, &values, &error);
    if (status != VCL_OK)
        return vcl_tell(status, "%s", error.text);
    const int failed = entry->bytes && sink.write(sink.user, 0, values, (size_t)entry->bytes);
    free(values);
    work->job->made++;
    return failed ? write_failed(work) : VCL_EXIT_OK;
}

static int copy_tensor(const struct rotated_shard *work, const struct vcl_entry *from)
{
    enum { CHUNK = 1 << 20 };
    const struct vcl_sink sink = vcl_writer_sink(work->writer);
    struct vcl_error error = { 0 };
    unsigned char *chunk = vcl_zeros(CHUNK, 1);
    int code = VCL_EXIT_OK;
    for (uint64_t at = 0; at < from->bytes && !code; at += CHUNK) {
        const size_t n = from->bytes - at < CHUNK ? (size_t)(from->bytes - at) : CHUNK;
        const enum vcl_status status = vcl_model_read(work->job->model, from, at, chunk, n, &error);
        if (status != VCL_OK)
            code = vcl_tell(status, "%s", error.text);
        else if (sink.write(sink.user, at, chunk, n))
            code = write_failed(work);
    }
    free(chunk);
    return code;
}

static int write_tensor(const struct rotated_shard *work, size_t i)
{
    const struct vcl_entry *entry = &work->shard.entries[i];
    const struct vcl_part *part = part_at(work, i);
    struct vcl_error error = { 0 };
    const int code = vcl_interrupted() ? VCL_EXIT_INTERRUPTED
                   : part              ? write_part(work, part, entry)
                          : copy_tensor(work, vcl_model_entry(work->job->model, work->shard.first + i));
    if (code)
        return code;
    const enum vcl_status status = vcl_writer_end(work->writer, entry->bytes, &error);
    work->job->tensors++;
    work->job->bytes += entry->bytes;
    vcl_progress_add(1, entry->bytes);
    return status == VCL_OK ? VCL_EXIT_OK : vcl_tell(status, "%s", error.text);
}

static int write_shard(struct rotated_shard *work, const char *path)
{
    struct vcl_error error = { 0 };
    int code = VCL_EXIT_OK;
    work->shard.layout.overwrite = 1;
    const enum vcl_status status =
        vcl_writer_create(path, &work->shard.layout, vcl_shard_bytes(&work->shard), &work->writer, &error);
    if (status == VCL_OK) {
        vcl_interrupt_guard(vcl_writer_temporary(work->writer));
        for (size_t i = 0; i < work->shard.layout.count && !code; i++)
            code = write_tensor(work, i);
        code = vcl_file_finish(work->writer, code);
    }
    return status == VCL_OK ? code : vcl_tell(status, "%s", error.text);
}

int vcl_rotate_shard(struct vcl_rotate *job, size_t number, const char *path)
{
    struct rotated_shard work = { .job = job };
    int code = describe_shard(&work, number);
    if (!code)
        code = write_shard(&work, path);
    for (size_t i = 0; i < work.shard.layout.count; i++)
        free(work.names[i]);
    free(work.names);
    vcl_shard_free(&work.shard);
    return code;
}
