/* folder.c - builds OUTPUT.partial and renames it to OUTPUT, so that OUTPUT is there whole or not at all.
 *
 * An older OUTPUT steps aside as OUTPUT.old until the new one has its name.  What may be replaced and removed
 * is decided in owned.c.  The journal in the partial folder says what it is the beginning of, and is locked
 * while it is written.  Wherever a run is killed, what it leaves has a journal, or is empty, and the next run
 * tidies it: it ends what was begun there, and never takes what is not ours. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "folder.h"

static int fail_errno(const char *path) { return vcl_tell(VCL_E_IO, "%s: %s", path, strerror(errno)); }

/* ---- what is in the input -------------------------------------------------------------------- */

static int ends_with(const char *name, const char *end)
{
    const size_t n = strlen(name), m = strlen(end);
    return n > m && strcmp(name + n - m, end) == 0;
}

static int is_other_index(const struct vcl_folder *folder, const char *name)
{
    const char *index = vcl_folder_index(folder);
    return ends_with(name, ".safetensors.index.json") && (!index || strcmp(index, name) != 0);
}

/* Why a file is not copied along, NULL if it is. */
static const char *why_not(const struct vcl_folder *folder, const char *name, const struct stat *status)
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
    return is_other_index(folder, name) ? "the index of another model" : NULL;
}

/* Names that vcllm gives to files of its own, and takes away. */
static int is_reserved(const char *name)
{
    return strcmp(name, VCL_JOURNAL) == 0 || vcl_owned_is_temporary(name);
}

static int check_shards(const struct vcl_model *model)
{
    for (size_t i = 0; i < vcl_model_shards(model); i++)
        if (is_reserved(vcl_model_shard_name(model, i)))
            return vcl_tell(VCL_E_FORMAT,
                            "%s: a shard cannot have this name, which vcllm gives to files of its own",
                            vcl_model_shard_path(model, i));
    return VCL_EXIT_OK;
}

static int consider_side(struct vcl_folder *folder, const char *name, int note)
{
    struct stat status;
    char *path = vcl_path_in(folder->input, name);
    const int failed = stat(path, &status); /* follows links: downloaded models are often made of them */
    const char *reason = failed ? "cannot be read" : why_not(folder, name, &status);
    free(path);
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || vcl_listed_shard(folder->model, name)
        || is_reserved(name))
        return 0;
    if (reason && note)
        vcl_note("%s: '%s' is not copied: %s", folder->input, name, reason);
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

static void unlock(int *lock)
{
    if (*lock > 0)
        close(*lock);
    *lock = 0;
}

/* Where from and where to. */
static void set_paths(struct vcl_folder *folder, const struct vcl_model *model, const char *output)
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
}

int vcl_folder_open(struct vcl_folder *folder, const struct vcl_model *model, const char *output, int note)
{
    set_paths(folder, model, output);
    const int code = check_shards(model);
    return code ? code : find_sides(folder, note);
}

void vcl_folder_make(struct vcl_folder *folder, const struct vcl_model *model, const char *output,
                     json_t *names)
{
    const char *name;
    json_t *value;
    set_paths(folder, model, output);
    folder->made = 1;
    folder->sides = vcl_zeros(json_object_size(names) + 1, sizeof *folder->sides);
    json_object_foreach(names, name, value) folder->sides[folder->count++] = vcl_text("%s", name);
}

void vcl_folder_close(struct vcl_folder *folder)
{
    for (size_t i = 0; i < folder->count; i++)
        free(folder->sides[i]);
    free(folder->sides);
    free(folder->input);
    free(folder->output);
    free(folder->partial);
    unlock(&folder->lock);
}

const char *vcl_folder_index(const struct vcl_folder *folder)
{
    const char *path = vcl_model_index_path(folder->model);
    const char *slash = path ? strrchr(path, '/') : NULL;
    return slash ? slash + 1 : path;
}

/* ---- the partial folder ---------------------------------------------------------------------- */

