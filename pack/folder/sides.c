/* sides.c - config, tokenizer and other files beside the shards, and total_size in the index.
 *
 * The index is edited as text: the digits of metadata.total_size are exchanged and nothing else, so that the
 * way back gives the original file byte for byte. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/texts.h"
#include "folder.h"

enum { INDEX_LIMIT = 100000000 };

/* ---- total_size ------------------------------------------------------------------------------ */

struct cursor {
    const char *at, *end;
};

static void skip_space(struct cursor *c)
{
    while (c->at < c->end && strchr(" \t\r\n", *c->at))
        c->at++;
}

static void skip_string(struct cursor *c)
{
    for (c->at++; c->at < c->end && *c->at != '"'; c->at++)
        if (*c->at == '\\')
            c->at++;
    if (c->at < c->end)
        c->at++;
}

static void skip_value(struct cursor *c)
{
    unsigned depth = 0;
    while (c->at < c->end) {
        const char ch = *c->at;
        if (depth == 0 && (ch == ',' || ch == '}' || ch == ']'))
            return;
        if (ch == '"') {
            skip_string(c);
            continue;
        }
        depth += ch == '{' || ch == '[';
        depth -= ch == '}' || ch == ']';
        c->at++;
    }
}

/* From an object's '{' to the value of a key; 0 if it is not there. */
static int enter(struct cursor *c, const char *key)
{
    skip_space(c);
    if (c->at >= c->end || *c->at != '{')
        return 0;
    do {
        c->at++;
        skip_space(c);
        const char *name = c->at + 1;
        if (c->at >= c->end || *c->at != '"')
            return 0;
        skip_string(c);
        const size_t length = (size_t)(c->at - name) - 1;
        skip_space(c);
        if (c->at >= c->end || *c->at != ':')
            return 0;
        c->at++;
        skip_space(c);
        if (length == strlen(key) && memcmp(name, key, length) == 0)
            return 1;
        skip_value(c);
    } while (c->at < c->end && *c->at == ',');
    return 0;
}

/* The text with `after` in place of total_size if that is `before`, else as it is; free() it.  NULL: out of
 * memory. */
static char *retotal(const char *text, size_t n, uint64_t before, uint64_t after)
{
    struct cursor c = { text, text + n };
    char number[24];
    const size_t length = (size_t)snprintf(number, sizeof number, "%llu", (unsigned long long)before);
    if (!enter(&c, "metadata") || !enter(&c, "total_size") || (size_t)(c.end - c.at) <= length
        || memcmp(c.at, number, length) != 0 || !strchr(" \t\r\n,}", c.at[length]))
        return vcl_compose("%.*s", (int)n, text);
    return vcl_compose("%.*s%llu%.*s", (int)(c.at - text), text, (unsigned long long)after,
                       (int)(c.end - c.at - (ptrdiff_t)length), c.at + length);
}

static enum vcl_status write_index(struct vcl_errand *job, const char *from, const char *to, uint64_t before,
                                   uint64_t after)
{
    struct vcl_error error = { 0 };
    void *bytes;
    size_t n;
    enum vcl_status status = vcl_read_file(from, INDEX_LIMIT, &bytes, &n, &error);
    if (status != VCL_OK)
        return vcl_errand_check(job, status, &error);
    char *text = retotal(bytes, n, before, after);
    free(bytes);
    if (!text)
        return vcl_errand_memory(job);
    status = vcl_write_file(to, text, strlen(text), 1, &error);
    free(text);
    return vcl_errand_check(job, status, &error);
}

/* ---- compressing ----------------------------------------------------------------------------- */

/* Of one file on its way, to a path in the partial folder; `from` may be there, too. */
struct side_paths {
    char *from, *to;
};

static enum vcl_status find_paths(const struct vcl_folder *folder, const char *name, const char *as,
                                  struct side_paths *paths)
{
    *paths = (struct side_paths){ vcl_path_in(folder->input, name), vcl_path_in(folder->partial, as) };
    return paths->from && paths->to ? VCL_OK : vcl_errand_memory(folder->job);
}

