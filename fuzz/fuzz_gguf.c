/* fuzz_gguf.c - any bytes as a GGUF file: opened by pread and by mmap, and everything in it walked.
 *
 * In: libFuzzer's bytes, put into a memory file behind the magic, so that all mutations are of GGUF files.
 * Beyond not crashing, what opens must hold together: every tensor is found by its name; what pieces of it,
 * which need not begin where a block does, give in both ways of reading is what the whole gives; every key's
 * items can be taken to the last; and the header text is that of a safetensors file with the same tensors. */
#include "open_fd.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PIECE = 77 }; /* no multiple or divisor of any block's bytes */

static void walk_entry(const struct vcl_model *model, const struct vcl_model *mapped, size_t i)
{
    const struct vcl_entry *const entry = vcl_model_entry(model, i);
    const struct vcl_entry *const other = vcl_model_entry(mapped, i);
    uint8_t *const bytes = malloc(entry->bytes + 1), piece[PIECE];
    uint64_t stored;
    must(bytes != NULL && vcl_model_find(model, entry->name) == entry);
    must(vcl_model_stored(model, entry, &stored) != NULL && stored <= entry->bytes);
    must(vcl_model_read(model, entry, 0, bytes, entry->bytes, NULL) == VCL_OK);
    for (uint64_t at = 0; at < entry->bytes; at += PIECE) {
        const size_t n = entry->bytes - at < PIECE ? (size_t)(entry->bytes - at) : PIECE;
        must(vcl_model_read(mapped, other, at, piece, n, NULL) == VCL_OK);
        must(memcmp(bytes + at, piece, n) == 0);
    }
    must(vcl_model_read(model, entry, entry->bytes, piece, 1, NULL) == VCL_E_ARGUMENT);
    free(bytes);
}

/* Every byte of every item, so that sanitizers see each. */
static void walk_items(struct vcl_value value)
{
    struct vcl_item item;
    unsigned sum = 0;
    while (vcl_value_next(&value, &item))
        for (size_t i = 0; i < item.length; i++)
            sum += (unsigned char)item.text[i];
    must(value.left == 0 && sum + 1 != 0);
}

static void walk_values(const struct vcl_model *model)
{
    const char *key, *text, *last = "";
    struct vcl_value value, found;
    for (size_t i = 0; vcl_model_metadata_at(model, 0, i, &key, &text); i++) {
        must(vcl_model_metadata(model, 0, key) == text && vcl_model_value(model, 0, key, &value));
        must(!value.is_list && value.left == 1);
    }
    for (size_t i = 0; vcl_model_value_at(model, 0, i, &key, &value); i++) {
        must(strcmp(last, key) < 0 && vcl_model_value(model, 0, key, &found) && found.at == value.at);
        last = key;
        walk_items(value);
    }
}

static void check_header(const struct vcl_model *model)
{
    size_t length;
    const char *const text = vcl_model_shard_header(model, 0, &length);
    uint64_t data = 0;
    uint8_t size[8];
    for (size_t i = 0; i < vcl_model_count(model); i++)
        data += vcl_model_entry(model, i)->bytes;
    for (size_t i = 0; i < 8; i++)
        size[i] = (uint8_t)(length >> 8 * i);
    const int fd = memfd_create("again", MFD_CLOEXEC);
    must(fd >= 0 && write(fd, size, 8) == 8 && write(fd, text, length) == (ssize_t)length);
    must(ftruncate(fd, (off_t)(8 + length + data)) == 0);
    struct vcl_model *const again = open_fd(fd, VCL_IO_PREAD);
    must(again != NULL && vcl_model_count(again) == vcl_model_count(model));
    vcl_model_close(again);
    close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const int fd = memfd_create("model", MFD_CLOEXEC);
    must(fd >= 0 && write(fd, "GGUF", 4) == 4 && write(fd, data, size) == (ssize_t)size);
    struct vcl_model *const model = open_fd(fd, VCL_IO_PREAD), *const mapped = open_fd(fd, VCL_IO_MMAP);
    must((model == NULL) == (mapped == NULL));
    for (size_t i = 0; model != NULL && i < vcl_model_count(model); i++)
        walk_entry(model, mapped, i);
    if (model != NULL) {
        walk_values(model);
        check_header(model);
    }
    vcl_model_close(model);
    vcl_model_close(mapped);
    close(fd);
    return 0;
}
