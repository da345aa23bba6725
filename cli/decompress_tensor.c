/* decompress_tensor.c - one tensor, or some of its rows: a safetensors file with nothing else, or raw
 * values. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "layout/values.h"
#include "restore.h"

struct extract {
    struct vcl_restore *job;
    struct vcl_values values;
    uint64_t first, count;  /* indices of dims[0]; UINT64_MAX: all */
    struct vcl_entry entry; /* as it will be written */
};

static int refuse_rows(const struct extract *extract)
{
    const struct vcl_tensor *tensor = &extract->values.tensor;
    vcl_say("decompress: --rows %s: A:B with 0 <= A <= B <= %llu, the first of '%s' %s", extract->job->rows,
            (unsigned long long)(tensor->rank ? tensor->dims[0] : 0), extract->entry.name,
            vcl_words_shape(tensor).text);
    return VCL_EXIT_USAGE;
}

static int parse_rows(struct extract *extract)
{
    const struct vcl_tensor *tensor = &extract->values.tensor;
    const char *text = extract->job->rows, *colon = strchr(text, ':');
    char *end;
    if (!tensor->rank || !colon || strspn(text, "0123456789:") != strlen(text) || strchr(colon + 1, ':'))
        return refuse_rows(extract);
    const unsigned long long first = strtoull(text, NULL, 10);
    const unsigned long long last = colon[1] ? strtoull(colon + 1, &end, 10) : tensor->dims[0];
    if (first > last || last > tensor->dims[0])
        return refuse_rows(extract);
    extract->first = first;
    extract->count = last - first;
    extract->entry.tensor.dims[0] = extract->count;
    return VCL_EXIT_OK;
}

static int describe(struct extract *extract)
{
    const struct vcl_restore *job = extract->job;
    const struct vcl_decompress *d = &job->decompress;
    const struct vcl_entry *found = vcl_model_find(d->model, job->tensor);
    if (!found) {
        vcl_say("%s: there is no tensor '%s'; 'vcllm info' lists them", d->input, job->tensor);
        return VCL_EXIT_USAGE;
    }
    int code = vcl_exit_of(vcl_values_open(d->job, &extract->values, d->model, found, d->decoder));
    extract->count = UINT64_MAX;
    extract->entry = (struct vcl_entry){ .name = found->name, .tensor = extract->values.tensor };
    if (!code && job->rows)
        code = parse_rows(extract);
    if (code)
        return code;
    if (d->dtype != VCL_DTYPE_COUNT && vcl_dtype_is_float(extract->entry.tensor.dtype))
        extract->entry.tensor.dtype = d->dtype;
    const enum vcl_status status = vcl_tensor_size(&extract->entry.tensor, NULL, &extract->entry.bytes);
    return status == VCL_OK ? VCL_EXIT_OK
                            : vcl_tell(status, "tensor '%s': %s", found->name, vcl_status_text(status));
}

/* ---- to a file ------------------------------------------------------------------------------- */

static int decode_into(struct extract *extract, struct vcl_writer *writer)
{
    struct vcl_error error = { 0 };
    struct vcl_sink sink = vcl_writer_sink(writer);
    struct vcl_converter converter = { extract->values.tensor.dtype, extract->entry.tensor.dtype, sink };
    if (converter.from != converter.dtype)
        sink = vcl_converter_sink(&converter);
    int code = extract->count
                 ? vcl_exit_of(vcl_values_decode(&extract->values, extract->job->decompress.work.wide,
                                                 extract->first, extract->count, &sink, writer))
                 : VCL_EXIT_OK;
    if (!code && vcl_writer_end(writer, extract->entry.bytes, &error) != VCL_OK)
        code = vcl_tell(error.status, "%s", error.text);
    return code;
}

static int write_file(struct extract *extract, struct vcl_layout *layout)
{
    struct vcl_error error = { 0 };
    struct vcl_writer *writer;
    const enum vcl_status status =
        vcl_writer_create(extract->job->decompress.output, layout, extract->entry.bytes, &writer, &error);
    if (status != VCL_OK)
        return vcl_tell(status, "%s", error.text);
    vcl_interrupt_guard(vcl_writer_temporary(writer));
    return vcl_file_finish(writer, decode_into(extract, writer));
}

static int extract_file(struct extract *extract)
{
    const size_t shard = extract->values.entry->shard;
    struct vcl_layout layout;
    struct vcl_pair pair;
    size_t count = 0;
    while (vcl_model_metadata_at(extract->job->decompress.model, shard, count, &pair.key, &pair.value))
        count++;
    struct vcl_pair *pairs = vcl_zeros(count, sizeof *pairs);
    vcl_layout_init(&layout);
    for (size_t i = 0; i < count; i++) {
        vcl_model_metadata_at(extract->job->decompress.model, shard, i, &pair.key, &pair.value);
        if (strncmp(pair.key, "vcllm.", 6) != 0)
            pairs[layout.metadata_count++] = pair;
    }
    layout.metadata = pairs;
    layout.count = 1;
    layout.entries = &extract->entry;
    layout.overwrite = extract->job->decompress.force;
    const int code = write_file(extract, &layout);
    free(pairs);
    return code;
}

/* ---- to standard output ---------------------------------------------------------------------- */

static int stream_write(void *user, uint64_t offset, const void *src, size_t bytes)
{
    (void)offset; /* the window is handed over from front to back */
    return fwrite(src, 1, bytes, user) != bytes;
}

static int extract_stream(struct extract *extract)
{
    const struct vcl_values *values = &extract->values;
    const uint64_t rows = values->tensor.rank ? values->tensor.dims[0] : 1;
    const uint64_t row = rows ? values->bytes / rows : 0;
    const uint64_t from = extract->first * row;
    const uint64_t to = extract->count == UINT64_MAX ? values->bytes : from + extract->count * row;
    const size_t step = vcl_values_step(values);
    struct vcl_sink sink = { .user = stdout, .write = stream_write };
    struct vcl_converter converter = { values->tensor.dtype, extract->entry.tensor.dtype, sink };
    unsigned char *buffer = vcl_zeros(step, 1);
    int code = VCL_EXIT_OK;

    if (converter.from != converter.dtype)
        sink = vcl_converter_sink(&converter);
    for (uint64_t at = from; at < to && !code; at += step) {
        const size_t n = to - at < step ? (size_t)(to - at) : step;
        code = vcl_exit_of(vcl_values_read(values, extract->job->decompress.work.wide, at, buffer, n));
        if (!code && sink.write(sink.user, 0, buffer, n))
            code = VCL_EXIT_IO; /* said when standard output is closed */
    }
    free(buffer);
    return code;
}

int vcl_restore_tensor(struct vcl_restore *job)
{
    struct extract extract = { .job = job };
    struct vcl_decompress *d = &job->decompress;
    const int to_stdout = strcmp(d->output, "-") == 0;
    int code = to_stdout ? VCL_EXIT_OK : vcl_exit_of(vcl_decompress_check_output(d));
    if (!code)
        code = vcl_exit_of(vcl_work_create(&d->work, d->job, d->threads, d->pool));
    if (!code && to_stdout && isatty(STDOUT_FILENO)) {
        vcl_say("decompress: raw values are not written to a terminal");
        code = VCL_EXIT_USAGE;
    }
    if (!code)
        code = describe(&extract);
    if (!code)
        code = to_stdout ? extract_stream(&extract) : extract_file(&extract);
    d->tensors = 1;
    d->bytes = extract.entry.bytes;
    return code;
}
