/* test_pool.c - the pool of threads by itself, and contexts that share one: at the same time, from within its
 * jobs, where one of them fails.  Whether threads meet is chance: under ThreadSanitizer every access counts. */
#include "pooled.h"
#include "random.h"
#include "sanitized.h"

#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ---- jobs ------------------------------------------------------------------------------------ */

enum { MOST_THREADS = 8, JOBS = 100 };

/* One call: how often each job ran, and which places are taken. */
struct attendance {
    unsigned threads; /* of the pool */
    unsigned counts[JOBS];
    atomic_int taken[MOST_THREADS];
    atomic_int faults;
};

static void count_job(void *user, size_t i, unsigned thread)
{
    struct attendance *const call = user;
    const int outside = thread >= call->threads;
    if (outside || atomic_exchange(&call->taken[thread], 1))
        atomic_fetch_add(&call->faults, 1);
    call->counts[i]++; /* a job that runs twice at once is a race */
    if (i % 4 == 3)
        sched_yield(); /* so that others end first, and are waited for */
    if (!outside)
        atomic_store(&call->taken[thread], 0);
}

/* 1 where the first n jobs ran once and no other did. */
static int runs_once(struct vcl_pool *pool, size_t n)
{
    struct attendance call = { .threads = vcl_pool_threads(pool) };
    vcl_pool_run(pool, n, count_job, &call);
    for (size_t i = 0; i < JOBS; i++)
        if (call.counts[i] != (i < n))
            return 0;
    return atomic_load(&call.faults) == 0;
}

/* Fault: a job done twice or never, two at a time with one place, a pool that hangs when used again. */
static void every_job_once(void **unused)
{
    (void)unused;
    for (unsigned threads = 1; threads <= 5; threads++) {
        struct vcl_pool *const pool = pool_of(threads);
        assert_non_null(pool);
        assert_int_equal(vcl_pool_threads(pool), threads);
        for (int again = 0; again < vcl_how_many(20, 200, 2000); again++)
            for (size_t n = 0; n <= JOBS; n += 1 + n / 2)
                assert_true(runs_once(pool, n));
        vcl_pool_destroy(pool);
    }
}

/* ---- callers at the same time ---------------------------------------------------------------- */

struct caller {
    pthread_t thread;
    struct vcl_pool *pool;
    int times, good;
};

static void *call_often(void *user)
{
    struct caller *const caller = user;
    caller->good = 1;
    for (int i = 0; i < caller->times; i++)
        caller->good &= runs_once(caller->pool, (size_t)(2 + i % (JOBS - 2)));
    return NULL;
}

/* Fault: calls of several threads on one pool that take each other's jobs, end before their own are done or
 * wait for each other for ever. */
static void callers_share_a_pool(void **unused)
{
    (void)unused;
    enum { CALLERS = 4 };
    for (unsigned threads = 1; threads <= 3; threads++) {
        struct caller callers[CALLERS];
        struct vcl_pool *const pool = pool_of(threads);
        assert_non_null(pool);
        for (int i = 0; i < CALLERS; i++) {
            callers[i] = (struct caller){ .pool = pool, .times = vcl_how_many(200, 2000, 20000) };
            assert_int_equal(pthread_create(&callers[i].thread, NULL, call_often, &callers[i]), 0);
        }
        for (int i = 0; i < CALLERS; i++) {
            pthread_join(callers[i].thread, NULL);
            assert_true(callers[i].good);
        }
        vcl_pool_destroy(pool);
    }
}

/* ---- calls from within jobs ------------------------------------------------------------------ */

enum { BRANCHES = 5, DEPTH = 4, LEAVES = BRANCHES * BRANCHES * BRANCHES * BRANCHES };

struct branch {
    struct vcl_pool *pool;
    int depth;
    atomic_int *leaves, *faults;
    atomic_int taken[MOST_THREADS];
};

