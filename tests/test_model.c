/* test_model.c - models of one file and of many: folders, indexes, names, reading, compressed containers. */
#include "random.h"
#include "sanitized.h"
#include "scratch.h"

#include <fcntl.h>
#include <pthread.h>
#include <time.h>

/* ---- allocations that fail, and how much there was at once ----------------------------------- */

#ifndef SANITIZED
#include <malloc.h>

static long fail_after = -1; /* allocations that still succeed; -1 = all */
static size_t held, most_held;

void *__libc_malloc(size_t bytes);
void *__libc_realloc(void *block, size_t bytes);
void *__libc_calloc(size_t count, size_t size);
void __libc_free(void *block);

static int refused(void)
{
    if (fail_after == 0)
        return 1;
    fail_after -= fail_after > 0;
    return 0;
}

static void *counted(void *block)
{
    held += block != NULL ? malloc_usable_size(block) : 0;
    most_held = held > most_held ? held : most_held;
    return block;
}

void *malloc(size_t bytes) { return refused() ? NULL : counted(__libc_malloc(bytes)); }

void *calloc(size_t count, size_t size) { return refused() ? NULL : counted(__libc_calloc(count, size)); }

void *realloc(void *block, size_t bytes)
{
    if (refused())
        return NULL;
    held -= block != NULL ? malloc_usable_size(block) : 0;
    return counted(__libc_realloc(block, bytes));
}

void free(void *block)
{
    held -= block != NULL ? malloc_usable_size(block) : 0;
    __libc_free(block);
}
#endif

/* ---- folders and indexes --------------------------------------------------------------------- */

#define T(name, begin, end, n) \
    "\"" name "\":{\"dtype\":\"U8\",\"shape\":[" #n "],\"data_offsets\":[" #begin "," #end "]}"
#define MAP(pairs) "{\"metadata\":{\"total_size\":9},\"weight_map\":{" pairs "}}"

static const char *new_folder(const char *name)
{
    assert_int_equal(mkdir(scratch(name), 0700), 0);
    return scratch(name);
}

static void put_text(const char *path, const char *text) { put_file(path, text, strlen(text)); }

/* Would catch shards in the order of the directory, and files that are none of the model's. */
static void folder_without_index(void **state)
{
    (void)state;
    new_folder("plain");
    put_model(scratch("plain/b.safetensors"), "{" T("b1", 0, 2, 2) "," T("b2", 2, 3, 1) "}", 3);
    put_model(scratch("plain/a.safetensors"), "{" T("a1", 0, 1, 1) "}", 1);
    put_model(scratch("plain/c.safetensors"), "{}", 0);
    put_text(scratch("plain/._a.safetensors"), "rubbish");
    put_text(scratch("plain/.b.safetensors.vcllm-12-0.tmp"), "rubbish");
    put_text(scratch("plain/config.json"), "{}");
    struct vcl_model *const model = open_model(scratch("plain"));
    assert_int_equal(vcl_model_is_folder(model), 1);
    assert_null(vcl_model_index_path(model));
    assert_int_equal(vcl_model_shards(model), 3);
    assert_string_equal(vcl_model_shard_name(model, 0), "a.safetensors");
    assert_string_equal(vcl_model_shard_path(model, 1), scratch("plain/b.safetensors"));
    assert_null(vcl_model_shard_name(model, 3));
    assert_int_equal(vcl_model_count(model), 3);
    assert_string_equal(vcl_model_entry(model, 2)->name, "b2");
    assert_int_equal(vcl_model_find(model, "b2")->shard, 1);
    assert_int_equal(vcl_model_shard_bytes(model, 1), vcl_model_find(model, "b2")->offset + 1);
    vcl_model_close(model);
    assert_int_equal(mkdir(scratch("plain/d.safetensors"), 0700), 0);
    refuse_model(scratch("plain"), NULL, VCL_E_IO, "is a folder");
}

/* Would catch an empty folder that passes for an empty model. */
static void folder_without_model(void **state)
{
    (void)state;
    new_folder("none");
    put_text(scratch("none/config.json"), "{}");
    refuse_model(scratch("none"), NULL, VCL_E_IO, "has no *.safetensors file");
}

/* Would catch one name for two tensors, of which one would be lost. */
static void same_name_in_two_shards(void **state)
{
    (void)state;
    new_folder("twice");
    put_model(scratch("twice/a.safetensors"), "{" T("x", 0, 1, 1) "}", 1);
    put_model(scratch("twice/b.safetensors"), "{" T("y", 0, 1, 1) "," T("x", 1, 2, 1) "}", 2);
    refuse_model(scratch("twice"), NULL, VCL_E_FORMAT, "b.safetensors: tensor 'x' is in 'a.safetensors' too");
}

static void put_shards(void)
{
    put_model(scratch("indexed/m-1.safetensors"), "{" T("x", 0, 1, 1) "," T("z", 1, 2, 1) "}", 2);
    put_model(scratch("indexed/m-2.safetensors"), "{" T("y", 0, 1, 1) "}", 1);
    put_model(scratch("indexed/other.safetensors"), "{" T("x", 0, 1, 1) "}", 1);
}

#define INDEX "indexed/model.safetensors.index.json"

/* Would catch an index that is read for more than its weight_map, or whose shards come in the order of
 * the map. */
