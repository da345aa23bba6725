/* open_fd.h - a memory file opened as a model, for the fuzzers of model files. */
#ifndef VCL_FUZZ_OPEN_FD_H
#define VCL_FUZZ_OPEN_FD_H

#include "vcllm_file.h"

#include <stdio.h>
#include <stdlib.h>

static inline void must(int holds)
{
    if (!holds)
        abort();
}

/* NULL, and a message, where it is none. */
static inline struct vcl_model *open_fd(int fd, enum vcl_io io)
{
    char path[64];
    struct vcl_model_options options;
    struct vcl_model *model;
    struct vcl_error error = { 0 };
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    vcl_model_options_init(&options);
    options.io = io;
    const enum vcl_status status = vcl_model_open(path, &options, &model, &error);
    must((status == VCL_OK) == (model != NULL) && status == error.status
         && (status == VCL_OK || error.text[0] != 0));
    return model;
}

#endif