/* A thread that waits below and took a job of this call meanwhile would be at one place twice. */
static void grow(void *user, size_t i, unsigned thread)
{
    struct branch *const branch = user;
    (void)i;
    if (atomic_exchange(&branch->taken[thread], 1))
        atomic_fetch_add(branch->faults, 1);
    if (branch->depth == 1) {
        atomic_fetch_add(branch->leaves, 1);
        sched_yield();
    } else {
        struct branch next = { branch->pool, branch->depth - 1, branch->leaves, branch->faults, { 0 } };
        vcl_pool_run(branch->pool, BRANCHES, grow, &next);
    }
    atomic_store(&branch->taken[thread], 0);
}

static void *grow_often(void *user)
{
    struct caller *const caller = user;
    caller->good = 1;
    for (int i = 0; i < caller->times; i++) {
        atomic_int leaves = 0, faults = 0;
        struct branch root = { caller->pool, DEPTH, &leaves, &faults, { 0 } };
        vcl_pool_run(caller->pool, BRANCHES, grow, &root);
        caller->good &= leaves == LEAVES && faults == 0;
    }
    return NULL;
}

/* Fault: a call from within a job that waits for threads which wait for it, or whose jobs go astray; with
 * another caller that does the same. */
static void jobs_call_again(void **unused)
{
    (void)unused;
    for (unsigned threads = 1; threads <= 4; threads++) {
        struct vcl_pool *const pool = pool_of(threads);
        assert_non_null(pool);
        struct caller here = { .pool = pool, .times = vcl_how_many(5, 50, 500) }, there = here;
        assert_int_equal(pthread_create(&there.thread, NULL, grow_often, &there), 0);
        grow_often(&here);
        pthread_join(there.thread, NULL);
        assert_true(here.good && there.good);
        vcl_pool_destroy(pool);
    }
}

/* ---- contexts -------------------------------------------------------------------------------- */

enum { ROWS = 3000, COLS = 1024 };
static const struct vcl_tensor tensor = { VCL_DTYPE_F32, 2, { ROWS, COLS } };

/* A tensor of several tiles, its frame and what that decodes to, made by a context of one thread. */
struct coded_once {
    float *x, *y;
    uint8_t *frame;
    size_t bytes;
};

static struct vcl_context *context_on(struct vcl_pool *pool)
{
    struct vcl_options options;
    struct vcl_context *ctx;
    vcl_options_init(&options);
    options.pool = pool;
    return vcl_context_create(&options, &ctx) == VCL_OK ? ctx : NULL;
}

static enum vcl_status encode(struct vcl_context *ctx, const float *x, uint8_t *frame, size_t *bytes)
{
    struct vcl_params params;
    vcl_params_init(&params);
    params.effort = 1;
    params.goal = VCL_GOAL_STEP;
    params.target = 0.25;
    *bytes = (size_t)vcl_bound(&tensor);
    return vcl_encode_buffer(ctx, &tensor, x, &params, frame, bytes, NULL);
}

static struct coded_once make_sample(void)
{
    const size_t size = (size_t)ROWS * COLS * sizeof(float);
    struct coded_once s = { malloc(size), malloc(size), malloc((size_t)vcl_bound(&tensor)), 0 };
    struct vcl_info info = { .size = sizeof info };
    struct vcl_context *const ctx = context_on(NULL);
    random_fill(s.x, (size_t)ROWS * COLS, 11, random_normal);
    assert_int_equal(encode(ctx, s.x, s.frame, &s.bytes), VCL_OK);
    assert_int_equal(vcl_decode_buffer(ctx, s.frame, s.bytes, s.y, size), VCL_OK);
    assert_int_equal(vcl_peek(s.frame, s.bytes, &info, NULL, NULL), VCL_OK);
    assert_true(info.tiles >= 3);
    vcl_context_destroy(ctx);
    return s;
}

static void free_sample(struct coded_once *s)
{
    free(s->x);
    free(s->y);
    free(s->frame);
}

