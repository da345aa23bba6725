/* test_writer.c - files written whole or not at all: layouts, headers, hashes, failures half-way. */
#include "scratch.h"

#include "base/common.h"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

static const uint8_t bytes_0_to_15[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };

static struct vcl_layout two_tensors(int overwrite)
{
    static const struct vcl_entry entries[2] = {
        { .name = "a", .tensor = { VCL_DTYPE_F32, 2, { 1, 2 } }, .bytes = 8 },
        { .name = "b", .tensor = { VCL_DTYPE_U8, 1, { 4 } }, .bytes = 4 },
    };
    static const struct vcl_pair pair = { "format", "pt" };
    struct vcl_layout layout;
    vcl_layout_init(&layout);
    layout.entries = entries;
    layout.count = 2;
    layout.metadata = &pair;
    layout.metadata_count = 1;
    layout.overwrite = overwrite;
    return layout;
}

static const char two_header[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                                 "\"a\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]},"
                                 "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[8,12]}}";

static struct vcl_writer *create(const char *path, const struct vcl_layout *layout, uint64_t disk_bytes)
{
    struct vcl_writer *writer;
    struct vcl_error error;
    if (vcl_writer_create(path, layout, disk_bytes, &writer, &error) != VCL_OK)
        fail_msg("%s", error.text);
    return writer;
}

static void write_entry(struct vcl_writer *writer, const void *bytes, size_t n)
{
    const struct vcl_sink sink = vcl_writer_sink(writer);
    struct vcl_error error;
    if (sink.write(sink.user, 0, bytes, n) != 0)
        fail_msg("%s", vcl_writer_failure(writer));
    if (vcl_writer_end(writer, n, &error) != VCL_OK)
        fail_msg("%s", error.text);
}

static void commit(struct vcl_writer *writer)
{
    struct vcl_error error;
    if (vcl_writer_commit(writer, &error) != VCL_OK)
        fail_msg("%s", error.text);
}

static void refuse_layout(const struct vcl_layout *layout, enum vcl_status status, const char *says)
{
    struct vcl_writer *writer;
    struct vcl_error error = { 0 };
    const int files = count_files(scratch_folder);
    const enum vcl_status got = vcl_writer_create(scratch("refused.safetensors"), layout, 0, &writer, &error);
    assert_null(writer);
    if (got != status || strstr(error.text, says) == NULL)
        fail_msg("status %d, wanted %d; \"%s\" should say \"%s\"", got, status, error.text, says);
    assert_int_equal(count_files(scratch_folder), files);
}

/* ---- what is written ------------------------------------------------------------------------- */

/* Would catch a wrong byte anywhere in the simplest file. */
static void plain_file(void **state)
{
    (void)state;
    const struct vcl_layout layout = two_tensors(0);
    void *bytes;
    size_t n;
    struct vcl_writer *const writer = create(scratch("plain.safetensors"), &layout, 1000);
    write_entry(writer, bytes_0_to_15, 8);
    assert_int_equal(vcl_writer_bytes(writer), 8);
    write_entry(writer, bytes_0_to_15 + 8, 4);
    commit(writer);
    assert_int_equal(vcl_read_file(scratch("plain.safetensors"), 4096, &bytes, &n, NULL), VCL_OK);
    const size_t header = vcl_round_up(sizeof two_header - 1, 8);
    assert_int_equal(n, 8 + header + 12);
    assert_int_equal(vcl_load64(bytes), header);
    assert_memory_equal((char *)bytes + 8, two_header, sizeof two_header - 1);
    assert_memory_equal((char *)bytes + 8 + header, bytes_0_to_15, 12);
    free(bytes);
}

/* Would catch tensors that depend on the order or size of writes. */
static void writes_in_any_order(void **state)
{
    (void)state;
    struct vcl_layout layout = two_tensors(0);
    struct vcl_writer *const writer = create(scratch("order.safetensors"), &layout, 0);
    const struct vcl_sink sink = vcl_writer_sink(writer);
    for (size_t i = 8; i-- > 0;)
        assert_int_equal(sink.write(sink.user, i, bytes_0_to_15 + i, 1), 0);
    assert_int_equal(vcl_writer_end(writer, 8, NULL), VCL_OK);
    write_entry(writer, bytes_0_to_15 + 8, 4);
    commit(writer);
    void *one, *other;
    size_t n, m;
    assert_int_equal(vcl_read_file(scratch("order.safetensors"), 4096, &one, &n, NULL), VCL_OK);
    assert_int_equal(vcl_read_file(scratch("plain.safetensors"), 4096, &other, &m, NULL), VCL_OK);
    assert_int_equal(n, m);
    assert_memory_equal(one, other, n);
    free(one);
    free(other);
}

/* Would catch a restored header that is respelt, or that belongs to other tensors. */
static void given_header(void **state)
{
    (void)state;
    static const char odd[] = "{ \"b\":{\"shape\":[4],\"data_offsets\":[8,12],\"dtype\":\"\\u0055\\u0038\"},"
                              "\"a\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0,8]}}   ";
    struct vcl_layout layout = two_tensors(0);
    void *bytes;
    size_t n;
    layout.header = odd;
    layout.header_length = sizeof odd - 1;
    struct vcl_writer *const writer = create(scratch("odd.safetensors"), &layout, 0);
    write_entry(writer, bytes_0_to_15, 8);
    write_entry(writer, bytes_0_to_15 + 8, 4);
    commit(writer);
    assert_int_equal(vcl_read_file(scratch("odd.safetensors"), 4096, &bytes, &n, NULL), VCL_OK);
    assert_int_equal(n, 8 + sizeof odd - 1 + 12);
    assert_int_equal(vcl_load64(bytes), sizeof odd - 1);
    assert_memory_equal((char *)bytes + 8, odd, sizeof odd - 1);
    free(bytes);
    layout.count = 1;
    refuse_layout(&layout, VCL_E_TRUNCATED, "tensor 'b'");
    layout = two_tensors(0);
    struct vcl_entry other[2] = { layout.entries[0], layout.entries[1] };
    layout.header = odd;
    layout.header_length = sizeof odd - 1;
    layout.entries = other;
    other[0].tensor.dtype = VCL_DTYPE_I32;
    refuse_layout(&layout, VCL_E_ARGUMENT, "tensor 'a': the header does not agree");
    layout.header_length = 20;
    refuse_layout(&layout, VCL_E_FORMAT, "the JSON ends");
    layout.header_length = sizeof odd - 1;
    layout.frames = 1;
    refuse_layout(&layout, VCL_E_ARGUMENT, "contradicts");
}

/* Would catch frames that leave holes, a header without its hash, misaligned data, or late metadata
 * that is lost. */
static void frames_and_hash(void **state)
{
    (void)state;
    const struct vcl_entry entries[3] = {
        { .name = "x", .bytes = 1000 },
        { .name = "empty", .bytes = 100 },
        { .name = "y", .bytes = 1000000 },
    };
    const struct vcl_pair pair = { "format", "pt" };
    struct vcl_layout layout;
    struct vcl_error error;
    vcl_layout_init(&layout);
    layout.entries = entries;
    layout.count = 3;
    layout.metadata = &pair;
    layout.metadata_count = 1;
    layout.frames = 1;
    layout.late_bytes = sizeof ",\"late\":\"\\n\"" - 1;
    char *text;
    size_t kept;
    assert_int_equal(vcl_layout_header(&layout, &text, &kept, &error), VCL_OK);
    free(text);
    struct vcl_writer *const writer = create(scratch("frames.safetensors"), &layout, 5000);
    const struct vcl_sink sink = vcl_writer_sink(writer);
    assert_int_equal(sink.write(sink.user, 984, bytes_0_to_15, 16), 0); /* a trial that was rejected */
    write_entry(writer, bytes_0_to_15, 16);
    assert_int_equal(vcl_writer_end(writer, 0, NULL), VCL_OK);
    write_entry(writer, bytes_0_to_15 + 8, 8);
    assert_int_equal(vcl_writer_bytes(writer), 24);
    assert_int_equal(vcl_writer_add_metadata(writer, "late", "\n+", &error), VCL_E_SPACE);
    assert_int_equal(vcl_writer_add_metadata(writer, "format", "", &error), VCL_E_ARGUMENT);
    assert_int_equal(vcl_writer_add_metadata(writer, "vcllm.hash", "", &error), VCL_E_ARGUMENT);
    assert_int_equal(vcl_writer_add_metadata(writer, "l", "\xFF", &error), VCL_E_FORMAT);
    assert_int_equal(vcl_writer_add_metadata(writer, "late", "\n", &error), VCL_OK);
    assert_int_equal(vcl_writer_add_metadata(writer, "", "", &error), VCL_E_SPACE);
    commit(writer);

    struct vcl_model *const model = open_model(scratch("frames.safetensors"));
    const struct vcl_entry *const x = vcl_model_find(model, "x"), *const y = vcl_model_find(model, "y");
    uint8_t bytes[16];
    assert_int_equal(vcl_model_count(model), 3);
    assert_int_equal(x->offset % 64, 0);
    assert_int_equal(x->offset, 8 + kept);
    assert_int_equal(y->offset, x->offset + 16);
    assert_int_equal(x->tensor.dtype, VCL_DTYPE_U8);
    assert_int_equal(x->tensor.rank, 1);
    assert_int_equal(vcl_model_read(model, x, 0, bytes, 16, NULL), VCL_OK);
    assert_memory_equal(bytes, bytes_0_to_15, 16);
    assert_int_equal(vcl_model_read(model, y, 0, bytes, 8, NULL), VCL_OK);
    assert_memory_equal(bytes, bytes_0_to_15 + 8, 8);
    assert_string_equal(vcl_model_metadata(model, 0, "late"), "\n");
    assert_int_equal(vcl_model_is_compressed(model, 0), 1);
    assert_int_equal(vcl_model_check_hash(model, 0, &error), VCL_OK);
    vcl_model_close(model);
}

static size_t put32(uint8_t *at, uint64_t value)
{
    vcl_store32(at, (uint32_t)value);
    return 4;
}

static size_t put_counted(uint8_t *at, const char *text)
{
    memcpy(at + put32(at, strlen(text)), text, strlen(text));
    return 4 + strlen(text);
}

/* Would catch a hash that is not the one of docs/format.md: here it is put together by hand. */
static void hash_is_the_documents(void **state)
{
    (void)state;
    uint8_t said[256], *at = said;
    char hex[40];
    at += put_counted(at, "format");
    at += put_counted(at, "pt");
    at += put_counted(at, "late");
    at += put_counted(at, "\n");
    static const struct {
        const char *name;
        uint64_t begin, end;
    } entries[] = {
        { "x", 0, 16 },
        { "empty", 16, 16 },
        { "y", 16, 24 },
    };
    for (size_t i = 0; i < 3; i++) {
        at += put_counted(at, entries[i].name);
        at += put32(at, 4); /* U8 */
        at += put32(at, 1);
        vcl_store64(at, entries[i].end - entries[i].begin);
        vcl_store64(at + 8, entries[i].begin);
        vcl_store64(at + 16, entries[i].end);
        at += 24;
    }
    const XXH128_hash_t hash = XXH3_128bits(said, (size_t)(at - said));
    snprintf(hex, sizeof hex, "%016llx%016llx", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64);
    struct vcl_model *const model = open_model(scratch("frames.safetensors"));
    assert_string_equal(vcl_model_metadata(model, 0, "vcllm.hash"), hex);
    vcl_model_close(model);
}

/* Would catch layouts that no reader would accept afterwards. */
static void bad_layouts(void **state)
{
    (void)state;
    struct vcl_layout layout = two_tensors(0);
    struct vcl_entry entries[2] = { layout.entries[0], layout.entries[1] };
    struct vcl_pair pairs[2] = { { "k", "1" }, { "k", "2" } };
    layout.entries = entries;
    entries[1].name = "a";
    refuse_layout(&layout, VCL_E_FORMAT, "tensor 'a' is there twice");
    entries[1].name = "__metadata__";
    refuse_layout(&layout, VCL_E_FORMAT, "there twice");
    entries[1].name = "\xFF";
    refuse_layout(&layout, VCL_E_FORMAT, "UTF-8");
    entries[1].name = "b";
    entries[1].bytes = 5;
    refuse_layout(&layout, VCL_E_ARGUMENT, "tensor 'b': takes 4 bytes, not 5");
    entries[1].bytes = 4;
    entries[1].tensor.dtype = VCL_DTYPE_COUNT;
    refuse_layout(&layout, VCL_E_ARGUMENT, "tensor 'b'");
    entries[1].tensor = (struct vcl_tensor){ VCL_DTYPE_U8, 1, { INT64_MAX / 8 } };
    entries[1].bytes = INT64_MAX / 8;
    layout.count = 2;
    layout.metadata = pairs;
    layout.metadata_count = 2;
    refuse_layout(&layout, VCL_E_FORMAT, "'k' is there twice");
    pairs[0].key = "vcllm.hash";
    layout.frames = 1;
    refuse_layout(&layout, VCL_E_FORMAT, "'vcllm.hash' is there twice");
    entries[0].bytes = entries[1].bytes = INT64_MAX - 1000;
    refuse_layout(&layout, VCL_E_LIMIT, "beyond 63 bits");
    layout = two_tensors(0);
    layout.late_bytes = 100;
    refuse_layout(&layout, VCL_E_ARGUMENT, "contradicts");
    layout.late_bytes = 0;
    layout.size = 0;
    refuse_layout(&layout, VCL_E_ARGUMENT, "contradicts");
}

/* ---- what is left when it fails -------------------------------------------------------------- */

/* Would catch a temporary file that stays, in the wrong folder, or under a name that is not told. */
static void nothing_left_after_abandon(void **state)
{
    (void)state;
    const struct vcl_layout layout = two_tensors(0);
    const int files = count_files(scratch_folder);
    struct vcl_writer *const writer = create(scratch("gone.safetensors"), &layout, 0);
    char start[600];
    sprintf(start, "%s/.gone.safetensors.vcllm-%ld-", scratch_folder, (long)getpid());
    assert_memory_equal(vcl_writer_temporary(writer), start, strlen(start));
    assert_int_equal(access(vcl_writer_temporary(writer), F_OK), 0);
    struct vcl_writer *const second = create(scratch("gone.safetensors"), &layout, 0);
    assert_string_not_equal(vcl_writer_temporary(second), vcl_writer_temporary(writer));
    assert_int_equal(count_files(scratch_folder), files + 2);
    vcl_writer_abandon(second);
    vcl_writer_abandon(writer);
    vcl_writer_abandon(NULL);
    assert_int_equal(count_files(scratch_folder), files);
}

/* Would catch a file that is given its name though part of it is missing. */
static void half_written_is_not_committed(void **state)
{
    (void)state;
    const struct vcl_layout layout = two_tensors(0);
    struct vcl_error error;
    const int files = count_files(scratch_folder);
    struct vcl_writer *writer = create(scratch("half.safetensors"), &layout, 0);
    write_entry(writer, bytes_0_to_15, 8);
    assert_int_equal(vcl_writer_end(writer, 3, &error), VCL_E_ARGUMENT);
    assert_int_equal(vcl_writer_commit(writer, &error), VCL_E_ARGUMENT);
    assert_non_null(strstr(error.text, "tensor 'b' has not been written"));
    writer = create(scratch("half.safetensors"), &layout, 0);
    const struct vcl_sink sink = vcl_writer_sink(writer);
    assert_int_not_equal(sink.write(sink.user, 1, bytes_0_to_15, 8), 0);
    assert_non_null(strstr(vcl_writer_failure(writer), "tensor 'a': 8 bytes at 1 are beyond its end at 8"));
    assert_int_equal(vcl_writer_end(writer, 8, &error), VCL_E_ARGUMENT);
    assert_int_equal(vcl_writer_commit(writer, &error), VCL_E_ARGUMENT);
    assert_int_equal(count_files(scratch_folder), files);
}

/* Would catch a file replaced against the user's will, at the start or at the very end; or not replaced
 * with it. */
static void no_overwriting(void **state)
{
    (void)state;
    struct vcl_layout layout = two_tensors(0);
    struct vcl_writer *writer;
    struct vcl_error error;
    void *bytes;
    size_t n;
    put_file(scratch("mine"), "mine", 4);
    assert_int_equal(vcl_writer_create(scratch("mine"), &layout, 0, &writer, &error), VCL_E_IO);
    assert_non_null(strstr(error.text, "is there already"));
    assert_int_equal(vcl_write_file(scratch("mine"), "x", 1, 0, &error), VCL_E_IO);
    assert_int_equal(vcl_copy_file("/proc/self/exe", scratch("mine"), 0, NULL, &error), VCL_E_IO);
    writer = create(scratch("late"), &layout, 0);
    write_entry(writer, bytes_0_to_15, 8);
    write_entry(writer, bytes_0_to_15, 4);
    put_file(scratch("late"), "mine", 4);
    const int files = count_files(scratch_folder);
    assert_int_equal(vcl_writer_commit(writer, &error), VCL_E_IO);
    assert_non_null(strstr(error.text, "has appeared meanwhile"));
    assert_int_equal(count_files(scratch_folder), files - 1);
    assert_int_equal(vcl_read_file(scratch("late"), 100, &bytes, &n, &error), VCL_OK);
    assert_int_equal(n, 4);
    free(bytes);
    layout.overwrite = 1;
    writer = create(scratch("late"), &layout, 0);
    write_entry(writer, bytes_0_to_15, 8);
    write_entry(writer, bytes_0_to_15, 4);
    commit(writer);
    vcl_model_close(open_model(scratch("late")));
    assert_int_equal(vcl_write_file(scratch("mine"), "yours", 5, 1, &error), VCL_OK);
    assert_int_equal(vcl_read_file(scratch("mine"), 100, &bytes, &n, &error), VCL_OK);
    assert_string_equal(bytes, "yours");
    free(bytes);
}

/* Would catch a device or folder replaced by a file, and places that cannot be written taken for written. */
static void impossible_places(void **state)
{
    (void)state;
    static const struct {
        const char *path, *says;
    } bad[] = {
        { "file/inside", "Not a directory" }, { "missing/inside", "No such file" },
        { "folder", "is a folder" },          { "", "no name for a file" },
        { "pipe", "not a regular file" },
    };
    struct vcl_error error;
    put_file(scratch("file"), "", 0);
    assert_int_equal(mkdir(scratch("folder"), 0700), 0);
    assert_int_equal(mkfifo(scratch("pipe"), 0600), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(vcl_write_file(scratch(bad[i].path), "x", 1, 1, &error), VCL_E_IO);
        if (strstr(error.text, bad[i].says) == NULL)
            fail_msg("\"%s\" should say \"%s\"", error.text, bad[i].says);
    }
    assert_int_equal(vcl_write_file("", "x", 1, 1, &error), VCL_E_IO);
}

/* Would catch a long but legal name made illegal by what the temporary name adds. */
static void longest_name(void **state)
{
    (void)state;
    char name[256] = "";
    while (strlen(name) < 255)
        strcat(name, "\xE2\x82\xAC");
    struct vcl_error error;
    assert_int_equal(vcl_write_file(scratch(name), "x", 1, 0, &error), VCL_OK);
    assert_int_equal(unlink(scratch(name)), 0);
}

/* Runs `what` in a child and gives its exit status. */
static int in_child(int (*what)(void))
{
    int status;
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        _exit(what());
    assert_int_equal(waitpid(child, &status, 0), child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 100;
}

static int write_in_read_only_folder(void)
{
    struct vcl_error error;
    if (geteuid() == 0 && setuid(65534) != 0)
        return 2;
    return vcl_write_file(scratch("locked/file"), "x", 1, 0, &error) != VCL_E_IO
        || strstr(error.text, "Permission denied") == NULL;
}

/* Would catch a failure that is not told where the folder cannot be written. */
static void read_only_folder(void **state)
{
    (void)state;
    assert_int_equal(mkdir(scratch("locked"), 0555), 0);
    assert_int_equal(chmod(scratch_folder, 0755), 0);
    assert_int_equal(in_child(write_in_read_only_folder), 0);
}

static int meet_file_limit(void)
{
    const struct rlimit limit = { 100000, 100000 };
    struct vcl_layout layout = two_tensors(0);
    const struct vcl_entry entry = { .name = "t",
                                     .tensor = { VCL_DTYPE_U8, 1, { 200000 } },
                                     .bytes = 200000 };
    static uint8_t zeros[50000];
    struct vcl_writer *writer;
    struct vcl_error error;
    int failed = 0;
    signal(SIGXFSZ, SIG_IGN);
    if (setrlimit(RLIMIT_FSIZE, &limit) != 0)
        return 2;
    layout.entries = &entry;
    layout.count = 1;
    if (vcl_writer_create(scratch("big.safetensors"), &layout, 0, &writer, &error) != VCL_OK)
        return 3;
    const struct vcl_sink sink = vcl_writer_sink(writer);
    for (uint64_t at = 0; at < 200000; at += sizeof zeros)
        failed += sink.write(sink.user, at, zeros, sizeof zeros) != 0;
    if (failed != 3
        || strstr(vcl_writer_failure(writer), "File too large") == NULL) /* 100000 - header < 2 pieces */
        return 4;
    if (vcl_writer_end(writer, 200000, &error) != VCL_E_IO
        || strstr(error.text, "big.safetensors: cannot write") == NULL)
        return 5;
    if (vcl_writer_commit(writer, &error) != VCL_E_IO)
        return 6;
    return vcl_copy_file("/proc/self/exe", scratch("copy"), 0, NULL, &error) != VCL_E_IO ? 7 : 0;
}

/* Would catch a write error (a full disk, a limit) that is swallowed, or that leaves part of a file
 * behind. */
static void write_errors(void **state)
{
    (void)state;
    const int files = count_files(scratch_folder);
    assert_int_equal(in_child(meet_file_limit), 0);
    assert_int_equal(count_files(scratch_folder), files);
}

/* Would catch hours of work begun on a disk that cannot hold the result. */
static void disk_too_small(void **state)
{
    (void)state;
    const struct vcl_layout layout = two_tensors(0);
    struct vcl_writer *writer;
    struct vcl_error error;
    const int files = count_files(scratch_folder);
    assert_int_equal(vcl_writer_create(scratch("full"), &layout, UINT64_C(1) << 60, &writer, &error),
                     VCL_E_IO);
    assert_non_null(strstr(error.text, "needs 1152921504606846976 bytes; the disk has "));
    assert_int_equal(count_files(scratch_folder), files);
}

struct written_part {
    struct vcl_sink sink;
    uint64_t from;
    int failed;
};

static void *write_part(void *user)
{
    struct written_part *const part = user;
    uint8_t byte;
    for (uint64_t i = part->from; i < 4000; i += 4) {
        byte = data_byte(i);
        part->failed += part->sink.write(part->sink.user, i, &byte, 1) != 0;
    }
    part->failed += part->sink.write(part->sink.user, 4000, &byte, 1) == 0; /* beyond the end: all four */
    return NULL;
}

/* Would catch a race between writing threads, and between their failures. */
static void threads_share_a_sink(void **state)
{
    (void)state;
    const struct vcl_entry entry = { .name = "t", .bytes = 4000 };
    struct vcl_layout layout;
    struct written_part parts[4];
    pthread_t threads[4];
    vcl_layout_init(&layout);
    layout.entries = &entry;
    layout.count = 1;
    layout.frames = 1;
    struct vcl_writer *const writer = create(scratch("threads"), &layout, 0);
    for (unsigned i = 0; i < 4; i++) {
        parts[i] = (struct written_part){ vcl_writer_sink(writer), i, 0 };
        assert_int_equal(pthread_create(&threads[i], NULL, write_part, &parts[i]), 0);
    }
    for (unsigned i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(parts[i].failed, 0);
    }
    assert_non_null(strstr(vcl_writer_failure(writer), "beyond its end at 4000"));
    void *bytes;
    size_t n;
    assert_int_equal(vcl_read_file(vcl_writer_temporary(writer), 1 << 16, &bytes, &n, NULL), VCL_OK);
    for (size_t i = 0; i < 4000; i++)
        assert_int_equal(((uint8_t *)bytes)[n - 4000 + i], data_byte(i));
    free(bytes);
    vcl_writer_abandon(writer);
}

/* ---- large and plain files ------------------------------------------------------------------- */

/* Would catch a 32-bit offset anywhere between the sink and the reader.  The file is sparse. */
static void beyond_4_gib(void **state)
{
    (void)state;
    const uint64_t huge = (UINT64_C(5) << 30) + 3;
    const struct vcl_entry entries[2] = {
        { .name = "huge", .tensor = { VCL_DTYPE_U8, 1, { huge } }, .bytes = huge },
        { .name = "last", .tensor = { VCL_DTYPE_U8, 1, { 16 } }, .bytes = 16 },
    };
    struct vcl_layout layout;
    vcl_layout_init(&layout);
    layout.entries = entries;
    layout.count = 2;
    struct vcl_writer *const writer = create(scratch("huge.safetensors"), &layout, 0);
    const struct vcl_sink sink = vcl_writer_sink(writer);
    assert_int_equal(sink.write(sink.user, huge - 5, bytes_0_to_15, 5), 0);
    assert_int_equal(sink.write(sink.user, (UINT64_C(1) << 32) - 8, bytes_0_to_15, 16), 0);
    assert_int_equal(vcl_writer_end(writer, huge, NULL), VCL_OK);
    write_entry(writer, bytes_0_to_15, 16);
    commit(writer);
    for (enum vcl_io io = VCL_IO_PREAD; io <= VCL_IO_MMAP; io++) {
        struct vcl_model_options options;
        struct vcl_model *model;
        uint8_t bytes[16];
        vcl_model_options_init(&options);
        options.io = io;
        assert_int_equal(vcl_model_open(scratch("huge.safetensors"), &options, &model, NULL), VCL_OK);
        const struct vcl_entry *const entry = vcl_model_find(model, "huge");
        assert_true(entry->bytes == huge && vcl_model_shard_bytes(model, 0) == entry->offset + huge + 16);
        assert_int_equal(vcl_model_read(model, entry, huge - 5, bytes, 5, NULL), VCL_OK);
        assert_memory_equal(bytes, bytes_0_to_15, 5);
        assert_int_equal(vcl_model_read(model, entry, (UINT64_C(1) << 32) - 8, bytes, 16, NULL), VCL_OK);
        assert_memory_equal(bytes, bytes_0_to_15, 16);
        assert_int_equal(vcl_model_read(model, vcl_model_find(model, "last"), 0, bytes, 16, NULL), VCL_OK);
        assert_memory_equal(bytes, bytes_0_to_15, 16);
        vcl_model_close(model);
    }
    assert_int_equal(unlink(scratch("huge.safetensors")), 0);
}

/* Would catch a commit that fails where the file system cannot sync folders (/proc, as some network file systems),
 * or that takes a folder which is gone for one of those. */
static void folders_that_cannot_be_synced(void **state)
{
    (void)state;
    struct vcl_error error = { VCL_OK, "" };
    const int fd = open("/proc", O_RDONLY | O_DIRECTORY);
    if (fd >= 0) {
        assert_int_equal(fsync(fd), -1); /* or it tests nothing */
        close(fd);
        assert_int_equal(vcl_sync_folder("/proc", &error), VCL_OK);
    }
    assert_int_equal(vcl_sync_folder(scratch_folder, &error), VCL_OK);
    assert_int_equal(vcl_sync_folder(scratch("absent"), &error), VCL_E_IO);
    assert_non_null(strstr(error.text, "absent: cannot be synced"));
    put_file(scratch("plain"), "x", 1);
    assert_int_equal(vcl_sync_folder(scratch("plain"), NULL), VCL_E_IO);
}

/* Would catch a copy that differs from its source or is hashed wrongly, at sizes around the piece it
 * copies by. */
static void copies(void **state)
{
    (void)state;
    static const size_t sizes[] = { 0, 1, 1 << 20, (1 << 20) + 1, 3000000 };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        char hex[33], only[33], expected[40];
        void *copy;
        size_t n;
        uint8_t *const bytes = malloc(sizes[i] + 1);
        for (size_t j = 0; j < sizes[i]; j++)
            bytes[j] = data_byte(j * j);
        put_file(scratch("source"), bytes, sizes[i]);
        assert_int_equal(vcl_copy_file(scratch("source"), scratch("target"), 1, hex, NULL), VCL_OK);
        assert_int_equal(vcl_copy_file(scratch("source"), NULL, 0, only, NULL), VCL_OK);
        const XXH128_hash_t hash = XXH3_128bits(bytes, sizes[i]);
        snprintf(expected, sizeof expected, "%016llx%016llx", (unsigned long long)hash.high64,
                 (unsigned long long)hash.low64);
        assert_string_equal(hex, expected);
        assert_string_equal(only, expected);
        assert_int_equal(vcl_read_file(scratch("target"), sizes[i], &copy, &n, NULL), VCL_OK);
        assert_int_equal(n, sizes[i]);
        assert_memory_equal(copy, bytes, n);
        free(copy);
        if (sizes[i] > 0)
            assert_int_equal(vcl_read_file(scratch("target"), sizes[i] - 1, &copy, &n, NULL), VCL_E_LIMIT);
        free(bytes);
    }
    assert_int_equal(vcl_copy_file(scratch_folder, scratch("target"), 1, NULL, NULL), VCL_E_IO);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_file),
        cmocka_unit_test(writes_in_any_order),
        cmocka_unit_test(given_header),
        cmocka_unit_test(frames_and_hash),
        cmocka_unit_test(hash_is_the_documents),
        cmocka_unit_test(bad_layouts),
        cmocka_unit_test(nothing_left_after_abandon),
        cmocka_unit_test(half_written_is_not_committed),
        cmocka_unit_test(no_overwriting),
        cmocka_unit_test(impossible_places),
        cmocka_unit_test(longest_name),
        cmocka_unit_test(read_only_folder),
        cmocka_unit_test(write_errors),
        cmocka_unit_test(disk_too_small),
        cmocka_unit_test(threads_share_a_sink),
        cmocka_unit_test(beyond_4_gib),
        cmocka_unit_test(folders_that_cannot_be_synced),
        cmocka_unit_test(copies),
    };
    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
