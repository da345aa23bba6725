/* probe.c - what the runtime computes inside, for tests in Python.
 *
 * probe tokens FOLDER VOCAB: texts from standard input, each ended by a NUL; of each a line with its tokens,
 *     or "!" and the error.
 * probe bytes FOLDER VOCAB: a line for each token of the vocabulary, its bytes in hexadecimal.
 * probe logits FOLDER: tokens (u32) from standard input; their logits (f32, tokens x vocabulary).
 * probe backward FOLDER THREADS [SEED]: tokens, and without a seed as many labels, from standard input; all
 *     that the backward pass hands out: a line that says what and its shape, then its values in f32.
 *     Compressed matrices stay coded.
 * probe times FOLDER COUNT: CPU seconds of a forward and a backward pass over a text of COUNT tokens with
 *     one thread, the least of three each, and the memory that the latter takes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "net/backward.h"
#include "net/forward.h"
#include "pooled.h"
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

/* ---- the backward pass ------------------------------------------------------------------------ */

static void write_floats(const float *values, size_t n)
{
    if (n)
        fwrite(values, sizeof *values, n, stdout);
}

static enum vcl_status write_product(void *user, const struct vcl_gradient *of)
{
    const struct vcl_weight_info about = vcl_store_describe(of->weight);
    const size_t inputs = of->x ? about.cols : 0, outputs = of->x ? about.rows : about.cols;
    (void)user;
    printf("product %s %zu %zu %zu %zu\n", about.name, of->first, of->count, inputs, outputs);
    write_floats(of->x, inputs * of->count);
    write_floats(of->g, outputs * of->count);
    return VCL_OK;
}

static enum vcl_status write_key_values(void *user, const struct vcl_key_values *of)
{
    const size_t floats = of->count * of->heads * of->head_dim;
    (void)user;
    printf("key_values %zu %zu %zu %zu\n", of->layer, of->count, of->heads, of->head_dim);
    write_floats(of->keys, floats);
    write_floats(of->values, floats);
    write_floats(of->key_gradients, floats);
    write_floats(of->value_gradients, floats);
    return VCL_OK;
}

/* Labels stand behind the tokens, or room for them. */
static enum vcl_status write_gradients(const struct vcl_network *network, uint32_t *tokens, size_t n,
                                       const uint64_t *seed, struct vcl_error *error)
{
    const struct vcl_backward_hooks hooks = { write_key_values, write_product, NULL };
    struct vcl_backward *backward;
    double loss;
    enum vcl_status status = vcl_backward_create(network, n, &backward, error);
    if (status != VCL_OK)
        return status;
    status = vcl_backward_run(backward, tokens, n, tokens + n, seed, &hooks, &loss);
    if (status == VCL_OK) {
        printf("end %.17g %zu\n", loss, n);
        fwrite(tokens + n, sizeof *tokens, n, stdout);
    } else
        vcl_fault(error, status, "%s", vcl_store_words(network->store, status));
    vcl_backward_destroy(backward);
    return status;
}

/* ---- times ------------------------------------------------------------------------------------ */

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double peak_mib(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)usage.ru_maxrss / 1024;
}

/* To hidden states, and to logits a batch of positions at a time. */
static enum vcl_status time_forward(const struct vcl_network *network, const uint32_t *tokens, size_t n,
                                    double *least, struct vcl_error *error)
{
    enum { POSITIONS = 64 };
    const struct vcl_config *c = &network->config;
    struct vcl_forward *forward;
    enum vcl_status status = vcl_forward_create(network, n, &forward, error);
    float *hidden = calloc(n, c->width * sizeof *hidden),
          *logits = calloc(POSITIONS, c->vocab * sizeof *logits);
    if (status == VCL_OK && (!hidden || !logits))
        status = vcl_fault_memory(error);
    for (int i = 0; i < 3 && status == VCL_OK; i++) {
        const double begin = seconds();
        vcl_forward_rewind(forward, 0);
        status = vcl_forward_read(forward, tokens, n, hidden);
        for (size_t at = 0; at < n && status == VCL_OK; at += POSITIONS)
            status = vcl_forward_logits(forward, hidden + at * c->width,
                                        n - at < POSITIONS ? n - at : POSITIONS, logits);
        *least = i && *least < seconds() - begin ? *least : seconds() - begin;
    }
    vcl_forward_destroy(forward);
    free(hidden);
    free(logits);
    return status;
}

