/* Structs that may grow: callers compiled against older and newer headers than the library.  Every struct
 * lies in a block of exactly its size, so that the sanitizers see a byte too many. */
#include "scratch.h"
#include "vcllm_file.h"

static float values[64 * 64];
static const struct vcl_tensor tensor = { VCL_DTYPE_F32, 2, { 64, 64 } };

/* Bytes that a later version adds, and what is around a struct. */
enum { MORE = 24, AROUND = 0xa5 };

/* A block of `size` bytes full of AROUND that says its size. */
static void *sized(size_t size)
{
    uint8_t *const block = test_malloc(size);
    memset(block, AROUND, size);
    memcpy(block, &size, sizeof size);
    return block;
}

static void assert_tail(const void *block, size_t from, size_t size, int byte)
{
    for (size_t i = from; i < size; i++)
        assert_int_equal(((const uint8_t *)block)[i], byte);
}

static enum vcl_status encode(struct vcl_context *ctx, const void *params, uint8_t *frame, size_t *bytes)
{
    *bytes = (size_t)vcl_bound(&tensor);
    return vcl_encode_buffer(ctx, &tensor, values, params, frame, bytes, NULL);
}

/* Fault: fields are read that an older caller's struct has not, or it is refused; init writes them. */
static void older_structs_go_in(void **state)
{
    (void)state;
    const size_t old = offsetof(struct vcl_params, columns), older = offsetof(struct vcl_options, user);
    struct vcl_params today;
    struct vcl_context *ctx;
    uint8_t first[40000], second[40000];
    size_t first_bytes, second_bytes;
    struct vcl_options *const options = sized(older);
    struct vcl_params *const params = sized(old);
    vcl_options_init_sized(options, older);
    vcl_params_init_sized(params, old);
    vcl_params_init(&today);
    assert_memory_equal((uint8_t *)params + sizeof old, (uint8_t *)&today + sizeof old, old - sizeof old);
    assert_int_equal(params->size, old);
    options->threads = 2;
    assert_int_equal(vcl_context_create(options, &ctx), VCL_OK);
    assert_int_equal(encode(ctx, params, first, &first_bytes), VCL_OK);
    assert_int_equal(encode(ctx, &today, second, &second_bytes), VCL_OK);
    assert_int_equal(first_bytes, second_bytes);
    assert_memory_equal(first, second, first_bytes);
    vcl_context_destroy(ctx);
    test_free(options);
    test_free(params);
}

/* What the library must take of a newer caller: a field it does not know at its default, and nothing else. */
static void newer(void *block, size_t known, enum vcl_status (*use)(const void *block))
{
    uint8_t *const bytes = block;
    memset(bytes + known, 0, MORE);
    assert_int_equal(use(block), VCL_OK);
    for (size_t i = known; i < known + MORE; i++) {
        bytes[i] = 1;
        assert_int_equal(use(block), VCL_E_ARGUMENT);
        bytes[i] = 0;
    }
    static const size_t impossible[] = { 0, 1, sizeof(size_t), SIZE_MAX, (size_t)1 << 40 };
    for (size_t i = 0; i < sizeof impossible / sizeof *impossible; i++) {
        memcpy(block, &impossible[i], sizeof(size_t));
        assert_int_equal(use(block), VCL_E_ARGUMENT);
    }
    test_free(block);
}

static enum vcl_status use_options(const void *options)
{
    struct vcl_context *ctx = NULL;
    const enum vcl_status status = vcl_context_create(options, &ctx);
    vcl_context_destroy(ctx);
    return status;
}

static enum vcl_status use_params(const void *params)
{
    static uint8_t frame[40000];
    struct vcl_context *ctx;
    size_t bytes;
    assert_int_equal(vcl_context_create(NULL, &ctx), VCL_OK);
    const enum vcl_status status = encode(ctx, params, frame, &bytes);
    assert_true(status == VCL_OK || vcl_context_message(ctx)[0] != 0);
    vcl_context_destroy(ctx);
    return status;
}

static enum vcl_status use_layout(const void *layout)
{
    struct vcl_writer *writer = NULL;
    const enum vcl_status status = vcl_writer_create(scratch("x.safetensors"), layout, 0, &writer, NULL);
    vcl_writer_abandon(writer);
    return status;
}

static enum vcl_status use_model_options(const void *options)
{
    struct vcl_model *model = NULL;
    const enum vcl_status status = vcl_model_open(scratch("empty.safetensors"), options, &model, NULL);
    vcl_model_close(model);
    return status;
}

