/* evaluate.c - the verb eval: perplexity of a model on a text, and what was lost against a baseline; or, by
 * choices.c, its answers to questions. */
#include <math.h>
#include <stdlib.h>

#include "choices.h"
#include "coded_cache.h"
#include "eval/eval.h"
#include "language.h"

static const char HELP[] =
    "usage: vcllm eval MODEL --text FILE|--tokens FILE|--choices FILE [--baseline MODEL2] [options]\n"
    "\n"
    "Perplexity of a model, compressed or not, on a text, with its standard error.  Against a baseline, the\n"
    "model it was made from, also: the paired difference, the Kullback-Leibler divergence of its "
    "predictions\n"
    "from the baseline's (in nats), and how often both find the same token likeliest.\n"
    "MODEL is a folder with config.json (LLaMA, Mistral, GPT-2, GPT-NeoX) and .safetensors files.  The text\n"
    "is read in windows, each from an empty context; a window of the default stride counts all its\n"
    "predictions.  Standard errors take the windows as the sample.  Figures are the same for any number of\n"
    "threads.\n"
    "With --kv-bits or --kv-recipe all keys and values of the model's cache go through coded pages, a "
    "token's\n"
    "own too; with --kv-recent the cache is kept as run keeps it.  Without another baseline it is compared\n"
    "with the same model without that.  Bits are of all bytes of the pages.\n"
    "With --choices instead: how often the model finds the right one of several choices the likeliest, by\n"
    "likelihood alone and by likelihood a byte.\n"
    "\n"
    "  vcllm eval my-model-3bit --text book.txt --baseline my-model\n"
    "  vcllm eval my-model --tokens book.u16 --context 512 --windows 40\n"
    "  vcllm eval my-model --text book.txt --kv-bits 2\n"
    "  vcllm eval my-model-3bit --choices arc-easy.jsonl --baseline my-model\n"
    "\n"
    "  --text FILE          UTF-8, encoded by the model's tokenizer.json\n"
    "  --tokens FILE        tokens, little-endian: FILE.u16 or FILE.u32\n"
    "  --choices FILE       a JSON object a line: \"context\", a text; \"choices\", texts to put behind it "
    "as they\n"
    "                       are; \"answer\", the number of the right one, from 0\n"
    "  --baseline MODEL2    a model of the same vocabulary\n"
    "  --context N          tokens a window reads (default: the model's context)\n"
    "  --stride N           from window to window (default: the context); a later window counts its last N\n"
    "                       predictions\n"
    "  --windows N          only N windows, spread evenly over the text\n"
    "  --kv-bits B          learn to code the cache at B bits a value, 0.1 to 8 (vcllm kv); with "
    "--kv-recent\n"
    "                       also 16: plain\n"
    "  --kv-recipe FILE     code it as a file of kv learn says\n"
    "  --kv-page N          tokens of a page, 1 to 256 (default 64)\n"
    "  --kv-exact-first N   keep a sequence's first N tokens as they are, 0 to 256, counted as 16 bits a\n"
    "                       value: many models' attention leans on them (default 0, 4 with --kv-recent)\n"
    "  --kv-recent N        keep the page being filled and N tokens before it as they are, 0 to 65536\n"
    "  --memory SIZE        decode up to SIZE of a compressed model's matrices, keep the rest coded; by\n"
    "                       default what products read as it is coded stays so, and all else is decoded\n"
    "  -j, --threads N      threads (default: all CPUs)\n"
    "  --json               one JSON document on standard output\n"
    "  -q, --quiet          no notes, no progress\n"
    "\n"
    "Exit codes: 0 done, 1 a file is broken or not supported, 2 usage, 3 input/output, 4 built without\n"
    "            utf8proc or LAPACK, 5 no step gives so many bits, 130 interrupted.\n";

static int run(int argc, char **argv);
const struct vcl_verb vcl_verb_eval = { "eval", "perplexity of a model on a text, or its answers", HELP,
                                        run };

