/* front.c - how every call of vcllm_pack.h begins and ends: an errand of its own. */
#include "front.h"

#include <string.h>

#include "common/grown.h"

enum vcl_status vcl_front_begin(struct vcl_errand *job, const struct vcl_hooks *hooks,
                                struct vcl_error *error)
{
    const enum vcl_status status = vcl_errand_init(job, hooks);
    if (error && status != VCL_OK) {
        error->status = status;
        strcpy(error->text, status == VCL_E_ARGUMENT
                                ? "hooks: is no struct vcl_hooks of this library or a newer"
                                : vcl_status_text(status));
    }
    return status;
}

enum vcl_status vcl_front_end(struct vcl_errand *job, enum vcl_status status, struct vcl_error *error)
{
    if (error && status != VCL_OK) {
        *error = job->error;
        error->status = status;
        if (!*error->text)
            strcpy(error->text, vcl_status_text(status));
    }
    vcl_errand_release(job);
    return status;
}

enum vcl_status vcl_front_take(struct vcl_errand *job, const void *given, void *ours, size_t known)
{
    return !given || vcl_grown_take(given, ours, known)
             ? VCL_OK
             : vcl_errand_fail(
                 job, VCL_E_ARGUMENT,
                 "options: their size is none, or they ask for what this library does not know");
}

enum vcl_status vcl_front_check_result(struct vcl_errand *job, const void *result)
{
    size_t size = sizeof size + 1;
    if (result)
        memcpy(&size, result, sizeof size);
    return size > sizeof size ? VCL_OK : vcl_errand_fail(job, VCL_E_ARGUMENT, "the result's size is not set");
}

enum vcl_status vcl_front_check_path(struct vcl_errand *job, const char *name, const char *path)
{
    return path && *path ? VCL_OK : vcl_errand_fail(job, VCL_E_ARGUMENT, "%s: is no path", name);
}
