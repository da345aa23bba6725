/* compress_shard.c - compresses one shard: tensors in file order into a writer, small ones many at a time.
 *
 * A large tensor streams from the model to the file through the context with all threads; a small one is
 * coded into memory by one thread and written when its turn comes.  Aliases are a few bytes and take the
 * second way. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "allot/sensitivity.h"
#include "shard.h"
#include "values.h"

enum { TRIALS = 3 }; /* until a rate is met, on average */

struct encode_job {
    const struct vcl_encoding *encoding;
    const struct vcl_shard *shard;
    struct vcl_writer *writer;
    unsigned char **frames; /* of small tensors, by entry - shard->first, until they are written */
};

uint64_t vcl_encode_effort(const struct vcl_choice *choice, const struct vcl_entry *entry)
{
    return choice->action == VCL_ACTION_LOSSY ? entry->bytes : entry->bytes / 64;
}

static uint64_t disk_bytes(const struct vcl_choice *choices, size_t first, size_t last, int all)
{
    uint64_t sum = 0, widest = 0; /* a rejected trial may reach further than the frame that is kept */
    for (size_t i = first; i < last; i++) {
        if (!all && choices[i].action == VCL_ACTION_LOSSY && choices[i].goal != VCL_GOAL_BITS)
            continue;
        sum += choices[i].bound;
        if (choices[i].room - choices[i].bound > widest)
            widest = choices[i].room - choices[i].bound;
    }
    return sum + widest;
}

uint64_t vcl_encode_disk_certain(const struct vcl_choice *choices, size_t first, size_t last)
{
    return disk_bytes(choices, first, last, 0);
}

uint64_t vcl_encode_disk_most(const struct vcl_choice *choices, size_t first, size_t last)
{
    return disk_bytes(choices, first, last, 1);
}

static uint64_t encode_memory(void *user, size_t i)
{
    const struct encode_job *job = user;
    const struct vcl_choice *choice = &job->encoding->choices[i];
    return choice->values > VCL_WORK_LARGE && choice->action != VCL_ACTION_ALIAS ? VCL_WORK_ALONE
                                                                                 : choice->room;
}

/* Steps follow what an error costs at each input; not where a row of the coded matrix is no row of inputs. */
static void weigh(const struct vcl_tensor *tensor, const struct vcl_inputs *inputs, struct vcl_params *params)
{
    uint64_t rows, cols;
    if (!inputs || params->codec != VCL_CODEC_TENSOR || params->goal != VCL_GOAL_BITS
        || vcl_coded_shape(tensor, inputs->transposed, &rows, &cols) != VCL_OK || cols != inputs->count)
        return;
    params->transpose = inputs->transposed;
    params->columns = cols;
    params->col_weight = inputs->weight;
}

/* Errors are fed back along the inputs, whatever --transpose says; not where a row of the coded matrix is
 * no row of inputs. */
static void feed_back(const struct vcl_tensor *tensor, const struct vcl_network_matrix *matrix,
                      struct vcl_params *params)
{
    uint64_t rows, cols;
    if (!matrix || !matrix->moments || !matrix->moments->feedback
        || vcl_coded_shape(tensor, matrix->transposed, &rows, &cols) != VCL_OK || cols != matrix->cols)
        return;
    params->transpose = matrix->transposed;
    params->columns = cols;
    params->col_weight = matrix->moments->col_weight;
    params->feedback = matrix->moments->feedback;
}

static struct vcl_params params_of(const struct vcl_encoding *encoding, size_t i)
{
    const struct vcl_choice *choice = &encoding->choices[i];
    struct vcl_params params = *encoding->params;
    if (choice->action == VCL_ACTION_EXACT)
        params.codec = choice->exact;
    params.goal = choice->goal;
    params.target = choice->target;
    params.nearest = 1; /* one tensor stops no model */
    params.row_floor = choice->action == VCL_ACTION_LOSSY ? choice->row_floor : 0;
    if (params.row_floor > 0) /* errors count by row, not by what they meet in a product */
        return params;
    weigh(&vcl_model_entry(encoding->model, i)->tensor, choice->inputs, &params);
    feed_back(&vcl_model_entry(encoding->model, i)->tensor, choice->matrix, &params);
    return params;
}

static int encode_failed(const struct encode_job *job, size_t i, enum vcl_status status,
                         const struct vcl_context *ctx, const struct vcl_error *reading)
{
    const struct vcl_entry *entry = vcl_model_entry(job->encoding->model, i);
    if (reading->status != VCL_OK)
        return vcl_tell(reading->status, "%s", reading->text);
    if (*vcl_writer_failure(job->writer))
        return vcl_tell(VCL_E_IO, "%s", vcl_writer_failure(job->writer));
    char *where = vcl_where(job->encoding->model, entry);
    const int code = vcl_tell(status, "%s: %s", where, vcl_why(status, ctx));
    free(where);
    return code;
}

