/* writer.c - writes model files, whole or not at all.
 *
 * In: the list of tensors, then their bytes in any order within each.  Out: a safetensors file of the
 * canonical header or of a given one.  The header stands first but is known last, so room for the
 * largest is kept and filled with spaces.  The layout is checked by parsing its own header text: the
 * rules are written down once, in safetensors.c, and what this writes, that reads. */
#include "io.h"

#include <stdatomic.h>
#include <stdlib.h>

struct vcl_writer {
    struct vcl_output output;
    struct vcl_header header; /* entries and metadata; entries of frames hold bounds until they have ended */
    size_t room;              /* of the header in the file */
    int frames;
    size_t next;           /* the entry being written */
    uint64_t base;         /* bytes of the entries before it */
    char *late, *late_end; /* strings of metadata added later */
    size_t late_left;      /* bytes of header text for them */
    atomic_int failed;     /* a write did; the first to set it fills failure */
    struct vcl_error failure;
};

/* A file is data at multiples of this where frames will be mapped, and of 8 by custom. */
enum { FRAME_ALIGNMENT = 64, ALIGNMENT = 8 };

static const char no_hash[] = "00000000000000000000000000000000";

void vcl_layout_init_sized(struct vcl_layout *layout, size_t size)
{
    const struct vcl_layout defaults = { 0 };
    vcl_init_sized(&defaults, sizeof defaults, layout, size);
}

static int take_layout(struct vcl_layout *taken, const struct vcl_layout *given)
{
    vcl_layout_init(taken);
    return vcl_take_sized(given, taken, sizeof *taken) && !(taken->frames && taken->header != NULL)
        && (taken->frames || taken->late_bytes == 0) && taken->header_length <= VCL_HEADER_MAX
        && taken->late_bytes <= VCL_HEADER_MAX;
}

/* ---- the layout ------------------------------------------------------------------------------ */

/* Sizes, and what vcl_header_text takes for granted. */
static enum vcl_status check_sizes(const struct vcl_layout *layout, const char *path, uint64_t *total,
                                   struct vcl_error *error)
{
    *total = 0;
    for (size_t i = 0; i < layout->count; i++) {
        const struct vcl_entry *const entry = &layout->entries[i];
        uint64_t bytes = entry->bytes;
        const enum vcl_status status =
            layout->frames ? VCL_OK : vcl_tensor_size(&entry->tensor, NULL, &bytes);
        if (status != VCL_OK)
            return vcl_fail(error, status, path, "tensor " VCL_NAME ": %s", entry->name,
                            vcl_status_text(status));
        if (bytes != entry->bytes)
            return vcl_fail(error, VCL_E_ARGUMENT, path, "tensor " VCL_NAME ": takes %llu bytes, not %llu",
                            entry->name, (unsigned long long)bytes, (unsigned long long)entry->bytes);
        if (vcl_data_add(total, bytes))
            return vcl_fail(error, VCL_E_LIMIT, path, "tensor " VCL_NAME ": ends beyond 63 bits",
                            entry->name);
    }
    return VCL_OK;
}

/* The layout's header; of frames, the longest that it can have. */
static enum vcl_status layout_text(const struct vcl_layout *layout, char **text, size_t *length)
{
    const size_t pair_count = layout->metadata_count + (layout->frames != 0);
    struct vcl_pair *const pairs = malloc((pair_count + 1) * sizeof *pairs);
    enum vcl_status status = VCL_E_MEMORY;
    if (pairs != NULL) {
        for (size_t i = 0; i < layout->metadata_count; i++)
            pairs[i] = layout->metadata[i];
        if (layout->frames)
            pairs[layout->metadata_count] = (struct vcl_pair){ VCL_HASH_KEY, no_hash };
        status =
            vcl_header_text(layout->entries, layout->count, layout->frames, pairs, pair_count, text, length);
    }
    free(pairs);
    return status;
}

/* What a header of this length takes in the file, with room for what comes later. */
static size_t header_room(const struct vcl_layout *layout, size_t length)
{
    return vcl_round_up(8 + length + layout->late_bytes, layout->frames ? FRAME_ALIGNMENT : ALIGNMENT) - 8;
}

