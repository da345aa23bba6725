/* The video module, through the loader: what it codes, what it refuses, and that it prints nothing.
 * Where the module cannot be loaded every test is skipped, with the loader's words. */
#include "base/common.h"
#include "random.h"
#include "video/loader.h"

#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

static struct vcl_video_library library;

static int load(void **unused)
{
    char message[VCL_VIDEO_MESSAGE];
    (void)unused;
    if (vcl_video_load(NULL, &library, message) != VCL_OK)
        print_message("SKIPPED, all of test_video: %s\n", message);
    return 0;
}

static int unload(void **unused)
{
    (void)unused;
    vcl_video_unload(&library);
    return 0;
}

static const struct vcl_video *video(void)
{
    if (!library.video)
        skip();
    return library.video;
}

/* ---- silence --------------------------------------------------------------------------------- */

/* Fault: a codec's messages on the caller's terminal.  Setup and teardown of the tests that could provoke
 * them. */
static int captured = -1, terminal[2];

static int capture(void **unused)
{
    char name[] = "/tmp/vcllm-test-XXXXXX";
    (void)unused;
    fflush(stdout);
    captured = mkstemp(name);
    unlink(name);
    for (int fd = 1; fd <= 2; fd++) {
        terminal[fd - 1] = dup(fd);
        dup2(captured, fd);
    }
    return captured < 0;
}

/* The one message of FFmpeg 5 that no context's level governs. */
static int is_known(const char *line) { return !strncmp(line, "nb_cpb ", 7); }

static int release(void **unused)
{
    char line[512];
    int faults = 0;
    (void)unused;
    fflush(stdout);
    for (int fd = 1; fd <= 2; fd++) {
        dup2(terminal[fd - 1], fd);
        close(terminal[fd - 1]);
    }
    FILE *const file = fdopen(captured, "r");
    rewind(file);
    while (fgets(line, sizeof line, file)) {
        faults += !is_known(line);
        print_message("%s", is_known(line) ? "" : line);
    }
    fclose(file);
    return faults;
}

/* ---- pictures -------------------------------------------------------------------------------- */

static struct vcl_picture make_picture(int width, int height, int depth)
{
    struct vcl_picture picture = { width, height, depth, NULL };
    picture.samples = calloc((size_t)width * (size_t)height, 2);
    assert_non_null(picture.samples);
    return picture;
}

static size_t samples_of(const struct vcl_picture *picture)
{
    return (size_t)picture->width * (size_t)picture->height;
}

/* A bell of deviation 30 of 256 levels, as a quantised tensor has it. */
static struct vcl_picture normal_picture(int width, int height, int depth, uint64_t seed)
{
    struct vcl_picture picture = make_picture(width, height, depth);
    const double scale = 1 << (depth - 8), top = (1 << depth) - 1;
    uint64_t state = seed * 0x9E3779B97F4A7C15 + 1;
    for (size_t i = 0; i < samples_of(&picture); i++)
        picture.samples[i] = (uint16_t)fmin(fmax(rint((128 + 30 * random_normal(&state)) * scale), 0), top);
    return picture;
}

/* Every sample equally likely: nothing can code it in fewer bits than it has. */
static struct vcl_picture uniform_picture(int width, int height, int depth, uint64_t seed)
{
    struct vcl_picture picture = make_picture(width, height, depth);
    uint64_t state = seed * 0x9E3779B97F4A7C15 + 1;
    for (size_t i = 0; i < samples_of(&picture); i++)
        picture.samples[i] = (uint16_t)(random_bits(&state) >> (64 - depth));
    return picture;
}

static double mean_squared_error(const struct vcl_picture *a, const struct vcl_picture *b)
{
    double sum = 0;
    for (size_t i = 0; i < samples_of(a); i++)
        sum += ((double)a->samples[i] - b->samples[i]) * ((double)a->samples[i] - b->samples[i]);
    return sum / (double)samples_of(a);
}

struct stream {
    uint8_t *bytes;
    size_t n;
};

