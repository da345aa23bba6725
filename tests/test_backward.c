/* test_backward.c - the backward pass' promises: who is called when, what it refuses, threads, memory.
 *
 * What it computes is compared by test_backward.py and test_torch.py.
 * malloc and its kin are this program's own here, so that any allocation can fail and all are counted. */
#include "net/backward.h"
#include "pooled.h"
#include "sanitized.h"

#include <limits.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#ifndef SANITIZED
#include <malloc.h>

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t bytes);
void __libc_free(void *block);

static atomic_long left = LONG_MAX; /* allocations that succeed; the one after them fails */
static atomic_size_t held;          /* bytes */

static int refused(void) { return atomic_load(&left) != LONG_MAX && atomic_fetch_sub(&left, 1) == 0; }

static void *counted(void *block)
{
    held += block ? malloc_usable_size(block) : 0;
    return block;
}

void *malloc(size_t bytes) { return refused() ? NULL : counted(__libc_malloc(bytes)); }
void *calloc(size_t count, size_t size) { return refused() ? NULL : counted(__libc_calloc(count, size)); }

void *realloc(void *block, size_t bytes)
{
    if (refused())
        return NULL;
    held -= block ? malloc_usable_size(block) : 0;
    return counted(__libc_realloc(block, bytes));
}

void free(void *block)
{
    held -= block ? malloc_usable_size(block) : 0;
    __libc_free(block);
}
#endif

/* ---- the sample model ------------------------------------------------------------------------- */

enum { TOKENS = 70, LAYERS = 6 }; /* 70: more than the head takes at a time */

struct opened {
    struct vcl_pool *pool;
    struct vcl_network network;
};

static struct opened open_sample(unsigned threads)
{
    struct opened opened = { .pool = pool_of(threads) };
    struct vcl_error error = { 0 };
    assert_non_null(opened.pool);
    if (vcl_network_open(VCL_MODELS "/tiny-llama", opened.pool, VCL_MEMORY_DEFAULT, &opened.network, &error))
        fail_msg("%s", error.text);
    assert_int_equal(opened.network.config.layers, LAYERS);
    return opened;
}

static void close_sample(struct opened *opened)
{
    vcl_network_close(&opened->network);
    vcl_pool_destroy(opened->pool);
}

static void fill(uint32_t *tokens, size_t n)
{
    for (size_t i = 0; i < n; i++)
        tokens[i] = 3 + (uint32_t)(i * 37 % 900);
}

static struct vcl_backward *create(const struct opened *opened, size_t tokens)
{
    struct vcl_backward *backward;
    struct vcl_error error = { 0 };
    if (vcl_backward_create(&opened->network, tokens, &backward, &error))
        fail_msg("%s", error.text);
    return backward;
}

/* ---- hooks ------------------------------------------------------------------------------------ */

struct audience {
    size_t products, key_values, tokens_of_head, lookups;
    size_t stop_at; /* the call that answers `stops`; 0: none */
    uint64_t hash;  /* of all that was seen */
    size_t n;
    const struct vcl_weight *head;
};

static enum vcl_status answer(const struct audience *h)
{
    return h->products + h->key_values == h->stop_at ? VCL_E_CANCELLED : VCL_OK;
}

static void hash(struct audience *h, const float *values, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        h->hash = (h->hash ^ bits) * 0x100000001B3u;
    }
}

static enum vcl_status see_product(void *user, const struct vcl_gradient *of)
{
    struct audience *h = user;
    const struct vcl_weight_info about = vcl_store_describe(of->weight);
    h->products++;
    h->lookups += !of->x;
    h->tokens_of_head += of->weight == h->head ? of->count : 0;
    assert_true(of->weight == h->head ? of->first < h->n : of->first == 0 && of->count == h->n);
    if (of->x)
        hash(h, of->x, of->count * about.cols);
    hash(h, of->g, of->count * (of->x ? about.rows : about.cols));
    return answer(h);
}

