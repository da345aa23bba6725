/* index.c - which files make up a model of several shards.
 *
 * In: a folder, or an index (NAME.safetensors.index.json,
 * {"metadata":{…},"weight_map":{"tensor":"file",…}}).  Out: the shards' paths in the order of their
 * names.  An index names files that will be opened, so a name that leads out of its folder is refused;
 * everything in it but weight_map differs from tool to tool and is ignored. */
#include "io.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- lists of paths -------------------------------------------------------------------------- */

void vcl_paths_free(struct vcl_paths *paths)
{
    for (size_t i = 0; i < paths->count; i++)
        free(paths->path[i]);
    free(paths->path);
    memset(paths, 0, sizeof *paths);
}

/* Adds folder (its first n bytes) + name; the list's room is the next power of two. */
static int add_path(struct vcl_paths *paths, const char *folder, size_t n, const char *name)
{
    if ((paths->count & (paths->count - 1)) == 0) {
        const size_t room = paths->count > 0 ? 2 * paths->count : 1;
        char **const grown = realloc(paths->path, room * sizeof *grown);
        if (grown == NULL)
            return 0;
        paths->path = grown;
    }
    char *const path = malloc(n + strlen(name) + 1);
    if (path == NULL)
        return 0;
    memcpy(path, folder, n);
    strcpy(path + n, name);
    paths->path[paths->count++] = path;
    return 1;
}

