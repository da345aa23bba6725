/* compress_folder.c - the shards of a folder, the files beside them, and --resume.
 *
 * A shard is finished when it has its name in the partial folder: it is renamed only when it is whole.  So
 * the journal need not list progress; it holds the settings and the input's names, sizes and times, and
 * --resume refuses where any of them differs. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "compress.h"

struct last_shard { /* for vcl_late.make */
    const struct vcl_folder *folder;
    json_t *files;   /* names and hashes of the side files */
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

static json_t *describe_path(const char *path, const char *name)
{
    struct stat status = { 0 };
    json_t *object = json_object();
    stat(path, &status); /* a file that went away fails where it is read */
    vcl_json_set(object, "name", vcl_json_text(name));
    vcl_json_set(object, "bytes", json_integer(status.st_size));
    vcl_json_set(object, "seconds", json_integer(status.st_mtim.tv_sec));
    vcl_json_set(object, "nanoseconds", json_integer(status.st_mtim.tv_nsec));
    return object;
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
    vcl_json_set(object, "allocate", json_integer(policy->allocate));
    vcl_json_set(object, "imatrix",
                 policy->imatrix ? describe_path(policy->imatrix, policy->imatrix) : json_null());
    vcl_json_set(object, "row_floor", json_real(policy->row_floor));
    vcl_json_set(object, "effort", json_integer(p->effort));
    vcl_json_set(object, "objective", json_integer(p->objective));
    vcl_json_set(object, "transpose", json_integer(p->transpose));
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
    char *path = vcl_path_in(folder, name);
    json_t *object = describe_path(path, name);
    free(path);
    return object;
}

json_t *vcl_compress_journal(const struct vcl_compress *job, const struct vcl_folder *folder)
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

/* Of all tensors, as they stand in the file. */
static uint64_t tensor_bytes(const struct vcl_model *model)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < vcl_model_count(model); i++)
        bytes += vcl_model_entry(model, i)->bytes;
    return bytes;
}

/* Opens a shard that has been written; the caller closes it. */
static int open_shard(const char *path, struct vcl_model **model)
{
    /* a kept original header may make ours longer than the input's limit */
    const struct vcl_reading reading = { .header_limit = 100000000 };
    return vcl_cli_open(path, &reading, model);
}

/* A shard of an earlier run: kept if every tile decodes to what its checksums say. */
static int check_shard(struct vcl_compress *job, const char *path, uint64_t *bytes, int *good)
{
    struct vcl_model *model;
    *good = 0;
    if (access(path, F_OK) && errno == ENOENT)
        return VCL_EXIT_OK;
    if (open_shard(path, &model) == VCL_EXIT_OK) {
        struct vcl_check check = { .model = model, .decoder = job->policy.params.decoder };
        check.bad = vcl_zeros(vcl_model_count(model), 1);
        const int code = vcl_check_tensors(&check, &job->work);
        *good = code == VCL_EXIT_OK && !memchr(check.bad, 1, vcl_model_count(model));
        *bytes = tensor_bytes(model);
        free(check.bad);
        vcl_model_close(model);
        if (code)
            return code;
    }
    if (!*good)
        vcl_note("%s: is damaged; its tensors are coded again", path);
    return VCL_EXIT_OK;
}

static int make_late(void *user, uint64_t bytes, char **value)
{
    const struct last_shard *last = user;
    return vcl_sides_finish(last->folder, last->files, last->before, last->frames + bytes, value);
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

/* Codes a shard and reads its size back. */
static int encode_shard(struct vcl_compress *job, size_t number, const char *path, struct last_shard *last,
                        uint64_t *bytes)
{
    const size_t count = vcl_model_count(job->model);
    const int is_last = number + 1 == vcl_model_shards(job->model);
    const struct vcl_late late = { vcl_sides_room(last->folder), last, make_late };
    const struct vcl_encoding encoding = {
        .model = job->model,
        .choices = job->choices,
        .params = &job->policy.params,
        .work = &job->work,
        .results = job->results,
        .verbose = job->verbose && !job->json,
        .overwrite = 1,
    };
    struct vcl_model *written;
    const uint64_t disk = vcl_encode_disk_certain(job->choices, first_entry(job->model, number), count);
    int code = vcl_encode_shard(&encoding, number, path, disk, is_last ? &late : NULL);
    if (!code)
        code = open_shard(path, &written);
    if (code)
        return code;
    *bytes = tensor_bytes(written);
    vcl_model_close(written);
    return VCL_EXIT_OK;
}

static int encode_shards(struct vcl_compress *job, struct last_shard *last, size_t *finished)
{
    const size_t shards = vcl_model_shards(job->model);
    int code = VCL_EXIT_OK, all_kept = job->resume;

    for (size_t i = 0; i < shards && !code; i++) {
        char *path = vcl_path_in(last->folder->partial, vcl_model_shard_name(job->model, i));
        uint64_t bytes = 0;
        int keep = 0;
        if (i + 1 < shards ? job->resume : all_kept) /* the last one lists an index that sums up the others */
            code = check_shard(job, path, &bytes, &keep);
        if (!code && keep)
            skip_shard(job, i);
        else if (!code)
            code = encode_shard(job, i, path, last, &bytes);
        all_kept = all_kept && keep;
        last->frames += bytes;
        *finished += !code;
        free(path);
    }
    return code;
}

static int fill_folder(struct vcl_compress *job, const struct vcl_folder *folder, size_t *finished)
{
    struct last_shard last = { .folder = folder };
    int code = vcl_sides_copy(folder, &last.files);
    last.before = tensor_bytes(job->model);
    if (!code)
        code = encode_shards(job, &last, finished);
    json_decref(last.files);
    return code;
}

/* What is finished is worth keeping; an empty beginning is not. */
static int keep_or_discard(const struct vcl_compress *job, const struct vcl_folder *folder, size_t finished,
                           int code)
{
    const char *why = code == VCL_EXIT_INTERRUPTED ? "interrupted" : "stopped";
    if (finished || job->resume) {
        vcl_say("%s with %zu of %zu shards finished; %s is kept: the same command with --resume continues it",
                why, finished, vcl_model_shards(job->model), folder->partial);
        return code;
    }
    vcl_folder_discard(folder);
    vcl_say("%s before a shard was finished; %s was not written", why, folder->output);
    return code;
}

int vcl_compress_folder(struct vcl_compress *job, struct vcl_folder *folder)
{
    json_t *journal = vcl_compress_journal(job, folder);
    size_t finished = 0;
    int code = vcl_folder_begin(folder, journal);
    json_decref(journal);
    if (code)
        return code;
    code = fill_folder(job, folder, &finished);
    return code ? keep_or_discard(job, folder, finished, code) : vcl_folder_commit(folder);
}
