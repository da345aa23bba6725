/* verify.h - every checksum of a compressed model, every tile decoded: what was found. */
#ifndef VCL_VERIFY_H
#define VCL_VERIFY_H

#include "folder/opened.h"
#include "layout/check.h"

struct vcl_verification {
    struct vcl_errand *job;
    const char *input;
    struct vcl_reading reading;
    unsigned threads;       /* 0: as many as CPUs */
    struct vcl_pool *pool;  /* in place of them, or NULL */
    struct vcl_check check; /* the caller sets decoder */

    struct vcl_model *model;
    size_t compressed;    /* shards */
    size_t sides, faults; /* files beside the shards; faults outside tensors */
};

/* Goes on after a fault: each is told.  VCL_OK: all was looked at, whatever was found; VCL_E_CODEC: all but
 * the tensors.  Then vcl_verify_release. */
enum vcl_status vcl_verify_run(struct vcl_verification *v);
/* In tensors and outside. */
size_t vcl_verify_faults(const struct vcl_verification *v);
void vcl_verify_release(struct vcl_verification *v);

#endif
