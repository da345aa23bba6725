/* rotate_model.c - the verb rotate: a folder to a folder of the same shards and files.
 *
 * What a tensor becomes is known to the runtime (merge.h); here files are read and written. */
#include <stdlib.h>

#include "language.h"
#include "rotate_model.h"

static const char HELP[] =
    "usage: vcllm rotate MODEL -o OUTPUT [options]\n"
    "\n"
    "Writes a model that predicts the same by other weights: the sum that its layers read and add to is\n"
    "turned by a random rotation, which is merged into the matrices around it, after the weights of the\n"
    "norms.  What one channel holds alone, outliers above all, is spread over all channels.  The result is\n"
    "an ordinary checkpoint.  MODEL is a folder with config.json (LLaMA, Mistral, GPT-2 or GPT-NeoX).\n"
    "\n"
    "  vcllm rotate my-model/ -o rotated/\n"
    "  vcllm compress rotated/ -o small/ --bits 2.9\n"
    "  vcllm eval small/ --text book.txt --baseline my-model/\n"
    "\n"
    "A head that is the embedding becomes a tensor of its own, and tie_word_embeddings false: the weight\n"
    "of the last norm belongs to the head alone.  A model with tensors that its type does not have (biases\n"
    "of a LLaMA, say) is refused; masks and other buffers come along.\n"
    "\n"
    "  -o, --output PATH    where to; built as PATH.partial and renamed when complete\n"
    "  -f, --force          replace an existing output that has no other files than will be written\n"
    "  --seed N             of the rotation's signs (default 1)\n"
    "  --dtype f16|bf16|f32 write the model's tensors so (default: each as it is)\n"
    "  -j, --threads N      threads (default: all CPUs)\n" VCL_READING_HELP
    "  --json               one JSON document on standard output\n"
    "  -q, --quiet          no warnings, no summary\n"
    "\n"
    "Exit codes: 0 ok, 1 not supported or failed, 2 usage, 3 input/output, 130 interrupted.\n";

static int run(int argc, char **argv);
const struct vcl_verb vcl_verb_rotate = { "rotate", "make a model's weights alike, its predictions the same",
                                          HELP, run };

static int read_options(struct vcl_rotate *job, int argc, char **argv)
{
    int dtype = -1, count;
    char **operands;
    const struct vcl_option options[] = {
        { "output", 'o', VCL_OPTION_OUTPUT, &job->output, 0, 0, NULL, NULL },
        { "force", 'f', VCL_OPTION_FLAG, &job->force, 0, 0, NULL, NULL },
        { "seed", 0, VCL_OPTION_NUMBER, &job->seed, 0, 4294967295.0, NULL, NULL },
        { "dtype", 0, VCL_OPTION_CHOICE, &dtype, 0, 0, "f16|bf16|f32", NULL },
        { "threads", 'j', VCL_OPTION_INTEGER, &job->jobs, 0, 1024, NULL, NULL },
        VCL_READING_OPTIONS(&job->reading),
        { "json", 0, VCL_OPTION_FLAG, &job->json, 0, 0, NULL, NULL },
        { "quiet", 'q', VCL_OPTION_FLAG, &job->quiet, 0, 0, NULL, NULL },
        { 0 },
    };
    const int code = vcl_cli_parse(&vcl_verb_rotate, options, argc, argv, 1, 1, &operands, &count);
    if (code)
        return code;
    job->input = operands[0];
    job->dtype = vcl_float_choice(dtype);
    vcl_set_quiet(job->quiet);
    if (job->output && *job->output)
        return VCL_EXIT_OK;
    vcl_say("rotate: -o OUTPUT is missing; see 'vcllm rotate --help'");
    return VCL_EXIT_USAGE;
}

/* ---- opening --------------------------------------------------------------------------------- */

static int check_input(const struct vcl_rotate *job)
{
    for (size_t i = 0; i < vcl_model_shards(job->model); i++)
        if (vcl_model_is_compressed(job->model, i)) {
            vcl_say("%s: is compressed; rotate the model that it was made from",
                    vcl_model_shard_path(job->model, i));
            return VCL_EXIT_USAGE;
        }
    return VCL_EXIT_OK;
}

