/* sides.c - config, tokenizer and other files beside the shards, and total_size in the index.
 *
 * The index is edited as text: the digits of metadata.total_size are exchanged and nothing else, so that the
 * way back gives the original file byte for byte. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* The text with `after` in place of total_size if that is `before`, else as it is; free() it. */
static char *retotal(const char *text, size_t n, uint64_t before, uint64_t after)
{
    struct cursor c = { text, text + n };
    char number[24];
    const size_t length = (size_t)snprintf(number, sizeof number, "%llu", (unsigned long long)before);
    if (!enter(&c, "metadata") || !enter(&c, "total_size") || (size_t)(c.end - c.at) <= length
        || memcmp(c.at, number, length) != 0 || !strchr(" \t\r\n,}", c.at[length]))
        return vcl_text("%.*s", (int)n, text);
    return vcl_text("%.*s%llu%.*s", (int)(c.at - text), text, (unsigned long long)after,
                    (int)(c.end - c.at - (ptrdiff_t)length), c.at + length);
}

static int write_index(const char *from, const char *to, uint64_t before, uint64_t after)
{
    struct vcl_error error = { 0 };
    void *bytes;
    size_t n;
    enum vcl_status status = vcl_read_file(from, INDEX_LIMIT, &bytes, &n, &error);
    if (status != VCL_OK)
        return vcl_tell(status, "%s", error.text);
    char *text = retotal(bytes, n, before, after);
    status = vcl_write_file(to, text, strlen(text), 1, &error);
    free(text);
    free(bytes);
    return status == VCL_OK ? VCL_EXIT_OK : vcl_tell(status, "%s", error.text);
}

/* ---- compressing ----------------------------------------------------------------------------- */

static int tell_status(enum vcl_status status, const struct vcl_error *error)
{
    const int code = status == VCL_OK ? VCL_EXIT_OK : vcl_tell(status, "%s", error->text);
    return vcl_interrupted() ? VCL_EXIT_INTERRUPTED : code;
}

static int is_index(const struct vcl_folder *folder, const char *name)
{
    const char *index = vcl_folder_index(folder);
    return index && strcmp(index, name) == 0;
}

static int copy_one(const struct vcl_folder *folder, const char *name, json_t *files)
{
    struct vcl_error error = { 0 };
    char hex[33], *from = vcl_path_in(folder->input, name), *to = vcl_path_in(folder->partial, name);
    const int code = tell_status(vcl_copy_file(from, to, 1, hex, &error), &error);
    if (!code)
        vcl_json_set(files, name, json_string(hex));
    free(from);
    free(to);
    return code;
}

static int copy_index(const struct vcl_folder *folder, const char *name, json_t *files, uint64_t before,
                      uint64_t after)
{
    struct vcl_error error = { 0 };
    char hex[33], *from = vcl_path_in(folder->input, name), *to = vcl_path_in(folder->partial, VCL_INDEX);
    int code = write_index(from, to, before, after);
    if (!code)
        code = tell_status(vcl_copy_file(to, NULL, 1, hex, &error), &error);
    if (!code)
        vcl_json_set(files, VCL_INDEX, json_string(hex));
    free(from);
    free(to);
    return code;
}

static char *dump(json_t *files)
{
    char *text = json_dumps(files, JSON_COMPACT | JSON_SORT_KEYS);
    json_decref(files);
    if (text)
        return text;
    vcl_zeros(SIZE_MAX, 1); /* says that memory is out */
    return NULL;
}

int vcl_sides_copy(const struct vcl_folder *folder, json_t **files)
{
    int code = VCL_EXIT_OK;
    *files = json_object();
    for (size_t i = 0; i < folder->count && !code; i++)
        if (!is_index(folder, folder->sides[i]))
            code = copy_one(folder, folder->sides[i], *files);
    return code;
}

int vcl_sides_finish(const struct vcl_folder *folder, json_t *files, uint64_t before, uint64_t after,
                     char **text)
{
    int code = VCL_EXIT_OK;
    for (size_t i = 0; i < folder->count && !code; i++)
        if (is_index(folder, folder->sides[i]))
            code = copy_index(folder, folder->sides[i], files, before, after);
    if (!code)
        *text = dump(json_incref(files));
    return code;
}