static enum vcl_status see_key_values(void *user, const struct vcl_key_values *of)
{
    struct audience *h = user;
    const size_t floats = of->count * of->heads * of->head_dim;
    h->key_values++;
    assert_int_equal(of->layer, LAYERS - h->key_values);
    assert_true(of->count == h->n && of->heads == 4 && of->head_dim == 32);
    hash(h, of->keys, floats);
    hash(h, of->values, floats);
    hash(h, of->key_gradients, floats);
    hash(h, of->value_gradients, floats);
    return answer(h);
}

/* The first n tokens. */
static enum vcl_status run(const struct opened *opened, struct vcl_backward *backward, size_t n,
                           size_t stop_at, struct audience *heard)
{
    const struct vcl_backward_hooks hooks = { see_key_values, see_product, heard };
    const uint64_t seed = 1;
    uint32_t tokens[TOKENS], labels[TOKENS];
    double loss;
    *heard = (struct audience){ .stop_at = stop_at, .n = n, .head = opened->network.head };
    fill(tokens, n);
    const enum vcl_status status = vcl_backward_run(backward, tokens, n, labels, &seed, &hooks, &loss);
    assert_true(status != VCL_OK || (loss > (double)n && loss < 12 * (double)n));
    return status;
}

/* Faults: a matrix, a layer or the embedding that no hook hears of; a hook's answer that is passed over, or
 * after which others are called. */
static void test_hooks(void **state)
{
    enum { CALLS = 2 + LAYERS * (7 + 1) + 1 };
    struct opened opened = open_sample(2);
    struct vcl_backward *backward = create(&opened, TOKENS);
    struct audience heard;
    (void)state;
    assert_int_equal(run(&opened, backward, TOKENS, 0, &heard), VCL_OK);
    assert_int_equal(heard.key_values, LAYERS);
    assert_int_equal(heard.products + heard.key_values, CALLS);
    assert_int_equal(heard.tokens_of_head, TOKENS);
    assert_int_equal(heard.lookups, 1);
    for (size_t call = 1; call <= CALLS; call += (size_t)vcl_how_many(10, 1, 1)) {
        assert_int_equal(run(&opened, backward, TOKENS, call, &heard), VCL_E_CANCELLED);
        assert_int_equal(heard.products + heard.key_values, call);
    }
    vcl_backward_destroy(backward);
    close_sample(&opened);
}

/* Faults: sums whose order is the threads'; two threads that write one place. */
static void test_threads(void **state)
{
    uint64_t first = 0;
    (void)state;
    for (unsigned threads = 1; threads <= 3; threads++) {
        struct opened opened = open_sample(threads);
        struct vcl_backward *backward = create(&opened, TOKENS);
        struct audience heard;
        for (int again = 0; again < 2; again++) {
            assert_int_equal(run(&opened, backward, TOKENS, 0, &heard), VCL_OK);
            first = first ? first : heard.hash;
            assert_true(heard.hash == first);
        }
        vcl_backward_destroy(backward);
        close_sample(&opened);
    }
}

/* Fault: what a longer text left behind in a shorter one's sums. */
static void test_after_another(void **state)
{
    uint64_t alone = 0;
    (void)state;
    for (int after = 0; after < 2; after++) {
        struct opened opened = open_sample(1);
        struct vcl_backward *backward = create(&opened, TOKENS);
        struct audience heard;
        if (after)
            assert_int_equal(run(&opened, backward, TOKENS, 0, &heard), VCL_OK);
        assert_int_equal(run(&opened, backward, 21, 0, &heard), VCL_OK);
        assert_true(!after || heard.hash == alone);
        alone = heard.hash;
        vcl_backward_destroy(backward);
        close_sample(&opened);
    }
}

