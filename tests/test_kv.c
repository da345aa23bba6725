/* Pages of a KV cache through the public API: what comes back, what is refused, what it costs. */
#include "base/common.h"
#include "random.h"
#include "scarce.h"
#include "vcllm_kv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static struct vcl_context *ctx;

static int open_context(void **unused)
{
    (void)unused;
    return vcl_context_create(NULL, &ctx) ? -1 : 0;
}

static int close_context(void **unused)
{
    (void)unused;
    vcl_context_destroy(ctx);
    return 0;
}

/* ---- a cache ----------------------------------------------------------------------------------- */

enum { TYPICAL = 512 };

/* A cache whose vectors are mixtures of independent sources of falling size, so that a basis of the sources is what
 * learning should find. */
struct cache {
    struct vcl_kv_shape shape;
    int joint;
    struct vcl_kv_part *parts;
    size_t count;
    uint64_t state;
};

static uint32_t width(const struct cache *c, uint32_t sides)
{
    return c->shape.heads
         * ((sides & VCL_KV_KEYS ? c->shape.key_dim : 0) + (sides & VCL_KV_VALUES ? c->shape.value_dim : 0));
}

/* Rows of unit length, in no way orthogonal; component k is worth 2^(-k/8). */
static float *make_basis(struct cache *c, uint32_t n)
{
    float *const basis = malloc((size_t)n * n * sizeof *basis);
    for (uint32_t k = 0; k < n; k++) {
        double sum = 0;
        for (uint32_t i = 0; i < n; i++) {
            const double x = random_normal(&c->state) + (i == k ? 2 : 0);
            basis[k * n + i] = (float)x;
            sum += x * x;
        }
        for (uint32_t i = 0; i < n; i++)
            basis[k * n + i] /= (float)sqrt(sum);
    }
    return basis;
}

static void draw_vectors(struct cache *c, const struct vcl_kv_part *part, size_t tokens, float *x)
{
    const uint32_t n = width(c, part->sides);
    for (size_t t = 0; t < tokens; t++) {
        for (uint32_t i = 0; i < n; i++)
            x[t * n + i] = part->mean[i];
        for (uint32_t k = 0; k < n; k++) {
            const double z = random_normal(&c->state) * exp2(-(double)k / 8);
            for (uint32_t i = 0; i < n; i++)
                x[t * n + i] += (float)z * part->basis[k * n + i];
        }
    }
}

static struct cache make_cache(uint32_t layers, uint32_t heads, uint32_t key_dim, uint32_t value_dim,
                               int joint)
{
    struct cache c = { { layers, heads, key_dim, value_dim }, joint, NULL, 0, 1 };
    c.parts = calloc(2 * layers, sizeof *c.parts);
    for (uint32_t layer = 0; layer < layers; layer++)
        for (uint32_t sides = joint ? 3 : 1; sides <= (joint ? 3u : 2u); sides++) {
            struct vcl_kv_part *const p = c.parts + c.count++;
            const uint32_t n = width(&c, sides);
            float *const mean = malloc(n * sizeof *mean), *const x = malloc((size_t)TYPICAL * n * sizeof *x);
            for (uint32_t i = 0; i < n; i++)
                mean[i] = (float)random_normal(&c.state);
            *p = (struct vcl_kv_part){ layer, sides, mean, make_basis(&c, n), x, TYPICAL };
            draw_vectors(&c, p, TYPICAL, x);
        }
    return c;
}

static void free_cache(struct cache *c)
{
    for (size_t i = 0; i < c->count; i++) {
        free((void *)(uintptr_t)c->parts[i].mean);
        free((void *)(uintptr_t)c->parts[i].basis);
        free((void *)(uintptr_t)c->parts[i].vectors);
    }
    free(c->parts);
}

static struct vcl_kv_recipe *learn(const struct cache *c, double step, double *bits)
{
    const struct vcl_kv_identity identity = { "model", "revision", "rope", "layout" };
    struct vcl_kv_recipe *recipe = NULL;
    if (vcl_kv_recipe_learn(ctx, &c->shape, &identity, c->parts, c->count, step, &recipe, bits)) {
        print_message("learn: %s\n", vcl_context_message(ctx));
        fail();
    }
    return recipe;
}

/* Keys and values of tokens not seen in learning: [layer][token][head][dim]. */
struct page_values {
    uint32_t n;
    float *keys, *values;
    size_t key_count, value_count;
};

