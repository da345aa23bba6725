/* compress_options.c - the verb compress: its options, its help, and what it does one after the other. */
#include <math.h>

#include "packing.h"

static const char HELP[] =
    "usage: vcllm compress INPUT -o OUTPUT [options]\n"
    "\n"
    "Compresses a model: a .safetensors or .gguf file to a .safetensors file, a folder of shards (or its\n"
    "index file) to a folder.  Quantised tensors of a GGUF file have the values that ggml gives them.\n"
    "The output is a valid .safetensors file too; every tensor in it is a checksummed frame.\n"
    "\n"
    "  vcllm compress model.safetensors -o small.safetensors\n"
    "  vcllm compress my-model/ -o my-model-3bit/ --bits 3 -j 8\n"
    "  vcllm compress model.safetensors -o small.safetensors --size 300MB\n"
    "  vcllm compress model.safetensors -o small.safetensors --rule 'embed|lm_head=4.5' --rule '^h.0=copy'\n"
    "\n"
    "How far (one of these; --bits 2.9 if none is given):\n"
    "  --bits B             at most B bits per value, over the tensors that are coded lossily (0.01 to 64)\n"
    "  --size SIZE          at most SIZE for all output shards together: 4GiB, 300MB\n"
    "  --snr DB             at least this signal-to-noise ratio for every tensor coded lossily (-10 to 200)\n"
    "  --max-error E        no value coded lossily off by more than E (tensor codec)\n"
    "  --lossless           keep every tensor exactly, in fewer bytes where they allow it; decompress gives\n"
    "                       back the input byte for byte\n"
    "\n"
    "Which tensors: by default those with rank 0 or 1 (dimensions of 1 do not count), fewer than 4096\n"
    "values, or a dtype other than F16, BF16, F32 and F64 are kept exactly, whatever their names; so are\n"
    "modules quantised already, with scales, zero points and codebooks, and routers: matrices named gate\n"
    "or router with as many rows as config.json says that there are experts.\n"
    "  --rule 'REGEX=WHAT'  for tensors whose name matches (PCRE2's expressions, unanchored; what POSIX\n"
    "                       extended ones have means the same, '\\b' is a word's boundary); WHAT\n"
    "                       is a number of bits, snr:DB, error:E, lossless, or copy: exact, byte for byte "
    "as\n"
    "                       they are, where lossless also saves space.\n"
    "                       Split at the last '='; the first rule that matches wins; repeat as you like.\n"
    "                       Dtypes that are no float stay exact under every rule.\n"
    "  --rules FILE         the same, one rule a line; lines that start with # are comments\n"
    "\n"
    "Where the bits go, for folders of models that 'vcllm run' knows:\n"
    "  --allocate self      more bits where errors change more of what the model predicts in text that it\n"
    "                       writes itself; errors are fed back by the moments of each matrix' inputs\n"
    "  --allocate depth     bits that rise or fall with the layer, by the slope whose noise changes least\n"
    "  --allocate fixed     the same for every tensor\n"
    "  --allocate auto      (default) self where that takes about ten minutes of a thread or less, else\n"
    "                       depth; fixed for --objective mse and where the model cannot be run, which a\n"
    "                       note says.  Tensors with a rule keep to it; the sum stays what was asked for\n"
    "  --imatrix FILE       an importance matrix of llama.cpp (GGUF or .dat): errors become small where the\n"
    "                       inputs were large on its text; no model is run for that.  With self its mean\n"
    "                       squares replace those of the model's own text\n"
    "  --row-floor DB       each row of an embedding keeps about DB dB against itself, 0 (no floor) to 60, "
    "where\n"
    "                       one step for all makes zeros of rows far below the others, which pay for it.\n"
    "                       Default: 10 where row norms differ by more than a factor of 4 and no --imatrix "
    "or\n"
    "                       self shapes the errors, else none, nor where rows are all zero, which come\n"
    "                       back as something small.  Embeddings: wte, wpe, shared, names with embed, embd\n"
    "\n"
    "How:\n"
    "  --codec NAME         tensor (default), h265 or h264\n"
    "  --objective WHAT     model (default): unbiased errors, right for weights; mse: least squared error\n"
    "                       (tensor codec)\n"
    "  --effort 1..9        fast to thorough (default 5)\n"
    "  --encoder NAME       h265, h264: libavcodec's encoder, e.g. hevc_nvenc; see 'vcllm codecs'\n"
    "  --decoder NAME       h265, h264: libavcodec's decoder, with which the result is checked\n"
    "  --transpose          tensor codec: code the matrices' transposes, right for weights stored (in, out)\n"
    "                       as GPT-2's are\n"
    "  --rotate             spread outliers with a randomised Hadamard transform before coding\n"
    "  --seed N             of the rotation's signs (default 1)\n"
    "  --row-scales         h265, h264: one range per matrix row instead of one per tensor\n"
    "  --depth 8|10|12      h265, h264: bits of the quantised range (default: as few as the target allows)\n"
    "  --chroma gray|420    h265, h264: 420 adds constant chroma, for hardware without monochrome (default "
    "gray)\n"
    "\n"
    "Running:\n"
    "  -o, --output PATH    where to; written under a temporary name and renamed when complete\n"
    "  -f, --force          replace an existing output\n"
    "  --resume             continue a folder that was interrupted (OUTPUT.partial)\n"
    "  --dry-run            say what would be done to each tensor, sizes, memory and time; write nothing\n"
    "  -j, --threads N      threads (default: all CPUs)\n" VCL_READING_HELP
    "  --json               one JSON document on standard output\n"
    "  -q, --quiet          no warnings, no summary      -v, --verbose  a line per tensor\n"
    "\n"
    "Exit codes: 0 ok, 1 corrupt or failed, 2 usage, 3 input/output, 4 codec missing, 5 a target cannot be\n"
    "            met, 130 interrupted.\n";