/* Faults: a text that is written beyond the memory for it; no hooks at all; positions that do not count. */
static void test_arguments(void **state)
{
    struct opened opened = open_sample(1);
    struct vcl_backward *backward;
    struct vcl_error error = { 0 };
    uint32_t tokens[TOKENS], labels[TOKENS];
    double loss = 1;
    (void)state;
    fill(tokens, TOKENS);
    assert_int_equal(vcl_backward_create(&opened.network, 513, &backward, &error), VCL_E_ARGUMENT);
    assert_null(backward);
    assert_non_null(strstr(error.text, "513 positions are more than the model's 512"));
    backward = create(&opened, TOKENS - 1);
    assert_int_equal(vcl_backward_run(backward, tokens, TOKENS, labels, NULL, NULL, &loss), VCL_E_ARGUMENT);
    assert_int_equal(vcl_backward_run(backward, tokens, 0, labels, NULL, NULL, &loss), VCL_E_ARGUMENT);
    for (size_t i = 0; i < TOKENS; i++)
        labels[i] = VCL_NO_LABEL;
    assert_int_equal(vcl_backward_run(backward, tokens, 9, labels, NULL, NULL, &loss), VCL_OK);
    assert_true(loss == 0);
    labels[8] = 5;
    assert_int_equal(vcl_backward_run(backward, tokens, 9, labels, NULL, NULL, &loss), VCL_OK);
    assert_true(loss > 0);
    vcl_backward_destroy(backward);
    close_sample(&opened);
}

/* ---- memory ----------------------------------------------------------------------------------- */

#ifndef SANITIZED
/* One pass with the n-th allocation failing; 1 where there are not so many. */
static int run_scarce(long n)
{
    const size_t before = atomic_load(&held);
    struct opened opened = open_sample(1);
    struct vcl_backward *backward;
    struct vcl_error error = { 0 };
    uint32_t tokens[TOKENS], labels[TOKENS];
    const uint64_t seed = 1;
    double loss;
    fill(tokens, TOKENS);
    atomic_store(&left, n);
    enum vcl_status status = vcl_backward_create(&opened.network, TOKENS, &backward, &error);
    assert_true((status == VCL_OK) == (backward != NULL));
    if (status == VCL_OK)
        status = vcl_backward_run(backward, tokens, TOKENS, labels, &seed, NULL, &loss);
    const int spent = atomic_load(&left) < 0;
    atomic_store(&left, LONG_MAX);
    vcl_backward_destroy(backward);
    close_sample(&opened);
    assert_int_equal(status, spent ? VCL_E_MEMORY : VCL_OK);
    assert_int_equal(atomic_load(&held), before);
    return !spent;
}

/* Faults: an allocation that fails and is believed; what is not freed on the way out. */
static void test_scarce(void **state)
{
    long n = 0;
    (void)state;
    while (!run_scarce(n))
        n++;
    print_message("%ld allocations\n", n);
    assert_true(n > 30);
}

static size_t bytes_for(const struct opened *opened, size_t tokens)
{
    const size_t before = atomic_load(&held);
    struct vcl_backward *backward = create(opened, tokens);
    const size_t bytes = atomic_load(&held) - before;
    vcl_backward_destroy(backward);
    return bytes;
}

/* Fault: a cache of all layers, or any other value of each, kept besides what enters them. */
static void test_bytes(void **state)
{
    struct opened opened = open_sample(1);
    const struct vcl_config *c = &opened.network.config;
    const size_t kv = c->kv_heads * c->head_dim, q = c->heads * c->head_dim;
    const size_t layer = 7 * c->width + 4 * q + 6 * kv + 5 * c->ffn, stripes = 16 / c->kv_heads * 2 * kv;
    const double each = (double)(bytes_for(&opened, 500) - bytes_for(&opened, 100)) / 400 / sizeof(float);
    (void)state;
    print_message("%.0f floats a token, %zu of them enter layers\n", each, c->layers * c->width);
    assert_true(each <= (double)(c->layers * c->width + layer + stripes + 200)); /* 200: lanes, rotations */
    close_sample(&opened);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hooks),     cmocka_unit_test(test_threads),
        cmocka_unit_test(test_arguments), cmocka_unit_test(test_after_another),
#ifndef SANITIZED
        cmocka_unit_test(test_scarce),    cmocka_unit_test(test_bytes),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