static struct page_values draw_tokens(struct cache *c, uint32_t n)
{
    const uint32_t k = width(c, VCL_KV_KEYS), v = width(c, VCL_KV_VALUES);
    struct page_values t = { n, NULL, NULL, (size_t)c->shape.layers * n * k,
                             (size_t)c->shape.layers * n * v };
    t.keys = malloc(t.key_count * sizeof *t.keys);
    t.values = malloc(t.value_count * sizeof *t.values);
    for (size_t i = 0; i < c->count; i++) {
        const struct vcl_kv_part *const p = c->parts + i;
        const uint32_t w = width(c, p->sides);
        float *const x = malloc((size_t)n * w * sizeof *x);
        draw_vectors(c, p, n, x);
        for (uint32_t s = 0; s < n; s++) {
            if (p->sides & VCL_KV_KEYS)
                memcpy(t.keys + ((size_t)p->layer * n + s) * k, x + (size_t)s * w, k * sizeof *x);
            if (p->sides & VCL_KV_VALUES)
                memcpy(t.values + ((size_t)p->layer * n + s) * v,
                       x + (size_t)s * w + (p->sides & VCL_KV_KEYS ? k : 0), v * sizeof *x);
        }
        free(x);
    }
    return t;
}

static void free_tokens(struct page_values *t)
{
    free(t->keys);
    free(t->values);
}

static struct vcl_kv_view view(const struct cache *c, uint32_t side, uint32_t tokens, enum vcl_dtype dtype,
                               void *data)
{
    const uint32_t dim = side == VCL_KV_KEYS ? c->shape.key_dim : c->shape.value_dim;
    return (struct vcl_kv_view){ data, dtype, (size_t)tokens * c->shape.heads * dim,
                                 (size_t)c->shape.heads * dim, dim };
}

static struct vcl_kv_range range_of(uint32_t tokens)
{
    return (struct vcl_kv_range){ .size = sizeof(struct vcl_kv_range), .tokens = tokens };
}

static uint8_t *encode(struct vcl_kv_coder *coder, const struct vcl_kv_recipe *recipe, const struct cache *c,
                       const struct page_values *t, size_t *bytes)
{
    const struct vcl_kv_range range = range_of(t->n);
    const struct vcl_kv_view k = view(c, VCL_KV_KEYS, t->n, VCL_DTYPE_F32, t->keys),
                             v = view(c, VCL_KV_VALUES, t->n, VCL_DTYPE_F32, t->values);
    *bytes = vcl_kv_bound(recipe, &range);
    uint8_t *const page = malloc(*bytes);
    if (vcl_kv_encode(coder, &range, &k, &v, page, bytes)) {
        print_message("encode: %s\n", vcl_context_message(ctx));
        fail();
    }
    return page;
}

/* Of both sides, in the metric in which errors of components count alike: as large as the quantiser's. */
static double snr(const float *x, const float *y, size_t n)
{
    struct vcl_error_sums sums = { 0 };
    vcl_compare(VCL_DTYPE_F32, x, y, n, &sums);
    return vcl_snr(&sums);
}

/* ---- there and back ---------------------------------------------------------------------------- */

/* Fault: values come back as others', or cost other bits than learning promised. */
static void round_trips(void **unused)
{
    (void)unused;
    static const struct {
        uint32_t layers, heads, key_dim, value_dim;
        int joint;
        uint32_t tokens;
    } cases[] = { { 2, 2, 64, 64, 0, 64 }, { 2, 2, 64, 64, 1, 64 }, { 3, 4, 8, 8, 0, 16 },
                  { 1, 1, 1, 1, 1, 33 },   { 2, 3, 40, 24, 1, 1 },  { 1, 8, 64, 64, 0, 200 },
                  { 2, 1, 130, 65, 0, 5 } };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct cache c =
            make_cache(cases[i].layers, cases[i].heads, cases[i].key_dim, cases[i].value_dim, cases[i].joint);
        double bits, last = 0;
        for (double step = 0.25; step > 0.01; step /= 4) {
            struct vcl_kv_recipe *const recipe = learn(&c, step, &bits);
            struct vcl_kv_coder *coder;
            struct page_values t = draw_tokens(&c, cases[i].tokens), back = draw_tokens(&c, cases[i].tokens);
            size_t bytes;
            assert_int_equal(vcl_kv_coder_create(ctx, recipe, t.n, &coder), VCL_OK);
            uint8_t *const page = encode(coder, recipe, &c, &t, &bytes);
            const struct vcl_kv_view k = view(&c, VCL_KV_KEYS, t.n, VCL_DTYPE_F32, back.keys),
                                     v = view(&c, VCL_KV_VALUES, t.n, VCL_DTYPE_F32, back.values);
            assert_int_equal(vcl_kv_decode(coder, page, bytes, NULL, &k, &v), VCL_OK);
            const double paid =
                             8 * (double)(bytes - 28 - c.count * 34) / (double)(t.key_count + t.value_count),
                         found = fmin(snr(t.keys, back.keys, t.key_count),
                                      snr(t.values, back.values, t.value_count));
            if (!(bits > last) || (t.key_count > 4096 && fabs(paid - bits) > 0.06 * bits + 0.05)
                || found < last) {
                print_message("case %zu, step %g: %g bits learned, %g paid, %g dB\n", i, step, bits, paid,
                              found);
                fail();
            }
            last = bits;
            vcl_kv_coder_destroy(coder);
            vcl_kv_recipe_destroy(recipe);
            free_tokens(&t);
            free_tokens(&back);
            free(page);
        }
        free_cache(&c);
    }
}

