/* Recipes through the public API: what is learned codes as the search did, again and elsewhere. */
#include "base/common.h"
#include "random.h"
#include "scarce.h"
#include "vcllm.h"

#include <pthread.h>
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

/* ---- values and frames ----------------------------------------------------------------------- */

struct held {
    uint8_t *bytes;
    size_t n;
};

static int read_memory(void *user, uint64_t offset, void *dst, size_t n)
{
    const struct held *const memory = user;
    assert_true(offset <= memory->n && n <= memory->n - offset);
    memcpy(dst, memory->bytes + offset, n);
    return 0;
}

static int write_memory(void *user, uint64_t offset, const void *src, size_t n)
{
    const struct held *const memory = user;
    assert_true(offset <= memory->n && n <= memory->n - offset);
    memcpy(memory->bytes + offset, src, n);
    return 0;
}

enum values_kind { NORMAL, MEANS, COLUMNS, ROWS, SMOOTH, HUMPS, KINDS };
static const char *const kind_names[KINDS] = { "normal", "means", "columns", "rows", "smooth", "humps" };

/* Values of a kind that another stage of the codec is for. */
static float *draw(enum values_kind kind, uint64_t rows, uint64_t cols, uint64_t state)
{
    float *const x = malloc(rows * cols * sizeof *x);
    for (uint64_t r = 0; r < rows; r++) {
        const double row = kind == ROWS ? exp2(random_normal(&state)) : 1;
        double last = random_normal(&state);
        for (uint64_t c = 0; c < cols; c++) {
            const double fresh = random_normal(&state);
            last = 0.95 * last + 0.3 * fresh;
            double v = kind == SMOOTH ? last : kind == HUMPS ? 0.2 * fresh + (fresh > 0 ? 1 : -1) : fresh;
            v *= kind == COLUMNS ? exp2((double)(c % 8) / 2) : row;
            x[r * cols + c] = (float)(v + (kind == MEANS ? 3 + 2 * sin((double)c) : 0));
        }
    }
    return x;
}

static struct vcl_tensor matrix(enum vcl_dtype dtype, uint64_t rows, uint64_t cols)
{
    return (struct vcl_tensor){ dtype, 2, { rows, cols } };
}

static struct vcl_params params_of(double bits)
{
    struct vcl_params params;
    vcl_params_init(&params);
    params.target = bits;
    return params;
}

static struct vcl_recipe *learn(const struct vcl_tensor *tensor, float *x, const struct vcl_params *params)
{
    struct held from = { (uint8_t *)x, (size_t)(tensor->dims[0] * tensor->dims[1]) * sizeof *x };
    const struct vcl_source source = { &from, read_memory, NULL };
    struct vcl_recipe *recipe = NULL;
    if (vcl_recipe_learn(ctx, tensor, &source, params, &recipe, NULL)) {
        print_message("learn: %s\n", vcl_context_message(ctx));
        fail();
    }
    return recipe;
}

/* The frame that the recipe makes, in a block as large as it. */
static struct held apply(const struct vcl_recipe *recipe, const struct vcl_tensor *tensor, void *values,
                         struct vcl_report *report)
{
    uint64_t bytes;
    vcl_tensor_size(tensor, NULL, &bytes);
    struct held from = { values, (size_t)bytes }, to = { NULL, (size_t)vcl_bound(tensor) };
    to.bytes = malloc(to.n);
    const struct vcl_source source = { &from, read_memory, values };
    const struct vcl_sink sink = { &to, write_memory, NULL };
    const enum vcl_status status = vcl_recipe_encode(ctx, recipe, tensor, &source, &sink, report);
    if (status) {
        print_message("apply: %s: %s\n", vcl_status_text(status), vcl_context_message(ctx));
        fail();
    }
    to.n = (size_t)report->frame_bytes;
    return to;
}

static struct vcl_recipe_info describe(const struct vcl_recipe *recipe)
{
    struct vcl_recipe_info info = { .size = sizeof info };
    assert_int_equal(vcl_recipe_describe(recipe, &info), VCL_OK);
    return info;
}

/* ---- learned and applied --------------------------------------------------------------------- */