static enum vcl_status try_encode(const struct vcl_video_config *config, const struct vcl_picture *picture,
                                  struct stream *stream, char message[VCL_VIDEO_MESSAGE])
{
    const size_t room = 4 * samples_of(picture) + 4096;
    stream->bytes = malloc(room);
    assert_non_null(stream->bytes);
    message[0] = 0;
    return video()->encode(config, picture, stream->bytes, room, &stream->n, message);
}

static struct stream encode(const struct vcl_video_config *config, const struct vcl_picture *picture)
{
    struct stream stream;
    char message[VCL_VIDEO_MESSAGE];
    if (try_encode(config, picture, &stream, message) != VCL_OK)
        fail_msg("codec %d, %d x %d, %d bits, chroma %d, qp %d: %s", (int)config->codec, picture->width,
                 picture->height, picture->depth, config->chroma, config->qp, message);
    return stream;
}

/* Decodes a copy that ends where its memory does, so that a sanitizer sees any read beyond. */
static enum vcl_status try_decode(const struct vcl_video_config *config, const void *bytes, size_t n,
                                  struct vcl_picture *picture)
{
    char message[VCL_VIDEO_MESSAGE] = "";
    uint8_t *const exact = malloc(n ? n : 1);
    assert_non_null(exact);
    memcpy(exact, bytes, n);
    const enum vcl_status status = video()->decode(config, exact, n, picture, message);
    free(exact);
    assert_true(status == VCL_OK || message[0]);
    return status;
}

static struct vcl_picture decode(const struct vcl_video_config *config, const struct stream *stream,
                                 const struct vcl_picture *like)
{
    struct vcl_picture picture = make_picture(like->width, like->height, like->depth);
    assert_int_equal(try_decode(config, stream->bytes, stream->n, &picture), VCL_OK);
    return picture;
}

static struct vcl_video_range range_of(const struct vcl_video_config *config, int depth)
{
    struct vcl_video_range range;
    char message[VCL_VIDEO_MESSAGE] = "";
    if (video()->range(config, depth, &range, message) != VCL_OK)
        fail_msg("codec %d at %d bits: %s", (int)config->codec, depth, message);
    return range;
}

/* Calls `test` for both codecs, both chromas and every depth that the software encoder has. */
static void each_kind(void (*test)(struct vcl_video_config *config, int depth))
{
    for (enum vcl_codec codec = VCL_CODEC_H264; codec <= VCL_CODEC_H265; codec++)
        for (int chroma = 400; chroma <= 420; chroma += 20)
            for (int depth = 8; depth <= 12; depth += 2) {
                struct vcl_video_config config = { .codec = codec, .effort = 2, .chroma = chroma, .qp = 26 };
                if (range_of(&config, depth).works)
                    test(&config, depth);
            }
}

/* ---- coding ---------------------------------------------------------------------------------- */

static void check_lossy(struct vcl_video_config *config, int depth)
{
    const struct vcl_video_range range = range_of(config, depth);
    const struct vcl_picture picture = normal_picture(192, 128, depth, 1);
    double last_error = -1, last_bytes = 1e9;
    for (int next = range.qp_min, qp; next <= range.qp_max; next = qp == range.qp_max ? qp + 1 : qp + 6) {
        config->qp = qp = next < range.qp_max - 3 ? next : range.qp_max;
        struct stream stream = encode(config, &picture);
        struct vcl_picture back = decode(config, &stream, &picture);
        const double error = mean_squared_error(&picture, &back), step = pow(2, (qp - 4) / 6.0 + depth - 8);
        if (error < last_error || (double)stream.n > last_bytes * 1.01)
            fail_msg("qp %d at %d bits: error %g after %g, %zu bytes after %g", qp, depth, error, last_error,
                     stream.n, last_bytes);
        if (qp >= 14 && qp <= 32 && (error < 0.6 * step * step / 12 || error > 1.6 * step * step / 12))
            fail_msg("qp %d at %d bits: error %g for a step of %g", qp, depth, error, step);
        last_error = error, last_bytes = (double)stream.n;
        free(back.samples);
        free(stream.bytes);
    }
    assert_true(last_error > 100); /* the worst qp reached the end of the scale */
    free(picture.samples);
}

/* Fault: a qp that is off by an encoder's own offset at more than 8 bits, clipped, or not the picture's. */
static void error_follows_qp(void **unused)
{
    (void)unused;
    each_kind(check_lossy);
}

