/* compress_shard.c - compresses one shard: tensors in file order into a writer, small ones many at a time.
 *
 * A large tensor streams from the model to the file through the context with all threads; a small one is
 * coded into memory by one thread and written when its turn comes.  Aliases are a few bytes and take the
 * second way. */
#include <math.h>
#include <stdlib.h>

#include "common/texts.h"
#include "encoding.h"
#include "layout/values.h"

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

/* Steps follow what an error costs in each column, whatever --transpose says; not where a row of the coded
 * matrix is no row of inputs. */
static void weigh(const struct vcl_tensor *tensor, const struct vcl_column_costs *costs,
                  struct vcl_params *params)
{
    uint64_t rows, cols;
    if (vcl_coded_shape(tensor, costs->transposed, &rows, &cols) != VCL_OK || cols != costs->count)
        return;
    params->transpose = costs->transposed;
    params->columns = cols;
    params->col_weight = costs->weight;
    params->feedback = costs->feedback;
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
    if (choice->inputs.weight && params.codec == VCL_CODEC_TENSOR && params.goal == VCL_GOAL_BITS)
        weigh(&vcl_model_entry(encoding->model, i)->tensor, &choice->inputs, &params);
    if (choice->products.feedback)
        weigh(&vcl_model_entry(encoding->model, i)->tensor, &choice->products, &params);
    return params;
}

static struct vcl_errand *job_of(const struct encode_job *job) { return job->encoding->work->job; }

static enum vcl_status encode_failed(const struct encode_job *job, size_t i, enum vcl_status status,
                                     const struct vcl_context *ctx, const struct vcl_error *reading)
{
    if (reading->status != VCL_OK)
        return vcl_errand_check(job_of(job), reading->status, reading);
    if (*vcl_writer_failure(job->writer))
        return vcl_errand_fail(job_of(job), VCL_E_IO, "%s", vcl_writer_failure(job->writer));
    return vcl_fail_at(job_of(job), status, job->encoding->model, vcl_model_entry(job->encoding->model, i),
                       vcl_why(status, ctx));
}

static enum vcl_status encode_alias(struct encode_job *job, size_t i)
{
    const struct vcl_choice *choice = &job->encoding->choices[i];
    const struct vcl_entry *entry = vcl_model_entry(job->encoding->model, i);
    size_t bytes = (size_t)choice->room;
    unsigned char *frame = job->frames[i - job->shard->first] = vcl_calloc(bytes, 1);
    const char *target = vcl_model_entry(job->encoding->model, choice->same_as)->name;
    if (!frame)
        return vcl_errand_memory(job_of(job));
    const enum vcl_status status = vcl_alias_encode(&entry->tensor, target, frame, &bytes);
    job->encoding->results[i].report = (struct vcl_report){
        .frame_bytes = bytes, .values = choice->values, .codec = VCL_CODEC_ALIAS, .snr = NAN
    };
    return status == VCL_OK
             ? VCL_OK
             : vcl_errand_fail(job_of(job), status, "tensor '%s': %s", entry->name, vcl_status_text(status));
}

/* malloc, not calloc: pages of the bound that the frame never reaches stay untouched. */
static enum vcl_status make_window(struct encode_job *job, size_t i, struct vcl_window *window)
{
    const uint64_t room = job->encoding->choices[i].room;
    *window = (struct vcl_window){ .at = malloc((size_t)room + 1), .bytes = room, .strict = 1 };
    job->frames[i - job->shard->first] = window->at;
    return window->at ? VCL_OK : vcl_errand_memory(job_of(job));
}

static enum vcl_status encode_one(struct encode_job *job, size_t i, struct vcl_context *ctx)
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
            return VCL_E_MEMORY;
        sink = vcl_window_sink(&window);
    }
    struct vcl_report *const report = &encoding->results[i].report;
    report->size = sizeof *report;
    const enum vcl_status status = vcl_encode(ctx, &handle.entry->tensor, &source, &params, &sink, report);
    return status == VCL_OK ? VCL_OK : encode_failed(job, i, status, ctx, &handle.error);
}

static enum vcl_status encode_run(void *user, size_t i, struct vcl_context *ctx)
{
    const struct vcl_encoding *encoding = ((struct encode_job *)user)->encoding;
    struct vcl_errand *job = encoding->work->job;
    const struct vcl_choice *choice = &encoding->choices[i];
    const uint64_t effort = vcl_encode_effort(choice, vcl_model_entry(encoding->model, i));
    if (encode_memory(user, i) == VCL_WORK_ALONE)
        vcl_errand_large(
            job, effort,
            vcl_work_steps(encoding->work, choice->values, choice->action == VCL_ACTION_LOSSY ? TRIALS : 1));
    const enum vcl_status status = encode_one(user, i, ctx);
    vcl_errand_advance(job, 1, effort);
    return status;
}