/* What may go when the folder at path does: what vcllm wrote there.  A model that is not compressed cannot be
 * told from any other, so where one is written also what is about to be written anew. */
static json_t *removable(const struct vcl_folder *folder, const char *path)
{
    json_t *names = vcl_owned_names(path);
    if (!folder->made && (folder->same || vcl_model_is_compressed(folder->model, 0)))
        vcl_owned_add_model(names, folder->model);
    for (size_t i = 0; i < folder->count && (folder->same || folder->made); i++)
        vcl_json_set(names, folder->sides[i], json_true());
    return names;
}

static int check_removable(const struct vcl_folder *folder, const char *path)
{
    json_t *names = removable(folder, path);
    const int code = vcl_owned_check(path, names);
    json_decref(names);
    return code;
}

static int remove_folder(const struct vcl_folder *folder, const char *path)
{
    json_t *names = removable(folder, path);
    const int code = vcl_owned_remove(path, names);
    json_decref(names);
    return code;
}

void vcl_folder_discard(const struct vcl_folder *folder) { remove_folder(folder, folder->partial); }

static char *old_of(const struct vcl_folder *folder) { return vcl_text("%s.old", folder->output); }

static char *parent_of(const struct vcl_folder *folder)
{
    const char *path = folder->output, *slash = strrchr(path, '/');
    return slash ? vcl_text("%.*s", slash == path ? 1 : (int)(slash - path), path) : vcl_text(".");
}

static int check_parent(const struct vcl_folder *folder)
{
    char *parent = parent_of(folder);
    const int code = access(parent, W_OK | X_OK) ? fail_errno(parent) : VCL_EXIT_OK;
    free(parent);
    return code;
}

static int find_journal(const char *folder)
{
    json_t *journal = vcl_owned_journal(folder);
    json_decref(journal);
    return journal != NULL;
}

static int remove_journal(const char *folder)
{
    char *journal = vcl_path_in(folder, VCL_JOURNAL);
    const int failed = unlink(journal) && errno != ENOENT;
    const int code = failed ? vcl_tell(VCL_E_IO, "%s: cannot be removed: %s", journal, strerror(errno)) : 0;
    free(journal);
    return code;
}

