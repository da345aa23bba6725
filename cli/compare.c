/* compare.c - the verb compare: what was lost between two models, either of them compressed or not.
 *
 * Tensors are read side by side in stretches of some MiB; float dtypes that differ meet in F32, or in F64
 * where one of them is.  Sums are taken row by row: where a norm follows, a row's error counts relative to
 * that row.  compare_report.c prints the results. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compare.h"
#include "layout/values.h"
#include "policy/rows.h"

static const char HELP[] =
    "usage: vcllm compare A B [options]\n"
    "\n"
    "Compares two models tensor by tensor; either may be compressed.  For each: NMSE = sum (a-b)^2 /\n"
    "sum a^2, SNR = -10 log10 NMSE, the largest |a-b|, and how many values are finite in one model only.\n"
    "Of matrices with rows of 16 values or more also the SNR of the worst row, by itself, and how many\n"
    "rows are lost: all zero in B, but not in A.  Rows run along the last dimension.\n"
    "Tensors that are missing, or differ in shape, are listed; float dtypes may differ, other tensors are\n"
    "compared byte by byte.\n"
    "\n"
    "  vcllm compare model.safetensors small.safetensors\n"
    "  vcllm compare model/ back/ --min-snr 15 && echo good enough\n"
    "\n"
    "  --min-snr DB         fail with exit code 5 if any tensor is below\n"
    "  --decoder NAME       libavcodec's decoder; see 'vcllm codecs'\n"
    "  -j, --threads N      threads (default: all CPUs)\n" VCL_READING_HELP
    "  --json               one JSON document on standard output\n"
    "  -q, --quiet          no table, only the exit code\n"
    "\n"
    "Exit codes: 0 the same tensors with the same shapes, 1 not so or corrupt, 2 usage, 3 input/output,\n"
    "            4 codec missing, 5 a tensor is below --min-snr, 130 interrupted.\n";

static int run(int argc, char **argv);
const struct vcl_verb vcl_verb_compare = { "compare", "NMSE, SNR and largest error of each tensor", HELP,
                                           run };

struct buffers {
    unsigned char *a, *b, *wide_a, *wide_b;
};

struct row { /* the one that the walk is in; the whole tensor where that has no rows */
    uint64_t number, length, filled;
    struct vcl_error_sums sums;
    int zero; /* in B, so far */
};

static enum vcl_dtype common_dtype(enum vcl_dtype a, enum vcl_dtype b)
{
    if (a == b)
        return a;
    return a == VCL_DTYPE_F64 || b == VCL_DTYPE_F64 ? VCL_DTYPE_F64 : VCL_DTYPE_F32;
}

static int same_shape(const struct vcl_tensor *a, const struct vcl_tensor *b)
{
    return a->rank == b->rank && memcmp(a->dims, b->dims, a->rank * sizeof *a->dims) == 0;
}

static const void *widened(enum vcl_dtype from, const void *values, enum vcl_dtype to, void *wide, size_t n)
{
    if (from == to)
        return values;
    vcl_convert(from, values, to, wide, n); /* two float dtypes: cannot fail */
    return wide;
}

void vcl_sums_add(struct vcl_error_sums *sums, const struct vcl_error_sums *more)
{
    sums->values += more->values;
    sums->mismatches += more->mismatches;
    sums->signal += more->signal;
    sums->error += more->error;
    sums->max_error = fmax(sums->max_error, more->max_error);
}

static void end_row(struct vcl_difference *difference, struct row *row)
{
    const struct vcl_error_sums *sums = &row->sums;
    const int lost = row->zero && (sums->max_error > 0 || sums->mismatches);
    const double nmse = lost ? 1 : sums->signal > 0 ? sums->error / sums->signal : 0;
    if (vcl_row_length(&difference->shape_a)) {
        difference->rows_lost += (uint64_t)lost;
        if (nmse > difference->worst_row_nmse) {
            difference->worst_row_nmse = nmse;
            difference->worst_row = row->number;
        }
    }
    vcl_sums_add(&difference->sums, sums);
    *row = (struct row){ .number = row->number + 1, .length = row->length, .zero = 1 };
}

