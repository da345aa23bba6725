/* compare_report.c - the table, the JSON and the verdict of compare. */
#include <math.h>

#include "compare.h"

struct verdict {
    struct vcl_error_sums sums; /* over all float tensors */
    size_t compared, missing, extra, shapes, below, differing;
    double worst_snr, worst_row_nmse; /* the latter 0: no row differs */
    const char *worst_name, *worst_row_name;
    uint64_t worst_row, rows_lost;
};

static double nmse(const struct vcl_error_sums *sums)
{
    return sums->error == 0 ? 0 : sums->error / sums->signal;
}

/* NAN where there is no answer: nothing to compare, or a value that is finite in one model only. */
static double snr_of(const struct vcl_error_sums *sums)
{
    return sums->values == 0 || (sums->error == 0 && sums->mismatches) ? NAN : vcl_snr(sums);
}

/* NAN where there is no row, or none differs. */
static double row_snr(double nmse) { return nmse > 0 ? 10 * log10(1 / nmse) : NAN; }

static void add_rows(struct verdict *verdict, const struct vcl_difference *difference, const char *name)
{
    verdict->rows_lost += difference->rows_lost;
    if (difference->worst_row_nmse > verdict->worst_row_nmse) {
        verdict->worst_row_nmse = difference->worst_row_nmse;
        verdict->worst_row = difference->worst_row;
        verdict->worst_row_name = name;
    }
}

static void add_floats(struct verdict *verdict, const struct vcl_difference *difference, const char *name,
                       double min_snr)
{
    const struct vcl_error_sums *sums = &difference->sums;
    const double snr = snr_of(sums);
    vcl_sums_add(&verdict->sums, sums);
    add_rows(verdict, difference, name);
    if (snr < min_snr || (sums->mismatches && isfinite(min_snr)))
        verdict->below++;
    if (!isnan(snr) && (snr < verdict->worst_snr || !verdict->worst_name)) {
        verdict->worst_snr = snr;
        verdict->worst_name = name;
    }
}

static struct verdict judge(const struct vcl_comparison *job)
{
    struct verdict verdict = { .worst_snr = INFINITY };
    for (size_t i = 0; i < vcl_model_count(job->a); i++) {
        const struct vcl_difference *difference = &job->differences[i];
        verdict.missing += difference->state == VCL_DIFFERENCE_MISSING;
        verdict.shapes += difference->state == VCL_DIFFERENCE_SHAPE;
        verdict.compared += difference->state >= VCL_DIFFERENCE_FLOATS;
        if (difference->state == VCL_DIFFERENCE_FLOATS)
            add_floats(&verdict, difference, vcl_model_entry(job->a, i)->name, job->min_snr);
        else if (difference->state == VCL_DIFFERENCE_BYTES && difference->differing) {
            verdict.differing++;
            verdict.below += isfinite(job->min_snr) ? 1 : 0;
        }
    }
    for (size_t i = 0; i < vcl_model_count(job->b); i++)
        verdict.extra += vcl_model_find(job->a, vcl_model_entry(job->b, i)->name) == NULL;
    return verdict;
}

/* ---- text ------------------------------------------------------------------------------------ */

static void print_floats(const struct vcl_difference *difference)
{
    const struct vcl_error_sums *sums = &difference->sums;
    printf("  %10.4g  %10s  %10.4g  %10s", nmse(sums), vcl_words_snr(snr_of(sums)).text, sums->max_error,
           vcl_words_snr(row_snr(difference->worst_row_nmse)).text);
    if (difference->rows_lost)
        printf("  %llu rows lost", (unsigned long long)difference->rows_lost);
    if (sums->mismatches)
        printf("  %llu values finite in one only", (unsigned long long)sums->mismatches);
    putchar('\n');
}