size_t vcl_sides_room(const struct vcl_folder *folder)
{
    json_t *object = json_object();
    size_t room = sizeof "\"vcllm.files\":\"\",";
    for (size_t i = 0; i < folder->count; i++)
        vcl_json_set(object, is_index(folder, folder->sides[i]) ? VCL_INDEX : folder->sides[i],
                     json_string("0123456789abcdef0123456789abcdef"));
    char *text = dump(object);
    for (const char *c = text; *c; c++) /* quoted once more, as a string in the header */
        room += *c == '"' || *c == '\\' ? 2 : (unsigned char)*c < 0x20 ? 6 : 1;
    free(text);
    return room;
}

/* ---- decompressing and checking -------------------------------------------------------------- */

static int check_hash(const char *path, const char *found, const json_t *hash)
{
    return strcmp(found, json_string_value(hash)) == 0
             ? VCL_EXIT_OK
             : vcl_tell(VCL_E_CHECKSUM, "%s: was altered: its hash is not the one listed in vcllm.files",
                        path);
}

static int restore_one(const struct vcl_folder *folder, const char *name, const json_t *hash, uint64_t before,
                       uint64_t after)
{
    struct vcl_error error = { 0 };
    char hex[33], *from = vcl_path_in(folder->input, name), *to = vcl_path_in(folder->partial, name);
    const int edit = is_index(folder, name);
    const enum vcl_status status = vcl_copy_file(from, edit ? NULL : to, 1, hex, &error);
    int code = status == VCL_OK ? check_hash(from, hex, hash) : vcl_tell(status, "%s", error.text);
    if (!code && edit)
        code = write_index(from, to, before, after);
    free(from);
    free(to);
    return vcl_interrupted() ? VCL_EXIT_INTERRUPTED : code;
}

int vcl_sides_restore(const struct vcl_folder *folder, uint64_t before, uint64_t after)
{
    json_t *hash, *files = vcl_listed_files(folder->model);
    const char *name;
    int code = files ? VCL_EXIT_OK : VCL_EXIT_FAILED;
    json_object_foreach(files, name, hash)
    {
        code = restore_one(folder, name, hash, before, after);
        if (code)
            break;
    }
    for (size_t i = 0; i < folder->count && !code; i++)
        if (!json_object_get(files, folder->sides[i]))
            vcl_note("%s: '%s' is not copied: it was not there when the model was compressed", folder->input,
                     folder->sides[i]);
    json_decref(files);
    return code;
}

/* VCL_EXIT_FAILED where it is gone or another; where it cannot be read there is no verdict. */
static int check_side(const struct vcl_model *model, const char *name, const json_t *hash)
{
    const char *shard = vcl_model_shard_path(model, 0), *slash = strrchr(shard, '/');
    struct vcl_error error = { 0 };
    char hex[33], *path = vcl_text("%.*s%s", slash ? (int)(slash + 1 - shard) : 0, shard, name);
    const int gone = access(path, F_OK) && errno == ENOENT;
    const enum vcl_status status = gone ? VCL_E_CHECKSUM : vcl_copy_file(path, NULL, 0, hex, &error);
    const int code = gone             ? vcl_tell(status, "%s: is gone: vcllm.files lists it", path)
                   : status == VCL_OK ? check_hash(path, hex, hash)
                                      : vcl_tell(status, "%s", error.text);
    free(path);
    return code;
}

int vcl_sides_check(const struct vcl_model *model, const char *name)
{
    json_t *files = vcl_listed_files(model), *hash = json_object_get(files, name);
    const int code = !files ? VCL_EXIT_FAILED : hash ? check_side(model, name, hash) : VCL_EXIT_OK;
    json_decref(files);
    return code;
}

int vcl_sides_verify(const struct vcl_model *model, size_t *checked, size_t *faults)
{
    json_t *hash, *files = vcl_listed_files(model);
    const char *name;
    int code = VCL_EXIT_OK;
    *faults += !files;
    json_object_foreach(files, name, hash)
    {
        const int found = check_side(model, name, hash);
        if (found == VCL_EXIT_FAILED)
            ++*faults;
        else if (found)
            code = found;
        ++*checked;
    }
    json_decref(files);
    return code;
}
