/* test_cache.c - how a model's KV cache is learned and coded: the basis, the metrics, what a recipe promises.
 *
 * Faults it would catch: components that are correlated, or whose errors do not add up in the metric; a metric of
 * keys that is turned the wrong way, or by a head's neighbour's queries; a recipe taken for another model's; pages
 * that depend on threads, that leave out a layer, or whose bytes are not all counted; a cache of pages that depends
 * on how a text was cut, that loses or repeats a token, or keeps more than it says; memory that runs out. */
#include "cache/eigen.h"
#include "cache/learn.h"
#include "cache/metric.h"
#include "cache/model_cache.h"
#include "cache/paged.h"
#include "cache/pages.h"
#include "net/forward.h"
#include "pooled.h"
#include "random.h"
#include "sanitized.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void need_lapack(void)
{
    if (vcl_eigen_check(NULL) != VCL_OK)
        skip();
}

/* ---- the basis -------------------------------------------------------------------------------- */

enum { N = 24 };

/* x^T x of N + 2 random rows, the columns of unlike size: positive definite. */
static void random_moments(uint64_t *state, double *to)
{
    double rows[N + 2][N];
    for (size_t r = 0; r < N + 2; r++)
        for (size_t c = 0; c < N; c++)
            rows[r][c] = random_normal(state) * exp2((double)(c % 7));
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++) {
            to[i * N + j] = 0;
            for (size_t r = 0; r < N + 2; r++)
                to[i * N + j] += rows[r][i] * rows[r][j];
        }
}

static double form(const double *metric, const double *a, const double *b)
{
    double sum = 0;
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++)
            sum += a[i] * metric[i * N + j] * b[j];
    return sum;
}

static void basis_whitens_and_decorrelates(void **state)
{
    double covariance[N * N], metric[N * N], basis[N * N], used[N * N], variance[N];
    uint64_t seed = 1;
    (void)state;
    need_lapack();
    random_moments(&seed, covariance);
    random_moments(&seed, metric);
    memcpy(basis, covariance, sizeof basis);
    memcpy(used, metric, sizeof used);
    assert_int_equal(vcl_eigen_basis(N, basis, used, variance, NULL), VCL_OK);
    for (size_t a = 0; a < N; a++) {
        assert_true(variance[a] > 0 && (a == 0 || variance[a] <= variance[a - 1]));
        for (size_t b = 0; b < N; b++) /* errors of components count alike, and by themselves */
            assert_true(fabs(form(metric, basis + a * N, basis + b * N) - (a == b)) < 1e-9);
    }
    for (size_t i = 0; i < N; i++)
        for (size_t j = 0; j < N; j++) { /* components with these variances, uncorrelated, are the vectors */
            double sum = 0;
            for (size_t c = 0; c < N; c++)
                sum += variance[c] * basis[c * N + i] * basis[c * N + j];
            assert_true(fabs(sum - covariance[i * N + j])
                        < 1e-7 * sqrt(covariance[i * N + i] * covariance[j * N + j]));
        }
}

static void basis_refuses(void **state)
{
    double covariance[N * N], metric[N * N], variance[N];
    uint64_t seed = 2;
    (void)state;
    need_lapack();
    for (int wrong = 0; wrong < 3; wrong++) {
        struct vcl_error error = { 0 };
        random_moments(&seed, covariance);
        random_moments(&seed, metric);
        if (wrong == 0)
            metric[5 * N + 5] = -1;
        else
            *(wrong == 1 ? &metric[3] : &covariance[N * N - 1]) = wrong == 1 ? NAN : INFINITY;
        assert_int_equal(vcl_eigen_basis(N, covariance, metric, variance, &error), VCL_E_FORMAT);
        assert_true(*error.text);
    }
}

/* ---- the sample model ------------------------------------------------------------------------- */

enum { LAYERS = 6, HEADS = 4, DIM = 32, QUERIES = 8, SIDE = HEADS * DIM, LENGTH = 64 };

struct opened_sample {
    struct vcl_pool *pool;
    struct vcl_network network;
};

static struct opened_sample open_sample(unsigned threads)
{
    struct opened_sample opened = { .pool = pool_of(threads) };
    struct vcl_error error = { 0 };
    assert_non_null(opened.pool);
    if (vcl_network_open(VCL_MODELS "/tiny-llama", opened.pool, VCL_MEMORY_DEFAULT, &opened.network, &error))
        fail_msg("%s", error.text);
    return opened;
}