static void check_same(enum values_kind kind, const struct vcl_params *params, uint64_t rows, uint64_t cols)
{
    const struct vcl_tensor tensor = matrix(VCL_DTYPE_F32, rows, cols);
    float *const x = draw(kind, rows, cols, 1 + (uint64_t)kind);
    struct held whole = { malloc(vcl_bound(&tensor)), vcl_bound(&tensor) };
    struct vcl_report first = { .size = sizeof first }, second = first;
    assert_int_equal(vcl_encode_buffer(ctx, &tensor, x, params, whole.bytes, &whole.n, &first), VCL_OK);
    struct vcl_recipe *const recipe = learn(&tensor, x, params);
    const struct held again = apply(recipe, &tensor, x, &second);
    if (first.codec != VCL_CODEC_TENSOR || again.n != whole.n
        || memcmp(again.bytes, whole.bytes, whole.n) != 0) {
        print_message("%s, %g bits, transpose %d, rotate %d: another frame\n", kind_names[kind],
                      params->target, params->transpose, params->rotate);
        fail();
    }
    assert_true(second.trials == 1 && second.snr == first.snr && second.flags == 0);
    vcl_recipe_destroy(recipe);
    free(again.bytes);
    free(whole.bytes);
    free(x);
}

/* Fault: a setting that the recipe forgets, so that it does not make the frame that the search made. */
static void makes_the_frame_of_the_search(void **unused)
{
    (void)unused;
    static const double rates[] = { 0.6, 2.9, 5 };
    for (int kind = 0; kind < KINDS; kind++)
        for (int i = 0; i < 9; i++) {
            struct vcl_params params = params_of(rates[i % 3]);
            params.objective = i / 3 == 1 ? VCL_OBJECTIVE_MODEL : VCL_OBJECTIVE_MSE;
            params.transpose = i / 3 == 2;
            params.rotate = i == 4;
            check_same((enum values_kind)kind, &params, 300, 256);
        }
}

/* Fault: a step asked for that is not the one taken, or errors that it does not bound: about 0.27 of its square. */
static void takes_the_step_asked_for(void **unused)
{
    (void)unused;
    const struct vcl_tensor tensor = matrix(VCL_DTYPE_F32, 300, 256);
    uint8_t *const frame = malloc(vcl_bound(&tensor));
    for (int kind = 0; kind < KINDS; kind++)
        for (double step = 0.02; step < 0.3; step *= 2) {
            struct vcl_params params = params_of(step);
            struct vcl_report report = { .size = sizeof report };
            float *const x = draw((enum values_kind)kind, 300, 256, 12);
            size_t bytes = vcl_bound(&tensor);
            double sum = 0;
            for (int i = 0; i < 300 * 256; i++)
                sum += (double)x[i] * x[i];
            params.goal = VCL_GOAL_STEP;
            assert_int_equal(vcl_encode_buffer(ctx, &tensor, x, &params, frame, &bytes, &report), VCL_OK);
            struct vcl_recipe *const recipe = learn(&tensor, x, &params);
            const double error = sum * pow(10, -report.snr / 10) / (300 * 256);
            if (fabs(describe(recipe).step / step - 1) > 0x1p-11
                || fabs(error / (step * step) - 0.27) > 0.06) {
                print_message("%s, step %g: error %g steps squared\n", kind_names[kind], step,
                              error / (step * step));
                fail();
            }
            vcl_recipe_destroy(recipe);
            free(x);
        }
    free(frame);
}

