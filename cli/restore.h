/* restore.h - the verb decompress: what was asked for, and the part of it that one tensor is. */
#ifndef VCL_RESTORE_H
#define VCL_RESTORE_H

#include "cli.h"
#include "jobs/decompress.h"

struct vcl_restore {
    struct vcl_decompress decompress;
    const char *tensor; /* --tensor, or NULL */
    const char *rows;   /* --rows as given, or NULL */
    int jobs, json, quiet;
};

/* decompress_tensor.c: --tensor, to a file or to standard output.  The model is open. */
int vcl_restore_tensor(struct vcl_restore *job);

#endif
