/* folder.c - builds OUTPUT.partial and renames it to OUTPUT, so that OUTPUT is there whole or not at all.
 *
 * Nothing is ever removed that could be the user's own work: a folder is replaced or discarded only if it
 * holds plain files and nothing deeper.  The journal in the partial folder says what it is the beginning of.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "folder.h"

enum { JOURNAL_LIMIT = 16 << 20 };

char *vcl_folder_file(const char *folder, const char *name) { return vcl_text("%s/%s", folder, name); }

static int fail_errno(const char *path) { return vcl_tell(VCL_E_IO, "%s: %s", path, strerror(errno)); }

/* ---- what is in the input -------------------------------------------------------------------- */

static int ends_with(const char *name, const char *end)
{
    const size_t n = strlen(name), m = strlen(end);
    return n > m && strcmp(name + n - m, end) == 0;
}

int vcl_folder_has_shard(const struct vcl_model *model, const char *name)
{
    for (size_t i = 0; i < vcl_model_shards(model); i++)
        if (strcmp(vcl_model_shard_name(model, i), name) == 0)
            return 1;
    return 0;
}

/* Why a file is not copied along, NULL if it is. */
static const char *why_not(const char *name, const struct stat *status)
{
    static const char *const weights[] = { ".safetensors", ".bin", ".pt",      ".pth", ".gguf",
                                           ".onnx",        ".h5",  ".msgpack", ".ckpt" };
    json_t *text = json_string(name);
    if (!text)
        return "its name is not UTF-8";
    json_decref(text);
    if (!S_ISREG(status->st_mode))
        return S_ISDIR(status->st_mode) ? "a sub-folder" : "not a regular file";
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        if (ends_with(name, weights[i]))
            return "weights that are not part of this model";
    return NULL;
}

static int consider_side(struct vcl_folder *folder, const char *name, int note)
{
    struct stat status;
    char *path = vcl_folder_file(folder->input, name);
    const int failed = stat(path, &status); /* follows links: downloaded models are often made of them */
    const char *reason = failed ? "cannot be read" : why_not(name, &status);
    free(path);
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || vcl_folder_has_shard(folder->model, name)
        || strcmp(name, VCL_JOURNAL) == 0)
        return 0;
    if (reason && note)
        vcl_note("%s: '%s' is not copied: %s", folder->input, name, reason);
    if (!reason)
        folder->side_bytes += (uint64_t)status.st_size;
    return !reason;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static int find_sides(struct vcl_folder *folder, int note)
{
    DIR *dir = opendir(folder->input);
    const struct dirent *item;
    size_t room = 16;

    if (!dir)
        return fail_errno(folder->input);
    folder->sides = vcl_zeros(room, sizeof *folder->sides);
    while ((item = readdir(dir))) {
        if (!consider_side(folder, item->d_name, note))
            continue;
        if (folder->count == room) {
            char **grown = vcl_zeros(2 * room, sizeof *grown);
            memcpy(grown, folder->sides, room * sizeof *grown);
            free(folder->sides);
            folder->sides = grown;
            room *= 2;
        }
        folder->sides[folder->count++] = vcl_text("%s", item->d_name);
    }
    closedir(dir);
    qsort(folder->sides, folder->count, sizeof *folder->sides, by_name);
    return VCL_EXIT_OK;
}

int vcl_folder_open(struct vcl_folder *folder, const struct vcl_model *model, const char *output, int note)
{
    size_t length = strlen(output);
    while (length > 1 && output[length - 1] == '/')
        length--;
    const char *shard = vcl_model_shard_path(model, 0);
    const char *slash = strrchr(shard, '/');
    *folder = (struct vcl_folder){ .model = model };
    folder->input =
        slash ? vcl_text("%.*s", slash == shard ? 1 : (int)(slash - shard), shard) : vcl_text(".");
    folder->output = vcl_text("%.*s", (int)length, output);
    folder->partial = vcl_text("%s.partial", folder->output);
    return find_sides(folder, note);
}

void vcl_folder_close(struct vcl_folder *folder)
{
    for (size_t i = 0; i < folder->count; i++)
        free(folder->sides[i]);
    free(folder->sides);
    free(folder->input);
    free(folder->output);
    free(folder->partial);
}

const char *vcl_folder_index(const struct vcl_folder *folder)
{
    const char *path = vcl_model_index_path(folder->model);
    const char *slash = path ? strrchr(path, '/') : NULL;
    return slash ? slash + 1 : path;
}

/* ---- the partial folder ---------------------------------------------------------------------- */

/* Calls each(path) for everything in a folder; 0 if all calls gave 0. */
static int walk(const char *path, int (*each)(const char *path))
{
    DIR *dir = opendir(path);
    const struct dirent *item;
    int bad = !dir;
    while (!bad && (item = readdir(dir))) {
        if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0)
            continue;
        char *file = vcl_folder_file(path, item->d_name);
        bad = each(file);
        free(file);
    }
    if (dir)
        closedir(dir);
    return bad;
}

static int is_not_plain(const char *path)
{
    struct stat status;
    return lstat(path, &status) || S_ISDIR(status.st_mode);
}