/* Fault: a page that costs more than its indices should: 16 tokens of 8 heads of 64, keys or values of one layer, lose
 * at most 0.06 bit a value to all that is no index, 64 tokens of 4 layers at most 0.02.  A quarter of a lane's state, of
 * which there are 8 and 32, tells of indices. */
static void small_pages_stay_small(void **unused)
{
    (void)unused;
    struct cache c = make_cache(4, 8, 64, 64, 0);
    double bits;
    struct vcl_kv_recipe *const recipe = learn(&c, 1e6, &bits); /* all indices are 0: the rest is left */
    struct vcl_kv_coder *coder;
    assert_int_equal(vcl_kv_coder_create(ctx, recipe, 64, &coder), VCL_OK);
    struct page_values t = draw_tokens(&c, 64);
    const struct vcl_kv_view k = view(&c, VCL_KV_KEYS, 64, VCL_DTYPE_F32, t.keys);
    struct vcl_kv_range range = range_of(16);
    range.layers = 1;
    range.sides = VCL_KV_KEYS;
    size_t bytes = vcl_kv_bound(recipe, &range);
    uint8_t *const page = malloc(bytes);
    assert_int_equal(vcl_kv_encode(coder, &range, &k, NULL, page, &bytes), VCL_OK);
    if (8 * (double)(bytes - 8) / (16 * 512) > 0.06)
        fail_msg("a page of 16 tokens takes %zu bytes for nothing", bytes);
    free(page);
    uint8_t *const whole = encode(coder, recipe, &c, &t, &bytes);
    if (8 * (double)(bytes - 32) / (64 * 1024 * 4) > 0.02)
        fail_msg("a page of 64 tokens of 4 layers takes %zu bytes for nothing", bytes);
    free(whole);
    free_tokens(&t);
    vcl_kv_coder_destroy(coder);
    vcl_kv_recipe_destroy(recipe);
    free_cache(&c);
}

/* Fault: a part of a page that decodes to other values than the whole does; strides or dtypes that are mixed up. */
static void decodes_parts(void **unused)
{
    (void)unused;
    for (int joint = 0; joint < 2; joint++) {
        enum { TOKENS = 48, FIRST = 5, SOME = 20 };
        struct cache c = make_cache(3, 2, 48, 32, joint);
        double bits;
        struct vcl_kv_recipe *const recipe = learn(&c, 0.1, &bits);
        struct vcl_kv_coder *coder;
        struct page_values t = draw_tokens(&c, TOKENS), whole = draw_tokens(&c, TOKENS);
        size_t bytes;
        assert_int_equal(vcl_kv_coder_create(ctx, recipe, TOKENS, &coder), VCL_OK);
        uint8_t *const page = encode(coder, recipe, &c, &t, &bytes);
        const struct vcl_kv_view k = view(&c, VCL_KV_KEYS, TOKENS, VCL_DTYPE_F32, whole.keys),
                                 v = view(&c, VCL_KV_VALUES, TOKENS, VCL_DTYPE_F32, whole.values);
        assert_int_equal(vcl_kv_decode(coder, page, bytes, NULL, &k, &v), VCL_OK);
        /* Layer 1, some tokens, values alone, head by head, in bf16. */
        uint16_t *const some = calloc((size_t)SOME * 64, sizeof *some);
        struct vcl_kv_range range = range_of(SOME);
        range.first_layer = range.layers = 1;
        range.first_token = FIRST;
        const struct vcl_kv_view by_head = { some, VCL_DTYPE_BF16, 0, 32, SOME * 32 };
        assert_int_equal(vcl_kv_decode(coder, page, bytes, &range, NULL, &by_head), VCL_OK);
        for (uint32_t s = 0; s < SOME; s++)
            for (uint32_t i = 0; i < 64; i++) {
                uint16_t expected;
                vcl_convert(VCL_DTYPE_F32, whole.values + ((size_t)TOKENS + FIRST + s) * 64 + i,
                            VCL_DTYPE_BF16, &expected, 1);
                assert_int_equal(some[i / 32 * SOME * 32 + s * 32 + i % 32], expected);
            }
        struct vcl_kv_info info = { .size = sizeof info };
        assert_int_equal(vcl_kv_peek(page, bytes, &info), VCL_OK);
        assert_true(info.range.tokens == TOKENS && info.range.layers == 3 && info.range.sides == 3
                    && info.bytes == bytes);
        vcl_kv_coder_destroy(coder);
        vcl_kv_recipe_destroy(recipe);
        free_tokens(&t);
        free_tokens(&whole);
        free(page);
        free(some);
        free_cache(&c);
    }
}