static void close_sample(struct opened_sample *opened)
{
    vcl_network_close(&opened->network);
    vcl_pool_destroy(opened->pool);
}

static struct vcl_flow make_flow(const struct opened_sample *opened)
{
    struct vcl_flow flow;
    assert_int_equal(vcl_flow_create(&opened->network, LENGTH, LENGTH, 1, &flow, NULL), VCL_OK);
    return flow;
}

/* ---- metrics ---------------------------------------------------------------------------------- */

static double product_of(const float *a, const float *b)
{
    double sum = 0;
    for (size_t i = 0; i < DIM; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

/* What an error in a key does to scores: by the flow's own rotation of queries and keys at their positions. */
static double error_in_scores(struct vcl_flow *flow, const float *query, const float *error)
{
    double sum = 0, shares = 0;
    for (size_t i = 0; i < LENGTH; i++)
        for (size_t j = 0; j <= i; j++) {
            float q[DIM], e[DIM];
            memcpy(q, query, sizeof q);
            memcpy(e, error, sizeof e);
            flow->kv.length = i;
            vcl_flow_rotate(flow, q, 1, 1, 0);
            flow->kv.length = j;
            vcl_flow_rotate(flow, e, 1, 1, 0);
            sum += product_of(q, e) * product_of(q, e) / (double)(i + 1);
            shares += 1 / (double)(i + 1);
        }
    return sum / shares;
}

static double quadratic(const double *metric, const float *e)
{
    double sum = 0;
    for (size_t i = 0; i < DIM; i++)
        for (size_t j = 0; j < DIM; j++)
            sum += (double)e[i] * metric[i * DIM + j] * (double)e[j];
    return sum;
}

static void draw(uint64_t *seed, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)random_normal(seed);
}

static void keys_cost_what_scores_change(void **state)
{
    struct opened_sample opened = open_sample(1);
    struct vcl_flow flow = make_flow(&opened);
    double squares[DIM * DIM], scratch[DIM * DIM], metric[DIM * DIM], trace = 0;
    float query[DIM];
    uint64_t seed = 3;
    (void)state;
    draw(&seed, query, DIM);
    for (size_t i = 0; i < DIM * DIM; i++)
        squares[i] = (double)query[i / DIM] * (double)query[i % DIM];
    vcl_metric_of_keys(&flow, squares, LENGTH, scratch, metric);
    for (size_t i = 0; i < DIM; i++)
        trace += metric[i * DIM + i];
    assert_true(fabs(trace - DIM) < 1e-9);
    for (int k = 0; k < 4; k++) {
        float error[DIM];
        draw(&seed, error, DIM);
        const double is = error_in_scores(&flow, query, error) / (product_of(query, query) / DIM);
        assert_true(fabs(quadratic(metric, error) / is - 1) < 1e-5);
    }
    vcl_flow_destroy(&flow);
    close_sample(&opened);
}

/* By the sum that layers read, which a value's error reaches through the queries of its KV head. */
static void values_cost_what_comes_out(void **state)
{
    struct opened_sample opened = open_sample(1);
    struct vcl_flow flow = make_flow(&opened);
    double metric[DIM * DIM], ratio = 0;
    const size_t layer = 2, head = 1, width = opened.network.config.width;
    uint64_t seed = 4;
    (void)state;
    assert_int_equal(vcl_metric_of_values(&flow, layer, head, metric), VCL_OK);
    for (int k = 0; k < 4; k++) {
        float error[DIM], out[256];
        double is = 0;
        draw(&seed, error, DIM);
        for (size_t h = 2 * head; h < 2 * head + 2; h++) {
            float x[QUERIES * DIM] = { 0 };
            memcpy(x + h * DIM, error, sizeof error);
            assert_int_equal(
                vcl_store_multiply(opened.network.store, opened.network.layers[layer].o.weight, x, 1, out),
                VCL_OK);
            for (size_t i = 0; i < width; i++)
                is += (double)out[i] * (double)out[i];
        }
        const double now = quadratic(metric, error) / is;
        assert_true(k == 0 || fabs(now / ratio - 1) < 1e-5);
        ratio = now;
    }
    vcl_flow_destroy(&flow);
    close_sample(&opened);
}

/* ---- recipes ---------------------------------------------------------------------------------- */

static struct vcl_learn_options few_texts(double bits)
{
    return (struct vcl_learn_options){
        .sequences = 4, .length = LENGTH, .seed = 1, .bits = bits, .model = "sample"
    };
}

static struct vcl_kv_recipe *learn(const struct opened_sample *opened, struct vcl_context *ctx,
                                   const struct vcl_learn_options *options, double *bits)
{
    struct vcl_kv_recipe *recipe;
    struct vcl_error error = { 0 };
    if (vcl_learn_cache(&opened->network, options, ctx, &recipe, bits, &error))
        fail_msg("%s", error.text);
    return recipe;
}

static void recipe_has_the_bits_and_the_model(void **state)
{
    struct opened_sample opened = open_sample(2);
    struct vcl_context *ctx;
    (void)state;
    need_lapack();
    assert_int_equal(vcl_context_create(NULL, &ctx), VCL_OK);
    for (int kind = 0; kind < 4; kind++) {
        struct vcl_learn_options options = few_texts(kind % 2 ? 1 : 3);
        struct vcl_kv_recipe_info info = { .size = sizeof info };
        double bits;
        options.apart = kind / 2;
        options.local = kind == 1;
        struct vcl_kv_recipe *recipe = learn(&opened, ctx, &options, &bits);
        vcl_kv_recipe_describe(recipe, &info);
        assert_true(fabs(bits / options.bits - 1) <= 0.01);
        assert_int_equal(info.parts, options.apart ? 2 * LAYERS : LAYERS);
        assert_string_equal(info.identity.model, "sample");
        assert_int_equal(vcl_model_cache_check(&opened.network, recipe, NULL), VCL_OK);
        vcl_kv_recipe_destroy(recipe);
    }
    vcl_context_destroy(ctx);
    close_sample(&opened);
}

static int stop(void *user, size_t tokens)
{
    size_t *left = user;
    *left -= tokens < *left ? tokens : *left;
    return *left == 0;
}

static void learning_can_be_stopped(void **state)
{
    struct opened_sample opened = open_sample(1);
    struct vcl_context *ctx;
    (void)state;
    need_lapack();
    assert_int_equal(vcl_context_create(NULL, &ctx), VCL_OK);
    for (size_t after = 1; after < 4 * LENGTH * 4;
         after += 350) { /* while writing, reading, reading backward */
        struct vcl_learn_options options = few_texts(2);
        struct vcl_kv_recipe *recipe;
        size_t left = after;
        double bits;
        options.watch = (struct vcl_watch){ stop, &left };
        assert_int_equal(vcl_learn_cache(&opened.network, &options, ctx, &recipe, &bits, NULL),
                         VCL_E_CANCELLED);
        assert_null(recipe);
    }
    vcl_context_destroy(ctx);
    close_sample(&opened);
}

/* ---- pages ------------------------------------------------------------------------------------ */

enum { TOKENS = 100 }; /* pages of 64 and of 36 */

/* What comes out of all layers' pages, and how many bits went into them. */
static double through_pages(const struct opened_sample *opened, const struct vcl_kv_recipe *recipe,
                            uint32_t page, float *out)
{
    struct vcl_pages *pages;
    uint64_t seed = 5;
    assert_int_equal(vcl_pages_create(&opened->network, recipe, (struct vcl_paging){ page, 0 }, &pages, NULL),
                     VCL_OK);
    const struct vcl_cache_hook hook = vcl_pages_hook(pages);
    assert_true(isnan(vcl_pages_bits(pages)));
    for (size_t layer = 0; layer < LAYERS; layer++) {
        float *keys = out + 2 * layer * TOKENS * SIDE, *values = keys + TOKENS * SIDE;
        draw(&seed, keys, 2 * TOKENS * SIDE);
        assert_int_equal(hook.pass(hook.user, &(struct vcl_cache_tokens){ layer, 7, TOKENS, keys, values }),
                         VCL_OK);
    }
    const double bits = vcl_pages_bits(pages);
    assert_string_equal(vcl_pages_fault(pages), "");
    vcl_pages_destroy(pages);
    return bits;
}

/* The same by vcllm_kv.h alone, a page of all layers; returns its bytes. */
static size_t through_one_page(const struct vcl_kv_recipe *recipe, float *out, size_t tokens)
{
    const size_t layer = (size_t)2 * TOKENS * SIDE;
    const struct vcl_kv_view keys = { out, VCL_DTYPE_F32, layer, SIDE, DIM },
                             values = { out + TOKENS * SIDE, VCL_DTYPE_F32, layer, SIDE, DIM };
    const struct vcl_kv_range range = { .size = sizeof range, .tokens = (uint32_t)tokens };
    struct vcl_context *ctx;
    struct vcl_kv_coder *coder;
    size_t bytes = vcl_kv_bound(recipe, &range);
    void *page = malloc(bytes);
    assert_int_equal(vcl_context_create(NULL, &ctx), VCL_OK);
    assert_int_equal(vcl_kv_coder_create(ctx, recipe, (uint32_t)tokens, &coder), VCL_OK);
    assert_int_equal(vcl_kv_encode(coder, &range, &keys, &values, page, &bytes), VCL_OK);
    assert_int_equal(vcl_kv_decode(coder, page, bytes, NULL, &keys, &values), VCL_OK);
    vcl_kv_coder_destroy(coder);
    vcl_context_destroy(ctx);
    free(page);
    return bytes;
}

static void pages_are_a_hosts(void **state)
{
    struct opened_sample opened = open_sample(1), two = open_sample(2);
    const struct vcl_learn_options options = few_texts(2);
    const size_t floats = (size_t)LAYERS * 2 * TOKENS * SIDE;
    float *a = malloc(floats * sizeof *a), *b = malloc(floats * sizeof *b);
    struct vcl_context *ctx;
    uint64_t seed = 5;
    double bits;
    (void)state;
    need_lapack();
    assert_int_equal(vcl_context_create(NULL, &ctx), VCL_OK);
    struct vcl_kv_recipe *recipe = learn(&opened, ctx, &options, &bits);
    const double one = through_pages(&opened, recipe, 64, a), other = through_pages(&two, recipe, 64, b);
    assert_memory_equal(a, b, floats * sizeof *a);
    assert_true(one == other);
    const double whole = through_pages(&two, recipe, TOKENS, a);
    draw(&seed, b, floats);
    assert_true(whole == 8 * (double)through_one_page(recipe, b, TOKENS) / (double)floats);
    assert_memory_equal(a, b, floats * sizeof *a);
    assert_true(whole < one);
    vcl_kv_recipe_destroy(recipe);
    vcl_context_destroy(ctx);
    free(a);
    free(b);
    close_sample(&opened);
    close_sample(&two);
}

static void pages_tell_what_is_not_finite(void **state)
{
    struct opened_sample opened = open_sample(1);
    const struct vcl_learn_options options = few_texts(2);
    float keys[2 * SIDE] = { 0 }, values[2 * SIDE] = { 0 };
    struct vcl_context *ctx;
    struct vcl_pages *pages;
    double bits;
    (void)state;
    need_lapack();
    assert_int_equal(vcl_context_create(NULL, &ctx), VCL_OK);
    struct vcl_kv_recipe *recipe = learn(&opened, ctx, &options, &bits);
    assert_int_equal(vcl_pages_create(&opened.network, recipe, (struct vcl_paging){ 1, 0 }, &pages, NULL),
                     VCL_OK);
    const struct vcl_cache_hook hook = vcl_pages_hook(pages);
    values[SIDE + 3] = NAN;
    assert_int_equal(hook.pass(hook.user, &(struct vcl_cache_tokens){ 0, 0, 2, keys, values }),
                     VCL_E_ARGUMENT);
    assert_non_null(strstr(vcl_pages_fault(pages), "layer 0"));
    vcl_pages_destroy(pages);
    vcl_kv_recipe_destroy(recipe);
    vcl_context_destroy(ctx);
    close_sample(&opened);
}

/* ---- a cache of pages ------------------------------------------------------------------------- */

enum { READ = 150 };

/* Hidden states of READ tokens, read `piece` at a time: all at once, or as a text is generated. */
static struct vcl_paged_use read_paged(const struct opened_sample *opened, const struct vcl_paged_plan *plan,
                                       size_t piece, float *hidden)
{
    struct vcl_paged *paged;
    struct vcl_forward *forward;
    uint32_t tokens[READ];
    assert_int_equal(vcl_paged_create(&opened->network, plan, READ, &paged, NULL), VCL_OK);
    assert_int_equal(vcl_forward_create_hooked(&opened->network, READ, vcl_paged_hook(paged), &forward, NULL),
                     VCL_OK);
    for (uint32_t i = 0; i < READ; i++)
        tokens[i] = (i * i + 7) % (uint32_t)opened->network.config.vocab;
    assert_int_equal(vcl_forward_read(forward, tokens, READ / 2, hidden), VCL_OK);
    vcl_forward_rewind(forward, 0); /* another sequence has been there */
    for (size_t at = 0; at < READ; at += piece)
        assert_int_equal(vcl_forward_read(forward, tokens + at, READ - at < piece ? READ - at : piece,
                                          hidden + at * opened->network.config.width),
                         VCL_OK);
    assert_string_equal(vcl_paged_fault(paged), "");
    const struct vcl_paged_use use = vcl_paged_use(paged);
    vcl_forward_destroy(forward);
    vcl_paged_destroy(paged);
    return use;
}

static double difference(const float *a, const float *b, size_t n)
{
    double off = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        off += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        all += (double)b[i] * (double)b[i];
    }
    return sqrt(off / all);
}