static void check_lossless(struct vcl_video_config *config, int depth)
{
    static const int sides[][2] = { { 64, 64 }, { 72, 136 }, { 4096, 64 }, { 64, 4096 }, { 200, 104 } };
    config->lossless = 1;
    assert_true(range_of(config, depth).lossless);
    for (int i = 0; i < 5; i++) {
        const struct vcl_picture picture = uniform_picture(sides[i][0], sides[i][1], depth, (uint64_t)i + 1);
        struct stream stream = encode(config, &picture);
        struct vcl_picture back = decode(config, &stream, &picture);
        if (memcmp(picture.samples, back.samples, 2 * samples_of(&picture)))
            fail_msg("codec %d, %d x %d, %d bits, chroma %d: not exact", (int)config->codec, sides[i][0],
                     sides[i][1], depth, config->chroma);
        free(back.samples);
        free(stream.bytes);
        free(picture.samples);
    }
}

/* Fault: a range squeezed by a converter, a lost last row or column, an "exact" mode that is none. */
static void lossless_is_exact(void **unused)
{
    (void)unused;
    each_kind(check_lossless);
}

static void check_small(struct vcl_video_config *config, int depth)
{
    const struct vcl_picture flat = make_picture(64, 64, depth);
    struct stream stream = encode(config, &flat);
    assert_true(stream.n < 160);
    free(stream.bytes);
    free(flat.samples);
}

/* Fault: hundreds of bytes of option strings in every picture. */
static void flat_picture_takes_few_bytes(void **unused)
{
    (void)unused;
    each_kind(check_small);
}

/* Fault: an effort that an encoder does not know, or that breaks it. */
static void every_effort_decodes(void **unused)
{
    (void)unused;
    for (enum vcl_codec codec = VCL_CODEC_H264; codec <= VCL_CODEC_H265; codec++)
        for (int effort = 1; effort <= 9; effort++) {
            const struct vcl_video_config config = {
                .codec = codec, .effort = effort, .chroma = 400, .qp = 28
            };
            const struct vcl_picture picture = normal_picture(136, 72, 8, (uint64_t)effort);
            struct stream stream = encode(&config, &picture), again = encode(&config, &picture);
            struct vcl_picture back = decode(&config, &stream, &picture);
            assert_true(mean_squared_error(&picture, &back) < 64);
            assert_int_equal(stream.n, again.n); /* a session leaves nothing behind */
            assert_memory_equal(stream.bytes, again.bytes, stream.n);
            free(back.samples);
            free(again.bytes);
            free(stream.bytes);
            free(picture.samples);
        }
}

/* ---- refusals -------------------------------------------------------------------------------- */

static void check_room(struct vcl_video_config *config, int depth)
{
    const struct vcl_picture picture = normal_picture(64, 64, depth, 1);
    char message[VCL_VIDEO_MESSAGE];
    struct stream stream = encode(config, &picture);
    for (size_t room = 0; room < stream.n; room += stream.n / 3) {
        uint8_t *const exact = malloc(room ? room : 1);
        size_t n;
        assert_non_null(exact);
        assert_int_equal(video()->encode(config, &picture, exact, room, &n, message), VCL_E_SPACE);
        free(exact);
    }
    free(stream.bytes);
    free(picture.samples);
}

/* Fault: writing past the room given. */
static void small_room_is_refused(void **unused)
{
    (void)unused;
    each_kind(check_room);
}

/* Fault: x265 crashing on a picture below one coding tree unit, a sample cut to fit. */
static void bad_pictures_are_refused(void **unused)
{
    static const int sides[][2] = { { 56, 64 }, { 64, 56 },  { 4104, 64 }, { 64, 4104 },
                                    { 68, 64 }, { 64, 100 }, { 0, 64 },    { 64, -8 } };
    static uint16_t samples[4104 * 100];
    const struct vcl_video_config config = { .codec = VCL_CODEC_H265, .effort = 2, .chroma = 400, .qp = 28 };
    char message[VCL_VIDEO_MESSAGE];
    uint8_t bytes[64];
    size_t n;
    (void)unused;
    for (int i = 0; i < 8; i++) {
        struct vcl_picture picture = { sides[i][0], sides[i][1], 8, samples };
        assert_int_equal(video()->encode(&config, &picture, bytes, sizeof bytes, &n, message),
                         VCL_E_ARGUMENT);
        assert_int_equal(video()->decode(&config, bytes, sizeof bytes, &picture, message), VCL_E_ARGUMENT);
    }
    struct vcl_picture picture = { 64, 64, 8, samples };
    samples[4095] = 256;
    assert_int_equal(video()->encode(&config, &picture, bytes, sizeof bytes, &n, message), VCL_E_ARGUMENT);
    samples[4095] = 0;
}

