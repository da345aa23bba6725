/* probe.c - what the runtime computes inside, for tests in Python.
 *
 * probe tokens FOLDER VOCAB: texts from standard input, each ended by a NUL; of each a line with its tokens,
 *     or "!" and the error.
 * probe bytes FOLDER VOCAB: a line for each token of the vocabulary, its bytes in hexadecimal.
 * probe logits FOLDER: tokens (u32) from standard input; their logits (f32, tokens x vocabulary). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net/forward.h"
#include "text/tokenizer.h"

static int fail(const char *text)
{
    fprintf(stderr, "probe: %s\n", text);
    return 1;
}

/* Standard input; NULL where memory is out. */
static char *read_all(size_t *n)
{
    size_t room = 1 << 16;
    char *bytes = malloc(room);
    *n = 0;
    while (bytes) {
        *n += fread(bytes + *n, 1, room - *n, stdin);
        if (*n < room)
            break;
        bytes = realloc(bytes, room *= 2);
    }
    return bytes;
}

static void print_tokens(struct vcl_tokenizer *tokenizer, const char *text, size_t n)
{
    uint32_t *tokens;
    size_t count;
    struct vcl_error error = { 0 };
    if (vcl_tokenizer_encode(tokenizer, text, n, &tokens, &count, &error) != VCL_OK) {
        printf("! %s\n", error.text);
        return;
    }
    for (size_t i = 0; i < count; i++)
        printf("%s%lu", i ? " " : "", (unsigned long)tokens[i]);
    printf("\n");
    free(tokens);
}

static int probe_tokenizer(const char *what, const char *folder, size_t vocab)
{
    struct vcl_tokenizer *tokenizer;
    struct vcl_error error = { 0 };
    size_t n = 0, bytes;
    if (vcl_tokenizer_open(folder, vocab, &tokenizer, &error) != VCL_OK)
        return fail(error.text);
    char *texts = strcmp(what, "tokens") == 0 ? read_all(&n) : NULL;
    for (size_t at = 0; at < n; at += strlen(texts + at) + 1)
        print_tokens(tokenizer, texts + at, strlen(texts + at));
    for (uint32_t i = 0; i < vocab && !texts; i++, printf("\n")) {
        const char *piece = vcl_tokenizer_bytes(tokenizer, i, &bytes);
        for (size_t k = 0; k < bytes; k++)
            printf("%02x", (unsigned char)piece[k]);
    }
    free(texts);
    vcl_tokenizer_close(tokenizer);
    return 0;
}

static enum vcl_status write_logits(const struct vcl_network *network, const uint32_t *tokens, size_t n,
                                    struct vcl_error *error)
{
    const struct vcl_config *c = &network->config;
    struct vcl_forward *forward;
    enum vcl_status status = vcl_forward_create(network, n, &forward, error);
    float *hidden = calloc(n, c->width * sizeof *hidden), *logits = calloc(n, c->vocab * sizeof *logits);
    if (status == VCL_OK && (!hidden || !logits))
        status = vcl_fault_memory(error);
    if (status == VCL_OK)
        status = vcl_forward_read(forward, tokens, n, hidden);
    if (status == VCL_OK)
        status = vcl_forward_logits(forward, hidden, n, logits);
    if (status == VCL_OK)
        fwrite(logits, sizeof *logits, n * c->vocab, stdout);
    vcl_forward_destroy(forward);
    free(hidden);
    free(logits);
    return status;
}

static int probe_logits(const char *folder)
{
    struct vcl_team *team = vcl_team_create(2);
    struct vcl_network network = { 0 };
    struct vcl_error error = { 0 };
    size_t n;
    char *tokens = read_all(&n);
    enum vcl_status status = team && tokens
                               ? vcl_network_open(folder, team, VCL_MEMORY_DEFAULT, &network, &error)
                               : vcl_fault_memory(&error);
    if (status == VCL_OK)
        status = write_logits(&network, (const uint32_t *)tokens, n / sizeof(uint32_t), &error);
    vcl_network_close(&network);
    vcl_team_destroy(team);
    free(tokens);
    return status == VCL_OK ? 0 : fail(error.text);
}

int main(int argc, char **argv)
{
    if (argc == 4 && (strcmp(argv[1], "tokens") == 0 || strcmp(argv[1], "bytes") == 0))
        return probe_tokenizer(argv[1], argv[2], strtoul(argv[3], NULL, 10));
    if (argc == 3 && strcmp(argv[1], "logits") == 0)
        return probe_logits(argv[2]);
    return fail("usage: probe tokens|bytes FOLDER VOCAB, probe logits FOLDER");
}