static int compare_strings(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static int is_model_file(const char *name)
{
    static const char ending[] = ".safetensors";
    const size_t n = strlen(name), e = sizeof ending - 1;
    return name[0] != '.' && n > e && strcmp(name + n - e, ending) == 0;
}

/* model.safetensors is a whole model to everybody: what else is there has the same weights once more. */
static void keep_whole_model(struct vcl_paths *paths)
{
    for (size_t i = 0; i < paths->count; i++)
        if (strcmp(vcl_base_name(paths->path[i]), "model.safetensors") == 0) {
            char *const whole = paths->path[i];
            paths->path[i] = paths->path[0];
            paths->path[0] = whole;
            while (paths->count > 1)
                free(paths->path[--paths->count]);
        }
}

enum vcl_status vcl_folder_list(const char *folder, struct vcl_paths *paths, struct vcl_error *error)
{
    enum vcl_status status = VCL_OK;
    const struct dirent *item;
    DIR *const dir = opendir(folder);
    char *start = NULL;
    if (dir == NULL)
        return vcl_fail(error, VCL_E_IO, folder, "cannot open the folder: %m");
    if (asprintf(&start, "%s/", folder) < 0)
        status = vcl_fail_memory(error, folder), start = NULL;
    while (errno = 0, status == VCL_OK && (item = readdir(dir)) != NULL)
        if (is_model_file(item->d_name) && !add_path(paths, start, strlen(start), item->d_name))
            status = vcl_fail_memory(error, folder);
    if (status == VCL_OK && errno != 0)
        status = vcl_fail(error, VCL_E_IO, folder, "cannot list the folder: %m");
    if (status == VCL_OK && paths->count == 0)
        status = vcl_fail(error, VCL_E_IO, folder, "has no *.safetensors file");
    closedir(dir);
    free(start);
    keep_whole_model(paths);
    if (status == VCL_OK)
        qsort(paths->path, paths->count, sizeof *paths->path, compare_strings);
    return status;
}

/* ---- the index ------------------------------------------------------------------------------- */

static void read_members(struct vcl_json *json, struct vcl_index *index)
{
    char *strings = index->strings;
    int seen = 0;
    vcl_json_expect(json, '{');
    for (size_t i = 0; vcl_json_item(json, '}', i); i++) {
        vcl_json_string(json, strings); /* looked at, not kept */
        vcl_json_expect(json, ':');
        if (json->status != VCL_OK)
            return;
        if (strcmp(strings, "weight_map") != 0)
            vcl_json_skip(json);
        else if (seen++)
            vcl_json_fail(json, VCL_E_FORMAT, "weight_map is there twice");
        else
            vcl_json_pairs(json, &index->weight_map, &strings);
    }
    if (!seen)
        vcl_json_fail(json, VCL_E_FORMAT, "weight_map is missing");
    vcl_json_end(json);
}

static enum vcl_status check_shard_names(const struct vcl_index *index, struct vcl_error *error)
{
    for (size_t i = 0; i < index->weight_map.count; i++) {
        const char *const name = index->weight_map.pair[i].value;
        if (name[0] == 0 || strchr(name, '/') != NULL || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            return vcl_fail(error, VCL_E_FORMAT, index->path,
                            "tensor " VCL_NAME ": shard " VCL_NAME " is no plain file name",
                            index->weight_map.pair[i].key, name);
    }
    return VCL_OK;
}

enum vcl_status vcl_index_read(const char *path, uint64_t limit, struct vcl_index *index,
                               struct vcl_error *error)
{
    void *text;
    size_t length;
    memset(index, 0, sizeof *index);
    enum vcl_status status = vcl_read_file(path, limit, &text, &length, error);
    if (status != VCL_OK)
        return status;
    struct vcl_json json = { .text = text, .length = length };
    index->path = strdup(path);
    index->strings = malloc(length + 1);
    if (index->path == NULL || index->strings == NULL)
        vcl_json_fail(&json, VCL_E_MEMORY, "out of memory");
    else
        read_members(&json, index);
    free(text);
    if (json.status != VCL_OK)
        status = vcl_fail(error, json.status, path, "%s (byte %zu)", json.fault, json.at);
    else
        status = check_shard_names(index, error);
    if (status != VCL_OK)
        vcl_index_free(index);
    return status;
}

void vcl_index_free(struct vcl_index *index)
{
    vcl_pairs_free(&index->weight_map);
    free(index->strings);
    free(index->path);
    memset(index, 0, sizeof *index);
}

enum vcl_status vcl_index_list(const struct vcl_index *index, struct vcl_paths *paths,
                               struct vcl_error *error)
{
    const size_t count = index->weight_map.count;
    const size_t folder = (size_t)(vcl_base_name(index->path) - index->path);
    const char **const names = malloc((count + 1) * sizeof *names);
    int added = names != NULL;
    for (size_t i = 0; added && i < count; i++)
        names[i] = index->weight_map.pair[i].value;
    if (added)
        qsort(names, count, sizeof *names, compare_strings);
    for (size_t i = 0; added && i < count; i++)
        if (i == 0 || strcmp(names[i - 1], names[i]) != 0)
            added = add_path(paths, index->path, folder, names[i]);
    free(names);
    if (!added)
        return vcl_fail_memory(error, index->path);
    return count > 0 ? VCL_OK : vcl_fail(error, VCL_E_FORMAT, index->path, "names no tensor");
}

enum vcl_status vcl_index_match(const struct vcl_index *index, const struct vcl_paths *shards,
                                const struct vcl_entry *const *by_name, size_t count, struct vcl_error *error)
{
    const struct vcl_pairs *const map = &index->weight_map;
    for (size_t i = 0; i < map->count || i < count; i++) { /* two sorted lists that must be one */
        const struct vcl_pair *const pair = i < map->count ? map->by_key[i] : NULL;
        const struct vcl_entry *const entry = i < count ? by_name[i] : NULL;
        const int order = pair == NULL ? 1 : entry == NULL ? -1 : strcmp(pair->key, entry->name);
        if (order < 0)
            return vcl_fail(error, VCL_E_FORMAT, index->path,
                            "tensor " VCL_NAME " is not in its shard " VCL_NAME, pair->key, pair->value);
        const char *const shard = vcl_base_name(shards->path[entry->shard]);
        if (order > 0)
            return vcl_fail(error, VCL_E_FORMAT, index->path,
                            "tensor " VCL_NAME " of shard " VCL_NAME " is not listed", entry->name, shard);
        if (strcmp(pair->value, shard) != 0)
            return vcl_fail(error, VCL_E_FORMAT, index->path,
                            "tensor " VCL_NAME " is listed in " VCL_NAME " but stands in " VCL_NAME,
                            entry->name, pair->value, shard);
    }
    return VCL_OK;
}