enum vcl_status vcl_layout_header(const struct vcl_layout *layout, char **text, size_t *length,
                                  struct vcl_error *error)
{
    struct vcl_layout taken;
    uint64_t total;
    if (!take_layout(&taken, layout) || taken.header != NULL)
        return vcl_fail(error, VCL_E_ARGUMENT, NULL, "a layout that has a header, or contradicts itself");
    const enum vcl_status status = check_sizes(&taken, NULL, &total, error);
    if (status != VCL_OK)
        return status;
    if (layout_text(&taken, text, length) != VCL_OK)
        return vcl_fail_memory(error, NULL);
    const size_t padded = header_room(&taken, *length);
    char *const grown = realloc(*text, padded + 1);
    if (grown == NULL) {
        free(*text);
        return vcl_fail_memory(error, NULL);
    }
    memset(grown + *length, ' ', padded - *length);
    grown[padded] = 0;
    *text = grown;
    *length = padded;
    return VCL_OK;
}

/* ---- creating -------------------------------------------------------------------------------- */

static int same_entry(const struct vcl_entry *a, const struct vcl_entry *b, int frames)
{
    if (strcmp(a->name, b->name) != 0 || a->bytes != b->bytes)
        return 0;
    return frames
        || (a->tensor.dtype == b->tensor.dtype && a->tensor.rank == b->tensor.rank
            && memcmp(a->tensor.dims, b->tensor.dims, a->tensor.rank * sizeof *a->tensor.dims) == 0);
}

static enum vcl_status check_agreement(const struct vcl_header *header, const struct vcl_layout *layout,
                                       const char *path, struct vcl_error *error)
{
    if (header->count != layout->count)
        return vcl_fail(error, VCL_E_ARGUMENT, path, "the header has %zu tensors, not %zu", header->count,
                        layout->count);
    for (size_t i = 0; i < layout->count; i++)
        if (!same_entry(&header->entries[i], &layout->entries[i], layout->frames))
            return vcl_fail(error, VCL_E_ARGUMENT, path, "tensor " VCL_NAME ": the header does not agree",
                            layout->entries[i].name);
    return VCL_OK;
}

static enum vcl_status check_names(const struct vcl_header *header, const char *path, struct vcl_error *error)
{
    const struct vcl_entry **const names = malloc((header->count + 1) * sizeof *names);
    if (names == NULL)
        return vcl_fail_memory(error, path);
    for (size_t i = 0; i < header->count; i++)
        names[i] = &header->entries[i];
    const struct vcl_entry *const twice = vcl_names_sort(names, header->count);
    free(names);
    return twice == NULL
             ? VCL_OK
             : vcl_fail(error, VCL_E_FORMAT, path, "tensor " VCL_NAME " is there twice", twice->name);
}

static enum vcl_status copy_layout(struct vcl_writer *w, const char *path, const struct vcl_layout *layout,
                                   uint64_t total, struct vcl_error *error)
{
    char *text = NULL;
    size_t length = layout->header_length;
    if (layout->header == NULL)
        layout_text(layout, &text, &length);
    else if ((text = malloc(length + 1)) != NULL)
        memcpy(text, layout->header, length);
    if (text == NULL)
        return vcl_fail_memory(error, path);
    enum vcl_status status = vcl_header_parse(path, text, length, 8 + length + total, 0, &w->header, error);
    if (status == VCL_OK)
        status = check_names(&w->header, path, error);
    if (status == VCL_OK)
        status = check_agreement(&w->header, layout, path, error);
    return status;
}

/* Room for the header, and for metadata that comes later: a pair takes 6 characters of text at least. */
static enum vcl_status make_room(struct vcl_writer *w, const char *path, const struct vcl_layout *layout,
                                 struct vcl_error *error)
{
    const size_t most = w->header.metadata.count + layout->late_bytes / 6 + 1;
    struct vcl_pair *const pairs = realloc(w->header.metadata.pair, most * sizeof *pairs);
    if (pairs != NULL)
        w->header.metadata.pair = pairs;
    w->late = w->late_end = malloc(layout->late_bytes + 1);
    if (pairs == NULL || w->late == NULL)
        return vcl_fail_memory(error, path);
    w->late_left = layout->late_bytes;
    w->frames = layout->frames != 0;
    w->header.metadata.count -= (size_t)w->frames; /* the hash comes last */
    w->room = layout->header != NULL ? w->header.length : header_room(layout, w->header.length);
    if (w->room > VCL_HEADER_MAX)
        return vcl_fail(error, VCL_E_LIMIT, path, "the header would have %zu bytes; the format's limit is %u",
                        w->room, VCL_HEADER_MAX);
    return VCL_OK;
}

