/* original.c - what a compressed shard says of the file it was made from.
 *
 * In: the metadata vcllm.header and vcllm.files, and the frames.  Out: the first disagreement.  Both are
 * covered by vcllm.hash, so only a writer's fault or malice gets this far; but whoever restores the original
 * relies on them. */
#include "io.h"

#include <stdlib.h>

#define HEADER_KEY "vcllm.header"
#define FILES_KEY "vcllm.files"

static const char ours[] = "vcllm.";

static enum vcl_status fail(const char *path, const char *key, const char *what, struct vcl_error *error)
{
    return vcl_fail(error, VCL_E_FORMAT, path, "metadata %s: %s", key, what);
}

/* ---- vcllm.header ---------------------------------------------------------------------------- */

/* The shard's tensors as they were: names in order, dtype, shape and bytes from the frames. */
struct tensors {
    struct vcl_entry *entry;
    size_t count;
    uint64_t bytes;
};

static enum vcl_status add_tensor(const struct vcl_model *model, const struct vcl_entry *entry,
                                  struct tensors *tensors, struct vcl_error *error)
{
    struct vcl_info info = { .size = sizeof info };
    struct vcl_entry *const plain = &tensors->entry[tensors->count++];
    const enum vcl_status status = vcl_model_frame(model, entry, &info, NULL, error);
    if (status != VCL_OK)
        return status;
    *plain = *entry;
    plain->tensor = info.tensor;
    const char *const path = vcl_model_shard_path(model, entry->shard);
    if (vcl_tensor_size(&plain->tensor, NULL, &plain->bytes) != VCL_OK
        || vcl_data_add(&tensors->bytes, plain->bytes))
        return vcl_fail(error, VCL_E_FORMAT, path, "tensor " VCL_NAME ": ends beyond 63 bits", entry->name);
    return VCL_OK;
}

static enum vcl_status list_tensors(const struct vcl_model *model, size_t shard, struct tensors *tensors,
                                    struct vcl_error *error)
{
    enum vcl_status status = VCL_OK;
    tensors->entry = malloc((vcl_model_count(model) + 1) * sizeof *tensors->entry);
    if (tensors->entry == NULL)
        return vcl_fail_memory(error, vcl_model_shard_path(model, shard));
    for (size_t i = 0; status == VCL_OK && i < vcl_model_count(model); i++)
        if (vcl_model_entry(model, i)->shard == shard)
            status = add_tensor(model, vcl_model_entry(model, i), tensors, error);
    return status;
}

static int same_tensor(const struct vcl_entry *a, const struct vcl_entry *b)
{
    return strcmp(a->name, b->name) == 0 && a->tensor.dtype == b->tensor.dtype
        && a->tensor.rank == b->tensor.rank
        && memcmp(a->tensor.dims, b->tensor.dims, a->tensor.rank * sizeof *a->tensor.dims) == 0;
}

static enum vcl_status compare_tensors(const struct vcl_header *header, const struct tensors *tensors,
                                       const char *path, struct vcl_error *error)
{
    size_t i = 0;
    while (i < header->count && i < tensors->count && same_tensor(&header->entries[i], &tensors->entry[i]))
        i++;
    if (i < tensors->count)
        return vcl_fail(error, VCL_E_FORMAT, path,
                        "tensor " VCL_NAME ": metadata " HEADER_KEY " does not agree with its frame",
                        tensors->entry[i].name);
    if (i < header->count)
        return vcl_fail(error, VCL_E_FORMAT, path,
                        "tensor " VCL_NAME ": metadata " HEADER_KEY " has it, but there is no frame",
                        header->entries[i].name);
    return VCL_OK;
}

/* The next pair from *at on that is not ours; NULL at the end. */
static const struct vcl_pair *next_pair(const struct vcl_pair *pairs, size_t count, size_t *at)
{
    while (*at < count && strncmp(pairs[*at].key, ours, sizeof ours - 1) == 0)
        ++*at;
    return *at < count ? &pairs[(*at)++] : NULL;
}

static int same_metadata(const struct vcl_header *header, const struct vcl_model *model, size_t shard)
{
    const struct vcl_pair *pair;
    struct vcl_pair own;
    size_t at = 0;
    for (size_t i = 0; vcl_model_metadata_at(model, shard, i, &own.key, &own.value); i++) {
        if (strncmp(own.key, ours, sizeof ours - 1) == 0)
            continue;
        pair = next_pair(header->metadata.pair, header->metadata.count, &at);
        if (pair == NULL || strcmp(pair->key, own.key) != 0 || strcmp(pair->value, own.value) != 0)
            return 0;
    }
    return next_pair(header->metadata.pair, header->metadata.count, &at) == NULL;
}

