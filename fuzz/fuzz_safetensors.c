/* fuzz_safetensors.c - any bytes as a model file: opened by pread and by mmap, and everything in it
 * walked.
 *
 * In: libFuzzer's bytes, put into a memory file; and once more as a header alone, with its true length
 * before it and as many bytes of data behind it as the first byte says, so that mutations reach the
 * rules beyond the length.  Beyond not crashing, what opens must hold together: every tensor is found
 * by its name, its bytes can be read to the last, both ways of reading agree, and the canonical header
 * of its entries describes the same tensors again. */
#include "open_fd.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int memory_file(const void *bytes, size_t n)
{
    const int fd = memfd_create("model", MFD_CLOEXEC);
    must(fd >= 0 && write(fd, bytes, n) == (ssize_t)n);
    return fd;
}

static void walk_entry(const struct vcl_model *model, const struct vcl_model *mapped, size_t i)
{
    const struct vcl_entry *const entry = vcl_model_entry(model, i), *const other =
                                                                         vcl_model_entry(mapped, i);
    const struct vcl_entry *target;
    struct vcl_info info = { .size = sizeof info };
    uint8_t *const bytes = malloc(entry->bytes + 1), *const same = malloc(entry->bytes + 1);
    must(bytes != NULL && same != NULL && vcl_model_find(model, entry->name) == entry);
    must(vcl_model_read(model, entry, 0, bytes, entry->bytes, NULL) == VCL_OK);
    must(vcl_model_read(mapped, other, 0, same, entry->bytes, NULL) == VCL_OK);
    must(memcmp(bytes, same, entry->bytes) == 0);
    must(vcl_model_read(model, entry, entry->bytes, bytes, 1, NULL) == VCL_E_ARGUMENT);
    if (vcl_model_frame(model, entry, &info, &target, NULL) == VCL_OK)
        must(info.frame_bytes == entry->bytes && target->shard == entry->shard);
    free(bytes);
    free(same);
}

static int same_entry(const struct vcl_entry *a, const struct vcl_entry *b)
{
    return strcmp(a->name, b->name) == 0 && a->bytes == b->bytes && a->tensor.dtype == b->tensor.dtype
        && a->tensor.rank == b->tensor.rank
        && memcmp(a->tensor.dims, b->tensor.dims, sizeof a->tensor.dims) == 0;
}

/* Entries and metadata to text and back. */
static void write_again(const struct vcl_model *model, const struct vcl_layout *layout, uint64_t data)
{
    char *text;
    size_t length;
    uint8_t size[8];
    must(vcl_layout_header(layout, &text, &length, NULL) == VCL_OK && length % 8 == 0);
    for (size_t i = 0; i < 8; i++)
        size[i] = (uint8_t)(length >> 8 * i);
    const int fd = memory_file(size, 8);
    must(write(fd, text, length) == (ssize_t)length && ftruncate(fd, (off_t)(8 + length + data)) == 0);
    struct vcl_model *const again = open_fd(fd, VCL_IO_PREAD);
    must(again != NULL && vcl_model_count(again) == vcl_model_count(model));
    for (size_t i = 0; i < layout->count; i++)
        must(same_entry(vcl_model_entry(model, i), vcl_model_entry(again, i)));
    for (size_t i = 0; i < layout->metadata_count; i++)
        must(strcmp(vcl_model_metadata(again, 0, layout->metadata[i].key), layout->metadata[i].value) == 0);
    vcl_model_close(again);
    close(fd);
    free(text);
}

static void walk(const struct vcl_model *model, const struct vcl_model *mapped, size_t size)
{
    struct vcl_layout layout;
    struct vcl_entry *const entries = malloc((vcl_model_count(model) + 1) * sizeof *entries);
    struct vcl_pair *const pairs = malloc((size + 1) * sizeof *pairs);
    uint64_t data = 0;
    must(entries != NULL && pairs != NULL);
    vcl_layout_init(&layout);
    for (; layout.count < vcl_model_count(model); layout.count++) {
        walk_entry(model, mapped, layout.count);
        entries[layout.count] = *vcl_model_entry(model, layout.count);
        data += entries[layout.count].bytes;
    }
    while (vcl_model_metadata_at(model, 0, layout.metadata_count, &pairs[layout.metadata_count].key,
                                 &pairs[layout.metadata_count].value))
        layout.metadata_count++;
    layout.entries = entries;
    layout.metadata = pairs;
    vcl_model_check_hash(model, 0, NULL);
    write_again(model, &layout, data);
    free(entries);
    free(pairs);
}

static void open_and_walk(int fd, size_t size)
{
    struct vcl_model *const model = open_fd(fd, VCL_IO_PREAD), *const mapped = open_fd(fd, VCL_IO_MMAP);
    must((model == NULL) == (mapped == NULL));
    if (model != NULL)
        walk(model, mapped, size);
    vcl_model_close(model);
    vcl_model_close(mapped);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    open_and_walk(memory_file(data, size), size);
    if (size < 2)
        return 0;
    const uint8_t length[8] = { (uint8_t)(size - 1), (uint8_t)((size - 1) >> 8),
                                (uint8_t)((size - 1) >> 16) };
    const int fd = memory_file(length, 8);
    must(write(fd, data + 1, size - 1) == (ssize_t)(size - 1)
         && ftruncate(fd, (off_t)(8 + size - 1 + data[0])) == 0);
    open_and_walk(fd, size);
    return 0;
}