static void print_tensor(const struct vcl_difference *difference, const char *name, int width)
{
    const char *dtype_a = vcl_dtype_name(difference->dtype_a), *dtype_b = vcl_dtype_name(difference->dtype_b);
    vcl_print_name(name, width);
    if (difference->state == VCL_DIFFERENCE_MISSING) {
        printf("  only in A\n");
        return;
    }
    printf("  %-5s %-5s", dtype_a, difference->dtype_a == difference->dtype_b ? "" : dtype_b);
    if (difference->state == VCL_DIFFERENCE_SHAPE)
        printf("  cannot be compared: %s against %s\n", vcl_words_shape(&difference->shape_a).text,
               vcl_words_shape(&difference->shape_b).text);
    else if (difference->state == VCL_DIFFERENCE_BYTES && difference->differing)
        printf("  %llu values differ\n", (unsigned long long)difference->differing);
    else if (difference->state == VCL_DIFFERENCE_BYTES)
        printf("  %10s  %10s  %10s  %10s\n", "0", "exact", "0", "-");
    else
        print_floats(difference);
}

static void print_summary(const struct verdict *verdict)
{
    printf("\n%zu tensors compared: NMSE %.4g, SNR %s, largest error %.4g", verdict->compared,
           nmse(&verdict->sums), vcl_words_snr(snr_of(&verdict->sums)).text, verdict->sums.max_error);
    if (verdict->worst_name) {
        printf("; worst %s ", vcl_words_snr(verdict->worst_snr).text);
        vcl_print_name(verdict->worst_name, 0);
    }
    if (verdict->worst_row_name) {
        printf("; worst row %s, row %llu of ", vcl_words_snr(row_snr(verdict->worst_row_nmse)).text,
               (unsigned long long)verdict->worst_row);
        vcl_print_name(verdict->worst_row_name, 0);
    }
    if (verdict->rows_lost)
        printf("; %llu rows lost", (unsigned long long)verdict->rows_lost);
    putchar('\n');
    if (verdict->differing)
        printf("%zu tensors that are no float differ\n", verdict->differing);
}

static void report_text(const struct vcl_comparison *job, const struct verdict *verdict)
{
    int width = 4;
    for (size_t i = 0; i < vcl_model_count(job->a); i++) {
        const int name = vcl_name_width(vcl_model_entry(job->a, i)->name);
        width = name > width && name <= 60 ? name : width;
    }
    printf("%-*s  %-11s  %10s  %10s  %10s  %10s\n", width, "name", "dtype", "NMSE", "SNR", "max error",
           "worst row");
    for (size_t i = 0; i < vcl_model_count(job->a); i++)
        print_tensor(&job->differences[i], vcl_model_entry(job->a, i)->name, width);
    for (size_t i = 0; i < vcl_model_count(job->b); i++) {
        const char *name = vcl_model_entry(job->b, i)->name;
        if (!vcl_model_find(job->a, name)) {
            vcl_print_name(name, width);
            printf("  only in B\n");
        }
    }
    print_summary(verdict);
}

/* ---- JSON ------------------------------------------------------------------------------------ */

static void set_sums(json_t *object, const struct vcl_error_sums *sums)
{
    vcl_json_set(object, "nmse", vcl_json_real(nmse(sums)));
    vcl_json_set(object, "snr", vcl_json_real(snr_of(sums))); /* null where nothing was lost */
    vcl_json_set(object, "max_error", vcl_json_real(sums->max_error));
    vcl_json_set(object, "mismatches", json_integer((json_int_t)sums->mismatches));
}

/* Null where no row differs. */
static void set_rows(json_t *object, double nmse, uint64_t row, uint64_t lost)
{
    vcl_json_set(object, "worst_row_snr", vcl_json_real(row_snr(nmse)));
    vcl_json_set(object, "worst_row", nmse > 0 ? json_integer((json_int_t)row) : json_null());
    vcl_json_set(object, "rows_lost", json_integer((json_int_t)lost));
}