static void add_floats(struct vcl_difference *difference, struct row *row, const struct buffers *buffers,
                       size_t n)
{
    const enum vcl_dtype dtype = common_dtype(difference->dtype_a, difference->dtype_b);
    const size_t size = vcl_dtype_bits(dtype) / 8;
    const unsigned char *a = widened(difference->dtype_a, buffers->a, dtype, buffers->wide_a, n);
    const unsigned char *b = widened(difference->dtype_b, buffers->b, dtype, buffers->wide_b, n);
    for (size_t i = 0, piece; i < n; i += piece) {
        const uint64_t left = row->length - row->filled;
        piece = left < n - i ? (size_t)left : n - i;
        vcl_compare(dtype, a + i * size, b + i * size, piece, &row->sums);
        row->zero = row->zero && vcl_all_zero(dtype, b + i * size, piece);
        row->filled += piece;
        if (piece == left)
            end_row(difference, row);
    }
}

static void add_bytes(struct vcl_difference *difference, const struct buffers *buffers, size_t bytes)
{
    const size_t bits = vcl_dtype_bits(difference->dtype_a), unit = bits < 8 ? 1 : bits / 8;
    if (memcmp(buffers->a, buffers->b, bytes) == 0)
        return;
    for (size_t i = 0; i < bytes; i += unit)
        difference->differing += memcmp(buffers->a + i, buffers->b + i, unit) != 0;
}

/* Walks through both tensors in steps of whole values that suit the compressed one. */
static enum vcl_status walk(struct vcl_difference *difference, const struct vcl_values *a,
                            const struct vcl_values *b, struct vcl_context *ctx)
{
    const int floats = difference->state == VCL_DIFFERENCE_FLOATS;
    const size_t size_a = floats ? vcl_dtype_bits(a->tensor.dtype) / 8 : 1;
    const size_t size_b = floats ? vcl_dtype_bits(b->tensor.dtype) / 8 : 1;
    const uint64_t count = floats ? a->count : a->bytes;
    const size_t step = a->compressed ? vcl_values_step(a) / size_a : vcl_values_step(b) / size_b;
    const size_t room = step + (step == 0);
    const uint64_t length = vcl_row_length(&a->tensor);
    struct buffers buffers = { vcl_zeros(room, size_a), vcl_zeros(room, size_b), NULL, NULL };
    struct row row = { .length = length ? length : count, .zero = 1 };
    enum vcl_status status = VCL_OK;

    if (difference->dtype_a != difference->dtype_b) {
        buffers.wide_a = vcl_zeros(room, sizeof(double));
        buffers.wide_b = vcl_zeros(room, sizeof(double));
    }
    for (uint64_t at = 0; at < count && !status && !vcl_interrupted(); at += room) {
        const size_t n = count - at < room ? (size_t)(count - at) : room;
        status = vcl_values_read(a, ctx, at * size_a, buffers.a, n * size_a);
        if (!status)
            status = vcl_values_read(b, ctx, at * size_b, buffers.b, n * size_b);
        if (!status && floats)
            add_floats(difference, &row, &buffers, n);
        else if (!status)
            add_bytes(difference, &buffers, n);
    }
    free(buffers.a);
    free(buffers.b);
    free(buffers.wide_a);
    free(buffers.wide_b);
    return status;
}

static enum vcl_status compare_one(struct vcl_comparison *job, size_t i, struct vcl_context *ctx)
{
    struct vcl_difference *difference = &job->differences[i];
    const struct vcl_entry *other = vcl_model_find(job->b, vcl_model_entry(job->a, i)->name);
    struct vcl_values a, b;
    enum vcl_status status =
        vcl_values_open(vcl_cli_errand(), &a, job->a, vcl_model_entry(job->a, i), job->decoder);
    if (status)
        return status;
    difference->shape_a = a.tensor;
    difference->dtype_a = a.tensor.dtype;
    difference->state = VCL_DIFFERENCE_MISSING;
    if (!other)
        return VCL_OK;
    status = vcl_values_open(vcl_cli_errand(), &b, job->b, other, job->decoder);
    if (status)
        return status;

