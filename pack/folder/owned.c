/* owned.c - which files of a folder this program wrote, and removing those.
 *
 * -f on a folder must never cost the user a file.  So a folder counts as ours only if every file in it is
 * known: a shard that carries vcllm.hash, a file that vcllm.files lists, the journal or what it lists, a
 * temporary name of ours.  Links are never followed.  Removing goes by the same list, not by what is
 * there. */
#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "folder.h"

enum { JOURNAL_LIMIT = 16 << 20, HEADER_LIMIT = 100000000 };

static void add_name(json_t *names, const char *name)
{
    json_object_set_new(names, name, json_true()); /* a name left out only means that less is removed */
}

/* A compressed model, whole: each shard with its hash, and what the last one lists. */
static void add_compressed(json_t *names, const char *path)
{
    struct vcl_model_options options;
    struct vcl_model *model;
    vcl_model_options_init(&options);
    options.header_limit = HEADER_LIMIT;
    if (vcl_model_open(path, &options, &model, NULL) != VCL_OK)
        return;
    int ours = vcl_model_shards(model) > 0;
    for (size_t i = 0; i < vcl_model_shards(model); i++)
        ours = ours && vcl_model_check_hash(model, i, NULL) == VCL_OK;
    if (ours)
        vcl_owned_add_model(names, model);
    vcl_model_close(model);
}

static void add_journal(json_t *names, const char *path)
{
    json_t *file, *journal = vcl_owned_journal(path);
    size_t i;
    json_array_foreach(json_object_get(journal, "input"), i, file)
    {
        const char *name = json_string_value(json_object_get(file, "name"));
        if (name)
            add_name(names, name);
    }
    if (journal)
        add_name(names, VCL_INDEX); /* whatever it is called in the input */
    json_decref(journal);
}

json_t *vcl_owned_list(json_t *names)
{
    json_t *value, *files = json_array();
    const char *name;
    int whole = files != NULL;
    json_object_foreach(names, name, value) whole =
        whole && json_array_append_new(files, json_pack("{s:s}", "name", name)) == 0;
    if (whole)
        return json_pack("{s:i, s:o}", "schema", 1, "input", files);
    json_decref(files);
    return NULL;
}

json_t *vcl_owned_journal(const char *folder)
{
    char *path = vcl_path_in(folder, VCL_JOURNAL);
    void *bytes = NULL;
    size_t n = 0;
    const int read = path && vcl_read_file(path, JOURNAL_LIMIT, &bytes, &n, NULL) == VCL_OK;
    json_t *journal = read ? json_loadb(bytes, n, 0, NULL) : NULL;
    free(bytes);
    free(path);
    return journal;
}

void vcl_owned_add_model(json_t *names, const struct vcl_model *model)
{
    json_t *hash, *files = vcl_listed_files(NULL, model);
    const char *name;
    for (size_t i = 0; i < vcl_model_shards(model); i++)
        add_name(names, vcl_model_shard_name(model, i));
    json_object_foreach(files, name, hash) add_name(names, name);
    json_decref(files);
}

json_t *vcl_owned_names(const char *path)
{
    json_t *names = json_object();
    add_name(names, VCL_JOURNAL);
    add_compressed(names, path);
    add_journal(names, path);
    return names;
}

int vcl_owned_is_temporary(const char *name)
{
    const size_t n = strlen(name);
    return *name == '.' && n > 4 && strcmp(name + n - 4, ".tmp") == 0 && strstr(name, ".vcllm-");
}

static int is_dots(const char *name) { return strcmp(name, ".") == 0 || strcmp(name, "..") == 0; }

static int is_ours(const char *folder, const char *name, const json_t *names)
{
    struct stat status;
    char *path = vcl_path_in(folder, name);
    const int regular = path && lstat(path, &status) == 0 && S_ISREG(status.st_mode);
    free(path);
    return regular && (json_object_get(names, name) || vcl_owned_is_temporary(name));
}

enum vcl_status vcl_owned_check(struct vcl_errand *job, const char *path, const json_t *names)
{
    struct stat found;
    const struct dirent *item;
    enum vcl_status status = VCL_OK;
    if (lstat(path, &found))
        return vcl_errand_fail(job, VCL_E_IO, "%s: %s", path, strerror(errno));
    if (!S_ISDIR(found.st_mode))
        return vcl_errand_fail(job, VCL_E_IO, "%s: is %s; only a folder is replaced by one", path,
                               S_ISLNK(found.st_mode) ? "a link" : "no folder");
    DIR *dir = opendir(path);
    if (!dir)
        return vcl_errand_fail(job, VCL_E_IO, "%s: %s", path, strerror(errno));
    while (!status && (item = readdir(dir)))
        if (!is_dots(item->d_name) && !is_ours(path, item->d_name, names))
            status = vcl_errand_fail(
                job, VCL_E_IO,
                "%s: holds '%s', which vcllm did not write there; it is not replaced, remove it "
                "yourself",
                path, item->d_name);
    closedir(dir);
    return status;
}

int vcl_owned_is_empty(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *item;
    int empty = dir != NULL;
    while (empty && (item = readdir(dir)))
        empty = is_dots(item->d_name) || vcl_owned_is_temporary(item->d_name);
    if (dir)
        closedir(dir);
    return empty;
}

/* The journal says what the others are, so it goes last: what is left of a folder when a run is killed here
 * is still known to be ours. */
enum vcl_status vcl_owned_remove(struct vcl_errand *job, const char *path, const json_t *names)
{
    DIR *dir = opendir(path);
    const struct dirent *item;
    while (dir && (item = readdir(dir)))
        if (!is_dots(item->d_name) && strcmp(item->d_name, VCL_JOURNAL) != 0
            && is_ours(path, item->d_name, names))
            unlinkat(dirfd(dir), item->d_name, 0);
    if (dir && is_ours(path, VCL_JOURNAL, names))
        unlinkat(dirfd(dir), VCL_JOURNAL, 0);
    if (dir)
        closedir(dir);
    if (rmdir(path) == 0)
        return VCL_OK;
    return vcl_errand_fail(job, VCL_E_IO, "%s: cannot be removed: %s", path, strerror(errno));
}
