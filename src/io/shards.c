/* shards.c - a model as one list of tensors, whatever number of files it is in.
 *
 * In: a file, a folder or an index.  Out: entries by number and by name, their bytes, and what a
 * compressed entry's frame says of itself.  Files stay open while the model is, so that one replaced
 * meanwhile cannot mix two versions. Names are found by bisection in a sorted list: no hash table that
 * chosen names could make slow. */
#include "io.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct shard {
    struct vcl_file file;
    const struct vcl_format *format;
    struct vcl_header header;
};

struct vcl_model {
    struct vcl_paths paths;
    struct shard *shards; /* one per path; those opened so far come first */
    size_t opened;
    const struct vcl_entry **in_order, **by_name;
    size_t count;
    struct vcl_index index; /* path NULL: there is none */
    int is_folder;
};

/* ---- opening --------------------------------------------------------------------------------- */

void vcl_model_options_init_sized(struct vcl_model_options *options, size_t size)
{
    const struct vcl_model_options defaults = { .io = VCL_IO_PREAD, .header_limit = 16 << 20 };
    vcl_init_sized(&defaults, sizeof defaults, options, size);
}

static int take_options(struct vcl_model_options *taken, const struct vcl_model_options *given)
{
    vcl_model_options_init(taken);
    if (given == NULL)
        return 1;
    return vcl_take_sized(given, taken, sizeof *taken) && taken->header_limit <= VCL_HEADER_MAX
        && (taken->io == VCL_IO_PREAD || taken->io == VCL_IO_MMAP);
}

static int is_index_name(const char *path)
{
    static const char ending[] = ".safetensors.index.json";
    const size_t n = strlen(path), e = sizeof ending - 1;
    return n >= e && strcmp(path + n - e, ending) == 0;
}

static enum vcl_status list_index(struct vcl_model *model, const char *path, uint64_t limit,
                                  struct vcl_error *error)
{
    const enum vcl_status status = vcl_index_read(path, limit, &model->index, error);
    return status == VCL_OK ? vcl_index_list(&model->index, &model->paths, error) : status;
}

static enum vcl_status list_folder(struct vcl_model *model, const char *path, uint64_t limit,
                                   struct vcl_error *error)
{
    static const char name[] = "/model.safetensors.index.json";
    char *const index = malloc(strlen(path) + sizeof name);
    if (index == NULL)
        return vcl_fail_memory(error, path);
    strcpy(index, path);
    strcat(index, name);
    const enum vcl_status status = access(index, F_OK) == 0 ? list_index(model, index, limit, error)
                                                            : vcl_folder_list(path, &model->paths, error);
    free(index);
    return status;
}

static enum vcl_status list_files(struct vcl_model *model, const char *path, uint64_t limit,
                                  struct vcl_error *error)
{
    struct stat about;
    if (stat(path, &about) != 0)
        return vcl_fail(error, VCL_E_IO, path, "cannot open: %m");
    model->is_folder = S_ISDIR(about.st_mode) || is_index_name(path);
    if (S_ISDIR(about.st_mode))
        return list_folder(model, path, limit, error);
    if (model->is_folder)
        return list_index(model, path, limit, error);
    model->paths.path = malloc(sizeof *model->paths.path);
    if (model->paths.path == NULL || (model->paths.path[0] = strdup(path)) == NULL)
        return vcl_fail_memory(error, path);
    model->paths.count = 1;
    return VCL_OK;
}

/* A shard that cannot be opened may be one that only the index knows. */
static void blame_index(const struct vcl_model *model, struct vcl_error *error)
{
    const size_t n = error != NULL ? strlen(error->text) : 0;
    if (error != NULL && model->index.path != NULL)
        snprintf(error->text + n, sizeof error->text - n, "; " VCL_NAME " names it",
                 vcl_base_name(model->index.path));
}

