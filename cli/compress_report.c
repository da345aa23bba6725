/* compress_report.c - the summary of compress: totals from the headers just written, the rest from the
 * encoder. */
#include "frames.h"
#include "packing.h"

void vcl_packing_print_line(void *user, size_t i)
{
    const struct vcl_compress *c = &((const struct vcl_packing *)user)->c;
    const struct vcl_entry *entry = vcl_model_entry(c->model, i);
    const struct vcl_report *report = &c->results[i].report;
    const size_t count = vcl_model_count(c->model);
    vcl_progress_clear();
    printf("[%*zu/%zu] ", snprintf(NULL, 0, "%zu", count), i + 1, count);
    vcl_print_name(entry->name, 0);
    printf("  %s %s  %s -> %s", vcl_words_shape(&entry->tensor).text, vcl_dtype_name(entry->tensor.dtype),
           vcl_words_size(entry->bytes).text, vcl_words_size(report->frame_bytes).text);
    if (report->codec == VCL_CODEC_ALIAS) {
        fputs("  same as ", stdout);
        vcl_print_name(vcl_model_entry(c->model, c->choices[i].same_as)->name, 0);
        putchar('\n');
    } else {
        printf("  %.3f bits  %s%s%s%s\n", report->bits, vcl_words_snr(report->snr).text,
               report->flags & VCL_REPORT_SATURATED ? "  saturated" : "",
               report->flags & VCL_REPORT_ZERO ? "  all zeros" : "",
               report->flags & VCL_REPORT_MISSED      ? "  misses its target"
               : report->flags & VCL_REPORT_FELL_BACK ? "  exact is no larger"
                                                      : "");
    }
}

void vcl_packing_set_choice(json_t *object, const struct vcl_choice *choice)
{
    static const char *const names[] = { "target_bits", "target_snr", "target_error" };
    vcl_json_set(object, "rule", choice->rule ? vcl_json_text(choice->rule->text) : json_null());
    vcl_json_set(object, "reason", choice->reason ? vcl_json_text(choice->reason) : json_null());
    if (choice->action == VCL_ACTION_LOSSY)
        vcl_json_set(object, names[choice->goal], vcl_json_real(choice->target));
}

struct written_listing {
    const struct vcl_packing *job;
    const struct vcl_model *written;
};

static json_t *tensor_json(const void *user, size_t i)
{
    const struct vcl_packing *job = ((const struct written_listing *)user)->job;
    const struct vcl_model *written = ((const struct written_listing *)user)->written;
    const struct vcl_entry *entry = vcl_model_entry(written, i), *target;
    const struct vcl_result *result = &job->c.results[i];
    struct vcl_info info = { .size = sizeof info };
    if (vcl_model_frame(written, entry, &info, &target, NULL) != VCL_OK)
        return json_null(); /* totals have been taken: this does not happen */
    json_t *object = vcl_frame_json(entry, &info, target == entry ? NULL : target);
    vcl_packing_set_choice(object, &job->c.choices[i]);
    if (result->done && job->c.choices[i].action == VCL_ACTION_LOSSY) {
        vcl_json_set(object, "trials", vcl_json_real(result->report.trials));
        vcl_json_set(object, "saturated", json_boolean(result->report.flags & VCL_REPORT_SATURATED));
        vcl_json_set(object, "fell_back", json_boolean(result->report.flags & VCL_REPORT_FELL_BACK));
        vcl_json_set(object, "missed", json_boolean(result->report.flags & VCL_REPORT_MISSED));
        vcl_json_set(object, "zero", json_boolean(result->report.flags & VCL_REPORT_ZERO));
        if (job->c.choices[i].row_floor > 0) {
            vcl_json_set(object, "row_floor", json_real(job->c.choices[i].row_floor));
            vcl_json_set(object, "worst_row", vcl_json_real(result->report.row_snr));
        }
    }
    return object;
}

static void report_json(const struct vcl_packing *job, const struct vcl_model *written,
                        const struct vcl_totals *totals, const struct vcl_tally *tally, double seconds)
{
    const struct written_listing listing = { job, written };
    json_t *document = vcl_json_document("compress"), *sums = vcl_totals_json(totals);
    vcl_json_set(document, "input", vcl_json_text(job->c.input));
    vcl_json_set(document, "output", vcl_json_text(job->c.output));
    vcl_json_set(sums, "saturated", json_integer((json_int_t)tally->saturated));
    vcl_json_set(sums, "fell_back", json_integer((json_int_t)tally->fell_back));
    vcl_json_set(sums, "missed", json_integer((json_int_t)tally->missed));
    vcl_json_set(sums, "zero", json_integer((json_int_t)tally->zero));
    vcl_json_set(sums, "average_trials",
                 tally->coded ? vcl_json_real(tally->trials / (double)tally->coded) : json_null());
    vcl_json_set(document, "allocate", vcl_allocation_json(&job->allocation));
    vcl_json_set(document, "imatrix",
                 job->c.policy.imatrix ? vcl_json_text(job->c.policy.imatrix) : json_null());
    vcl_json_set(sums, "weighed", json_integer((json_int_t)tally->weighed));
    vcl_json_set(document, "totals", sums);
    vcl_json_set(document, "threads", json_integer(job->c.work.threads));
    vcl_json_set(document, "seconds", vcl_json_real(seconds));
    vcl_json_print_list(document, "tensors", vcl_model_count(written), tensor_json, &listing);
}

/* What the rows of tensors with a floor have come to. */
static void print_floors(const struct vcl_packing *job)
{
    for (size_t i = 0; i < vcl_model_count(job->c.model); i++) {
        if (!(job->c.choices[i].row_floor > 0) || !job->c.results[i].done)
            continue;
        printf("row floor ");
        vcl_print_name(vcl_model_entry(job->c.model, i)->name, 0);
        printf(": worst row %s\n", vcl_words_snr(job->c.results[i].report.row_snr).text);
    }
}

static void report_text(const struct vcl_packing *job, const struct vcl_totals *totals,
                        const struct vcl_tally *tally, double seconds)
{
    printf("%s -> %s\n", job->c.input, job->c.output);
    vcl_totals_print(totals);
    vcl_allocation_print(&job->allocation);
    if (job->c.policy.imatrix)
        printf("imatrix   %s: inputs of %zu of %zu lossy tensors\n", job->c.policy.imatrix, tally->weighed,
               tally->coded);
    print_floors(job);
    if (tally->coded)
        printf("coding    %.2f trials per tensor, %zu saturated, %zu kept exact, which is no larger\n",
               tally->trials / (double)tally->coded, tally->saturated, tally->fell_back);
    printf("time      %s with %u threads, %.2f MB/s\n", vcl_words_time(seconds).text, job->c.work.threads,
           seconds > 0 ? (double)totals->raw_bytes / seconds / 1e6 : 0);
}

int vcl_packing_report(const struct vcl_packing *job)
{
    const double seconds = vcl_seconds() - job->started;
    const struct vcl_tally tally = vcl_compress_tally(&job->c);
    struct vcl_totals totals;
    struct vcl_model *written;
    const int code = vcl_exit_of(vcl_compress_result(&job->c, &totals, &written));
    if (code)
        return code;
    if (job->json)
        report_json(job, written, &totals, &tally, seconds);
    else if (!job->quiet)
        report_text(job, &totals, &tally, seconds);
    vcl_model_close(written);
    return vcl_exit_of(vcl_compress_check_size(&job->c, &totals));
}
