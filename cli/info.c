/* info.c - the verb info: what a model holds, from its headers alone; with -v also what its values say of
 * rows that came to nothing. */
#include <stdlib.h>

#include "frames.h"
#include "policy/rows.h"

static const char HELP[] =
    "usage: vcllm info INPUT [options]\n"
    "\n"
    "Lists the tensors of a model, compressed or not, from its headers alone, and what they cost:\n"
    "  bits       8 x bytes of the lossily coded frames / values in them\n"
    "  file bits  8 x file size / all values; nothing is left out\n"
    "  SNR        as the encoder measured it after decoding; 'exact' where nothing was lost\n"
    "\n"
    "  vcllm info small.safetensors\n"
    "  vcllm info --json my-model-3bit/ | jq '.totals.file_bits'\n"
    "\n"
    "  -v, --verbose        tiles, depth and options of each tensor as well, and how many rows of its\n"
    "                       values are all zero, for which matrices coded lossily are decoded\n"
    "  --decoder NAME       with -v: libavcodec's decoder; see 'vcllm codecs'\n"
    "  -j, --threads N      with -v: threads (default: all CPUs)\n"
    "  --json               one JSON document on standard output\n" VCL_READING_HELP "\n"
    "Exit codes: 0 ok, 1 corrupt, 2 usage, 3 input/output; with -v also 4 codec missing, 130 interrupted.\n";

static int run(int argc, char **argv);
const struct vcl_verb vcl_verb_info = { "info", "list tensors, codecs, bits and SNR", HELP, run };

enum { NAME_WIDTH = 60, SHAPE_WIDTH = 24 };

struct listing {
    const struct vcl_model *model;
    const char *input, *decoder;
    int compressed, verbose, json, jobs;
    uint64_t *zero_rows; /* per entry; NULL: not counted */
};

static int limit(int width, int most) { return width < most ? width : most; }

static int name_width(const struct vcl_model *model)
{
    int width = 4;
    for (size_t i = 0; i < vcl_model_count(model); i++) {
        const int name = limit(vcl_name_width(vcl_model_entry(model, i)->name), NAME_WIDTH);
        width = name > width ? name : width;
    }
    return width;
}

static void print_details(const struct vcl_info *info, uint64_t zero_rows)
{
    printf("  %llu tiles of %u x %u", (unsigned long long)info->tiles, info->tile_rows, info->tile_cols);
    if (info->depth)
        printf(", %d bits", info->depth);
    if (info->states)
        printf(", %d states", info->states);
    if (info->transform_down || info->transform_along)
        printf(", DCT %d x %d", info->transform_down, info->transform_along);
    printf("%s%s%s%s", info->transposed ? ", transposed" : "", info->rotated ? ", rotated" : "",
           info->row_scales ? ", row scales" : "", info->non_finite ? ", non-finite values" : "");
    if (zero_rows)
        printf(", %llu zero rows", (unsigned long long)zero_rows);
}

static int print_frame(const struct listing *listing, size_t i, int width)
{
    const struct vcl_model *model = listing->model;
    const struct vcl_entry *entry = vcl_model_entry(model, i), *target;
    struct vcl_error error = { 0 };
    struct vcl_info info = { .size = sizeof info };
    const enum vcl_status status = vcl_model_frame(model, entry, &info, &target, &error);
    if (status != VCL_OK)
        return vcl_tell(status, "%s", error.text);
    vcl_print_name(entry->name, width);
    printf("  %-*s %-5s %-8s", SHAPE_WIDTH, vcl_words_shape(&info.tensor).text,
           vcl_dtype_name(info.tensor.dtype), vcl_codec_name(info.codec));
    if (info.codec == VCL_CODEC_ALIAS) {
        printf(" %12s  same as ", vcl_words_size(info.frame_bytes).text);
        vcl_print_name(target->name, 0);
    } else {
        printf(" %12s %8.3f  %10s", vcl_words_size(info.frame_bytes).text, vcl_frame_bits(&info),
               vcl_words_snr(info.snr).text);
        if (listing->verbose)
            print_details(&info, listing->zero_rows ? listing->zero_rows[i] : 0);
    }
    putchar('\n');
    return VCL_EXIT_OK;
}

static void print_plain(const struct vcl_model *model, const struct vcl_entry *entry, int width)
{
    uint64_t bytes;
    const char *type = vcl_model_stored(model, entry, &bytes);
    vcl_print_name(entry->name, width);
    printf("  %-*s %-8s %12s\n", SHAPE_WIDTH, vcl_words_shape(&entry->tensor).text, type,
           vcl_words_size(bytes).text);
}

static int is_compressed(const struct vcl_model *model)
{
    for (size_t i = 0; i < vcl_model_shards(model); i++)
        if (!vcl_model_is_compressed(model, i))
            return 0;
    return 1;
}

static void sum_plain(const struct vcl_model *model, uint64_t *values, uint64_t *bytes)
{
    *values = *bytes = 0;
    for (size_t i = 0; i < vcl_model_count(model); i++) {
        uint64_t n = 0;
        vcl_tensor_size(&vcl_model_entry(model, i)->tensor, &n, NULL);
        *values += n;
    }
    for (size_t i = 0; i < vcl_model_shards(model); i++)
        *bytes += vcl_model_shard_bytes(model, i);
}