/* Fault: a recipe that holds for the values alone that it was learned from. */
static void codes_other_values(void **unused)
{
    (void)unused;
    const struct vcl_tensor tensor = matrix(VCL_DTYPE_F32, 512, 256), other = matrix(VCL_DTYPE_BF16, 40, 256);
    const struct vcl_params params = params_of(2.9);
    for (int kind = 0; kind < KINDS; kind++) {
        struct vcl_report report = { .size = sizeof report };
        float *const x = draw((enum values_kind)kind, 512, 256, 7), *const y = draw((enum values_kind)kind,
                                                                                    512, 256, 8);
        float *const back = malloc(512 * 256 * sizeof *back);
        struct vcl_recipe *const recipe = learn(&tensor, x, &params);
        struct held frame = apply(recipe, &tensor, y, &report);
        struct vcl_error_sums sums = { 0 };
        assert_int_equal(vcl_decode_buffer(ctx, frame.bytes, frame.n, back, 512 * 256 * sizeof *back),
                         VCL_OK);
        vcl_compare(VCL_DTYPE_F32, y, back, 512 * 256, &sums);
        assert_true(fabs(vcl_snr(&sums) - report.snr) < 1e-3);
        if (fabs(report.bits - 2.9) > 0.1 || report.snr < 15) {
            print_message("%s: %g bits, %g dB\n", kind_names[kind], report.bits, report.snr);
            fail();
        }
        free(frame.bytes);
        vcl_convert(VCL_DTYPE_F32, y, VCL_DTYPE_BF16, back, 40 * 256); /* fewer rows, another dtype */
        frame = apply(recipe, &other, back, &report);
        assert_true(report.codec == VCL_CODEC_TENSOR && report.snr > 15 && report.bits < 4);
        free(frame.bytes);
        vcl_recipe_destroy(recipe);
        free(back);
        free(y);
        free(x);
    }
}

/* Fault: rates that do not follow the step, where values have no shape of their own, which holds at one step. */
static void follows_the_step(void **unused)
{
    (void)unused;
    enum { STEPS = 25 };
    const struct vcl_tensor tensor = matrix(VCL_DTYPE_F32, 512, 256);
    const struct vcl_params params = params_of(2.9);
    for (int kind = 0; kind < HUMPS; kind++) {
        float *const x = draw((enum values_kind)kind, 512, 256, 9);
        struct vcl_recipe *const recipe = learn(&tensor, x, &params);
        const struct vcl_recipe_info made = describe(recipe);
        double last = INFINITY;
        for (int i = 0; i < STEPS; i++) {
            const double factor = exp2((i - 12) / 8.0);
            struct vcl_report report = { .size = sizeof report };
            assert_int_equal(vcl_recipe_scale(recipe, factor), VCL_OK);
            free(apply(recipe, &tensor, x, &report).bytes);
            assert_true(fabs(describe(recipe).step / made.step / factor - 1) < 1e-6);
            const double aside = report.bits - (2.9 - log2(factor));
            if (report.bits >= last + 0.005 || (factor < 1.5 && fabs(aside) > 0.25)
                || report.snr < 6 * (report.bits - 0.7)) {
                print_message("%s: step times %g: %g bits, %g dB\n", kind_names[kind], factor, report.bits,
                              report.snr);
                fail();
            }
            last = report.bits;
        }
        assert_int_equal(vcl_recipe_scale(recipe, 1), VCL_OK); /* nothing has added up */
        assert_true(describe(recipe).hash == made.hash);
        vcl_recipe_destroy(recipe);
        free(x);
    }
}

/* Fault: values that a recipe does not fit are lost, or the frame is larger than the bound. */
static void keeps_what_it_does_not_fit(void **unused)
{
    (void)unused;
    const struct vcl_tensor tensor = matrix(VCL_DTYPE_F32, 64, 128);
    const struct vcl_params params = params_of(2.9);
    float *const x = draw(NORMAL, 64, 128, 3), *const y = malloc(64 * 128 * sizeof *y);
    float *const back = malloc(64 * 128 * sizeof *back);
    struct vcl_recipe *const recipe = learn(&tensor, x, &params);
    for (int octaves = -120; octaves <= 120; octaves += 8) {
        struct vcl_report report = { .size = sizeof report };
        for (int i = 0; i < 64 * 128; i++)
            y[i] = ldexpf(x[i], octaves);
        y[5] = NAN, y[6] = -INFINITY;
        const struct held frame = apply(recipe, &tensor, y, &report);
        struct vcl_error_sums sums = { 0 };
        assert_int_equal(vcl_decode_buffer(ctx, frame.bytes, frame.n, back, 64 * 128 * sizeof *back), VCL_OK);
        vcl_compare(VCL_DTYPE_F32, y, back, 64 * 128, &sums);
        const int fell_back = (report.flags & VCL_REPORT_FELL_BACK) != 0;
        assert_true(sums.mismatches == 0 && fell_back == (report.codec == VCL_CODEC_LOSSLESS));
        assert_true(fell_back ? sums.error == 0 : vcl_snr(&sums) > 0);
        free(frame.bytes);
    }
    memset(y, 0, 64 * 128 * sizeof *y);
    struct vcl_report report = { .size = sizeof report };
    free(apply(recipe, &tensor, y, &report).bytes);
    assert_true(report.bits < 0.3);
    vcl_recipe_destroy(recipe);
    free(back);
    free(y);
    free(x);
}

