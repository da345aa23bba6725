/* compress.c - the verb compress from the open model to the renamed output.
 *
 * First everything is decided (choose, ties, size), so that --dry-run shows exactly what a run would do and
 * a run that cannot succeed ends before the work; then shards are coded one after the other. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "compress.h"

static int check_metadata(const struct vcl_compress *job, size_t shard)
{
    const char *key, *value;
    for (size_t i = 0; vcl_model_metadata_at(job->model, shard, i, &key, &value); i++)
        if (strncmp(key, "vcllm.", 6) == 0) {
            vcl_say("%s: metadata '%s': keys that begin with 'vcllm.' belong to compressed models",
                    vcl_model_shard_path(job->model, shard), key);
            return VCL_EXIT_USAGE;
        }
    return VCL_EXIT_OK;
}

static int check_input(const struct vcl_compress *job)
{
    for (size_t i = 0; i < vcl_model_shards(job->model); i++) {
        if (vcl_model_is_compressed(job->model, i)) {
            vcl_say("%s: is compressed already; 'vcllm decompress' gives back what it holds",
                    vcl_model_shard_path(job->model, i));
            return VCL_EXIT_USAGE;
        }
        const int code = check_metadata(job, i);
        if (code)
            return code;
    }
    if (vcl_model_is_folder(job->model))
        return VCL_EXIT_OK;
    if (job->allocation.how == VCL_ALLOCATE_DEPTH || job->allocation.how == VCL_ALLOCATE_SELF) {
        vcl_say(
            "compress: --allocate runs the model: it takes a folder with config.json, which 'vcllm convert' "
            "makes of a GGUF file");
        return VCL_EXIT_USAGE;
    }
    if (!job->resume)
        return VCL_EXIT_OK;
    vcl_say("compress: --resume continues folders; a single file is coded anew");
    return VCL_EXIT_USAGE;
}

static int check_file_output(const struct vcl_compress *job)
{
    struct stat in, out;
    if (stat(job->output, &out))
        return errno == ENOENT ? VCL_EXIT_OK : vcl_tell(VCL_E_IO, "%s: %s", job->output, strerror(errno));
    if (S_ISDIR(out.st_mode))
        return vcl_tell(VCL_E_IO, "%s: is a folder; one input file makes one output file", job->output);
    if (stat(job->input, &in) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino) {
        vcl_say("%s: input and output are the same file", job->output);
        return VCL_EXIT_USAGE;
    }
    return job->force ? VCL_EXIT_OK : vcl_tell(VCL_E_IO, "%s: is there already; -f replaces it", job->output);
}

/* A header that the reader's limit refuses is found before the work.  An entry of a frame takes less than
 * twice the text of the original's, and what is kept of that less than its text with every character
 * escaped. */
static int check_header(const struct vcl_compress *job, size_t shard, size_t late_bytes)
{
    enum { MOST_TIMES = 8 };
    struct vcl_model_options by_default;
    struct vcl_error error = { 0 };
    struct vcl_shard output;
    size_t length;
    char *text;
    vcl_model_options_init(&by_default);
    const uint64_t limit = job->reading.header_limit ? job->reading.header_limit : by_default.header_limit;
    vcl_model_shard_header(job->model, shard, &length);
    if (MOST_TIMES * (uint64_t)length + late_bytes < by_default.header_limit && length < limit / MOST_TIMES)
        return VCL_EXIT_OK;
    const int code = vcl_shard_describe_frames(&output, job->model, shard, job->choices, late_bytes);
    if (code)
        return code;
    const enum vcl_status status = vcl_layout_header(&output.layout, &text, &length, &error);
    vcl_shard_free(&output);
    if (status != VCL_OK)
        return vcl_tell(status, "%s", error.text);
    free(text);
    const char *path = vcl_model_shard_path(job->model, shard);
    if (length > limit)
        return vcl_tell(
            VCL_E_LIMIT,
            "%s: its header would take %zu bytes in the output; the limit is %llu; --header-limit "
            "sets another, here and for whoever reads the output",
            path, length, (unsigned long long)limit);
    if (length > by_default.header_limit)
        vcl_note(
            "warning: %s: its header takes %zu bytes in the output: to read that, verbs need --header-limit, "
            "which run and eval do not have",
            path, length);
    return VCL_EXIT_OK;
}

static int check_headers(const struct vcl_compress *job, const struct vcl_folder *folder)
{
    const size_t shards = vcl_model_shards(job->model);
    int code = VCL_EXIT_OK;
    for (size_t i = 0; i < shards && !code; i++)
        code = check_header(job, i, folder && i + 1 == shards ? vcl_sides_room(folder) : 0);
    return code;
}

static int any_lossy(const struct vcl_compress *job)
{
    for (size_t i = 0; i < vcl_model_count(job->model); i++)
        if (job->choices[i].action == VCL_ACTION_LOSSY)
            return 1;
    return 0;
}