static void plain_text(const struct vcl_model *model)
{
    const int width = name_width(model);
    uint64_t values, bytes;
    sum_plain(model, &values, &bytes);
    printf("%-*s  %-*s %-8s %12s\n", width, "name", SHAPE_WIDTH, "shape", "dtype", "size");
    for (size_t i = 0; i < vcl_model_count(model); i++)
        print_plain(model, vcl_model_entry(model, i), width);
    printf("\nnot compressed: %zu tensors, %llu values, %s in %zu files\n", vcl_model_count(model),
           (unsigned long long)values, vcl_words_size(bytes).text, vcl_model_shards(model));
}

static json_t *plain_item(const void *user, size_t i)
{
    const struct listing *listing = user;
    const struct vcl_entry *entry = vcl_model_entry(listing->model, i);
    json_t *object = vcl_plain_json(entry);
    uint64_t bytes;
    vcl_json_set(object, "stored_as", json_string(vcl_model_stored(listing->model, entry, &bytes)));
    vcl_json_set(object, "stored_bytes", json_integer((json_int_t)bytes));
    return object;
}

static json_t *plain_totals(const struct vcl_model *model)
{
    json_t *totals = json_object();
    uint64_t values, bytes;
    sum_plain(model, &values, &bytes);
    vcl_json_set(totals, "tensors", json_integer((json_int_t)vcl_model_count(model)));
    vcl_json_set(totals, "values", json_integer((json_int_t)values));
    vcl_json_set(totals, "file_bytes", json_integer((json_int_t)bytes));
    return totals;
}

static int frames_text(const struct listing *listing)
{
    const int width = name_width(listing->model);
    struct vcl_totals totals;
    int code = vcl_exit_of(vcl_totals_take(vcl_cli_errand(), &totals, listing->model));
    if (code)
        return code;
    printf("%-*s  %-*s %-5s %-8s %12s %8s  %10s\n", width, "name", SHAPE_WIDTH, "shape", "dtype", "codec",
           "size", "bits", "SNR");
    for (size_t i = 0; i < vcl_model_count(listing->model) && !code; i++)
        code = print_frame(listing, i, width);
    putchar('\n');
    vcl_totals_print(&totals);
    return code;
}

static json_t *frame_item(const void *user, size_t i)
{
    const struct listing *listing = user;
    const struct vcl_entry *entry = vcl_model_entry(listing->model, i), *target;
    struct vcl_info info = { .size = sizeof info };
    if (vcl_model_frame(listing->model, entry, &info, &target, NULL) != VCL_OK)
        return json_null(); /* totals have been taken: this does not happen */
    json_t *object = vcl_frame_json(entry, &info, target == entry ? NULL : target);
    if (listing->zero_rows && vcl_rows_may_vanish(&info))
        vcl_json_set(object, "zero_rows", json_integer((json_int_t)listing->zero_rows[i]));
    return object;
}

static int show_json(const struct listing *listing)
{
    const struct vcl_model *model = listing->model;
    const int compressed = listing->compressed;
    struct vcl_totals totals;
    const int code =
        compressed ? vcl_exit_of(vcl_totals_take(vcl_cli_errand(), &totals, model)) : VCL_EXIT_OK;
    if (code)
        return code;
    json_t *document = vcl_json_document("info");
    vcl_json_set(document, "input", vcl_json_text(listing->input));
    vcl_json_set(document, "compressed", json_boolean(compressed));
    vcl_json_set(document, "shards", json_integer((json_int_t)vcl_model_shards(model)));
    vcl_json_set(document, "totals", compressed ? vcl_totals_json(&totals) : plain_totals(model));
    vcl_json_print_list(document, "tensors", vcl_model_count(model), compressed ? frame_item : plain_item,
                        listing);
    return VCL_EXIT_OK;
}

static int show(const struct listing *listing)
{
    if (listing->json)
        return show_json(listing);
    if (listing->compressed)
        return frames_text(listing);
    plain_text(listing->model);
    return VCL_EXIT_OK;
}

/* What the headers say is listed even where values do not decode. */
static int count_and_show(struct listing *listing)
{
    uint64_t *zero_rows = vcl_zeros(vcl_model_count(listing->model), sizeof *zero_rows);
    const int counted = vcl_exit_of(vcl_zero_rows_count(vcl_cli_errand(), listing->model, listing->decoder,
                                                        (unsigned)listing->jobs, zero_rows));
    if (counted == VCL_EXIT_INTERRUPTED)
        vcl_say("interrupted");
    listing->zero_rows = counted ? NULL : zero_rows;
    const int code = counted == VCL_EXIT_INTERRUPTED ? counted : show(listing);
    free(zero_rows);
    return code ? code : counted;
}

static int run(int argc, char **argv)
{
    struct vcl_reading reading = { 0 };
    struct listing listing = { 0 };
    struct vcl_model *model;
    int count;
    char **operands;
    const struct vcl_option options[] = {
        { "verbose", 'v', VCL_OPTION_FLAG, &listing.verbose, 0, 0, NULL, NULL },
        { "decoder", 0, VCL_OPTION_TEXT, &listing.decoder, 0, 0, NULL, NULL },
        { "threads", 'j', VCL_OPTION_INTEGER, &listing.jobs, 0, 1024, NULL, NULL },
        { "json", 0, VCL_OPTION_FLAG, &listing.json, 0, 0, NULL, NULL },
        VCL_READING_OPTIONS(&reading),
        { 0 },
    };
    int code = vcl_cli_parse(&vcl_verb_info, options, argc, argv, 1, 1, &operands, &count);
    if (!code)
        code = vcl_cli_open(operands[0], &reading, &model);
    if (code)
        return code;
    listing.model = model;
    listing.input = operands[0];
    listing.compressed = is_compressed(model);
    code = listing.compressed && listing.verbose ? count_and_show(&listing) : show(&listing);
    vcl_model_close(model);
    return code;
}
