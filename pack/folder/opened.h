/* opened.h - opening models as every call does. */
#ifndef VCL_OPENED_H
#define VCL_OPENED_H

#include "common/errand.h"

/* How model files are read. */
struct vcl_reading {
    int io;                /* 0 pread, 1 mmap */
    uint64_t header_limit; /* 0: the library's default */
};

/* A compressed model only where its headers' hashes are right, and that of its index.  *model is NULL after a
 * failure. */
enum vcl_status vcl_open_checked(struct vcl_errand *job, const char *path, const struct vcl_reading *reading,
                                 struct vcl_model **model);
/* The same whatever the hashes are: for who tells all that is wrong. */
enum vcl_status vcl_open_any(struct vcl_errand *job, const char *path, const struct vcl_reading *reading,
                             struct vcl_model **model);
/* Before a file beside a model's shards is read, if it is there: opens the model, as above, and checks the
 * hash that it lists for the file, if any. */
enum vcl_status vcl_check_side(struct vcl_errand *job, const char *path, const char *name);
/* Tells each fault of the headers of compressed shards and returns their number; *compressed: how many there
 * are. */
size_t vcl_headers_verify(struct vcl_errand *job, const struct vcl_model *model, size_t *compressed);

#endif