static int encode_alias(struct encode_job *job, size_t i)
{
    const struct vcl_choice *choice = &job->encoding->choices[i];
    const struct vcl_entry *entry = vcl_model_entry(job->encoding->model, i);
    struct vcl_report *report = &job->encoding->results[i].report;
    size_t bytes = (size_t)choice->room;
    unsigned char *frame = vcl_zeros(bytes, 1);
    const char *target = vcl_model_entry(job->encoding->model, choice->same_as)->name;
    const enum vcl_status status = vcl_alias_encode(&entry->tensor, target, frame, &bytes);

    job->frames[i - job->shard->first] = frame;
    *report = (struct vcl_report){
        .frame_bytes = bytes, .values = choice->values, .codec = VCL_CODEC_ALIAS, .snr = NAN
    };
    return status == VCL_OK ? VCL_EXIT_OK
                            : vcl_tell(status, "tensor '%s': %s", entry->name, vcl_status_text(status));
}

/* malloc, not vcl_zeros: pages of the bound that the frame never reaches stay untouched. */
static int make_window(struct encode_job *job, size_t i, struct vcl_window *window)
{
    const uint64_t room = job->encoding->choices[i].room;
    *window = (struct vcl_window){ .at = malloc((size_t)room + 1), .bytes = room, .strict = 1 };
    job->frames[i - job->shard->first] = window->at;
    return window->at ? VCL_EXIT_OK : vcl_tell(VCL_E_MEMORY, "out of memory");
}

static int encode_one(struct encode_job *job, size_t i, struct vcl_context *ctx)
{
    const struct vcl_encoding *encoding = job->encoding;
    const struct vcl_choice *choice = &encoding->choices[i];
    struct vcl_entry_handle handle = { .model = encoding->model,
                                       .entry = vcl_model_entry(encoding->model, i) };
    const struct vcl_source source = vcl_model_source(&handle);
    const struct vcl_params params = params_of(encoding, i);
    struct vcl_sink sink = vcl_writer_sink(job->writer);
    struct vcl_window window;

    if (choice->action == VCL_ACTION_ALIAS)
        return encode_alias(job, i);
    if (encode_memory(job, i) != VCL_WORK_ALONE) {
        if (make_window(job, i, &window))
            return VCL_EXIT_FAILED;
        sink = vcl_window_sink(&window);
    }
    struct vcl_report *const report = &encoding->results[i].report;
    report->size = sizeof *report;
    const enum vcl_status status = vcl_encode(ctx, &handle.entry->tensor, &source, &params, &sink, report);
    return status == VCL_OK ? VCL_EXIT_OK : encode_failed(job, i, status, ctx, &handle.error);
}

static int encode_run(void *user, size_t i, struct vcl_context *ctx)
{
    const struct vcl_encoding *encoding = ((struct encode_job *)user)->encoding;
    const struct vcl_choice *choice = &encoding->choices[i];
    const uint64_t effort = vcl_encode_effort(choice, vcl_model_entry(encoding->model, i));
    if (encode_memory(user, i) == VCL_WORK_ALONE)
        vcl_progress_large(effort, vcl_work_steps(encoding->work, choice->values,
                                                  choice->action == VCL_ACTION_LOSSY ? TRIALS : 1));
    const int code = encode_one(user, i, ctx);
    vcl_progress_add(1, effort);
    return code;
}

