/* bench_kv.c - pages of a KV cache on one thread: values a second, there and back, with the transform.
 *
 * In: nothing; random vectors whose components fall as those of models' caches do.  Out: a line for each head
 * dimension, K and V apart and together, and rate.  Usage: bench_kv [tokens of a page] */
#include "vcllm_kv.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { LAYERS = 2, HEADS = 8, TYPICAL = 1024, RUNS = 7, MOST_PARTS = 2 * LAYERS };

static double uniform(uint64_t *state)
{
    *state = *state * 6364136223846793005 + 1442695040888963407;
    return (double)((*state >> 33) + 1) / 0x1p31;
}

static double normal(uint64_t *state)
{
    return sqrt(-2 * log(uniform(state) / 1.0001)) * cos(6.283185307179586 * uniform(state));
}

static void must(enum vcl_status status, struct vcl_context *ctx, const char *what)
{
    if (status == VCL_OK)
        return;
    fprintf(stderr, "bench_kv: %s: %s\n", what, ctx ? vcl_context_message(ctx) : vcl_status_text(status));
    exit(1);
}

static float *floats(size_t n)
{
    float *const x = calloc(n, sizeof *x);
    must(x ? VCL_OK : VCL_E_MEMORY, NULL, "floats");
    return x;
}

/* Vectors of n values: component k has deviation 2^(-6 k / n) and is value k, turned with its neighbours. */
static void draw(float *x, size_t tokens, uint32_t n, uint64_t *state)
{
    for (size_t t = 0; t < tokens; t++)
        for (uint32_t k = 0; k < n; k++)
            x[t * n + k] = (float)(normal(state) * exp2(-6.0 * k / n));
}

static struct vcl_kv_part make_part(uint32_t layer, uint32_t sides, uint32_t n, uint64_t *state)
{
    float *const mean = floats(n), *const basis = floats((size_t)n * n),
                 *const x = floats((size_t)TYPICAL * n);
    for (uint32_t k = 0; k < n; k++)
        for (uint32_t i = 0; i < n; i++)
            basis[(size_t)k * n + i] = (float)((i == k ? 1 : 0) + 0.3 * normal(state) / sqrt(n));
    draw(x, TYPICAL, n, state);
    return (struct vcl_kv_part){ layer, sides, mean, basis, x, TYPICAL };
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void measure(struct vcl_context *ctx, uint32_t dim, int joint, uint32_t tokens, double step)
{
    const struct vcl_kv_shape shape = { LAYERS, HEADS, dim, dim };
    const struct vcl_kv_identity identity = { 0 };
    struct vcl_kv_part parts[MOST_PARTS];
    size_t count = 0;
    uint64_t state = 1;
    for (uint32_t layer = 0; layer < LAYERS; layer++)
        for (uint32_t sides = joint ? 3 : 1; sides <= (joint ? 3u : 2u); sides++)
            parts[count++] = make_part(layer, sides, HEADS * dim * (joint ? 2 : 1), &state);
    struct vcl_kv_recipe *recipe;
    struct vcl_kv_coder *coder;
    double bits, encode[RUNS], decode[RUNS];
    must(vcl_kv_recipe_learn(ctx, &shape, &identity, parts, count, step, &recipe, &bits), ctx, "learning");
    must(vcl_kv_coder_create(ctx, recipe, tokens, &coder), ctx, "a coder");
    const size_t side = (size_t)tokens * HEADS * dim, all = LAYERS * 2 * side;
    float *const k = floats(all / 2), *const v = floats(all / 2);
    for (uint32_t layer = 0; layer < LAYERS; layer++) { /* values of the kind that was learned */
        draw(k + layer * side, tokens, HEADS * dim, &state);
        draw(v + layer * side, tokens, HEADS * dim, &state);
    }
    const struct vcl_kv_range range = { .size = sizeof range, .tokens = tokens };
    const struct vcl_kv_view keys = { k, VCL_DTYPE_F32, side, HEADS * dim, dim },
                             values = { v, VCL_DTYPE_F32, side, HEADS * dim, dim };
    const size_t room = vcl_kv_bound(recipe, &range);
    void *const page = malloc(room);
    size_t bytes = 0;
    must(page ? VCL_OK : VCL_E_MEMORY, NULL, "a page");
    for (int run = 0; run < RUNS; run++) {
        bytes = room;
        const double begin = now();
        must(vcl_kv_encode(coder, &range, &keys, &values, page, &bytes), ctx, "encoding");
        encode[run] = now() - begin;
    }
    for (int run = 0; run < RUNS; run++) {
        const double begin = now();
        must(vcl_kv_decode(coder, page, bytes, NULL, &keys, &values), ctx, "decoding");
        decode[run] = now() - begin;
    }
    qsort(encode, RUNS, sizeof *encode, compare);
    qsort(decode, RUNS, sizeof *decode, compare);
    printf(
        "head dim %3u, %d heads, K and V %s, %4u tokens: %5.2f bits, encode %6.1f, decode %6.1f Mvalue/s\n",
        dim, HEADS, joint ? "together" : "apart   ", tokens, 8 * (double)bytes / (double)all,
        1e-6 * (double)all / encode[RUNS / 2], 1e-6 * (double)all / decode[RUNS / 2]);
    free(page);
    free(k);
    free(v);
    vcl_kv_coder_destroy(coder);
    vcl_kv_recipe_destroy(recipe);
    for (size_t i = 0; i < count; i++) {
        free((void *)(uintptr_t)parts[i].mean);
        free((void *)(uintptr_t)parts[i].basis);
        free((void *)(uintptr_t)parts[i].vectors);
    }
}

int main(int argc, char **argv)
{
    static const double steps[] = { 0.03, 0.12, 0.4 };
    const int tokens = argc > 1 ? atoi(argv[1]) : 64;
    struct vcl_context *ctx;
    if (tokens < 1 || tokens > 4096) {
        fprintf(stderr, "bench_kv: a page has 1 to 4096 tokens\n");
        return 2;
    }
    must(vcl_context_create(NULL, &ctx), NULL, "a context");
    for (uint32_t dim = 32; dim <= 128; dim *= 2)
        for (int joint = 0; joint < 2; joint++)
            for (size_t s = 0; s < sizeof steps / sizeof *steps; s++)
                measure(ctx, dim, joint, (uint32_t)tokens, steps[s]);
    vcl_context_destroy(ctx);
    return 0;
}
