/* test_pack.c - whole models through vcllm_pack.h, as a program that links the installed libraries sees it.
 *
 * malloc and its kin are this program's own here, so that any allocation, in whatever library, can fail.
 * But for jansson's, which 2.14 does not survive: its parser ends the program (an assertion in
 * lex_unget_unsave). */
#include "pooled.h"
#include "scratch.h"
#include "sanitized.h"
#include "vcllm_pack.h"

#include <limits.h>
#include <math.h>
#include <jansson.h>
#include <pthread.h>
#include <stdatomic.h>

/* ---- memory that gives out ------------------------------------------------------------------- */

#ifndef SANITIZED
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t bytes);
void __libc_free(void *block);

static atomic_long left = LONG_MAX; /* allocations that succeed; then */
static int for_ever;                /* all fail, or only one */

static int refused(void)
{
    if (atomic_load(&left) == LONG_MAX)
        return 0;
    const long before = atomic_fetch_sub(&left, 1);
    return for_ever ? before <= 0 : before == 0;
}

static atomic_long blocks; /* in use */

static void *counted(void *block)
{
    blocks += block != NULL;
    return block;
}

void *malloc(size_t bytes) { return refused() ? NULL : counted(__libc_malloc(bytes)); }
void *calloc(size_t count, size_t size) { return refused() ? NULL : counted(__libc_calloc(count, size)); }
void *realloc(void *block, size_t bytes)
{
    if (refused())
        return NULL;
    void *const moved = __libc_realloc(block, bytes);
    blocks += moved && !block;
    return moved;
}
void free(void *block)
{
    blocks -= block != NULL;
    __libc_free(block);
}
#endif

/* ---- models ---------------------------------------------------------------------------------- */

enum { ROWS = 160, COLS = 256, BYTES = ROWS * COLS * 4 };

/* A file of `count` F32 matrices w0, w1, ...; values from the number of the tensor. */
static void put_matrices(const char *path, int count)
{
    char *const header = calloc(1, 200 * (size_t)count + 64);
    float *const values = malloc((size_t)count * BYTES);
    FILE *const file = fopen(path, "wb");
    size_t n = (size_t)sprintf(header, "{\"__metadata__\":{\"format\":\"pt\"}");
    assert_non_null(file);
    for (int t = 0; t < count; t++) {
        n += (size_t)sprintf(header + n,
                             ",\"w%d\":{\"dtype\":\"F32\",\"shape\":[%d,%d],\"data_offsets\":[%d,%d]}", t,
                             ROWS, COLS, t * BYTES, (t + 1) * BYTES);
        uint32_t state = 77 + (uint32_t)t;
        for (int i = 0; i < ROWS * COLS; i++) {
            double sum = 0;
            for (int k = 0; k < 4; k++)
                sum += (double)((state = state * 1664525u + 1013904223u) >> 8) * 0x1p-24 - 0.5;
            values[t * ROWS * COLS + i] = (float)sum;
        }
    }
    n += (size_t)sprintf(header + n, "}");
    const uint64_t length = n;
    assert_int_equal(fwrite(&length, 8, 1, file), 1);
    assert_int_equal(fwrite(header, 1, n, file), n);
    assert_int_equal(fwrite(values, BYTES, (size_t)count, file), count);
    assert_int_equal(fclose(file), 0);
    free(values);
    free(header);
}

/* A folder with one shard, an index and a configuration; free() its path. */
static char *put_folder(const char *name, int count)
{
    static const char index[] = "{\"metadata\":{\"total_size\":1},\"weight_map\":{";
    char path[600], *text = calloc(1, 64 * (size_t)count + 128);
    char *folder = strdup(scratch(name));
    assert_int_equal(mkdir(folder, 0777), 0);
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    put_matrices(path, count);
    size_t n = (size_t)sprintf(text, "%s", index);
    for (int t = 0; t < count; t++)
        n += (size_t)sprintf(text + n, "%s\"w%d\":\"model.safetensors\"", t ? "," : "", t);
    n += (size_t)sprintf(text + n, "}}");
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", folder);
    put_file(path, text, n);
    snprintf(path, sizeof path, "%s/config.json", folder);
    put_file(path, "{}", 2);
    free(text);
    return folder;
}

