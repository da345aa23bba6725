/* cache_recipe.c - the verb kv: learns how a model's KV cache is to be coded, and says what a recipe
 * holds. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "cache/learn.h"
#include "cache/paged.h"
#include "cache_recipe.h"

static const char HELP[] =
    "usage: vcllm kv learn MODEL --bits B -o FILE [options]\n"
    "       vcllm kv info FILE [--json]\n"
    "       vcllm kv verify FILE\n"
    "\n"
    "A model's keys and values take most of the memory of a long text, and a few bits each are enough for\n"
    "them.  learn finds out how they are to be coded: the model writes a text itself, 24 times 256 tokens,\n"
    "and every layer gets a basis in which its values are independent and errors cost alike, as the\n"
    "gradients of the model's own predictions tell; one step of all makes the rate.  The recipe is for\n"
    "this model and for compressed copies of it.  MODEL is a folder with config.json (LLaMA, Mistral,\n"
    "GPT-2, GPT-NeoX) and .safetensors files, compressed or not.\n"
    "info says what a recipe holds, or a cache that 'vcllm run --cache-save' wrote; verify checks either.\n"
    "\n"
    "  vcllm kv learn my-model --bits 2 -o my-model.kv\n"
    "  vcllm kv info my-model.kv\n"
    "  vcllm eval my-model --text book.txt --kv-recipe my-model.kv\n"
    "\n"
    "  --bits B             bits a value, 0.1 to 8, of all layers' keys and values together\n"
    "  -o, --output FILE    where to; written under a temporary name and renamed when complete\n"
    "  -f, --force          replace an existing file\n"
    "  --metric fisher|local\n"
    "                       what errors cost: by gradients (default), or by each layer's own queries and\n"
    "                       output matrix, which takes half the time and loses more\n"
    "  --parts joint|apart  a layer's keys and values in one basis (default), or in one each, of half the\n"
    "                       size and half the work, which loses twice as much\n"
    "  --seed N             of the text (default 1)\n"
    "  --memory SIZE        decode up to SIZE of a compressed model's matrices; see eval\n"
    "  -j, --threads N      threads (default: all CPUs)\n"
    "  --json               one JSON document on standard output\n"
    "  -q, --quiet          no notes, no progress\n"
    "\n"
    "Exit codes: 0 done, 1 a file is broken or not supported, 2 usage, 3 input/output, 4 built without\n"
    "            LAPACK, 5 no step gives so many bits, 130 interrupted.\n";

static int run(int argc, char **argv);
const struct vcl_verb vcl_verb_kv = { "kv", "learn how a model's KV cache is coded", HELP, run };

enum { SEQUENCES = 24, LENGTH = 256 };
static const uint64_t FILE_LIMIT = (uint64_t)1 << 34;

struct kv_settings {
    const char *output;
    struct vcl_cache_lesson lesson;
    uint64_t memory;
    int force, jobs, json, quiet;
};

/* ---- recipes --------------------------------------------------------------------------------- */

void vcl_cli_free_cache_recipe(struct vcl_cache_recipe *recipe)
{
    vcl_kv_recipe_destroy(recipe->recipe);
    vcl_context_destroy(recipe->ctx);
}

static int create_context(struct vcl_cache_recipe *to)
{
    const struct vcl_options options = { .size = sizeof options, .cancel = vcl_interrupt_poll };
    const enum vcl_status status = vcl_context_create(&options, &to->ctx);
    return status == VCL_OK ? VCL_EXIT_OK : vcl_tell(status, "%s", vcl_status_text(status));
}

/* The last name of a folder's path. */
static char *name_of(const char *folder)
{
    char *path = realpath(folder, NULL), *slash = path ? strrchr(path, '/') : NULL;
    char *name = vcl_text("%.255s", slash ? slash + 1 : "");
    free(path);
    return name;
}

static int on_tokens(void *user, size_t tokens)
{
    (void)user;
    vcl_progress_add(0, tokens);
    return vcl_interrupted();
}