/* There and back on a pool; 1 where bytes and values are those of one thread. */
static int codes_alike(struct vcl_pool *pool, const struct coded_once *s)
{
    const size_t size = (size_t)ROWS * COLS * sizeof(float);
    struct vcl_context *const ctx = context_on(pool);
    uint8_t *const frame = malloc((size_t)vcl_bound(&tensor));
    float *const y = malloc(size);
    size_t bytes;
    const int good = ctx && encode(ctx, s->x, frame, &bytes) == VCL_OK && bytes == s->bytes
                  && memcmp(frame, s->frame, bytes) == 0
                  && vcl_decode_buffer(ctx, frame, bytes, y, size) == VCL_OK && memcmp(y, s->y, size) == 0;
    vcl_context_destroy(ctx);
    free(frame);
    free(y);
    return good;
}

/* 1 where the context says that the last tile is damaged. */
static int finds_damage(struct vcl_context *ctx, const struct coded_once *s)
{
    struct vcl_info info = { .size = sizeof info };
    uint8_t *const frame = malloc(s->bytes);
    char words[32];
    memcpy(frame, s->frame, s->bytes);
    frame[s->bytes - 100] ^= 4;
    vcl_peek(frame, s->bytes, &info, NULL, NULL);
    snprintf(words, sizeof words, "tile %d:", (int)info.tiles - 1);
    float *const y = malloc((size_t)ROWS * COLS * sizeof *y);
    const enum vcl_status status =
        vcl_decode_buffer(ctx, frame, s->bytes, y, (size_t)ROWS * COLS * sizeof *y);
    free(y);
    free(frame);
    return status == VCL_E_CHECKSUM && strstr(vcl_context_message(ctx), words) != NULL;
}

static int cancel_second(void *user)
{
    int *const polls = user;
    return ++*polls == 2;
}

/* 1 where an encode ends at the hook's word. */
static int is_cancelled(struct vcl_pool *pool, const struct coded_once *s)
{
    struct vcl_options options;
    struct vcl_context *ctx;
    uint8_t *const frame = malloc((size_t)vcl_bound(&tensor));
    size_t bytes;
    int polls = 0;
    vcl_options_init(&options);
    options.pool = pool;
    options.cancel = cancel_second;
    options.user = &polls;
    int good = vcl_context_create(&options, &ctx) == VCL_OK;
    good = good && encode(ctx, s->x, frame, &bytes) == VCL_E_CANCELLED;
    vcl_context_destroy(ctx);
    free(frame);
    return good;
}

/* What one of several threads, or jobs, does on the pool. */
struct duty {
    pthread_t thread;
    struct vcl_pool *pool;
    const struct coded_once *sample;
    int kind, good;
};

static void *do_duty(void *user)
{
    struct duty *const duty = user;
    if (duty->kind == 1) {
        struct vcl_context *const ctx = context_on(duty->pool);
        duty->good = ctx && finds_damage(ctx, duty->sample);
        vcl_context_destroy(ctx);
    } else
        duty->good =
            duty->kind == 2 ? is_cancelled(duty->pool, duty->sample) : codes_alike(duty->pool, duty->sample);
    return NULL;
}

static void duty_job(void *user, size_t i, unsigned thread)
{
    (void)thread;
    do_duty((struct duty *)user + i);
}

/* Fault: contexts on one pool, from threads of their own and from its jobs, that mix up their tiles, whose
 * bytes are others than alone, or of which one's damage or end is another's. */