static int is_there(const char *path) { return access(path, F_OK) == 0; }

static int same_bytes(const char *a, const char *b)
{
    struct vcl_error error;
    void *x, *y;
    size_t n, m;
    if (vcl_read_file(a, 1 << 30, &x, &n, &error) || vcl_read_file(b, 1 << 30, &y, &m, &error))
        fail_msg("%s", error.text);
    const int same = n == m && memcmp(x, y, n) == 0;
    free(x);
    free(y);
    return same;
}

/* ---- what hooks hear ------------------------------------------------------------------------- */

struct heard {
    atomic_int progress, faults, stop_after; /* stop_after: progress calls until cancel says so; 0: never */
    uint64_t done, work;
    char fault[512], stage[32];
    int went_back; /* progress did, or was beyond its end */
    int notes, files, is_writing;
};

static int on_cancel(void *user)
{
    struct heard *heard = user;
    return heard->stop_after && heard->progress >= heard->stop_after;
}

static void on_progress(void *user, const struct vcl_progress *progress)
{
    struct heard *heard = user;
    heard->progress++;
    if (!progress->stage) {
        heard->done = 0;
        return;
    }
    heard->went_back |= progress->done < heard->done || progress->done > progress->work
                     || progress->counted > progress->count;
    heard->done = progress->done;
    snprintf(heard->stage, sizeof heard->stage, "%s", progress->stage);
}

static void on_fault(void *user, const char *text)
{
    struct heard *heard = user;
    if (heard->faults++ == 0)
        snprintf(heard->fault, sizeof heard->fault, "%s", text);
}

static void on_note(void *user, const char *text) { ((struct heard *)user)->notes += *text != 0; }

static void on_writing(void *user, const char *path)
{
    struct heard *heard = user;
    heard->is_writing = path != NULL;
    heard->files += path && is_there(path);
}

static struct vcl_hooks hooks_of(struct heard *heard)
{
    return (struct vcl_hooks){ .size = sizeof(struct vcl_hooks),
                               .user = heard,
                               .cancel = on_cancel,
                               .progress = on_progress,
                               .note = on_note,
                               .fault = on_fault,
                               .writing = on_writing };
}

/* ---- tests ----------------------------------------------------------------------------------- */

/* Fault: a round trip through the library loses something, or its totals are not the file's. */
static void test_round_trip(void **state)
{
    struct vcl_compress_options options;
    struct vcl_params params;
    struct vcl_pack_totals totals = { .size = sizeof totals };
    struct vcl_decompressed result = { .size = sizeof result };
    struct vcl_verified verified = { .size = sizeof verified };
    struct vcl_error error = { 0 };
    struct heard heard = { 0 };
    const struct vcl_hooks hooks = hooks_of(&heard);
    const char *rules[] = { "^w1$=lossless", "^w2$=5", "none=3" };
    struct stat file;
    (void)state;
    put_matrices(scratch("in"), 4);
    vcl_compress_options_init(&options);
    vcl_params_init(&params);
    params.target = 3;
    options.params = &params;
    options.rules = rules;
    options.rule_count = 3;
    options.threads = 2;
    if (vcl_compress_model(scratch("in"), scratch("small"), &options, &hooks, &totals, &error))
        fail_msg("%s", error.text);
    assert_int_equal(stat(scratch("small"), &file), 0);
    assert_int_equal(totals.file_bytes, file.st_size);
    assert_true(totals.tensors == 4 && totals.lossy == 3 && totals.exact == 1 && totals.missed == 0);
    assert_true(totals.bits > 3 && totals.bits <= (3 + 5 + 3) / 3.0 && totals.worst_snr > 10);
    assert_true(heard.progress > 4 && heard.faults == 0 && !heard.went_back);
    assert_true(heard.notes == 1 && heard.files == 1 && !heard.is_writing);
    assert_string_equal(heard.stage, "compress");
    assert_int_equal(vcl_verify_model(scratch("small"), NULL, NULL, &verified, &error), VCL_OK);
    assert_true(verified.compressed && verified.tensors == 4 && verified.faults == 0);
    assert_int_equal(vcl_decompress_model(scratch("small"), scratch("back"), NULL, NULL, &result, &error),
                     VCL_OK);
    assert_true(result.tensors == 4 && result.bytes == (uint64_t)4 * BYTES);

    options.lossless = 1;
    options.rule_count = 0;
    options.overwrite = 1;
    assert_int_equal(vcl_compress_model(scratch("in"), scratch("small"), &options, NULL, NULL, &error),
                     VCL_OK);
    struct vcl_decompress_options again;
    vcl_decompress_options_init(&again);
    again.overwrite = 1;
    assert_int_equal(vcl_decompress_model(scratch("small"), scratch("back"), &again, NULL, NULL, NULL),
                     VCL_OK);
    assert_true(same_bytes(scratch("in"), scratch("back")));
}

