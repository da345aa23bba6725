/* convert.c - the verb convert: a GGUF file to a folder that transformers, and `vcllm run`, can open.
 *
 * First all that the folder will say is made from the metadata, so that a model which cannot be converted is
 * refused before anything is written; then the weights follow. */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "convert.h"

static const char HELP[] =
    "usage: vcllm convert MODEL.gguf -o FOLDER [options]\n"
    "\n"
    "Makes a Hugging Face folder of a GGUF file: model.safetensors, config.json, generation_config.json,\n"
    "tokenizer.json, tokenizer_config.json.  Quantised tensors have the values that ggml gives them; names\n"
    "and the order of rows are those of the checkpoint that the file was made from.  Architectures: llama\n"
    "(with what calls itself so, Mistral and SmolLM for instance), qwen2, gpt2; tokenizers: gpt2 with the\n"
    "splittings gpt-2, smollm, llama-bpe, qwen2, and llama (SentencePiece).  First every tensor is held\n"
    "against the shape that the keys give it; what has no place in the folder is refused by name.\n"
    "\n"
    "  vcllm convert smollm2.Q4_1.gguf -o smollm2/\n"
    "  vcllm run smollm2/ --prompt 'Once upon a time'\n"
    "  vcllm compress smollm2/ -o small/ --bits 2.9\n"
    "\n"
    "  -o, --output PATH    where to; built as PATH.partial and renamed when complete\n"
    "  -f, --force          replace an existing output that has no other files than will be written\n"
    "  --dtype f16|bf16|f32 write float tensors so (default: quantised ones as f32, which holds each value\n"
    "                       exactly, MXFP4 as bf16, others as they are)\n" VCL_READING_HELP
    "  --json               one JSON document on standard output\n"
    "  -q, --quiet          no warnings, no summary\n"
    "\n"
    "Exit codes: 0 ok, 1 corrupt or not supported, 2 usage, 3 input/output, 130 interrupted.\n";

static int run(int argc, char **argv);
const struct vcl_verb vcl_verb_convert = { "convert", "make a Hugging Face folder of a GGUF file", HELP,
                                           run };

static const char WEIGHTS[] = "model.safetensors";

static int read_options(struct vcl_convert *job, int argc, char **argv)
{
    int dtype = -1, count;
    char **operands;
    const struct vcl_option options[] = {
        { "output", 'o', VCL_OPTION_OUTPUT, &job->output, 0, 0, NULL, NULL },
        { "force", 'f', VCL_OPTION_FLAG, &job->force, 0, 0, NULL, NULL },
        { "dtype", 0, VCL_OPTION_CHOICE, &dtype, 0, 0, "f16|bf16|f32", NULL },
        VCL_READING_OPTIONS(&job->reading),
        { "json", 0, VCL_OPTION_FLAG, &job->json, 0, 0, NULL, NULL },
        { "quiet", 'q', VCL_OPTION_FLAG, &job->quiet, 0, 0, NULL, NULL },
        { 0 },
    };
    const int code = vcl_cli_parse(&vcl_verb_convert, options, argc, argv, 1, 2, &operands, &count);
    if (code)
        return code;
    job->input = operands[0];
    job->dtype = vcl_float_choice(dtype);
    vcl_set_quiet(job->quiet);
    if (count > 1)
        vcl_say("convert: the output is told by -o: vcllm convert %s -o %s", operands[0], operands[1]);
    else if (job->output && *job->output)
        return VCL_EXIT_OK;
    else
        vcl_say("convert: -o FOLDER is missing; see 'vcllm convert --help'");
    return VCL_EXIT_USAGE;
}

