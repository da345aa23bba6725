/* output.c - output files that are there whole or not at all.
 *
 * In: a path.  Out: a file of a temporary name beside it (.NAME.vcllm-PID-N.tmp), which takes the
 * path's place in one step once its bytes are on the disk.  Nothing that exists is replaced unless the
 * caller asked for it, not even what appeared meanwhile: the rename itself refuses.  The temporary file is
 * locked as long as its writer lives: whoever writes to the same path next removes those that are not. */
#include "io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static enum vcl_status check_place(const char *path, int overwrite, struct vcl_error *error)
{
    struct stat about;
    const char *const slash = strrchr(path, '/');
    if (*(slash != NULL ? slash + 1 : path) == 0)
        return vcl_fail(error, VCL_E_IO, path, "is no name for a file");
    if (lstat(path, &about) != 0) /* what else may be wrong, creating the temporary file will tell */
        return errno == ENAMETOOLONG ? vcl_fail(error, VCL_E_IO, path, "%m") : VCL_OK;
    if (S_ISDIR(about.st_mode))
        return vcl_fail(error, VCL_E_IO, path, "is a folder");
    if (!S_ISREG(about.st_mode) && !S_ISLNK(about.st_mode))
        return vcl_fail(error, VCL_E_IO, path, "is not a regular file and will not be replaced");
    if (!overwrite)
        return vcl_fail(error, VCL_E_IO, path, "is there already");
    return VCL_OK;
}

/* Longest part of a name that leaves room for the rest of the temporary name; ends with a whole character. */
static int kept_length(const char *name)
{
    enum {
        NAME_LIMIT = 255,
        REST = sizeof ".."
                      "vcllm-"
                      "-2147483648"
                      "-4294967295"
                      ".tmp"
    };
    size_t n = strlen(name);
    if (n > NAME_LIMIT - REST)
        for (n = NAME_LIMIT - REST; (name[n] & 0xC0) == 0x80; n--)
            ;
    return (int)n;
}

/* "FOLDER/.NAME.vcllm-": how all temporary names for a path begin. */
static char *temporary_stem(const char *path)
{
    const char *const name = vcl_base_name(path);
    char *text;
    return asprintf(&text, "%.*s.%.*s.vcllm-", (int)(name - path), path, kept_length(name), name) < 0 ? NULL
                                                                                                      : text;
}

/* Is this what follows the stem: PID-N.tmp? */
static int is_rest(const char *text)
{
    for (int i = 0; i < 2; i++) {
        const size_t n = strspn(text, "0123456789");
        if (n == 0 || text[n] != "-."[i])
            return 0;
        text += n + 1;
    }
    return strcmp(text, "tmp") == 0;
}

/* Its writer has the lock, which ends with the process.  Where there are no locks it stays. */
static void remove_abandoned(int folder, const char *name)
{
    struct stat about;
    const int fd = openat(folder, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (fd < 0)
        return;
    if (fstat(fd, &about) == 0 && S_ISREG(about.st_mode) && flock(fd, LOCK_EX | LOCK_NB) == 0)
        unlinkat(folder, name, 0);
    close(fd);
}

static void sweep_abandoned(const char *stem)
{
    const char *const start = vcl_base_name(stem);
    char *const folder = start == stem ? strdup(".") : strndup(stem, (size_t)(start - stem));
    DIR *const dir = folder != NULL ? opendir(folder) : NULL;
    const struct dirent *item;
    const size_t n = strlen(start);
    free(folder);
    while (dir != NULL && (item = readdir(dir)) != NULL)
        if (strncmp(item->d_name, start, n) == 0 && is_rest(item->d_name + n))
            remove_abandoned(dirfd(dir), item->d_name);
    if (dir != NULL)
        closedir(dir);
}

/* A file that nobody else has removed before it was locked; -1, errno says why not. */
static int create_locked(const char *path)
{
    struct stat about;
    const int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0)
        return -1;
    flock(fd, LOCK_EX); /* where this fails, it fails for those who look for a lock too */
    if (fstat(fd, &about) == 0 && about.st_nlink > 0)
        return fd;
    close(fd);
    errno = EEXIST;
    return -1;
}

static enum vcl_status create_temporary(struct vcl_output *output, const char *stem, struct vcl_error *error)
{
    for (unsigned attempt = 0; attempt < 1000; attempt++) {
        free(output->temporary);
        if (asprintf(&output->temporary, "%s%ld-%u.tmp", stem, (long)getpid(), attempt) < 0) {
            output->temporary = NULL;
            return vcl_fail_memory(error, output->path);
        }
        output->fd = create_locked(output->temporary);
        if (output->fd >= 0)
            return VCL_OK;
        if (errno != EEXIST)
            break;
    }
    vcl_fail(error, VCL_E_IO, output->path, "cannot create a file in its folder: %m");
    free(output->temporary); /* nobody's, or another's */
    output->temporary = NULL;
    return VCL_E_IO;
}