static int open_model(struct vcl_rotate *job)
{
    struct vcl_error error = { 0 };
    int code = vcl_cli_open(job->input, &job->reading, &job->model);
    if (!code)
        code = check_input(job);
    if (!code)
        code = vcl_cli_pool(job->jobs, &job->pool);
    if (code)
        return code;
    const enum vcl_status status =
        vcl_merge_open(job->input, (uint64_t)job->seed, job->pool, &job->merge, &error);
    if (status != VCL_OK)
        return vcl_tell(status, "%s", error.text);
    vcl_cli_note_network(job->input, vcl_merge_network(job->merge));
    job->unties = vcl_merge_unties(job->merge, &job->untied);
    return VCL_EXIT_OK;
}

/* ---- writing --------------------------------------------------------------------------------- */

static int fill_folder(void *user, struct vcl_folder *folder)
{
    struct vcl_rotate *job = user;
    json_t *files;
    int code = vcl_exit_of(vcl_sides_copy(folder, &files));
    json_decref(files);
    for (size_t i = 0; i < vcl_model_shards(job->model) && !code; i++) {
        char *path = vcl_text("%s/%s", folder->partial, vcl_model_shard_name(job->model, i));
        code = vcl_rotate_shard(job, i, path);
        free(path);
    }
    return code ? code : vcl_rotate_sides(job, folder);
}

static int write_folder(struct vcl_rotate *job)
{
    struct vcl_folder folder;
    int code = vcl_exit_of(vcl_folder_open(&folder, vcl_cli_errand(), job->model, job->output, 1));
    folder.same = 1;
    if (!code)
        code = vcl_cli_folder_write(&folder, job->force, fill_folder, job);
    vcl_folder_close(&folder);
    return code;
}

static void report(const struct vcl_rotate *job, double seconds)
{
    if (job->json) {
        json_t *document = vcl_json_document("rotate");
        vcl_json_set(document, "input", vcl_json_text(job->input));
        vcl_json_set(document, "output", vcl_json_text(job->output));
        vcl_json_set(document, "tensors", json_integer((json_int_t)job->tensors));
        vcl_json_set(document, "changed", json_integer((json_int_t)job->made));
        vcl_json_set(document, "untied", json_boolean(job->unties));
        vcl_json_set(document, "bytes", json_integer((json_int_t)job->bytes));
        vcl_json_set(document, "seconds", vcl_json_real(seconds));
        vcl_json_print(document);
    } else if (!job->quiet)
        printf("%s -> %s\n%zu tensors, %zu of them rotated%s, %s in %s with %u threads\n", job->input,
               job->output, job->tensors, job->made, job->unties ? ", the head untied" : "",
               vcl_words_size(job->bytes).text, vcl_words_time(seconds).text, vcl_pool_threads(job->pool));
}

static int rotate(struct vcl_rotate *job)
{
    const double started = vcl_seconds();
    uint64_t bytes = 0;
    int code = open_model(job);
    if (code)
        return code;
    for (size_t i = 0; i < vcl_model_count(job->model); i++)
        bytes += vcl_model_entry(job->model, i)->bytes;
    vcl_progress_start("rotate", vcl_model_count(job->model), bytes);
    code = write_folder(job);
    vcl_progress_stop();
    if (code == VCL_EXIT_INTERRUPTED)
        vcl_say("interrupted; %s was not written", job->output);
    if (!code)
        report(job, vcl_seconds() - started);
    return code;
}

static int run(int argc, char **argv)
{
    struct vcl_rotate job = { .seed = 1 };
    int code = read_options(&job, argc, argv);
    if (code)
        return code;
    code = rotate(&job);
    vcl_merge_close(job.merge);
    vcl_pool_destroy(job.pool);
    vcl_model_close(job.model);
    return code;
}
