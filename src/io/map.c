/* map.c - input files, read at any offset, by pread or from a mapping.
 *
 * In: a path that may name anything.  Out: bytes of a regular file; FIFOs, devices and folders are
 * refused without being waited for.  A mapping would keep every page it has shown in the process's
 * resident set, so pages are given back each time RESIDENT bytes have been used.  Before a copy from a
 * mapping the file's size is looked up, which turns a file cut short meanwhile into an error; only one
 * cut during the copy itself still raises SIGBUS, as all mapped files do.  Where files may shrink at
 * any moment, pread is the choice. */
#include "io.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    RESIDENT = 16 << 20,
    AROUND = 128 << 10 /* a fault maps the 64 KiB around it; a read has two ends */
};

static const char *kind_of(mode_t mode)
{
    return S_ISDIR(mode) ? "a folder" : S_ISFIFO(mode) ? "a pipe" : S_ISSOCK(mode) ? "a socket" : "a device";
}

static enum vcl_status map_file(struct vcl_file *file, struct vcl_error *error)
{
    void *const map = file->bytes <= SIZE_MAX
                        ? mmap(NULL, (size_t)file->bytes, PROT_READ, MAP_SHARED, file->fd, 0)
                        : MAP_FAILED;
    if (map == MAP_FAILED)
        return vcl_fail(error, VCL_E_IO, file->path, "cannot map the file: %m");
    file->map = map;
    return VCL_OK;
}

enum vcl_status vcl_file_open(struct vcl_file *file, const char *path, enum vcl_io io,
                              struct vcl_error *error)
{
    struct stat about;
    enum vcl_status status = VCL_OK;
    memset(file, 0, sizeof *file);
    file->path = strdup(path);
    file->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (file->fd < 0)
        status = vcl_fail(error, VCL_E_IO, path, "cannot open: %m");
    else if (file->path == NULL)
        status = vcl_fail_memory(error, path);
    else if (fstat(file->fd, &about) != 0)
        status = vcl_fail(error, VCL_E_IO, path, "cannot look it up: %m");
    else if (!S_ISREG(about.st_mode))
        status = vcl_fail(error, VCL_E_IO, path, "is %s, not a file", kind_of(about.st_mode));
    else
        file->bytes = (uint64_t)about.st_size;
    if (status == VCL_OK && io == VCL_IO_MMAP && file->bytes > 0)
        status = map_file(file, error);
    if (status != VCL_OK)
        vcl_file_close(file);
    return status;
}

void vcl_file_close(struct vcl_file *file)
{
    if (file->map != NULL)
        munmap(file->map, (size_t)file->bytes);
    if (file->fd >= 0)
        close(file->fd);
    free(file->path);
    memset(file, 0, sizeof *file);
    file->fd = -1;
}

static enum vcl_status shrunk(const struct vcl_file *file, uint64_t end, struct vcl_error *error)
{
    return vcl_fail(error, VCL_E_IO, file->path,
                    "ends at byte %llu now; it had %llu bytes when it was opened", (unsigned long long)end,
                    (unsigned long long)file->bytes);
}

static enum vcl_status read_by_call(const struct vcl_file *file, uint64_t offset, uint8_t *dst, size_t n,
                                    struct vcl_error *error)
{
    while (n > 0) {
        const size_t step = n < 1u << 30 ? n : 1u << 30; /* Linux reads less than 2 GiB at once */
        const ssize_t got = pread(file->fd, dst, step, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return vcl_fail(error, VCL_E_IO, file->path, "cannot read at byte %llu: %m",
                            (unsigned long long)offset);
        if (got == 0)
            return shrunk(file, offset, error);
        dst += got;
        offset += (uint64_t)got;
        n -= (size_t)got;
    }
    return VCL_OK;
}

/* Pages dropped while another thread copies from them come back from the page cache. */
static void release_behind(struct vcl_file *file, size_t used)
{
    if (atomic_fetch_add(&file->touched, used + AROUND) + used + AROUND < RESIDENT)
        return;
    atomic_store(&file->touched, 0);
    madvise(file->map, (size_t)file->bytes, MADV_DONTNEED);
}

static enum vcl_status read_by_map(struct vcl_file *file, uint64_t offset, uint8_t *dst, size_t n,
                                   struct vcl_error *error)
{
    while (n > 0) {
        const size_t step = n < RESIDENT ? n : RESIDENT;
        struct stat about;
        if (fstat(file->fd, &about) != 0)
            return vcl_fail(error, VCL_E_IO, file->path, "cannot look it up: %m");
        if ((uint64_t)about.st_size < offset + step)
            return shrunk(file, (uint64_t)about.st_size, error);
        memcpy(dst, file->map + offset, step);
        release_behind(file, step);
        dst += step;
        offset += step;
        n -= step;
    }
    return VCL_OK;
}

enum vcl_status vcl_file_read(struct vcl_file *file, uint64_t offset, void *dst, size_t n,
                              struct vcl_error *error)
{
    if (offset > file->bytes || n > file->bytes - offset)
        return vcl_fail(error, VCL_E_TRUNCATED, file->path, "has %llu bytes; %zu are wanted at byte %llu",
                        (unsigned long long)file->bytes, n, (unsigned long long)offset);
    return file->map != NULL ? read_by_map(file, offset, dst, n, error)
                             : read_by_call(file, offset, dst, n, error);
}