static void folder_with_index(void **state)
{
    (void)state;
    new_folder("indexed");
    put_shards();
    put_text(scratch(INDEX),
             " {\"metadata\":{\"total_size\":-1.5e+3,\"more\":[null,true,{\"a\":[]},\"\\u00e9\",0.25,1E9]},"
             "\"weight_map\" : { \"y\" : "
             "\"m-2.safetensors\",\"z\":\"m-1.safetensors\",\"\\u0078\":\"m-1.safetensors\"},"
             "\"version\":false}\n\n");
    for (int i = 0; i < 2; i++) {
        struct vcl_model *const model = open_model(scratch(i == 0 ? "indexed" : INDEX));
        assert_int_equal(vcl_model_is_folder(model), 1);
        assert_string_equal(vcl_model_index_path(model), scratch(INDEX));
        assert_int_equal(vcl_model_shards(model), 2);
        assert_string_equal(vcl_model_shard_name(model, 0), "m-1.safetensors");
        assert_int_equal(vcl_model_count(model), 3);
        assert_int_equal(vcl_model_find(model, "y")->shard, 1);
        vcl_model_close(model);
    }
}

#define DEEP16 "[[[[[[[[[[[[[[[["

/* Would catch indexes that lead out of the folder, and indexes and shards that do not tell the same. */
static void bad_indexes(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum vcl_status status;
        const char *says;
    } bad[] = {
        { "", VCL_E_FORMAT, "ends" },
        { "[]", VCL_E_FORMAT, "'{'" },
        { "{}", VCL_E_FORMAT, "weight_map is missing" },
        { "{\"weight_map\":{}}", VCL_E_FORMAT, "names no tensor" },
        { "{\"weight_map\":[]}", VCL_E_FORMAT, "'{'" },
        { "{\"weight_map\":{\"x\":1}}", VCL_E_FORMAT, "'\"'" },
        { "{\"weight_map\":{},\"weight_map\":{}}", VCL_E_FORMAT, "weight_map is there twice" },
        { MAP("\"x\":\"m-1.safetensors\"") "x", VCL_E_FORMAT, "follows the last" },
        { "{\"metadata\":{\"a\":nul},\"weight_map\":{}}", VCL_E_FORMAT, "a value" },
        { "{\"metadata\":{\"a\":.5},\"weight_map\":{}}", VCL_E_FORMAT, "a value" },
        { "{\"metadata\":{\"a\":1.},\"weight_map\":{}}", VCL_E_FORMAT, "a digit" },
        { "{\"metadata\":[1}", VCL_E_FORMAT, "']'" },
        { "{\"metadata\":" DEEP16 DEEP16 DEEP16 DEEP16 "[", VCL_E_LIMIT, "nested too deep" },
        { MAP("\"x\":\"/etc/passwd\""), VCL_E_FORMAT,
          "tensor 'x': shard '/etc/passwd' is no plain file name" },
        { MAP("\"x\":\"../m-1.safetensors\""), VCL_E_FORMAT, "no plain file name" },
        { MAP("\"x\":\"..\""), VCL_E_FORMAT, "no plain file name" },
        { MAP("\"x\":\"\""), VCL_E_FORMAT, "no plain file name" },
        { MAP("\"x\":\"m-3.safetensors\""), VCL_E_IO, "m-3.safetensors: cannot open: No such file" },
        { MAP("\"x\":\"m-1.safetensors\",\"x\":\"m-1.safetensors\""), VCL_E_FORMAT, "'x' is there twice" },
        { MAP("\"x\":\"m-1.safetensors\",\"y\":\"m-2.safetensors\""), VCL_E_FORMAT,
          "tensor 'z' of shard 'm-1.safetensors' is not listed" },
        { MAP("\"x\":\"m-1.safetensors\",\"y\":\"m-2.safetensors\",\"z\":\"m-2.safetensors\""), VCL_E_FORMAT,
          "tensor 'z' is listed in 'm-2.safetensors' but stands in 'm-1.safetensors'" },
        { MAP("\"w\":\"m-1.safetensors\",\"x\":\"m-1.safetensors\",\"z\":\"m-1.safetensors\""), VCL_E_FORMAT,
          "tensor 'w' is not in its shard 'm-1.safetensors'" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        put_text(scratch(INDEX), bad[i].text);
        refuse_model(scratch("indexed"), NULL, bad[i].status, bad[i].says);
    }
    struct vcl_model_options options;
    vcl_model_options_init(&options);
    options.header_limit = 30;
    refuse_model(scratch("indexed"), &options, VCL_E_LIMIT, "the limit is 30");
}

/* ---- many names ------------------------------------------------------------------------------ */

enum { MANY = 100000 };

static char *many_names(size_t *length)
{
    char *const json = malloc(MANY * 100), *at = json;
    assert_non_null(json);
    *at++ = '{';
    for (int i = 0; i < MANY; i++)
        at += sprintf(at, "%s\"model.layers.%d.w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
                      i > 0 ? "," : "", (int)(i * 7919ll % MANY), i, i + 1);
    *at++ = '}';
    *length = (size_t)(at - json);
    return json;
}

/* Would catch a quadratic search for names: that takes minutes here, not the fraction of a second it
 * should. */
static void hundred_thousand_tensors(void **state)
{
    (void)state;
    size_t length;
    char *const json = many_names(&length), name[64];
    put_model_n(scratch("many.safetensors"), json, length, MANY);
    free(json);
    const clock_t start = clock();
    struct vcl_model *const model = open_model(scratch("many.safetensors"));
    for (int i = 0; i < MANY; i++) {
        sprintf(name, "model.layers.%d.w", i);
        assert_string_equal(vcl_model_find(model, name)->name, name);
        name[strlen(name) - 1] = 'v';
        assert_null(vcl_model_find(model, name));
    }
    vcl_model_close(model);
    const double seconds = (double)(clock() - start) / CLOCKS_PER_SEC;
    print_message("opened and searched in %.2f s\n", seconds);
    assert_true(seconds < 20);
}