static enum vcl_status encode_finish(void *user, size_t i)
{
    struct encode_job *job = user;
    const struct vcl_encoding *encoding = job->encoding;
    const uint64_t bytes = encoding->results[i].report.frame_bytes;
    unsigned char **frame = &job->frames[i - job->shard->first];
    const struct vcl_sink sink = vcl_writer_sink(job->writer);
    struct vcl_error error = { 0 };

    if (*frame && sink.write(sink.user, 0, *frame, (size_t)bytes))
        return vcl_errand_fail(job_of(job), VCL_E_IO, "%s", vcl_writer_failure(job->writer));
    free(*frame);
    *frame = NULL;
    const enum vcl_status status = vcl_writer_end(job->writer, bytes, &error);
    if (status != VCL_OK)
        return vcl_errand_check(job_of(job), status, &error);
    encoding->results[i].done = 1;
    if (encoding->on_tensor)
        encoding->on_tensor(encoding->user, i);
    return VCL_OK;
}

static enum vcl_status add_late(const struct encode_job *job, const struct vcl_late *late)
{
    struct vcl_error error = { 0 };
    char *value = NULL;
    enum vcl_status status = late->make(late->user, vcl_writer_bytes(job->writer), &value);
    if (!status)
        status = vcl_errand_check(job_of(job),
                                  vcl_writer_add_metadata(job->writer, "vcllm.files", value, &error), &error);
    free(value);
    return status;
}

static enum vcl_status encode_tensors(struct encode_job *job, const struct vcl_late *late)
{
    const struct vcl_task task = { job, encode_memory, encode_run, encode_finish };
    const struct vcl_shard *shard = job->shard;
    job->frames = vcl_calloc(shard->layout.count, sizeof *job->frames);
    if (!job->frames)
        return vcl_errand_memory(job_of(job));
    enum vcl_status status = vcl_work_run(job->encoding->work, &task, shard->first, shard->last);
    for (size_t i = 0; i < shard->layout.count; i++)
        free(job->frames[i]);
    free(job->frames);
    if (!status && late)
        status = add_late(job, late);
    return status;
}

enum vcl_status vcl_encode_shard(const struct vcl_encoding *encoding, size_t number, const char *path,
                                 uint64_t disk_bytes, const struct vcl_late *late)
{
    struct vcl_error error = { 0 };
    struct vcl_shard shard;
    struct encode_job job = { .encoding = encoding, .shard = &shard };
    enum vcl_status status = vcl_shard_describe_frames(job_of(&job), &shard, encoding->model, number,
                                                       encoding->choices, late ? late->bytes : 0);
    if (status)
        return status;

    shard.layout.overwrite = encoding->overwrite;
    status = vcl_writer_create(path, &shard.layout, disk_bytes, &job.writer, &error);
    free(shard.entries); /* the writer has them: a header of many tensors is not held twice */
    shard.entries = NULL;
    if (status == VCL_OK) {
        vcl_errand_writing(job_of(&job), job.writer);
        status = vcl_errand_finish(job_of(&job), job.writer, encode_tensors(&job, late));
    } else {
        vcl_errand_check(job_of(&job), status, &error);
    }
    vcl_shard_free(&shard);
    return status;
}

enum vcl_status vcl_encode_try(const struct vcl_params *params, struct vcl_work *work)
{
    enum { ROWS = 144, COLS = 192 }; /* more than any hardware encoder's least */
    const struct vcl_tensor tensor = { VCL_DTYPE_F32, 2, { ROWS, COLS } };
    struct vcl_params trial = *params;
    size_t bytes = (size_t)vcl_bound(&tensor);
    float *values = vcl_calloc(ROWS * COLS, sizeof *values);
    unsigned char *frame = vcl_calloc(bytes, 1);
    enum vcl_status status = VCL_E_MEMORY;

    trial.goal = VCL_GOAL_BITS;
    trial.target = 12;
    for (int i = 0; i < ROWS * COLS && values; i++) /* a sawtooth: any picture that is not flat does */
        values[i] = (float)(i * 37 % 101) - 50;
    if (values && frame)
        status = vcl_encode_buffer(work->wide, &tensor, values, &trial, frame, &bytes, NULL);
    free(values);
    free(frame);
    if (status != VCL_E_CODEC && status != VCL_E_BACKEND && status != VCL_E_ARGUMENT)
        return VCL_OK; /* whether a target can be met is each tensor's question */
    return vcl_errand_fail(work->job, status, "%s: %s", vcl_codec_name(params->codec),
                           vcl_why(status, work->wide));
}
