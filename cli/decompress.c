/* decompress.c - the verb decompress: files to files, folders to folders.
 *
 * The container's hash is checked before anything is written, every tile's checksums while it decodes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "decompress.h"
#include "folder.h"
#include "shard.h"

static const char HELP[] =
    "usage: vcllm decompress INPUT -o OUTPUT [options]\n"
    "\n"
    "Restores a model: names, order, dtypes, metadata, and the files beside the shards of a folder.\n"
    "What was compressed with --lossless comes back byte for byte.\n"
    "\n"
    "  vcllm decompress small.safetensors -o back.safetensors\n"
    "  vcllm decompress my-model-3bit/ -o my-model/ -j 8\n"
    "  vcllm decompress small.safetensors --tensor lm_head.weight --rows 0:16 -o head.safetensors\n"
    "  vcllm decompress small.safetensors --tensor model.norm.weight --dtype f32 -o - | od -f | head\n"
    "\n"
    "  -o, --output PATH    where to; written under a temporary name and renamed when complete\n"
    "  -f, --force          replace an existing output\n"
    "  --tensor NAME        only this tensor: a safetensors file with it, or with '-o -' its raw values,\n"
    "                       row-major and little-endian, on standard output\n"
    "  --rows A:B           only indices A to B-1 of its first dimension; only their tiles are decoded\n"
    "  --dtype f16|bf16|f32|f64   convert float tensors; the header is then written anew\n"
    "  --decoder NAME       libavcodec's decoder; see 'vcllm codecs'\n"
    "  -j, --threads N      threads (default: all CPUs)\n" VCL_READING_HELP
    "  --json               one JSON document on standard output\n"
    "  -q, --quiet          no warnings, no summary\n"
    "\n"
    "Exit codes: 0 ok, 1 corrupt or failed, 2 usage, 3 input/output, 4 codec missing, 130 interrupted.\n";

static int run(int argc, char **argv);
const struct vcl_verb vcl_verb_decompress = { "decompress", "restore a model, or one tensor of it", HELP,
                                              run };

static int usage(const char *message)
{
    vcl_say("decompress: %s; see 'vcllm decompress --help'", message);
    return VCL_EXIT_USAGE;
}

static int read_options(struct vcl_decompress *job, int argc, char **argv)
{
    int dtype = -1, count;
    char **operands;
    const struct vcl_option options[] = {
        { "output", 'o', VCL_OPTION_TEXT, &job->output, 0, 0, NULL, NULL },
        { "force", 'f', VCL_OPTION_FLAG, &job->force, 0, 0, NULL, NULL },
        { "tensor", 0, VCL_OPTION_TEXT, &job->tensor, 0, 0, NULL, NULL },
        { "rows", 0, VCL_OPTION_TEXT, &job->rows, 0, 0, NULL, NULL },
        { "dtype", 0, VCL_OPTION_CHOICE, &dtype, 0, 0, "f16|bf16|f32|f64", NULL },
        { "decoder", 0, VCL_OPTION_TEXT, &job->decoder, 0, 0, NULL, NULL },
        { "threads", 'j', VCL_OPTION_INTEGER, &job->jobs, 0, 1024, NULL, NULL },
        VCL_READING_OPTIONS(&job->reading),
        { "json", 0, VCL_OPTION_FLAG, &job->json, 0, 0, NULL, NULL },
        { "quiet", 'q', VCL_OPTION_FLAG, &job->quiet, 0, 0, NULL, NULL },
        { 0 },
    };
    const int code = vcl_cli_parse(&vcl_verb_decompress, options, argc, argv, 1, 1, &operands, &count);
    if (code)
        return code;
    job->input = operands[0];
    job->dtype = vcl_float_choice(dtype);
    vcl_set_quiet(job->quiet);
    if (!job->output || !*job->output)
        return usage("-o OUTPUT is missing");
    if (job->rows && !job->tensor)
        return usage("--rows goes with --tensor NAME");
    if (strcmp(job->output, "-") == 0 && (!job->tensor || job->json))
        return usage("'-o -' writes the raw values of one --tensor, without --json");
    return VCL_EXIT_OK;
}

static int check_input(const struct vcl_decompress *job)
{
    if (vcl_model_is_compressed(job->model, 0)) /* then all shards are, or it would not have been opened */
        return VCL_EXIT_OK;
    vcl_say("%s: is not compressed", vcl_model_shard_path(job->model, 0));
    return VCL_EXIT_USAGE;
}