#ifndef SANITIZED
/* Would catch lists that grow with hostile text: the worst headers known, most bytes held per header byte. */
static void memory_is_bounded(void **state)
{
    (void)state;
    enum { LENGTH = 1 << 20 };
    char *const json = malloc(LENGTH + 100);
    assert_non_null(json);
    for (int kind = 0; kind < 3; kind++) {
        char *at = json + sprintf(json, kind == 0 ? "{\"__metadata__\":{" : "{");
        for (int i = 0; at < json + LENGTH; i++)
            at += sprintf(at,
                          kind == 0   ? "%s\"%x\":\"\""
                          : kind == 1 ? "%s\"%x\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[0,0]}"
                                      : "%s\"%x\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}",
                          i > 0 ? "," : "", i);
        at = stpcpy(at, kind == 0 ? "}}" : "}");
        put_model_n(scratch("memory.safetensors"), json, (size_t)(at - json), 0);
        struct vcl_model *model;
        struct vcl_error error;
        const size_t before = most_held = held;
        const enum vcl_status status = vcl_model_open(scratch("memory.safetensors"), NULL, &model, &error);
        assert_int_equal(status, kind == 1 ? VCL_E_FORMAT : VCL_OK); /* 1: sizes are wrong */
        const double each = (double)(most_held - before) / (double)(at - json);
        print_message("header %d: %.1f bytes per byte\n", kind, each);
        assert_true(each <= 16);
        vcl_model_close(model);
        assert_int_equal(held, before);
    }
    free(json);
}

static uint8_t *put_number(uint8_t *at, uint64_t value, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++)
        *at++ = (uint8_t)(value >> 8 * i);
    return at;
}

static uint8_t *put_name(uint8_t *at, unsigned number)
{
    const int n = sprintf((char *)at + 8, "%x", number);
    put_number(at, (uint64_t)n, 8);
    return at + 8 + n;
}

/* The same for GGUF: keys of one byte (kind 0), tensors of one value (1). */
static size_t put_gguf(const char *path, int kind, unsigned count)
{
    uint8_t *const file = malloc(64 * (count + 1) + 4 * (size_t)count + 4096), *at = file;
    assert_non_null(file);
    at = put_number(at, 0x46554747, 4);
    at = put_number(at, 3, 4);
    at = put_number(at, kind == 0 ? 1 : count, 8);
    at = put_number(at, kind == 0 ? count : 0, 8);
    for (unsigned i = 0; kind == 0 && i < count; i++)
        at = put_number(put_number(put_name(at, i), 0, 4), i, 1);
    for (unsigned i = 0; i < (kind == 0 ? 1 : count); i++) /* no dims, I8, 32 bytes apart */
        at = put_number(put_number(put_number(put_name(at, i), 0, 4), 24, 4), 32 * (uint64_t)i, 8);
    const size_t header = (size_t)(at - file);
    const size_t n = (header + 31) / 32 * 32 + 32 * (kind == 0 ? 1 : (size_t)count);
    memset(at, 0, n - header);
    put_file(path, file, n);
    free(file);
    return header;
}

static void gguf_memory_is_bounded(void **state)
{
    (void)state;
    for (int kind = 0; kind < 2; kind++) {
        const size_t header = put_gguf(scratch("memory.gguf"), kind, 40000), before = most_held = held;
        struct vcl_model *const model = open_model(scratch("memory.gguf"));
        const double each = (double)(most_held - before) / (double)header;
        print_message("GGUF header %d: %.1f bytes per byte\n", kind, each);
        assert_true(each <= 20);
        vcl_model_close(model);
        assert_int_equal(held, before);
    }
}

/* As below, for GGUF. */
static void every_allocation_for_gguf_fails_once(void **state)
{
    (void)state;
    put_gguf(scratch("scarce.gguf"), 0, 3);
    int failures = 0;
    for (long n = 0; n < 40; n++) {
        struct vcl_model *model;
        struct vcl_error error;
        const size_t before = held;
        fail_after = n;
        const enum vcl_status status = vcl_model_open(scratch("scarce.gguf"), NULL, &model, &error);
        fail_after = -1;
        if (status != VCL_OK && status != VCL_E_MEMORY)
            fail_msg("allocation %ld: status %d, %s", n, status, error.text);
        vcl_model_close(model);
        assert_int_equal(held, before);
        failures += status == VCL_E_MEMORY;
    }
    assert_in_range(failures, 10, 39);
}

/* Would catch an allocation whose failure is not looked at, and what is not freed on the way out. */
static void every_allocation_fails_once(void **state)
{
    (void)state;
    put_text(scratch(INDEX),
             MAP("\"x\":\"m-1.safetensors\",\"y\":\"m-2.safetensors\",\"z\":\"m-1.safetensors\""));
    put_model(scratch("indexed/m-2.safetensors"),
              "{\"__metadata__\":{\"b\":\"2\",\"a\":\"1\"}," T("y", 0, 1, 1) "}", 1);
    const char *const path = scratch("indexed");
    int failures = 0;
    for (long n = 0;; n++) {
        struct vcl_model *model;
        struct vcl_error error;
        const size_t before = held;
        fail_after = n;
        const enum vcl_status status = vcl_model_open(path, NULL, &model, &error);
        fail_after = -1;
        if (status == VCL_OK) {
            vcl_model_close(model);
            assert_int_equal(held, before);
            if (n > 200)
                break;
            continue; /* some allocations can do without: a list that is not cut to fit */
        }
        if (status != VCL_E_MEMORY && status != VCL_E_IO) /* opendir says ENOMEM */
            fail_msg("allocation %ld: status %d, %s", n, status, error.text);
        assert_int_equal(held, before);
        failures++;
    }
    assert_true(failures > 20);
}
#endif