static json_t *difference_json(const void *user, size_t i)
{
    const struct vcl_comparison *job = user;
    const struct vcl_difference *difference = &job->differences[i];
    const char *name = vcl_model_entry(job->a, i)->name;
    static const char *const states[] = { "only in A", "shape", "compared", "compared" };
    json_t *object = json_object();
    vcl_json_set(object, "name", vcl_json_text(name));
    vcl_json_set(object, "state", json_string(states[difference->state]));
    vcl_json_set(object, "shape", vcl_json_shape(&difference->shape_a));
    vcl_json_set(object, "dtype", json_string(vcl_dtype_name(difference->dtype_a)));
    if (difference->state != VCL_DIFFERENCE_MISSING)
        vcl_json_set(object, "dtype_b", json_string(vcl_dtype_name(difference->dtype_b)));
    if (difference->state == VCL_DIFFERENCE_SHAPE)
        vcl_json_set(object, "shape_b", vcl_json_shape(&difference->shape_b));
    if (difference->state == VCL_DIFFERENCE_FLOATS) {
        set_sums(object, &difference->sums);
        set_rows(object, difference->worst_row_nmse, difference->worst_row, difference->rows_lost);
    }
    if (difference->state == VCL_DIFFERENCE_BYTES)
        vcl_json_set(object, "differing", json_integer((json_int_t)difference->differing));
    return object;
}

static json_t *totals_json(const struct verdict *verdict)
{
    json_t *object = json_object();
    vcl_json_set(object, "compared", json_integer((json_int_t)verdict->compared));
    vcl_json_set(object, "only_in_a", json_integer((json_int_t)verdict->missing));
    vcl_json_set(object, "only_in_b", json_integer((json_int_t)verdict->extra));
    vcl_json_set(object, "shapes", json_integer((json_int_t)verdict->shapes));
    vcl_json_set(object, "differing", json_integer((json_int_t)verdict->differing));
    vcl_json_set(object, "below_min_snr", json_integer((json_int_t)verdict->below));
    set_sums(object, &verdict->sums);
    vcl_json_set(object, "worst_snr", vcl_json_real(verdict->worst_snr));
    vcl_json_set(object, "worst_tensor",
                 verdict->worst_name ? vcl_json_text(verdict->worst_name) : json_null());
    set_rows(object, verdict->worst_row_nmse, verdict->worst_row, verdict->rows_lost);
    vcl_json_set(object, "worst_row_tensor",
                 verdict->worst_row_name ? vcl_json_text(verdict->worst_row_name) : json_null());
    return object;
}

static void report_json(const struct vcl_comparison *job, const struct verdict *verdict)
{
    json_t *document = vcl_json_document("compare"), *extra = json_array();
    for (size_t i = 0; i < vcl_model_count(job->b); i++)
        if (!vcl_model_find(job->a, vcl_model_entry(job->b, i)->name))
            vcl_json_append(extra, vcl_json_text(vcl_model_entry(job->b, i)->name));
    vcl_json_set(document, "a", vcl_json_text(job->name_a));
    vcl_json_set(document, "b", vcl_json_text(job->name_b));
    vcl_json_set(document, "only_in_b", extra);
    vcl_json_set(document, "totals", totals_json(verdict));
    vcl_json_print_list(document, "tensors", vcl_model_count(job->a), difference_json, job);
}

int vcl_comparison_report(const struct vcl_comparison *job)
{
    const struct verdict verdict = judge(job);
    if (job->json)
        report_json(job, &verdict);
    else if (!job->quiet)
        report_text(job, &verdict);
    if (verdict.missing + verdict.extra + verdict.shapes) {
        vcl_say(
            "%s and %s do not hold the same tensors: %zu only in the first, %zu only in the second, %zu of "
            "other shape or dtype",
            job->name_a, job->name_b, verdict.missing, verdict.extra, verdict.shapes);
        return VCL_EXIT_FAILED;
    }
    if (verdict.below)
        return vcl_tell(VCL_E_RATE, "tensors below %.4g dB: %zu", job->min_snr, verdict.below);
    return VCL_EXIT_OK;
}