static void free_paths(struct side_paths *paths)
{
    free(paths->from);
    free(paths->to);
}

static int is_index(const struct vcl_folder *folder, const char *name)
{
    const char *index = vcl_folder_index(folder);
    return index && strcmp(index, name) == 0;
}

/* Copies, to NULL nowhere, and lists the file. */
static enum vcl_status copy_and_list(struct vcl_errand *job, const char *from, const char *to,
                                     const char *name, json_t *files)
{
    struct vcl_error error = { 0 };
    char hex[33];
    const enum vcl_status status = vcl_errand_check(job, vcl_copy_file(from, to, 1, hex, &error), &error);
    if (vcl_errand_cancelled(job))
        return VCL_E_CANCELLED;
    if (!status && json_object_set_new(files, name, json_string(hex)))
        return vcl_errand_memory(job);
    return status;
}

static enum vcl_status copy_one(const struct vcl_folder *folder, const char *name, json_t *files)
{
    struct side_paths paths;
    enum vcl_status status = find_paths(folder, name, name, &paths);
    if (!status)
        status = copy_and_list(folder->job, paths.from, paths.to, name, files);
    free_paths(&paths);
    return status;
}

static enum vcl_status copy_index(const struct vcl_folder *folder, const char *name, json_t *files,
                                  uint64_t before, uint64_t after)
{
    struct side_paths paths;
    enum vcl_status status = find_paths(folder, name, VCL_INDEX, &paths);
    if (!status)
        status = write_index(folder->job, paths.from, paths.to, before, after);
    if (!status)
        status = copy_and_list(folder->job, paths.to, NULL, VCL_INDEX, files);
    free_paths(&paths);
    return status;
}

static char *dump(const json_t *files) { return vcl_dump(files, JSON_COMPACT | JSON_SORT_KEYS); }

enum vcl_status vcl_sides_copy(const struct vcl_folder *folder, json_t **files)
{
    *files = json_object();
    enum vcl_status status = *files ? VCL_OK : vcl_errand_memory(folder->job);
    for (size_t i = 0; i < folder->count && !status; i++)
        if (!is_index(folder, folder->sides[i]))
            status = copy_one(folder, folder->sides[i], *files);
    return status;
}

enum vcl_status vcl_sides_finish(const struct vcl_folder *folder, json_t *files, uint64_t before,
                                 uint64_t after, char **text)
{
    enum vcl_status status = VCL_OK;
    for (size_t i = 0; i < folder->count && !status; i++)
        if (is_index(folder, folder->sides[i]))
            status = copy_index(folder, folder->sides[i], files, before, after);
    if (status)
        return status;
    *text = dump(files);
    return *text ? VCL_OK : vcl_errand_memory(folder->job);
}

size_t vcl_sides_room(const struct vcl_folder *folder)
{
    json_t *object = json_object();
    int whole = object != NULL;
    size_t room = sizeof "\"vcllm.files\":\"\",";
    for (size_t i = 0; i < folder->count; i++)
        whole = whole
             && json_object_set_new(object, is_index(folder, folder->sides[i]) ? VCL_INDEX : folder->sides[i],
                                    json_string("0123456789abcdef0123456789abcdef"))
                    == 0;
    char *text = whole ? dump(object) : NULL;
    for (const char *c = text; c && *c; c++) /* quoted once more, as a string in the header */
        room += *c == '"' || *c == '\\' ? 2 : (unsigned char)*c < 0x20 ? 6 : 1;
    json_decref(object);
    free(text);
    return text ? room : 0;
}

/* ---- decompressing and checking -------------------------------------------------------------- */

static enum vcl_status check_hash(struct vcl_errand *job, const char *path, const char *found,
                                  const json_t *hash)
{
    return strcmp(found, json_string_value(hash)) == 0
             ? VCL_OK
             : vcl_errand_fail(job, VCL_E_CHECKSUM,
                               "%s: was altered: its hash is not the one listed in vcllm.files", path);
}