enum vcl_status vcl_writer_create(const char *path, const struct vcl_layout *layout, uint64_t disk_bytes,
                                  struct vcl_writer **writer, struct vcl_error *error)
{
    struct vcl_layout taken;
    uint64_t total;
    *writer = NULL;
    if (!take_layout(&taken, layout))
        return vcl_fail(error, VCL_E_ARGUMENT, path, "a layout that contradicts itself");
    enum vcl_status status = check_sizes(&taken, path, &total, error);
    if (status != VCL_OK)
        return status;
    struct vcl_writer *const w = calloc(1, sizeof *w);
    if (w == NULL)
        return vcl_fail_memory(error, path);
    w->output.fd = -1;
    status = copy_layout(w, path, &taken, total, error);
    if (status == VCL_OK)
        status = make_room(w, path, &taken, error);
    if (status == VCL_OK)
        status = vcl_output_create(&w->output, path, taken.overwrite, error);
    if (status == VCL_OK && disk_bytes > 0)
        status = vcl_output_reserve(&w->output, disk_bytes, w->frames ? 0 : 8 + w->room + total, error);
    if (status == VCL_OK)
        *writer = w;
    else
        vcl_writer_abandon(w);
    return status;
}

/* ---- writing --------------------------------------------------------------------------------- */

static enum vcl_status write_part(const struct vcl_writer *w, uint64_t offset, const void *src, size_t n,
                                  struct vcl_error *error)
{
    if (w->next == w->header.count)
        return vcl_fail(error, VCL_E_ARGUMENT, w->output.path, "all tensors have been written");
    const struct vcl_entry *const entry = &w->header.entries[w->next];
    if (offset > entry->bytes || n > entry->bytes - offset)
        return vcl_fail(error, VCL_E_ARGUMENT, w->output.path,
                        "tensor " VCL_NAME ": %zu bytes at %llu are beyond its "
                        "end at %llu",
                        entry->name, n, (unsigned long long)offset, (unsigned long long)entry->bytes);
    return vcl_output_write(&w->output, 8 + w->room + w->base + offset, src, n, error);
}

static int write_sink(void *user, uint64_t offset, const void *src, size_t n)
{
    struct vcl_writer *const w = user;
    struct vcl_error error;
    const enum vcl_status status = write_part(w, offset, src, n, &error);
    if (status != VCL_OK && !atomic_exchange(&w->failed, 1))
        w->failure = error;
    return status != VCL_OK;
}

struct vcl_sink vcl_writer_sink(struct vcl_writer *writer)
{
    return (struct vcl_sink){ .user = writer, .write = write_sink };
}

static enum vcl_status failed_write(const struct vcl_writer *w, struct vcl_error *error)
{
    return vcl_fail(error, w->failure.status, NULL, "%s", w->failure.text);
}

enum vcl_status vcl_writer_end(struct vcl_writer *writer, uint64_t bytes, struct vcl_error *error)
{
    struct vcl_writer *const w = writer;
    if (atomic_load(&w->failed))
        return failed_write(w, error);
    if (w->next == w->header.count)
        return vcl_fail(error, VCL_E_ARGUMENT, w->output.path, "all tensors have been written");
    struct vcl_entry *const entry = &w->header.entries[w->next];
    if (bytes > entry->bytes || (!w->frames && bytes != entry->bytes))
        return vcl_fail(error, VCL_E_ARGUMENT, w->output.path,
                        "tensor " VCL_NAME ": has %llu bytes, not %llu", entry->name,
                        (unsigned long long)entry->bytes, (unsigned long long)bytes);
    entry->offset = 8 + w->room + w->base;
    entry->bytes = bytes;
    if (w->frames)
        entry->tensor.dims[0] = bytes;
    w->base += bytes;
    w->next++;
    return VCL_OK;
}

/* Checks that a pair can stand in a header, and how many characters it adds. */
static enum vcl_status measure_pair(const struct vcl_writer *w, const struct vcl_pair *pair, size_t *length,
                                    struct vcl_error *error)
{
    struct vcl_header alone;
    char *text;
    if (vcl_header_text(NULL, 0, 0, pair, 1, &text, length) != VCL_OK)
        return vcl_fail_memory(error, w->output.path);
    const enum vcl_status status =
        vcl_header_parse(w->output.path, text, *length, 8 + *length, 0, &alone, error);
    if (status == VCL_OK)
        vcl_header_free(&alone);
    *length -= sizeof "{\"__metadata__\":{}}" - 1;
    *length += 1; /* the comma */
    return status;
}