static int run(int argc, char **argv);
const struct vcl_verb vcl_verb_compress = { "compress", "compress a model", HELP, run };

struct asked { /* options that need a second look */
    double bits, snr, error, seed;
    int lossless, codec, objective, depth, chroma, allocate;
};

static int add_rule(void *rules, const char *text)
{
    return vcl_exit_of(vcl_rules_add(vcl_cli_errand(), rules, text, "--rule"));
}

static int read_rules(void *rules, const char *path)
{
    return vcl_exit_of(vcl_rules_read(vcl_cli_errand(), rules, path));
}

static int parse(struct vcl_packing *job, struct asked *asked, int argc, char **argv)
{
    struct vcl_params *params = &job->c.policy.params;
    const struct vcl_option options[] = {
        { "output", 'o', VCL_OPTION_OUTPUT, &job->c.output, 0, 0, NULL, NULL },
        { "bits", 0, VCL_OPTION_NUMBER, &asked->bits, 0.01, 64, NULL, NULL },
        { "size", 0, VCL_OPTION_SIZE, &job->c.policy.size, 1, 0x1p62, NULL, NULL },
        { "snr", 0, VCL_OPTION_NUMBER, &asked->snr, -10, 200, NULL, NULL },
        { "max-error", 0, VCL_OPTION_NUMBER, &asked->error, 0x1p-149, 0x1p127, NULL, NULL },
        { "lossless", 0, VCL_OPTION_FLAG, &asked->lossless, 0, 0, NULL, NULL },
        { "rule", 0, VCL_OPTION_EACH, &job->c.policy.rules, 0, 0, NULL, add_rule },
        { "rules", 0, VCL_OPTION_EACH, &job->c.policy.rules, 0, 0, NULL, read_rules },
        { "codec", 0, VCL_OPTION_CHOICE, &asked->codec, 0, 0, "tensor|h265|h264", NULL },
        { "objective", 0, VCL_OPTION_CHOICE, &asked->objective, 0, 0, "model|mse", NULL },
        { "imatrix", 0, VCL_OPTION_TEXT, &job->c.policy.imatrix, 0, 0, NULL, NULL },
        { "allocate", 0, VCL_OPTION_CHOICE, &asked->allocate, 0, 0, "auto|fixed|depth|self", NULL },
        { "effort", 0, VCL_OPTION_INTEGER, &params->effort, 1, 9, NULL, NULL },
        { "encoder", 0, VCL_OPTION_TEXT, &params->encoder, 0, 0, NULL, NULL },
        { "decoder", 0, VCL_OPTION_TEXT, &params->decoder, 0, 0, NULL, NULL },
        { "transpose", 0, VCL_OPTION_FLAG, &params->transpose, 0, 0, NULL, NULL },
        { "row-floor", 0, VCL_OPTION_NUMBER, &job->c.policy.row_floor, 0, 60, NULL, NULL },
        { "rotate", 0, VCL_OPTION_FLAG, &params->rotate, 0, 0, NULL, NULL },
        { "seed", 0, VCL_OPTION_NUMBER, &asked->seed, 0, 4294967295.0, NULL, NULL },
        { "row-scales", 0, VCL_OPTION_FLAG, &params->row_scales, 0, 0, NULL, NULL },
        { "depth", 0, VCL_OPTION_CHOICE, &asked->depth, 0, 0, "8|10|12", NULL },
        { "chroma", 0, VCL_OPTION_CHOICE, &asked->chroma, 0, 0, "gray|420", NULL },
        { "threads", 'j', VCL_OPTION_INTEGER, &job->jobs, 0, 1024, NULL, NULL },
        VCL_READING_OPTIONS(&job->c.reading),
        { "dry-run", 0, VCL_OPTION_FLAG, &job->dry_run, 0, 0, NULL, NULL },
        { "json", 0, VCL_OPTION_FLAG, &job->json, 0, 0, NULL, NULL },
        { "resume", 0, VCL_OPTION_FLAG, &job->c.resume, 0, 0, NULL, NULL },
        { "force", 'f', VCL_OPTION_FLAG, &job->c.force, 0, 0, NULL, NULL },
        { "quiet", 'q', VCL_OPTION_FLAG, &job->quiet, 0, 0, NULL, NULL },
        { "verbose", 'v', VCL_OPTION_FLAG, &job->verbose, 0, 0, NULL, NULL },
        { 0 },
    };
    char **operands;
    int count;
    const int code = vcl_cli_parse(&vcl_verb_compress, options, argc, argv, 1, 1, &operands, &count);
    if (!code)
        job->c.input = operands[0];
    return code;
}

