/* bench.c - the verb bench: rate, error and speed of every codec, effort and rate asked for.
 *
 * One thread, the median of some runs, and the speed of memcpy in the same minute, so that figures of
 * different machines can be set side by side.  The gap is bits - SNR / 6.0206: what a code takes beyond the
 * rate-distortion bound of a Gaussian of the same power (one bit is 6.0206 dB).  A point that fails is said
 * so and the others go on. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

static const char HELP[] =
    "usage: vcllm bench [FILE...] [options]\n"
    "\n"
    "Measures codecs on N(0,1) and Laplace matrices (seeded, 1024 columns) and on the largest float\n"
    "matrix of each FILE, with one thread: bits, SNR, gap = bits - SNR/6.02 (distance from the Gaussian\n"
    "bound), million values a second coded, all trials included, and decoded (median), and trials: how\n"
    "often a tensor was coded until its rate was met.\n"
    "\n"
    "  vcllm bench\n"
    "  vcllm bench model.safetensors --codec h265 --effort 1,5,9 --bits 2,3,4 -o points.json\n"
    "\n"
    "  --codec LIST         tensor,h265,h264 (default all)\n"
    "  --objective WHAT     model or mse (default): of the tensor codec\n"
    "  --effort LIST        1 to 9 (default 1,5,8)\n"
    "  --bits LIST          bits per value (default 2,2.9,4)\n"
    "  --runs N             runs per point (default 3)\n"
    "  --values N           values per matrix (default 1048576)\n"
    "  --encoder NAME       libavcodec's encoder      --decoder NAME  its decoder; see 'vcllm codecs'\n"
    "  -o, --output FILE    write the points as JSON as well; an older FILE is replaced\n"
    "  --json               JSON on standard output instead of the table\n"
    "\n"
    "Exit codes: 0 ok, 1 a point failed, 2 usage, 3 input/output, 4 codec missing, 130 interrupted.\n";

static int run(int argc, char **argv);
const struct vcl_verb vcl_verb_bench = { "bench", "measure rate, error and speed", HELP, run };

enum { MAX_LIST = 16, MAX_RUNS = 101 };

struct list {
    double at[MAX_LIST];
    size_t count;
    double low, high;
    const char *name;
    int whole;
};

enum { CODECS = 3 };

struct bench {
    struct list efforts, bits;
    enum vcl_codec codecs[CODECS];
    int objective; /* 0 mse, 1 model */
    size_t codec_count;
    const char *encoder, *decoder, *output;
    const char *used[VCL_CODEC_COUNT][2]; /* by codec: decoder, encoder that "the first that works" means */
    int runs, json, code, width;          /* width: of the column of names */
    struct vcl_context *ctx;
    json_t *points;
};

struct point {
    struct vcl_report report;
    double encode, decode; /* seconds, medians */
};

static int parse_list(void *to, const char *text)
{
    struct list *list = to;
    char *copy = vcl_text("%s", text), *rest = copy;
    const char *item;
    list->count = 0;
    while ((item = strsep(&rest, ","))) {
        double value;
        if (list->count == MAX_LIST || !vcl_parse_number(item, &value) || value < list->low
            || value > list->high || (list->whole && value != floor(value))) {
            vcl_say("bench: --%s takes up to %d %snumbers from %.4g to %.4g, not '%s'", list->name, MAX_LIST,
                    list->whole ? "whole " : "", list->low, list->high, text);
            free(copy);
            return VCL_EXIT_USAGE;
        }
        list->at[list->count++] = value;
    }
    free(copy);
    return VCL_EXIT_OK;
}

