/* cli.h - what every verb of the command line shares: exit codes, messages, options, numbers as text.
 *
 * The command line is a user of the library like any other: it sees include/, jansson and the headers of
 * pack/ and lm/, nothing of src/. Messages go to stderr and start with "vcllm: "; results go to stdout. */
#ifndef VCL_CLI_H
#define VCL_CLI_H

#include <jansson.h>
#include <stdio.h>

#include "common/texts.h"
#include "common/words.h"
#include "folder/folder.h"
#include "folder/opened.h"
#include "vcllm_file.h"

enum vcl_exit {
    VCL_EXIT_OK = 0,
    VCL_EXIT_FAILED = 1, /* corrupt input, or the work failed */
    VCL_EXIT_USAGE = 2,
    VCL_EXIT_IO = 3,
    VCL_EXIT_CODEC = 4, /* a codec, encoder or decoder is missing */
    VCL_EXIT_BOUND = 5, /* a rate or quality bound is missed */
    VCL_EXIT_INTERRUPTED = 130
};

struct vcl_verb {
    const char *name;
    const char *summary; /* one line for `vcllm --help` */
    const char *help;    /* the whole text of `vcllm VERB --help` */
    int (*run)(int argc, char **argv);
};
extern const struct vcl_verb vcl_verb_compress, vcl_verb_decompress, vcl_verb_info, vcl_verb_verify,
    vcl_verb_compare, vcl_verb_codecs, vcl_verb_bench, vcl_verb_run, vcl_verb_eval, vcl_verb_rotate,
    vcl_verb_convert, vcl_verb_kv;

/* ---- options.c ------------------------------------------------------------------------------- */

enum vcl_option_kind {
    VCL_OPTION_FLAG,    /* int: set to 1 */
    VCL_OPTION_TEXT,    /* const char * */
    VCL_OPTION_OUTPUT,  /* const char *: a file or folder to write, not '-' */
    VCL_OPTION_CHOICE,  /* int: which of `choices` */
    VCL_OPTION_INTEGER, /* int from low to high */
    VCL_OPTION_NUMBER,  /* double from low to high */
    VCL_OPTION_SIZE,    /* uint64_t: bytes, with KiB, MB and so on; low to high */
    VCL_OPTION_EACH     /* calls each(to, text) every time; it returns 0 or an exit code */
};
struct vcl_option {
    const char *name; /* without dashes; NULL ends the table */
    int letter;       /* 0: none */
    enum vcl_option_kind kind;
    void *to;
    double low, high;
    const char *choices; /* "gray|420" */
    int (*each)(void *to, const char *text);
};

/* What a choice among "f16|bf16|f32|f64", or among the first of them, names; VCL_DTYPE_COUNT where none was
 * made. */
enum vcl_dtype vcl_float_choice(int choice);
/* Reads options and moves the operands to the end; *operands points at them.  --help prints and exits. 
 * Returns 0 or VCL_EXIT_USAGE with a message; so too where there are fewer operands than `least` or more
 * than `most`. */
int vcl_cli_parse(const struct vcl_verb *verb, const struct vcl_option *options, int argc, char **argv,
                  int least, int most, char ***operands, int *count);
/* Before work begins whose file would not be written: VCL_EXIT_IO with a message where it is there already,
 * unless it may be replaced. */
int vcl_cli_check_output(const char *path, int force);
/* "4096", "1.5GiB", "200 MB". */
int vcl_parse_size(const char *text, uint64_t *bytes);

/* How model files are read: options of every verb that opens one. */
#define VCL_READING_OPTIONS(reading)                                                      \
    { "io", 0, VCL_OPTION_CHOICE, &(reading)->io, 0, 0, "pread|mmap", NULL },             \
    {                                                                                     \
        "header-limit", 0, VCL_OPTION_SIZE, &(reading)->header_limit, 16, 1e8, NULL, NULL \
    }
#define VCL_READING_HELP                                                                                   \
    "  --io pread|mmap      how model files are read (default pread; mmap may be faster on local disks)\n" \
    "  --header-limit SIZE  accept headers up to this size (default 16MiB, at most 100MB)\n"

