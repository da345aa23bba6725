/* listed.c - the files that belong to a model by what it says itself. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/texts.h"
#include "folder.h"

char *vcl_path_in(const char *folder, const char *name) { return vcl_compose("%s/%s", folder, name); }

char *vcl_folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? vcl_compose("%.*s", slash == path ? 1 : (int)(slash - path), path) : strdup(".");
}

int vcl_is_in(const char *folder, const char *name)
{
    char *path = vcl_path_in(folder, name);
    const int found = path && access(path, F_OK) == 0;
    free(path);
    return found;
}

int vcl_listed_shard(const struct vcl_model *model, const char *name)
{
    for (size_t i = 0; i < vcl_model_shards(model); i++)
        if (strcmp(vcl_model_shard_name(model, i), name) == 0)
            return 1;
    return 0;
}

json_t *vcl_listed_files(struct vcl_errand *job, const struct vcl_model *model)
{
    const size_t last = vcl_model_shards(model) - 1;
    const char *text = vcl_model_metadata(model, last, "vcllm.files");
    const char *name;
    json_t *hash, *files = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : json_object();
    int good = json_is_object(files);
    json_object_foreach(files, name, hash) good = good && json_is_string(hash) && *name && !strchr(name, '/')
                                               && strcmp(name, ".") != 0 && strcmp(name, "..") != 0
                                               && !vcl_listed_shard(model, name);
    if (good)
        return files;
    json_decref(files);
    if (job)
        vcl_errand_fail(job, VCL_E_FORMAT, "%s: metadata vcllm.files is no list of file names and hashes",
                        vcl_model_shard_path(model, last));
    return NULL;
}