static int parse_codecs(void *to, const char *text)
{
    struct bench *bench = to;
    char *copy = vcl_text("%s", text), *rest = copy;
    const char *item;
    int code = VCL_EXIT_OK;
    bench->codec_count = 0;
    while ((item = strsep(&rest, ",")) && !code) {
        const enum vcl_codec codec = vcl_codec_parse(item);
        const int lossy = codec == VCL_CODEC_TENSOR || codec == VCL_CODEC_H265 || codec == VCL_CODEC_H264;
        if (bench->codec_count == CODECS || !lossy) {
            vcl_say("bench: --codec is a list of tensor, h265 and h264, not '%s'", text);
            code = VCL_EXIT_USAGE;
        } else {
            bench->codecs[bench->codec_count++] = codec;
        }
    }
    free(copy);
    return code;
}

/* ---- measuring ------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double median(double *at, int n)
{
    qsort(at, (size_t)n, sizeof *at, by_value);
    return at[n / 2];
}

static enum vcl_status measure(struct bench *bench, const struct vcl_bench_data *data,
                               const struct vcl_params *params, struct point *point)
{
    const size_t room = (size_t)vcl_bound(&data->tensor);
    double encode[MAX_RUNS], decode[MAX_RUNS];
    unsigned char *frame = vcl_zeros(room, 1), *values = vcl_zeros((size_t)data->bytes, 1);
    enum vcl_status status = VCL_OK;

    point->report.size = sizeof point->report;
    for (int i = 0; i < bench->runs && status == VCL_OK; i++) {
        size_t bytes = room;
        double started = vcl_seconds();
        status =
            vcl_encode_buffer(bench->ctx, &data->tensor, data->at, params, frame, &bytes, &point->report);
        encode[i] = vcl_seconds() - started;
        if (status != VCL_OK)
            break;
        started = vcl_seconds();
        status = vcl_decode_buffer(bench->ctx, frame, bytes, values, (size_t)data->bytes);
        decode[i] = vcl_seconds() - started;
    }
    free(frame);
    free(values);
    if (status == VCL_OK) {
        point->encode = median(encode, bench->runs);
        point->decode = median(decode, bench->runs);
    }
    return status;
}

/* Bytes a second, the median of five copies of 64 MiB. */
static double memcpy_speed(void)
{
    enum { BYTES = 64 << 20, COPIES = 5 };
    unsigned char *from = vcl_zeros(BYTES, 1), *to = vcl_zeros(BYTES, 1);
    double seconds[COPIES];
    memset(from, 1, BYTES);
    memset(to, 2, BYTES);
    for (int i = 0; i < COPIES; i++) {
        const double started = vcl_seconds();
        memcpy(to, from, BYTES);
        *(volatile unsigned char *)&to[i] = (unsigned char)i; /* the copy has a reader */
        seconds[i] = vcl_seconds() - started;
    }
    free(from);
    free(to);
    return BYTES / median(seconds, COPIES);
}

static void remember_backend(void *user, const struct vcl_backend *backend)
{
    struct bench *bench = user;
    const char **used = &bench->used[backend->codec][backend->encodes != 0];
    if (backend->works && !*used)
        *used = vcl_text("%s", backend->name);
}

/* ---- output ---------------------------------------------------------------------------------- */

static double gap(const struct vcl_report *report) { return report->bits - report->snr / 6.0206; }

