/* convert_weights.c - model.safetensors: each tensor under its new name, as many rows at once as fit a
 * buffer; converted.c in pack/ puts rows where they belong. */
#include <stdlib.h>

#include "convert.h"

enum { ROOM = 8 << 20 }; /* bytes; one row at least */

static int write_rows(const struct vcl_convert *job, const struct vcl_converted *tensor, uint64_t offset,
                      void *rows, size_t n, struct vcl_writer *writer)
{
    const struct vcl_sink sink = vcl_writer_sink(writer);
    if (vcl_interrupted())
        return VCL_EXIT_INTERRUPTED;
    const enum vcl_status status = vcl_converted_read(vcl_cli_errand(), job->model, tensor, offset, rows, n);
    if (status)
        return vcl_exit_of(status);
    return sink.write(sink.user, offset, rows, n) ? vcl_tell(VCL_E_IO, "%s", vcl_writer_failure(writer))
                                                  : VCL_EXIT_OK;
}

static int write_values(const struct vcl_convert *job, const struct vcl_converted *tensor,
                        struct vcl_writer *writer)
{
    const struct vcl_tensor *t = &tensor->tensor;
    const uint64_t row = (t->rank > 0 ? t->dims[t->rank - 1] : 1) * vcl_dtype_bits(t->dtype) / 8;
    if (tensor->bytes == 0)
        return VCL_EXIT_OK;
    const uint64_t most = row < ROOM ? ROOM / row * row : row;
    unsigned char *rows = vcl_zeros(most, 1);
    int code = VCL_EXIT_OK;
    for (uint64_t at = 0; at < tensor->bytes && !code; at += most) {
        const uint64_t left = tensor->bytes - at;
        code = write_rows(job, tensor, at, rows, left < most ? left : most, writer);
    }
    free(rows);
    return code;
}

static int write_tensor(const struct vcl_convert *job, const struct vcl_converted *tensor,
                        struct vcl_writer *writer)
{
    struct vcl_error error = { 0 };
    const int code = write_values(job, tensor, writer);
    if (code)
        return code;
    const enum vcl_status status = vcl_writer_end(writer, tensor->bytes, &error);
    vcl_progress_add(1, tensor->from->bytes);
    return status == VCL_OK ? VCL_EXIT_OK : vcl_tell(status, "%s", error.text);
}

static int write_tensors(const struct vcl_convert *job, struct vcl_writer *writer)
{
    int code = VCL_EXIT_OK;
    vcl_interrupt_guard(vcl_writer_temporary(writer));
    for (size_t i = 0; i < job->count && !code; i++)
        code = write_tensor(job, &job->tensors[i], writer);
    return vcl_file_finish(writer, code);
}

int vcl_convert_weights(struct vcl_convert *job, const char *path)
{
    const struct vcl_pair format = { "format", "pt" }; /* transformers asks for it */
    struct vcl_error error = { 0 };
    struct vcl_writer *writer;
    struct vcl_layout layout;
    struct vcl_entry *entries = vcl_zeros(job->count + 1, sizeof *entries);
    uint64_t bytes = 0;
    vcl_layout_init(&layout);
    for (size_t i = 0; i < job->count; i++) {
        entries[i].name = job->tensors[i].name;
        entries[i].tensor = job->tensors[i].tensor;
        bytes += entries[i].bytes = job->tensors[i].bytes;
    }
    layout.count = job->count;
    layout.entries = entries;
    layout.metadata_count = 1;
    layout.metadata = &format;
    layout.overwrite = 1;
    const enum vcl_status status = vcl_writer_create(path, &layout, bytes, &writer, &error);
    free(entries);
    return status == VCL_OK ? write_tensors(job, writer) : vcl_tell(status, "%s", error.text);
}