/* ---- saved, damaged, foreign ------------------------------------------------------------------- */

/* Fault: a recipe from a file that codes otherwise than the one that went there; damage that goes unseen. */
static void recipes_come_back(void **unused)
{
    (void)unused;
    struct cache c = make_cache(2, 1, 8, 8, 1);
    double bits;
    struct vcl_kv_recipe *const recipe = learn(&c, 0.1, &bits), *loaded = NULL;
    struct vcl_kv_recipe_info info = { .size = sizeof info };
    assert_int_equal(vcl_kv_recipe_describe(recipe, &info), VCL_OK);
    assert_string_equal(info.identity.rope, "rope");
    size_t size = info.bytes;
    uint8_t *const bytes = malloc(size);
    assert_int_equal(vcl_kv_recipe_save(recipe, bytes, &size), VCL_OK);
    assert_int_equal(vcl_kv_recipe_load(ctx, bytes, size, &loaded), VCL_OK);
    struct vcl_kv_coder *one, *two;
    assert_int_equal(vcl_kv_coder_create(ctx, recipe, 32, &one), VCL_OK);
    assert_int_equal(vcl_kv_coder_create(ctx, loaded, 32, &two), VCL_OK);
    struct page_values t = draw_tokens(&c, 32);
    size_t n, m;
    uint8_t *const a = encode(one, recipe, &c, &t, &n), *const b = encode(two, loaded, &c, &t, &m);
    assert_int_equal(n, m);
    assert_memory_equal(a, b, n);
    vcl_kv_coder_destroy(one);
    vcl_kv_coder_destroy(two);
    vcl_kv_recipe_destroy(loaded);
    for (size_t cut = 0; cut < size; cut++) {
        uint8_t *const part =
            malloc(cut ? cut : 1); /* its own block, so that a sanitizer sees an over-read */
        memcpy(part, bytes, cut);
        assert_int_not_equal(vcl_kv_recipe_load(ctx, part, cut, &loaded), VCL_OK);
        assert_true(loaded == NULL && vcl_context_message(ctx)[0] != 0);
        free(part);
    }
    for (size_t bit = 0; bit < 8 * size; bit += 3) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_not_equal(vcl_kv_recipe_load(ctx, bytes, size, &loaded), VCL_OK);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    free(a);
    free(b);
    free(bytes);
    free_tokens(&t);
    vcl_kv_recipe_destroy(recipe);
    free_cache(&c);
}

