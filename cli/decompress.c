/* decompress.c - the verb decompress: its options, and what it reports. */
#include <string.h>

#include "restore.h"

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

static int read_options(struct vcl_restore *job, int argc, char **argv)
{
    int dtype = -1, count;
    char **operands;
    const struct vcl_option options[] = {
        { "output", 'o', VCL_OPTION_TEXT, &job->decompress.output, 0, 0, NULL, NULL },
        { "force", 'f', VCL_OPTION_FLAG, &job->decompress.force, 0, 0, NULL, NULL },
        { "tensor", 0, VCL_OPTION_TEXT, &job->tensor, 0, 0, NULL, NULL },
        { "rows", 0, VCL_OPTION_TEXT, &job->rows, 0, 0, NULL, NULL },
        { "dtype", 0, VCL_OPTION_CHOICE, &dtype, 0, 0, "f16|bf16|f32|f64", NULL },
        { "decoder", 0, VCL_OPTION_TEXT, &job->decompress.decoder, 0, 0, NULL, NULL },
        { "threads", 'j', VCL_OPTION_INTEGER, &job->jobs, 0, 1024, NULL, NULL },
        VCL_READING_OPTIONS(&job->decompress.reading),
        { "json", 0, VCL_OPTION_FLAG, &job->json, 0, 0, NULL, NULL },
        { "quiet", 'q', VCL_OPTION_FLAG, &job->quiet, 0, 0, NULL, NULL },
        { 0 },
    };
    const int code = vcl_cli_parse(&vcl_verb_decompress, options, argc, argv, 1, 1, &operands, &count);
    if (code)
        return code;
    job->decompress.input = operands[0];
    job->decompress.dtype = vcl_float_choice(dtype);
    job->decompress.threads = (unsigned)job->jobs;
    vcl_set_quiet(job->quiet);
    if (!job->decompress.output || !*job->decompress.output)
        return usage("-o OUTPUT is missing");
    if (job->rows && !job->tensor)
        return usage("--rows goes with --tensor NAME");
    if (strcmp(job->decompress.output, "-") == 0 && (!job->tensor || job->json))
        return usage("'-o -' writes the raw values of one --tensor, without --json");
    return VCL_EXIT_OK;
}

static void report(const struct vcl_restore *job, double seconds)
{
    const struct vcl_decompress *d = &job->decompress;
    if (job->json) {
        json_t *document = vcl_json_document("decompress");
        vcl_json_set(document, "input", vcl_json_text(d->input));
        vcl_json_set(document, "output", vcl_json_text(d->output));
        vcl_json_set(document, "tensors", json_integer((json_int_t)d->tensors));
        vcl_json_set(document, "bytes", json_integer((json_int_t)d->bytes));
        vcl_json_set(document, "seconds", vcl_json_real(seconds));
        vcl_json_print(document);
    } else if (!job->quiet && strcmp(d->output, "-") != 0) {
        printf("%s -> %s\n%zu tensors, %s in %s with %u threads, %.2f MB/s\n", d->input, d->output,
               d->tensors, vcl_words_size(d->bytes).text, vcl_words_time(seconds).text, d->work.threads,
               seconds > 0 ? (double)d->bytes / seconds / 1e6 : 0);
    }
}

static int restore(struct vcl_restore *job)
{
    const double started = vcl_seconds();
    struct vcl_decompress *d = &job->decompress;
    int code = vcl_exit_of(vcl_decompress_open(d));
    if (code)
        return code;
    code = job->tensor ? vcl_restore_tensor(job) : vcl_exit_of(vcl_decompress_write(d));
    if (code == VCL_EXIT_INTERRUPTED)
        vcl_say("interrupted; %s was not written", d->output);
    if (!code)
        report(job, vcl_seconds() - started);
    return code;
}

static int run(int argc, char **argv)
{
    struct vcl_restore job = { .decompress = { .job = vcl_cli_errand() } };
    int code = read_options(&job, argc, argv);
    if (code)
        return code;
    code = restore(&job);
    vcl_decompress_release(&job.decompress);
    return code;
}