/* What it took. */
struct cost {
    const struct vcl_network *network;
    double seconds;
    size_t read; /* tokens, of all windows; a baseline reads as many */
};

struct settings {
    const char *text, *tokens, *choices, *baseline;
    int context, stride, windows, jobs, json, quiet;
    struct vcl_cache_options kv;
    uint64_t memory;
};

/* Is every token coded, or does the cache keep what run keeps plain? */
static int codes_all(const struct settings *s) { return s->kv.recent == VCL_CACHE_NOT_GIVEN; }

/* ---- report ---------------------------------------------------------------------------------- */

static json_t *memory_json(const struct vcl_network *network)
{
    json_t *memory = json_object();
    vcl_json_set(memory, "weights", json_integer((json_int_t)vcl_store_bytes(network->store)));
    vcl_json_set(memory, "coded", json_integer((json_int_t)vcl_store_coded_bytes(network->store)));
    vcl_json_set(memory, "peak", json_integer((json_int_t)vcl_memory_peak()));
    return memory;
}

static void report_json(const char *model, const struct settings *s, const struct vcl_eval *e,
                        const struct vcl_coded_cache *cache, const struct cost *cost)
{
    json_t *document = vcl_json_document("eval");
    vcl_json_set(document, "model", vcl_json_text(model));
    vcl_json_set(document, "text", vcl_json_text(s->text ? s->text : s->tokens));
    vcl_json_set(document, "context", json_integer((json_int_t)e->context));
    vcl_json_set(document, "stride", json_integer((json_int_t)e->stride));
    vcl_json_set(document, "windows", json_integer((json_int_t)e->windows));
    vcl_json_set(document, "tokens", json_integer((json_int_t)e->tokens));
    vcl_cli_set_estimate(document, "perplexity", vcl_perplexity(e->nll));
    vcl_cli_set_estimate(document, "nll", e->nll);
    if (cache) {
        vcl_json_set(document, "kv_bits", vcl_json_real(vcl_cli_cache_bits(cache)));
        vcl_json_set(document, "kv_page", json_integer(s->kv.page));
        vcl_json_set(document, "kv_exact_first", json_integer(s->kv.first));
        vcl_json_set(document, "kv_recent", codes_all(s) ? json_null() : json_integer(s->kv.recent));
    }
    if (s->baseline || cache) {
        vcl_json_set(document, "baseline", vcl_json_text(s->baseline ? s->baseline : model));
        vcl_cli_set_estimate(document, "baseline_perplexity", vcl_perplexity(e->baseline_nll));
        vcl_cli_set_estimate(document, "nll_difference", e->difference);
        vcl_cli_set_estimate(document, "kl", e->kl);
        vcl_json_set(document, "kl_median", vcl_json_real(e->kl_median));
        vcl_json_set(document, "kl_99", vcl_json_real(e->kl_99));
        vcl_cli_set_estimate(document, "top1_agreement", e->top1);
    }
    vcl_json_set(document, "tokens_per_second", vcl_json_real((double)cost->read / cost->seconds));
    vcl_json_set(document, "memory", memory_json(cost->network));
    vcl_json_print(document);
}

static void print_estimate(const char *name, struct vcl_estimate e, double factor, int digits,
                           const char *unit)
{
    printf("%-15s %.*f", name, digits, e.mean * factor);
    if (isfinite(e.error))
        printf(" ± %.*f", digits, e.error * factor);
    printf("%s\n", unit);
}

static void print_cache(const struct settings *s, double bits)
{
    if (isnan(bits))
        printf("%-15s not coded, 16 bits a value\n", "KV cache");
    else
        printf("%-15s %.4f bits a value, in pages of %d tokens%s%s\n", "KV cache", bits, s->kv.page,
               s->kv.first > 0 ? ", the first tokens exact" : "",
               codes_all(s) ? "" : "; the page being filled is plain");
}