static void paged_is_one_cache(void **state)
{
    struct opened_sample opened = open_sample(1), two = open_sample(2);
    const struct vcl_learn_options options = few_texts(3);
    const size_t floats = READ * opened.network.config.width;
    float *plain = malloc(floats * sizeof *plain), *a = malloc(floats * sizeof *a),
          *b = malloc(floats * sizeof *b);
    struct vcl_context *ctx;
    double bits;
    (void)state;
    need_lapack();
    assert_int_equal(vcl_context_create(NULL, &ctx), VCL_OK);
    struct vcl_kv_recipe *recipe = learn(&opened, ctx, &options, &bits);
    struct vcl_paged_plan plan = { NULL, 16, 5, 0 };
    const struct vcl_paged_use none = read_paged(&opened, &plan, READ, plain);
    assert_true(none.tokens == READ && none.coded_tokens == 0 && isnan(none.bits));
    plan.recipe = recipe;
    for (plan.recent = 0; plan.recent <= 20; plan.recent += (uint32_t)vcl_how_many(30, 10, 10)) {
        const struct vcl_paged_use one = read_paged(&opened, &plan, READ, a),
                                   same = read_paged(&two, &plan, READ, b);
        const size_t pages = (READ - 5) / 16 - (plan.recent + 15) / 16; /* 9 are full */
        assert_memory_equal(a, b, floats * sizeof *a);
        assert_true(one.coded == same.coded && one.coded_tokens == 16 * pages);
        const struct vcl_paged_use cut = read_paged(&opened, &plan, 1, b);
        assert_true(cut.coded_tokens == one.coded_tokens && cut.plain == one.plain);
        assert_true(one.plain == (READ - 16 * pages) * 2 * SIDE * LAYERS * 2);
        assert_memory_equal(a, plain, 21 * opened.network.config.width * sizeof *a); /* see no page */
        const double off = difference(a, plain, floats);
        assert_true(off > 0 && off < 0.05);
        assert_true(difference(a, b, floats)
                    < 0.3 * off); /* last bits of products, and what they turn over */
    }
    vcl_kv_recipe_destroy(recipe);
    vcl_context_destroy(ctx);
    free(plain);
    free(a);
    free(b);
    close_sample(&opened);
    close_sample(&two);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(basis_whitens_and_decorrelates),
        cmocka_unit_test(basis_refuses),
        cmocka_unit_test(keys_cost_what_scores_change),
        cmocka_unit_test(values_cost_what_comes_out),
        cmocka_unit_test(recipe_has_the_bits_and_the_model),
        cmocka_unit_test(learning_can_be_stopped),
        cmocka_unit_test(pages_are_a_hosts),
        cmocka_unit_test(pages_tell_what_is_not_finite),
        cmocka_unit_test(paged_is_one_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
