/* output.c - output files that are there whole or not at all.
 *
 * In: a path.  Out: a file of a temporary name beside it (.NAME.vcllm-PID-N.tmp), which takes the
 * path's place in one step once its bytes are on the disk.  Nothing that exists is replaced unless the
 * caller asked for it, not even what appeared meanwhile: the rename itself refuses. */
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

static enum vcl_status check_place(const char *path, int overwrite, struct vcl_error *error)
{
    struct stat about;
    const char *const slash = strrchr(path, '/');
    if (*(slash != NULL ? slash + 1 : path) == 0)
        return vcl_fail(error, VCL_E_IO, path, "is no name for a file");
    if (lstat(path, &about) != 0)
        return VCL_OK; /* what else may be wrong, creating the temporary file will tell */
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

static char *temporary_name(const char *path, unsigned attempt)
{
    const char *const slash = strrchr(path, '/');
    const char *const name = slash != NULL ? slash + 1 : path;
    char *text;
    if (asprintf(&text, "%.*s.%.*s.vcllm-%ld-%u.tmp", (int)(name - path), path, kept_length(name), name,
                 (long)getpid(), attempt)
        < 0)
        return NULL;
    return text;
}

enum vcl_status vcl_output_create(struct vcl_output *output, const char *path, int overwrite,
                                  struct vcl_error *error)
{
    memset(output, 0, sizeof *output);
    output->fd = -1;
    output->overwrite = overwrite;
    const enum vcl_status status = check_place(path, overwrite, error);
    if (status != VCL_OK)
        return status;
    output->path = strdup(path);
    for (unsigned attempt = 0; attempt < 1000 && output->path != NULL; attempt++) {
        free(output->temporary);
        output->temporary = temporary_name(path, attempt);
        if (output->temporary == NULL)
            break;
        output->fd = open(output->temporary, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
        if (output->fd >= 0)
            return VCL_OK;
        if (errno != EEXIST)
            break;
    }
    const int failed = output->path != NULL && output->temporary != NULL;
    if (failed)
        vcl_fail(error, VCL_E_IO, path, "cannot create a file in its folder: %m");
    vcl_output_abandon(output);
    return failed ? VCL_E_IO : vcl_fail_memory(error, path);
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

/* The name itself must reach the disk too.  Folders that cannot be opened or synced (search permission
 * only, some network file systems) are left to the system. */
static int sync_folder(const char *path)
{
    const char *const slash = strrchr(path, '/');
    char *const folder = slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path) + 1);
    const int fd = folder != NULL ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    free(folder);
    if (fd < 0)
        return 0;
    const int failed = fsync(fd) != 0 && errno == EIO;
    close(fd);
    return failed ? -1 : 0;
}

static enum vcl_status finish(struct vcl_output *output, uint64_t bytes, struct vcl_error *error)
{
    const char *const path = output->path;
    if (bytes > INT64_MAX || ftruncate(output->fd, (off_t)bytes) != 0)
        return vcl_fail(error, VCL_E_IO, path, "cannot be set to %llu bytes: %m", (unsigned long long)bytes);
    if (fsync(output->fd) != 0)
        return vcl_fail(error, VCL_E_IO, path, "cannot write to the disk: %m");
    const int closed = close(output->fd);
    output->fd = -1;
    if (closed != 0)
        return vcl_fail(error, VCL_E_IO, path, "cannot close: %m");
    if (output->overwrite ? rename(output->temporary, path) != 0
                          : rename_to_free_name(output->temporary, path) != 0)
        return vcl_fail(error, VCL_E_IO, path,
                        errno == EEXIST ? "has appeared meanwhile" : "cannot rename: %m");
    free(output->temporary);
    output->temporary = NULL;
    if (sync_folder(path) != 0)
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