int vcl_cli_learn_cache(const char *folder, const struct vcl_network *network,
                        const struct vcl_cache_lesson *lesson, struct vcl_cache_recipe *to)
{
    char *name = name_of(folder);
    const struct vcl_learn_options options = {
        .sequences = SEQUENCES,
        .length = network->config.context < LENGTH ? network->config.context : LENGTH,
        .seed = (uint64_t)lesson->seed,
        .apart = lesson->apart,
        .local = lesson->local,
        .bits = lesson->bits,
        .model = name,
        .watch = { on_tokens, NULL },
    };
    struct vcl_error error = { 0 };
    double bits;
    int code = create_context(to);
    if (!code) {
        vcl_progress_start_tokens("learn", SEQUENCES, vcl_facts_work(&options));
        const enum vcl_status status =
            vcl_learn_cache(network, &options, to->ctx, &to->recipe, &bits, &error);
        vcl_progress_stop();
        if (status == VCL_E_CANCELLED)
            vcl_say("interrupted");
        if (status != VCL_OK)
            code = vcl_tell(status, "%s: %s", folder, error.text);
    }
    free(name);
    return code;
}

int vcl_cli_read_cache_recipe(const char *path, struct vcl_cache_recipe *to)
{
    struct vcl_error error = { 0 };
    void *bytes;
    size_t n;
    const int code = create_context(to);
    if (code)
        return code;
    if (vcl_read_file(path, FILE_LIMIT, &bytes, &n, &error) != VCL_OK)
        return vcl_tell(error.status, "%s", error.text);
    const enum vcl_status status = vcl_kv_recipe_load(to->ctx, bytes, n, &to->recipe);
    free(bytes);
    return status == VCL_OK ? VCL_EXIT_OK : vcl_tell(status, "%s: %s", path, vcl_context_message(to->ctx));
}

static int write_recipe(const struct kv_settings *s, const struct vcl_kv_recipe *recipe)
{
    struct vcl_kv_recipe_info info = { .size = sizeof info };
    struct vcl_error error = { 0 };
    vcl_kv_recipe_describe(recipe, &info);
    size_t size = info.bytes;
    void *bytes = vcl_zeros(size, 1);
    enum vcl_status status = vcl_kv_recipe_save(recipe, bytes, &size);
    if (status == VCL_OK)
        status = vcl_write_file(s->output, bytes, size, s->force, &error);
    free(bytes);
    return status == VCL_OK ? VCL_EXIT_OK : vcl_tell(status, "%s", error.text);
}

/* ---- report ---------------------------------------------------------------------------------- */

static void report_json(const char *path, const struct vcl_kv_recipe_info *info, const char *hash)
{
    json_t *document = vcl_json_document("kv");
    vcl_json_set(document, "file", vcl_json_text(path));
    vcl_json_set(document, "model", vcl_json_text(info->identity.model));
    vcl_json_set(document, "revision", vcl_json_text(info->identity.revision));
    vcl_json_set(document, "rope", vcl_json_text(info->identity.rope));
    vcl_json_set(document, "layout", vcl_json_text(info->identity.layout));
    vcl_json_set(document, "layers", json_integer(info->shape.layers));
    vcl_json_set(document, "heads", json_integer(info->shape.heads));
    vcl_json_set(document, "key_dim", json_integer(info->shape.key_dim));
    vcl_json_set(document, "value_dim", json_integer(info->shape.value_dim));
    vcl_json_set(document, "parts", json_integer((json_int_t)info->parts));
    vcl_json_set(document, "step", vcl_json_real(info->step));
    vcl_json_set(document, "bytes", json_integer((json_int_t)info->bytes));
    vcl_json_set(document, "hash", vcl_json_text(hash));
    vcl_json_print(document);
}

static void print_text(const char *name, const char *text)
{
    printf("%-9s ", name);
    vcl_print_name(text, 0);
    putchar('\n');
}