/* Locks the journal in a folder, where there is one: who writes there holds the lock. */
static int lock_journal(const char *folder, int *lock)
{
    char *journal = vcl_path_in(folder, VCL_JOURNAL);
    *lock = open(journal, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    free(journal);
    if (*lock < 0)
        *lock = 0;
    else if (flock(*lock, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
        return vcl_tell(VCL_E_IO, "%s: another vcllm is writing there", folder);
    return VCL_EXIT_OK;
}

static int check_old(const struct vcl_folder *folder)
{
    struct stat status;
    char *old = old_of(folder);
    const int code = lstat(old, &status) == 0
                       ? vcl_tell(VCL_E_IO, "%s: is in the way: the older output is put there; move it", old)
                       : VCL_EXIT_OK;
    free(old);
    return code;
}

/* Removes an older output under the name of the partial folder: whatever is left of it there, be it an empty
 * folder, a next run knows and removes. */
static int remove_old(const struct vcl_folder *folder, const char *old)
{
    return rename(old, folder->partial) ? fail_errno(old) : remove_folder(folder, folder->partial);
}

/* The older output comes back where the new one has not its name yet, else it goes. */
static int settle_old(const struct vcl_folder *folder, const char *old)
{
    struct stat status;
    int lock, code = lock_journal(folder->output, &lock);
    if (!code)
        code = check_removable(folder, old);
    if (!code && lstat(folder->output, &status) == 0)
        code = remove_old(folder, old);
    else if (!code && rename(old, folder->output))
        code = fail_errno(old);
    unlock(&lock);
    return code;
}

/* A journal in OUTPUT.old: a run was killed while it exchanged the two. */
static int settle(const struct vcl_folder *folder)
{
    char *old = old_of(folder);
    const int code = find_journal(old) ? settle_old(folder, old) : VCL_EXIT_OK;
    free(old);
    return code;
}

static int check_output(struct vcl_folder *folder, int force)
{
    struct stat in, out;
    int code = settle(folder);
    if (code)
        return code;
    if (lstat(folder->output, &out))
        return errno == ENOENT ? check_parent(folder) : fail_errno(folder->output);
    if (stat(folder->output, &out) == 0 && stat(folder->input, &in) == 0 && in.st_dev == out.st_dev
        && in.st_ino == out.st_ino) {
        vcl_say("%s: input and output are the same folder", folder->output);
        return VCL_EXIT_USAGE;
    }
    if (!force) {
        if (find_journal(folder->output)) /* of a run that was killed after the swap */
            remove_journal(folder->output);
        return vcl_tell(VCL_E_IO, "%s: is there already; -f replaces it", folder->output);
    }
    folder->replaced = 1;
    code = check_removable(folder, folder->output);
    if (!code && access(folder->output, W_OK | X_OK))
        code = fail_errno(folder->output);
    return code ? code : check_old(folder);
}

/* Is one of this model's shards finished? */
static int any_finished(const struct vcl_folder *folder)
{
    int found = 0;
    for (size_t i = 0; i < vcl_model_shards(folder->model) && !found; i++)
        found = vcl_is_in(folder->partial, vcl_model_shard_name(folder->model, i));
    return found;
}

/* A partial folder whose run has ended; found: its journal, or NULL.  What --resume could continue is not
 * thrown away without -f. */
static int check_begun(struct vcl_folder *folder, const json_t *journal, const json_t *found, int force,
                       int resume)
{
    const int agrees = found && json_equal(found, journal), kept = json_object_get(found, "settings") != NULL;
    if (!found && vcl_owned_is_empty(folder->partial)) /* killed before it had a journal */
        return VCL_EXIT_OK;
    if (resume && kept && !agrees)
        return vcl_tell(
            VCL_E_IO, "%s: was begun with other settings or another input; -f without --resume starts again",
            folder->partial);
    folder->resumed = resume && agrees;
    if (!force && !folder->resumed && (!found || (kept && (!agrees || any_finished(folder)))))
        return vcl_tell(VCL_E_IO, "%s: is there already; %s-f starts again", folder->partial,
                        kept ? "--resume continues it, " : "");
    return check_removable(folder, folder->partial);
}

int vcl_folder_check(struct vcl_folder *folder, const json_t *journal, int force, int resume)
{
    struct stat status;
    int code = check_output(folder, force);
    if (code)
        return code;
    if (lstat(folder->partial, &status))
        return errno == ENOENT ? VCL_EXIT_OK : fail_errno(folder->partial);
    folder->begun = 1;
    code = lock_journal(folder->partial, &folder->lock);
    if (code)
        return code;
    json_t *found = vcl_owned_journal(folder->partial);
    code = check_begun(folder, journal, found, force, resume);
    json_decref(found);
    return code;
}

/* What an interrupted run left half-written is under temporary names: files are renamed when they
 * are whole. */
static void sweep_partial(const struct vcl_folder *folder)
{
    DIR *dir = opendir(folder->partial);
    const struct dirent *item;
    while (dir && (item = readdir(dir)))
        if (vcl_owned_is_temporary(item->d_name))
            unlinkat(dirfd(dir), item->d_name, 0);
    if (dir)
        closedir(dir);
}

static int write_journal(const char *folder, const json_t *journal)
{
    struct vcl_error error = { 0 };
    char *path = vcl_path_in(folder, VCL_JOURNAL), *text = json_dumps(journal, JSON_INDENT(1));
    const enum vcl_status status = text ? vcl_write_file(path, text, strlen(text), 1, &error) : VCL_E_MEMORY;
    free(text);
    free(path);
    return status == VCL_OK ? VCL_EXIT_OK : vcl_tell(status, "%s", error.text);
}

int vcl_folder_begin(struct vcl_folder *folder, const json_t *journal)
{
    if (folder->resumed) {
        sweep_partial(folder);
        return VCL_EXIT_OK;
    }
    int code = folder->begun ? remove_folder(folder, folder->partial) : VCL_EXIT_OK;
    unlock(&folder->lock);
    if (code)
        return code;
    if (mkdir(folder->partial, 0777))
        return fail_errno(folder->partial);
    code = write_journal(folder->partial, journal);
    if (!code)
        code = lock_journal(folder->partial, &folder->lock);
    if (code)
        vcl_folder_discard(folder);
    return code;
}

static int sync_folder(const char *path)
{
    struct vcl_error error = { 0 };
    const enum vcl_status status = vcl_sync_folder(path, &error);
    return status == VCL_OK ? VCL_EXIT_OK : vcl_tell(status, "%s", error.text);
}

/* An older output steps aside first, and comes back where the new one cannot take its place: at every moment
 * one of the two is there whole. */
static int swap(const struct vcl_folder *folder, const char *old)
{
    if (folder->replaced && rename(folder->output, old))
        return fail_errno(folder->output);
    if (rename(folder->partial, folder->output) == 0)
        return VCL_EXIT_OK;
    const int code = fail_errno(folder->output);
    if (folder->replaced && rename(old, folder->output))
        vcl_say("%s: the older output is there now: %s", old, strerror(errno));
    return code;
}

/* A list in the older output of what it holds: a run that is killed from here on leaves an OUTPUT.old that is
 * known to be ours, whatever is left of it. */
static int mark(const struct vcl_folder *folder)
{
    json_t *names = removable(folder, folder->output), *journal = vcl_owned_list(names);
    int code = vcl_owned_check(folder->output, names); /* once more: the work may have taken hours */
    if (!code)
        code = write_journal(folder->output, journal);
    json_decref(names);
    json_decref(journal);
    return code;
}

/* The new output has its name.  The journal goes last: until then a next run knows that there is something to
 * tidy. */
static int tidy(const struct vcl_folder *folder, const char *old)
{
    const int code = folder->replaced ? remove_old(folder, old) : VCL_EXIT_OK;
    const int left = remove_journal(folder->output);
    if (code || left)
        vcl_say("%s: is complete, but what is named above was left behind", folder->output);
    return code ? code : left;
}

int vcl_folder_commit(const struct vcl_folder *folder)
{
    char *old = old_of(folder), *parent = parent_of(folder);
    int code = sync_folder(folder->partial);
    if (!code && folder->replaced)
        code = mark(folder);
    if (!code) {
        code = swap(folder, old);
        if (code && folder->replaced)
            remove_journal(folder->output);
    }
    if (!code) {
        code = sync_folder(parent);
        if (!code)
            code = tidy(folder, old);
    }
    free(old);
    free(parent);
    return code;
}

/* What the partial folder will hold, as keys. */
static json_t *list_files(const struct vcl_folder *folder)
{
    json_t *names = json_object();
    if (!folder->made)
        vcl_owned_add_model(names, folder->model);
    for (size_t i = 0; i < folder->count; i++)
        vcl_json_set(names, folder->sides[i], json_true());
    return names;
}

static int write_folder(struct vcl_folder *folder, const json_t *journal, int force,
                        int (*fill)(void *user, struct vcl_folder *folder), void *user)
{
    int code = vcl_folder_check(folder, journal, force, 0);
    if (!code)
        code = vcl_folder_begin(folder, journal);
    if (code)
        return code;
    code = fill(user, folder);
    if (!code)
        return vcl_folder_commit(folder);
    vcl_folder_discard(folder);
    return code;
}

int vcl_folder_write(struct vcl_folder *folder, int force, int (*fill)(void *user, struct vcl_folder *folder),
                     void *user)
{
    json_t *names = list_files(folder), *journal = vcl_owned_list(names);
    const int code = write_folder(folder, journal, force, fill, user);
    json_decref(names);
    json_decref(journal);
    return code;
}
