/* interrupt.c - signals.
 *
 * The first signal asks: the library's cancel hook sees the flag between tiles, temporary files are removed
 * on the way out, and the exit code is 130.  A second signal does not wait for the encoder to finish its
 * picture: it removes the temporary file and ends at once. */
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static volatile sig_atomic_t interrupted;
static volatile sig_atomic_t guarding;
static char guarded[4096]; /* written only while guarding is 0 */

void vcl_remove_guarded(void)
{
    if (guarding)
        unlink(guarded);
}

static void on_signal(int number)
{
    (void)number;
    if (interrupted) {
        vcl_remove_guarded();
        _exit(VCL_EXIT_INTERRUPTED);
    }
    interrupted = 1;
}

/* Signals that were ignored from the start stay so: nohup, and jobs in the background. */
void vcl_interrupt_install(void)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP };
    const struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    struct sigaction before;
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        if (sigaction(signals[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaction(signals[i], &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
}

int vcl_interrupted(void) { return interrupted; }

int vcl_interrupt_poll(void *unused)
{
    (void)unused;
    return interrupted;
}

void vcl_interrupt_guard(const char *temporary)
{
    guarding = 0;
    if (temporary && strlen(temporary) < sizeof guarded) {
        strcpy(guarded, temporary);
        guarding = 1;
    }
}