static void report_text(const struct settings *s, const struct vcl_eval *e,
                        const struct vcl_coded_cache *cache)
{
    print_estimate("perplexity", vcl_perplexity(e->nll), 1, 4, "");
    if (s->baseline || cache) {
        const struct vcl_estimate ratio = vcl_perplexity(e->difference);
        print_estimate("of the baseline", vcl_perplexity(e->baseline_nll), 1, 4, "");
        print_estimate("difference", (struct vcl_estimate){ ratio.mean - 1, ratio.error }, 100, 3, " %");
        print_estimate("  in nats", e->difference, 1, 6, " a token");
        print_estimate("KL divergence", e->kl, 1, 6, " nats");
        printf("%-15s %.6f median, %.6f at 99 %%\n", "", e->kl_median, e->kl_99);
        print_estimate("same top token", e->top1, 100, 2, " %");
    }
    if (cache)
        print_cache(s, vcl_cli_cache_bits(cache));
    printf("%zu predictions in %zu windows of %zu tokens, stride %zu\n", e->tokens, e->windows, e->context,
           e->stride);
}

static void note_cost(const struct cost *cost)
{
    char *memory = vcl_cli_memory_words(cost->network);
    vcl_note("%.1f tokens/s; %s", (double)cost->read / cost->seconds, memory);
    free(memory);
}

/* ---- work ------------------------------------------------------------------------------------ */

static int evaluate(const struct settings *s, const struct vcl_network *network,
                    const struct vcl_network *baseline, const struct vcl_coded_cache *cache,
                    const uint32_t *tokens, size_t count, struct vcl_eval *result)
{
    const struct vcl_eval_options options = { .context = (size_t)s->context,
                                              .stride = (size_t)s->stride,
                                              .windows = (size_t)s->windows,
                                              .cache = vcl_cli_cache_hook(cache),
                                              .progress = vcl_cli_on_tokens };
    struct vcl_error error = { 0 };
    enum vcl_status status = vcl_eval_plan(network, count, &options, result, &error);
    if (status == VCL_OK) {
        vcl_progress_start_tokens("eval", result->windows, result->windows * result->context);
        status = vcl_eval_run(network, baseline, tokens, count, &options, result, &error);
        vcl_progress_stop();
    }
    if (status == VCL_E_CANCELLED)
        vcl_say("interrupted");
    if (status == VCL_OK)
        return VCL_EXIT_OK;
    const char *fault = *vcl_cli_cache_fault(cache) ? vcl_cli_cache_fault(cache) : error.text;
    return vcl_tell(status, "%s: %s", s->text ? s->text : s->tokens, fault);
}

static int evaluate_tokens(const char *model, const struct settings *s, const struct vcl_network *network,
                           const struct vcl_network *baseline, const uint32_t *tokens, size_t count)
{
    const size_t positions = s->context ? (size_t)s->context : network->config.context;
    const int codes = vcl_cli_codes_cache(&s->kv);
    struct vcl_eval result = { 0 };
    struct vcl_coded_cache cache = { 0 };
    struct cost cost = { .network = network };
    int code = codes ? vcl_cli_open_cache(model, network, &s->kv, positions, &cache) : VCL_EXIT_OK;
    const double start = vcl_seconds();
    if (!code)
        code = evaluate(s, network, codes && !baseline ? network : baseline, &cache, tokens, count, &result);
    cost.seconds = vcl_seconds() - start;
    cost.read = result.windows * result.context;
    if (!code && s->json)
        report_json(model, s, &result, codes ? &cache : NULL, &cost);
    else if (!code) {
        report_text(s, &result, codes ? &cache : NULL);
        note_cost(&cost);
    }
    vcl_cli_close_cache(&cache);
    return code;
}