/* ---- reading --------------------------------------------------------------------------------- */

static struct vcl_model *open_as(const char *path, enum vcl_io io)
{
    struct vcl_model_options options;
    struct vcl_model *model;
    struct vcl_error error;
    vcl_model_options_init(&options);
    options.io = io;
    if (vcl_model_open(path, &options, &model, &error) != VCL_OK)
        fail_msg("%s", error.text);
    return model;
}

enum { MIB = 1 << 20, LARGE = 40 * MIB };

static void put_large(void)
{
    char json[200];
    sprintf(json, "{\"big\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[0,%d]}}", LARGE, LARGE);
    put_model(scratch("large.safetensors"), json, LARGE);
}

struct random_reader {
    const struct vcl_model *model;
    unsigned seed;
    int wrong;
};

static void *read_at_random(void *user)
{
    struct random_reader *const r = user;
    const struct vcl_entry *const entry = vcl_model_entry(r->model, 0);
    uint8_t *const bytes = malloc(17 * MIB);
    for (int i = 0; i < 300; i++) {
        const size_t n = (size_t)rand_r(&r->seed) % (i == 7 ? 17 * MIB : 9000);
        const size_t at = (size_t)rand_r(&r->seed) % (LARGE - n);
        r->wrong += vcl_model_read(r->model, entry, at, bytes, n, NULL) != VCL_OK;
        for (size_t j = 0; j < n; j++)
            r->wrong += bytes[j] != data_byte(at + j);
    }
    free(bytes);
    return NULL;
}

/* Would catch a difference between the two ways of reading, also where pages are dropped under another
 * thread. */
static void mmap_is_pread(void **state)
{
    (void)state;
    put_large();
    for (enum vcl_io io = VCL_IO_PREAD; io <= VCL_IO_MMAP; io++) {
        struct vcl_model *const model = open_as(scratch("large.safetensors"), io);
        struct random_reader readers[4];
        pthread_t threads[4];
        for (unsigned i = 0; i < 4; i++) {
            readers[i] = (struct random_reader){ model, i + 1, 0 };
            assert_int_equal(pthread_create(&threads[i], NULL, read_at_random, &readers[i]), 0);
        }
        for (unsigned i = 0; i < 4; i++) {
            pthread_join(threads[i], NULL);
            assert_int_equal(readers[i].wrong, 0);
        }
        vcl_model_close(model);
    }
}

/* Would catch a crash (SIGBUS) or bytes made up where a file was cut short after it was opened. */
static void file_cut_after_opening(void **state)
{
    (void)state;
    for (enum vcl_io io = VCL_IO_PREAD; io <= VCL_IO_MMAP; io++) {
        put_large();
        struct vcl_model *const model = open_as(scratch("large.safetensors"), io);
        const struct vcl_entry *const entry = vcl_model_entry(model, 0);
        struct vcl_entry_handle handle = { .model = model, .entry = entry };
        const struct vcl_source source = vcl_model_source(&handle);
        uint8_t bytes[100];
        assert_int_equal(truncate(scratch("large.safetensors"), 20 * MIB), 0);
        assert_int_equal(source.read(source.user, 20 * MIB - 1000, bytes, 100), 0);
        assert_int_equal(handle.error.status, VCL_OK);
        assert_int_not_equal(source.read(source.user, 20 * MIB - 100, bytes, 100), 0);
        assert_int_equal(handle.error.status, VCL_E_IO);
        assert_non_null(strstr(handle.error.text, "ends at byte 20971520 now"));
        vcl_model_close(model);
    }
}