static enum vcl_status open_header(struct shard *shard, size_t number, uint64_t limit,
                                   struct vcl_error *error)
{
    static const struct vcl_format *const formats[] = { &vcl_format_gguf, &vcl_format_safetensors };
    uint8_t start[4];
    const size_t n = (size_t)vcl_min(shard->file.bytes, sizeof start);
    const struct vcl_format *const *format = formats;
    const enum vcl_status status = vcl_file_read(&shard->file, 0, start, n, error);
    if (status != VCL_OK)
        return status;
    while (!(*format)->probe(start, n))
        format++;
    shard->format = *format;
    return shard->format->open(&shard->file, number, limit, &shard->header, error);
}

static enum vcl_status open_shards(struct vcl_model *model, const struct vcl_model_options *options,
                                   struct vcl_error *error)
{
    enum vcl_status status = VCL_OK;
    model->shards = calloc(model->paths.count, sizeof *model->shards);
    if (model->shards == NULL)
        return vcl_fail_memory(error, model->paths.path[0]);
    while (status == VCL_OK && model->opened < model->paths.count) {
        struct shard *const shard = &model->shards[model->opened];
        status = vcl_file_open(&shard->file, model->paths.path[model->opened], options->io, error);
        if (status != VCL_OK) {
            blame_index(model, error);
            return status;
        }
        status = open_header(shard, model->opened, options->header_limit, error);
        model->count += shard->header.count;
        model->opened++;
    }
    return status;
}

static enum vcl_status check_names(const struct vcl_model *model, struct vcl_error *error)
{
    const struct vcl_entry *const twice = vcl_names_sort(model->by_name, model->count);
    if (twice == NULL)
        return VCL_OK;
    size_t at = 1;
    while (model->by_name[at] != twice)
        at++;
    const size_t a = model->by_name[at - 1]->shard, b = twice->shard;
    if (a == b)
        return vcl_fail(error, VCL_E_FORMAT, model->paths.path[a], "tensor " VCL_NAME " is there twice",
                        twice->name);
    return vcl_fail(error, VCL_E_FORMAT, model->paths.path[a > b ? a : b],
                    "tensor " VCL_NAME " is in " VCL_NAME " too", twice->name,
                    vcl_base_name(model->paths.path[a > b ? b : a]));
}

static enum vcl_status list_entries(struct vcl_model *model, struct vcl_error *error)
{
    size_t n = 0;
    model->in_order = malloc((model->count + 1) * sizeof *model->in_order);
    model->by_name = malloc((model->count + 1) * sizeof *model->by_name);
    if (model->in_order == NULL || model->by_name == NULL)
        return vcl_fail_memory(error, model->paths.path[0]);
    for (size_t s = 0; s < model->opened; s++)
        for (size_t i = 0; i < model->shards[s].header.count; i++, n++)
            model->in_order[n] = model->by_name[n] = &model->shards[s].header.entries[i];
    const enum vcl_status status = check_names(model, error);
    if (status != VCL_OK || model->index.path == NULL)
        return status;
    return vcl_index_match(&model->index, &model->paths, model->by_name, model->count, error);
}

enum vcl_status vcl_model_open(const char *path, const struct vcl_model_options *options,
                               struct vcl_model **model, struct vcl_error *error)
{
    struct vcl_model_options taken;
    *model = NULL;
    if (!take_options(&taken, options))
        return vcl_fail(error, VCL_E_ARGUMENT, path, "options out of range");
    struct vcl_model *const m = calloc(1, sizeof *m);
    if (m == NULL)
        return vcl_fail_memory(error, path);
    enum vcl_status status = list_files(m, path, taken.header_limit, error);
    if (status == VCL_OK)
        status = open_shards(m, &taken, error);
    if (status == VCL_OK)
        status = list_entries(m, error);
    if (status == VCL_OK)
        *model = m;
    else
        vcl_model_close(m);
    return status;
}

void vcl_model_close(struct vcl_model *model)
{
    if (model == NULL)
        return;
    for (size_t i = 0; i < model->opened; i++) {
        vcl_header_free(&model->shards[i].header);
        vcl_file_close(&model->shards[i].file);
    }
    free(model->shards);
    free(model->in_order);
    free(model->by_name);
    vcl_index_free(&model->index);
    vcl_paths_free(&model->paths);
    free(model);
}

