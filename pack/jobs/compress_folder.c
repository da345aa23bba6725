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

#include "common/texts.h"
#include "compress.h"
#include "layout/check.h"

struct last_shard { /* for vcl_late.make */
    const struct vcl_folder *folder;
    json_t *files;   /* names and hashes of the side files */
    uint64_t before; /* bytes of the input's tensors */
    uint64_t frames; /* bytes of the frames of all other shards */
};

/* All of these are NULL where memory is out, and what holds them is then. */
static json_t *describe_rules(const struct vcl_rules *rules)
{
    json_t *list = json_array();
    for (size_t i = 0; i < rules->count; i++)
        if (json_array_append_new(list, vcl_any_text(rules->at[i].text))) {
            json_decref(list);
            return NULL;
        }
    return list;
}

static json_t *describe_path(const char *path, const char *name)
{
    struct stat status = { 0 };
    stat(path, &status); /* a file that went away fails where it is read */
    return json_pack("{s:o, s:I, s:I, s:I}", "name", vcl_any_text(name), "bytes", (json_int_t)status.st_size,
                     "seconds", (json_int_t)status.st_mtim.tv_sec, "nanoseconds",
                     (json_int_t)status.st_mtim.tv_nsec);
}

static json_t *text_or_null(const char *text) { return text ? vcl_any_text(text) : json_null(); }

static json_t *describe_settings(const struct vcl_policy *policy)
{
    const struct vcl_params *p = &policy->params;
    const char *imatrix = policy->imatrix;
    return json_pack(
        "{s:s, s:i, s:s, s:i, s:f, s:I, s:b, s:i, s:o, s:f, s:i, s:i, s:i, s:i, s:I, s:i, s:i, s:i, "
        "s:I, s:o, s:o, s:o}",
        "version", vcl_version(), "format", VCL_FORMAT_VERSION, "codec", vcl_codec_name(p->codec), "goal",
        (int)p->goal, "target", p->target, "size", (json_int_t)policy->size, "lossless", policy->lossless,
        "allocate", policy->allocate, "imatrix", imatrix ? describe_path(imatrix, imatrix) : json_null(),
        "row_floor", policy->row_floor, "effort", p->effort, "objective", (int)p->objective, "transpose",
        p->transpose, "rotate", p->rotate, "seed", (json_int_t)p->seed, "row_scales", p->row_scales, "depth",
        p->depth, "chroma", p->chroma, "disable", (json_int_t)p->disable, "encoder", text_or_null(p->encoder),
        "decoder", text_or_null(p->decoder), "rules", describe_rules(&policy->rules));
}

static json_t *describe_file(const char *folder, const char *name)
{
    char *path = vcl_path_in(folder, name);
    json_t *object = path ? describe_path(path, name) : NULL;
    free(path);
    return object;
}

