/* run.c - the verb run: a text continued by a model, as it comes. */
#include <stdlib.h>
#include <string.h>

#include "coded_cache.h"
#include "language.h"
#include "net/forward.h"
#include "net/sample.h"

static const char HELP[] =
    "usage: vcllm run MODEL -p TEXT [options]\n"
    "\n"
    "Continues a text by a model, compressed or not, and prints the continuation as it comes.\n"
    "MODEL is a folder with config.json (LLaMA, Mistral, GPT-2, GPT-NeoX), tokenizer.json (BPE, of bytes or\n"
    "as SentencePiece makes it) and .safetensors files.\n"
    "Statistics go to standard error.  The same seed gives the same text, for any number of threads.\n"
    "\n"
    "  vcllm run models/tiny-llama -p 'It was a dark and'\n"
    "  vcllm run my-model-3bit -p 'Dear Sir,' --tokens 200 --temperature 0\n"
    "\n"
    "  -p, --prompt TEXT    the text to continue; or\n"
    "  --prompt-file FILE   a file with it, UTF-8\n"
    "  --tokens N           most tokens to generate (default 128; 0: none); the model's context and its\n"
    "                       end-of-text token end it sooner\n"
    "  --temperature T      0 (always the likeliest token) to 10, default 0.8\n"
    "  --top-p P            draw from the likeliest tokens that hold this share, default 0.95\n"
    "  --seed N             of the draws, default 1\n"
    "  --kv-bits B          keep the keys and values of all tokens read so far, the cache, coded at B bits\n"
    "                       a value, 0.1 to 8, learned first; 16: as 16-bit floats (default: 32-bit ones)\n"
    "  --kv-recipe FILE     code them as a file of 'vcllm kv learn' says, which is learned once\n"
    "  --kv-page N          tokens that are coded together, 1 to 256 (default 64); until they are so many\n"
    "                       they stay plain, at 16 bits\n"
    "  --kv-exact-first N   keep the first N tokens plain, 0 to 256 (default 4): attention leans on them\n"
    "  --kv-recent N        keep N tokens before the page being filled plain, 0 to 65536 (default 0)\n"
    "  --cache-save FILE    write the prompt's cache, once it is read, with --kv-recipe or --kv-bits 16\n"
    "  --cache-load FILE    take of such a file what the prompt begins with, and read only the rest; with\n"
    "                       the same --kv-recipe\n"
    "  -f, --force          let --cache-save replace a file\n"
    "  --memory SIZE        decode up to SIZE of a compressed model's matrices, keep the rest coded; by\n"
    "                       default what products read as it is coded stays so, and all else is decoded\n"
    "  -j, --threads N      threads (default: all CPUs)\n"
    "  -q, --quiet          no statistics\n"
    "\n"
    "Exit codes: 0 done, 1 a file is broken or not supported, 2 usage, 3 input/output, 4 built without\n"
    "            utf8proc, 130 interrupted.\n";

static int run(int argc, char **argv);
const struct vcl_verb vcl_verb_run = { "run", "continue a text by a model", HELP, run };

struct generation {
    struct vcl_network network;
    struct vcl_tokenizer *tokenizer;
    struct vcl_forward *forward;
    struct vcl_cache_options kv;
    struct vcl_coded_cache cache;
    const char *prompt_file, *cache_load, *cache_save;
    int force;
    size_t kept; /* tokens of the prompt that a loaded cache has */
    struct vcl_sampler sampler;
    float *hidden, *logits;
    uint32_t *prompt;
    size_t prompt_tokens, most, made;
    double prefill, decode; /* seconds */
};

static int read_prompt(struct generation *g, const char *model, const char *text)
{
    enum { LIMIT = 1 << 28 };
    struct vcl_error error = { 0 };
    const size_t context = g->network.config.context;
    void *bytes = NULL;
    size_t n = text ? strlen(text) : 0;
    const int code = vcl_cli_tokenizer(model, &g->network, &g->tokenizer);
    if (code)
        return code;
    if (g->prompt_file && vcl_read_file(g->prompt_file, LIMIT, &bytes, &n, &error) != VCL_OK)
        return vcl_tell(error.status, "%s", error.text);
    const enum vcl_status status =
        vcl_tokenizer_encode(g->tokenizer, bytes ? bytes : text, n, &g->prompt, &g->prompt_tokens, &error);
    free(bytes);
    if (status != VCL_OK)
        return vcl_tell(status, "%s %s", g->prompt_file ? g->prompt_file : "the prompt", error.text);
    vcl_cli_note_left_out(model, g->tokenizer);
    if (g->prompt_tokens == 0)
        return vcl_tell(VCL_E_ARGUMENT, "the prompt is empty");
    if (g->prompt_tokens >= context)
        return vcl_tell(VCL_E_ARGUMENT, "the prompt has %zu tokens; the model's context is %zu",
                        g->prompt_tokens, context);
    if (g->most > context - g->prompt_tokens)
        g->most = context - g->prompt_tokens;
    return VCL_EXIT_OK;
}