static void check_other(struct vcl_video_config *config, int depth)
{
    static const int sides[][2] = { { 64, 64 }, { 72, 64 }, { 64, 72 }, { 128, 64 }, { 4096, 4096 } };
    const struct vcl_picture picture = normal_picture(128, 72, depth, 1);
    struct stream stream = encode(config, &picture);
    for (int i = 0; i < 5; i++) {
        struct vcl_picture back = make_picture(sides[i][0], sides[i][1], depth);
        assert_int_equal(try_decode(config, stream.bytes, stream.n, &back), VCL_E_FORMAT);
        free(back.samples);
    }
    for (int other = 8; other <= 12; other += 2) {
        struct vcl_picture back = make_picture(128, 72, other);
        assert_int_equal(try_decode(config, stream.bytes, stream.n, &back),
                         other == depth ? VCL_OK : VCL_E_FORMAT);
        free(back.samples);
    }
    struct vcl_video_config wrong = *config;
    wrong.codec = config->codec == VCL_CODEC_H264 ? VCL_CODEC_H265 : VCL_CODEC_H264;
    struct vcl_picture back = make_picture(128, 72, depth);
    assert_int_equal(try_decode(&wrong, stream.bytes, stream.n, &back), VCL_E_FORMAT);
    free(back.samples);
    free(stream.bytes);
    free(picture.samples);
}

/* Fault: a picture of another size or depth written over the caller's samples. */
static void other_size_or_depth_is_refused(void **unused)
{
    (void)unused;
    each_kind(check_other);
}

static void check_two(struct vcl_video_config *config, int depth)
{
    const struct vcl_picture picture = normal_picture(64, 64, depth, 1);
    struct vcl_picture back = make_picture(64, 64, depth);
    struct stream stream = encode(config, &picture);
    uint8_t *const twice = malloc(2 * stream.n);
    size_t slice = stream.n - 1;
    assert_non_null(twice);
    memcpy(twice, stream.bytes, stream.n);
    memcpy(twice + stream.n, stream.bytes, stream.n);
    assert_int_equal(try_decode(config, twice, 2 * stream.n, &back), VCL_E_FORMAT);
    while (slice > 0 && memcmp(stream.bytes + slice, "\0\0\1", 3))
        slice--; /* the last unit, which is the picture's slice, once more */
    memcpy(twice + stream.n, stream.bytes + slice, stream.n - slice);
    assert_int_equal(try_decode(config, twice, 2 * stream.n - slice, &back), VCL_E_FORMAT);
    assert_int_equal(try_decode(config, stream.bytes + slice, stream.n - slice, &back), VCL_E_FORMAT);
    assert_int_equal(try_decode(config, stream.bytes, slice, &back), VCL_E_FORMAT);
    free(twice);
    free(stream.bytes);
    free(back.samples);
    free(picture.samples);
}

/* Fault: a second picture or second headers, through which a stream could exceed the size that was
 * checked. */
static void one_picture_with_headers_is_required(void **unused)
{
    (void)unused;
    each_kind(check_two);
}

/* ---- damage ---------------------------------------------------------------------------------- */

static void check_damage(struct vcl_video_config *config, int depth)
{
    const struct vcl_picture picture = normal_picture(64, 64, depth, 1);
    struct vcl_picture back = make_picture(64, 64, depth);
    struct stream stream = encode(config, &picture);
    for (size_t n = 0; n < stream.n; n += n < 100 ? 1 : 37)
        try_decode(config, stream.bytes, n, &back);
    for (size_t bit = 0; bit < 8 * stream.n; bit += bit < 8 * 90 ? 1 : 101) {
        stream.bytes[bit / 8] ^= (uint8_t)(1u << (bit & 7));
        try_decode(config, stream.bytes, stream.n, &back);
        stream.bytes[bit / 8] ^= (uint8_t)(1u << (bit & 7));
    }
    free(stream.bytes);
    free(back.samples);
    free(picture.samples);
}