/* Fault: what cannot be done is begun, is refused without a reason, or takes a file that is there. */
static void test_refusals(void **state)
{
    struct vcl_compress_options options;
    struct vcl_params params;
    struct vcl_error error = { 0 };
    struct vcl_pack_totals odd = { 0 };
    const char *rules[] = { "w0=snr:20" };
    (void)state;
    put_matrices(scratch("in"), 1);
    put_file(scratch("there"), "mine", 4);
    assert_int_equal(vcl_compress_model(scratch("in"), scratch("there"), NULL, NULL, NULL, &error), VCL_E_IO);
    assert_non_null(strstr(error.text, "there: is there already"));
    assert_int_equal(vcl_compress_model(scratch("none"), scratch("out"), NULL, NULL, NULL, &error), VCL_E_IO);
    assert_non_null(strstr(error.text, "none"));
    assert_int_equal(vcl_compress_model(NULL, scratch("out"), NULL, NULL, NULL, NULL), VCL_E_ARGUMENT);
    assert_int_equal(vcl_compress_model(scratch("in"), "", NULL, NULL, NULL, &error), VCL_E_ARGUMENT);
    assert_int_equal(vcl_compress_model(scratch("in"), scratch("out"), NULL, NULL, &odd, &error),
                     VCL_E_ARGUMENT);
    assert_int_equal(vcl_decompress_model(scratch("in"), scratch("out"), NULL, NULL, NULL, &error),
                     VCL_E_ARGUMENT);
    assert_non_null(strstr(error.text, "is not compressed"));

    vcl_compress_options_init(&options);
    vcl_params_init(&params);
    options.params = &params;
    params.target = 0.001;
    assert_int_equal(vcl_compress_model(scratch("in"), scratch("out"), &options, NULL, NULL, &error),
                     VCL_E_ARGUMENT);
    params.target = 3;
    options.file_bytes = 20;
    assert_int_equal(vcl_compress_model(scratch("in"), scratch("out"), &options, NULL, NULL, &error),
                     VCL_E_RATE);
    options.file_bytes = 1 << 20;
    options.rules = rules;
    options.rule_count = 1;
    assert_int_equal(vcl_compress_model(scratch("in"), scratch("out"), &options, NULL, NULL, &error),
                     VCL_E_ARGUMENT);
    assert_non_null(strstr(error.text, "w0=snr:20"));
    rules[0] = "w0";
    assert_int_equal(vcl_compress_model(scratch("in"), scratch("out"), &options, NULL, NULL, &error),
                     VCL_E_ARGUMENT);
    assert_false(is_there(scratch("out")));
}

/* Fault: a damaged tensor is reported without its name and place, only the first of two is found, or a file
 * that is not good comes back. */
