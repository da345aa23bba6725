/* rotate_names.c - what tensors are called in the rotated model, and where one more goes. */
#include <string.h>

#include "rotate_model.h"

char *vcl_rotate_name(const struct vcl_rotate *job, const char *name)
{
    const int is_head = strcmp(name, job->untied.head->name) == 0;
    return vcl_text("%s%s", job->unties && !is_head ? job->untied.prefix : "", name);
}

int vcl_rotate_adds_head(const struct vcl_rotate *job, size_t shard)
{
    return job->unties && !vcl_model_find(job->model, job->untied.head->name)
        && vcl_model_find(job->model, job->untied.embedding->name)->shard == shard;
}