/* ---- saved and loaded ------------------------------------------------------------------------ */

/* Fault: a recipe from a file that codes otherwise than the one that went there. */
static void comes_back_from_bytes(void **unused)
{
    (void)unused;
    const struct vcl_tensor tensor = matrix(VCL_DTYPE_F32, 300, 96);
    for (int kind = 0; kind < KINDS; kind++)
        for (int scaled = 0; scaled < 2; scaled++) {
            const struct vcl_params params = params_of(2.2);
            struct vcl_report report = { .size = sizeof report };
            float *const x = draw((enum values_kind)kind, 300, 96, 4);
            struct vcl_recipe *const recipe = learn(&tensor, x, &params), *loaded = NULL;
            if (scaled)
                assert_int_equal(vcl_recipe_scale(recipe, 1.3), VCL_OK);
            const struct vcl_recipe_info info = describe(recipe);
            size_t size = info.bytes - 1;
            uint8_t *const bytes = malloc(info.bytes);
            assert_int_equal(vcl_recipe_save(recipe, bytes, &size), VCL_E_SPACE);
            assert_int_equal(size, info.bytes);
            assert_int_equal(vcl_recipe_save(recipe, bytes, &size), VCL_OK);
            assert_int_equal(vcl_recipe_load(ctx, bytes, size, &loaded), VCL_OK);
            assert_true(describe(loaded).hash == info.hash && describe(loaded).step == info.step);
            const struct held one = apply(recipe, &tensor, x, &report),
                              two = apply(loaded, &tensor, x, &report);
            assert_int_equal(one.n, two.n);
            assert_memory_equal(one.bytes, two.bytes, one.n);
            vcl_recipe_destroy(loaded);
            vcl_recipe_destroy(recipe);
            free(one.bytes);
            free(two.bytes);
            free(bytes);
            free(x);
        }
}

/* Fault: a cut or altered recipe that loads. */
static void finds_all_damage(void **unused)
{
    (void)unused;
    const struct vcl_tensor tensor = matrix(VCL_DTYPE_F32, 200, 64);
    const struct vcl_params params = params_of(2);
    float *const x = draw(COLUMNS, 200, 64, 5);
    struct vcl_recipe *const recipe = learn(&tensor, x, &params), *loaded;
    size_t size = describe(recipe).bytes;
    uint8_t *const bytes = malloc(size);
    assert_int_equal(vcl_recipe_save(recipe, bytes, &size), VCL_OK);
    for (size_t n = 0; n < size; n++) {
        uint8_t *const cut = malloc(n ? n : 1); /* its own block, so that a sanitizer sees an over-read */
        memcpy(cut, bytes, n);
        assert_int_not_equal(vcl_recipe_load(ctx, cut, n, &loaded), VCL_OK);
        assert_true(vcl_context_message(ctx)[0] != 0 && loaded == NULL);
        free(cut);
    }
    for (size_t bit = 0; bit < 8 * size; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_not_equal(vcl_recipe_load(ctx, bytes, size, &loaded), VCL_OK);
        bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    vcl_recipe_destroy(recipe);
    free(bytes);
    free(x);
}

/* Fault: fields with good checksums that nobody could code with. */
static void refuses_the_impossible(void **unused)
{
    (void)unused;
    static const struct {
        size_t at;
        uint64_t value;
        size_t bytes;
    } lies[] = {
        { 8, 0, 8 },
        { 8, 0x7ff0000000000000, 8 },
        { 8, 0x7ff8000000000000, 8 },
        { 8, 0xbff0000000000000, 8 },
        { 16, 0xbf800000, 4 },
        { 16, 0x7fc00000, 4 },
        { 16, 0x7f800000, 4 },
        { 21, 4, 1 },
        { 22, 1, 1 },
        { 27, 1, 1 },
    };
    const struct vcl_tensor tensor = matrix(VCL_DTYPE_F32, 200, 64);
    const struct vcl_params params = params_of(2);
    float *const x = draw(NORMAL, 200, 64, 5);
    struct vcl_recipe *const recipe = learn(&tensor, x, &params), *loaded;
    size_t size = describe(recipe).bytes;
    uint8_t *const bytes = malloc(size), *const lie = malloc(size);
    assert_int_equal(vcl_recipe_save(recipe, bytes, &size), VCL_OK);
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        memcpy(lie, bytes, size);
        for (size_t b = 0; b < lies[i].bytes; b++)
            lie[lies[i].at + b] = (uint8_t)(lies[i].value >> 8 * b);
        vcl_store32(lie + 28, vcl_hash32(lie, 28));
        if (vcl_recipe_load(ctx, lie, size, &loaded) != VCL_E_FORMAT)
            fail_msg("lie %zu was believed", i);
    }
    vcl_recipe_destroy(recipe);
    free(lie);
    free(bytes);
    free(x);
}