#ifndef SANITIZED /* their shadow memory counts too */
static size_t resident_bytes(void)
{
    long pages = 0;
    FILE *const file = fopen("/proc/self/statm", "r");
    assert_non_null(file);
    assert_int_equal(fscanf(file, "%*d %ld", &pages), 1);
    fclose(file);
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Would catch a mapping that keeps all it has shown in memory. */
static void mapped_pages_are_given_back(void **state)
{
    (void)state;
    enum { SPARSE = 192 * MIB };
    char json[200];
    const int n =
        sprintf(json, "{\"s\":{\"dtype\":\"U8\",\"shape\":[%d],\"data_offsets\":[0,%d]}}", SPARSE, SPARSE);
    put_model(scratch("sparse.safetensors"), json, 0);
    assert_int_equal(truncate(scratch("sparse.safetensors"), 8 + n + SPARSE), 0);
    struct vcl_model *const model = open_as(scratch("sparse.safetensors"), VCL_IO_MMAP);
    uint8_t *const piece = calloc(1, MIB);
    const size_t before = resident_bytes();
    size_t most = 0;
    for (size_t at = 0; at < SPARSE; at += MIB) {
        assert_int_equal(vcl_model_read(model, vcl_model_entry(model, 0), at, piece, MIB, NULL), VCL_OK);
        const size_t now = resident_bytes();
        most = now > before + most ? now - before : most;
    }
    print_message("resident: %zu MiB at most\n", most / MIB);
    assert_true(most <= 40 * MIB);
    free(piece);
    vcl_model_close(model);
}
#endif

/* ---- compressed containers ------------------------------------------------------------------- */

struct frame {
    const char *name;
    uint8_t bytes[8192];
    size_t n;
};

static struct frame exact_frame(const char *name, unsigned rank, uint64_t rows, uint64_t cols,
                                enum vcl_dtype dtype)
{
    struct frame frame = { .name = name, .n = sizeof frame.bytes };
    struct vcl_tensor tensor = { dtype, rank, { rank == 1 ? rows * cols : rows, cols } };
    struct vcl_params params;
    struct vcl_context *ctx;
    uint8_t values[256];
    for (size_t i = 0; i < sizeof values; i++)
        values[i] = data_byte(i);
    vcl_params_init(&params);
    params.codec = VCL_CODEC_EXACT;
    assert_int_equal(vcl_context_create(NULL, &ctx), VCL_OK);
    assert_int_equal(vcl_encode_buffer(ctx, &tensor, values, &params, frame.bytes, &frame.n, NULL), VCL_OK);
    vcl_context_destroy(ctx);
    return frame;
}

static struct frame alias_frame(const char *name, const char *target, uint64_t rows, uint64_t cols,
                                enum vcl_dtype dtype)
{
    struct frame frame = { .name = name, .n = sizeof frame.bytes };
    const struct vcl_tensor tensor = { dtype, 2, { rows, cols } };
    assert_int_equal(vcl_alias_encode(&tensor, target, frame.bytes, &frame.n), VCL_OK);
    return frame;
}

static void put_frames_and(const char *path, const struct frame *frames, size_t count, const char *key,
                           const char *value)
{
    struct vcl_entry entries[16] = { { 0 } };
    const struct vcl_pair pairs[] = { { "format", "pt" },
                                      { "control", "\x1F and \xC3\xA9" },
                                      { key, value } };
    struct vcl_layout layout;
    struct vcl_writer *writer;
    vcl_layout_init(&layout);
    for (size_t i = 0; i < count; i++)
        entries[i] = (struct vcl_entry){ .name = frames[i].name, .bytes = frames[i].n + 1000 };
    layout.entries = entries;
    layout.count = count;
    layout.metadata = pairs;
    layout.metadata_count = key != NULL ? 3 : 2;
    layout.frames = layout.overwrite = 1;
    assert_int_equal(vcl_writer_create(path, &layout, 0, &writer, NULL), VCL_OK);
    const struct vcl_sink sink = vcl_writer_sink(writer);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(sink.write(sink.user, 0, frames[i].bytes, frames[i].n), 0);
        assert_int_equal(vcl_writer_end(writer, frames[i].n, NULL), VCL_OK);
    }
    assert_int_equal(vcl_writer_commit(writer, NULL), VCL_OK);
}

static void put_frames(const char *path, const struct frame *frames, size_t count)
{
    put_frames_and(path, frames, count, NULL, NULL);
}

static enum vcl_status check_entry(struct vcl_context *ctx, const struct vcl_model *model,
                                   const struct vcl_entry *entry)
{
    struct vcl_info info = { .size = sizeof info };
    const struct vcl_entry *target;
    struct vcl_entry_handle handle = { .model = model };
    enum vcl_status status = vcl_model_frame(model, entry, &info, &target, NULL);
    if (status != VCL_OK)
        return status;
    handle.entry = target;
    const struct vcl_source source = vcl_model_source(&handle);
    return vcl_decode(ctx, &source, target->bytes, 0, UINT64_MAX, NULL, NULL);
}

/* What a user's verify does: header, hash, every frame.  Says nothing of why. */
static int file_is_sound(const char *path, struct vcl_context *ctx)
{
    struct vcl_model *model;
    if (vcl_model_open(path, NULL, &model, NULL) != VCL_OK)
        return 0;
    int sound = vcl_model_check_hash(model, 0, NULL) == VCL_OK;
    for (size_t i = 0; i < vcl_model_count(model); i++)
        sound &= check_entry(ctx, model, vcl_model_entry(model, i)) == VCL_OK;
    vcl_model_close(model);
    return sound;
}

/* Would catch any bit of a compressed file that nothing looks at, and any length at which a cut file
 * passes. */
static void every_bit_and_every_length(void **state)
{
    (void)state;
    struct frame frames[3];
    struct vcl_context *ctx;
    void *bytes;
    size_t n;
    frames[0] = exact_frame("first", 2, 3, 4, VCL_DTYPE_F32);
    frames[1] = alias_frame("tied", "first", 3, 4, VCL_DTYPE_F32);
    frames[2] = exact_frame("\x1E\xC3\xBC", 1, 5, 1, VCL_DTYPE_I8);
    const char *const path = scratch("flip.safetensors");
    put_frames(path, frames, 3);
    assert_int_equal(vcl_context_create(NULL, &ctx), VCL_OK);
    assert_true(file_is_sound(path, ctx));
    assert_int_equal(vcl_read_file(path, 1 << 16, &bytes, &n, NULL), VCL_OK);
    for (size_t bit = 0; bit < 8 * n; bit++) {
        uint8_t *const b = (uint8_t *)bytes + bit / 8;
        *b = (uint8_t)(*b ^ 1 << bit % 8);
        put_file(path, bytes, n);
        if (file_is_sound(path, ctx))
            fail_msg("bit %zu of byte %zu of %zu can flip unseen", bit % 8, bit / 8, n);
        *b = (uint8_t)(*b ^ 1 << bit % 8);
    }
    for (size_t length = 0; length < n; length++) {
        put_file(path, bytes, length);
        if (file_is_sound(path, ctx))
            fail_msg("a cut to %zu of %zu bytes is not seen", length, n);
    }
    vcl_context_destroy(ctx);
    free(bytes);
}

/* Would catch a plain file that passes for a compressed one. */
static void plain_file_has_no_hash(void **state)
{
    (void)state;
    struct vcl_error error;
    put_model(scratch("nohash.safetensors"), "{" T("x", 0, 1, 1) "}", 1);
    struct vcl_model *const model = open_model(scratch("nohash.safetensors"));
    assert_int_equal(vcl_model_check_hash(model, 0, &error), VCL_E_CHECKSUM);
    assert_non_null(strstr(error.text, "has no vcllm.hash"));
    assert_int_equal(vcl_model_check_hash(model, 1, &error), VCL_E_ARGUMENT);
    vcl_model_close(model);
}