/* Fault: a crash, a hang or a read beyond the end on truncated streams and flipped bits; any status will
 * do. */
static void damage_is_survived(void **unused)
{
    (void)unused;
    each_kind(check_damage);
}

static void check_garbage(struct vcl_video_config *config, int depth)
{
    struct vcl_picture back = make_picture(64, 64, depth);
    uint64_t state = 7;
    uint8_t bytes[600];
    for (size_t trial = 0; trial < 300; trial++) {
        const size_t n = random_bits(&state) % sizeof bytes;
        for (size_t i = 0; i < n; i++) /* half of the trials are mostly zeros and ones: start codes */
            bytes[i] = (uint8_t)(trial & 1 && random_bits(&state) >> 62 ? random_bits(&state) >> 63
                                                                        : random_bits(&state) >> 56);
        if (n > 6 && trial & 2)
            memcpy(bytes, config->codec == VCL_CODEC_H264 ? "\0\0\1\x67" : "\0\0\1\x42\1", 5);
        assert_int_not_equal(try_decode(config, bytes, n, &back), VCL_OK);
    }
    free(back.samples);
}

/* Fault: noise taken for a picture. */
static void garbage_is_refused(void **unused)
{
    (void)unused;
    each_kind(check_garbage);
}

/* ---- names ----------------------------------------------------------------------------------- */

/* Fault: another encoder than the one asked for, in silence. */
static void unknown_names_are_refused(void **unused)
{
    const struct vcl_picture picture = normal_picture(64, 64, 8, 1);
    struct vcl_video_config config = { .codec = VCL_CODEC_H265, .effort = 2, .chroma = 400, .qp = 28 };
    static const char *const names[] = { "nonesuch", "", "libx264", "hevc", "mpeg4" };
    char message[VCL_VIDEO_MESSAGE];
    struct vcl_video_range range;
    struct stream good = encode(&config, &picture), stream;
    (void)unused;
    for (int i = 0; i < 5; i++) {
        config.name = names[i];
        assert_int_equal(try_encode(&config, &picture, &stream, message), VCL_E_CODEC);
        assert_non_null(strstr(message, names[i]));
        assert_int_equal(video()->range(&config, 8, &range, message), VCL_E_CODEC);
        free(stream.bytes);
    }
    struct vcl_picture back = make_picture(64, 64, 8);
    config.name = "libx265";
    assert_int_equal(try_decode(&config, good.bytes, good.n, &back), VCL_E_CODEC);
    free(back.samples);
    free(good.bytes);
    free(picture.samples);
}

/* Fault: hardware that is not there taken for a fault of the picture, or a message that leaves the user
 * guessing. */
static void absent_hardware_is_named(void **unused)
{
    static const struct {
        const char *name;
        enum vcl_codec codec;
    } known[] = {
        { "hevc_nvenc", VCL_CODEC_H265 }, { "h264_nvenc", VCL_CODEC_H264 }, { "hevc_vaapi", VCL_CODEC_H265 },
        { "h264_vaapi", VCL_CODEC_H264 }, { "hevc_cuvid", VCL_CODEC_H265 }, { "h264_cuvid", VCL_CODEC_H264 },
    };
    const struct vcl_picture picture = normal_picture(192, 128, 8, 1);
    (void)unused;
    for (int i = 0; i < 6; i++) {
        struct vcl_video_config config = { .codec = known[i].codec, .effort = 2, .chroma = 420, .qp = 28 };
        struct vcl_picture back = make_picture(192, 128, 8);
        struct stream stream = encode(&config, &picture);
        char message[VCL_VIDEO_MESSAGE];
        config.name = known[i].name;
        enum vcl_status status = video()->decode(&config, stream.bytes, stream.n, &back, message);
        assert_true(status == VCL_OK || (status == VCL_E_CODEC && strstr(message, known[i].name)));
        free(stream.bytes);
        status = try_encode(&config, &picture, &stream, message);
        assert_true(status == VCL_OK || (status == VCL_E_CODEC && strstr(message, known[i].name)));
        free(stream.bytes);
        free(back.samples);
    }
    free(picture.samples);
}

