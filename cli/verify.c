/* verify.c - the verb verify: its options, and what it reports. */
#include "cli.h"
#include "jobs/verify.h"

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

static void report_json(const struct vcl_verification *v)
{
    json_t *document = vcl_json_document("verify"), *names = json_array();
    for (size_t i = 0; i < vcl_model_count(v->model); i++)
        if (v->check.bad[i])
            vcl_json_append(names, vcl_json_text(vcl_model_entry(v->model, i)->name));
    vcl_json_set(document, "input", vcl_json_text(v->input));
    vcl_json_set(document, "compressed", json_boolean(v->compressed));
    vcl_json_set(document, "tensors", json_integer((json_int_t)v->check.checked));
    vcl_json_set(document, "side_files", json_integer((json_int_t)v->sides));
    vcl_json_set(document, "faults", json_integer((json_int_t)(vcl_verify_faults(v))));
    vcl_json_set(document, "bad_tensors", names);
    vcl_json_print(document);
}

static void report_text(const struct vcl_verification *v)
{
    const size_t faults = vcl_verify_faults(v);
    if (!v->compressed)
        printf("%s: not compressed: there are no checksums to verify; its structure is right (%zu tensors)\n",
               v->input, vcl_model_count(v->model));
    else if (faults)
        printf("%s: faults: %zu in %zu tensors and %zu side files\n", v->input, faults, v->check.checked,
               v->sides);
    else
        printf("%s: good: %zu tensors and %zu side files checked\n", v->input, v->check.checked, v->sides);
}

static int run(int argc, char **argv)
{
    struct vcl_verification v = { .job = vcl_cli_errand() };
    int jobs = 0, json = 0, quiet = 0, count;
    char **operands;
    const struct vcl_option options[] = {
        { "decoder", 0, VCL_OPTION_TEXT, &v.check.decoder, 0, 0, NULL, NULL },
        { "threads", 'j', VCL_OPTION_INTEGER, &jobs, 0, 1024, NULL, NULL },
        VCL_READING_OPTIONS(&v.reading),
        { "json", 0, VCL_OPTION_FLAG, &json, 0, 0, NULL, NULL },
        { "quiet", 'q', VCL_OPTION_FLAG, &quiet, 0, 0, NULL, NULL },
        { 0 },
    };
    int code = vcl_cli_parse(&vcl_verb_verify, options, argc, argv, 1, 1, &operands, &count);
    vcl_set_quiet(quiet);
    if (code)
        return code;

    v.input = operands[0];
    v.threads = (unsigned)jobs;
    code = vcl_exit_of(vcl_verify_run(&v));
    if (code == VCL_EXIT_INTERRUPTED)
        vcl_say("interrupted after %zu tensors", v.check.checked);
    else if (!code && json)
        report_json(&v);
    else if (!code && !quiet)
        report_text(&v);
    if ((!code || code == VCL_EXIT_CODEC) && vcl_verify_faults(&v))
        code = VCL_EXIT_FAILED;
    vcl_verify_release(&v);
    return code;
}