/* ---- arguments, memory, threads -------------------------------------------------------------- */

/* Fault: arguments that reach the codec unchecked. */
static void checks_arguments(void **unused)
{
    (void)unused;
    const struct vcl_tensor tensor = matrix(VCL_DTYPE_F32, 64, 64), other = matrix(VCL_DTYPE_F32, 64, 80),
                            empty = matrix(VCL_DTYPE_F32, 0, 64), whole = matrix(VCL_DTYPE_I32, 64, 64);
    struct vcl_params params = params_of(3);
    float *const x = draw(NORMAL, 64, 80, 6);
    struct held memory = { (uint8_t *)x, 64 * 80 * sizeof *x };
    const struct vcl_source source = { &memory, read_memory, NULL };
    const struct vcl_sink sink = { &memory, write_memory, NULL };
    struct vcl_recipe *recipe, *none;
    struct vcl_recipe_info info = { 0 };
    assert_int_equal(vcl_recipe_learn(ctx, &empty, &source, &params, &none, NULL), VCL_E_ARGUMENT);
    assert_int_equal(vcl_recipe_learn(ctx, &whole, &source, &params, &none, NULL), VCL_E_ARGUMENT);
    params.codec = VCL_CODEC_LOSSLESS;
    assert_int_equal(vcl_recipe_learn(ctx, &tensor, &source, &params, &none, NULL), VCL_E_ARGUMENT);
    params = params_of(3);
    params.row_floor = 10;
    assert_int_equal(vcl_recipe_learn(ctx, &tensor, &source, &params, &none, NULL), VCL_E_ARGUMENT);
    params = params_of(3);
    recipe = learn(&tensor, x, &params);
    assert_int_equal(vcl_recipe_encode(ctx, recipe, &other, &source, &sink, NULL), VCL_E_ARGUMENT);
    assert_int_equal(vcl_recipe_encode(ctx, recipe, &whole, &source, &sink, NULL), VCL_E_ARGUMENT);
    assert_int_equal(vcl_recipe_encode(ctx, NULL, &tensor, &source, &sink, NULL), VCL_E_ARGUMENT);
    assert_int_equal(vcl_recipe_describe(recipe, &info), VCL_E_ARGUMENT);
    static const double factors[] = { 0, -1, NAN, INFINITY, 1e300, 1e-300, 0x1p40, 0x1p-40 };
    const uint64_t hash = describe(recipe).hash;
    for (size_t i = 0; i < sizeof factors / sizeof factors[0]; i++) {
        assert_int_equal(vcl_recipe_scale(recipe, factors[i]), VCL_E_ARGUMENT);
        assert_true(describe(recipe).hash == hash);
    }
    vcl_recipe_destroy(recipe);
    vcl_recipe_destroy(NULL);
    free(x);
}