static int prepare(struct generation *g, const char *model)
{
    struct vcl_error error = { 0 };
    const struct vcl_config *c = &g->network.config;
    const size_t positions = g->prompt_tokens + g->most;
    int code = VCL_EXIT_OK;
    if (g->cache_load)
        code = vcl_cli_load_cache(model, &g->network, &g->kv, g->cache_load, g->prompt, g->prompt_tokens,
                                  positions, &g->cache, &g->kept);
    else if (vcl_cli_codes_cache(&g->kv))
        code = vcl_cli_open_cache(model, &g->network, &g->kv, positions, &g->cache);
    if (code)
        return code;
    const enum vcl_status status =
        vcl_forward_create_hooked(&g->network, positions, vcl_cli_cache_hook(&g->cache), &g->forward, &error);
    if (status != VCL_OK)
        return vcl_tell(status, "%s", error.text);
    vcl_forward_rewind(g->forward, g->kept);
    g->hidden = vcl_zeros(g->prompt_tokens, c->width * sizeof(float));
    g->logits = vcl_zeros(c->vocab, sizeof(float));
    return vcl_sampler_create(&g->sampler, c->vocab) ? VCL_EXIT_OK : vcl_tell(VCL_E_MEMORY, "out of memory");
}

/* The logits after the last of n tokens. */
static enum vcl_status read_tokens(struct generation *g, const uint32_t *tokens, size_t n)
{
    const enum vcl_status status = vcl_forward_read(g->forward, tokens, n, g->hidden);
    if (status != VCL_OK)
        return status;
    return vcl_forward_logits(g->forward, g->hidden + (n - 1) * g->network.config.width, 1, g->logits);
}

static int ends(const struct generation *g, uint32_t token)
{
    const struct vcl_config *c = &g->network.config;
    for (size_t i = 0; i < c->eos_count; i++)
        if (c->eos[i] == token)
            return 1;
    return 0;
}

/* 0 where standard output is closed. */
static int print_token(const struct generation *g, uint32_t token)
{
    size_t n;
    const char *bytes = vcl_tokenizer_bytes(g->tokenizer, token, &n);
    return (n == 0 || fwrite(bytes, 1, n, stdout) == n) && fflush(stdout) == 0;
}

static int tell_failure(const struct generation *g, enum vcl_status status)
{
    const char *fault = vcl_cli_cache_fault(&g->cache);
    return vcl_tell(status, "%s", *fault ? fault : vcl_store_words(g->network.store, status));
}

/* The prompt, but for what a loaded cache has of it; then its cache is saved. */
static int read_rest(struct generation *g)
{
    struct vcl_error error = { 0 };
    const double start = vcl_seconds();
    const enum vcl_status status = read_tokens(g, g->prompt + g->kept, g->prompt_tokens - g->kept);
    g->prefill = vcl_seconds() - start;
    if (status != VCL_OK)
        return tell_failure(g, status);
    if (g->cache_save && vcl_paged_save(g->cache.paged, g->prompt, g->cache_save, g->force, &error) != VCL_OK)
        return vcl_tell(error.status, "%s", error.text);
    return VCL_EXIT_OK;
}

static int generate(struct generation *g)
{
    const double begun = vcl_seconds();
    enum vcl_status status = VCL_OK;
    while (status == VCL_OK && g->made < g->most && !vcl_interrupted()) {
        const uint32_t token = vcl_sample(&g->sampler, g->logits);
        if (ends(g, token) || !print_token(g, token))
            break;
        if (++g->made < g->most)
            status = read_tokens(g, &token, 1);
    }
    g->decode = vcl_seconds() - begun;
    putchar('\n');
    fflush(stdout); /* before the statistics */
    if (status != VCL_OK)
        return tell_failure(g, status);
    return vcl_interrupted() ? VCL_EXIT_INTERRUPTED : VCL_EXIT_OK;
}

static void report(const struct generation *g)
{
    char *memory = vcl_cli_memory_words(&g->network);
    if (g->kept > 0)
        vcl_note("%s: had %zu of the prompt's %zu tokens", g->cache_load, g->kept, g->prompt_tokens);
    vcl_note("prompt: %zu tokens, %.1f tokens/s; generated: %zu tokens, %.1f tokens/s; %s",
             g->prompt_tokens - g->kept, (double)(g->prompt_tokens - g->kept) / g->prefill, g->made,
             g->decode > 0 ? (double)g->made / g->decode : 0, memory);
    free(memory);
    if (g->cache.paged)
        vcl_cli_note_cache(&g->cache, &g->network);
}

