/* progress.c - the one line on a terminal that says how far the work is: tensors, rate, time left. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    int on, shown;
    double started, drawn;
} line;

static int quiet;

void vcl_set_quiet(int value) { quiet = value; }
int vcl_is_quiet(void) { return quiet; }

static void erase(void)
{
    if (line.shown)
        fputs("\r\033[K", stderr);
    line.shown = 0;
}

static void draw(const struct vcl_progress *progress, double now)
{
    const int bytes = strcmp(progress->unit, "bytes") == 0;
    const double spent = now - line.started, done = (double)progress->done, work = (double)progress->work;
    const double rate = spent > 0 ? done / spent : 0;
    const double left = rate > 0 ? (work - done) / rate : 0;
    erase();
    fprintf(stderr, "%s %zu/%zu %s, %3.0f %%, %.2f %s, %s left", progress->stage, progress->counted,
            progress->count, progress->things, work > 0 ? 100 * done / work : 100, bytes ? rate / 1e6 : rate,
            bytes ? "MB/s" : "tokens/s", rate > 0 ? vcl_words_time(left).text : "?");
    line.shown = 1;
    line.drawn = now;
}

void vcl_progress_show(const struct vcl_progress *progress)
{
    const double now = vcl_seconds();
    pthread_mutex_lock(&lock);
    if (!progress->stage) {
        erase();
        line.on = 0;
    } else if (!line.on) {
        line.on = !quiet && isatty(STDERR_FILENO);
        line.started = line.drawn = now;
    } else if (now - line.drawn > 0.2) {
        draw(progress, now);
    }
    pthread_mutex_unlock(&lock);
}

void vcl_progress_clear(void)
{
    pthread_mutex_lock(&lock);
    erase();
    pthread_mutex_unlock(&lock);
}