/* The file's own metadata, without ours; free() *pairs. */
static size_t own_metadata(const struct vcl_model *model, size_t shard, struct vcl_pair **pairs)
{
    struct vcl_pair pair;
    size_t count = 0, own = 0;
    while (vcl_model_metadata_at(model, shard, count, &pair.key, &pair.value))
        count++;
    *pairs = malloc((count + 1) * sizeof **pairs);
    for (size_t i = 0; i < count && *pairs != NULL; i++) {
        vcl_model_metadata_at(model, shard, i, &pair.key, &pair.value);
        if (strncmp(pair.key, ours, sizeof ours - 1) != 0)
            (*pairs)[own++] = pair;
    }
    return own;
}

/* The header's text, from what is kept of it. */
static enum vcl_status restore(const char *kept, const struct tensors *tensors, const struct vcl_model *model,
                               size_t shard, char **text, size_t *length, struct vcl_error *error)
{
    struct vcl_layout layout;
    struct vcl_pair *pairs;
    vcl_layout_init(&layout);
    layout.entries = tensors->entry;
    layout.count = tensors->count;
    layout.metadata_count = own_metadata(model, shard, &pairs);
    layout.metadata = pairs;
    const enum vcl_status status = pairs != NULL
                                     ? vcl_layout_restore_header(&layout, kept, text, length, error)
                                     : vcl_fail_memory(error, NULL);
    free(pairs);
    return status;
}

static enum vcl_status compare_header(const char *kept, const struct tensors *tensors,
                                      const struct vcl_model *model, size_t shard, struct vcl_error *error)
{
    const char *const path = vcl_model_shard_path(model, shard);
    struct vcl_header header;
    struct vcl_error why = { 0 };
    size_t length;
    char *text;
    enum vcl_status status = restore(kept, tensors, model, shard, &text, &length, &why);
    if (status != VCL_OK)
        return vcl_fail(error, status, path, "%s", why.text);
    status = vcl_header_parse(NULL, text, length, 8 + length + tensors->bytes, shard, &header, &why);
    if (status == VCL_E_MEMORY)
        return vcl_fail_memory(error, path);
    if (status != VCL_OK)
        return fail(path, HEADER_KEY, why.text, error);
    status = compare_tensors(&header, tensors, path, error);
    if (status == VCL_OK && !same_metadata(&header, model, shard))
        status = fail(path, HEADER_KEY, "its __metadata__ is not the file's", error);
    vcl_header_free(&header);
    return status;
}

static enum vcl_status check_header(const struct vcl_model *model, size_t shard, struct vcl_error *error)
{
    struct tensors tensors = { 0 };
    const char *const text = vcl_model_metadata(model, shard, HEADER_KEY);
    if (text == NULL)
        return VCL_OK;
    enum vcl_status status = list_tensors(model, shard, &tensors, error);
    if (status == VCL_OK)
        status = compare_header(text, &tensors, model, shard, error);
    free(tensors.entry);
    return status;
}

/* ---- vcllm.files ----------------------------------------------------------------------------- */

static int is_shard(const struct vcl_model *model, const char *name)
{
    for (size_t i = 0; i < vcl_model_shards(model); i++)
        if (strcmp(vcl_model_shard_name(model, i), name) == 0)
            return 1;
    return 0;
}

static int is_hash(const char *text) { return strlen(text) == 32 && strspn(text, "0123456789abcdef") == 32; }

static const char *files_fault(const struct vcl_model *model, const struct vcl_pairs *files)
{
    for (size_t i = 0; i < files->count; i++) {
        const char *const name = files->pair[i].key;
        if (name[0] == 0 || strchr(name, '/') != NULL || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            return "holds a name that is no plain file name";
        if (is_shard(model, name))
            return "lists a shard";
        if (!is_hash(files->pair[i].value))
            return "holds a hash that is not 32 hexadecimal digits";
    }
    return NULL;
}

static enum vcl_status check_files(const struct vcl_model *model, size_t shard, struct vcl_error *error)
{
    const char *const path = vcl_model_shard_path(model, shard);
    const char *const text = vcl_model_metadata(model, shard, FILES_KEY);
    struct vcl_json json = { .text = text, .length = text != NULL ? strlen(text) : 0 };
    struct vcl_pairs files = { 0 };
    if (text == NULL)
        return VCL_OK;
    char *const strings = malloc(json.length + 1), *end = strings;
    if (strings == NULL)
        return vcl_fail_memory(error, path);
    vcl_json_pairs(&json, &files, &end);
    vcl_json_end(&json);
    const char *const fault = json.status != VCL_OK ? json.fault : files_fault(model, &files);
    const enum vcl_status status = json.status == VCL_E_MEMORY ? vcl_fail_memory(error, path)
                                 : fault != NULL               ? fail(path, FILES_KEY, fault, error)
                                                               : VCL_OK;
    vcl_pairs_free(&files);
    free(strings);
    return status;
}

enum vcl_status vcl_model_check_original(const struct vcl_model *model, size_t shard, struct vcl_error *error)
{
    if (shard >= vcl_model_shards(model))
        return vcl_fail(error, VCL_E_ARGUMENT, NULL, "there is no shard %zu", shard);
    const enum vcl_status status = check_header(model, shard, error);
    return status == VCL_OK ? check_files(model, shard, error) : status;
}
