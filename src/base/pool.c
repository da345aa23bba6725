/* pool.c - a few threads that share out the jobs of one call.
 *
 * Jobs are tiles, milliseconds long: one mutex around the next index costs nothing. */
#include "pool.h"

#include <pthread.h>

struct vcl_pool {
    struct vcl_mem mem;
    pthread_mutex_t lock;
    pthread_cond_t work, done;
    void (*job)(void *user, size_t i);
    void *user;
    size_t next, count, finished;
    int closing;
    unsigned started;
    unsigned threads;
    pthread_t thread[];
};

/* Takes jobs until none is left; called and returns with the lock held. */
static void take_jobs(struct vcl_pool *pool)
{
    while (pool->next < pool->count) {
        const size_t i = pool->next++;
        pthread_mutex_unlock(&pool->lock);
        pool->job(pool->user, i);
        pthread_mutex_lock(&pool->lock);
        if (++pool->finished == pool->count)
            pthread_cond_broadcast(&pool->done);
    }
}

static void *run_thread(void *arg)
{
    struct vcl_pool *pool = arg;
    pthread_mutex_lock(&pool->lock);
    while (!pool->closing) {
        take_jobs(pool);
        if (!pool->closing)
            pthread_cond_wait(&pool->work, &pool->lock);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

struct vcl_pool *vcl_pool_create(const struct vcl_mem *mem, unsigned threads)
{
    struct vcl_pool *pool = vcl_alloc(mem, 1, sizeof *pool + (threads - 1) * sizeof pool->thread[0]);
    if (!pool)
        return NULL;
    pool->mem = *mem;
    pool->threads = threads;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->work, NULL);
    pthread_cond_init(&pool->done, NULL);
    while (pool->started < threads - 1) {
        if (pthread_create(&pool->thread[pool->started], NULL, run_thread, pool) != 0) {
            vcl_pool_destroy(pool);
            return NULL;
        }
        pool->started++;
    }
    return pool;
}

void vcl_pool_destroy(struct vcl_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->closing = 1;
    pthread_cond_broadcast(&pool->work);
    pthread_mutex_unlock(&pool->lock);
    for (unsigned i = 0; i < pool->started; i++)
        pthread_join(pool->thread[i], NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->work);
    pthread_mutex_destroy(&pool->lock);
    const struct vcl_mem mem = pool->mem;
    vcl_free(&mem, pool);
}

unsigned vcl_pool_threads(const struct vcl_pool *pool) { return pool->threads; }

void vcl_pool_run(struct vcl_pool *pool, size_t count, void (*job)(void *user, size_t i), void *user)
{
    pthread_mutex_lock(&pool->lock);
    pool->job = job;
    pool->user = user;
    pool->next = pool->finished = 0;
    pool->count = count;
    pthread_cond_broadcast(&pool->work);
    take_jobs(pool);
    while (pool->finished < pool->count)
        pthread_cond_wait(&pool->done, &pool->lock);
    pool->next = pool->count = 0;
    pthread_mutex_unlock(&pool->lock);
}