/* Would catch aliases that are followed to nowhere, in a circle, or to values of another kind. */
static void aliases(void **state)
{
    (void)state;
    static char long_name[5001];
    memset(long_name, 'n', 5000);
    static const struct {
        const char *name, *says;
    } bad[] = {
        { "gone", "not there" },
        { "self", "an alias of an alias" },
        { "chain", "an alias of an alias" },
        { "dtype", "other dtype or shape" },
        { "shape", "other dtype or shape" },
        { "prefix", "not there" },
    };
    struct frame frames[9];
    frames[0] = exact_frame("target", 2, 3, 4, VCL_DTYPE_F32);
    frames[1] = alias_frame("gone", "nothing", 3, 4, VCL_DTYPE_F32);
    frames[2] = alias_frame("self", "self", 3, 4, VCL_DTYPE_F32);
    frames[3] = alias_frame("chain", "good", 3, 4, VCL_DTYPE_F32);
    frames[4] = alias_frame("dtype", "target", 3, 4, VCL_DTYPE_I32);
    frames[5] = alias_frame("shape", "target", 4, 3, VCL_DTYPE_F32);
    frames[6] = alias_frame("prefix", "targe", 3, 4, VCL_DTYPE_F32);
    frames[7] = alias_frame("good", "target", 3, 4, VCL_DTYPE_F32);
    frames[8] = alias_frame("long", long_name, 3, 4, VCL_DTYPE_F32); /* a header beyond the first read */
    new_folder("aliases");
    put_frames(scratch("aliases/a.safetensors"), frames, 9);
    frames[0].name = long_name;
    frames[7] = alias_frame("across", "target", 3, 4, VCL_DTYPE_F32);
    frames[1] = frames[7];
    put_frames(scratch("aliases/b.safetensors"), frames, 2);
    struct vcl_model *const model = open_model(scratch("aliases"));
    struct vcl_info info = { .size = sizeof info };
    struct vcl_error error;
    const struct vcl_entry *target, *const aim = vcl_model_find(model, "target");
    assert_int_equal(vcl_model_frame(model, aim, &info, &target, &error), VCL_OK);
    assert_ptr_equal(target, aim);
    assert_int_equal(info.codec, VCL_CODEC_EXACT);
    assert_int_equal(vcl_model_frame(model, vcl_model_find(model, "good"), &info, &target, &error), VCL_OK);
    assert_ptr_equal(target, aim);
    assert_int_equal(info.codec, VCL_CODEC_ALIAS);
    assert_int_equal(vcl_model_frame(model, vcl_model_find(model, "good"), &info, NULL, &error), VCL_OK);
    target = NULL;
    assert_int_equal(vcl_model_resolve(model, vcl_model_find(model, "good"), &info, &target, &error), VCL_OK);
    assert_ptr_equal(target, aim);
    assert_int_equal(info.codec, VCL_CODEC_EXACT); /* the target's frame, not the alias */
    assert_int_equal(info.tensor.dims[1], 4);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const struct vcl_entry *const entry = vcl_model_find(model, bad[i].name);
        assert_int_equal(vcl_model_frame(model, entry, &info, &target, &error), VCL_E_FORMAT);
        if (strstr(error.text, bad[i].says) == NULL)
            fail_msg("%s: \"%s\" should say \"%s\"", bad[i].name, error.text, bad[i].says);
        assert_int_equal(vcl_model_resolve(model, entry, &info, &target, NULL), VCL_E_FORMAT);
    }
    static const char *const others[] = { "across", "long" };
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(vcl_model_frame(model, vcl_model_find(model, others[i]), &info, &target, &error),
                         VCL_E_FORMAT);
        assert_non_null(strstr(error.text, "of another shard"));
    }
    vcl_model_close(model);
}

/* Would catch frames that are longer or shorter than their tensor, cut, or in tensors that cannot hold
 * one. */
static void frames_that_do_not_fit(void **state)
{
    (void)state;
    struct frame frames[2];
    struct vcl_info info = { .size = sizeof info };
    struct vcl_error error;
    const struct vcl_entry *target;
    frames[0] = exact_frame("longer", 2, 3, 4, VCL_DTYPE_F32);
    frames[1] = exact_frame("cut", 2, 3, 4, VCL_DTYPE_F32);
    frames[0].n += 8;
    frames[1].n = 20;
    put_frames(scratch("fit.safetensors"), frames, 2);
    struct vcl_model *model = open_model(scratch("fit.safetensors"));
    assert_int_equal(vcl_model_frame(model, vcl_model_find(model, "longer"), &info, &target, &error),
                     VCL_E_FORMAT);
    assert_non_null(strstr(error.text, "tensor 'longer': frame at byte "));
    assert_non_null(strstr(error.text, "its length is not"));
    assert_int_equal(vcl_model_frame(model, vcl_model_find(model, "cut"), &info, &target, &error),
                     VCL_E_TRUNCATED);
    vcl_model_close(model);
    put_model(scratch("fit.safetensors"), "{\"f\":{\"dtype\":\"F32\",\"shape\":[8],\"data_offsets\":[0,32]}}",
              32);
    model = open_model(scratch("fit.safetensors"));
    assert_int_equal(vcl_model_frame(model, vcl_model_entry(model, 0), &info, &target, &error), VCL_E_FORMAT);
    assert_non_null(strstr(error.text, "not U8"));
    vcl_model_close(model);
}

