/* compress.c - a model from its file to the renamed output.
 *
 * First everything is decided (choose, ties, size), so that who only asks is told exactly what a run would
 * do, and a run that cannot succeed ends before the work; then shards are coded one after the other. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "common/texts.h"
#include "common/words.h"
#include "compress.h"

enum { NAMES_SHOWN = 4 };

/* What vcllm.h lets pass of a floor that is missed, in dB. */
#define VCL_FLOOR_SLACK 0.5

/* ---- the input ------------------------------------------------------------------------------- */

static enum vcl_status check_metadata(const struct vcl_compress *c, size_t shard)
{
    const char *key, *value;
    for (size_t i = 0; vcl_model_metadata_at(c->model, shard, i, &key, &value); i++)
        if (strncmp(key, "vcllm.", 6) == 0)
            return vcl_errand_fail(
                c->job, VCL_E_ARGUMENT,
                "%s: metadata '%s': keys that begin with 'vcllm.' belong to compressed models",
                vcl_model_shard_path(c->model, shard), key);
    return VCL_OK;
}

static enum vcl_status check_input(const struct vcl_compress *c)
{
    for (size_t i = 0; i < vcl_model_shards(c->model); i++) {
        if (vcl_model_is_compressed(c->model, i))
            return vcl_errand_fail(c->job, VCL_E_ARGUMENT,
                                   "%s: is compressed already; 'vcllm decompress' gives back what it holds",
                                   vcl_model_shard_path(c->model, i));
        const enum vcl_status status = check_metadata(c, i);
        if (status)
            return status;
    }
    if (c->is_folder || !c->resume)
        return VCL_OK;
    return vcl_errand_fail(c->job, VCL_E_ARGUMENT,
                           "compress: --resume continues folders; a single file is coded anew");
}

enum vcl_status vcl_compress_open(struct vcl_compress *c)
{
    const enum vcl_status status = vcl_open_checked(c->job, c->input, &c->reading, &c->model);
    if (status)
        return status;
    c->is_folder = vcl_model_is_folder(c->model);
    return check_input(c);
}

/* ---- decisions ------------------------------------------------------------------------------- */