/* Fault: what a newer caller asks for is passed over in silence, or its structs are refused at all. */
static void newer_structs_go_in(void **state)
{
    (void)state;
    void *block = sized(sizeof(struct vcl_options) + MORE);
    vcl_options_init_sized(block, sizeof(struct vcl_options) + MORE);
    assert_tail(block, sizeof(struct vcl_options), sizeof(struct vcl_options) + MORE, 0);
    newer(block, sizeof(struct vcl_options), use_options);
    block = sized(sizeof(struct vcl_params) + MORE);
    vcl_params_init_sized(block, sizeof(struct vcl_params) + MORE);
    newer(block, sizeof(struct vcl_params), use_params);
    block = sized(sizeof(struct vcl_layout) + MORE);
    vcl_layout_init_sized(block, sizeof(struct vcl_layout) + MORE);
    newer(block, sizeof(struct vcl_layout), use_layout);
    static const char empty[] = "\x08\0\0\0\0\0\0\0{}      ";
    assert_int_equal(vcl_write_file(scratch("empty.safetensors"), empty, sizeof empty - 1, 0, NULL), VCL_OK);
    block = sized(sizeof(struct vcl_model_options) + MORE);
    vcl_model_options_init_sized(block, sizeof(struct vcl_model_options) + MORE);
    newer(block, sizeof(struct vcl_model_options), use_model_options);
}

/* What came out, in a struct of `size` bytes where the library fills `known`: no more, and the rest 0. */
static void assert_given(const void *block, size_t size, const void *whole, size_t known)
{
    const size_t both = size < known ? size : known;
    size_t said;
    memcpy(&said, block, sizeof said);
    assert_int_equal(said, size);
    assert_memory_equal((const uint8_t *)block + sizeof size, (const uint8_t *)whole + sizeof size,
                        both - sizeof size);
    assert_tail(block, both, size, 0);
}

/* Fault: the library writes beyond an older caller's struct, or leaves a newer one's fields as they were. */
static void structs_come_out(void **state)
{
    (void)state;
    struct vcl_params params;
    struct vcl_context *ctx;
    struct vcl_matrix *matrix;
    static uint8_t frame[40000];
    struct vcl_info info = { .size = sizeof info };
    struct vcl_report report = { .size = sizeof report };
    struct vcl_matrix_info tables = { .size = sizeof tables };
    size_t bytes = sizeof frame;
    vcl_params_init(&params);
    assert_int_equal(vcl_context_create(NULL, &ctx), VCL_OK);
    assert_int_equal(vcl_encode_buffer(ctx, &tensor, values, &params, frame, &bytes, &report), VCL_OK);
    assert_int_equal(vcl_peek(frame, bytes, &info, NULL, NULL), VCL_OK);
    assert_int_equal(vcl_matrix_open(ctx, frame, bytes, &matrix), VCL_OK);
    assert_int_equal(vcl_matrix_describe(matrix, &tables), VCL_OK);
    assert_true(info.values == 4096 && report.values == 4096 && tables.rows == 64);
    static const size_t sizes[] = { 2 * sizeof(size_t), 4 * sizeof(size_t), 4096 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        void *block = sized(sizes[i]);
        assert_int_equal(vcl_peek(frame, bytes, block, NULL, NULL), VCL_OK);
        assert_given(block, sizes[i], &info, sizeof info);
        test_free(block);
        block = sized(sizes[i]);
        assert_int_equal(vcl_matrix_describe(matrix, block), VCL_OK);
        assert_given(block, sizes[i], &tables, sizeof tables);
        test_free(block);
        block = sized(sizes[i]);
        bytes = sizeof frame;
        assert_int_equal(vcl_encode_buffer(ctx, &tensor, values, &params, frame, &bytes, block), VCL_OK);
        assert_given(block, sizes[i], &report, sizeof report);
        test_free(block);
    }
    info.size = report.size = tables.size = 0;
    assert_int_equal(vcl_peek(frame, bytes, &info, NULL, NULL), VCL_E_ARGUMENT);
    assert_int_equal(vcl_matrix_describe(matrix, &tables), VCL_E_ARGUMENT);
    assert_int_equal(vcl_encode_buffer(ctx, &tensor, values, &params, frame, &bytes, &report),
                     VCL_E_ARGUMENT);
    vcl_matrix_close(matrix);
    vcl_context_destroy(ctx);
}

int main(void)
{
    for (size_t i = 0; i < 64 * 64; i++)
        values[i] = (float)(i * 2654435761u % 10007) - 5003;
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(older_structs_go_in),
        cmocka_unit_test(newer_structs_go_in),
        cmocka_unit_test(structs_come_out),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
