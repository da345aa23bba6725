/* fuzz_text.c - any bytes as a model's config.json, as its tokenizer.json with a text to encode, as
 * questions, and as an importance matrix.
 *
 * In: what the first byte says, then libFuzzer's bytes as config.json; the matrix; or tokenizer.json, a
 * NUL and a text.  The tokenizer's own tests decide which tokens are right; here every one must be of the
 * vocabulary, a file that is refused must say why, and what a text becomes must not depend on what was
 * encoded before it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/config.h"
#include "allot/importance.h"
#include "eval/question.h"

enum { VOCAB = 600 };

static char folder[64];

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(int holds)
{
    if (!holds)
        abort();
}

static void remove_folder(void)
{
    char path[128];
    static const char *const names[] = { "config.json", "tokenizer.json", "questions.jsonl", "imatrix" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    snprintf(folder, sizeof folder, "%s",
             access("/dev/shm", W_OK) ? "/tmp/fuzz-XXXXXX" : "/dev/shm/fuzz-XXXXXX");
    must(mkdtemp(folder) != NULL && atexit(remove_folder) == 0);
    return 0;
}

static const char *put(const char *name, const void *bytes, size_t n)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "wb");
    must(file && fwrite(bytes, 1, n, file) == n && fclose(file) == 0);
    return path;
}

static void try_config(const uint8_t *data, size_t size)
{
    struct vcl_config config;
    struct vcl_error error = { 0 };
    put("config.json", data, size);
    if (vcl_config_read(folder, &config, &error) != VCL_OK) {
        must(error.text[0] != 0);
        return;
    }
    must(config.layers && config.width && config.heads && config.vocab && config.kv_heads
         && config.heads % config.kv_heads == 0 && config.rotary <= config.head_dim
         && config.rotary % 2 == 0);
    must(config.rope_scaling != VCL_ROPE_LLAMA3 || config.rope_high > config.rope_low);
}

static void try_importance(const uint8_t *data, size_t size)
{
    static const char *const names[] = { "model.layers.0.self_attn.q_proj.weight", "h.11.mlp.c_fc.weight",
                                         "lm_head.weight" };
    struct vcl_importance *importance;
    const struct vcl_inputs *inputs;
    struct vcl_error error = { 0 };
    if (vcl_importance_read(put("imatrix", data, size), &importance, &error) != VCL_OK) {
        must(importance == NULL && error.text[0] != 0);
        return;
    }
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (vcl_importance_find(importance, names[i], &inputs, &error) == VCL_OK && inputs)
            for (size_t c = 0; c < inputs->count; c++)
                must(inputs->weight[c] > 0 && isfinite(inputs->weight[c]));
    vcl_importance_free(importance);
}

static void try_text(struct vcl_tokenizer *tokenizer, const char *text, size_t n)
{
    uint32_t *tokens[2];
    size_t count[2], bytes;
    struct vcl_error error = { 0 };
    for (int k = 0; k < 2; k++)
        if (vcl_tokenizer_encode(tokenizer, text, n, &tokens[k], &count[k], &error) != VCL_OK) {
            must(k == 0 && error.text[0] != 0);
            return;
        }
    must(count[0] == count[1]);
    for (size_t i = 0; i < count[0]; i++) {
        must(tokens[0][i] == tokens[1][i] && tokens[0][i] < VOCAB);
        vcl_tokenizer_bytes(tokenizer, tokens[0][i], &bytes);
    }
    free(tokens[0]);
    free(tokens[1]);
}

static void try_questions(struct vcl_tokenizer *tokenizer, const char *text, size_t n)
{
    struct vcl_question *questions;
    size_t count;
    struct vcl_error error = { 0 };
    if (vcl_questions_read(put("questions.jsonl", text, n), tokenizer, 64, &questions, &count, &error)
        != VCL_OK) {
        must(error.text[0] != 0);
        return;
    }
    for (size_t q = 0; q < count; q++) {
        must(questions[q].answer < questions[q].count && questions[q].shared > 0);
        for (size_t c = 0; c < questions[q].count; c++)
            must(questions[q].choices[c].n > questions[q].shared && questions[q].choices[c].n <= 65);
    }
    vcl_questions_free(questions, count);
}

static void try_tokenizer(const uint8_t *data, size_t size)
{
    const uint8_t *end = memchr(data, 0, size);
    const size_t length = end ? (size_t)(end - data) : size;
    struct vcl_tokenizer *tokenizer;
    struct vcl_error error = { 0 };
    put("tokenizer.json", data, length);
    if (vcl_tokenizer_open(folder, VOCAB, &tokenizer, &error) != VCL_OK) {
        must(tokenizer == NULL && error.text[0] != 0);
        return;
    }
    if (end) {
        try_text(tokenizer, (const char *)end + 1, size - length - 1);
        try_questions(tokenizer, (const char *)end + 1, size - length - 1);
    }
    vcl_tokenizer_close(tokenizer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    if (data[0] % 4 == 1)
        try_config(data + 1, size - 1);
    else if (data[0] % 4 == 3)
        try_importance(data + 1, size - 1);
    else
        try_tokenizer(data + 1, size - 1);
    return 0;
}