/* Fault: "invalid argument" of a picture that hardware finds too small or has no monochrome for. */
static void limits_of_hardware_are_named(void **unused)
{
    static const struct {
        const char *name, *says;
        enum vcl_codec codec;
        int encodes, chroma;
    } known[] = {
        { "hevc_nvenc", "below 129 x 33", VCL_CODEC_H265, 1, 420 },
        { "h264_nvenc", "below 145 x 49", VCL_CODEC_H264, 1, 420 },
        { "hevc_cuvid", "below 144 x 144", VCL_CODEC_H265, 0, 420 },
        { "hevc_nvenc", "hevc_nvenc: has no monochrome (4:0:0); use --chroma 420", VCL_CODEC_H265, 1, 400 },
        { "h264_vaapi", "h264_vaapi: has no monochrome (4:0:0); use --chroma 420", VCL_CODEC_H264, 1, 400 },
    };
    const struct vcl_picture picture = normal_picture(64, 64, 8, 1);
    (void)unused;
    for (int i = 0; i < 5; i++) {
        struct vcl_video_config config = {
            .codec = known[i].codec, .effort = 2, .chroma = known[i].chroma, .qp = 28
        };
        struct vcl_picture back = make_picture(64, 64, 8);
        struct stream stream = encode(&config, &picture), other = { 0 };
        char message[VCL_VIDEO_MESSAGE] = "";
        config.name = known[i].name;
        assert_int_equal(known[i].encodes ? try_encode(&config, &picture, &other, message)
                                          : video()->decode(&config, stream.bytes, stream.n, &back, message),
                         VCL_E_CODEC);
        if (!strstr(message, known[i].says) && !strstr(message, "not in this libavcodec"))
            fail_msg("\"%s\" should say \"%s\"", message, known[i].says);
        free(other.bytes);
        free(stream.bytes);
        free(back.samples);
    }
    free(picture.samples);
}

/* Fault: a depth that an encoder lacks, coded at another. */
static void missing_depth_is_told(void **unused)
{
    const struct vcl_picture picture = normal_picture(64, 64, 12, 1);
    const struct vcl_video_config config = { .codec = VCL_CODEC_H264, .effort = 2, .chroma = 400, .qp = 28 };
    struct stream stream;
    char message[VCL_VIDEO_MESSAGE];
    (void)unused;
    assert_false(range_of(&config, 12).works);
    assert_int_equal(try_encode(&config, &picture, &stream, message), VCL_E_CODEC);
    assert_non_null(strstr(message, "12"));
    free(stream.bytes);
    free(picture.samples);
}

struct seen {
    int encoders, decoders, unexplained;
};

static void see(void *user, const struct vcl_backend *backend)
{
    struct seen *const seen = user;
    seen->unexplained += !backend->detail || !backend->detail[0];
    if (backend->works && !backend->hardware)
        backend->encodes ? seen->encoders++ : seen->decoders++;
}

/* Fault: a backend listed as working because it has a name. */
static void probe_finds_the_software(void **unused)
{
    struct seen seen = { 0, 0, 0 };
    (void)unused;
    video()->probe(see, &seen);
    assert_int_equal(seen.encoders, 2);
    assert_int_equal(seen.decoders, 2);
    assert_int_equal(seen.unexplained, 0);
}

/* ---- the house's rules ----------------------------------------------------------------------- */

struct video_worker {
    const struct vcl_video *video;
    enum vcl_codec codec;
    int failures;
};