static int decide(struct vcl_compress *job, const struct vcl_folder *folder)
{
    int code;
    job->choices = vcl_choose(job->model, &job->policy, &code);
    if (code)
        return code;
    vcl_choose_warn(job->model, &job->policy);
    vcl_compress_warn_packed(job);
    code = vcl_choose_ties(job->model, job->choices);
    if (!code && job->policy.size)
        code = vcl_choose_exact_sizes(job->model, &job->policy, job->choices, &job->work);
    if (!code && job->policy.size)
        code = vcl_choose_size(job->model, &job->policy, job->choices, folder ? vcl_sides_room(folder) : 0);
    else if (!code && job->policy.params.goal == VCL_GOAL_BITS)
        code = vcl_choose_bits(job->model, &job->policy, job->choices);
    if (!code)
        code = check_headers(job, folder);
    if (!code && any_lossy(job))
        code = vcl_encode_try(&job->policy.params, &job->work);
    if (!code && job->policy.imatrix)
        code = vcl_choose_inputs(job->model, &job->policy, job->choices, &job->allocation.importance);
    if (!folder)
        job->allocation.how = VCL_ALLOCATE_FIXED;
    if (!code && job->allocation.how != VCL_ALLOCATE_FIXED)
        code = vcl_allocate_model(&job->allocation, job->model, job->input, &job->policy.params, job->choices,
                                  &job->work);
    return code ? code : vcl_choose_floors(job->model, &job->policy, job->choices);
}

static uint64_t total_effort(const struct vcl_compress *job)
{
    uint64_t effort = 0;
    for (size_t i = 0; i < vcl_model_count(job->model); i++)
        effort += vcl_encode_effort(&job->choices[i], vcl_model_entry(job->model, i));
    return effort;
}

static int encode_file(struct vcl_compress *job)
{
    const size_t count = vcl_model_count(job->model);
    const struct vcl_encoding encoding = {
        .model = job->model,
        .choices = job->choices,
        .params = &job->policy.params,
        .work = &job->work,
        .results = job->results,
        .verbose = job->verbose && !job->json,
        .overwrite = job->force,
    };
    return vcl_encode_shard(&encoding, 0, job->output, vcl_encode_disk_certain(job->choices, 0, count), NULL);
}

/* What --snr takes is known only afterwards: little room is no error, but worth a word. */
static void warn_space(const struct vcl_compress *job)
{
    const uint64_t most = vcl_encode_disk_most(job->choices, 0, vcl_model_count(job->model));
    const char *slash = strrchr(job->output, '/');
    char *folder = slash ? vcl_text("%.*s", (int)(slash - job->output) + 1, job->output) : vcl_text(".");
    struct statvfs disk;
    if (statvfs(folder, &disk) == 0 && most / disk.f_frsize >= disk.f_bavail)
        vcl_note("warning: %s: has %s free; the output may take up to %s", folder,
                 vcl_words_size((uint64_t)disk.f_bavail * disk.f_frsize).text, vcl_words_size(most).text);
    free(folder);
}

static int encode(struct vcl_compress *job, struct vcl_folder *folder)
{
    job->results = vcl_zeros(vcl_model_count(job->model), sizeof *job->results);
    warn_space(job);
    vcl_progress_start("compress", vcl_model_count(job->model), total_effort(job));
    const int code = folder ? vcl_compress_folder(job, folder) : encode_file(job);
    vcl_progress_stop();
    if (code == VCL_EXIT_INTERRUPTED && !folder)
        vcl_say("interrupted; %s was not written", job->output);
    return code ? code : vcl_compress_report(job);
}

static int check_folder_output(const struct vcl_compress *job, struct vcl_folder *folder)
{
    json_t *journal = vcl_compress_journal(job, folder);
    const int code = vcl_folder_check(folder, journal, job->force, job->resume);
    json_decref(journal);
    return code;
}

static int compress_model(struct vcl_compress *job)
{
    const int is_folder = vcl_model_is_folder(job->model);
    struct vcl_folder folder = { 0 };
    int code = check_input(job);
    if (!code && is_folder)
        code = vcl_folder_open(&folder, job->model, job->output ? job->output : "", 1);
    if (!code && !job->dry_run)
        code = is_folder ? check_folder_output(job, &folder) : check_file_output(job);
    if (!code)
        code = vcl_work_create(&job->work, vcl_cli_threads(job->jobs));
    if (!code) {
        code = decide(job, is_folder ? &folder : NULL);
        if (code == VCL_EXIT_INTERRUPTED)
            vcl_say("interrupted; nothing was written");
    }
    if (!code)
        code = job->dry_run ? vcl_compress_plan(job) : encode(job, is_folder ? &folder : NULL);
    vcl_folder_close(&folder);
    return code;
}

int vcl_compress_run(struct vcl_compress *job)
{
    int code = vcl_cli_open(job->input, &job->reading, &job->model);
    if (code)
        return code;
    code = compress_model(job);
    vcl_work_destroy(&job->work);
    vcl_allocation_release(&job->allocation);
    free(job->choices);
    free(job->results);
    vcl_model_close(job->model);
    return code;
}
