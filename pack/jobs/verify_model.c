/* verify_model.c - every checksum of a compressed model, every tile decoded.
 *
 * It goes on after a fault and tells each with its place. */
#include <stdlib.h>

#include "common/texts.h"
#include "folder/folder.h"
#include "verify.h"

static enum vcl_status verify_containers(struct vcl_verification *v)
{
    v->faults = vcl_headers_verify(v->job, v->model, &v->compressed);
    return v->compressed && vcl_model_is_folder(v->model)
             ? vcl_sides_verify(v->job, v->model, &v->sides, &v->faults)
             : VCL_OK;
}

/* What decompress restores by; only where all else is good, or the same faults would be told twice. */
static void verify_originals(struct vcl_verification *v)
{
    struct vcl_error error = { 0 };
    for (size_t i = 0; i < vcl_model_shards(v->model); i++)
        if (vcl_model_is_compressed(v->model, i) && vcl_model_check_original(v->model, i, &error) != VCL_OK) {
            vcl_errand_check(v->job, error.status, &error);
            v->faults++;
        }
}

static enum vcl_status verify_tensors(struct vcl_verification *v)
{
    struct vcl_work work;
    enum vcl_status status = vcl_work_create(&work, v->job, v->threads, v->pool);
    if (status)
        return status;
    vcl_work_start(v->job, "verify", v->model);
    status = vcl_check_tensors(&v->check, &work);
    vcl_errand_stop(v->job);
    vcl_work_destroy(&work);
    return status;
}

size_t vcl_verify_faults(const struct vcl_verification *v)
{
    size_t faults = v->faults;
    for (size_t i = 0; v->check.bad && i < vcl_model_count(v->model); i++)
        faults += v->check.bad[i];
    return faults;
}

enum vcl_status vcl_verify_run(struct vcl_verification *v)
{
    enum vcl_status status = vcl_open_any(v->job, v->input, &v->reading, &v->model);
    if (status)
        return status;
    v->check.model = v->model;
    v->check.progress = 1;
    v->check.bad = vcl_calloc(vcl_model_count(v->model), 1);
    if (!v->check.bad)
        return vcl_errand_memory(v->job);
    status = verify_containers(v);
    if (!status)
        status = verify_tensors(v);
    if (!status && vcl_verify_faults(v) == 0)
        verify_originals(v);
    return status;
}

void vcl_verify_release(struct vcl_verification *v)
{
    free(v->check.bad);
    vcl_model_close(v->model);
}