static void test_damage(void **state)
{
    struct vcl_verified verified = { .size = sizeof verified };
    struct vcl_error error = { 0 };
    struct heard heard = { 0 };
    const struct vcl_hooks hooks = hooks_of(&heard);
    struct vcl_model *model;
    (void)state;
    put_matrices(scratch("in"), 3);
    assert_int_equal(vcl_compress_model(scratch("in"), scratch("bad"), NULL, NULL, NULL, &error), VCL_OK);
    model = open_model(scratch("bad"));
    FILE *const file = fopen(scratch("bad"), "r+b");
    for (size_t i = 1; i < 3; i++) {
        const struct vcl_entry *entry = vcl_model_entry(model, i);
        assert_int_equal(fseek(file, (long)(entry->offset + entry->bytes - 9), SEEK_SET), 0);
        assert_int_equal(fputc(0x5A ^ 0xFF, file), 0x5A ^ 0xFF);
    }
    assert_int_equal(fclose(file), 0);
    vcl_model_close(model);

    assert_int_equal(vcl_verify_model(scratch("bad"), NULL, &hooks, &verified, &error), VCL_E_CHECKSUM);
    assert_true(verified.faults == 2 && verified.tensors == 3 && heard.faults == 2);
    assert_non_null(strstr(error.text, "bad: tensor 'w"));
    assert_non_null(strstr(error.text, "offset"));
    assert_string_equal(heard.fault, error.text);
    assert_int_equal(vcl_decompress_model(scratch("bad"), scratch("out"), NULL, NULL, NULL, &error),
                     VCL_E_CHECKSUM);
    assert_non_null(strstr(error.text, "tensor 'w"));
    assert_false(is_there(scratch("out")));
}