static void *code_pictures(void *user)
{
    struct video_worker *const worker = user;
    for (int i = 0; i < 12; i++) {
        const int depth = i & 1 ? 10 : 8;
        const struct vcl_video_config config = {
            .codec = worker->codec, .effort = 1 + i % 3, .chroma = 400, .lossless = 1
        };
        const struct vcl_picture picture = uniform_picture(64 + 8 * i, 64, depth, (uint64_t)i + 1);
        struct vcl_picture back = make_picture(64 + 8 * i, 64, depth);
        const size_t room = 4 * samples_of(&picture);
        uint8_t *const bytes = malloc(room);
        char message[VCL_VIDEO_MESSAGE];
        size_t n;
        worker->failures += !bytes
                         || worker->video->encode(&config, &picture, bytes, room, &n, message) != VCL_OK
                         || worker->video->decode(&config, bytes, n, &back, message) != VCL_OK
                         || memcmp(picture.samples, back.samples, 2 * samples_of(&picture)) != 0;
        free(bytes);
        free(back.samples);
        free(picture.samples);
    }
    return NULL;
}

/* Fault: state shared between calls. */
static void threads_do_not_meet(void **unused)
{
    struct video_worker workers[4];
    pthread_t threads[4];
    (void)unused;
    for (int i = 0; i < 4; i++) {
        workers[i] = (struct video_worker){ video(), i & 1 ? VCL_CODEC_H264 : VCL_CODEC_H265, 0 };
        assert_int_equal(pthread_create(&threads[i], NULL, code_pictures, &workers[i]), 0);
    }
    for (int i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(workers[i].failures, 0);
    }
}

/* ---- the loader ------------------------------------------------------------------------------ */

/* Fault: a crash, or a message without the reason, where the module is missing or is no library. */
static void loader_says_what_is_wrong(void **unused)
{
    char folder[] = "/tmp/vcllm-test-XXXXXX", path[64], message[VCL_VIDEO_MESSAGE] = "";
    struct vcl_video_library none;
    (void)unused;
    assert_non_null(mkdtemp(folder));
    assert_int_equal(vcl_video_load(folder, &none, message), VCL_E_CODEC);
    assert_non_null(strstr(message, folder));
    snprintf(path, sizeof path, "%s/" VCL_VIDEO_FILE, folder);
    const int file = open(path, O_WRONLY | O_CREAT, 0700);
    assert_true(file >= 0 && write(file, "no ELF", 6) == 6);
    close(file);
    assert_int_equal(vcl_video_load(folder, &none, message), VCL_E_CODEC);
    assert_non_null(strstr(message, VCL_VIDEO_FILE));
    assert_null(none.handle);
    vcl_video_unload(&none);
    unlink(path);
    rmdir(folder);
}

/* Fault: an unload that takes the module away from another context. */
static void loads_are_counted(void **unused)
{
    struct vcl_video_library second;
    char message[VCL_VIDEO_MESSAGE];
    (void)unused;
    const struct vcl_video *const first = video();
    assert_int_equal(vcl_video_load(NULL, &second, message), VCL_OK);
    assert_ptr_equal(second.video, first);
    vcl_video_unload(&second);
    assert_null(second.video);
    assert_int_equal(first->abi, VCL_VIDEO_ABI);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(error_follows_qp),
        cmocka_unit_test_setup_teardown(lossless_is_exact, capture, release),
        cmocka_unit_test(flat_picture_takes_few_bytes),
        cmocka_unit_test_setup_teardown(every_effort_decodes, capture, release),
        cmocka_unit_test(small_room_is_refused),
        cmocka_unit_test(bad_pictures_are_refused),
        cmocka_unit_test(other_size_or_depth_is_refused),
        cmocka_unit_test(one_picture_with_headers_is_required),
        cmocka_unit_test_setup_teardown(damage_is_survived, capture, release),
        cmocka_unit_test_setup_teardown(garbage_is_refused, capture, release),
        cmocka_unit_test(unknown_names_are_refused),
        cmocka_unit_test_setup_teardown(absent_hardware_is_named, capture, release),
        cmocka_unit_test_setup_teardown(limits_of_hardware_are_named, capture, release),
        cmocka_unit_test(missing_depth_is_told),
        cmocka_unit_test_setup_teardown(probe_finds_the_software, capture, release),
        cmocka_unit_test(threads_do_not_meet),
        cmocka_unit_test(loader_says_what_is_wrong),
        cmocka_unit_test(loads_are_counted),
    };
    return cmocka_run_group_tests(tests, load, unload);
}
