/* options.c - a verb's table of options, read with getopt_long.
 *
 * In: the verb's table and the command line.  Out: the variables the table points at, and the operands.  A
 * table rather than a switch per verb: every range check and its message is written once. */
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "cli.h"

enum { MAX_OPTIONS = 48, FIRST_LONG = 256 }; /* long options are numbered from beyond all letters */

static double unit_of(const char *name)
{
    static const struct {
        const char *name;
        double bytes;
    } units[] = {
        { "", 1 },         { "B", 1 },    { "KiB", 0x1p10 }, { "MiB", 0x1p20 }, { "GiB", 0x1p30 },
        { "TiB", 0x1p40 }, { "KB", 1e3 }, { "MB", 1e6 },     { "GB", 1e9 },     { "TB", 1e12 },
    };
    for (size_t i = 0; i < sizeof units / sizeof *units; i++)
        if (strcasecmp(name, units[i].name) == 0)
            return units[i].bytes;
    return 0;
}

int vcl_parse_size(const char *text, uint64_t *bytes)
{
    char number[32];
    double value;
    const size_t digits = strspn(text, ".0123456789");
    if (digits == 0 || digits >= sizeof number)
        return 0;
    memcpy(number, text, digits);
    number[digits] = '\0';
    text += digits;
    text += strspn(text, " ");
    const double unit = unit_of(text);
    if (!vcl_parse_number(number, &value) || unit == 0 || value * unit >= 0x1p63)
        return 0;
    *bytes = (uint64_t)(value * unit);
    return 1;
}

static int take_choice(const struct vcl_option *option, const char *text)
{
    const size_t length = strlen(text);
    int index = 0;
    for (const char *name = option->choices; name; index++) {
        const char *bar = strchr(name, '|');
        const size_t n = bar ? (size_t)(bar - name) : strlen(name);
        if (n == length && memcmp(name, text, n) == 0) {
            *(int *)option->to = index;
            return VCL_EXIT_OK;
        }
        name = bar ? bar + 1 : NULL;
    }
    vcl_say("--%s is one of %s, not '%s'", option->name, option->choices, text);
    return VCL_EXIT_USAGE;
}

static int take_number(const struct vcl_option *option, const char *text)
{
    double value;
    const int whole = option->kind == VCL_OPTION_INTEGER;
    if (!vcl_parse_number(text, &value) || value < option->low || value > option->high
        || (whole && value != floor(value))) {
        vcl_say("--%s takes a %snumber from %.10g to %.10g, not '%s'", option->name, whole ? "whole " : "",
                option->low, option->high, text);
        return VCL_EXIT_USAGE;
    }
    if (whole)
        *(int *)option->to = (int)value;
    else
        *(double *)option->to = value;
    return VCL_EXIT_OK;
}

static int take_size(const struct vcl_option *option, const char *text)
{
    uint64_t bytes;
    if (!vcl_parse_size(text, &bytes) || (double)bytes < option->low || (double)bytes > option->high) {
        vcl_say("--%s takes a size such as 4GiB or 300MB, from %.0f bytes to %s, not '%s'", option->name,
                option->low, vcl_words_size((uint64_t)option->high).text, text);
        return VCL_EXIT_USAGE;
    }
    *(uint64_t *)option->to = bytes;
    return VCL_EXIT_OK;
}

static int take_output(const struct vcl_option *option, const char *text)
{
    if (strcmp(text, "-") == 0) {
        vcl_say("--%s: '-' would be standard output, which this is not written to; './-' is a file",
                option->name);
        return VCL_EXIT_USAGE;
    }
    *(const char **)option->to = text;
    return VCL_EXIT_OK;
}

static int take_option(const struct vcl_option *option, const char *text)
{
    switch (option->kind) {
    case VCL_OPTION_FLAG: *(int *)option->to = 1; return VCL_EXIT_OK;
    case VCL_OPTION_TEXT: *(const char **)option->to = text; return VCL_EXIT_OK;
    case VCL_OPTION_OUTPUT: return take_output(option, text);
    case VCL_OPTION_CHOICE: return take_choice(option, text);
    case VCL_OPTION_INTEGER:
    case VCL_OPTION_NUMBER: return take_number(option, text);
    case VCL_OPTION_SIZE: return take_size(option, text);
    case VCL_OPTION_EACH: break;
    }
    return option->each(option->to, text);
}

/* getopt's two tables from ours; every long option's value is its index + FIRST_LONG. */
static void make_tables(const struct vcl_option *options, char *letters, struct option *longs)
{
    size_t n = 0;
    *letters++ = ':'; /* a missing argument is ':' rather than '?' */
    *letters++ = 'h';
    for (; n < MAX_OPTIONS && options[n].name; n++) {
        const int argument = options[n].kind != VCL_OPTION_FLAG;
        longs[n] = (struct option){ options[n].name, argument ? required_argument : no_argument, NULL,
                                    FIRST_LONG + (int)n };
        if (options[n].letter) {
            *letters++ = (char)options[n].letter;
            if (argument)
                *letters++ = ':';
        }
    }
    *letters = '\0';
    longs[n] = (struct option){ "help", no_argument, NULL, 'h' };
    longs[n + 1] = (struct option){ 0 };
}

static const struct vcl_option *find_option(const struct vcl_option *options, int code)
{
    if (code >= FIRST_LONG)
        return &options[code - FIRST_LONG];
    while (options->name && options->letter != code)
        options++;
    return options->name ? options : NULL;
}

static int refuse_option(const struct vcl_verb *verb, int code, char **argv)
{
    const char *word = argv[optind - 1];
    vcl_say("%s: %s '%s'; see 'vcllm %s --help'", verb->name,
            code == ':' ? "an argument is missing after" : "unknown or ambiguous option", word, verb->name);
    return VCL_EXIT_USAGE;
}

enum vcl_dtype vcl_float_choice(int choice)
{
    static const enum vcl_dtype dtypes[] = { VCL_DTYPE_F16, VCL_DTYPE_BF16, VCL_DTYPE_F32, VCL_DTYPE_F64 };
    return choice < 0 ? VCL_DTYPE_COUNT : dtypes[choice];
}

int vcl_cli_check_output(const char *path, int force)
{
    if (force || access(path, F_OK) != 0)
        return VCL_EXIT_OK;
    return vcl_tell(VCL_E_IO, "%s: is there already; -f replaces it", path);
}

int vcl_cli_parse(const struct vcl_verb *verb, const struct vcl_option *options, int argc, char **argv,
                  int least, int most, char ***operands, int *count)
{
    struct option longs[MAX_OPTIONS + 2];
    char letters[2 * MAX_OPTIONS + 3];
    int code;

    make_tables(options, letters, longs);
    opterr = 0;
    while ((code = getopt_long(argc, argv, letters, longs, NULL)) != -1) {
        if (code == 'h') {
            fputs(verb->help, stdout);
            exit(vcl_close_stdout(VCL_EXIT_OK));
        }
        const struct vcl_option *option = code == ':' || code == '?' ? NULL : find_option(options, code);
        const int failed = option ? take_option(option, optarg) : refuse_option(verb, code, argv);
        if (failed)
            return failed;
    }
    *operands = argv + optind;
    *count = argc - optind;
    if (*count >= least && *count <= most)
        return VCL_EXIT_OK;
    vcl_say("%s: %s; see 'vcllm %s --help'", verb->name,
            *count < least ? "an input is missing" : "too many arguments", verb->name);
    return VCL_EXIT_USAGE;
}
