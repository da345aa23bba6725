/* progress.c - the one line on a terminal that says how far the work is: tensors, rate, time left. */
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "cli.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
    int on, shown;
    const char *verb, *things, *rate; /* what is counted, and in what: "tensors", "MB/s" */
    double unit;                      /* of the rate: 1e6 */
    size_t tensors, tensors_done;
    uint64_t work, done;
    uint64_t large, steps, step; /* the tensor that runs alone: its work, expected and counted polls */
    double started, drawn;
} progress;

static int quiet;

void vcl_set_quiet(int value) { quiet = value; }
int vcl_is_quiet(void) { return quiet; }

static void erase(void)
{
    if (progress.shown)
        fputs("\r\033[K", stderr);
    progress.shown = 0;
}

/* How much of the work is done, what is begun of a large tensor included: a search that takes longer than
 * expected stands still just before its end. */
static double work_done(void)
{
    const double part = progress.steps ? (double)progress.step / (double)progress.steps : 0;
    return (double)progress.done + (double)progress.large * (part < 0.98 ? part : 0.98);
}

static void draw(double now)
{
    const double spent = now - progress.started, done = work_done();
    const double rate = spent > 0 ? done / spent : 0;
    const double left = rate > 0 ? ((double)progress.work - done) / rate : 0;
    erase();
    fprintf(stderr, "%s %zu/%zu %s, %3.0f %%, %.2f %s, %s left", progress.verb, progress.tensors_done,
            progress.tensors, progress.things, progress.work ? 100 * done / (double)progress.work : 100,
            rate / progress.unit, progress.rate, rate > 0 ? vcl_words_time(left).text : "?");
    progress.shown = 1;
    progress.drawn = now;
}

static void start(const char *verb, const char *things, const char *rate, double unit, size_t tensors,
                  uint64_t work)
{
    pthread_mutex_lock(&lock);
    progress.on = !quiet && isatty(STDERR_FILENO);
    progress.verb = verb;
    progress.things = things;
    progress.rate = rate;
    progress.unit = unit;
    progress.tensors = tensors;
    progress.work = work;
    progress.tensors_done = 0;
    progress.done = 0;
    progress.large = progress.steps = progress.step = 0;
    progress.started = progress.drawn = vcl_seconds();
    pthread_mutex_unlock(&lock);
}

void vcl_progress_start(const char *verb, size_t tensors, uint64_t work)
{
    start(verb, "tensors", "MB/s", 1e6, tensors, work);
}

void vcl_progress_start_tokens(const char *verb, size_t windows, uint64_t tokens)
{
    start(verb, "windows", "tokens/s", 1, windows, tokens);
}

void vcl_progress_add(size_t tensors, uint64_t work)
{
    pthread_mutex_lock(&lock);
    progress.tensors_done += tensors;
    progress.done += work;
    progress.large = progress.steps = progress.step = 0;
    pthread_mutex_unlock(&lock);
    vcl_progress_tick();
}

void vcl_progress_large(uint64_t work, uint64_t steps)
{
    pthread_mutex_lock(&lock);
    progress.large = work;
    progress.steps = steps;
    progress.step = 0;
    pthread_mutex_unlock(&lock);
}

void vcl_progress_step(void)
{
    pthread_mutex_lock(&lock);
    progress.step++;
    pthread_mutex_unlock(&lock);
    vcl_progress_tick();
}

void vcl_progress_tick(void)
{
    if (pthread_mutex_trylock(&lock))
        return; /* somebody else is drawing */
    if (progress.on) {
        const double now = vcl_seconds();
        if (now - progress.drawn > 0.2)
            draw(now);
    }
    pthread_mutex_unlock(&lock);
}

void vcl_progress_clear(void)
{
    pthread_mutex_lock(&lock);
    erase();
    pthread_mutex_unlock(&lock);
}

void vcl_progress_stop(void)
{
    pthread_mutex_lock(&lock);
    erase();
    progress.on = 0;
    pthread_mutex_unlock(&lock);
}