static void remove_folder(const char *path)
{
    assert_int_equal(nftw(path, scratch_remove, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* Cancelled after so many progress calls; 1 where there are not so many, and the output was there. */
static int cancel_after(const char *in, int stop, int before)
{
    struct heard heard = { .stop_after = stop };
    const struct vcl_hooks hooks = hooks_of(&heard);
    struct vcl_error error = { 0 };
    const enum vcl_status status = vcl_compress_model(in, scratch("out"), NULL, &hooks, NULL, &error);
    const int is_whole = status == VCL_OK;
    if (!is_whole && (status != VCL_E_CANCELLED || error.status != VCL_E_CANCELLED || !*error.text))
        fail_msg("step %d: status %d: %s", stop, status, error.text);
    assert_int_equal(is_there(scratch("out")), is_whole);
    if (is_whole)
        remove_folder(scratch("out"));
    assert_int_equal(count_files(scratch_folder), before);
    return is_whole;
}

/* Fault: a call that is cancelled goes on, or leaves something behind.  At every step of the way. */
static void test_cancel(void **state)
{
    char *in = put_folder("folder", 6), *one = strdup(scratch("one"));
    (void)state;
    put_matrices(one, 6);
    const int before = count_files(scratch_folder);
    int steps = 0;
    while (!cancel_after(one, steps + 1, before))
        steps++;
    assert_true(steps > 6 && steps < 1000);
    for (steps = 0; !cancel_after(in, steps + 1, before);)
        steps++;
    assert_true(steps > 6 && steps < 1000);
    free(one);
    free(in);
}

struct pack_thread {
    const char *in, *out;
    struct vcl_pool *pool;
    double bits;
    struct vcl_pack_totals totals;
    enum vcl_status status;
};

static void *compress_one(void *user)
{
    struct pack_thread *thread = user;
    struct vcl_compress_options options;
    struct vcl_params params;
    vcl_compress_options_init(&options);
    vcl_params_init(&params);
    params.target = thread->bits;
    options.params = &params;
    options.threads = 2;
    options.pool = thread->pool;
    thread->totals.size = sizeof thread->totals;
    thread->status = vcl_compress_model(thread->in, thread->out, &options, NULL, &thread->totals, NULL);
    return NULL;
}

/* Two models at the same time, to NAME-a and NAME-b. */
static void compress_two(struct vcl_pool *pool, const char *name)
{
    pthread_t one, two;
    char paths[4][512];
    for (int i = 0; i < 4; i++)
        snprintf(paths[i], sizeof paths[i], "%s/%s%s", scratch_folder, i % 2 ? name : "",
                 (const char *[]){ "a", "-a", "b", "-b" }[i]);
    struct pack_thread a = { .in = paths[0], .out = paths[1], .pool = pool, .bits = 2 };
    struct pack_thread b = { .in = paths[2], .out = paths[3], .pool = pool, .bits = 6 };
    assert_int_equal(pthread_create(&one, NULL, compress_one, &a), 0);
    assert_int_equal(pthread_create(&two, NULL, compress_one, &b), 0);
    pthread_join(one, NULL);
    pthread_join(two, NULL);
    assert_true(a.status == VCL_OK && a.totals.tensors == 8 && a.totals.bits <= 2 && a.totals.bits > 1.9);
    assert_true(b.status == VCL_OK && b.totals.tensors == 5 && b.totals.bits <= 6 && b.totals.bits > 5.5);
}

/* Fault: two calls at once share something: one's target, messages or files are the other's; also where they
 * have their threads in common. */
static void test_threads(void **state)
{
    (void)state;
    struct vcl_pool *const pool = pool_of(3);
    assert_non_null(pool);
    put_matrices(scratch("a"), 8);
    put_matrices(scratch("b"), 5);
    compress_two(NULL, "apart");
    compress_two(pool, "shared");
    assert_true(same_bytes(scratch("apart-a"), scratch("shared-a")));
    assert_true(same_bytes(scratch("apart-b"), scratch("shared-b")));
    vcl_pool_destroy(pool);
}

/* Fault: a caller compiled against an older or newer header is refused, or written beyond its structs. */
static void test_sizes(void **state)
{
    struct vcl_error error = { 0 };
    struct {
        struct vcl_compress_options options;
        uint64_t later;
    } newer;
    struct {
        struct vcl_pack_totals totals;
        uint64_t beyond;
    } totals = { .beyond = 5 };
    (void)state;
    put_matrices(scratch("in"), 1);
    vcl_compress_options_init_sized(&newer.options, sizeof newer);
    assert_true(newer.options.row_floor < 0 && newer.later == 0);
    newer.options.overwrite = 1;
    totals.totals.size = offsetof(struct vcl_pack_totals, values);
    totals.totals.values = 3;
    assert_int_equal(
        vcl_compress_model(scratch("in"), scratch("out"), &newer.options, NULL, &totals.totals, &error),
        VCL_OK);
    assert_true(totals.totals.tensors == 1 && totals.totals.values == 3 && totals.beyond == 5);
    newer.later = 1;
    assert_int_equal(vcl_compress_model(scratch("in"), scratch("out"), &newer.options, NULL, NULL, &error),
                     VCL_E_ARGUMENT);
    const struct vcl_hooks none = { 0 };
    assert_int_equal(vcl_compress_model(scratch("in"), scratch("out"), NULL, &none, NULL, &error),
                     VCL_E_ARGUMENT);
    assert_non_null(strstr(error.text, "hooks"));
}

/* Fault: figures that depend on threads, a call that is not cancelled, or options that contradict each
 * other. */
static void test_evaluate(void **state)
{
    enum { COUNT = 200, CONTEXT = 32 };
    uint32_t tokens[COUNT];
    struct vcl_evaluate_options options;
    struct vcl_evaluation one = { .size = sizeof one }, two = { .size = sizeof two };
    struct vcl_error error = { 0 };
    struct heard heard = { .stop_after = 3 };
    const struct vcl_hooks hooks = hooks_of(&heard);
    const char *model = VCL_MODELS "/tiny-llama";
    (void)state;
    for (int i = 0; i < COUNT; i++)
        tokens[i] = 3 + (uint32_t)(i * 37 % 900);
    vcl_evaluate_options_init(&options);
    options.tokens = tokens;
    options.token_count = COUNT;
    options.context = CONTEXT;
    options.threads = 1;
    if (vcl_evaluate_model(model, &options, NULL, &one, &error))
        fail_msg("%s", error.text);
    options.pool = pool_of(3);
    options.baseline = model;
    assert_non_null(options.pool);
    assert_int_equal(vcl_evaluate_model(model, &options, NULL, &two, &error), VCL_OK);
    assert_true(one.windows == 6 && one.tokens == 6 * CONTEXT && one.perplexity.mean > 10);
    assert_true(one.nll.mean == two.nll.mean && isnan(one.kl.mean) && two.kl.mean == 0
                && two.same_top.mean == 1);
    assert_int_equal(vcl_evaluate_model(model, &options, &hooks, &two, &error), VCL_E_CANCELLED);
    assert_int_equal(heard.progress, 4); /* begun, two windows, ended */
    options.text = "both";
    assert_int_equal(vcl_evaluate_model(model, &options, NULL, &two, &error), VCL_E_ARGUMENT);
    assert_int_equal(vcl_evaluate_model(scratch("none"), NULL, NULL, NULL, &error), VCL_E_ARGUMENT);
    vcl_pool_destroy(options.pool);
}

#ifndef SANITIZED
static void check_and_remove(void)
{
    struct vcl_error error = { 0 };
    if (vcl_verify_model(scratch("out"), NULL, NULL, NULL, &error))
        fail_msg("%s", error.text);
    remove_folder(scratch("out"));
}

/* Compresses with the n-th allocation failing; 1 where there are not so many. */
static int compress_scarce(const char *in, struct vcl_compress_options *options, long n)
{
    struct vcl_error error = { 0 };
    const long used = atomic_load(&blocks);
    atomic_store(&left, n);
    const enum vcl_status status = vcl_compress_model(in, scratch("out"), options, NULL, NULL, &error);
    const int spent = atomic_load(&left) < 0;
    atomic_store(&left, LONG_MAX);
    if (atomic_load(&blocks) != used)
        fail_msg("allocation %ld fails: %ld blocks are not freed: %s", n, atomic_load(&blocks) - used,
                 error.text);
    if (status != VCL_OK && !spent)
        fail_msg("allocation %ld: status %d: %s", n, status, error.text);
    if (is_there(scratch("out"))) { /* done without it, or only the totals could not be read */
        check_and_remove();
    } else {
        assert_int_not_equal(status, VCL_OK);
    }
    return !spent;
}

/* A finished shard is kept, and what could not be removed without memory: the same call continues it. */
static int resume_scarce(const char *in, struct vcl_compress_options *options)
{
    struct vcl_error error = { 0 };
    if (!is_there(scratch("out.partial")))
        return 0;
    options->resume = 1;
    struct vcl_params params;
    vcl_params_init(&params);
    params.objective = VCL_OBJECTIVE_MODEL; /* what NULL stands for, but for a stage that is switched off */
    params.disable = VCL_STAGE_MODEL;
    options->params = &params;
    assert_int_not_equal(vcl_compress_model(in, scratch("out"), options, NULL, NULL, &error), VCL_OK);
    assert_non_null(strstr(error.text, "other settings"));
    options->params = NULL;
    if (vcl_compress_model(in, scratch("out"), options, NULL, NULL, &error))
        fail_msg("%s", error.text);
    options->resume = 0;
    check_and_remove();
    return 1;
}

/* Fault: an allocation that fails is believed, ends the program, leaks, or leaves half of the output or what
 * the next call stumbles over. */
static void test_memory(void **state)
{
    struct vcl_compress_options options;
    const char *rules[] = { "^w1$=lossless" };
    char *in = put_folder("scarce", 3);
    const int before = count_files(scratch_folder);
    (void)state;
    vcl_compress_options_init(&options);
    options.threads = 1;
    options.rules = rules;
    options.rule_count = 1;
    json_set_alloc_funcs(__libc_malloc, __libc_free);
    for (for_ever = 0; for_ever < 2; for_ever++) {
        long tries = 0, resumed = 0;
        for (long n = 0; !compress_scarce(in, &options, n); n += getenv("VCLLM_LONG") ? 1 : n / 40 + 1) {
            resumed += resume_scarce(in, &options);
            assert_int_equal(count_files(scratch_folder), before);
            tries++;
        }
        assert_true(tries > 50 && (for_ever || resumed < tries / 4));
    }
    free(in);
}
#endif

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_setup, scratch_teardown)
        TEST(test_round_trip), TEST(test_refusals), TEST(test_damage),   TEST(test_cancel),
        TEST(test_threads),    TEST(test_sizes),    TEST(test_evaluate),
#ifndef SANITIZED
        TEST(test_memory),
#endif
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