static enum vcl_status check_file_output(const struct vcl_compress *c)
{
    struct stat in, out;
    if (stat(c->output, &out))
        return errno == ENOENT ? VCL_OK
                               : vcl_errand_fail(c->job, VCL_E_IO, "%s: %s", c->output, strerror(errno));
    if (S_ISDIR(out.st_mode))
        return vcl_errand_fail(c->job, VCL_E_IO, "%s: is a folder; one input file makes one output file",
                               c->output);
    if (stat(c->input, &in) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
        return vcl_errand_fail(c->job, VCL_E_ARGUMENT, "%s: input and output are the same file", c->output);
    return c->force ? VCL_OK
                    : vcl_errand_fail(c->job, VCL_E_IO, "%s: is there already; -f replaces it", c->output);
}

static enum vcl_status check_folder_output(struct vcl_compress *c)
{
    json_t *journal = vcl_compress_journal(c);
    const enum vcl_status status =
        journal ? vcl_folder_check(&c->folder, journal, c->force, c->resume) : vcl_errand_memory(c->job);
    json_decref(journal);
    return status;
}

/* Bytes of the header that the output has for this shard, padding included. */
static enum vcl_status measure_header(const struct vcl_compress *c, size_t shard, size_t late_bytes,
                                      size_t *length)
{
    struct vcl_error error = { 0 };
    struct vcl_shard output;
    char *text = NULL;
    enum vcl_status status =
        vcl_shard_describe_frames(c->job, &output, c->model, shard, c->choices, late_bytes);
    if (status)
        return status;
    status = vcl_errand_check(c->job, vcl_layout_header(&output.layout, &text, length, &error), &error);
    vcl_shard_free(&output);
    free(text);
    return status;
}

/* A header that the reader's limit refuses is found before the work.  An entry of a frame takes less than
 * twice the text of the original's, and what is kept of that less than its text with every character
 * escaped. */
static enum vcl_status check_header(const struct vcl_compress *c, size_t shard, size_t late_bytes)
{
    enum { MOST_TIMES = 8 };
    struct vcl_model_options by_default;
    size_t length;
    vcl_model_options_init(&by_default);
    const uint64_t limit = c->reading.header_limit ? c->reading.header_limit : by_default.header_limit;
    vcl_model_shard_header(c->model, shard, &length);
    if (MOST_TIMES * (uint64_t)length + late_bytes < by_default.header_limit && length < limit / MOST_TIMES)
        return VCL_OK;
    const enum vcl_status status = measure_header(c, shard, late_bytes, &length);
    if (status)
        return status;
    const char *path = vcl_model_shard_path(c->model, shard);
    if (length > limit)
        return vcl_errand_fail(c->job, VCL_E_LIMIT,
                               "%s: its header would take %zu bytes in the output; the limit is %llu; "
                               "--header-limit sets another, here and for whoever reads the output",
                               path, length, (unsigned long long)limit);
    if (length > by_default.header_limit)
        vcl_errand_note(c->job,
                        "warning: %s: its header takes %zu bytes in the output: to read that, verbs need "
                        "--header-limit, which run and eval do not have",
                        path, length);
    return VCL_OK;
}

static enum vcl_status check_headers(const struct vcl_compress *c, size_t late_bytes)
{
    const size_t shards = vcl_model_shards(c->model);
    enum vcl_status status = VCL_OK;
    for (size_t i = 0; i < shards && !status; i++)
        status = check_header(c, i, i + 1 == shards ? late_bytes : 0);
    return status;
}

static int any_lossy(const struct vcl_compress *c)
{
    for (size_t i = 0; i < vcl_model_count(c->model); i++)
        if (c->choices[i].action == VCL_ACTION_LOSSY)
            return 1;
    return 0;
}

/* The targets that keep the whole to what was asked for. */
static enum vcl_status choose_targets(struct vcl_compress *c, size_t late_bytes)
{
    if (!c->policy.size)
        return c->policy.params.goal == VCL_GOAL_BITS
                 ? vcl_choose_bits(c->job, c->model, &c->policy, c->choices)
                 : VCL_OK;
    const enum vcl_status status = vcl_choose_exact_sizes(&c->work, c->model, &c->policy, c->choices);
    return status ? status : vcl_choose_size(c->job, c->model, &c->policy, c->choices, late_bytes);
}

static enum vcl_status choose(struct vcl_compress *c)
{
    const size_t late_bytes = c->is_folder ? vcl_sides_room(&c->folder) : 0;
    if (c->is_folder && !late_bytes)
        return vcl_errand_memory(c->job);
    enum vcl_status status = vcl_choose(c->job, c->model, &c->policy, &c->choices);
    if (!status)
        status = vcl_choose_warn(c->job, c->model, &c->policy, c->choices);
    if (!status)
        status = vcl_choose_ties(c->job, c->model, c->choices);
    if (!status)
        status = choose_targets(c, late_bytes);
    if (!status)
        status = check_headers(c, late_bytes);
    if (!status && any_lossy(c))
        status = vcl_encode_try(&c->policy.params, &c->work);
    if (!status && c->allot)
        status = c->allot(c->user, c);
    return status ? status : vcl_choose_floors(c->job, c->model, &c->policy, c->choices);
}

enum vcl_status vcl_compress_decide(struct vcl_compress *c)
{
    enum vcl_status status = VCL_OK;
    if (c->is_folder)
        status = vcl_folder_open(&c->folder, c->job, c->model, c->output ? c->output : "", 1);
    if (!status && c->output)
        status = c->is_folder ? check_folder_output(c) : check_file_output(c);
    if (!status)
        status = vcl_work_create(&c->work, c->job, c->threads, c->pool);
    return status ? status : choose(c);
}

/* ---- the work -------------------------------------------------------------------------------- */

static uint64_t total_effort(const struct vcl_compress *c)
{
    uint64_t effort = 0;
    for (size_t i = 0; i < vcl_model_count(c->model); i++)
        effort += vcl_encode_effort(&c->choices[i], vcl_model_entry(c->model, i));
    return effort;
}

struct vcl_encoding vcl_compress_encoding(struct vcl_compress *c, int overwrite)
{
    return (struct vcl_encoding){ .model = c->model,
                                  .choices = c->choices,
                                  .params = &c->policy.params,
                                  .work = &c->work,
                                  .results = c->results,
                                  .overwrite = overwrite,
                                  .user = c->user,
                                  .on_tensor = c->on_tensor };
}

static enum vcl_status encode_file(struct vcl_compress *c)
{
    const size_t count = vcl_model_count(c->model);
    const struct vcl_encoding encoding = vcl_compress_encoding(c, c->force);
    return vcl_encode_shard(&encoding, 0, c->output, vcl_encode_disk_certain(c->choices, 0, count), NULL);
}

/* What --snr takes is known only afterwards: little room is no error, but worth a word. */
static void warn_space(const struct vcl_compress *c)
{
    const uint64_t most = vcl_encode_disk_most(c->choices, 0, vcl_model_count(c->model));
    const char *slash = strrchr(c->output, '/');
    char *folder = slash ? vcl_compose("%.*s", (int)(slash - c->output) + 1, c->output) : strdup(".");
    struct statvfs disk;
    if (folder && statvfs(folder, &disk) == 0 && most / disk.f_frsize >= disk.f_bavail)
        vcl_errand_note(c->job, "warning: %s: has %s free; the output may take up to %s", folder,
                        vcl_words_size((uint64_t)disk.f_bavail * disk.f_frsize).text,
                        vcl_words_size(most).text);
    free(folder);
}

enum vcl_status vcl_compress_write(struct vcl_compress *c)
{
    const size_t count = vcl_model_count(c->model);
    c->results = vcl_calloc(count, sizeof *c->results);
    if (!c->results)
        return vcl_errand_memory(c->job);
    warn_space(c);
    vcl_errand_start(c->job, "compress", "tensors", count, "bytes", total_effort(c));
    const enum vcl_status status = c->is_folder ? vcl_compress_folder(c) : encode_file(c);
    vcl_errand_stop(c->job);
    return status;
}

/* ---- the result ------------------------------------------------------------------------------ */

struct vcl_tally vcl_compress_tally(const struct vcl_compress *c)
{
    struct vcl_tally tally = { 0 };
    for (size_t i = 0; i < vcl_model_count(c->model); i++) {
        const struct vcl_result *result = &c->results[i];
        if (!result->done || c->choices[i].action != VCL_ACTION_LOSSY)
            continue;
        tally.coded++;
        tally.trials += result->report.trials;
        tally.weighed += c->choices[i].inputs.weight != NULL;
        tally.saturated += (result->report.flags & VCL_REPORT_SATURATED) != 0;
        tally.fell_back += (result->report.flags & VCL_REPORT_FELL_BACK) != 0;
        tally.missed += (result->report.flags & VCL_REPORT_MISSED) != 0;
        tally.zero += (result->report.flags & VCL_REPORT_ZERO) != 0;
    }
    return tally;
}

/* Names the tensors whose report has a flag. */
static void warn_of(const struct vcl_compress *c, unsigned flag, size_t count, const char *what)
{
    char names[512] = "";
    size_t shown = 0, length = 0;
    for (size_t i = 0; i < vcl_model_count(c->model) && shown < NAMES_SHOWN && length < sizeof names; i++) {
        const struct vcl_result *result = &c->results[i];
        if (!result->done || !(result->report.flags & flag))
            continue;
        length += (size_t)snprintf(names + length, sizeof names - length, "%s%s (%.3g bits, %s)",
                                   shown ? ", " : "", vcl_model_entry(c->model, i)->name, result->report.bits,
                                   vcl_words_snr(result->report.snr).text);
        shown++;
    }
    if (count)
        vcl_errand_note(c->job, "warning: %s: %s%s", what, names, count > shown ? ", ..." : "");
}

/* Bits that are too few for the floor, or rows as far below the others as steps cannot be. */
static void warn_floors(const struct vcl_compress *c)
{
    for (size_t i = 0; i < vcl_model_count(c->model); i++) {
        const struct vcl_result *result = &c->results[i];
        const double wanted = c->choices[i].row_floor;
        if (result->done && wanted > 0 && wanted - result->report.row_snr > VCL_FLOOR_SLACK)
            vcl_errand_note(
                c->job,
                "warning: --row-floor %g: %s: its worst row has %s at %.3g bits, which are too few "
                "for it, or its rows are too far apart",
                wanted, vcl_model_entry(c->model, i)->name, vcl_words_snr(result->report.row_snr).text,
                result->report.bits);
    }
}

enum vcl_status vcl_compress_result(const struct vcl_compress *c, struct vcl_totals *totals,
                                    struct vcl_model **written)
{
    const struct vcl_reading reading = { .header_limit = 100000000 };
    const struct vcl_tally tally = vcl_compress_tally(c);
    enum vcl_status status = vcl_open_checked(c->job, c->output, &reading, written);
    if (status)
        return status;
    warn_of(c, VCL_REPORT_SATURATED, tally.saturated, "saturated, more bits would not raise the SNR");
    warn_of(c, VCL_REPORT_ZERO, tally.zero, "all zeros, which is all that the target has room for");
    warn_of(c, VCL_REPORT_MISSED, tally.missed, "the target is missed, the nearest that works was written");
    warn_floors(c);
    status = vcl_totals_take(c->job, totals, *written);
    if (status) {
        vcl_model_close(*written);
        *written = NULL;
    }
    return status;
}

/* What no codec can code at its share is kept exactly, however large that is. */
enum vcl_status vcl_compress_check_size(const struct vcl_compress *c, const struct vcl_totals *totals)
{
    if (!c->policy.size || totals->file_bytes <= c->policy.size)
        return VCL_OK;
    return vcl_errand_fail(c->job, VCL_E_RATE, "--size %s: %s was written and takes %s",
                           vcl_words_size(c->policy.size).text, c->output,
                           vcl_words_size(totals->file_bytes).text);
}

void vcl_compress_release(struct vcl_compress *c)
{
    vcl_folder_close(&c->folder);
    vcl_work_destroy(&c->work);
    free(c->choices);
    free(c->results);
    vcl_model_close(c->model);
}