static void release(struct generation *g)
{
    vcl_sampler_destroy(&g->sampler);
    vcl_forward_destroy(g->forward);
    vcl_cli_close_cache(&g->cache);
    vcl_tokenizer_close(g->tokenizer);
    vcl_network_close(&g->network);
    free(g->hidden);
    free(g->logits);
    free(g->prompt);
}

static int check_settings(const struct generation *g, const char *prompt)
{
    const struct vcl_cache_options *kv = &g->kv;
    if (!prompt == !g->prompt_file)
        return vcl_tell(VCL_E_ARGUMENT,
                        "run takes a text: -p TEXT or --prompt-file FILE; see 'vcllm run --help'");
    if (g->cache_load && (kv->bits > 0 || kv->page || kv->first >= 0 || kv->recent >= 0))
        return vcl_tell(VCL_E_ARGUMENT,
                        "how a loaded cache is kept is in its file: of --kv-... only --kv-recipe goes "
                        "with --cache-load");
    if (g->cache_save && !g->cache_load && !kv->recipe && kv->bits <= 8)
        return vcl_tell(VCL_E_ARGUMENT,
                        "--cache-save takes --kv-recipe FILE, which loading will need again, or "
                        "--kv-bits 16");
    const int code = g->cache_save ? vcl_cli_check_output(g->cache_save, g->force) : VCL_EXIT_OK;
    return code ? code : vcl_cli_check_cache(kv);
}

static int run(int argc, char **argv)
{
    struct generation g = { .sampler = { .temperature = 0.8, .top_p = 0.95 }, .kv = VCL_CACHE_DEFAULT };
    const char *prompt = NULL;
    struct vcl_pool *pool = NULL;
    char **operands;
    int count, tokens = 128, seed = 1, jobs = 0, quiet = 0;
    uint64_t memory = VCL_MEMORY_DEFAULT;
    const struct vcl_option options[] = {
        { "prompt", 'p', VCL_OPTION_TEXT, &prompt, 0, 0, NULL, NULL },
        { "tokens", 0, VCL_OPTION_INTEGER, &tokens, 0, 1 << 24, NULL, NULL },
        { "temperature", 0, VCL_OPTION_NUMBER, &g.sampler.temperature, 0, 10, NULL, NULL },
        { "top-p", 0, VCL_OPTION_NUMBER, &g.sampler.top_p, 1e-6, 1, NULL, NULL },
        { "seed", 0, VCL_OPTION_INTEGER, &seed, 0, 2147483647, NULL, NULL },
        VCL_CACHE_OPTIONS(g.kv),
        { "prompt-file", 0, VCL_OPTION_TEXT, &g.prompt_file, 0, 0, NULL, NULL },
        { "cache-save", 0, VCL_OPTION_OUTPUT, &g.cache_save, 0, 0, NULL, NULL },
        { "cache-load", 0, VCL_OPTION_TEXT, &g.cache_load, 0, 0, NULL, NULL },
        { "force", 'f', VCL_OPTION_FLAG, &g.force, 0, 0, NULL, NULL },
        { "memory", 0, VCL_OPTION_SIZE, &memory, 0, 0x1p62, NULL, NULL },
        { "threads", 'j', VCL_OPTION_INTEGER, &jobs, 0, 1024, NULL, NULL },
        { "quiet", 'q', VCL_OPTION_FLAG, &quiet, 0, 0, NULL, NULL },
        { 0 },
    };
    int code = vcl_cli_parse(&vcl_verb_run, options, argc, argv, 1, 1, &operands, &count);
    vcl_set_quiet(quiet);
    if (!code)
        code = check_settings(&g, prompt);
    if (!code)
        code = vcl_cli_pool(jobs, &pool);
    if (code)
        return code;
    g.most = (size_t)tokens;
    g.sampler.state = (uint64_t)seed;
    g.kv.recent = g.kv.recent == VCL_CACHE_NOT_GIVEN ? 0 : g.kv.recent;
    vcl_cli_settle_cache(&g.kv);
    code = vcl_cli_network(operands[0], pool, memory, &g.network);
    if (!code)
        code = read_prompt(&g, operands[0], prompt);
    if (!code)
        code = prepare(&g, operands[0]);
    if (!code)
        code = read_rest(&g);
    if (!code)
        code = generate(&g);
    if (!code)
        report(&g);
    release(&g);
    vcl_pool_destroy(pool);
    return code;
}
