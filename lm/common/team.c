/* team.c - a pool of threads for loops that last from microseconds to milliseconds.
 *
 * Parts are claimed one by one from an atomic counter, so that a thread that other programs slow down does
 * less.  A job of one part runs on the caller's thread without waking anybody. */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "team.h"

struct vcl_team {
    pthread_mutex_t lock;
    pthread_cond_t begin, end;
    const struct vcl_job *job;
    atomic_size_t next;
    unsigned long round; /* jobs begun */
    unsigned busy;       /* helpers still at the job */
    int stop;
    unsigned threads;
    pthread_t *helpers; /* threads - 1 */
    struct helper {
        struct vcl_team *team;
        unsigned thread;
    } * seats;
};

static void take_parts(struct vcl_team *team, const struct vcl_job *job, unsigned thread)
{
    size_t part;
    while ((part = atomic_fetch_add_explicit(&team->next, 1, memory_order_relaxed)) < job->parts)
        job->work(job->user, part, thread);
}

static void *help(void *argument)
{
    const struct helper *seat = argument;
    struct vcl_team *team = seat->team;
    unsigned long seen = 0;
    pthread_mutex_lock(&team->lock);
    for (;;) {
        while (!team->stop && team->round == seen)
            pthread_cond_wait(&team->begin, &team->lock);
        if (team->stop)
            break;
        seen = team->round;
        const struct vcl_job *job = team->job;
        pthread_mutex_unlock(&team->lock);
        take_parts(team, job, seat->thread);
        pthread_mutex_lock(&team->lock);
        if (--team->busy == 0)
            pthread_cond_signal(&team->end);
    }
    pthread_mutex_unlock(&team->lock);
    return NULL;
}

/* Fewer helpers than asked for where the system gives no more: the results are the same. */
static void start_helpers(struct vcl_team *team, unsigned threads)
{
    team->threads = 1;
    for (unsigned i = 0; i + 1 < threads; i++) {
        team->seats[i] = (struct helper){ team, i + 1 };
        if (pthread_create(&team->helpers[i], NULL, help, &team->seats[i]))
            return;
        team->threads++;
    }
}

struct vcl_team *vcl_team_create(unsigned threads)
{
    struct vcl_team *team = calloc(1, sizeof *team);
    if (!team)
        return NULL;
    team->helpers = calloc(threads, sizeof *team->helpers);
    team->seats = calloc(threads, sizeof *team->seats);
    pthread_mutex_init(&team->lock, NULL);
    pthread_cond_init(&team->begin, NULL);
    pthread_cond_init(&team->end, NULL);
    if (team->helpers && team->seats)
        start_helpers(team, threads);
    else
        vcl_team_destroy(team), team = NULL;
    return team;
}

void vcl_team_destroy(struct vcl_team *team)
{
    if (!team)
        return;
    pthread_mutex_lock(&team->lock);
    team->stop = 1;
    pthread_cond_broadcast(&team->begin);
    pthread_mutex_unlock(&team->lock);
    for (unsigned i = 0; i + 1 < team->threads; i++)
        pthread_join(team->helpers[i], NULL);
    pthread_cond_destroy(&team->begin);
    pthread_cond_destroy(&team->end);
    pthread_mutex_destroy(&team->lock);
    free(team->helpers);
    free(team->seats);
    free(team);
}

unsigned vcl_team_threads(const struct vcl_team *team) { return team->threads; }

void vcl_team_run(struct vcl_team *team, const struct vcl_job *job)
{
    const int alone = team->threads == 1 || job->parts <= 1;
    atomic_store(&team->next, 0);
    if (!alone) {
        pthread_mutex_lock(&team->lock);
        team->job = job;
        team->busy = team->threads - 1;
        team->round++;
        pthread_cond_broadcast(&team->begin);
        pthread_mutex_unlock(&team->lock);
    }
    take_parts(team, job, 0);
    if (alone)
        return;
    pthread_mutex_lock(&team->lock);
    while (team->busy)
        pthread_cond_wait(&team->end, &team->lock);
    pthread_mutex_unlock(&team->lock);
}