static void contexts_share_a_pool(void **unused)
{
    (void)unused;
    enum { DUTIES = 4 }; /* the first two code, one finds damage, one is cancelled */
    struct coded_once sample = make_sample();
    struct vcl_pool *const pool = pool_of(3);
    struct duty duties[DUTIES], jobs[DUTIES];
    assert_non_null(pool);
    for (int i = 0; i < DUTIES; i++) {
        duties[i] = (struct duty){ .pool = pool, .sample = &sample, .kind = i < 2 ? 0 : i - 1 };
        jobs[i] = duties[i];
        assert_int_equal(pthread_create(&duties[i].thread, NULL, do_duty, &duties[i]), 0);
    }
    vcl_pool_run(pool, DUTIES, duty_job, jobs);
    for (int i = 0; i < DUTIES; i++) {
        pthread_join(duties[i].thread, NULL);
        assert_true(duties[i].good && jobs[i].good);
    }
    assert_true(runs_once(pool, JOBS));
    vcl_pool_destroy(pool);
    free_sample(&sample);
}

/* ---- what there is not enough of ------------------------------------------------------------- */

/* Fault: a pool that fails or hangs where the system gives it fewer threads, or that says it had them all.  A
 * stack takes a quarter or an eighth of all addresses here, so that some can be had and some not. */
static void fewer_threads_will_do(void **unused)
{
    (void)unused;
    enum { WANTED = 1000 };
    pthread_attr_t before, huge;
    assert_int_equal(pthread_getattr_default_np(&before), 0);
    pthread_attr_init(&huge);
    assert_int_equal(pthread_attr_setstacksize(&huge, (size_t)1 << 45), 0);
    assert_int_equal(pthread_setattr_default_np(&huge), 0);
    struct vcl_pool *const pool = pool_of(WANTED);
    assert_int_equal(pthread_setattr_default_np(&before), 0);
    assert_non_null(pool);
    const unsigned threads = vcl_pool_threads(pool);
    assert_true(threads >= 1 && threads <= MOST_THREADS);
    for (int i = 0; i < 100; i++)
        assert_true(runs_once(pool, JOBS));
    vcl_pool_destroy(pool);
    pthread_attr_destroy(&huge);
    pthread_attr_destroy(&before);
}

/* A pool's memory. */
struct purse {
    int left, held;
};

static void *take(void *user, size_t bytes)
{
    struct purse *const purse = user;
    if (purse->left-- <= 0)
        return NULL;
    purse->held++;
    return malloc(bytes);
}

static void give(void *user, void *block)
{
    struct purse *const purse = user;
    purse->held--;
    free(block);
}

/* Fault: memory that is not the caller's or is not given back; a failure that leaves something; arguments
 * that are not looked at. */
static void pools_keep_to_their_options(void **unused)
{
    (void)unused;
    struct purse purse = { 0, 0 };
    struct vcl_options options;
    struct vcl_pool *pool;
    vcl_options_init(&options);
    options.threads = 2;
    options.allocate = take;
    options.user = &purse;
    assert_int_equal(vcl_pool_create(&options, &pool), VCL_E_ARGUMENT);
    options.release = give;
    assert_int_equal(vcl_pool_create(&options, NULL), VCL_E_ARGUMENT);
    assert_int_equal(vcl_pool_create(&options, &pool), VCL_E_MEMORY);
    purse.left = 1;
    assert_int_equal(vcl_pool_create(&options, &pool), VCL_OK);
    assert_int_equal(purse.held, 1);
    assert_true(runs_once(pool, JOBS));
    vcl_pool_destroy(pool);
    assert_int_equal(purse.held, 0);
    vcl_pool_destroy(NULL);
    assert_int_equal(vcl_pool_create(NULL, &pool), VCL_OK);
    assert_int_equal(vcl_pool_threads(pool), 1);
    vcl_pool_destroy(pool);
    options = (struct vcl_options){ .size = sizeof options };
    assert_int_equal(vcl_pool_create(&options, &pool), VCL_OK);
    assert_true(vcl_pool_threads(pool) >= 1 && vcl_pool_threads(pool) <= 1024);
    vcl_pool_destroy(pool);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_job_once),        cmocka_unit_test(callers_share_a_pool),
        cmocka_unit_test(jobs_call_again),       cmocka_unit_test(contexts_share_a_pool),
        cmocka_unit_test(fewer_threads_will_do), cmocka_unit_test(pools_keep_to_their_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