static void add_point(struct bench *bench, const struct vcl_bench_data *data, const struct vcl_params *params,
                      const struct point *point, const char *failure)
{
    json_t *object = json_object();
    const struct vcl_report *report = &point->report;
    vcl_json_set(object, "data", vcl_json_text(data->name));
    vcl_json_set(object, "file", data->file ? vcl_json_text(data->file) : json_null());
    vcl_json_set(object, "dtype", json_string(vcl_dtype_name(data->tensor.dtype)));
    vcl_json_set(object, "shape", vcl_json_shape(&data->tensor));
    vcl_json_set(object, "codec", json_string(vcl_codec_name(params->codec)));
    vcl_json_set(object, "effort", json_integer(params->effort));
    vcl_json_set(object, "target", vcl_json_real(params->target));
    if (failure) {
        vcl_json_set(object, "failure", vcl_json_text(failure));
    } else {
        vcl_json_set(object, "bits", vcl_json_real(report->bits));
        vcl_json_set(object, "snr", vcl_json_real(report->snr));
        vcl_json_set(object, "gap", vcl_json_real(gap(report)));
        vcl_json_set(object, "encode_mvalues", vcl_json_real((double)data->values / point->encode / 1e6));
        vcl_json_set(object, "decode_mvalues", vcl_json_real((double)data->values / point->decode / 1e6));
        vcl_json_set(object, "trials", vcl_json_real(report->trials));
        vcl_json_set(object, "depth", json_integer(report->depth));
        vcl_json_set(object, "saturated", json_boolean(report->flags & VCL_REPORT_SATURATED));
        vcl_json_set(object, "written_as", json_string(vcl_codec_name(report->codec)));
    }
    vcl_json_append(bench->points, object);
}

/* Of a matrix, with the file it is from; free() it. */
static char *full_name(const struct vcl_bench_data *data)
{
    return data->file ? vcl_text("%s: %s", data->file, data->name) : vcl_text("%s", data->name);
}

static int widest_name(const struct vcl_bench_data *data, size_t count)
{
    int widest = 12;
    for (size_t i = 0; i < count; i++) {
        char *name = full_name(&data[i]);
        const int width = vcl_name_width(name);
        widest = width > widest ? width : widest;
        free(name);
    }
    return widest < 60 ? widest : 60;
}

static void print_point(const struct bench *bench, const struct vcl_bench_data *data,
                        const struct vcl_params *params, const struct point *point, const char *failure)
{
    const struct vcl_report *report = &point->report;
    char *name = full_name(data);
    vcl_print_name(name, bench->width);
    free(name);
    printf(" %-6s %6d %6.3g ", vcl_codec_name(params->codec), params->effort, params->target);
    if (failure)
        printf(" failed: %s\n", failure);
    else
        printf(" %7.4f %9s %7.3f %9.2f %9.2f %7.2f%s%s\n", report->bits, vcl_words_snr(report->snr).text,
               gap(report), (double)data->values / point->encode / 1e6,
               (double)data->values / point->decode / 1e6, report->trials,
               report->flags & VCL_REPORT_SATURATED ? "  saturated" : "",
               report->flags & VCL_REPORT_FELL_BACK ? "  kept exact" : "");
    fflush(stdout);
}

/* ---- the loops ------------------------------------------------------------------------------- */

static int bench_point(struct bench *bench, const struct vcl_bench_data *data,
                       const struct vcl_params *params, double *trials, size_t *points)
{
    struct point point = { 0 };
    const enum vcl_status status = measure(bench, data, params, &point);
    char *failure = status == VCL_OK
                      ? NULL
                      : vcl_text("%s", *vcl_context_message(bench->ctx) ? vcl_context_message(bench->ctx)
                                                                        : vcl_status_text(status));
    if (status == VCL_E_CANCELLED)
        bench->code = VCL_EXIT_INTERRUPTED;
    else if (status != VCL_OK && !bench->code)
        bench->code = vcl_exit_of(status);
    if (status == VCL_OK) {
        *trials += point.report.trials;
        ++*points;
    }
    add_point(bench, data, params, &point, failure);
    if (!bench->json)
        print_point(bench, data, params, &point, failure);
    free(failure);
    return bench->code == VCL_EXIT_INTERRUPTED;
}

static int bench_data(struct bench *bench, const struct vcl_bench_data *data, double *trials, size_t *points)
{
    struct vcl_params params;
    int stop = 0;
    vcl_params_init(&params);
    params.encoder = bench->encoder;
    params.decoder = bench->decoder;
    params.objective = bench->objective ? VCL_OBJECTIVE_MODEL : VCL_OBJECTIVE_MSE;
    for (size_t c = 0; c < bench->codec_count; c++)
        for (size_t e = 0; e < bench->efforts.count; e++)
            for (size_t b = 0; b < bench->bits.count && !stop; b++) {
                params.codec = bench->codecs[c];
                params.effort = (int)bench->efforts.at[e];
                params.target = bench->bits.at[b];
                stop = bench_point(bench, data, &params, trials, points);
            }
    return stop;
}