/* Fault: an allocation that fails and leaks, or is not seen to have failed. */
static void survives_any_allocation_that_fails(void **unused)
{
    (void)unused;
    const struct vcl_tensor tensor = matrix(VCL_DTYPE_F32, 64, 64);
    const struct vcl_params params = params_of(3);
    float *const x = draw(COLUMNS, 64, 64, 6);
    struct held from = { (uint8_t *)x, 64 * 64 * sizeof *x },
                to = { malloc(vcl_bound(&tensor)), vcl_bound(&tensor) };
    const struct vcl_source source = { &from, read_memory, NULL };
    const struct vcl_sink sink = { &to, write_memory, NULL };
    for (long n = 0, done = 0; !done; n++) {
        struct scarce scarce = { n, 0 };
        struct vcl_options options;
        struct vcl_context *own = NULL;
        struct vcl_recipe *recipe = NULL;
        vcl_options_init(&options);
        options.user = &scarce;
        options.allocate = scarce_allocate;
        options.release = scarce_release;
        enum vcl_status status = vcl_context_create(&options, &own);
        if (!status)
            status = vcl_recipe_learn(own, &tensor, &source, &params, &recipe, NULL);
        if (!status)
            status = vcl_recipe_encode(own, recipe, &tensor, &source, &sink, NULL);
        assert_true(status == VCL_OK || status == VCL_E_MEMORY);
        done = status == VCL_OK;
        vcl_context_destroy(own);
        vcl_recipe_destroy(recipe);
        assert_int_equal(scarce.blocks, 0);
    }
    free(to.bytes);
    free(x);
}

struct job {
    const struct vcl_recipe *recipe;
    float *x;
    uint64_t sum;
};

static void *encode_in_thread(void *user)
{
    struct job *const job = user;
    const struct vcl_tensor tensor = matrix(VCL_DTYPE_F32, 256, 128);
    struct held from = { (uint8_t *)job->x, 256 * 128 * sizeof(float) },
                to = { malloc(vcl_bound(&tensor)), vcl_bound(&tensor) };
    const struct vcl_source source = { &from, read_memory, NULL };
    const struct vcl_sink sink = { &to, write_memory, NULL };
    struct vcl_report report = { .size = sizeof report };
    struct vcl_context *own;
    if (!vcl_context_create(NULL, &own)) {
        if (!vcl_recipe_encode(own, job->recipe, &tensor, &source, &sink, &report))
            job->sum = vcl_hash32(to.bytes, (size_t)report.frame_bytes);
        vcl_context_destroy(own);
    }
    free(to.bytes);
    return NULL;
}

/* Fault: contexts that share a recipe and meet in its tables. */
static void threads_share_a_recipe(void **unused)
{
    (void)unused;
    enum { THREADS = 4 };
    const struct vcl_tensor tensor = matrix(VCL_DTYPE_F32, 256, 128);
    const struct vcl_params params = params_of(2);
    float *const x = draw(ROWS, 256, 128, 11);
    struct vcl_recipe *const recipe = learn(&tensor, x, &params);
    pthread_t threads[THREADS];
    struct job jobs[THREADS];
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (struct job){ recipe, x, 0 };
        assert_int_equal(pthread_create(&threads[i], NULL, encode_in_thread, &jobs[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < THREADS; i++)
        assert_true(jobs[i].sum != 0 && jobs[i].sum == jobs[0].sum);
    vcl_recipe_destroy(recipe);
    free(x);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(makes_the_frame_of_the_search),
        cmocka_unit_test(takes_the_step_asked_for),
        cmocka_unit_test(codes_other_values),
        cmocka_unit_test(follows_the_step),
        cmocka_unit_test(keeps_what_it_does_not_fit),
        cmocka_unit_test(comes_back_from_bytes),
        cmocka_unit_test(finds_all_damage),
        cmocka_unit_test(refuses_the_impossible),
        cmocka_unit_test(checks_arguments),
        cmocka_unit_test(survives_any_allocation_that_fails),
        cmocka_unit_test(threads_share_a_recipe),
    };
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    return cmocka_run_group_tests(tests, open_context, close_context);
}
