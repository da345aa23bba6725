/* pool.c - a few threads that share out the jobs of calls.
 *
 * In: a call's jobs, from any thread, one of the pool that is at a job too.  Out: all of them done.  Calls in
 * progress are rounds in a list, on their callers' stacks.  Whoever calls works at its own round and at no
 * other; a thread that is free joins the newest that has jobs left.  So no call depends on a free thread.
 * Jobs may last microseconds: they are taken one by one from an atomic counter, so that a thread that other
 * programs slow down does less, and the lock is for joining and leaving a round. */
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <unistd.h>

struct round {
    void (*job)(void *user, size_t i, unsigned thread);
    void *user;
    size_t count;
    atomic_size_t next;
    unsigned helpers; /* that are at it now, the caller not counted */
    struct round *older;
};

struct vcl_pool {
    struct vcl_mem mem;
    pthread_mutex_t lock;       /* of all that follows but threads and helper */
    pthread_cond_t begun, left; /* a round; by its last helper */
    struct round *newest;
    int closing;
    unsigned threads;
    struct pool_thread {
        struct vcl_pool *pool;
        unsigned number; /* from 1: the caller is 0 */
        pthread_t thread;
    } helper[];
};

/* ---- rounds ---------------------------------------------------------------------------------- */

static void take_jobs(struct round *round, unsigned thread)
{
    size_t i;
    while ((i = atomic_fetch_add_explicit(&round->next, 1, memory_order_relaxed)) < round->count)
        round->job(round->user, i, thread);
}

static struct round *find_round(const struct vcl_pool *pool)
{
    struct round *round = pool->newest;
    while (round && atomic_load_explicit(&round->next, memory_order_relaxed) >= round->count)
        round = round->older;
    return round;
}

/* Called and returns with the lock held. */
static void join(struct vcl_pool *pool, struct round *round, unsigned thread)
{
    round->helpers++;
    pthread_mutex_unlock(&pool->lock);
    take_jobs(round, thread);
    pthread_mutex_lock(&pool->lock);
    if (--round->helpers == 0)
        pthread_cond_broadcast(&pool->left); /* several callers may wait, each for its own round */
}

static void *help(void *arg)
{
    const struct pool_thread *const me = arg;
    struct vcl_pool *const pool = me->pool;
    pthread_mutex_lock(&pool->lock);
    while (!pool->closing) {
        struct round *const round = find_round(pool);
        if (round)
            join(pool, round, me->number);
        else
            pthread_cond_wait(&pool->begun, &pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static void begin(struct vcl_pool *pool, struct round *round)
{
    pthread_mutex_lock(&pool->lock);
    round->older = pool->newest;
    pool->newest = round;
    pthread_cond_broadcast(&pool->begun);
    pthread_mutex_unlock(&pool->lock);
}

/* No job is left to take: nobody joins any more, and those who are at their last are waited for. */
static void end(struct vcl_pool *pool, struct round *round)
{
    pthread_mutex_lock(&pool->lock);
    struct round **at = &pool->newest;
    while (*at != round)
        at = &(*at)->older;
    *at = round->older;
    while (round->helpers > 0)
        pthread_cond_wait(&pool->left, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

void vcl_pool_run(struct vcl_pool *pool, size_t count, void (*job)(void *user, size_t i, unsigned thread),
                  void *user)
{
    struct round round = { .job = job, .user = user, .count = count };
    const int alone = count <= 1 || pool->threads == 1;
    if (!alone)
        begin(pool, &round);
    take_jobs(&round, 0);
    if (!alone)
        end(pool, &round);
}

/* ---- threads --------------------------------------------------------------------------------- */

static unsigned thread_count(unsigned asked)
{
    enum { MOST = 1024 };
    cpu_set_t cpus;
    const long online = sysconf(_SC_NPROCESSORS_ONLN);
    unsigned n = asked ? asked : online > 0 ? (unsigned)online : 1;
    if (!asked && sched_getaffinity(0, sizeof cpus, &cpus) == 0 && CPU_COUNT(&cpus) > 0)
        n = (unsigned)CPU_COUNT(&cpus);
    return n < MOST ? n : MOST;
}

struct vcl_pool *vcl_pool_make(const struct vcl_mem *mem, unsigned threads)
{
    const unsigned wanted = thread_count(threads);
    struct vcl_pool *const pool = vcl_alloc(mem, 1, sizeof *pool + (wanted - 1) * sizeof pool->helper[0]);
    if (!pool)
        return NULL;
    pool->mem = *mem;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->begun, NULL);
    pthread_cond_init(&pool->left, NULL);
    for (pool->threads = 1; pool->threads < wanted; pool->threads++) {
        struct pool_thread *const helper = &pool->helper[pool->threads - 1];
        helper->pool = pool;
        helper->number = pool->threads;
        if (pthread_create(&helper->thread, NULL, help, helper) != 0)
            break;
    }
    return pool;
}

void vcl_pool_destroy(struct vcl_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->closing = 1;
    pthread_cond_broadcast(&pool->begun);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i + 1 < pool->threads; i++)
        pthread_join(pool->helper[i].thread, NULL);
    pthread_cond_destroy(&pool->left);
    pthread_cond_destroy(&pool->begun);
    pthread_mutex_destroy(&pool->lock);
    const struct vcl_mem mem = pool->mem;
    vcl_free(&mem, pool);
}

unsigned vcl_pool_threads(const struct vcl_pool *pool) { return pool->threads; }