static enum vcl_status restore_at(const struct vcl_folder *folder, const struct side_paths *paths, int edit,
                                  const json_t *hash, uint64_t before, uint64_t after)
{
    struct vcl_error error = { 0 };
    char hex[33];
    enum vcl_status status = vcl_copy_file(paths->from, edit ? NULL : paths->to, 1, hex, &error);
    status = status == VCL_OK ? check_hash(folder->job, paths->from, hex, hash)
                              : vcl_errand_check(folder->job, status, &error);
    if (!status && edit)
        status = write_index(folder->job, paths->from, paths->to, before, after);
    return vcl_errand_cancelled(folder->job) ? VCL_E_CANCELLED : status;
}

static enum vcl_status restore_one(const struct vcl_folder *folder, const char *name, const json_t *hash,
                                   uint64_t before, uint64_t after)
{
    struct side_paths paths;
    enum vcl_status status = find_paths(folder, name, name, &paths);
    if (!status)
        status = restore_at(folder, &paths, is_index(folder, name), hash, before, after);
    free_paths(&paths);
    return status;
}

enum vcl_status vcl_sides_restore(const struct vcl_folder *folder, uint64_t before, uint64_t after)
{
    json_t *hash, *files = vcl_listed_files(folder->job, folder->model);
    const char *name;
    enum vcl_status status = files ? VCL_OK : VCL_E_FORMAT;
    json_object_foreach(files, name, hash)
    {
        status = restore_one(folder, name, hash, before, after);
        if (status)
            break;
    }
    for (size_t i = 0; i < folder->count && !status; i++)
        if (!json_object_get(files, folder->sides[i]))
            vcl_errand_note(folder->job,
                            "%s: '%s' is not copied: it was not there when the model was compressed",
                            folder->input, folder->sides[i]);
    json_decref(files);
    return status;
}

/* VCL_E_CHECKSUM where it is gone or another; where it cannot be read there is no verdict. */
static enum vcl_status check_side(struct vcl_errand *job, const struct vcl_model *model, const char *name,
                                  const json_t *hash)
{
    const char *shard = vcl_model_shard_path(model, 0), *slash = strrchr(shard, '/');
    struct vcl_error error = { 0 };
    char hex[33], *path = vcl_compose("%.*s%s", slash ? (int)(slash + 1 - shard) : 0, shard, name);
    if (!path)
        return vcl_errand_memory(job);
    const int gone = access(path, F_OK) && errno == ENOENT;
    enum vcl_status status = gone ? VCL_E_CHECKSUM : vcl_copy_file(path, NULL, 0, hex, &error);
    if (gone)
        vcl_errand_fail(job, status, "%s: is gone: vcllm.files lists it", path);
    else if (status != VCL_OK)
        vcl_errand_check(job, status, &error);
    else
        status = check_hash(job, path, hex, hash);
    free(path);
    return status;
}

enum vcl_status vcl_sides_check(struct vcl_errand *job, const struct vcl_model *model, const char *name)
{
    json_t *files = vcl_listed_files(job, model), *hash = json_object_get(files, name);
    const enum vcl_status status = !files ? VCL_E_FORMAT : hash ? check_side(job, model, name, hash) : VCL_OK;
    json_decref(files);
    return status;
}

enum vcl_status vcl_sides_verify(struct vcl_errand *job, const struct vcl_model *model, size_t *checked,
                                 size_t *faults)
{
    json_t *hash, *files = vcl_listed_files(job, model);
    const char *name;
    enum vcl_status status = VCL_OK;
    *faults += !files;
    json_object_foreach(files, name, hash)
    {
        const enum vcl_status found = check_side(job, model, name, hash);
        if (found == VCL_E_CHECKSUM)
            ++*faults;
        else if (found)
            status = found;
        ++*checked;
    }
    json_decref(files);
    return status;
}
