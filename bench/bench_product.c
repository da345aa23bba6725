/* bench_product.c - the speed of products with a coded matrix, beside decoding it, the same matrix uncoded,
 * and memcpy.
 *
 *     bench_product [ROWS COLS [BITS]]        4096 4096 2.9 if not given
 *
 * N(0,1) in BF16 from a seed, one thread, CPU time, medians.  Gvalue/s counts the matrix' values, once
 * however many vectors there are; an uncoded matrix is an exact frame of the decoded values, multiplied by
 * the same kernels. */
#include "vcllm.h"

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { MOST_VECTORS = 512, MOST_RUNS = 15 };

struct product_bench {
    struct vcl_context *ctx;
    struct vcl_tensor tensor;
    size_t rows, cols;
    void *values;      /* BF16 */
    uint8_t *frame[2]; /* coded, exact */
    size_t bytes[2];
    float *x, *y;
};

static void need(int holds, const char *what)
{
    if (!holds) {
        fprintf(stderr, "bench_product: %s\n", what);
        exit(1);
    }
}

static void *room(size_t bytes)
{
    void *const p = malloc(bytes ? bytes : 1);
    need(p != NULL, "out of memory");
    return p;
}

static void check(const struct product_bench *b, enum vcl_status status)
{
    need(status == VCL_OK, status == VCL_E_MEMORY ? "out of memory" : vcl_context_message(b->ctx));
}

/* ---- data -------------------------------------------------------------------------------------- */

static double uniform(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return ((double)(*state * 0x2545F4914F6CDD1D >> 11) + 0.5) / 9007199254740992.0;
}

static void fill_normal(float *x, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        const double r = sqrt(-2 * log(uniform(&seed)));
        x[i] = (float)(r * cos(6.283185307179586 * uniform(&seed)));
    }
}

static void encode(struct product_bench *b, int which, enum vcl_codec codec, double bits)
{
    struct vcl_params params;
    struct vcl_report report = { .size = sizeof report };
    vcl_params_init(&params);
    params.codec = codec;
    params.target = bits;
    params.objective = VCL_OBJECTIVE_MODEL;
    b->bytes[which] = (size_t)vcl_bound(&b->tensor);
    b->frame[which] = room(b->bytes[which]);
    check(b, vcl_encode_buffer(b->ctx, &b->tensor, b->values, &params, b->frame[which], &b->bytes[which],
                               &report));
    if (which == 0)
        printf("%zu x %zu BF16, N(0,1), %.3f bits, %.2f dB, 16 trellis states\n", b->rows, b->cols,
               report.bits, report.snr);
}

static void make_data(struct product_bench *b, double bits)
{
    const size_t n = b->rows * b->cols, lines = b->rows > b->cols ? b->rows : b->cols;
    float *const w = room(n * sizeof *w);
    b->tensor = (struct vcl_tensor){ VCL_DTYPE_BF16, 2, { b->rows, b->cols } };
    b->values = room(2 * n);
    fill_normal(w, n, 1);
    vcl_convert(VCL_DTYPE_F32, w, VCL_DTYPE_BF16, b->values, n);
    free(w);
    check(b, vcl_context_create(NULL, &b->ctx));
    encode(b, 0, VCL_CODEC_TENSOR, bits);
    check(b, vcl_decode_buffer(b->ctx, b->frame[0], b->bytes[0], b->values, 2 * n));
    encode(b, 1, VCL_CODEC_EXACT, bits);
    vcl_context_destroy(b->ctx);
    b->x = room(MOST_VECTORS * lines * sizeof *b->x);
    b->y = room(MOST_VECTORS * lines * sizeof *b->y);
    fill_normal(b->x, MOST_VECTORS * lines, 2);
}

/* ---- timing ------------------------------------------------------------------------------------ */

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

/* Seconds: the median of up to MOST_RUNS, after one that is not counted, within about two seconds. */
static double median(const struct product_bench *b, void (*run)(const struct product_bench *, void *),
                     void *user)
{
    double seconds[MOST_RUNS], all = 0;
    int n = 0;
    run(b, user);
    while (n < MOST_RUNS && (n < 3 || all < 2)) {
        const double start = now();
        run(b, user);
        seconds[n] = now() - start;
        all += seconds[n++];
    }
    qsort(seconds, (size_t)n, sizeof *seconds, compare);
    return seconds[n / 2];
}

static void run_copy(const struct product_bench *b, void *user)
{
    memcpy(user, b->values, 2 * b->rows * b->cols);
}

