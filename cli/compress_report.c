/* compress_report.c - the summary of compress: totals from the headers just written, the rest from the
 * encoder. */
#include "compress.h"
#include "frames.h"

enum { NAMES_SHOWN = 4 };

/* What vcllm.h lets pass of a floor that is missed, in dB. */
#define VCL_FLOOR_SLACK 0.5

struct tally {
    size_t coded, saturated, fell_back, missed, zero, weighed;
    double trials;
};

static struct tally count_results(const struct vcl_compress *job)
{
    struct tally tally = { 0 };
    for (size_t i = 0; i < vcl_model_count(job->model); i++) {
        const struct vcl_result *result = &job->results[i];
        if (!result->done || job->choices[i].action != VCL_ACTION_LOSSY)
            continue;
        tally.coded++;
        tally.trials += result->report.trials;
        tally.weighed += job->choices[i].inputs != NULL;
        tally.saturated += (result->report.flags & VCL_REPORT_SATURATED) != 0;
        tally.fell_back += (result->report.flags & VCL_REPORT_FELL_BACK) != 0;
        tally.missed += (result->report.flags & VCL_REPORT_MISSED) != 0;
        tally.zero += (result->report.flags & VCL_REPORT_ZERO) != 0;
    }
    return tally;
}

/* Names the tensors whose report has a flag. */
static void warn_of(const struct vcl_compress *job, unsigned flag, size_t count, const char *what)
{
    char names[512] = "";
    size_t shown = 0, length = 0;
    for (size_t i = 0; i < vcl_model_count(job->model) && shown < NAMES_SHOWN && length < sizeof names; i++) {
        const struct vcl_result *result = &job->results[i];
        if (!result->done || !(result->report.flags & flag))
            continue;
        length += (size_t)snprintf(names + length, sizeof names - length, "%s%s (%.3g bits, %s)",
                                   shown ? ", " : "", vcl_model_entry(job->model, i)->name,
                                   result->report.bits, vcl_words_snr(result->report.snr).text);
        shown++;
    }
    if (count)
        vcl_note("warning: %s: %s%s", what, names, count > shown ? ", ..." : "");
}

void vcl_compress_json_choice(json_t *object, const struct vcl_choice *choice)
{
    static const char *const names[] = { "target_bits", "target_snr", "target_error" };
    vcl_json_set(object, "rule", choice->rule ? vcl_json_text(choice->rule->text) : json_null());
    vcl_json_set(object, "reason", choice->reason ? vcl_json_text(choice->reason) : json_null());
    if (choice->action == VCL_ACTION_LOSSY)
        vcl_json_set(object, names[choice->goal], vcl_json_real(choice->target));
}

struct written_listing {
    const struct vcl_compress *job;
    const struct vcl_model *written;
};

static json_t *tensor_json(const void *user, size_t i)
{
    const struct vcl_compress *job = ((const struct written_listing *)user)->job;
    const struct vcl_model *written = ((const struct written_listing *)user)->written;
    const struct vcl_entry *entry = vcl_model_entry(written, i), *target;
    const struct vcl_result *result = &job->results[i];
    struct vcl_info info = { .size = sizeof info };
    if (vcl_model_frame(written, entry, &info, &target, NULL) != VCL_OK)
        return json_null(); /* totals have been taken: this does not happen */
    json_t *object = vcl_frame_json(entry, &info, target == entry ? NULL : target);
    vcl_compress_json_choice(object, &job->choices[i]);
    if (result->done && job->choices[i].action == VCL_ACTION_LOSSY) {
        vcl_json_set(object, "trials", vcl_json_real(result->report.trials));
        vcl_json_set(object, "saturated", json_boolean(result->report.flags & VCL_REPORT_SATURATED));
        vcl_json_set(object, "fell_back", json_boolean(result->report.flags & VCL_REPORT_FELL_BACK));
        vcl_json_set(object, "missed", json_boolean(result->report.flags & VCL_REPORT_MISSED));
        vcl_json_set(object, "zero", json_boolean(result->report.flags & VCL_REPORT_ZERO));
        if (job->choices[i].row_floor > 0) {
            vcl_json_set(object, "row_floor", json_real(job->choices[i].row_floor));
            vcl_json_set(object, "worst_row", vcl_json_real(result->report.row_snr));
        }
    }
    return object;
}

