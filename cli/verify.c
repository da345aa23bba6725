/* verify.c - the verb verify: every checksum of a compressed model, every tile decoded.
 *
 * It goes on after a fault, says each on stderr with its place, and fails at the end. */
#include <stdlib.h>

#include "check.h"
#include "folder.h"

static const char HELP[] =
    "usage: vcllm verify INPUT [options]\n"
    "\n"
    "Checks a compressed model: the hash over names, shapes and metadata, the hashes of the files beside\n"
    "the shards, every frame's header, the checksums of every tile's bytes and of its decoded values.\n"
    "Goes on after a fault and lists all of them on standard error.\n"
    "A file that is not compressed has no checksums; then only its structure is checked.\n"
    "\n"
    "  vcllm verify small.safetensors\n"
    "  vcllm verify my-model-3bit/ && echo good\n"
    "\n"
    "  --decoder NAME       libavcodec's decoder; see 'vcllm codecs'\n"
    "  -j, --threads N      threads (default: all CPUs)\n" VCL_READING_HELP
    "  --json               one JSON document on standard output\n"
    "  -q, --quiet          no summary\n"
    "\n"
    "Exit codes: 0 good, 1 a fault was found, 2 usage, 3 input/output, 4 codec missing, 130 interrupted.\n";

static int run(int argc, char **argv);
const struct vcl_verb vcl_verb_verify = { "verify", "check every checksum and decode everything", HELP, run };

struct verification {
    const struct vcl_model *model;
    struct vcl_check check;
    size_t sides, faults; /* faults outside tensors */
};

static int verify_containers(struct verification *v, size_t *compressed)
{
    v->faults = vcl_headers_verify(v->model, compressed);
    return *compressed && vcl_model_is_folder(v->model) ? vcl_sides_verify(v->model, &v->sides, &v->faults)
                                                        : VCL_EXIT_OK;
}

/* What decompress restores by; only where all else is good, or the same faults would be told twice. */
static void verify_originals(struct verification *v)
{
    struct vcl_error error = { 0 };
    for (size_t i = 0; i < vcl_model_shards(v->model); i++)
        if (vcl_model_is_compressed(v->model, i) && vcl_model_check_original(v->model, i, &error) != VCL_OK) {
            vcl_tell(error.status, "%s", error.text);
            v->faults++;
        }
}

static int verify_tensors(struct verification *v, int jobs)
{
    struct vcl_work work;
    uint64_t bytes = 0;
    int code = vcl_work_create(&work, vcl_cli_threads(jobs));
    if (code)
        return code;
    for (size_t i = 0; i < vcl_model_count(v->model); i++)
        bytes += vcl_model_entry(v->model, i)->bytes;
    vcl_progress_start("verify", vcl_model_count(v->model), bytes);
    code = vcl_check_tensors(&v->check, &work);
    vcl_progress_stop();
    vcl_work_destroy(&work);
    return code;
}

static size_t count_bad(const struct verification *v)
{
    size_t bad = 0;
    for (size_t i = 0; i < vcl_model_count(v->model); i++)
        bad += v->check.bad[i];
    return bad;
}

static void report_json(const struct verification *v, const char *input, int compressed)
{
    json_t *document = vcl_json_document("verify"), *names = json_array();
    for (size_t i = 0; i < vcl_model_count(v->model); i++)
        if (v->check.bad[i])
            vcl_json_append(names, vcl_json_text(vcl_model_entry(v->model, i)->name));
    vcl_json_set(document, "input", vcl_json_text(input));
    vcl_json_set(document, "compressed", json_boolean(compressed));
    vcl_json_set(document, "tensors", json_integer((json_int_t)v->check.checked));
    vcl_json_set(document, "side_files", json_integer((json_int_t)v->sides));
    vcl_json_set(document, "faults", json_integer((json_int_t)(v->faults + count_bad(v))));
    vcl_json_set(document, "bad_tensors", names);
    vcl_json_print(document);
}

static void report_text(const struct verification *v, const char *input, int compressed)
{
    const size_t faults = v->faults + count_bad(v);
    if (!compressed)
        printf("%s: not compressed: there are no checksums to verify; its structure is right (%zu tensors)\n",
               input, vcl_model_count(v->model));
    else if (faults)
        printf("%s: faults: %zu in %zu tensors and %zu side files\n", input, faults, v->check.checked,
               v->sides);
    else
        printf("%s: good: %zu tensors and %zu side files checked\n", input, v->check.checked, v->sides);
}

static int run(int argc, char **argv)
{
    struct vcl_reading reading = { 0 };
    struct verification v = { 0 };
    struct vcl_model *model;
    size_t compressed;
    int jobs = 0, json = 0, quiet = 0, count;
    char **operands;
    const struct vcl_option options[] = {
        { "decoder", 0, VCL_OPTION_TEXT, &v.check.decoder, 0, 0, NULL, NULL },
        { "threads", 'j', VCL_OPTION_INTEGER, &jobs, 0, 1024, NULL, NULL },
        VCL_READING_OPTIONS(&reading),
        { "json", 0, VCL_OPTION_FLAG, &json, 0, 0, NULL, NULL },
        { "quiet", 'q', VCL_OPTION_FLAG, &quiet, 0, 0, NULL, NULL },
        { 0 },
    };
    int code = vcl_cli_parse(&vcl_verb_verify, options, argc, argv, 1, 1, &operands, &count);
    vcl_set_quiet(quiet);
    if (!code)
        code = vcl_cli_open_any(operands[0], &reading, &model);
    if (code)
        return code;

    v.model = v.check.model = model;
    v.check.bad = vcl_zeros(vcl_model_count(model), 1);
    v.check.progress = 1;
    code = verify_containers(&v, &compressed);
    if (!code)
        code = verify_tensors(&v, jobs);
    if (!code && v.faults + count_bad(&v) == 0)
        verify_originals(&v);
    if (code == VCL_EXIT_INTERRUPTED)
        vcl_say("interrupted after %zu tensors", v.check.checked);
    else if (!code && json)
        report_json(&v, operands[0], compressed > 0);
    else if (!code && !quiet)
        report_text(&v, operands[0], compressed > 0);
    if ((!code || code == VCL_EXIT_CODEC) && v.faults + count_bad(&v))
        code = VCL_EXIT_FAILED;
    free(v.check.bad);
    vcl_model_close(model);
    return code;
}
