/* codecs.c - the verb codecs: what really works on this machine, found by coding a picture with each. */
#include "cli.h"

static const char HELP[] =
    "usage: vcllm codecs [--json]\n"
    "\n"
    "Tries every encoder and decoder this program knows by coding a picture with it, and says which work\n"
    "here and why the others do not.  Names in the first column are for --encoder and --decoder; without\n"
    "these options the first that works is used, in the order of the list.\n"
    "\n"
    "  vcllm codecs\n"
    "  vcllm codecs --json | jq -r '.backends[] | select(.works) | .name'\n"
    "\n"
    "Exit codes: 0 ok, 2 usage, 4 the video module cannot be loaded.\n";

static int run(int argc, char **argv);
const struct vcl_verb vcl_verb_codecs = { "codecs", "which encoders and decoders work here, and why not",
                                          HELP, run };

static const char UNPROVEN[] = "unproven: it has not run on the machines this project is tested on";

static void print_backend(void *user, const struct vcl_backend *backend)
{
    (void)user;
    printf("%-14s %-8s %-8s %-9s %-5s ", backend->name, vcl_codec_name(backend->codec),
           backend->encodes ? "encoder" : "decoder", backend->hardware ? "hardware" : "software",
           backend->works ? "yes" : "no");
    vcl_print_name(backend->detail ? backend->detail : "", 0);
    if (backend->hardware && !backend->works)
        printf(" (%s)", UNPROVEN);
    putchar('\n');
}

static void add_backend(void *user, const struct vcl_backend *backend)
{
    json_t *object = json_object();
    vcl_json_set(object, "name", vcl_json_text(backend->name));
    vcl_json_set(object, "codec", json_string(vcl_codec_name(backend->codec)));
    vcl_json_set(object, "role", json_string(backend->encodes ? "encoder" : "decoder"));
    vcl_json_set(object, "hardware", json_boolean(backend->hardware));
    vcl_json_set(object, "works", json_boolean(backend->works));
    vcl_json_set(object, "unproven", json_boolean(backend->hardware && !backend->works));
    vcl_json_set(object, "detail", vcl_json_text(backend->detail ? backend->detail : ""));
    vcl_json_append(user, object);
}

static int probe(struct vcl_context *ctx, int json)
{
    json_t *backends = json_array();
    if (!json)
        printf("%-14s %-8s %-8s %-9s %-5s %s\n", "name", "codec", "role", "kind", "works", "detail");
    const enum vcl_status status = vcl_probe(ctx, json ? add_backend : print_backend, backends);
    for (int i = 0; !json && i < 2; i++)
        printf("%-14s %-8s %-8s %-9s %-5s %s\n", "(built in)", i ? "lossless" : "exact", "both", "software",
               "yes", "every dtype");
    const int code = status == VCL_OK ? VCL_EXIT_OK
                                      : vcl_tell(status, "%s",
                                                 *vcl_context_message(ctx) ? vcl_context_message(ctx)
                                                                           : vcl_status_text(status));
    if (!json) {
        json_decref(backends);
        return code;
    }
    json_t *document = vcl_json_document("codecs");
    vcl_json_set(document, "backends", backends);
    vcl_json_set(document, "module", json_boolean(!code));
    vcl_json_print(document);
    return code;
}

static int run(int argc, char **argv)
{
    int json = 0, count;
    char **operands;
    struct vcl_context *ctx;
    const struct vcl_option options[] = {
        { "json", 0, VCL_OPTION_FLAG, &json, 0, 0, NULL, NULL },
        { 0 },
    };
    int code = vcl_cli_parse(&vcl_verb_codecs, options, argc, argv, 0, 0, &operands, &count);
    if (code)
        return code;
    const enum vcl_status status = vcl_context_create(NULL, &ctx);
    if (status != VCL_OK)
        return vcl_tell(status, "%s", vcl_status_text(status));
    code = probe(ctx, json);
    vcl_context_destroy(ctx);
    return code;
}