static const char *used_name(const struct bench *bench, enum vcl_codec codec, int encodes)
{
    if (codec == VCL_CODEC_TENSOR)
        return "built in";
    const char *asked = encodes ? bench->encoder : bench->decoder;
    return asked ? asked : bench->used[codec][encodes] ? bench->used[codec][encodes] : "none works";
}

static void print_head(const struct bench *bench, double copy)
{
    if (bench->json)
        return;
    printf("vcllm %s, one thread, median of %d runs; memcpy %.2f GB/s\n", vcl_version(), bench->runs,
           copy / 1e9);
    for (size_t i = 0; i < bench->codec_count; i++)
        printf("%s: encoder %s, decoder %s\n", vcl_codec_name(bench->codecs[i]),
               used_name(bench, bench->codecs[i], 1), used_name(bench, bench->codecs[i], 0));
    puts("enc Mv/s: million values a second through the whole search for the rate, all trials included");
    printf("\n%-*s %-6s %6s %6s  %7s %9s %7s %9s %9s %7s\n", bench->width, "data", "codec", "effort",
           "target", "bits", "SNR", "gap", "enc Mv/s", "dec Mv/s", "trials");
}

static json_t *make_document(const struct bench *bench, double copy, double average)
{
    json_t *document = vcl_json_document("bench"), *backends = json_object();
    for (size_t i = 0; i < bench->codec_count; i++) {
        json_t *names = json_object();
        vcl_json_set(names, "encoder", vcl_json_text(used_name(bench, bench->codecs[i], 1)));
        vcl_json_set(names, "decoder", vcl_json_text(used_name(bench, bench->codecs[i], 0)));
        vcl_json_set(backends, vcl_codec_name(bench->codecs[i]), names);
    }
    vcl_json_set(document, "version", json_string(vcl_version()));
    vcl_json_set(document, "threads", json_integer(1));
    vcl_json_set(document, "runs", json_integer(bench->runs));
    vcl_json_set(document, "memcpy_bytes_per_second", vcl_json_real(copy));
    vcl_json_set(document, "backends", backends);
    vcl_json_set(document, "points", json_incref(bench->points));
    vcl_json_set(document, "average_trials", vcl_json_real(average));
    return document;
}

static int write_document(const char *path, const json_t *document)
{
    struct vcl_error error = { 0 };
    char *text = vcl_dump(document, JSON_INDENT(2) | JSON_REAL_PRECISION(15));
    const enum vcl_status status = text ? vcl_write_file(path, text, strlen(text), 1, &error) : VCL_E_MEMORY;
    const int code =
        status == VCL_OK ? VCL_EXIT_OK : vcl_tell(status, "%s", text ? error.text : "out of memory");
    free(text);
    return code;
}

static int print_foot(struct bench *bench, double copy, double trials, size_t points)
{
    const double average = points ? trials / (double)points : NAN;
    json_t *document = make_document(bench, copy, average);
    const int code = bench->output ? write_document(bench->output, document) : VCL_EXIT_OK;
    if (bench->json)
        vcl_json_print(document);
    else
        json_decref(document);
    if (!bench->json && points)
        printf("\naverage trials %.2f over %zu points\n", average, points);
    return code;
}

static int run_all(struct bench *bench, struct vcl_bench_data *data, size_t count)
{
    const double copy = memcpy_speed();
    double trials = 0;
    size_t points = 0;
    bench->width = widest_name(data, count);
    print_head(bench, copy);
    for (size_t i = 0; i < count; i++)
        if (bench_data(bench, &data[i], &trials, &points))
            break;
    const int code = print_foot(bench, copy, trials, points);
    if (bench->code == VCL_EXIT_INTERRUPTED)
        vcl_say("interrupted");
    return bench->code ? bench->code : code;
}

