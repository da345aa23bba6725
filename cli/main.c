/* main.c - vcllm VERB ...: finds the verb and runs it. */
#include <string.h>

#include "cli.h"

static const struct vcl_verb *const verbs[] = {
    &vcl_verb_compress, &vcl_verb_decompress, &vcl_verb_info,    &vcl_verb_verify,
    &vcl_verb_compare,  &vcl_verb_codecs,     &vcl_verb_bench,   &vcl_verb_run,
    &vcl_verb_eval,     &vcl_verb_rotate,     &vcl_verb_convert, &vcl_verb_kv,
};
enum { VERBS = sizeof verbs / sizeof *verbs };

static int print_help(void)
{
    puts("vcllm - compresses the tensors of language models\n"
         "\n"
         "usage: vcllm VERB [options] ...        vcllm VERB --help explains each\n");
    for (size_t i = 0; i < VERBS; i++)
        printf("  %-11s %s\n", verbs[i]->name, verbs[i]->summary);
    puts("\n"
         "A first round trip:\n"
         "  vcllm compress model.safetensors -o small.safetensors --bits 2.9\n"
         "  vcllm info small.safetensors\n"
         "  vcllm verify small.safetensors\n"
         "  vcllm decompress small.safetensors -o back.safetensors\n"
         "  vcllm compare model.safetensors back.safetensors\n"
         "\n"
         "A model is one .safetensors or .gguf file, a folder of .safetensors files, or a\n"
         "model.safetensors.index.json.\n"
         "A compressed model is a valid .safetensors file as well.\n"
         "\n"
         "Exit codes: 0 ok, 1 corrupt or failed, 2 usage, 3 input/output, 4 codec missing,\n"
         "            5 rate or quality bound missed, 130 interrupted.");
    return vcl_close_stdout(VCL_EXIT_OK);
}

static int print_version(void)
{
    printf("vcllm %s (format %d)\n", vcl_version(), VCL_FORMAT_VERSION);
    return vcl_close_stdout(VCL_EXIT_OK);
}

static const struct vcl_verb *find_verb(const char *name)
{
    for (size_t i = 0; i < VERBS; i++)
        if (strcmp(name, verbs[i]->name) == 0)
            return verbs[i];
    return NULL;
}

static int run_verb(int argc, char **argv)
{
    const struct vcl_verb *verb = find_verb(argv[0]);
    if (!verb) {
        vcl_say("'%s' is no verb; see 'vcllm --help'", argv[0]);
        return VCL_EXIT_USAGE;
    }
    vcl_interrupt_install();
    const int code = verb->run(argc, argv);
    vcl_progress_stop();
    return vcl_close_stdout(code);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        vcl_say("a verb is missing; see 'vcllm --help'");
        return VCL_EXIT_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "-V") == 0)
        return print_version();
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return print_help();
    if (strcmp(argv[1], "help") == 0) {
        char *help[] = { argc > 2 ? argv[2] : NULL, (char[]){ "--help" }, NULL };
        return argc > 2 ? run_verb(2, help) : print_help();
    }
    return run_verb(argc - 1, argv + 1);
}