static void report_json(const struct vcl_compress *job, const struct vcl_model *written,
                        const struct vcl_totals *totals, const struct tally *tally, double seconds)
{
    const struct written_listing listing = { job, written };
    json_t *document = vcl_json_document("compress"), *sums = vcl_totals_json(totals);
    vcl_json_set(document, "input", vcl_json_text(job->input));
    vcl_json_set(document, "output", vcl_json_text(job->output));
    vcl_json_set(sums, "saturated", json_integer((json_int_t)tally->saturated));
    vcl_json_set(sums, "fell_back", json_integer((json_int_t)tally->fell_back));
    vcl_json_set(sums, "missed", json_integer((json_int_t)tally->missed));
    vcl_json_set(sums, "zero", json_integer((json_int_t)tally->zero));
    vcl_json_set(sums, "average_trials",
                 tally->coded ? vcl_json_real(tally->trials / (double)tally->coded) : json_null());
    vcl_json_set(document, "allocate", vcl_allocation_json(&job->allocation));
    vcl_json_set(document, "imatrix", job->policy.imatrix ? vcl_json_text(job->policy.imatrix) : json_null());
    vcl_json_set(sums, "weighed", json_integer((json_int_t)tally->weighed));
    vcl_json_set(document, "totals", sums);
    vcl_json_set(document, "threads", json_integer(job->work.threads));
    vcl_json_set(document, "seconds", vcl_json_real(seconds));
    vcl_json_print_list(document, "tensors", vcl_model_count(written), tensor_json, &listing);
}

/* What the rows of tensors with a floor have come to. */
static void print_floors(const struct vcl_compress *job)
{
    for (size_t i = 0; i < vcl_model_count(job->model); i++) {
        if (!(job->choices[i].row_floor > 0) || !job->results[i].done)
            continue;
        printf("row floor ");
        vcl_print_name(vcl_model_entry(job->model, i)->name, 0);
        printf(": worst row %s\n", vcl_words_snr(job->results[i].report.row_snr).text);
    }
}

/* Bits that are too few for the floor, or rows as far below the others as steps cannot be. */
static void warn_floors(const struct vcl_compress *job)
{
    for (size_t i = 0; i < vcl_model_count(job->model) && job->policy.row_floor > 0; i++) {
        const struct vcl_result *result = &job->results[i];
        const double missing = job->choices[i].row_floor - result->report.row_snr;
        if (result->done && job->choices[i].row_floor > 0 && missing > VCL_FLOOR_SLACK)
            vcl_note(
                "warning: --row-floor %g: %s: its worst row has %s, which is what %.3g bits have room for",
                job->policy.row_floor, vcl_model_entry(job->model, i)->name,
                vcl_words_snr(result->report.row_snr).text, result->report.bits);
    }
}

static void report_text(const struct vcl_compress *job, const struct vcl_totals *totals,
                        const struct tally *tally, double seconds)
{
    printf("%s -> %s\n", job->input, job->output);
    vcl_totals_print(totals);
    vcl_allocation_print(&job->allocation);
    if (job->policy.imatrix)
        printf("imatrix   %s: inputs of %zu of %zu lossy tensors\n", job->policy.imatrix, tally->weighed,
               tally->coded);
    print_floors(job);
    if (tally->coded)
        printf("coding    %.2f trials per tensor, %zu saturated, %zu kept exact, which is no larger\n",
               tally->trials / (double)tally->coded, tally->saturated, tally->fell_back);
    printf("time      %s with %u threads, %.2f MB/s\n", vcl_words_time(seconds).text, job->work.threads,
           seconds > 0 ? (double)totals->raw_bytes / seconds / 1e6 : 0);
}

/* What no codec can code at its share is kept exactly, however large that is. */
static int check_size(const struct vcl_compress *job, const struct vcl_totals *totals)
{
    if (!job->policy.size || totals->file_bytes <= job->policy.size)
        return VCL_EXIT_OK;
    return vcl_tell(VCL_E_RATE, "--size %s: %s was written and takes %s",
                    vcl_words_size(job->policy.size).text, job->output,
                    vcl_words_size(totals->file_bytes).text);
}

int vcl_compress_report(const struct vcl_compress *job)
{
    const double seconds = vcl_seconds() - job->started;
    const struct vcl_reading reading = { .header_limit = 100000000 };
    const struct tally tally = count_results(job);
    struct vcl_totals totals;
    struct vcl_model *written;
    int code = vcl_cli_open(job->output, &reading, &written);
    if (code)
        return code;
    warn_of(job, VCL_REPORT_SATURATED, tally.saturated, "saturated, more bits would not raise the SNR");
    warn_of(job, VCL_REPORT_ZERO, tally.zero, "all zeros, which is all that the target has room for");
    warn_of(job, VCL_REPORT_MISSED, tally.missed, "the target is missed, the nearest that works was written");
    warn_floors(job);
    code = vcl_totals_take(&totals, written);
    if (!code && job->json)
        report_json(job, written, &totals, &tally, seconds);
    else if (!code && !job->quiet)
        report_text(job, &totals, &tally, seconds);
    vcl_model_close(written);
    return code ? code : check_size(job, &totals);
}
