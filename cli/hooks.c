/* hooks.c - the command line as one user of what takes long: it prints what it is told, and asks its signals
 * whether to go on.
 *
 * All that a run of the program does is one job, so that every fault is printed once, where it is found, and
 * what comes back from pack/ is only turned into an exit code. */
#include "cli.h"

#include <pthread.h>

static void on_note(void *unused, const char *text)
{
    (void)unused;
    vcl_note("%s", text);
}

static void on_fault(void *unused, const char *text)
{
    (void)unused;
    vcl_say("%s", text);
}

static void on_progress(void *unused, const struct vcl_progress *progress)
{
    (void)unused;
    vcl_progress_show(progress);
}

static void on_writing(void *unused, const char *path)
{
    (void)unused;
    vcl_interrupt_guard(path);
}

struct vcl_errand *vcl_cli_errand(void)
{
    static struct vcl_errand job = {
        .hooks = { sizeof job.hooks, NULL, vcl_interrupt_poll, on_progress, on_note, on_fault, on_writing },
        .lock = PTHREAD_MUTEX_INITIALIZER,
    };
    return &job;
}

/* ---- what verbs do through it ---------------------------------------------------------------- */

int vcl_cli_open(const char *path, const struct vcl_reading *reading, struct vcl_model **model)
{
    return vcl_exit_of(vcl_open_checked(vcl_cli_errand(), path, reading, model));
}

int vcl_file_finish(struct vcl_writer *writer, int code)
{
    const enum vcl_status filled = code == VCL_EXIT_OK ? VCL_OK : VCL_E_CANCELLED;
    const enum vcl_status status = vcl_errand_finish(vcl_cli_errand(), writer, filled);
    return code ? code : vcl_exit_of(status);
}

struct filling {
    int (*fill)(void *user, struct vcl_folder *folder);
    void *user;
    int code;
};

static enum vcl_status fill(void *user, struct vcl_folder *folder)
{
    struct filling *filling = user;
    filling->code = filling->fill(filling->user, folder);
    return filling->code == VCL_EXIT_OK          ? VCL_OK
         : filling->code == VCL_EXIT_INTERRUPTED ? VCL_E_CANCELLED
                                                 : VCL_E_IO;
}

int vcl_cli_folder_write(struct vcl_folder *folder, int force,
                         int (*fill_it)(void *user, struct vcl_folder *folder), void *user)
{
    struct filling filling = { fill_it, user, VCL_EXIT_OK };
    const enum vcl_status status = vcl_folder_write(folder, force, fill, &filling);
    return filling.code ? filling.code : vcl_exit_of(status);
}

void vcl_progress_start(const char *verb, size_t tensors, uint64_t work)
{
    vcl_errand_start(vcl_cli_errand(), verb, "tensors", tensors, "bytes", work);
}

void vcl_progress_start_tokens(const char *verb, size_t windows, uint64_t tokens)
{
    vcl_errand_start(vcl_cli_errand(), verb, "windows", windows, "tokens", tokens);
}

void vcl_progress_add(size_t tensors, uint64_t work) { vcl_errand_advance(vcl_cli_errand(), tensors, work); }

void vcl_progress_stop(void) { vcl_errand_stop(vcl_cli_errand()); }
