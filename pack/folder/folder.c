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

#include "common/texts.h"
#include "folder.h"

static enum vcl_status fail_errno(const struct vcl_folder *folder, const char *path)
{
    return vcl_errand_fail(folder->job, VCL_E_IO, "%s: %s", path, strerror(errno));
}

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

static enum vcl_status check_shards(struct vcl_errand *job, const struct vcl_model *model)
{
    for (size_t i = 0; i < vcl_model_shards(model); i++)
        if (is_reserved(vcl_model_shard_name(model, i)))
            return vcl_errand_fail(job, VCL_E_FORMAT,
                                   "%s: a shard cannot have this name, which vcllm gives to files of its own",
                                   vcl_model_shard_path(model, i));
    return VCL_OK;
}

/* Whether a file comes along; out of memory, told, is *status. */
static int consider_side(struct vcl_folder *folder, const char *name, int note, enum vcl_status *status)
{
    struct stat found;
    char *path = vcl_path_in(folder->input, name);
    if (!path)
        *status = vcl_errand_memory(folder->job);
    const int failed =
        !path || stat(path, &found); /* follows links: downloaded models are often made of them */
    const char *reason = failed ? "cannot be read" : why_not(folder, name, &found);
    free(path);
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || vcl_listed_shard(folder->model, name)
        || is_reserved(name))
        return 0;
    if (reason && note && !*status)
        vcl_errand_note(folder->job, "%s: '%s' is not copied: %s", folder->input, name, reason);
    return !reason;
}