enum vcl_status vcl_output_create(struct vcl_output *output, const char *path, int overwrite,
                                  struct vcl_error *error)
{
    memset(output, 0, sizeof *output);
    output->fd = -1;
    output->overwrite = overwrite;
    enum vcl_status status = check_place(path, overwrite, error);
    if (status != VCL_OK)
        return status;
    char *const stem = temporary_stem(path);
    output->path = strdup(path);
    if (output->path == NULL || stem == NULL)
        status = vcl_fail_memory(error, path);
    else {
        sweep_abandoned(stem);
        status = create_temporary(output, stem, error);
    }
    free(stem);
    if (status != VCL_OK)
        vcl_output_abandon(output);
    return status;
}

enum vcl_status vcl_output_reserve(const struct vcl_output *output, uint64_t needed, uint64_t exact,
                                   struct vcl_error *error)
{
    struct statvfs disk;
    uint64_t there;
    if (fstatvfs(output->fd, &disk) == 0 && disk.f_blocks > 0 /* some file systems do not tell */
        && !vcl_mul(disk.f_bavail, disk.f_frsize, &there) && there < needed)
        return vcl_fail(error, VCL_E_IO, output->path, "needs %llu bytes; the disk has %llu left",
                        (unsigned long long)needed, (unsigned long long)there);
    if (exact == 0 || exact > INT64_MAX)
        return VCL_OK;
    const int failed = fallocate(output->fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)exact) != 0;
    if (failed && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG)) /* the rest: not offered here */
        return vcl_fail(error, VCL_E_IO, output->path, "cannot have %llu bytes: %m",
                        (unsigned long long)exact);
    return VCL_OK;
}

enum vcl_status vcl_output_write(const struct vcl_output *output, uint64_t offset, const void *src, size_t n,
                                 struct vcl_error *error)
{
    const uint8_t *from = src;
    while (n > 0) {
        const size_t step = n < 1u << 30 ? n : 1u << 30; /* Linux writes less than 2 GiB at once */
        const ssize_t done = pwrite(output->fd, from, step, (off_t)offset);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0)
            return vcl_fail(error, VCL_E_IO, output->path, "cannot write at byte %llu: %m",
                            (unsigned long long)offset);
        from += done;
        offset += (uint64_t)done;
        n -= (size_t)done;
    }
    return VCL_OK;
}

/* Where the file system cannot rename without replacing, a second link can be made only where nothing is. */
static int rename_to_free_name(const char *from, const char *to)
{
    if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    if (link(from, to) != 0)
        return -1;
    unlink(from);
    return 0;
}

/* Did the call find that there is no such folder, or that the disk did not take it?  File systems that cannot
 * sync a folder say EINVAL and the like, folders that may only be searched EACCES. */
static int is_loss(int code)
{
    return code == ENOENT || code == ENOTDIR || code == EIO || code == ENOSPC || code == EDQUOT;
}

enum vcl_status vcl_sync_folder(const char *folder, struct vcl_error *error)
{
    const int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const int failed = (fd < 0 || fsync(fd) != 0) && is_loss(errno);
    const enum vcl_status status =
        failed ? vcl_fail(error, VCL_E_IO, folder, "cannot be synced: %m") : VCL_OK;
    if (fd >= 0)
        close(fd);
    return status;
}

/* The name itself must reach the disk too. */
static int sync_parent(const char *path)
{
    const char *const slash = strrchr(path, '/');
    char *const folder = slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path) + 1);
    const int failed = folder != NULL && vcl_sync_folder(folder, NULL) != VCL_OK;
    free(folder);
    return failed;
}

/* The descriptor, which holds the lock, is closed only when the file has its name: fsync has told whether it
 * was written. */
static enum vcl_status finish(struct vcl_output *output, uint64_t bytes, struct vcl_error *error)
{
    const char *const path = output->path;
    if (bytes > INT64_MAX || ftruncate(output->fd, (off_t)bytes) != 0)
        return vcl_fail(error, VCL_E_IO, path, "cannot be set to %llu bytes: %m", (unsigned long long)bytes);
    if (fsync(output->fd) != 0)
        return vcl_fail(error, VCL_E_IO, path, "cannot write to the disk: %m");
    if (output->overwrite ? rename(output->temporary, path) != 0
                          : rename_to_free_name(output->temporary, path) != 0)
        return vcl_fail(error, VCL_E_IO, path,
                        errno == EEXIST ? "has appeared meanwhile" : "cannot rename: %m");
    free(output->temporary);
    output->temporary = NULL;
    if (sync_parent(path))
        return vcl_fail(error, VCL_E_IO, path, "is written, but its folder cannot be synced");
    return VCL_OK;
}

enum vcl_status vcl_output_commit(struct vcl_output *output, uint64_t bytes, struct vcl_error *error)
{
    const enum vcl_status status = finish(output, bytes, error);
    vcl_output_abandon(output);
    return status;
}

void vcl_output_abandon(struct vcl_output *output)
{
    if (output->fd >= 0) {
        close(output->fd);
        output->fd = -1;
    }
    if (output->temporary != NULL)
        unlink(output->temporary);
    free(output->temporary);
    free(output->path);
    output->temporary = output->path = NULL;
}