/* Fault: a cut, altered or foreign page that decodes. */
static void refuses_damaged_pages(void **unused)
{
    (void)unused;
    struct cache c = make_cache(2, 1, 8, 8, 0);
    double bits;
    struct vcl_kv_recipe *const recipe = learn(&c, 0.1, &bits), *const other = learn(&c, 0.2, &bits);
    struct vcl_kv_coder *coder, *foreign;
    assert_int_equal(vcl_kv_coder_create(ctx, recipe, 16, &coder), VCL_OK);
    assert_int_equal(vcl_kv_coder_create(ctx, other, 16, &foreign), VCL_OK);
    struct page_values t = draw_tokens(&c, 16);
    size_t bytes;
    uint8_t *const page = encode(coder, recipe, &c, &t, &bytes);
    const struct vcl_kv_view k = view(&c, VCL_KV_KEYS, 16, VCL_DTYPE_F32, t.keys),
                             v = view(&c, VCL_KV_VALUES, 16, VCL_DTYPE_F32, t.values);
    assert_int_equal(vcl_kv_decode(foreign, page, bytes, NULL, &k, &v), VCL_E_FORMAT);
    assert_non_null(strstr(vcl_context_message(ctx), "recipe"));
    for (size_t cut = 0; cut < bytes; cut++) {
        uint8_t *const part = malloc(cut ? cut : 1);
        memcpy(part, page, cut);
        assert_int_not_equal(vcl_kv_decode(coder, part, cut, NULL, &k, &v), VCL_OK);
        free(part);
    }
    for (size_t bit = 0; bit < 8 * bytes; bit++) {
        page[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_not_equal(vcl_kv_decode(coder, page, bytes, NULL, &k, &v), VCL_OK);
        page[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    /* Any one byte, behind a checksum that is right: refused or decoded, nothing worse. */
    uint64_t state = 5;
    for (int i = 0; i < 4000; i++) {
        const size_t at = 8 + random_bits(&state) % (bytes - 8);
        const uint8_t was = page[at];
        page[at] = (uint8_t)random_bits(&state);
        vcl_store32(page + 4, vcl_hash32(page + 8, bytes - 8));
        vcl_kv_decode(coder, page, bytes, NULL, &k, &v);
        page[at] = was;
    }
    free(page);
    free_tokens(&t);
    vcl_kv_coder_destroy(coder);
    vcl_kv_coder_destroy(foreign);
    vcl_kv_recipe_destroy(recipe);
    vcl_kv_recipe_destroy(other);
    free_cache(&c);
}

/* Fault: arguments that reach the codec unchecked. */
static void checks_arguments(void **unused)
{
    (void)unused;
    struct cache c = make_cache(2, 2, 16, 16, 1);
    const struct vcl_kv_identity identity = { 0 };
    struct vcl_kv_recipe *none;
    struct vcl_kv_coder *coder;
    double bits;
    assert_int_equal(vcl_kv_recipe_learn(ctx, &c.shape, &identity, c.parts, 1, 0.1, &none, &bits),
                     VCL_E_ARGUMENT);
    assert_int_equal(vcl_kv_recipe_learn(ctx, &c.shape, &identity, c.parts, 2, NAN, &none, &bits),
                     VCL_E_ARGUMENT);
    struct vcl_kv_shape huge = c.shape;
    huge.heads = 5000;
    assert_int_equal(vcl_kv_recipe_learn(ctx, &huge, &identity, c.parts, 2, 0.1, &none, &bits),
                     VCL_E_ARGUMENT);
    float *const basis = (float *)(uintptr_t)c.parts[0].basis;
    const uint32_t n = width(&c, 3);
    const float was = basis[3];
    basis[3] = INFINITY;
    assert_int_equal(vcl_kv_recipe_learn(ctx, &c.shape, &identity, c.parts, 2, 0.1, &none, &bits),
                     VCL_E_ARGUMENT);
    basis[3] = was;
    float row[64];
    memcpy(row, basis, n * sizeof *row);
    memcpy(basis, basis + n, n * sizeof *basis); /* two rows alike */
    assert_int_equal(vcl_kv_recipe_learn(ctx, &c.shape, &identity, c.parts, 2, 0.1, &none, &bits),
                     VCL_E_ARGUMENT);
    assert_non_null(strstr(vcl_context_message(ctx), "inverted"));
    memcpy(basis, row, n * sizeof *row);
    struct vcl_kv_recipe *const recipe = learn(&c, 0.1, &bits);
    assert_int_equal(vcl_kv_coder_create(ctx, recipe, 5000, &coder), VCL_E_ARGUMENT);
    assert_int_equal(vcl_kv_coder_create(ctx, recipe, 8, &coder), VCL_OK);
    struct page_values t = draw_tokens(&c, 8);
    const struct vcl_kv_view k = view(&c, VCL_KV_KEYS, 8, VCL_DTYPE_F32, t.keys),
                             v = view(&c, VCL_KV_VALUES, 8, VCL_DTYPE_F32, t.values);
    struct vcl_kv_view wrong = k;
    wrong.dtype = VCL_DTYPE_F64;
    struct vcl_kv_range range = range_of(8);
    uint8_t *const page = malloc(1 << 16);
    size_t bytes = 1 << 16;
    assert_int_equal(vcl_kv_encode(coder, &range, &wrong, &v, page, &bytes), VCL_E_ARGUMENT);
    assert_int_equal(vcl_kv_encode(coder, &range, &k, NULL, page, &bytes), VCL_E_ARGUMENT);
    range.tokens = 9;
    assert_int_equal(vcl_kv_encode(coder, &range, &k, &v, page, &bytes), VCL_E_ARGUMENT);
    range.tokens = 8;
    range.sides = VCL_KV_KEYS; /* coded with the values */
    assert_int_equal(vcl_kv_bound(recipe, &range), 0);
    assert_int_equal(vcl_kv_encode(coder, &range, &k, &v, page, &bytes), VCL_E_ARGUMENT);
    range.sides = 0;
    range.first_layer = 2;
    assert_int_equal(vcl_kv_encode(coder, &range, &k, &v, page, &bytes), VCL_E_ARGUMENT);
    range.first_layer = 0;
    bytes = 30;
    assert_int_equal(vcl_kv_encode(coder, &range, &k, &v, page, &bytes), VCL_E_SPACE);
    bytes = 1 << 16;
    t.keys[5] = NAN;
    assert_int_equal(vcl_kv_encode(coder, &range, &k, &v, page, &bytes), VCL_E_ARGUMENT);
    t.keys[5] = 1e30f;
    assert_int_equal(vcl_kv_encode(coder, &range, &k, &v, page, &bytes), VCL_E_ARGUMENT);
    assert_non_null(strstr(vcl_context_message(ctx), "layer 0, token 0"));
    free(page);
    free_tokens(&t);
    vcl_kv_coder_destroy(coder);
    vcl_kv_recipe_destroy(recipe);
    free_cache(&c);
}

/* Fault: encoding or decoding allocates. */
static void works_without_memory(struct vcl_kv_coder *coder, struct cache *c, struct scarce *scarce)
{
    static uint8_t page[1 << 14];
    size_t bytes = sizeof page;
    struct page_values t = draw_tokens(c, 16);
    const struct vcl_kv_range range = range_of(16);
    const struct vcl_kv_view k = view(c, VCL_KV_KEYS, 16, VCL_DTYPE_F32, t.keys),
                             v = view(c, VCL_KV_VALUES, 16, VCL_DTYPE_F32, t.values);
    scarce->left = 0;
    assert_int_equal(vcl_kv_encode(coder, &range, &k, &v, page, &bytes), VCL_OK);
    assert_int_equal(vcl_kv_decode(coder, page, bytes, NULL, &k, &v), VCL_OK);
    free_tokens(&t);
}

/* Fault: an allocation that fails and leaks, or is not seen to have failed. */
static void survives_any_allocation_that_fails(void **unused)
{
    (void)unused;
    struct cache c = make_cache(1, 1, 8, 8, 0);
    const struct vcl_kv_identity identity = { 0 };
    for (long n = 0, done = 0; !done; n++) {
        struct scarce scarce = { n, 0 };
        struct vcl_options options;
        struct vcl_context *own = NULL;
        struct vcl_kv_recipe *recipe = NULL;
        struct vcl_kv_coder *coder = NULL;
        double bits;
        vcl_options_init(&options);
        options.user = &scarce;
        options.allocate = scarce_allocate;
        options.release = scarce_release;
        enum vcl_status status = vcl_context_create(&options, &own);
        if (!status)
            status = vcl_kv_recipe_learn(own, &c.shape, &identity, c.parts, c.count, 0.1, &recipe, &bits);
        if (!status)
            status = vcl_kv_coder_create(own, recipe, 16, &coder);
        assert_true(status == VCL_OK || status == VCL_E_MEMORY);
        done = status == VCL_OK;
        if (done)
            works_without_memory(coder, &c, &scarce);
        vcl_kv_coder_destroy(coder);
        vcl_context_destroy(own);
        vcl_kv_recipe_destroy(recipe);
        assert_int_equal(scarce.blocks, 0);
    }
    free_cache(&c);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(small_pages_stay_small),
        cmocka_unit_test(decodes_parts),
        cmocka_unit_test(recipes_come_back),
        cmocka_unit_test(refuses_damaged_pages),
        cmocka_unit_test(checks_arguments),
        cmocka_unit_test(survives_any_allocation_that_fails),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, open_context, close_context);
}
