/* test_tokenizer.c - the runtime's tokenizer.  Faults it would catch: a merge taken out of order or missed
 * once its symbols have changed, a token file of real text that comes out wrong, text that is no UTF-8 let
 * in.
 *
 * VCLLM_DATA names the folder of real data (docs/data.md); without it that part is skipped. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "text/bpe.h"
#include "random.h"
#include "text/tokenizer.h"

enum { LETTERS = 6, MERGES = 40, LONGEST = 60 };

struct pair {
    uint32_t left, right, merged;
};

/* Merges one pair at a time, the first in the list that is there, leftmost first. */
static size_t merge_plainly(const struct pair *pairs, size_t count, uint32_t *tokens, size_t n)
{
    for (size_t p = 0; p < count; p++)
        for (size_t i = 0; i + 1 < n; i++)
            if (tokens[i] == pairs[p].left && tokens[i + 1] == pairs[p].right) {
                tokens[i] = pairs[p].merged;
                memmove(tokens + i + 1, tokens + i + 2, (n - i - 2) * sizeof *tokens);
                return merge_plainly(pairs, count, tokens, n - 1);
            }
    return n;
}

static size_t make_merges(uint64_t *seed, struct pair *pairs, struct vcl_bpe *bpe)
{
    size_t count = 0;
    for (size_t i = 0; i < MERGES; i++) {
        const uint32_t tokens = LETTERS + (uint32_t)count;
        pairs[count] = (struct pair){ (uint32_t)(random_bits(seed) % tokens),
                                      (uint32_t)(random_bits(seed) % tokens), tokens };
        count += (size_t)vcl_bpe_add(bpe, pairs[count].left, pairs[count].right, tokens);
    }
    return count;
}

static void test_merges(void **state)
{
    struct vcl_bpe_space space = { 0 };
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        uint64_t random = seed;
        struct pair pairs[MERGES];
        struct vcl_bpe *bpe = vcl_bpe_create(MERGES);
        const size_t count = make_merges(&random, pairs, bpe);
        for (int word = 0; word < 20; word++) {
            uint32_t fast[LONGEST], plain[LONGEST];
            const size_t n = 1 + random_bits(&random) % LONGEST;
            for (size_t i = 0; i < n; i++)
                fast[i] = plain[i] = (uint32_t)(random_bits(&random) % (word % 2 ? 2 : LETTERS));
            const size_t left = vcl_bpe_merge(bpe, &space, fast, n);
            if (left != merge_plainly(pairs, count, plain, n) || memcmp(fast, plain, left * sizeof *fast))
                fail_msg("seed %llu, word %d", (unsigned long long)seed, word);
        }
        vcl_bpe_destroy(bpe);
    }
    vcl_bpe_release(&space);
}

static struct vcl_tokenizer *open_sample(void)
{
    struct vcl_tokenizer *tokenizer;
    struct vcl_error error = { 0 };
    const enum vcl_status status = vcl_tokenizer_open(VCL_MODELS "/tiny-llama", 1024, &tokenizer, &error);
    if (status == VCL_E_CODEC)
        skip();
    if (status != VCL_OK)
        fail_msg("%s", error.text);
    return tokenizer;
}

static void test_books(void **state)
{
    const char *data = getenv("VCLLM_DATA");
    struct vcl_error error = { 0 };
    void *text, *file;
    size_t n, bytes, count;
    uint32_t *tokens;
    char path[4096];
    (void)state;
    if (!data)
        skip();
    struct vcl_tokenizer *tokenizer = open_sample();
    snprintf(path, sizeof path, "%s/text/books-valid.txt", data);
    assert_int_equal(vcl_read_file(path, 1 << 26, &text, &n, &error), VCL_OK);
    snprintf(path, sizeof path, "%s/lm/tiny-llama/eval-books.u16", data);
    assert_int_equal(vcl_read_file(path, 1 << 26, &file, &bytes, &error), VCL_OK);
    assert_int_equal(vcl_tokenizer_encode(tokenizer, text, n, &tokens, &count, &error), VCL_OK);
    assert_int_equal(2 * count, bytes);
    for (size_t i = 0; i < count; i++)
        if (tokens[i] != ((const uint16_t *)file)[i])
            fail_msg("token %zu is %u, not %u", i, tokens[i], ((const uint16_t *)file)[i]);
    free(tokens);
    free(text);
    free(file);
    vcl_tokenizer_close(tokenizer);
}

/* Any text comes back from its tokens' bytes. */
static void test_round_trip(void **state)
{
    static const char text[] =
        "Zo\xC3\xAB's 3\xE2\x82\xAC, \xF0\x9F\x98\x80\r\n\t x\xC2\xA0y   \xE2\x80\x93z  ";
    struct vcl_tokenizer *tokenizer = open_sample();
    uint32_t *tokens;
    size_t count, at = 0;
    (void)state;
    assert_int_equal(vcl_tokenizer_encode(tokenizer, text, sizeof text - 1, &tokens, &count, NULL), VCL_OK);
    for (size_t i = 0; i < count; i++) {
        size_t n;
        const char *bytes = vcl_tokenizer_bytes(tokenizer, tokens[i], &n);
        assert_true(at + n < sizeof text);
        assert_memory_equal(bytes, text + at, n);
        at += n;
    }
    assert_int_equal(at, sizeof text - 1);
    free(tokens);
    vcl_tokenizer_close(tokenizer);
}

static void test_not_utf8(void **state)
{
    static const char *const bad[] = { "\x80",         "\xC3",         "\xC0\x80",         "\xED\xA0\x80",
                                       "\xE0\x9F\xBF", "\xE2\x82",     "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
                                       "\xFF",         "\xC3\x28 abc", "\xF5\x80\x80\x80" };
    struct vcl_tokenizer *tokenizer = open_sample();
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char text[32];
        uint32_t *tokens;
        size_t count;
        struct vcl_error error = { 0 };
        snprintf(text, sizeof text, "ok %s", bad[i]);
        assert_int_equal(vcl_tokenizer_encode(tokenizer, text, strlen(text), &tokens, &count, &error),
                         VCL_E_FORMAT);
        assert_string_equal(error.text, "is not UTF-8 at byte 3");
    }
    vcl_tokenizer_close(tokenizer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merges),
        cmocka_unit_test(test_books),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_not_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