/* A sparse file of one entry of 3 GiB that begins like a frame: an exact one of `values` bytes in tiles of
 * one, whose header would be `header_bytes` long. */
static void put_long_header(const char *path, uint64_t values, uint32_t header_bytes)
{
    static const char json[] =
        "{\"f\":{\"dtype\":\"U8\",\"shape\":[3221225472],\"data_offsets\":[0,3221225472]}}";
    uint8_t frame[48] = { 'V', 'C', 'L', 'F', 0, VCL_CODEC_EXACT, VCL_DTYPE_U8, 1 };
    for (int i = 0; i < 8; i++) {
        frame[12 + i % 4] = (uint8_t)(header_bytes >> 8 * (i % 4));
        frame[16 + i] = (uint8_t)((uint64_t)3221225472u >> 8 * i);
        frame[24 + i] = frame[32 + i] = (uint8_t)(values >> 8 * i);
    }
    frame[40] = frame[44] = 1;
    put_model(path, json, 0);
    FILE *const file = fopen(path, "ab");
    assert_non_null(file);
    assert_int_equal(fwrite(frame, 1, sizeof frame, file), sizeof frame);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(truncate(path, (off_t)(8 + strlen(json) + 3221225472u)), 0);
}

/* Would catch memory taken by the length that a frame gives its own header, before that is checked. */
static void long_headers_take_no_memory(void **state)
{
    (void)state;
    static const struct {
        uint64_t values;
        uint32_t header_bytes;
    } bad[] = { { 5, 3221225472u }, { 268435453, 3221225480u - 16 }, { 5, 1u << 27 } };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct vcl_info info = { .size = sizeof info };
        struct vcl_error error;
        put_long_header(scratch("long.safetensors"), bad[i].values, bad[i].header_bytes);
        struct vcl_model *const model = open_model(scratch("long.safetensors"));
#ifndef SANITIZED
        const size_t before = held;
        most_held = held;
#endif
        const enum vcl_status status = vcl_model_frame(model, vcl_model_entry(model, 0), &info, NULL, &error);
        assert_true(status == VCL_E_LIMIT || status == VCL_E_FORMAT);
        assert_non_null(strstr(error.text, "tensor 'f': frame at byte "));
#ifndef SANITIZED
        assert_true(most_held - before < MIB);
#endif
        vcl_model_close(model);
    }
}

/* ---- what a compressed file says of its original --------------------------------------------- */

#define ORIGINAL(name, dtype, shape)                                                       \
    "{\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":[0,48]}," \
    "\"__metadata__\":{\"format\":\"pt\",\"control\":\"\\u001f and \xC3\xA9\"}}"
#define HASH32 "0123456789abcdef0123456789abcdef"

/* The canonical header of some tensors with pieces of it moved, cut out and put in: any text is a header here. */
static size_t alter(char *text, size_t n, uint64_t *state)
{
    static const char *const pieces[] = { " ", "\"", "\\", "\n  ", "\xC3\xA9", "\"layer.7.weight\":", "{}," };
    for (int i = (int)(random_bits(state) % 9); i > 0; i--) {
        const char *const piece = pieces[random_bits(state) % (sizeof pieces / sizeof *pieces)];
        const size_t at = random_bits(state) % n, m = random_bits(state) % 60, p = strlen(piece);
        if (i % 3 == 0 && at + m < n) {
            memmove(text + at, text + at + m, n - at - m);
            n -= m;
        } else if (i % 3 == 1 && at + m < n) {
            char moved[60];
            memcpy(moved, text + at, m);
            memmove(text + m, text, at);
            memcpy(text, moved, m);
        } else {
            memmove(text + at + p, text + at, n - at);
            memcpy(text + at, piece, p);
            n += p;
        }
    }
    text[n] = 0;
    return n;
}

static void keep_and_restore(const struct vcl_layout *layout, const char *header, size_t n, long round)
{
    struct vcl_error error;
    char *kept, *back;
    size_t length;
    enum vcl_status status = vcl_layout_keep_header(layout, header, n, &kept, &error);
    if (status != VCL_OK) {
        assert_int_equal(status, VCL_E_MEMORY);
        return;
    }
    if (kept == NULL)
        return;
    status = vcl_layout_restore_header(layout, kept, &back, &length, &error);
    if (status == VCL_OK && (length != n || memcmp(back, header, n) != 0))
        fail_msg("round %ld: %s\nkept %s\nback %s", round, header, kept, back);
    if (status != VCL_OK && status != VCL_E_MEMORY)
        fail_msg("round %ld: %s: %s", round, kept, error.text);
    if (status == VCL_OK)
        free(back);
    free(kept);
}

/* Would catch a kept header that gives another one back; with little memory, one that lost its end. */
static void headers_are_kept(void **state)
{
    (void)state;
    enum { TENSORS = 12, ROOM = 8192 };
    char names[TENSORS][32], header[ROOM], *canonical;
    struct vcl_entry entries[TENSORS];
    const struct vcl_pair pair = { "format", "pt" };
    struct vcl_layout layout;
    uint64_t random = 7;
    size_t n;
    vcl_layout_init(&layout);
    for (int i = 0; i < TENSORS; i++) {
        sprintf(names[i], "layer.%d.weight", i);
        entries[i] = (struct vcl_entry){ .name = names[i], .tensor = { VCL_DTYPE_U8, 1, { 3 } }, .bytes = 3 };
    }
    layout.entries = entries;
    layout.count = TENSORS;
    layout.metadata = &pair;
    layout.metadata_count = 1;
    assert_int_equal(vcl_layout_header(&layout, &canonical, &n, NULL), VCL_OK);
    for (long round = 0; round < 5000; round++) {
        memcpy(header, canonical, n);
        keep_and_restore(&layout, header, alter(header, n, &random), round);
    }
#ifndef SANITIZED
    memset(header, 'x', ROOM / 2); /* a text that is written in several pieces */
    const size_t before = held;
    for (long left = 0; left < 60; left++) {
        fail_after = left;
        keep_and_restore(&layout, header, 3 * n, left);
        fail_after = -1;
        assert_int_equal(held, before);
    }
#endif
    free(canonical);
}