static void report(const char *path, const struct vcl_kv_recipe *recipe, int json)
{
    struct vcl_kv_recipe_info info = { .size = sizeof info };
    char hash[17];
    vcl_kv_recipe_describe(recipe, &info);
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)info.hash);
    if (json) {
        report_json(path, &info, hash);
        return;
    }
    const struct vcl_kv_shape *shape = &info.shape;
    print_text("model", info.identity.model);
    print_text("revision", info.identity.revision);
    print_text("rope", info.identity.rope);
    print_text("layout", info.identity.layout);
    printf("cache     %lu layers of %lu heads, keys of %lu, values of %lu\n", (unsigned long)shape->layers,
           (unsigned long)shape->heads, (unsigned long)shape->key_dim, (unsigned long)shape->value_dim);
    printf("parts     %zu, keys and values %s\n", info.parts,
           info.parts == shape->layers       ? "together"
           : info.parts == 2 * shape->layers ? "apart"
                                             : "mixed");
    printf("step      %.6g\n", info.step);
    printf("recipe    %s, %zu bytes\n", hash, info.bytes);
}

/* ---- work ------------------------------------------------------------------------------------ */

static int learn_opened(const char *folder, const struct kv_settings *s, struct vcl_pool *pool)
{
    struct vcl_network network = { 0 };
    struct vcl_cache_recipe recipe = { 0 };
    int code = vcl_cli_network(folder, pool, s->memory, &network);
    if (!code)
        code = vcl_cli_learn_cache(folder, &network, &s->lesson, &recipe);
    if (!code)
        code = write_recipe(s, recipe.recipe);
    if (!code && (s->json || !s->quiet))
        report(s->output, recipe.recipe, s->json);
    vcl_cli_free_cache_recipe(&recipe);
    vcl_network_close(&network);
    return code;
}

static int learn(const char *folder, const struct kv_settings *s)
{
    struct vcl_pool *pool;
    if (!s->output || s->lesson.bits == 0) {
        vcl_say("kv learn: --bits B and -o FILE are needed; see 'vcllm kv --help'");
        return VCL_EXIT_USAGE;
    }
    int code = vcl_cli_check_output(s->output, s->force);
    if (!code)
        code = vcl_cli_pool(s->jobs, &pool);
    if (code)
        return code;
    code = learn_opened(folder, s, pool);
    vcl_pool_destroy(pool);
    return code;
}

/* ---- files ------------------------------------------------------------------------------------ */

/* A safetensors file begins with its header's length, below 2^32. */
static int is_cache(const char *path)
{
    unsigned char head[9] = { 0 };
    FILE *file = fopen(path, "rb");
    const size_t n = file ? fread(head, 1, sizeof head, file) : 0;
    if (file)
        fclose(file);
    return n == sizeof head && head[8] == '{' && !(head[4] | head[5] | head[6] | head[7]);
}

static void report_saved_json(const char *path, const struct vcl_saved *saved)
{
    json_t *document = vcl_json_document("kv");
    vcl_json_set(document, "file", vcl_json_text(path));
    vcl_json_set(document, "revision", vcl_json_text(saved->revision));
    vcl_json_set(document, "rope", vcl_json_text(saved->rope));
    vcl_json_set(document, "layout", vcl_json_text(saved->layout));
    vcl_json_set(document, "recipe", vcl_json_text(saved->recipe));
    vcl_json_set(document, "tokens", json_integer((json_int_t)saved->tokens));
    vcl_json_set(document, "page", json_integer(saved->plan.page));
    vcl_json_set(document, "exact_first", json_integer(saved->plan.first));
    vcl_json_set(document, "recent", json_integer(saved->plan.recent));
    vcl_json_set(document, "pages", json_integer((json_int_t)saved->pages));
    vcl_json_set(document, "page_bytes", json_integer((json_int_t)saved->page_bytes));
    vcl_json_set(document, "plain_bytes", json_integer((json_int_t)saved->plain_bytes));
    vcl_json_set(document, "bytes", json_integer((json_int_t)saved->bytes));
    vcl_json_print(document);
}