static const char *keep(char **at, const char *string)
{
    char *const start = *at;
    *at = stpcpy(start, string) + 1;
    return start;
}

enum vcl_status vcl_writer_add_metadata(struct vcl_writer *writer, const char *key, const char *value,
                                        struct vcl_error *error)
{
    struct vcl_pairs *const metadata = &writer->header.metadata;
    const struct vcl_pair pair = { key, value };
    size_t length;
    const enum vcl_status status = measure_pair(writer, &pair, &length, error);
    if (status != VCL_OK)
        return status;
    for (size_t i = 0; i < metadata->count; i++)
        if (strcmp(metadata->pair[i].key, key) == 0 || strcmp(key, VCL_HASH_KEY) == 0)
            return vcl_fail(error, VCL_E_ARGUMENT, writer->output.path,
                            "metadata " VCL_NAME " is there already", key);
    if (length > writer->late_left)
        return vcl_fail(error, VCL_E_SPACE, writer->output.path,
                        "metadata " VCL_NAME " takes %zu bytes; room was kept "
                        "for %zu",
                        key, length, writer->late_left);
    writer->late_left -= length;
    metadata->pair[metadata->count].key = keep(&writer->late_end, key);
    metadata->pair[metadata->count++].value = keep(&writer->late_end, value);
    return VCL_OK;
}

uint64_t vcl_writer_bytes(const struct vcl_writer *writer) { return writer->base; }

const char *vcl_writer_failure(const struct vcl_writer *writer) { return writer->failure.text; }

const char *vcl_writer_temporary(const struct vcl_writer *writer) { return writer->output.temporary; }

/* ---- the end --------------------------------------------------------------------------------- */

static enum vcl_status write_header(const struct vcl_writer *w, struct vcl_error *error)
{
    char *const bytes = malloc(8 + w->room);
    if (bytes == NULL)
        return vcl_fail_memory(error, w->output.path);
    vcl_store64(bytes, w->room);
    memcpy(bytes + 8, w->header.text, w->header.length);
    memset(bytes + 8 + w->header.length, ' ', w->room - w->header.length);
    const enum vcl_status status = vcl_output_write(&w->output, 0, bytes, 8 + w->room, error);
    free(bytes);
    return status;
}

/* The header of frames, now that sizes, places and metadata are known. */
static enum vcl_status settle_header(struct vcl_writer *w, struct vcl_error *error)
{
    struct vcl_header *const header = &w->header;
    const char *twice;
    char hex[33], *text;
    size_t length;
    if (vcl_pairs_sort(&header->metadata, &twice) != VCL_OK)
        return vcl_fail_memory(error, w->output.path);
    header->length = w->room;
    vcl_header_hash(header, hex);
    header->metadata.pair[header->metadata.count++] = (struct vcl_pair){ VCL_HASH_KEY, hex };
    if (vcl_header_text(header->entries, header->count, 1, header->metadata.pair, header->metadata.count,
                        &text, &length)
        != VCL_OK)
        return vcl_fail_memory(error, w->output.path);
    free(header->text);
    header->text = text;
    header->length = length;
    return VCL_OK;
}

enum vcl_status vcl_writer_commit(struct vcl_writer *writer, struct vcl_error *error)
{
    struct vcl_writer *const w = writer;
    enum vcl_status status = VCL_OK;
    if (atomic_load(&w->failed))
        status = failed_write(w, error);
    else if (w->next < w->header.count)
        status = vcl_fail(error, VCL_E_ARGUMENT, w->output.path, "tensor " VCL_NAME " has not been written",
                          w->header.entries[w->next].name);
    if (status == VCL_OK && w->frames)
        status = settle_header(w, error);
    if (status == VCL_OK)
        status = write_header(w, error);
    if (status == VCL_OK)
        status = vcl_output_commit(&w->output, 8 + w->room + w->base, error);
    vcl_writer_abandon(w);
    return status;
}

void vcl_writer_abandon(struct vcl_writer *writer)
{
    if (writer == NULL)
        return;
    vcl_output_abandon(&writer->output);
    vcl_header_free(&writer->header);
    free(writer->late);
    free(writer);
}