static int uses_video(const struct bench *bench)
{
    int uses = 0;
    for (size_t i = 0; i < bench->codec_count; i++)
        uses |= bench->codecs[i] != VCL_CODEC_TENSOR;
    return uses;
}

static int run_on(struct bench *bench, char **paths, int count, uint64_t values)
{
    const size_t total = (size_t)count + 2;
    struct vcl_bench_data *data = vcl_zeros(total, sizeof *data);
    int code = VCL_EXIT_OK;
    vcl_bench_normal(&data[0], values);
    vcl_bench_laplace(&data[1], values);
    for (int i = 0; i < count && !code; i++)
        code = vcl_bench_file(&data[i + 2], paths[i], values);
    if (!code) {
        const enum vcl_status status =
            uses_video(bench) ? vcl_probe(bench->ctx, remember_backend, bench) : VCL_OK;
        code = status == VCL_OK ? run_all(bench, data, total)
                                : vcl_tell(status, "%s", vcl_context_message(bench->ctx));
    }
    for (size_t i = 0; i < total; i++)
        vcl_bench_data_free(&data[i]);
    free(data);
    return code;
}

static int run(int argc, char **argv)
{
    struct bench bench = {
        .efforts = { { 1, 5, 8 }, 3, 1, 9, "effort", 1 },
        .bits = { { 2, 2.9, 4 }, 3, 0.01, 64, "bits", 0 },
        .codecs = { VCL_CODEC_TENSOR, VCL_CODEC_H265, VCL_CODEC_H264 },
        .codec_count = CODECS,
        .runs = 3,
    };
    double values = 1 << 20;
    int count;
    char **paths;
    const struct vcl_option options[] = {
        { "codec", 0, VCL_OPTION_EACH, &bench, 0, 0, NULL, parse_codecs },
        { "objective", 0, VCL_OPTION_CHOICE, &bench.objective, 0, 0, "mse|model", NULL },
        { "effort", 0, VCL_OPTION_EACH, &bench.efforts, 0, 0, NULL, parse_list },
        { "bits", 0, VCL_OPTION_EACH, &bench.bits, 0, 0, NULL, parse_list },
        { "runs", 0, VCL_OPTION_INTEGER, &bench.runs, 1, MAX_RUNS, NULL, NULL },
        { "values", 0, VCL_OPTION_NUMBER, &values, 1024, 1 << 28, NULL, NULL },
        { "encoder", 0, VCL_OPTION_TEXT, &bench.encoder, 0, 0, NULL, NULL },
        { "decoder", 0, VCL_OPTION_TEXT, &bench.decoder, 0, 0, NULL, NULL },
        { "output", 'o', VCL_OPTION_OUTPUT, &bench.output, 0, 0, NULL, NULL },
        { "json", 0, VCL_OPTION_FLAG, &bench.json, 0, 0, NULL, NULL },
        { 0 },
    };
    struct vcl_options context;
    int code = vcl_cli_parse(&vcl_verb_bench, options, argc, argv, 0, 1024, &paths, &count);
    if (code)
        return code;
    vcl_options_init(&context);
    context.cancel = vcl_interrupt_poll;
    const enum vcl_status status = vcl_context_create(&context, &bench.ctx);
    if (status != VCL_OK)
        return vcl_tell(status, "%s", vcl_status_text(status));
    bench.points = json_array();
    code = run_on(&bench, paths, count, (uint64_t)values);
    json_decref(bench.points);
    for (size_t i = 0; i < VCL_CODEC_COUNT; i++)
        for (size_t j = 0; j < 2; j++)
            free((void *)(uintptr_t)bench.used[i][j]);
    vcl_context_destroy(bench.ctx);
    return code;
}