static void run_decode(const struct product_bench *b, void *user)
{
    check(b, vcl_decode_buffer(b->ctx, b->frame[0], b->bytes[0], user, 2 * b->rows * b->cols));
}

struct timed_product {
    const struct vcl_matrix *matrix;
    size_t n;
    int transposed;
};

static void run_product(const struct product_bench *b, void *user)
{
    const struct timed_product *const p = user;
    check(b, p->transposed ? vcl_multiply_transposed(b->ctx, p->matrix, b->x, p->n, b->rows, b->y, b->cols)
                           : vcl_multiply(b->ctx, p->matrix, b->x, p->n, b->cols, b->y, b->rows));
}

/* ---- levels of CPU ----------------------------------------------------------------------------- */

struct level {
    const char *name;
    double floor, aim; /* Gvalue/s of one vector; 0: none */
};

static int is_there(const char *name)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (strcmp(name, "avx512") == 0)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
    if (strcmp(name, "avx2") == 0)
        return __builtin_cpu_supports("avx2");
#endif
    return strcmp(name, "c") == 0;
}

static void bench_products(const struct product_bench *b, struct vcl_matrix *const matrix[2],
                           const struct level *level, int transposed)
{
    static const size_t sizes[] = { 1, 8, 64, MOST_VECTORS };
    const double values = (double)b->rows * (double)b->cols * 1e-9;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct timed_product product = { matrix[0], sizes[i], transposed };
        if (sizes[i] > 64 && strcmp(level->name, "c") == 0)
            continue; /* minutes */
        const double coded = median(b, run_product, &product);
        product.matrix = matrix[1];
        const double plain = median(b, run_product, &product);
        printf("  %-8s n = %-4zu %7.3f Gvalue/s %8.1f GMAC/s   uncoded %7.3f, ratio %.2f",
               transposed ? "X W" : "X W'", sizes[i], values / coded, values * (double)sizes[i] / coded,
               values / plain, coded / plain);
        if (i == 0 && !transposed && level->floor > 0)
            printf("   floor %.1f: %s, aim %.1f: %s", level->floor,
                   values / coded >= level->floor ? "yes" : "NO", level->aim,
                   values / coded >= level->aim ? "yes" : "no");
        printf("\n");
    }
}

static void bench_level(struct product_bench *b, const struct level *level)
{
    const size_t n = b->rows * b->cols;
    struct vcl_matrix *matrix[2];
    struct vcl_matrix_info info = { .size = sizeof info };
    void *const to = room(2 * n);
    setenv("VCLLM_CPU", level->name, 1);
    check(b, vcl_context_create(NULL, &b->ctx));
    for (int i = 0; i < 2; i++)
        check(b, vcl_matrix_open(b->ctx, b->frame[i], b->bytes[i], &matrix[i]));
    vcl_matrix_describe(matrix[0], &info);
    const double copy = median(b, run_copy, to), decode = median(b, run_decode, to);
    printf("%s: memcpy %.1f GB/s, decoding %.3f Gvalue/s, tables %zu bytes beside a frame of %zu\n",
           level->name, 2e-9 * (double)n / copy, 1e-9 * (double)n / decode, info.bytes, b->bytes[0]);
    for (int transposed = 0; transposed < 2; transposed++)
        bench_products(b, matrix, level, transposed);
    for (int i = 0; i < 2; i++)
        vcl_matrix_close(matrix[i]);
    vcl_context_destroy(b->ctx);
    free(to);
}

int main(int argc, char **argv)
{
    static const struct level levels[] = { { "avx512", 1.0, 1.7 }, { "avx2", 0.4, 0.8 }, { "c", 0, 0 } };
    struct product_bench b = { 0 };
    b.rows = argc > 2 ? strtoul(argv[1], NULL, 10) : 4096;
    b.cols = argc > 2 ? strtoul(argv[2], NULL, 10) : 4096;
    need(b.rows > 0 && b.rows <= 1 << 20 && b.cols > 0 && b.cols <= 1 << 20, "ROWS and COLS are 1 to 2^20");
    make_data(&b, argc > 3 ? atof(argv[3]) : 2.9);
    for (size_t i = 0; i < sizeof levels / sizeof levels[0]; i++)
        if (is_there(levels[i].name))
            bench_level(&b, &levels[i]);
    for (int i = 0; i < 2; i++)
        free(b.frame[i]);
    free(b.values);
    free(b.x);
    free(b.y);
    return 0;
}