static int evaluate_text(const char *model, const struct settings *s, const struct vcl_network *network,
                         const struct vcl_network *baseline)
{
    uint32_t *tokens = NULL;
    size_t count = 0;
    int code = s->text ? vcl_cli_read_text(s->text, model, network, &tokens, &count)
                       : vcl_cli_read_tokens(s->tokens, &tokens, &count);
    if (!code)
        code = evaluate_tokens(model, s, network, baseline, tokens, count);
    free(tokens);
    return code;
}

/* Opens what is needed, evaluates, closes. */
static int evaluate_models(const char *model, const struct settings *s, struct vcl_pool *pool)
{
    struct vcl_network network = { 0 }, baseline = { 0 };
    const struct vcl_network *other = s->baseline ? &baseline : NULL;
    const struct vcl_cli_choices choices = { s->choices, model, s->baseline, s->json };
    int code = vcl_cli_network(model, pool, s->memory, &network);
    if (!code && s->baseline)
        code = vcl_cli_network(s->baseline, pool, s->memory, &baseline);
    if (!code && s->choices)
        code = vcl_cli_eval_choices(&choices, &network, other);
    else if (!code)
        code = evaluate_text(model, s, &network, other);
    vcl_network_close(&network);
    vcl_network_close(&baseline);
    return code;
}

static int run(int argc, char **argv)
{
    struct settings s = { .memory = VCL_MEMORY_DEFAULT, .kv = VCL_CACHE_DEFAULT };
    struct vcl_pool *pool;
    char **operands;
    int count;
    const struct vcl_option options[] = {
        { "text", 0, VCL_OPTION_TEXT, &s.text, 0, 0, NULL, NULL },
        { "tokens", 0, VCL_OPTION_TEXT, &s.tokens, 0, 0, NULL, NULL },
        { "choices", 0, VCL_OPTION_TEXT, &s.choices, 0, 0, NULL, NULL },
        { "baseline", 0, VCL_OPTION_TEXT, &s.baseline, 0, 0, NULL, NULL },
        { "context", 0, VCL_OPTION_INTEGER, &s.context, 1, 1 << 24, NULL, NULL },
        { "stride", 0, VCL_OPTION_INTEGER, &s.stride, 1, 1 << 24, NULL, NULL },
        { "windows", 0, VCL_OPTION_INTEGER, &s.windows, 1, 1 << 30, NULL, NULL },
        VCL_CACHE_OPTIONS(s.kv),
        { "memory", 0, VCL_OPTION_SIZE, &s.memory, 0, 0x1p62, NULL, NULL },
        { "threads", 'j', VCL_OPTION_INTEGER, &s.jobs, 0, 1024, NULL, NULL },
        { "json", 0, VCL_OPTION_FLAG, &s.json, 0, 0, NULL, NULL },
        { "quiet", 'q', VCL_OPTION_FLAG, &s.quiet, 0, 0, NULL, NULL },
        { 0 },
    };
    int code = vcl_cli_parse(&vcl_verb_eval, options, argc, argv, 1, 1, &operands, &count);
    vcl_set_quiet(s.quiet);
    if (!code && !!s.text + !!s.tokens + !!s.choices != 1)
        code = vcl_tell(VCL_E_ARGUMENT,
                        "eval takes one of --text, --tokens and --choices; see 'vcllm eval --help'");
    if (!code && s.choices && (s.context || s.stride || s.windows || vcl_cli_codes_cache(&s.kv)))
        code = vcl_tell(VCL_E_ARGUMENT,
                        "--context, --stride, --windows and --kv-... are of texts, not of --choices");
    if (!code)
        code = vcl_cli_check_cache(&s.kv);
    if (!code && s.kv.bits > 8 && codes_all(&s))
        code = vcl_tell(VCL_E_ARGUMENT, "--kv-bits 16 codes nothing; it goes with --kv-recent");
    vcl_cli_settle_cache(&s.kv);
    if (!code)
        code = vcl_cli_pool(s.jobs, &pool);
    if (code)
        return code;
    code = evaluate_models(operands[0], &s, pool);
    vcl_pool_destroy(pool);
    return code;
}