    const int floats = vcl_dtype_is_float(a.tensor.dtype) && vcl_dtype_is_float(b.tensor.dtype);
    difference->shape_b = b.tensor;
    difference->dtype_b = b.tensor.dtype;
    difference->state = floats ? VCL_DIFFERENCE_FLOATS : VCL_DIFFERENCE_BYTES;
    if (!same_shape(&a.tensor, &b.tensor) || (!floats && a.tensor.dtype != b.tensor.dtype))
        difference->state = VCL_DIFFERENCE_SHAPE;
    if (difference->state == VCL_DIFFERENCE_SHAPE)
        return VCL_OK;
    if (a.count > VCL_WORK_LARGE)
        vcl_errand_large(vcl_cli_errand(), vcl_model_entry(job->a, i)->bytes,
                         vcl_work_steps(job->work, a.count, 1));
    return walk(difference, &a, &b, ctx);
}

static enum vcl_status compare_run(void *user, size_t i, struct vcl_context *ctx)
{
    const struct vcl_comparison *job = user;
    const enum vcl_status status = compare_one(user, i, ctx);
    vcl_progress_add(1, vcl_model_entry(job->a, i)->bytes);
    return status;
}

/* Two stretches of at most 16 MiB, and as many doubles where dtypes differ. */
static uint64_t compare_memory(void *user, size_t i)
{
    const struct vcl_comparison *job = user;
    const uint64_t bytes = vcl_model_entry(job->a, i)->bytes;
    return bytes > VCL_WORK_LARGE ? VCL_WORK_ALONE : 4 * bytes;
}

static int compare_models(struct vcl_comparison *job, int jobs)
{
    const struct vcl_task task = { job, compare_memory, compare_run, NULL };
    struct vcl_work work;
    int code = vcl_exit_of(vcl_work_create(&work, vcl_cli_errand(), (unsigned)jobs, NULL));
    if (code)
        return code;
    job->work = &work;
    job->differences = vcl_zeros(vcl_model_count(job->a), sizeof *job->differences);
    code = vcl_exit_of(vcl_work_over(&work, "compare", job->a, &task));
    if (code == VCL_EXIT_INTERRUPTED)
        vcl_say("interrupted");
    return code ? code : vcl_comparison_report(job);
}

static int open_and_compare(struct vcl_comparison *job, const struct vcl_reading *reading, int jobs)
{
    int code = vcl_cli_open(job->name_a, reading, &job->a);
    if (!code)
        code = vcl_cli_open(job->name_b, reading, &job->b);
    if (!code)
        code = compare_models(job, jobs);
    free(job->differences);
    vcl_model_close(job->a);
    vcl_model_close(job->b);
    return code;
}

static int run(int argc, char **argv)
{
    struct vcl_reading reading = { 0 };
    struct vcl_comparison job = { .min_snr = -INFINITY };
    int jobs = 0, count;
    char **operands;
    const struct vcl_option options[] = {
        { "min-snr", 0, VCL_OPTION_NUMBER, &job.min_snr, -1000, 1000, NULL, NULL },
        { "decoder", 0, VCL_OPTION_TEXT, &job.decoder, 0, 0, NULL, NULL },
        { "threads", 'j', VCL_OPTION_INTEGER, &jobs, 0, 1024, NULL, NULL },
        VCL_READING_OPTIONS(&reading),
        { "json", 0, VCL_OPTION_FLAG, &job.json, 0, 0, NULL, NULL },
        { "quiet", 'q', VCL_OPTION_FLAG, &job.quiet, 0, 0, NULL, NULL },
        { 0 },
    };
    const int code = vcl_cli_parse(&vcl_verb_compare, options, argc, argv, 2, 2, &operands, &count);
    if (code)
        return code;
    vcl_set_quiet(job.quiet);
    job.name_a = operands[0];
    job.name_b = operands[1];
    return open_and_compare(&job, &reading, jobs);
}
