/* front.h - what the calls of vcllm_pack.h begin and end with. */
#ifndef VCL_FRONT_H
#define VCL_FRONT_H

#include "common/errand.h"

/* VCL_OK, or *error filled and nothing to end. */
enum vcl_status vcl_front_begin(struct vcl_errand *job, const struct vcl_hooks *hooks,
                                struct vcl_error *error);
/* Returns status; *error says what became of the errand. */
enum vcl_status vcl_front_end(struct vcl_errand *job, enum vcl_status status, struct vcl_error *error);
/* Options, where there are any, over their defaults. */
enum vcl_status vcl_front_take(struct vcl_errand *job, const void *given, void *ours, size_t known);
/* A struct that the caller lets be filled, or NULL: has it a size? */
enum vcl_status vcl_front_check_result(struct vcl_errand *job, const void *result);
enum vcl_status vcl_front_check_path(struct vcl_errand *job, const char *name, const char *path);

#endif