/* ---- looking --------------------------------------------------------------------------------- */

size_t vcl_model_count(const struct vcl_model *model) { return model->count; }

const struct vcl_entry *vcl_model_entry(const struct vcl_model *model, size_t index)
{
    return index < model->count ? model->in_order[index] : NULL;
}

static const struct vcl_entry *find(const struct vcl_model *model, const char *name, size_t length)
{
    size_t low = 0, high = model->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const struct vcl_entry *const entry = model->by_name[middle];
        const size_t have = strlen(entry->name);
        int order = memcmp(entry->name, name, have < length ? have : length);
        if (order == 0)
            order = have < length ? -1 : have > length;
        if (order == 0)
            return entry;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const struct vcl_entry *vcl_model_find(const struct vcl_model *model, const char *name)
{
    return find(model, name, strlen(name));
}

size_t vcl_model_shards(const struct vcl_model *model) { return model->opened; }

const char *vcl_model_shard_path(const struct vcl_model *model, size_t shard)
{
    return shard < model->opened ? model->paths.path[shard] : NULL;
}

const char *vcl_model_shard_name(const struct vcl_model *model, size_t shard)
{
    return shard < model->opened ? vcl_base_name(model->paths.path[shard]) : NULL;
}

uint64_t vcl_model_shard_bytes(const struct vcl_model *model, size_t shard)
{
    return shard < model->opened ? model->shards[shard].file.bytes : 0;
}

const char *vcl_model_shard_header(const struct vcl_model *model, size_t shard, size_t *length)
{
    if (shard >= model->opened)
        return NULL;
    *length = model->shards[shard].header.length;
    return model->shards[shard].header.text;
}

const char *vcl_model_index_path(const struct vcl_model *model) { return model->index.path; }

int vcl_model_is_folder(const struct vcl_model *model) { return model->is_folder; }

const char *vcl_model_metadata(const struct vcl_model *model, size_t shard, const char *key)
{
    return shard < model->opened ? vcl_pairs_find(&model->shards[shard].header.metadata, key) : NULL;
}

int vcl_model_metadata_at(const struct vcl_model *model, size_t shard, size_t i, const char **key,
                          const char **value)
{
    if (shard >= model->opened || i >= model->shards[shard].header.metadata.count)
        return 0;
    *key = model->shards[shard].header.metadata.pair[i].key;
    *value = model->shards[shard].header.metadata.pair[i].value;
    return 1;
}

const char *vcl_model_stored(const struct vcl_model *model, const struct vcl_entry *entry, uint64_t *bytes)
{
    const struct vcl_header *const header = &model->shards[entry->shard].header;
    if (header->gguf != NULL)
        return vcl_gguf_stored(header, entry, bytes);
    *bytes = entry->bytes;
    return vcl_dtype_name(entry->tensor.dtype);
}

int vcl_model_value(const struct vcl_model *model, size_t shard, const char *key, struct vcl_value *value)
{
    const struct vcl_gguf *const gguf = shard < model->opened ? model->shards[shard].header.gguf : NULL;
    return gguf != NULL && vcl_gguf_value(gguf, key, value);
}

int vcl_model_value_at(const struct vcl_model *model, size_t shard, size_t i, const char **key,
                       struct vcl_value *value)
{
    const struct vcl_gguf *const gguf = shard < model->opened ? model->shards[shard].header.gguf : NULL;
    return gguf != NULL && vcl_gguf_value_at(gguf, i, key, value);
}

int vcl_model_is_compressed(const struct vcl_model *model, size_t shard)
{
    return vcl_model_metadata(model, shard, VCL_HASH_KEY) != NULL;
}

/* ---- reading --------------------------------------------------------------------------------- */

enum vcl_status vcl_model_read(const struct vcl_model *model, const struct vcl_entry *entry, uint64_t offset,
                               void *dst, size_t n, struct vcl_error *error)
{
    if (offset > entry->bytes || n > entry->bytes - offset)
        return vcl_fail(error, VCL_E_ARGUMENT, model->paths.path[entry->shard],
                        "tensor " VCL_NAME " has %llu bytes; %zu are wanted at %llu", entry->name,
                        (unsigned long long)entry->bytes, n, (unsigned long long)offset);
    struct shard *const shard = &model->shards[entry->shard];
    return shard->format->read(&shard->file, &shard->header, entry, offset, dst, n, error);
}

/* Called from several threads; the first failure is the one that is kept. */
static int read_handle(void *user, uint64_t offset, void *dst, size_t n)
{
    struct vcl_entry_handle *const handle = user;
    struct vcl_error error;
    const enum vcl_status status = vcl_model_read(handle->model, handle->entry, offset, dst, n, &error);
    enum vcl_status none = VCL_OK;
    if (status != VCL_OK
        && __atomic_compare_exchange_n(&handle->error.status, &none, status, 0, __ATOMIC_ACQ_REL,
                                       __ATOMIC_ACQUIRE))
        memcpy(handle->error.text, error.text, sizeof error.text);
    return status != VCL_OK;
}

struct vcl_source vcl_model_source(struct vcl_entry_handle *handle)
{
    handle->error.status = VCL_OK;
    handle->error.text[0] = 0;
    return (struct vcl_source){ .user = handle, .read = read_handle };
}

/* ---- compressed models ----------------------------------------------------------------------- */

/* The hash leaves out how the text spells its strings, so that must be the one way in which this
 * library does. */
static enum vcl_status check_spelling(const struct vcl_header *header, const char *path,
                                      struct vcl_error *error)
{
    char *text;
    size_t length;
    const enum vcl_status status = vcl_header_text(header->entries, header->count, 0, header->metadata.pair,
                                                   header->metadata.count, &text, &length);
    if (status != VCL_OK)
        return vcl_fail_memory(error, path);
    size_t at = 0;
    while (at < length && at < header->length && text[at] == header->text[at])
        at++;
    free(text);
    if (at < length)
        return vcl_fail(error, VCL_E_CHECKSUM, path, "the header is not spelt as it was written (byte %zu)",
                        8 + at);
    return VCL_OK;
}

enum vcl_status vcl_model_check_hash(const struct vcl_model *model, size_t shard, struct vcl_error *error)
{
    char hex[33];
    if (shard >= model->opened)
        return vcl_fail(error, VCL_E_ARGUMENT, NULL, "there is no shard %zu", shard);
    const struct vcl_header *const header = &model->shards[shard].header;
    const char *const path = model->paths.path[shard];
    const char *const stored = vcl_pairs_find(&header->metadata, VCL_HASH_KEY);
    if (stored == NULL)
        return vcl_fail(error, VCL_E_CHECKSUM, path, "the header has no " VCL_HASH_KEY "; is it compressed?");
    vcl_header_hash(header, hex);
    if (strcmp(hex, stored) != 0)
        return vcl_fail(error, VCL_E_CHECKSUM, path, "the header was altered: its hash is %s, not " VCL_NAME,
                        hex, stored);
    return check_spelling(header, path, error);
}

static enum vcl_status frame_fault(const struct vcl_model *model, const struct vcl_entry *entry,
                                   enum vcl_status status, const char *what, struct vcl_error *error)
{
    return vcl_fail(error, status, model->paths.path[entry->shard],
                    "tensor " VCL_NAME ": frame at byte %llu: %s", entry->name,
                    (unsigned long long)entry->offset, what);
}

/* The frame's header, from bytes that the caller frees (*more) or owns (first). */
static enum vcl_status read_frame(const struct vcl_model *model, const struct vcl_entry *entry,
                                  uint8_t *first, size_t room, uint8_t **more, struct vcl_info *info,
                                  const char **name, size_t *name_length, struct vcl_error *error)
{
    size_t n = (size_t)vcl_min(entry->bytes, room);
    enum vcl_status status = vcl_model_read(model, entry, 0, first, n, error);
    if (status != VCL_OK)
        return status;
    status = vcl_peek(first, n, info, name, name_length);
    if (status == VCL_E_TRUNCATED && info->header_bytes > n && info->header_bytes <= entry->bytes) {
        n = (size_t)info->header_bytes;
        *more = malloc(n);
        if (*more == NULL)
            return vcl_fail_memory(error, model->paths.path[entry->shard]);
        status = vcl_model_read(model, entry, 0, *more, n, error);
        if (status != VCL_OK)
            return status;
        status = vcl_peek(*more, n, info, name, name_length);
    }
    if (status != VCL_OK)
        return frame_fault(model, entry, status, info->fault, error);
    if (info->frame_bytes != entry->bytes)
        return frame_fault(model, entry, VCL_E_FORMAT, "its length is not that of the tensor's bytes", error);
    return VCL_OK;
}

/* *target: for an alias, the entry of the name it gives, NULL if there is none; else the entry itself. */
static enum vcl_status peek_entry(const struct vcl_model *model, const struct vcl_entry *entry,
                                  struct vcl_info *info, const struct vcl_entry **target,
                                  struct vcl_error *error)
{
    uint8_t first[4096], *more = NULL; /* enough for most frames */
    const char *name;
    size_t length;
    if (entry->tensor.dtype != VCL_DTYPE_U8 || entry->tensor.rank != 1)
        return frame_fault(model, entry, VCL_E_FORMAT,
                           "a tensor that is not U8 of one dimension cannot be one", error);
    const enum vcl_status status =
        read_frame(model, entry, first, sizeof first, &more, info, &name, &length, error);
    if (status == VCL_OK)
        *target = info->codec == VCL_CODEC_ALIAS ? find(model, name, length) : entry;
    free(more);
    return status;
}

static int same_tensor(const struct vcl_tensor *a, const struct vcl_tensor *b)
{
    return a->dtype == b->dtype && a->rank == b->rank
        && memcmp(a->dims, b->dims, a->rank * sizeof *a->dims) == 0;
}

/* Is this an entry that an alias may lead to? */
static enum vcl_status check_alias(const struct vcl_model *model, const struct vcl_entry *entry,
                                   const struct vcl_tensor *tensor, const struct vcl_entry *target,
                                   struct vcl_error *error)
{
    struct vcl_info aimed = { .size = sizeof aimed };
    const struct vcl_entry *next;
    if (target == NULL)
        return frame_fault(model, entry, VCL_E_FORMAT, "an alias of a tensor that is not there", error);
    if (target->shard != entry->shard)
        return frame_fault(model, entry, VCL_E_FORMAT, "an alias of a tensor of another shard", error);
    const enum vcl_status status = peek_entry(model, target, &aimed, &next, error);
    if (status != VCL_OK)
        return status;
    if (aimed.codec == VCL_CODEC_ALIAS)
        return frame_fault(model, entry, VCL_E_FORMAT, "an alias of an alias", error);
    if (!same_tensor(tensor, &aimed.tensor))
        return frame_fault(model, entry, VCL_E_FORMAT, "an alias of a tensor of other dtype or shape", error);
    return VCL_OK;
}

enum vcl_status vcl_model_frame(const struct vcl_model *model, const struct vcl_entry *entry,
                                struct vcl_info *info, const struct vcl_entry **target,
                                struct vcl_error *error)
{
    const struct vcl_entry *end;
    struct vcl_info own = { .size = sizeof own };
    enum vcl_status status = peek_entry(model, entry, &own, &end, error);
    if (status == VCL_OK && own.codec == VCL_CODEC_ALIAS)
        status = check_alias(model, entry, &own.tensor, end, error);
    if (!vcl_give_sized(&own, sizeof own, info))
        return vcl_fail(error, VCL_E_ARGUMENT, NULL, "info.size must be sizeof info");
    if (status == VCL_OK && target != NULL)
        *target = end;
    return status;
}