static int remove_folder(const char *path) { return walk(path, unlink) || rmdir(path); }

void vcl_folder_discard(const struct vcl_folder *folder)
{
    if (remove_folder(folder->partial))
        vcl_say("%s: cannot be removed: %s", folder->partial, strerror(errno));
}

static int may_replace(const char *path)
{
    struct stat status;
    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode) && walk(path, is_not_plain) == 0)
        return VCL_EXIT_OK;
    return vcl_tell(VCL_E_IO,
                    "%s: holds sub-folders or is none itself; it is not replaced, remove it yourself", path);
}

static int check_output(struct vcl_folder *folder, int force)
{
    struct stat in, out;
    if (stat(folder->output, &out))
        return errno == ENOENT ? VCL_EXIT_OK : fail_errno(folder->output);
    if (stat(folder->input, &in) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino) {
        vcl_say("%s: input and output are the same folder", folder->output);
        return VCL_EXIT_USAGE;
    }
    if (!force)
        return vcl_tell(VCL_E_IO, "%s: is there already; -f replaces it", folder->output);
    folder->replaced = 1;
    return may_replace(folder->output);
}

static int journal_agrees(const struct vcl_folder *folder, const json_t *journal)
{
    char *path = vcl_folder_file(folder->partial, VCL_JOURNAL);
    void *bytes = NULL;
    size_t n = 0;
    const enum vcl_status status = vcl_read_file(path, JOURNAL_LIMIT, &bytes, &n, NULL);
    json_t *found = status == VCL_OK ? json_loadb(bytes, n, 0, NULL) : NULL;
    const int agrees = found && json_equal(found, journal);
    json_decref(found);
    free(bytes);
    free(path);
    return agrees;
}

static int belongs(const struct vcl_folder *folder, const char *name)
{
    for (size_t i = 0; i < folder->count; i++)
        if (strcmp(folder->sides[i], name) == 0)
            return 1;
    return vcl_folder_has_shard(folder->model, name) || strcmp(name, VCL_JOURNAL) == 0
        || strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* What an interrupted run left half-written is under temporary names: files are renamed when they
 * are whole. */
static void sweep_partial(const struct vcl_folder *folder)
{
    DIR *dir = opendir(folder->partial);
    const struct dirent *item;
    while (dir && (item = readdir(dir)))
        if (!belongs(folder, item->d_name))
            unlinkat(dirfd(dir), item->d_name, 0);
    if (dir)
        closedir(dir);
}

static int write_journal(const struct vcl_folder *folder, const json_t *journal)
{
    struct vcl_error error = { 0 };
    char *path = vcl_folder_file(folder->partial, VCL_JOURNAL);
    char *text = json_dumps(journal, JSON_INDENT(1));
    const enum vcl_status status = text ? vcl_write_file(path, text, strlen(text), 1, &error) : VCL_E_MEMORY;
    free(text);
    free(path);
    return status == VCL_OK ? VCL_EXIT_OK : vcl_tell(status, "%s", error.text);
}

int vcl_folder_begin(struct vcl_folder *folder, const json_t *journal, int force, int resume)
{
    struct stat status;
    int code = check_output(folder, force);
    if (code)
        return code;
    if (stat(folder->partial, &status) == 0) {
        if (resume && journal_agrees(folder, journal)) {
            sweep_partial(folder);
            return VCL_EXIT_OK;
        }
        if (resume)
            return vcl_tell(VCL_E_IO,
                            "%s: was begun with other settings or another input; -f without --resume "
                            "starts again",
                            folder->partial);
        if (!force)
            return vcl_tell(VCL_E_IO, "%s: is there already; %s-f starts again", folder->partial,
                            journal ? "--resume continues it, " : "");
        code = may_replace(folder->partial);
        if (code)
            return code;
        vcl_folder_discard(folder);
    }
    if (mkdir(folder->partial, 0777))
        return fail_errno(folder->partial);
    code = journal ? write_journal(folder, journal) : VCL_EXIT_OK;
    if (code)
        vcl_folder_discard(folder);
    return code;
}

static int sync_folder(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int failed = fd < 0 || fsync(fd);
    if (fd >= 0)
        close(fd);
    return failed;
}

/* An older output steps aside first: at every moment one of the two is there whole. */
int vcl_folder_commit(struct vcl_folder *folder)
{
    char *journal = vcl_folder_file(folder->partial, VCL_JOURNAL);
    char *old = vcl_text("%s.old", folder->output), *slash = strrchr(folder->output, '/');
    char *parent =
        slash ? vcl_text("%.*s", slash == folder->output ? 1 : (int)(slash - folder->output), folder->output)
              : vcl_text(".");
    int failed = (unlink(journal) && errno != ENOENT) || sync_folder(folder->partial);

    if (!failed && folder->replaced)
        failed = rename(folder->output, old);
    if (!failed)
        failed = rename(folder->partial, folder->output) || sync_folder(parent);
    const int code = failed ? fail_errno(folder->output) : VCL_EXIT_OK;
    if (!failed && folder->replaced && remove_folder(old))
        vcl_say("%s: cannot be removed: %s", old, strerror(errno));
    free(journal);
    free(old);
    free(parent);
    return code;
}
