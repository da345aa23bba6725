/* rotate_sides.c - what config.json and the index say of the rotated model. */
#include <stdlib.h>
#include <string.h>

#include "common/fields.h"
#include "rotate_model.h"

enum { SIDE_LIMIT = 100000000 };

/* Reads a side file of the input, lets `change` make it another, and writes it into the partial folder. */
static int rewrite(const struct vcl_rotate *job, const struct vcl_folder *folder, const char *name,
                   void (*change)(const struct vcl_rotate *job, json_t *root))
{
    struct vcl_error error = { 0 };
    json_t *root;
    char *from = vcl_text("%s/%s", folder->input, name), *to = vcl_text("%s/%s", folder->partial, name),
         *text;
    enum vcl_status status = vcl_fields_load(from, SIDE_LIMIT, &root, &error);
    if (status == VCL_OK) {
        change(job, root);
        text = vcl_dump(root, JSON_INDENT(2));
        status = text ? vcl_write_file(to, text, strlen(text), 1, &error) : vcl_fault_memory(&error);
        free(text);
        json_decref(root);
    }
    free(from);
    free(to);
    return status == VCL_OK ? VCL_EXIT_OK : vcl_tell(status, "%s", error.text);
}

static const char *dtype_word(enum vcl_dtype dtype)
{
    return dtype == VCL_DTYPE_F16 ? "float16" : dtype == VCL_DTYPE_BF16 ? "bfloat16" : "float32";
}

static void change_config(const struct vcl_rotate *job, json_t *config)
{
    static const char *const names[] = { "torch_dtype", "dtype" };
    if (job->unties)
        vcl_json_set(config, "tie_word_embeddings", json_false());
    for (size_t i = 0; i < 2 && job->dtype != VCL_DTYPE_COUNT; i++)
        if (json_object_get(config, names[i]))
            vcl_json_set(config, names[i], json_string(dtype_word(job->dtype)));
}

static void change_index(const struct vcl_rotate *job, json_t *index)
{
    json_t *map = json_object(), *metadata = json_object_get(index, "metadata");
    for (size_t i = 0; i < vcl_model_count(job->model); i++) {
        const struct vcl_entry *entry = vcl_model_entry(job->model, i);
        const char *shard = vcl_model_shard_name(job->model, entry->shard);
        char *name = vcl_rotate_name(job, entry->name);
        vcl_json_set(map, name, json_string(shard));
        if (vcl_rotate_adds_head(job, entry->shard))
            vcl_json_set(map, job->untied.head->name, json_string(shard));
        free(name);
    }
    vcl_json_set(index, "weight_map", map);
    if (json_object_get(metadata, "total_size"))
        vcl_json_set(metadata, "total_size", json_integer((json_int_t)job->bytes));
}

int vcl_rotate_sides(const struct vcl_rotate *job, const struct vcl_folder *folder)
{
    const char *index = vcl_folder_index(folder);
    int code = VCL_EXIT_OK;
    if (job->unties || job->dtype != VCL_DTYPE_COUNT)
        code = rewrite(job, folder, "config.json", change_config);
    return code || !index ? code : rewrite(job, folder, index, change_index);
}