static void report_saved(const struct vcl_saved *saved)
{
    const size_t coded = saved->pages * saved->plan.page;
    print_text("revision", saved->revision);
    print_text("rope", saved->rope);
    print_text("layout", saved->layout);
    print_text("recipe", *saved->recipe ? saved->recipe : "none: not coded");
    printf("cache     %zu tokens, the first %lu and %lu recent ones plain\n", saved->tokens,
           (unsigned long)saved->plan.first, (unsigned long)saved->plan.recent);
    printf("pages     %zu of %lu tokens, %s", saved->pages, (unsigned long)saved->plan.page,
           vcl_words_size(saved->page_bytes).text);
    if (coded > 0)
        printf(", %s a token", vcl_words_size(saved->page_bytes / coded).text);
    printf("\nplain     %zu tokens, %s\n", saved->tokens - (coded < saved->tokens ? coded : saved->tokens),
           vcl_words_size(saved->plain_bytes).text);
    printf("file      %s\n", vcl_words_size(saved->bytes).text);
}

static int tell(const char *path, const struct kv_settings *s, int verify)
{
    struct vcl_cache_recipe recipe = { 0 };
    struct vcl_error error = { 0 };
    struct vcl_saved saved;
    int code = VCL_EXIT_OK;
    if (is_cache(path)) {
        if (vcl_saved_read(path, &saved, &error) != VCL_OK)
            return vcl_tell(error.status, "%s", error.text);
        if (!verify && s->json)
            report_saved_json(path, &saved);
        else if (!verify)
            report_saved(&saved);
    } else {
        code = vcl_cli_read_cache_recipe(path, &recipe);
        if (!code && !verify)
            report(path, recipe.recipe, s->json);
        vcl_cli_free_cache_recipe(&recipe);
    }
    if (!code && verify && !s->quiet)
        printf("%s: good\n", path);
    return code;
}

static int run(int argc, char **argv)
{
    struct kv_settings s = { .memory = VCL_MEMORY_DEFAULT, .lesson = { .seed = 1 } };
    char **operands;
    int count;
    const struct vcl_option options[] = {
        { "bits", 0, VCL_OPTION_NUMBER, &s.lesson.bits, 0.1, 8, NULL, NULL },
        { "output", 'o', VCL_OPTION_OUTPUT, &s.output, 0, 0, NULL, NULL },
        { "force", 'f', VCL_OPTION_FLAG, &s.force, 0, 0, NULL, NULL },
        { "metric", 0, VCL_OPTION_CHOICE, &s.lesson.local, 0, 0, "fisher|local", NULL },
        { "parts", 0, VCL_OPTION_CHOICE, &s.lesson.apart, 0, 0, "joint|apart", NULL },
        { "seed", 0, VCL_OPTION_NUMBER, &s.lesson.seed, 0, 4294967295.0, NULL, NULL },
        { "memory", 0, VCL_OPTION_SIZE, &s.memory, 0, 0x1p62, NULL, NULL },
        { "threads", 'j', VCL_OPTION_INTEGER, &s.jobs, 0, 1024, NULL, NULL },
        { "json", 0, VCL_OPTION_FLAG, &s.json, 0, 0, NULL, NULL },
        { "quiet", 'q', VCL_OPTION_FLAG, &s.quiet, 0, 0, NULL, NULL },
        { 0 },
    };
    const int code = vcl_cli_parse(&vcl_verb_kv, options, argc, argv, 2, 2, &operands, &count);
    vcl_set_quiet(s.quiet);
    if (code)
        return code;
    if (strcmp(operands[0], "learn") == 0)
        return learn(operands[1], &s);
    if (strcmp(operands[0], "info") == 0 || strcmp(operands[0], "verify") == 0)
        return tell(operands[1], &s, operands[0][0] == 'v');
    vcl_say("kv does 'learn', 'info' and 'verify', not '%s'; see 'vcllm kv --help'", operands[0]);
    return VCL_EXIT_USAGE;
}