static int usage(const char *message)
{
    vcl_say("compress: %s; see 'vcllm compress --help'", message);
    return VCL_EXIT_USAGE;
}

/* Options that would do nothing are refused: who gives one expects something of it. */
static int check_codec(const struct vcl_packing *job, const struct asked *asked)
{
    const struct vcl_params *params = &job->c.policy.params;
    const int video = asked->codec != 0;
    if (!video
        && (params->row_scales || asked->depth >= 0 || asked->chroma >= 0 || params->encoder
            || params->decoder))
        return usage(
            "--row-scales, --depth, --chroma, --encoder and --decoder are of the codecs h265 and h264; "
            "the tensor codec has scales of rows and columns of its own");
    if (video && (params->transpose || asked->objective >= 0 || !isnan(asked->error)))
        return usage("--transpose, --objective and --max-error are of the tensor codec");
    if (params->rotate && !isnan(asked->error))
        return usage("--max-error bounds each value's error, which --rotate would spread");
    return !params->rotate && !isnan(asked->seed) ? usage("--seed is of the signs of --rotate") : VCL_EXIT_OK;
}

/* By rate, the codec's own steps, and rows that stay rows. */
static int check_floor(const struct vcl_packing *job, const struct asked *asked)
{
    if (job->c.policy.row_floor > 0
        && (!isnan(asked->snr) || !isnan(asked->error) || asked->lossless || asked->codec
            || job->c.policy.params.rotate))
        return usage("--row-floor goes with --bits and --size, the tensor codec, and without --rotate");
    return VCL_EXIT_OK;
}

static int check(struct vcl_packing *job, const struct asked *asked)
{
    const struct vcl_rules *rules = &job->c.policy.rules;
    if (!isnan(asked->bits) + !isnan(asked->snr) + !isnan(asked->error) + (job->c.policy.size > 0)
            + asked->lossless
        > 1)
        return usage("only one of --bits, --size, --snr, --max-error and --lossless can be given");
    if (job->c.output ? !*job->c.output : !job->dry_run)
        return usage("-o OUTPUT is missing");
    if (asked->allocate > VCL_ALLOCATE_FIXED
        && (!isnan(asked->snr) || !isnan(asked->error) || asked->lossless))
        return usage("--allocate shares out bits: it goes with --bits and --size");
    if (job->c.policy.imatrix
        && (!isnan(asked->snr) || !isnan(asked->error) || asked->lossless || asked->codec
            || job->c.policy.params.rotate))
        return usage("--imatrix goes with --bits and --size, the tensor codec, and without --rotate");
    for (size_t i = 0; i < rules->count; i++) {
        if (job->c.policy.size && !rules->at[i].exact && rules->at[i].goal != VCL_GOAL_BITS)
            return usage(
                "--size cannot be combined with a snr: or error: rule, whose size is not known beforehand");
        if (asked->codec && !rules->at[i].exact && rules->at[i].goal == VCL_GOAL_ERROR)
            return usage("error: rules are of the tensor codec");
    }
    const int code = check_floor(job, asked);
    return code ? code : check_codec(job, asked);
}