json_t *vcl_compress_journal(const struct vcl_compress *c)
{
    const struct vcl_folder *folder = &c->folder;
    json_t *files = json_array();
    int whole = files != NULL;
    for (size_t i = 0; i < vcl_model_shards(c->model); i++)
        whole = whole
             && json_array_append_new(files, describe_file(folder->input, vcl_model_shard_name(c->model, i)))
                    == 0;
    for (size_t i = 0; i < folder->count; i++)
        whole = whole && json_array_append_new(files, describe_file(folder->input, folder->sides[i])) == 0;
    if (whole)
        return json_pack("{s:i, s:o, s:o}", "schema", 1, "settings", describe_settings(&c->policy), "input",
                         files);
    json_decref(files);
    return NULL;
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
static enum vcl_status open_shard(struct vcl_errand *job, const char *path, struct vcl_model **model)
{
    /* a kept original header may make ours longer than the input's limit */
    const struct vcl_reading reading = { .header_limit = 100000000 };
    return vcl_open_checked(job, path, &reading, model);
}

/* Does every tile decode to what its checksums say? */
static enum vcl_status check_tiles(struct vcl_compress *c, const struct vcl_model *model, int *good)
{
    const size_t count = vcl_model_count(model);
    struct vcl_check check = { .model = model, .decoder = c->policy.params.decoder };
    check.bad = vcl_calloc(count, 1);
    const enum vcl_status status =
        check.bad ? vcl_check_tensors(&check, &c->work) : vcl_errand_memory(c->job);
    *good = status == VCL_OK && !memchr(check.bad, 1, count);
    free(check.bad);
    return status;
}

/* A shard of an earlier run: kept if it is good. */
static enum vcl_status check_shard(struct vcl_compress *c, const char *path, uint64_t *bytes, int *good)
{
    struct vcl_model *model;
    *good = 0;
    if (access(path, F_OK) && errno == ENOENT)
        return VCL_OK;
    if (open_shard(c->job, path, &model) == VCL_OK) {
        const enum vcl_status status = check_tiles(c, model, good);
        *bytes = tensor_bytes(model);
        vcl_model_close(model);
        if (status)
            return status;
    }
    if (!*good) {
        vcl_errand_note(c->job, "%s: is damaged; its tensors are coded again", path);
        vcl_errand_forget(c->job);
    }
    return VCL_OK;
}

static enum vcl_status make_late(void *user, uint64_t bytes, char **value)
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

static void skip_shard(const struct vcl_compress *c, size_t shard)
{
    const size_t last = first_entry(c->model, shard + 1);
    for (size_t i = first_entry(c->model, shard); i < last; i++)
        vcl_errand_advance(c->job, 1, vcl_encode_effort(&c->choices[i], vcl_model_entry(c->model, i)));
}

/* Codes a shard and reads its size back. */
static enum vcl_status encode_shard(struct vcl_compress *c, size_t number, const char *path,
                                    struct last_shard *last, uint64_t *bytes)
{
    const size_t count = vcl_model_count(c->model);
    const int is_last = number + 1 == vcl_model_shards(c->model);
    const struct vcl_late late = { vcl_sides_room(&c->folder), last, make_late };
    const struct vcl_encoding encoding = vcl_compress_encoding(c, 1);
    struct vcl_model *written;
    const uint64_t disk = vcl_encode_disk_certain(c->choices, first_entry(c->model, number), count);
    enum vcl_status status = vcl_encode_shard(&encoding, number, path, disk, is_last ? &late : NULL);
    if (!status)
        status = open_shard(c->job, path, &written);
    if (status)
        return status;
    *bytes = tensor_bytes(written);
    vcl_model_close(written);
    return VCL_OK;
}

static enum vcl_status encode_or_keep(struct vcl_compress *c, size_t number, const char *path,
                                      struct last_shard *last, int *all_kept)
{
    const int is_last = number + 1 == vcl_model_shards(c->model);
    uint64_t bytes = 0;
    int keep = 0;
    enum vcl_status status = VCL_OK;
    if (is_last ? *all_kept : c->resume) /* the last one lists an index that sums up the others */
        status = check_shard(c, path, &bytes, &keep);
    if (!status && keep)
        skip_shard(c, number);
    else if (!status)
        status = encode_shard(c, number, path, last, &bytes);
    *all_kept = *all_kept && keep;
    last->frames += bytes;
    return status;
}

static enum vcl_status encode_shards(struct vcl_compress *c, struct last_shard *last, size_t *finished)
{
    enum vcl_status status = VCL_OK;
    int all_kept = c->resume;
    for (size_t i = 0; i < vcl_model_shards(c->model) && !status; i++) {
        char *path = vcl_path_in(c->folder.partial, vcl_model_shard_name(c->model, i));
        status = path ? encode_or_keep(c, i, path, last, &all_kept) : vcl_errand_memory(c->job);
        *finished += !status;
        free(path);
    }
    return status;
}

static enum vcl_status fill_folder(struct vcl_compress *c, size_t *finished)
{
    struct last_shard last = { .folder = &c->folder, .before = tensor_bytes(c->model) };
    enum vcl_status status = vcl_sides_copy(&c->folder, &last.files);
    if (!status)
        status = encode_shards(c, &last, finished);
    json_decref(last.files);
    return status;
}

/* What is finished is worth keeping; an empty beginning is not. */
static enum vcl_status keep_or_discard(const struct vcl_compress *c, size_t finished, enum vcl_status status)
{
    const char *why = status == VCL_E_CANCELLED ? "interrupted" : "stopped";
    if (finished || c->resume) {
        vcl_errand_add_fault(c->job,
                             "%s with %zu of %zu shards finished; %s is kept: the same command with --resume "
                             "continues it",
                             why, finished, vcl_model_shards(c->model), c->folder.partial);
        return status;
    }
    vcl_folder_discard(&c->folder);
    vcl_errand_add_fault(c->job, "%s before a shard was finished; %s was not written", why, c->folder.output);
    return status;
}

enum vcl_status vcl_compress_folder(struct vcl_compress *c)
{
    json_t *journal = vcl_compress_journal(c);
    size_t finished = 0;
    enum vcl_status status = journal ? vcl_folder_begin(&c->folder, journal) : vcl_errand_memory(c->job);
    json_decref(journal);
    if (status)
        return status;
    status = fill_folder(c, &finished);
    return status ? keep_or_discard(c, finished, status) : vcl_folder_commit(&c->folder);
}
