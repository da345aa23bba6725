/* fuzz_kv.c - any bytes as a recipe of a KV cache and a page.
 *
 * In: libFuzzer's bytes, a u32 L, L bytes of a recipe, a page; built so that every checksum and the recipe's hash
 * match.  Beyond not crashing: what loads saves the same bytes; a page decodes or is refused with words; values as
 * the recipe has them, coded with it, come back without a word, at another level of CPU as the same bytes. */
#include "vcllm_kv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_VALUES = 1 << 13, TOKENS = 9 };

static void must(int holds, const char *what)
{
    if (holds)
        return;
    fprintf(stderr, "fuzz_kv: %s\n", what);
    abort();
}

static void *room(size_t n)
{
    void *const block = calloc(n > 0 ? n : 1, 1);
    must(block != NULL, "no memory");
    return block;
}

static struct vcl_context *open_at(const char *cpu)
{
    struct vcl_context *ctx;
    must(setenv("VCLLM_CPU", cpu, 1) == 0 && vcl_context_create(NULL, &ctx) == VCL_OK, "no context");
    return ctx;
}

/* Keys and values of all layers and some tokens. */
struct values {
    float *data[2];
    struct vcl_kv_view views[2];
};

static struct values make_values(const struct vcl_kv_shape *s, uint32_t tokens, double step)
{
    const uint32_t dims[2] = { s->key_dim, s->value_dim };
    struct values v;
    for (int i = 0; i < 2; i++) {
        const size_t token = (size_t)s->heads * dims[i], n = s->layers * tokens * token;
        v.data[i] = room(n * sizeof(float));
        for (size_t k = 0; k < n; k++)
            v.data[i][k] = (float)(step * (double)((int)(k * 2654435761u >> 27) - 16));
        v.views[i] = (struct vcl_kv_view){ v.data[i], VCL_DTYPE_F32, tokens * token, token, dims[i] };
    }
    return v;
}

static void free_values(struct values *v)
{
    free(v->data[0]);
    free(v->data[1]);
}

static uint8_t *encode(const char *cpu, const uint8_t *bytes, size_t size,
                       const struct vcl_kv_recipe_info *info, size_t *page_bytes)
{
    const struct vcl_kv_range range = { .size = sizeof range, .tokens = TOKENS };
    struct vcl_context *const ctx = open_at(cpu);
    struct vcl_kv_recipe *recipe;
    struct vcl_kv_coder *coder;
    struct values v = make_values(&info->shape, TOKENS, info->step);
    must(vcl_kv_recipe_load(ctx, bytes, size, &recipe) == VCL_OK, "loads once only");
    must(vcl_kv_coder_create(ctx, recipe, TOKENS, &coder) == VCL_OK, "no coder");
    *page_bytes = vcl_kv_bound(recipe, &range);
    uint8_t *const page = room(*page_bytes);
    const enum vcl_status status = vcl_kv_encode(coder, &range, &v.views[0], &v.views[1], page, page_bytes);
    must(status == VCL_OK || (status == VCL_E_ARGUMENT && vcl_context_message(ctx)[0] != 0), "coding fails");
    if (status == VCL_OK)
        must(vcl_kv_decode(coder, page, *page_bytes, NULL, &v.views[0], &v.views[1]) == VCL_OK,
             "what was coded");
    else
        *page_bytes = 0; /* too large for the recipe */
    free_values(&v);
    vcl_kv_coder_destroy(coder);
    vcl_kv_recipe_destroy(recipe);
    vcl_context_destroy(ctx);
    return page;
}

static void decode(struct vcl_context *ctx, const struct vcl_kv_recipe *recipe,
                   const struct vcl_kv_recipe_info *info, const uint8_t *page, size_t bytes)
{
    struct vcl_kv_info found = { .size = sizeof found };
    const enum vcl_status status = vcl_kv_peek(page, bytes, &found);
    const uint32_t tokens = status ? 1 : found.range.tokens;
    struct vcl_kv_coder *coder;
    if (tokens > 64)
        return;
    struct values v = make_values(&info->shape, tokens, 0);
    must(vcl_kv_coder_create(ctx, recipe, tokens, &coder) == VCL_OK, "no coder");
    const enum vcl_status decoded = vcl_kv_decode(coder, page, bytes, NULL, &v.views[0], &v.views[1]);
    must(decoded == VCL_OK || vcl_context_message(ctx)[0] != 0, "a page refused without a word");
    must(status == VCL_OK || decoded == status, "another status than vcl_kv_peek's");
    vcl_kv_coder_destroy(coder);
    free_values(&v);
}

static void use(struct vcl_context *ctx, const struct vcl_kv_recipe *recipe, const uint8_t *bytes,
                size_t size, const uint8_t *page, size_t page_bytes)
{
    struct vcl_kv_recipe_info info = { .size = sizeof info };
    must(vcl_kv_recipe_describe(recipe, &info) == VCL_OK && info.bytes == size,
         "a recipe that is not described");
    const uint64_t width =
        (uint64_t)info.shape.layers * info.shape.heads * (info.shape.key_dim + info.shape.value_dim);
    if (width > MOST_VALUES / TOKENS)
        return;
    size_t saved = size, first, second;
    uint8_t *const copy = room(size);
    must(vcl_kv_recipe_save(recipe, copy, &saved) == VCL_OK && memcmp(copy, bytes, size) == 0,
         "saves other bytes");
    free(copy);
    decode(ctx, recipe, &info, page, page_bytes);
    uint8_t *const one = encode("c", bytes, size, &info, &first), *const two = encode("avx512", bytes, size,
                                                                                      &info, &second);
    must(first == second && memcmp(one, two, first) == 0, "another page on another CPU");
    free(one);
    free(two);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 4)
        return 0;
    const size_t all = size - 4, asked = (size_t)data[0] | (size_t)data[1] << 8 | (size_t)data[2] << 16;
    const size_t bytes = asked < all ? asked : all;
    uint8_t *const recipe_bytes = room(bytes), *const page = room(all - bytes); /* blocks of their own */
    struct vcl_context *const ctx = open_at("avx2");
    struct vcl_kv_recipe *recipe;
    memcpy(recipe_bytes, data + 4, bytes);
    memcpy(page, data + 4 + bytes, all - bytes);
    const enum vcl_status status = vcl_kv_recipe_load(ctx, recipe_bytes, bytes, &recipe);
    must(status == VCL_OK || (recipe == NULL && vcl_context_message(ctx)[0] != 0),
         "a failure without a word");
    if (status == VCL_OK)
        use(ctx, recipe, recipe_bytes, bytes, page, all - bytes);
    vcl_kv_recipe_destroy(recipe);
    vcl_context_destroy(ctx);
    free(recipe_bytes);
    free(page);
    return 0;
}