/* Would catch metadata that pass verification and fail, or restore another file, when decompressing. */
static void metadata_of_the_original(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value, *says; /* says NULL: all is well */
    } cases[] = {
        { "vcllm.future", "anything", NULL },
        { "vcllm.header", ORIGINAL("w", "F32", "[3,4]") "  ", NULL },
        { "vcllm.header", ORIGINAL("w", "F32", "[4,3]"), "tensor 'w': metadata vcllm.header does not agree" },
        { "vcllm.header", ORIGINAL("v", "F32", "[3,4]"), "tensor 'w': metadata vcllm.header does not agree" },
        { "vcllm.header", ORIGINAL("w", "I32", "[3,4]"), "tensor 'w': metadata vcllm.header does not agree" },
        { "vcllm.header", ORIGINAL("w", "F64", "[3,4]"),
          "metadata vcllm.header: tensor 'w': dtype and shape" },
        { "vcllm.header", "nonsense", "metadata vcllm.header: the header does not begin with '{'" },
        { "vcllm.header", "", "metadata vcllm.header: " },
        { "vcllm.header", "{}", "metadata vcllm.header: 48 bytes follow" },
        { "vcllm.header",
          "{\"w\":{\"dtype\":\"F32\",\"shape\":[3,4],\"data_offsets\":[0,48]},"
          "\"e\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[48,48]}}",
          "tensor 'e': metadata vcllm.header has it, but there is no frame" },
        { "vcllm.header", "{\"w\":{\"dtype\":\"F32\",\"shape\":[3,4],\"data_offsets\":[0,48]}}",
          "vcllm.header: its __metadata__ is not the file's" },
        { "vcllm.files", "{}", NULL },
        { "vcllm.files", "{\"config.json\":\"" HASH32 "\",\"a b\":\"" HASH32 "\"}", NULL },
        { "vcllm.files", "nonsense", "metadata vcllm.files: " },
        { "vcllm.files", "", "metadata vcllm.files: " },
        { "vcllm.files", "{} {}", "metadata vcllm.files: something follows" },
        { "vcllm.files", "{\"a\":1}", "metadata vcllm.files: " },
        { "vcllm.files", "{\"a\":\"0123\"}", "not 32 hexadecimal digits" },
        { "vcllm.files", "{\"a\":\"0123456789abcdef0123456789abcdeg\"}", "not 32 hexadecimal digits" },
        { "vcllm.files", "{\"../a\":\"" HASH32 "\"}", "no plain file name" },
        { "vcllm.files", "{\"..\":\"" HASH32 "\"}", "no plain file name" },
        { "vcllm.files", "{\"\":\"" HASH32 "\"}", "no plain file name" },
        { "vcllm.files", "{\"a\":\"" HASH32 "\",\"a\":\"" HASH32 "\"}", "there twice" },
        { "vcllm.files", "{\"meta.safetensors\":\"" HASH32 "\"}", "lists a shard" },
    };
    const struct frame frame = exact_frame("w", 2, 3, 4, VCL_DTYPE_F32);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct vcl_error error = { 0 };
        put_frames_and(scratch("meta.safetensors"), &frame, 1, cases[i].key, cases[i].value);
        struct vcl_model *const model = open_model(scratch("meta.safetensors"));
        assert_int_equal(vcl_model_check_hash(model, 0, NULL), VCL_OK);
        const enum vcl_status status = vcl_model_check_original(model, 0, &error);
        if (status != (cases[i].says != NULL ? VCL_E_FORMAT : VCL_OK))
            fail_msg("case %zu: status %d, %s", i, status, error.text);
        if (cases[i].says != NULL && (!strstr(error.text, cases[i].says) || !strstr(error.text, "meta.safe")))
            fail_msg("case %zu: \"%s\" should say \"%s\"", i, error.text, cases[i].says);
        assert_int_equal(vcl_model_check_original(model, 1, NULL), VCL_E_ARGUMENT);
        vcl_model_close(model);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(folder_without_index),
        cmocka_unit_test(folder_without_model),
        cmocka_unit_test(same_name_in_two_shards),
        cmocka_unit_test(folder_with_index),
        cmocka_unit_test(bad_indexes),
        cmocka_unit_test(hundred_thousand_tensors),
#ifndef SANITIZED
        cmocka_unit_test(memory_is_bounded),
        cmocka_unit_test(every_allocation_fails_once),
        cmocka_unit_test(gguf_memory_is_bounded),
        cmocka_unit_test(every_allocation_for_gguf_fails_once),
        cmocka_unit_test(mapped_pages_are_given_back),
#endif
        cmocka_unit_test(mmap_is_pread),
        cmocka_unit_test(file_cut_after_opening),
        cmocka_unit_test(every_bit_and_every_length),
        cmocka_unit_test(plain_file_has_no_hash),
        cmocka_unit_test(aliases),
        cmocka_unit_test(frames_that_do_not_fit),
        cmocka_unit_test(long_headers_take_no_memory),
        cmocka_unit_test(headers_are_kept),
        cmocka_unit_test(metadata_of_the_original),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
