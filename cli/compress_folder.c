/* compress_folder.c - the shards of a folder, the files beside them, and --resume.
 *
 * A shard is finished when it has its name in the partial folder: it is renamed only when it is whole.  So
 * the journal need not list progress; it holds the settings and the input's names, sizes and times, and
 * --resume refuses where any of them differs. */
#include <stdlib.h>
#include <sys/stat.h>

#include "compress.h"

struct last_shard { /* for vcl_late.make */
    const struct vcl_folder *folder;
    uint64_t before; /* bytes of the input's tensors */
    uint64_t frames; /* bytes of the frames of all other shards */
};

static json_t *describe_rules(const struct vcl_rules *rules)
{
    json_t *list = json_array();
    for (size_t i = 0; i < rules->count; i++)
        vcl_json_append(list, vcl_json_text(rules->at[i].text));
    return list;
}

static json_t *describe_settings(const struct vcl_policy *policy)
{
    const struct vcl_params *p = &policy->params;
    json_t *object = json_object();
    vcl_json_set(object, "version", json_string(vcl_version()));
    vcl_json_set(object, "format", json_integer(VCL_FORMAT_VERSION));
    vcl_json_set(object, "codec", json_string(vcl_codec_name(p->codec)));
    vcl_json_set(object, "goal", json_integer(p->goal));
    vcl_json_set(object, "target", json_real(p->target));
    vcl_json_set(object, "size", json_integer((json_int_t)policy->size));
    vcl_json_set(object, "lossless", json_boolean(policy->lossless));
    vcl_json_set(object, "effort", json_integer(p->effort));
    vcl_json_set(object, "rotate", json_integer(p->rotate));
    vcl_json_set(object, "seed", json_integer(p->seed));
    vcl_json_set(object, "row_scales", json_integer(p->row_scales));
    vcl_json_set(object, "depth", json_integer(p->depth));
    vcl_json_set(object, "chroma", json_integer(p->chroma));
    vcl_json_set(object, "encoder", p->encoder ? vcl_json_text(p->encoder) : json_null());
    vcl_json_set(object, "decoder", p->decoder ? vcl_json_text(p->decoder) : json_null());
    vcl_json_set(object, "rules", describe_rules(&policy->rules));
    return object;
}

static json_t *describe_file(const char *folder, const char *name)
{
    struct stat status = { 0 };
    char *path = vcl_folder_file(folder, name);
    json_t *object = json_object();
    stat(path, &status); /* a file that went away fails where it is read */
    free(path);
    vcl_json_set(object, "name", vcl_json_text(name));
    vcl_json_set(object, "bytes", json_integer(status.st_size));
    vcl_json_set(object, "seconds", json_integer(status.st_mtim.tv_sec));
    vcl_json_set(object, "nanoseconds", json_integer(status.st_mtim.tv_nsec));
    return object;
}

static json_t *make_journal(const struct vcl_compress *job, const struct vcl_folder *folder)
{
    json_t *journal = json_object(), *files = json_array();
    for (size_t i = 0; i < vcl_model_shards(job->model); i++)
        vcl_json_append(files, describe_file(folder->input, vcl_model_shard_name(job->model, i)));
    for (size_t i = 0; i < folder->count; i++)
        vcl_json_append(files, describe_file(folder->input, folder->sides[i]));
    vcl_json_set(journal, "schema", json_integer(1));
    vcl_json_set(journal, "settings", describe_settings(&job->policy));
    vcl_json_set(journal, "input", files);
    return journal;
}

/* A shard of an earlier run, whole and unaltered: adds its frames' bytes. */
static int is_finished(const char *path, uint64_t *frames)
{
    struct vcl_model_options options;
    struct vcl_model *model;
    vcl_model_options_init(&options);
    options.header_limit = 100000000; /* a kept original header may make ours longer than the input's limit */
    if (vcl_model_open(path, &options, &model, NULL) != VCL_OK)
        return 0;
    const int good = vcl_model_check_hash(model, 0, NULL) == VCL_OK;
    for (size_t i = 0; good && i < vcl_model_count(model); i++)
        *frames += vcl_model_entry(model, i)->bytes;
    vcl_model_close(model);
    return good;
}

static int make_late(void *user, uint64_t frame_bytes, char **value)
{
    const struct last_shard *last = user;
    return vcl_sides_copy(last->folder, last->before, last->frames + frame_bytes, value);
}

/* Entries of the shards from `shard` on. */
static size_t first_entry(const struct vcl_model *model, size_t shard)
{
    size_t i = 0;
    while (i < vcl_model_count(model) && vcl_model_entry(model, i)->shard < shard)
        i++;
    return i;
}

static void skip_shard(const struct vcl_compress *job, size_t shard)
{
    const size_t last = first_entry(job->model, shard + 1);
    for (size_t i = first_entry(job->model, shard); i < last; i++)
        vcl_progress_add(1, vcl_encode_effort(&job->choices[i], vcl_model_entry(job->model, i)));
}

static int encode_shards(struct vcl_compress *job, const struct vcl_folder *folder, size_t *finished)
{
    const size_t shards = vcl_model_shards(job->model), count = vcl_model_count(job->model);
    struct last_shard last = { .folder = folder };
    const struct vcl_late late = { vcl_sides_room(folder), &last, make_late };
    const struct vcl_encoding encoding = {
        .model = job->model,
        .choices = job->choices,
        .params = &job->policy.params,
        .work = &job->work,
        .results = job->results,
        .verbose = job->verbose && !job->json,
        .overwrite = 1,
    };
    int code = VCL_EXIT_OK;
    size_t kept = 0; /* shards of the earlier run, as long as there is no gap */

    for (size_t i = 0; i < count; i++)
        last.before += vcl_model_entry(job->model, i)->bytes;
    for (size_t i = 0; i < shards && !code; i++) {
        char *path = vcl_folder_file(folder->partial, vcl_model_shard_name(job->model, i));
        const uint64_t disk = vcl_encode_disk_bytes(job->choices, first_entry(job->model, i), count);
        if (job->resume && *finished == kept && is_finished(path, &last.frames)) {
            kept++;
            skip_shard(job, i);
        } else {
            code = vcl_encode_shard(&encoding, i, path, disk + folder->side_bytes,
                                    i + 1 == shards ? &late : NULL);
            if (!code && !is_finished(path, &last.frames))
                code = vcl_tell(VCL_E_IO, "%s: does not read back", path);
        }
        *finished += !code;
        free(path);
    }
    return code;
}

/* What is finished is worth keeping; an empty beginning is not. */
static int keep_or_discard(const struct vcl_folder *folder, size_t finished, int code)
{
    const char *why = code == VCL_EXIT_INTERRUPTED ? "interrupted" : "stopped";
    if (finished) {
        vcl_say("%s; %zu finished shards are kept in %s: the same command with --resume continues it", why,
                finished, folder->partial);
        return code;
    }
    vcl_folder_discard(folder);
    vcl_say("%s before a shard was finished; %s was not written", why, folder->output);
    return code;
}

int vcl_compress_folder(struct vcl_compress *job, struct vcl_folder *folder)
{
    json_t *journal = make_journal(job, folder);
    size_t finished = 0;
    int code = vcl_folder_begin(folder, journal, job->force, job->resume);
    json_decref(journal);
    if (code)
        return code;
    code = encode_shards(job, folder, &finished);
    return code ? keep_or_discard(folder, finished, code) : vcl_folder_commit(folder);
}