static void print_line(const struct vcl_encoding *encoding, size_t i)
{
    const struct vcl_entry *entry = vcl_model_entry(encoding->model, i);
    const struct vcl_report *report = &encoding->results[i].report;
    const size_t count = vcl_model_count(encoding->model);
    vcl_progress_clear();
    printf("[%*zu/%zu] ", snprintf(NULL, 0, "%zu", count), i + 1, count);
    vcl_print_name(entry->name, 0);
    printf("  %s %s  %s -> %s", vcl_words_shape(&entry->tensor).text, vcl_dtype_name(entry->tensor.dtype),
           vcl_words_size(entry->bytes).text, vcl_words_size(report->frame_bytes).text);
    if (report->codec == VCL_CODEC_ALIAS) {
        fputs("  same as ", stdout);
        vcl_print_name(vcl_model_entry(encoding->model, encoding->choices[i].same_as)->name, 0);
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

static int encode_finish(void *user, size_t i)
{
    struct encode_job *job = user;
    const struct vcl_encoding *encoding = job->encoding;
    const uint64_t bytes = encoding->results[i].report.frame_bytes;
    unsigned char **frame = &job->frames[i - job->shard->first];
    const struct vcl_sink sink = vcl_writer_sink(job->writer);
    struct vcl_error error = { 0 };

    if (*frame && sink.write(sink.user, 0, *frame, (size_t)bytes))
        return vcl_tell(VCL_E_IO, "%s", vcl_writer_failure(job->writer));
    free(*frame);
    *frame = NULL;
    const enum vcl_status status = vcl_writer_end(job->writer, bytes, &error);
    if (status != VCL_OK)
        return vcl_tell(status, "%s", error.text);
    encoding->results[i].done = 1;
    if (encoding->verbose)
        print_line(encoding, i);
    return VCL_EXIT_OK;
}

static int add_late(struct vcl_writer *writer, const struct vcl_late *late)
{
    struct vcl_error error = { 0 };
    char *value = NULL;
    const int code = late->make(late->user, vcl_writer_bytes(writer), &value);
    if (code)
        return code;
    const enum vcl_status status = vcl_writer_add_metadata(writer, "vcllm.files", value, &error);
    free(value);
    return status == VCL_OK ? VCL_EXIT_OK : vcl_tell(status, "%s", error.text);
}

static int encode_tensors(struct encode_job *job, const struct vcl_late *late)
{
    const struct vcl_task task = { job, encode_memory, encode_run, encode_finish };
    const struct vcl_shard *shard = job->shard;
    int code = vcl_work_run(job->encoding->work, &task, shard->first, shard->last);
    for (size_t i = 0; i < shard->layout.count; i++)
        free(job->frames[i]);
    if (!code && late)
        code = add_late(job->writer, late);
    return code;
}

int vcl_encode_shard(const struct vcl_encoding *encoding, size_t number, const char *path,
                     uint64_t disk_bytes, const struct vcl_late *late)
{
    struct vcl_error error = { 0 };
    struct vcl_shard shard;
    struct encode_job job = { .encoding = encoding, .shard = &shard };
    int code =
        vcl_shard_describe_frames(&shard, encoding->model, number, encoding->choices, late ? late->bytes : 0);
    if (code)
        return code;

    shard.layout.overwrite = encoding->overwrite;
    enum vcl_status status = vcl_writer_create(path, &shard.layout, disk_bytes, &job.writer, &error);
    free(shard.entries); /* the writer has them: a header of many tensors is not held twice */
    shard.entries = NULL;
    if (status == VCL_OK) {
        vcl_interrupt_guard(vcl_writer_temporary(job.writer));
        job.frames = vcl_zeros(shard.layout.count, sizeof *job.frames);
        code = encode_tensors(&job, late);
        free(job.frames);
        code = vcl_file_finish(job.writer, code);
    }
    vcl_shard_free(&shard);
    return status == VCL_OK ? code : vcl_tell(status, "%s", error.text);
}

int vcl_encode_nowhere(const struct vcl_model *model, const struct vcl_entry *entry,
                       const struct vcl_tensor *tensor, const struct vcl_params *params,
                       struct vcl_context *ctx, struct vcl_report *report)
{
    struct vcl_entry_handle handle = { .model = model, .entry = entry };
    const struct vcl_source source = vcl_model_source(&handle);
    struct vcl_window nowhere = { 0 };
    const struct vcl_sink sink = vcl_window_sink(&nowhere);
    const enum vcl_status status = vcl_encode(ctx, tensor, &source, params, &sink, report);
    if (status == VCL_OK || status == VCL_E_RATE)
        return VCL_EXIT_OK;
    return handle.error.status != VCL_OK ? vcl_tell(handle.error.status, "%s", handle.error.text)
                                         : vcl_tell(status, "%s: %s", entry->name, vcl_why(status, ctx));
}

int vcl_encode_try(const struct vcl_params *params, struct vcl_work *work)
{
    enum { ROWS = 144, COLS = 192 }; /* more than any hardware encoder's least */
    static float values[ROWS * COLS];
    const struct vcl_tensor tensor = { VCL_DTYPE_F32, 2, { ROWS, COLS } };
    struct vcl_params trial = *params;
    size_t bytes = (size_t)vcl_bound(&tensor);
    unsigned char *frame = vcl_zeros(bytes, 1);

    for (int i = 0; i < ROWS * COLS; i++) /* a sawtooth: any picture that is not flat does */
        values[i] = (float)(i * 37 % 101) - 50;
    trial.goal = VCL_GOAL_BITS;
    trial.target = 12;
    const enum vcl_status status =
        vcl_encode_buffer(work->wide, &tensor, values, &trial, frame, &bytes, NULL);
    free(frame);
    if (status != VCL_E_CODEC && status != VCL_E_BACKEND && status != VCL_E_ARGUMENT)
        return VCL_EXIT_OK; /* whether a target can be met is each tensor's question */
    return vcl_tell(status, "%s: %s", vcl_codec_name(params->codec), vcl_why(status, work->wide));
}