static int read_options(struct vcl_packing *job, int argc, char **argv)
{
    static const int depths[] = { 8, 10, 12 };
    static const enum vcl_codec codecs[] = { VCL_CODEC_TENSOR, VCL_CODEC_H265, VCL_CODEC_H264 };
    struct vcl_params *params = &job->c.policy.params;
    struct asked asked = {
        .bits = NAN, .snr = NAN, .error = NAN, .seed = NAN, .objective = -1, .depth = -1, .chroma = -1
    };

    vcl_params_init(params);
    job->c.policy.row_floor = -1;
    int code = parse(job, &asked, argc, argv);
    if (!code)
        code = check(job, &asked);
    if (code)
        return code;
    params->codec = codecs[asked.codec];
    params->objective = asked.objective > 0 ? VCL_OBJECTIVE_MSE : VCL_OBJECTIVE_MODEL;
    params->seed = isnan(asked.seed) ? 1 : (uint32_t)asked.seed;
    params->depth = asked.depth < 0 ? 0 : depths[asked.depth];
    params->chroma = asked.chroma > 0 ? 420 : 400;
    params->goal = !isnan(asked.snr) ? VCL_GOAL_SNR : !isnan(asked.error) ? VCL_GOAL_ERROR : VCL_GOAL_BITS;
    params->target = !isnan(asked.snr)   ? asked.snr
                   : !isnan(asked.error) ? asked.error
                   : !isnan(asked.bits)  ? asked.bits
                                         : 2.9;
    job->c.policy.allocate = asked.allocate;
    job->allocation.how = (enum vcl_allocate)asked.allocate;
    if (job->allocation.how == VCL_ALLOCATE_AUTO && params->objective == VCL_OBJECTIVE_MSE)
        job->allocation.how = VCL_ALLOCATE_FIXED;
    job->allocation.dry_run = job->dry_run;
    job->c.threads = (unsigned)job->jobs;
    job->c.policy.lossless = asked.lossless;
    vcl_set_quiet(job->quiet);
    return VCL_EXIT_OK;
}

/* Targets and costs that --imatrix and --allocate know of. */
static enum vcl_status allot(void *user, struct vcl_compress *c)
{
    struct vcl_packing *job = user;
    enum vcl_status status = VCL_OK;
    if (c->policy.imatrix)
        status = vcl_choose_inputs(c->model, c->policy.imatrix, c->choices, &job->allocation.importance);
    if (!c->is_folder)
        job->allocation.how = VCL_ALLOCATE_FIXED;
    if (!status && job->allocation.how != VCL_ALLOCATE_FIXED)
        status =
            vcl_allocate_model(&job->allocation, c->model, c->input, &c->policy.params, c->choices, &c->work);
    return status;
}

static int check_allocate(const struct vcl_packing *job)
{
    if (job->c.is_folder || job->allocation.how == VCL_ALLOCATE_AUTO
        || job->allocation.how == VCL_ALLOCATE_FIXED)
        return VCL_EXIT_OK;
    vcl_say("compress: --allocate runs the model: it takes a folder with config.json, which 'vcllm convert' "
            "makes of a GGUF file");
    return VCL_EXIT_USAGE;
}

static int decide(struct vcl_packing *job)
{
    int code = vcl_exit_of(vcl_compress_open(&job->c));
    if (!code)
        code = check_allocate(job);
    if (code)
        return code;
    code = vcl_exit_of(vcl_compress_decide(&job->c));
    if (code == VCL_EXIT_INTERRUPTED)
        vcl_say("interrupted; nothing was written");
    return code;
}

static int encode(struct vcl_packing *job)
{
    const int code = vcl_exit_of(vcl_compress_write(&job->c));
    if (code == VCL_EXIT_INTERRUPTED && !job->c.is_folder)
        vcl_say("interrupted; %s was not written", job->c.output);
    return code ? code : vcl_packing_report(job);
}

static int run(int argc, char **argv)
{
    struct vcl_packing job = { .c = { .job = vcl_cli_errand() }, .started = vcl_seconds() };
    int code = read_options(&job, argc, argv);
    job.c.user = &job;
    job.c.allot = allot;
    job.c.on_tensor = job.verbose && !job.json ? vcl_packing_print_line : NULL;
    if (job.dry_run)
        job.c.output = NULL;
    if (!code)
        code = decide(&job);
    if (!code)
        code = job.dry_run ? vcl_packing_plan(&job) : encode(&job);
    vcl_compress_release(&job.c);
    vcl_allocation_release(&job.allocation);
    vcl_rules_free(&job.c.policy.rules);
    return code;
}