static enum vcl_status time_backward(const struct vcl_network *network, const uint32_t *tokens, size_t n,
                                     uint32_t *labels, double *least, struct vcl_error *error)
{
    const uint64_t seed = 1;
    struct vcl_backward *backward;
    double loss;
    enum vcl_status status = vcl_backward_create(network, n, &backward, error);
    for (int i = 0; i < 3 && status == VCL_OK; i++) {
        const double begin = seconds();
        status = vcl_backward_run(backward, tokens, n, labels, &seed, NULL, &loss);
        *least = i && *least < seconds() - begin ? *least : seconds() - begin;
    }
    vcl_backward_destroy(backward);
    return status;
}

static enum vcl_status print_times(const struct vcl_network *network, size_t n, struct vcl_error *error)
{
    uint32_t *tokens = calloc(n, 2 * sizeof *tokens);
    double forward = 0, backward = 0;
    if (!tokens)
        return vcl_fault_memory(error);
    for (size_t i = 0; i < n; i++)
        tokens[i] = (uint32_t)(i * 7919 % network->config.vocab);
    const double opened = peak_mib();
    enum vcl_status status = time_backward(network, tokens, n, tokens + n, &backward, error);
    const double taken = peak_mib() - opened;
    if (status == VCL_OK)
        status = time_forward(network, tokens, n, &forward, error);
    if (status == VCL_OK)
        printf("forward %.2f s, backward %.2f s (%.2f forward passes), %.0f MiB beside the model's %.0f\n",
               forward, backward, backward / forward, taken, opened);
    free(tokens);
    return status;
}

/* ---- what runs a model ------------------------------------------------------------------------ */

/* argument: of times the count, of backward the seed. */
static enum vcl_status run_probe(const char *what, const struct vcl_network *network, const char *argument,
                                 struct vcl_error *error)
{
    size_t n = 0;
    if (strcmp(what, "times") == 0)
        return print_times(network, strtoul(argument, NULL, 10), error);
    char *bytes = read_all(&n);
    uint32_t *tokens = malloc(2 * n + 1);
    const uint64_t seed = argument ? strtoull(argument, NULL, 10) : 0;
    enum vcl_status status = bytes && tokens ? VCL_OK : vcl_fault_memory(error);
    if (status == VCL_OK)
        memcpy(tokens, bytes, n);
    n /= sizeof *tokens;
    if (status == VCL_OK && strcmp(what, "logits") == 0)
        status = write_logits(network, tokens, n, error);
    else if (status == VCL_OK)
        status = write_gradients(network, tokens, argument ? n : n / 2, argument ? &seed : NULL, error);
    free(bytes);
    free(tokens);
    return status;
}

static int probe_network(const char *what, const char *folder, unsigned threads, const char *argument)
{
    struct vcl_pool *pool = pool_of(threads);
    struct vcl_network network = { 0 };
    struct vcl_error error = { 0 };
    const uint64_t memory = strcmp(what, "backward") == 0 ? 0 : VCL_MEMORY_DEFAULT;
    enum vcl_status status =
        pool ? vcl_network_open(folder, pool, memory, &network, &error) : vcl_fault_memory(&error);
    if (status == VCL_OK)
        status = run_probe(what, &network, argument, &error);
    vcl_network_close(&network);
    vcl_pool_destroy(pool);
    return status == VCL_OK ? 0 : fail(error.text);
}

int main(int argc, char **argv)
{
    if (argc == 4 && (strcmp(argv[1], "tokens") == 0 || strcmp(argv[1], "bytes") == 0))
        return probe_tokenizer(argv[1], argv[2], strtoul(argv[3], NULL, 10));
    if (argc == 3 && strcmp(argv[1], "logits") == 0)
        return probe_network(argv[1], argv[2], 2, NULL);
    if (argc == 4 && strcmp(argv[1], "times") == 0)
        return probe_network(argv[1], argv[2], 1, argv[3]);
    if ((argc == 4 || argc == 5) && strcmp(argv[1], "backward") == 0)
        return probe_network(argv[1], argv[2], (unsigned)strtoul(argv[3], NULL, 10), argv[4]);
    return fail("usage: probe tokens|bytes FOLDER VOCAB, probe logits FOLDER, probe backward FOLDER THREADS "
                "[SEED], probe times FOLDER COUNT");
}