/* ---- hooks.c --------------------------------------------------------------------------------- */

/* What this program does, for the functions of pack/: prints each fault and note, draws the progress, asks
 * the signals. */
struct vcl_errand *vcl_cli_errand(void);

/* Opens a model or says why not; a compressed one only where its headers' hashes are right, and that of its
 * index.  Returns an exit code, like all that follow; *model is NULL then. */
int vcl_cli_open(const char *path, const struct vcl_reading *reading, struct vcl_model **model);
/* A guarded file takes its place, or is given up where filling it ended with another code than 0; it is
 * guarded no more. */
int vcl_file_finish(struct vcl_writer *writer, int code);
/* vcl_folder_write with what returns exit codes. */
int vcl_cli_folder_write(struct vcl_folder *folder, int force,
                         int (*fill_it)(void *user, struct vcl_folder *folder), void *user);

/* The line of progress.c.  `work` is in bytes of input. */
void vcl_progress_start(const char *verb, size_t tensors, uint64_t work);
/* The same for work counted in windows of tokens; vcl_progress_add takes windows and tokens. */
void vcl_progress_start_tokens(const char *verb, size_t windows, uint64_t tokens);
void vcl_progress_add(size_t tensors, uint64_t work);
void vcl_progress_stop(void);

/* ---- say.c ----------------------------------------------------------------------------------- */

int vcl_exit_of(enum vcl_status status);

/* One line on stderr, control characters replaced; any thread. */
void vcl_say(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same unless -q. */
void vcl_note(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Says it and returns the exit code, so that `return vcl_tell(...)` reads well.  Silent where the status is a
 * cancellation: the verb says once that it was interrupted. */
int vcl_tell(enum vcl_status status, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Never NULL: where memory is out, says so, removes the temporary file and exits. */
void *vcl_zeros(size_t count, size_t size);
char *vcl_text(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Flushes stdout; VCL_EXIT_IO with a message where writing failed at any time, else `code`. */
int vcl_close_stdout(int code);

/* A name in a column `width` characters wide, control characters replaced. */
void vcl_print_name(const char *name, int width);
int vcl_name_width(const char *name);

/* ---- say.c: JSON ----------------------------------------------------------------------------- */

/* json_real, or null where x is not finite; json_string, whatever the bytes. */
json_t *vcl_json_real(double x);
json_t *vcl_json_text(const char *text);
json_t *vcl_json_shape(const struct vcl_tensor *tensor);
/* Sets or appends; as vcl_zeros where memory is out. */
void vcl_json_set(json_t *object, const char *key, json_t *value);
void vcl_json_append(json_t *array, json_t *value);
json_t *vcl_json_document(const char *verb); /* {"schema": 1, "verb": verb} */
void vcl_json_print(json_t *document);       /* to stdout; frees it */
/* The same with one more member: a list that is never in memory, however many tensors there are.  make(user,
 * i) gives item i, which is freed. */
void vcl_json_print_list(json_t *document, const char *key, size_t count,
                         json_t *(*make)(const void *user, size_t i), const void *user);

/* ---- memory.c -------------------------------------------------------------------------------- */

/* In bytes, 0 where the system does not say: most that this process had so far, and what is free. */
uint64_t vcl_memory_peak(void);
uint64_t vcl_memory_free(void);

/* ---- interrupt.c ----------------------------------------------------------------------------- */

void vcl_interrupt_install(
    void); /* SIGINT, SIGTERM, SIGHUP; broken pipes and file limits become write errors */
int vcl_interrupted(void);
int vcl_interrupt_poll(void *unused); /* the cancel hook of whatever takes long */
/* The file to remove when a second signal or a lack of memory ends the program at once; NULL = none. */
void vcl_interrupt_guard(const char *temporary);
void vcl_remove_guarded(void);
/* ---- progress.c ------------------------------------------------------------------------------ */

void vcl_set_quiet(int quiet); /* no warnings, notes, progress */
int vcl_is_quiet(void);

/* One line on stderr, only where that is a terminal and -q is not given. */
void vcl_progress_show(const struct vcl_progress *progress);
void vcl_progress_clear(void); /* before another line goes to the terminal */

#endif