static int by_name(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

static enum vcl_status add_side(struct vcl_folder *folder, const char *name)
{
    char **grown = reallocarray(folder->sides, folder->count + 1, sizeof *grown);
    if (grown)
        folder->sides = grown;
    if (!grown || !(folder->sides[folder->count] = strdup(name)))
        return vcl_errand_memory(folder->job);
    folder->count++;
    return VCL_OK;
}

static enum vcl_status find_sides(struct vcl_folder *folder, int note)
{
    DIR *dir = opendir(folder->input);
    const struct dirent *item;
    enum vcl_status status = VCL_OK;

    if (!dir)
        return fail_errno(folder, folder->input);
    while (!status && (item = readdir(dir)))
        if (consider_side(folder, item->d_name, note, &status) && !status)
            status = add_side(folder, item->d_name);
    closedir(dir);
    if (folder->count)
        qsort(folder->sides, folder->count, sizeof *folder->sides, by_name);
    return status;
}

static void unlock(int *lock)
{
    if (*lock > 0)
        close(*lock);
    *lock = 0;
}

/* Where from and where to. */
/* Has the path a last name of its own, beside which the partial folder can stand? */
static int has_name(const char *path, size_t length)
{
    size_t first = length;
    while (first > 0 && path[first - 1] != '/')
        first--;
    const size_t n = length - first;
    return n > 0 && !(n <= 2 && memcmp(path + first, "..", n) == 0);
}

static enum vcl_status set_paths(struct vcl_folder *folder, struct vcl_errand *job,
                                 const struct vcl_model *model, const char *output)
{
    size_t length = strlen(output);
    while (length > 1 && output[length - 1] == '/')
        length--;
    *folder = (struct vcl_folder){ .job = job, .model = model };
    folder->input = vcl_folder_of(vcl_model_shard_path(model, 0));
    folder->output = vcl_compose("%.*s", (int)length, output);
    folder->partial = vcl_compose("%.*s.partial", (int)length, output);
    if (!folder->input || !folder->output || !folder->partial)
        return vcl_errand_memory(job);
    return length == 0 || has_name(output, length) /* or nothing is written */
             ? VCL_OK
             : vcl_errand_fail(job, VCL_E_ARGUMENT, "%s: an output folder needs a name of its own", output);
}

enum vcl_status vcl_folder_open(struct vcl_folder *folder, struct vcl_errand *job,
                                const struct vcl_model *model, const char *output, int note)
{
    enum vcl_status status = set_paths(folder, job, model, output);
    if (!status)
        status = check_shards(job, model);
    return status ? status : find_sides(folder, note);
}

enum vcl_status vcl_folder_make(struct vcl_folder *folder, struct vcl_errand *job,
                                const struct vcl_model *model, const char *output, json_t *names)
{
    const char *name;
    json_t *value;
    enum vcl_status status = set_paths(folder, job, model, output);
    folder->made = 1;
    json_object_foreach(names, name, value)
    {
        if (!status)
            status = add_side(folder, name);
    }
    return status;
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
        json_object_set_new(names, folder->sides[i], json_true()); /* one left out is not removed */
    return names;
}

static enum vcl_status check_removable(const struct vcl_folder *folder, const char *path)
{
    json_t *names = removable(folder, path);
    const enum vcl_status status = vcl_owned_check(folder->job, path, names);
    json_decref(names);
    return status;
}

static enum vcl_status remove_folder(const struct vcl_folder *folder, const char *path)
{
    json_t *names = removable(folder, path);
    const enum vcl_status status = vcl_owned_remove(folder->job, path, names);
    json_decref(names);
    return status;
}

void vcl_folder_discard(const struct vcl_folder *folder) { remove_folder(folder, folder->partial); }

static char *old_of(const struct vcl_folder *folder) { return vcl_compose("%s.old", folder->output); }

static enum vcl_status check_parent(const struct vcl_folder *folder)
{
    char *parent = vcl_folder_of(folder->output);
    const enum vcl_status status = !parent                     ? vcl_errand_memory(folder->job)
                                 : access(parent, W_OK | X_OK) ? fail_errno(folder, parent)
                                                               : VCL_OK;
    free(parent);
    return status;
}

static int find_journal(const char *folder)
{
    json_t *journal = vcl_owned_journal(folder);
    json_decref(journal);
    return journal != NULL;
}

static enum vcl_status remove_journal(const struct vcl_folder *folder, const char *path)
{
    char *journal = vcl_path_in(path, VCL_JOURNAL);
    enum vcl_status status = journal ? VCL_OK : vcl_errand_memory(folder->job);
    if (journal && unlink(journal) && errno != ENOENT)
        status =
            vcl_errand_fail(folder->job, VCL_E_IO, "%s: cannot be removed: %s", journal, strerror(errno));
    free(journal);
    return status;
}

/* Locks the journal in a folder, where there is one: who writes there holds the lock. */
static enum vcl_status lock_journal(const struct vcl_folder *folder, const char *path, int *lock)
{
    char *journal = vcl_path_in(path, VCL_JOURNAL);
    *lock = 0;
    if (!journal)
        return vcl_errand_memory(folder->job);
    *lock = open(journal, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    free(journal);
    if (*lock < 0)
        *lock = 0;
    else if (flock(*lock, LOCK_EX | LOCK_NB) && errno == EWOULDBLOCK)
        return vcl_errand_fail(folder->job, VCL_E_IO, "%s: another vcllm is writing there", path);
    return VCL_OK;
}

static enum vcl_status check_old(const struct vcl_folder *folder, const char *old)
{
    struct stat found;
    return lstat(old, &found)
             ? VCL_OK
             : vcl_errand_fail(folder->job, VCL_E_IO,
                               "%s: is in the way: the older output is put there; move it", old);
}

/* Removes an older output under the name of the partial folder: whatever is left of it there, be it an empty
 * folder, a next run knows and removes. */
static enum vcl_status remove_old(const struct vcl_folder *folder, const char *old)
{
    return rename(old, folder->partial) ? fail_errno(folder, old) : remove_folder(folder, folder->partial);
}

/* The older output comes back where the new one has not its name yet, else it goes. */
static enum vcl_status settle_old(const struct vcl_folder *folder, const char *old)
{
    struct stat found;
    int lock;
    enum vcl_status status = lock_journal(folder, folder->output, &lock);
    if (!status)
        status = check_removable(folder, old);
    if (!status && lstat(folder->output, &found) == 0)
        status = remove_old(folder, old);
    else if (!status && rename(old, folder->output))
        status = fail_errno(folder, old);
    unlock(&lock);
    return status;
}

static enum vcl_status check_replaced(struct vcl_folder *folder, const char *old)
{
    folder->replaced = 1;
    enum vcl_status status = check_removable(folder, folder->output);
    if (!status && access(folder->output, W_OK | X_OK))
        status = fail_errno(folder, folder->output);
    return status ? status : check_old(folder, old);
}

/* A journal in OUTPUT.old: a run was killed while it exchanged the two. */
static enum vcl_status check_output(struct vcl_folder *folder, const char *old, int force)
{
    struct stat in, out;
    const enum vcl_status status = find_journal(old) ? settle_old(folder, old) : VCL_OK;
    if (status)
        return status;
    if (lstat(folder->output, &out))
        return errno == ENOENT ? check_parent(folder) : fail_errno(folder, folder->output);
    if (stat(folder->output, &out) == 0 && stat(folder->input, &in) == 0 && in.st_dev == out.st_dev
        && in.st_ino == out.st_ino)
        return vcl_errand_fail(folder->job, VCL_E_ARGUMENT, "%s: input and output are the same folder",
                               folder->output);
    if (force)
        return check_replaced(folder, old);
    if (find_journal(folder->output)) /* of a run that was killed after the swap */
        remove_journal(folder, folder->output);
    return vcl_errand_fail(folder->job, VCL_E_IO, "%s: is there already; -f replaces it", folder->output);
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
static enum vcl_status check_begun(struct vcl_folder *folder, const json_t *journal, const json_t *found,
                                   int force, int resume)
{
    const int agrees = found && json_equal(found, journal), kept = json_object_get(found, "settings") != NULL;
    if (!found && vcl_owned_is_empty(folder->partial)) /* killed before it had a journal */
        return VCL_OK;
    if (resume && kept && !agrees)
        return vcl_errand_fail(
            folder->job, VCL_E_IO,
            "%s: was begun with other settings or another input; -f without --resume starts again",
            folder->partial);
    folder->resumed = resume && agrees;
    if (!force && !folder->resumed && (!found || (kept && (!agrees || any_finished(folder)))))
        return vcl_errand_fail(folder->job, VCL_E_IO, "%s: is there already; %s-f starts again",
                               folder->partial, kept ? "--resume continues it, " : "");
    return check_removable(folder, folder->partial);
}

enum vcl_status vcl_folder_check(struct vcl_folder *folder, const json_t *journal, int force, int resume)
{
    struct stat there;
    char *old = old_of(folder);
    enum vcl_status status = old ? check_output(folder, old, force) : vcl_errand_memory(folder->job);
    free(old);
    if (status)
        return status;
    if (lstat(folder->partial, &there))
        return errno == ENOENT ? VCL_OK : fail_errno(folder, folder->partial);
    folder->begun = 1;
    status = lock_journal(folder, folder->partial, &folder->lock);
    if (status)
        return status;
    json_t *found = vcl_owned_journal(folder->partial);
    status = check_begun(folder, journal, found, force, resume);
    json_decref(found);
    return status;
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

static enum vcl_status write_journal(const struct vcl_folder *folder, const char *in, const json_t *journal)
{
    struct vcl_error error = { 0 };
    char *path = vcl_path_in(in, VCL_JOURNAL), *text = vcl_dump(journal, JSON_INDENT(1));
    const enum vcl_status status =
        path && text
            ? vcl_errand_check(folder->job, vcl_write_file(path, text, strlen(text), 1, &error), &error)
            : vcl_errand_memory(folder->job);
    free(text);
    free(path);
    return status;
}

enum vcl_status vcl_folder_begin(struct vcl_folder *folder, const json_t *journal)
{
    if (folder->resumed) {
        sweep_partial(folder);
        return VCL_OK;
    }
    enum vcl_status status = folder->begun ? remove_folder(folder, folder->partial) : VCL_OK;
    unlock(&folder->lock);
    if (status)
        return status;
    if (mkdir(folder->partial, 0777))
        return fail_errno(folder, folder->partial);
    status = write_journal(folder, folder->partial, journal);
    if (!status)
        status = lock_journal(folder, folder->partial, &folder->lock);
    if (status)
        vcl_folder_discard(folder);
    return status;
}

static enum vcl_status sync_folder(const struct vcl_folder *folder, const char *path)
{
    struct vcl_error error = { 0 };
    return vcl_errand_check(folder->job, vcl_sync_folder(path, &error), &error);
}

/* An older output steps aside first, and comes back where the new one cannot take its place: at every moment
 * one of the two is there whole. */
static enum vcl_status swap(const struct vcl_folder *folder, const char *old)
{
    if (folder->replaced && rename(folder->output, old))
        return fail_errno(folder, folder->output);
    if (rename(folder->partial, folder->output) == 0)
        return VCL_OK;
    const enum vcl_status status = fail_errno(folder, folder->output);
    if (folder->replaced && rename(old, folder->output))
        vcl_errand_add_fault(folder->job, "%s: the older output is there now: %s", old, strerror(errno));
    return status;
}

/* A list in the older output of what it holds: a run that is killed from here on leaves an OUTPUT.old that is
 * known to be ours, whatever is left of it. */
static enum vcl_status mark(const struct vcl_folder *folder)
{
    json_t *names = removable(folder, folder->output), *journal = vcl_owned_list(names);
    /* once more: the work may have taken hours */
    enum vcl_status status = vcl_owned_check(folder->job, folder->output, names);
    if (!status)
        status = write_journal(folder, folder->output, journal);
    json_decref(names);
    json_decref(journal);
    return status;
}

/* The new output has its name.  The journal goes last: until then a next run knows that there is something to
 * tidy. */
static enum vcl_status tidy(const struct vcl_folder *folder, const char *old)
{
    const enum vcl_status status = folder->replaced ? remove_old(folder, old) : VCL_OK;
    const enum vcl_status left = remove_journal(folder, folder->output);
    if (status || left)
        vcl_errand_add_fault(folder->job, "%s: is complete, but what is named above was left behind",
                             folder->output);
    return status ? status : left;
}

static enum vcl_status commit(const struct vcl_folder *folder, const char *old, const char *parent)
{
    enum vcl_status status = sync_folder(folder, folder->partial);
    if (!status && folder->replaced)
        status = mark(folder);
    if (status)
        return status;
    status = swap(folder, old);
    if (status && folder->replaced)
        remove_journal(folder, folder->output);
    if (!status)
        status = sync_folder(folder, parent);
    return status ? status : tidy(folder, old);
}

enum vcl_status vcl_folder_commit(const struct vcl_folder *folder)
{
    char *old = old_of(folder), *parent = vcl_folder_of(folder->output);
    const enum vcl_status status =
        old && parent ? commit(folder, old, parent) : vcl_errand_memory(folder->job);
    free(old);
    free(parent);
    return status;
}

/* What the partial folder will hold, as keys. */
static json_t *list_files(const struct vcl_folder *folder)
{
    json_t *names = json_object();
    if (!folder->made)
        vcl_owned_add_model(names, folder->model);
    for (size_t i = 0; i < folder->count; i++)
        json_object_set_new(names, folder->sides[i], json_true()); /* one left out is not removed */
    return names;
}

static enum vcl_status write_folder(struct vcl_folder *folder, const json_t *journal, int force,
                                    enum vcl_status (*fill)(void *user, struct vcl_folder *folder),
                                    void *user)
{
    enum vcl_status status = vcl_folder_check(folder, journal, force, 0);
    if (!status)
        status = vcl_folder_begin(folder, journal);
    if (status)
        return status;
    status = fill(user, folder);
    if (!status)
        return vcl_folder_commit(folder);
    vcl_folder_discard(folder);
    return status;
}

enum vcl_status vcl_folder_write(struct vcl_folder *folder, int force,
                                 enum vcl_status (*fill)(void *user, struct vcl_folder *folder), void *user)
{
    json_t *names = list_files(folder), *journal = vcl_owned_list(names);
    const enum vcl_status status =
        journal ? write_folder(folder, journal, force, fill, user) : vcl_errand_memory(folder->job);
    json_decref(names);
    json_decref(journal);
    return status;
}