/* Bytes of all frames and of all tensors, for total_size in the index. */
static int sum_bytes(const struct vcl_decompress *job, uint64_t *frames, uint64_t *plain)
{
    *frames = *plain = 0;
    for (size_t i = 0; i < vcl_model_count(job->model); i++)
        *frames += vcl_model_entry(job->model, i)->bytes;
    for (size_t i = 0; i < vcl_model_shards(job->model); i++) {
        struct vcl_shard shard;
        const int code = vcl_shard_describe_plain(&shard, job->model, i, job->dtype);
        if (code)
            return code;
        *plain += vcl_shard_bytes(&shard);
        vcl_shard_free(&shard);
    }
    return VCL_EXIT_OK;
}

static int fill_folder(void *user, struct vcl_folder *folder)
{
    struct vcl_decompress *job = user;
    uint64_t frames, plain;
    int code = sum_bytes(job, &frames, &plain);
    if (!code)
        code = vcl_sides_restore(folder, frames, plain);
    for (size_t i = 0; i < vcl_model_shards(job->model) && !code; i++) {
        char *path = vcl_path_in(folder->partial, vcl_model_shard_name(job->model, i));
        code = vcl_decompress_shard(job, i, path, 1);
        free(path);
    }
    return code;
}

static int decompress_folder(struct vcl_decompress *job)
{
    struct vcl_folder folder;
    int code = vcl_folder_open(&folder, job->model, job->output, 0);
    if (!code)
        code = vcl_folder_write(&folder, job->force, fill_folder, job);
    vcl_folder_close(&folder);
    return code;
}

static int check_file_output(const struct vcl_decompress *job)
{
    struct stat in, out;
    if (strcmp(job->output, "-") == 0)
        return VCL_EXIT_OK;
    if (stat(job->output, &out))
        return errno == ENOENT ? VCL_EXIT_OK : vcl_tell(VCL_E_IO, "%s: %s", job->output, strerror(errno));
    if (S_ISDIR(out.st_mode))
        return vcl_tell(VCL_E_IO, "%s: is a folder", job->output);
    if (stat(job->input, &in) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
        return usage("input and output are the same file");
    return job->force ? VCL_EXIT_OK : vcl_tell(VCL_E_IO, "%s: is there already; -f replaces it", job->output);
}

static void report(const struct vcl_decompress *job, double seconds)
{
    if (job->json) {
        json_t *document = vcl_json_document("decompress");
        vcl_json_set(document, "input", vcl_json_text(job->input));
        vcl_json_set(document, "output", vcl_json_text(job->output));
        vcl_json_set(document, "tensors", json_integer((json_int_t)job->tensors));
        vcl_json_set(document, "bytes", json_integer((json_int_t)job->bytes));
        vcl_json_set(document, "seconds", vcl_json_real(seconds));
        vcl_json_print(document);
    } else if (!job->quiet && strcmp(job->output, "-") != 0) {
        printf("%s -> %s\n%zu tensors, %s in %s with %u threads, %.2f MB/s\n", job->input, job->output,
               job->tensors, vcl_words_size(job->bytes).text, vcl_words_time(seconds).text, job->work.threads,
               seconds > 0 ? (double)job->bytes / seconds / 1e6 : 0);
    }
}

static int decompress_model(struct vcl_decompress *job)
{
    const double started = vcl_seconds();
    const int to_folder = vcl_model_is_folder(job->model) && !job->tensor;
    uint64_t bytes = 0;
    int code = check_input(job);
    if (!code && !to_folder)
        code = check_file_output(job);
    if (!code)
        code = vcl_work_create(&job->work, vcl_cli_threads(job->jobs));
    if (code)
        return code;
    for (size_t i = 0; i < vcl_model_count(job->model); i++)
        bytes += vcl_model_entry(job->model, i)->bytes;
    if (!job->tensor)
        vcl_progress_start("decompress", vcl_model_count(job->model), bytes);
    code = job->tensor ? vcl_decompress_tensor(job)
         : to_folder   ? decompress_folder(job)
                       : vcl_decompress_shard(job, 0, job->output, job->force);
    vcl_progress_stop();
    if (code == VCL_EXIT_INTERRUPTED)
        vcl_say("interrupted; %s was not written", job->output);
    if (!code)
        report(job, vcl_seconds() - started);
    vcl_work_destroy(&job->work);
    return code;
}

static int run(int argc, char **argv)
{
    struct vcl_decompress job = { 0 };
    int code = read_options(&job, argc, argv);
    if (!code)
        code = vcl_cli_open(job.input, &job.reading, &job.model);
    if (code)
        return code;
    code = decompress_model(&job);
    vcl_model_close(job.model);
    return code;
}