static int write_side(const char *folder, const char *name, const json_t *root)
{
    struct vcl_error error = { 0 };
    char *path = vcl_text("%s/%s", folder, name),
         *text = vcl_dump(root, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    const enum vcl_status status = text ? vcl_write_file(path, text, strlen(text), 1, &error) : VCL_E_MEMORY;
    free(text);
    free(path);
    return status == VCL_OK ? VCL_EXIT_OK : vcl_tell(status, "%s", error.text);
}

static int fill_folder(void *user, struct vcl_folder *folder)
{
    struct vcl_convert *job = user;
    const char *name;
    json_t *root;
    int code = VCL_EXIT_OK;
    json_object_foreach(job->sides, name, root)
    {
        if (!code && strcmp(name, WEIGHTS) != 0)
            code = write_side(folder->partial, name, root);
    }
    char *path = vcl_text("%s/%s", folder->partial, WEIGHTS);
    if (!code)
        code = vcl_convert_weights(job, path);
    free(path);
    return code;
}

static int write_folder(struct vcl_convert *job)
{
    struct vcl_folder folder;
    vcl_json_set(job->sides, WEIGHTS, json_true());
    int code = vcl_exit_of(vcl_folder_make(&folder, vcl_cli_errand(), job->model, job->output, job->sides));
    if (!code)
        code = vcl_cli_folder_write(&folder, job->force, fill_folder, job);
    vcl_folder_close(&folder);
    return code;
}

static void report(const struct vcl_convert *job, double seconds)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < job->count; i++)
        bytes += job->tensors[i].bytes;
    if (job->json) {
        json_t *document = vcl_json_document("convert");
        vcl_json_set(document, "input", vcl_json_text(job->input));
        vcl_json_set(document, "output", vcl_json_text(job->output));
        vcl_json_set(document, "architecture", vcl_json_text(job->metadata.architecture));
        vcl_json_set(document, "tensors", json_integer((json_int_t)job->count));
        vcl_json_set(document, "bytes", json_integer((json_int_t)bytes));
        vcl_json_set(document, "seconds", vcl_json_real(seconds));
        vcl_json_print(document);
    } else if (!job->quiet)
        printf("%s -> %s\n%s, %zu tensors, %s in %s\n", job->input, job->output, job->metadata.architecture,
               job->count, vcl_words_size(bytes).text, vcl_words_time(seconds).text);
}

static int check_input(const struct vcl_convert *job)
{
    struct stat status;
    if (stat(job->input, &status) || !S_ISDIR(status.st_mode))
        return VCL_EXIT_OK;
    vcl_say("%s: is a folder; convert takes one GGUF file", job->input);
    return VCL_EXIT_USAGE;
}

static void check_type(struct vcl_metadata *m)
{
    const char *type = vcl_metadata_text(m, "general.type");
    if (type && strcmp(type, "model") != 0)
        vcl_metadata_fault(m, "the key 'general.type' is '%.60s': the file holds no model", type);
}

static int open_model(struct vcl_convert *job)
{
    const char *key;
    struct vcl_value value;
    int code = check_input(job);
    if (!code)
        code = vcl_cli_open(job->input, &job->reading, &job->model);
    if (code)
        return code;
    if (!vcl_model_value_at(job->model, 0, 0, &key, &value)) {
        vcl_say("%s: is no GGUF file with metadata; convert takes nothing else", job->input);
        return VCL_EXIT_USAGE;
    }
    vcl_metadata_open(&job->metadata, job->model);
    check_type(&job->metadata);
    return job->metadata.code;
}

static int convert(struct vcl_convert *job)
{
    const double started = vcl_seconds();
    uint64_t bytes = 0;
    int code = open_model(job);
    if (!code)
        code = vcl_convert_config(job);
    if (!code)
        code = vcl_convert_tokenizer(job);
    if (code)
        return code;
    for (size_t i = 0; i < job->count; i++)
        bytes += job->tensors[i].from->bytes;
    vcl_progress_start("convert", job->count, bytes);
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
    struct vcl_convert job = { 0 };
    int code = read_options(&job, argc, argv);
    if (code)
        return code;
    job.sides = json_object();
    code = convert(&job);
    for (size_t i = 0; i < job.count; i++)
        free(job.tensors[i].name);
    free(job.tensors);
    json_decref(job.sides);
    vcl_model_close(job.model);
    return code;
}
