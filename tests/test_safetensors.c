/* test_safetensors.c - the rules of the container, accepted and refused one by one (docs/format.md,
 * "Container"). */
#include "scratch.h"

/* ---- refused headers ------------------------------------------------------------------------- */

struct refusal {
    const char *fault; /* what a reader without the rule would do */
    const char *json;
    size_t data; /* bytes behind the header */
    enum vcl_status status;
    const char *says;
};

#define A "\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}"

static const struct refusal refusals[] = {
    /* JSON */
    { "takes text before the brace", " {" A "}", 4, VCL_E_FORMAT, "does not begin with '{'" },
    { "takes an array for a header", "[1]", 0, VCL_E_FORMAT, "does not begin with '{'" },
    { "takes JSON that ends early", "{" A, 4, VCL_E_FORMAT, "ends" },
    { "takes a missing comma", "{" A "\"b\":{}}", 4, VCL_E_FORMAT, "','" },
    { "takes a trailing comma", "{" A ",}", 4, VCL_E_FORMAT, "comma" },
    { "takes a leading comma", "{," A "}", 4, VCL_E_FORMAT, "byte 9" },
    { "takes an unquoted key", "{a:{}}", 0, VCL_E_FORMAT, "'\"'" },
    { "takes a missing colon", "{\"a\"{}}", 0, VCL_E_FORMAT, "':'" },
    { "takes text after the brace", "{" A "} x", 4, VCL_E_FORMAT, "other than spaces" },
    { "takes a newline as padding", "{" A "}\n", 4, VCL_E_FORMAT, "other than spaces" },
    { "takes a second object", "{}{}", 0, VCL_E_FORMAT, "other than spaces" },
    { "takes broken UTF-8", "{\"\xC3\x28\":{}}", 0, VCL_E_FORMAT, "UTF-8" },
    { "takes overlong UTF-8", "{\"\xC0\xAF\":{}}", 0, VCL_E_FORMAT, "UTF-8" },
    { "takes surrogates in UTF-8", "{\"\xED\xA0\x80\":{}}", 0, VCL_E_FORMAT, "UTF-8" },
    { "takes code points beyond Unicode", "{\"\xF4\x90\x80\x80\":{}}", 0, VCL_E_FORMAT, "UTF-8" },
    { "reads UTF-8 past the end of the header", "{\"\xF0\x9F", 4, VCL_E_FORMAT, "UTF-8" },
    { "takes bare control characters", "{\"a\nb\":{}}", 0, VCL_E_FORMAT, "0x0A" },
    { "takes half a surrogate pair", "{\"\\ud800\":{}}", 0, VCL_E_FORMAT, "surrogate" },
    { "takes two high surrogates", "{\"\\ud800\\ud800\":{}}", 0, VCL_E_FORMAT, "surrogate" },
    { "takes a low surrogate alone", "{\"\\udc00\":{}}", 0, VCL_E_FORMAT, "surrogate" },
    { "takes short \\u escapes", "{\"\\u12\":{}}", 0, VCL_E_FORMAT, "four hexadecimal" },
    { "takes unknown escapes", "{\"\\x41\":{}}", 0, VCL_E_FORMAT, "escape" },
    { "cuts a name at a NUL", "{\"a\\u0000b\":{}}", 0, VCL_E_FORMAT, "NUL" },
    { "reads past a string that never ends", "{\"abc", 0, VCL_E_FORMAT, "inside a string" },
    { "reads past a lone backslash", "{\"abc\\", 0, VCL_E_FORMAT, "escape" },
    /* entries */
    { "takes a number for an entry", "{\"a\":1}", 0, VCL_E_FORMAT, "'a'" },
    { "lets two tensors share a name",
      "{" A ","
      "\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[4,6]}}",
      6, VCL_E_FORMAT, "tensor 'a' is there twice" },
    { "misses the same name spelt otherwise",
      "{" A ",\"\\u0061\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[4,6]}}", 6, VCL_E_FORMAT,
      "tensor 'a' is there twice" },
    { "takes the last of two dtypes",
      "{\"a\":{\"dtype\":\"I8\",\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, VCL_E_FORMAT,
      "'dtype' is there twice" },
    { "takes the last of two shapes",
      "{\"a\":{\"shape\":[1],\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, VCL_E_FORMAT,
      "'shape' is there twice" },
    { "ignores keys it does not know",
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4],\"x\":1}}", 4, VCL_E_FORMAT,
      "'x' does not belong" },
    { "guesses a missing dtype", "{\"a\":{\"shape\":[4],\"data_offsets\":[0,4]}}", 4, VCL_E_FORMAT,
      "dtype is missing" },
    { "guesses a missing shape", "{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,4]}}", 4, VCL_E_FORMAT,
      "shape is missing" },
    { "guesses missing offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4]}}", 4, VCL_E_FORMAT,
      "data_offsets is missing" },
    { "takes an unknown dtype", "{\"a\":{\"dtype\":\"Q4\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4,
      VCL_E_FORMAT, "'Q4'" },
    { "takes a dtype in small letters", "{\"a\":{\"dtype\":\"u8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4,
      VCL_E_FORMAT, "'u8'" },
    { "takes a number for a dtype", "{\"a\":{\"dtype\":4,\"shape\":[4],\"data_offsets\":[0,4]}}", 4,
      VCL_E_FORMAT, "'\"'" },
    { "takes null for a shape", "{\"a\":{\"dtype\":\"U8\",\"shape\":null,\"data_offsets\":[0,4]}}", 4,
      VCL_E_FORMAT, "'['" },
    { "takes a real dimension", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4.0],\"data_offsets\":[0,4]}}", 4,
      VCL_E_FORMAT, "integer" },
    { "takes an exponent", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4e0],\"data_offsets\":[0,4]}}", 4,
      VCL_E_FORMAT, "integer" },
    { "takes a leading zero", "{\"a\":{\"dtype\":\"U8\",\"shape\":[04],\"data_offsets\":[0,4]}}", 4,
      VCL_E_FORMAT, "integer" },
    { "takes a string dimension", "{\"a\":{\"dtype\":\"U8\",\"shape\":[\"4\"],\"data_offsets\":[0,4]}}", 4,
      VCL_E_FORMAT, "integer" },
    { "takes true for 1", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4,true],\"data_offsets\":[0,4]}}", 4,
      VCL_E_FORMAT, "integer" },
    { "takes a negative dimension", "{\"a\":{\"dtype\":\"U8\",\"shape\":[-4],\"data_offsets\":[0,4]}}", 4,
      VCL_E_FORMAT, "negative" },
    { "wraps a dimension of 2^64",
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[18446744073709551616],\"data_offsets\":[0,0]}}", 0, VCL_E_LIMIT,
      "63 bits" },
    { "wraps a dimension of 2^64 + 4",
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[18446744073709551620],\"data_offsets\":[0,4]}}", 4, VCL_E_LIMIT,
      "63 bits" },
    { "wraps the product of dimensions",
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[4294967296,4294967296],\"data_offsets\":[0,0]}}", 0, VCL_E_LIMIT,
      "tensor 'a': its size" },
    { "wraps the number of bits",
      "{\"a\":{\"dtype\":\"F64\",\"shape\":[288230376151711744],\"data_offsets\":[0,0]}}", 0, VCL_E_LIMIT,
      "63 bits" },
    { "overruns 16 dimensions",
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1],\"data_offsets\":[0,1]}}", 1,
      VCL_E_LIMIT, "more than 16" },
    { "takes half bytes", "{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}", 2, VCL_E_FORMAT,
      "whole bytes" },
    { "takes one offset", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4]}}", 4, VCL_E_FORMAT,
      "fewer than two" },
    { "takes three offsets", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4,8]}}", 4,
      VCL_E_FORMAT, "more than two" },
    { "takes offsets that run backwards", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[4,0]}}",
      4, VCL_E_FORMAT, "before they begin" },
    { "takes a negative offset", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[-4,0]}}", 4,
      VCL_E_FORMAT, "negative" },
    /* data */
    { "takes too few bytes for a shape", "{\"a\":{\"dtype\":\"F32\",\"shape\":[4],\"data_offsets\":[0,4]}}",
      4, VCL_E_FORMAT, "take 16 bytes" },
    { "takes too many bytes for a shape", "{\"a\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[0,4]}}",
      4, VCL_E_FORMAT, "take 2 bytes" },
    { "takes bytes for an empty tensor", "{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,4]}}", 4,
      VCL_E_FORMAT, "take 0 bytes" },
    { "takes a hole at the start", "{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}", 6,
      VCL_E_FORMAT, "2 bytes before it" },
    { "takes a hole between tensors", "{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[5,6]}}",
      6, VCL_E_FORMAT, "tensor 'b': 1 bytes before it" },
    { "takes overlapping tensors", "{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[2,6]}}", 6,
      VCL_E_FORMAT, "inside tensor 'a'" },
    { "takes the same bytes twice", "{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}",
      4, VCL_E_FORMAT, "inside tensor 'a'" },
    { "takes an empty tensor inside another",
      "{" A ",\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[2,2]}}", 4, VCL_E_FORMAT,
      "inside tensor 'a'" },
    { "takes trailing bytes", "{" A "}", 5, VCL_E_FORMAT, "1 bytes follow the last tensor" },
    { "takes bytes where there is no tensor", "{}", 1, VCL_E_FORMAT, "1 bytes follow" },
    { "reads past a file cut off", "{" A "}", 3, VCL_E_TRUNCATED, "tensor 'a': ends at byte" },
    { "wraps a file offset",
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[1152921504606846975],"
      "\"data_offsets\":[0,1152921504606846975]},\"b\":{\"dtype\":\"U8\",\"shape\":[1152921504606846975],"
      "\"data_offsets\":[1152921504606846975,2305843009213693950]}}",
      0, VCL_E_TRUNCATED, "tensor 'a': ends" },
    /* metadata */
    { "takes a number in metadata", "{\"__metadata__\":{\"n\":1}}", 0, VCL_E_FORMAT, "'__metadata__'" },
    { "takes an object in metadata", "{\"__metadata__\":{\"n\":{}}}", 0, VCL_E_FORMAT, "'\"'" },
    { "takes null metadata", "{\"__metadata__\":null}", 0, VCL_E_FORMAT, "'{'" },
    { "takes the last of two equal keys", "{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, VCL_E_FORMAT,
      "'k' is there twice" },
    { "takes metadata twice", "{\"__metadata__\":{},\"__metadata__\":{}}", 0, VCL_E_FORMAT, "twice" },
};

static void refuse(void **state)
{
    const struct refusal *const r = *state;
    put_model(scratch("refused.safetensors"), r->json, r->data);
    refuse_model(scratch("refused.safetensors"), NULL, r->status, r->says);
}

/* ---- refused files --------------------------------------------------------------------------- */

struct raw {
    const char *fault;
    size_t n;
    const char *bytes;
    enum vcl_status status;
    const char *says;
};

static const struct raw raws[] = {
    { "reads a length from an empty file", 0, "", VCL_E_TRUNCATED, "is empty" },
    { "reads a length from 7 bytes", 7, "\2\0\0\0\0\0\0", VCL_E_TRUNCATED, "has 7 bytes" },
    { "takes a header of no bytes", 8, "\0\0\0\0\0\0\0\0", VCL_E_FORMAT, "zeros" },
    { "reads a header past the end", 9, "\2\0\0\0\0\0\0\0{", VCL_E_TRUNCATED,
      "the header ends at byte 10; the file has 9" },
    { "allocates 2^63 bytes", 10, "\0\0\0\0\0\0\0\x80{}", VCL_E_FORMAT, "not a safetensors file" },
    { "allocates more than the format's limit", 10, "\1\xE1\xF5\5\0\0\0\0{}", VCL_E_FORMAT, "100000001" },
    { "adds 8 to 2^64 - 1", 10, "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF{}", VCL_E_FORMAT,
      "not a safetensors file" },
    { "does not know a zip", 16, "PK\3\4\0\0\0\0\1\0\0\0\0\0\0\0", VCL_E_FORMAT, "zip" },
    { "does not know a pickle", 16, "\x80\2\x8a\nl\xfc\x9c\x46\xf9 j\xa8PM.", VCL_E_FORMAT, "pickle" },
    { "does not know a web page", 16, "<!doctype html> ", VCL_E_FORMAT, "HTML" },
    { "does not know a git-lfs pointer", 16, "version https://", VCL_E_FORMAT, "git-lfs" },
    { "does not know bare JSON", 16, "{\"metadata\": {}}", VCL_E_FORMAT, "JSON" },
};

static void refuse_raw(void **state)
{
    const struct raw *const r = *state;
    put_file(scratch("raw.safetensors"), r->bytes, r->n);
    refuse_model(scratch("raw.safetensors"), NULL, r->status, r->says);
}

/* Would catch a limit that is checked after the allocation, or off by one. */
static void header_limit_holds(void **state)
{
    (void)state;
    struct vcl_model_options options;
    struct vcl_model *model;
    vcl_model_options_init(&options);
    put_model(scratch("limit.safetensors"), "{" A "}   ", 4);
    options.header_limit = strlen("{" A "}   ");
    assert_int_equal(vcl_model_open(scratch("limit.safetensors"), &options, &model, NULL), VCL_OK);
    vcl_model_close(model);
    options.header_limit--;
    refuse_model(scratch("limit.safetensors"), &options, VCL_E_LIMIT, "the limit is");
    options.header_limit = 100000001;
    refuse_model(scratch("limit.safetensors"), &options, VCL_E_ARGUMENT, "options");
    options.header_limit = 100000000;
    options.size = 0;
    refuse_model(scratch("limit.safetensors"), &options, VCL_E_ARGUMENT, "options");
}

/* Would catch an open that waits for the other end of a pipe, and a read of a folder or device. */
static void things_that_are_no_files(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(scratch("pipe.safetensors"), 0600), 0);
    refuse_model(scratch("pipe.safetensors"), NULL, VCL_E_IO, "a pipe");
    refuse_model("/dev/null", NULL, VCL_E_IO, "a device");
    refuse_model(scratch("nothing.safetensors"), NULL, VCL_E_IO, "No such file");
    assert_int_equal(unlink(scratch("pipe.safetensors")), 0);
}

/* Would catch a file that is accepted after an interrupted download, whatever byte it stopped at. */
static void every_truncation(void **state)
{
    (void)state;
    static const char json[] = "{\"__metadata__\":{\"format\":\"pt\"}," A "}  ";
    uint8_t whole[8 + sizeof json - 1 + 4] = { sizeof json - 1 };
    memcpy(whole + 8, json, sizeof json - 1);
    struct vcl_model *model;
    struct vcl_error error;
    for (size_t n = 0; n < sizeof whole; n++) {
        put_file(scratch("cut.safetensors"), whole, n);
        if (vcl_model_open(scratch("cut.safetensors"), NULL, &model, &error) == VCL_OK)
            fail_msg("%zu of %zu bytes were accepted", n, sizeof whole);
        assert_int_equal(error.status, VCL_E_TRUNCATED);
    }
    put_file(scratch("cut.safetensors"), whole, sizeof whole);
    vcl_model_close(open_model(scratch("cut.safetensors")));
}

/* Would catch messages that steer a terminal, break off in a character, or lose their end to a long name. */
static void messages_are_one_clean_line(void **state)
{
    (void)state;
    char json[2048] = "{\"\\u001b[31m\\n", *at = json + strlen(json);
    for (int i = 0; i < 500; i++)
        at = stpcpy(at, "\xE2\x82\xAC");
    stpcpy(at, "\":{\"dtype\":\"?\"}}");
    put_model(scratch("line.safetensors"), json, 0);
    struct vcl_model *model;
    struct vcl_error error;
    assert_int_equal(vcl_model_open(scratch("line.safetensors"), NULL, &model, &error), VCL_E_FORMAT);
    for (const char *c = error.text; *c != 0; c++)
        assert_true((unsigned char)*c >= 0x20 && *c != 0x7F);
    assert_non_null(strstr(error.text, "dtype '?' is not known (byte "));
}

/* ---- accepted files -------------------------------------------------------------------------- */

/* Would catch a reader that asks for more than the format does: each of these is valid. */
static void odd_but_valid(void **state)
{
    (void)state;
    static const struct {
        const char *json;
        size_t data, count;
    } valid[] = {
        { "{}", 0, 0 },
        { "{}       ", 0, 0 },
        { "{\"__metadata__\":{}}", 0, 0 },
        { "{\"__metadata__\":{\"\":\"\"}," A "}", 4, 1 },
        { "{" A ",\"__metadata__\":{\"late\":\"yes\"}}", 4, 1 },
        { "{" A "}", 4, 1 }, /* lengths that are no multiple of 8 */
        { "{" A "} ", 4, 1 },
        { "{ \t\r\n" A " \n}", 4, 1 },
        { "{\"a\" :\r{ \"dtype\" : \"U8\" ,\n\"shape\" : [ 4 ] , \"data_offsets\" : [ 0 , 4 ] } }", 4, 1 },
        { "{\"a\":{\"data_offsets\":[0,4],\"dtype\":\"F32\",\"shape\":[]}}", 4, 1 },
        { "{\"a\":{\"\\u0064type\":\"\\u0055\\u0038\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, 1 },
        { "{\"\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]}}", 4, 1 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[3,0],\"data_offsets\":[0,0]}}", 0, 1 },
        { "{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387904,4,0],\"data_offsets\":[0,0]}}", 0, 1 },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,4],\"data_offsets\":[0,4]}}", 4,
          1 },
    };
    for (size_t i = 0; i < sizeof valid / sizeof *valid; i++) {
        struct vcl_error error;
        struct vcl_model *model;
        put_model(scratch("odd.safetensors"), valid[i].json, valid[i].data);
        if (vcl_model_open(scratch("odd.safetensors"), NULL, &model, &error) != VCL_OK)
            fail_msg("%s: %s", valid[i].json, error.text);
        assert_int_equal(vcl_model_count(model), valid[i].count);
        vcl_model_close(model);
    }
}

/* Would catch a dtype that is missing, misnamed, or given a wrong size. */
static void every_dtype(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        unsigned bits;
    } all[VCL_DTYPE_COUNT] = {
        { "BOOL", 8 },        { "F4", 4 },      { "F6_E2M3", 6 }, { "F6_E3M2", 6 }, { "U8", 8 },
        { "I8", 8 },          { "F8_E5M2", 8 }, { "F8_E4M3", 8 }, { "F8_E8M0", 8 }, { "F8_E4M3FNUZ", 8 },
        { "F8_E5M2FNUZ", 8 }, { "I16", 16 },    { "U16", 16 },    { "F16", 16 },    { "BF16", 16 },
        { "I32", 32 },        { "U32", 32 },    { "F32", 32 },    { "C64", 64 },    { "F64", 64 },
        { "I64", 64 },        { "U64", 64 },
    };
    for (unsigned d = 0; d < VCL_DTYPE_COUNT; d++) {
        char json[256];
        snprintf(json, sizeof json, "{\"t\":{\"dtype\":\"%s\",\"shape\":[2,4],\"data_offsets\":[0,%u]}}",
                 all[d].name, all[d].bits);
        put_model(scratch("dtype.safetensors"), json, all[d].bits);
        struct vcl_model *const model = open_model(scratch("dtype.safetensors"));
        const struct vcl_entry *const entry = vcl_model_find(model, "t");
        assert_non_null(entry);
        assert_int_equal(entry->tensor.dtype, d);
        assert_int_equal(entry->bytes, all[d].bits);
        vcl_model_close(model);
    }
}

/* Would catch names that are compared or shown as spelt, not as meant. */
static void names_are_decoded(void **state)
{
    (void)state;
    static const char json[] = "{\"\\u00e9\\ud83d\\ude00\\\"\\\\\\/\\b\\f\\n\\r\\t\\u001F\\u20aC\":"
                               "{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
                               "\"\xC3\xA9\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[1,2]}}";
    put_model(scratch("names.safetensors"), json, 2);
    struct vcl_model *const model = open_model(scratch("names.safetensors"));
    const struct vcl_entry *const a =
        vcl_model_find(model, "\xC3\xA9\xF0\x9F\x98\x80\"\\/\b\f\n\r\t\x1F\xE2\x82\xAC");
    const struct vcl_entry *const b = vcl_model_find(model, "\xC3\xA9");
    assert_ptr_equal(a, vcl_model_entry(model, 0));
    assert_ptr_equal(b, vcl_model_entry(model, 1));
    assert_null(vcl_model_find(model, ""));
    assert_null(vcl_model_find(model, "\xC3"));
    vcl_model_close(model);
}

/* Would catch entries left in the header's order, and an empty tensor put on the wrong side of its
 * neighbour. */
static void entries_run_by_offset(void **state)
{
    (void)state;
    static const char json[] = "{\"z\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[5,8]},"
                               "\"e2\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[5,5]},"
                               "\"e1\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[5,5]},"
                               "\"y\":{\"dtype\":\"U8\",\"shape\":[5],\"data_offsets\":[0,5]},"
                               "\"e3\":{\"dtype\":\"F64\",\"shape\":[0,9],\"data_offsets\":[8,8]}}";
    static const char *const order[] = { "y", "e2", "e1", "z", "e3" };
    put_model(scratch("order.safetensors"), json, 8);
    struct vcl_model *const model = open_model(scratch("order.safetensors"));
    for (size_t i = 0; i < 5; i++)
        assert_string_equal(vcl_model_entry(model, i)->name, order[i]);
    assert_null(vcl_model_entry(model, 5));
    uint8_t bytes[3];
    assert_int_equal(vcl_model_read(model, vcl_model_find(model, "z"), 0, bytes, 3, NULL), VCL_OK);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(bytes[i], data_byte(5 + i));
    assert_int_equal(vcl_model_read(model, vcl_model_find(model, "z"), 1, bytes, 3, NULL), VCL_E_ARGUMENT);
    assert_int_equal(vcl_model_read(model, vcl_model_find(model, "z"), UINT64_MAX, bytes, 1, NULL),
                     VCL_E_ARGUMENT);
    assert_int_equal(vcl_model_read(model, vcl_model_find(model, "e3"), 0, bytes, 0, NULL), VCL_OK);
    vcl_model_close(model);
}

/* Would catch metadata that loses pairs, their order or their exact bytes. */
static void metadata_is_kept(void **state)
{
    (void)state;
    put_model(scratch("meta.safetensors"),
              "{\"__metadata__\":{\"format\":\"pt\",\"b\":\"\\u00fc\\n\",\"a\":\"\"}}", 0);
    struct vcl_model *const model = open_model(scratch("meta.safetensors"));
    const char *key, *value;
    assert_string_equal(vcl_model_metadata(model, 0, "format"), "pt");
    assert_string_equal(vcl_model_metadata(model, 0, "b"), "\xC3\xBC\n");
    assert_null(vcl_model_metadata(model, 0, "c"));
    assert_null(vcl_model_metadata(model, 1, "b"));
    assert_int_equal(vcl_model_metadata_at(model, 0, 2, &key, &value), 1);
    assert_string_equal(key, "a");
    assert_string_equal(value, "");
    assert_int_equal(vcl_model_metadata_at(model, 0, 3, &key, &value), 0);
    assert_int_equal(vcl_model_is_compressed(model, 0), 0);
    vcl_model_close(model);
}

/* ---- the canonical header -------------------------------------------------------------------- */

static char *header_of(const struct vcl_model *model, size_t *length)
{
    struct vcl_layout layout;
    struct vcl_entry entries[8];
    struct vcl_pair pairs[8];
    char *text;
    vcl_layout_init(&layout);
    while (layout.count < 8 && vcl_model_entry(model, layout.count) != NULL) {
        entries[layout.count] = *vcl_model_entry(model, layout.count);
        layout.count++;
    }
    while (layout.metadata_count < 8
           && vcl_model_metadata_at(model, 0, layout.metadata_count, &pairs[layout.metadata_count].key,
                                    &pairs[layout.metadata_count].value))
        layout.metadata_count++;
    layout.entries = entries;
    layout.metadata = pairs;
    assert_int_equal(vcl_layout_header(&layout, &text, length, NULL), VCL_OK);
    return text;
}

/* Would catch a header writer that other tools' files do not agree with, so that every header had to be
 * kept. */
static void canonical_header(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
        size_t data;
    } cases[] = {
        { "{}", "{}", 0 },
        { "{ \"__metadata__\" : {} }", "{}", 0 },
        { "{\"b\":{\"shape\":[1,2],\"data_offsets\":[3,7],\"dtype\":\"BF16\"},\"__metadata__\":{\"z\":\"1\","
          "\"a\":\"2\"},"
          "\"a\":{\"data_offsets\":[0,3],\"dtype\":\"F6_E2M3\",\"shape\":[4]},\"s\":{\"dtype\":\"U8\","
          "\"shape\":[],"
          "\"data_offsets\":[7,8]}}",
          "{\"__metadata__\":{\"z\":\"1\",\"a\":\"2\"},\"a\":{\"dtype\":\"F6_E2M3\",\"shape\":[4],\"data_"
          "offsets\":[0,3]},"
          "\"b\":{\"dtype\":\"BF16\",\"shape\":[1,2],\"data_offsets\":[3,7]},\"s\":{\"dtype\":\"U8\","
          "\"shape\":[],"
          "\"data_offsets\":[7,8]}}",
          8 },
        { "{\"\\u00E9\\/"
          "\\\"\\\\\\u0008\\u000C\\u000A\\u000D\\u0009\\u001F\\u007F\":{\"dtype\":\"U8\",\"shape\":[0],"
          "\"data_offsets\":[0,0]}}",
          "{\"\xC3\xA9/"
          "\\\"\\\\\\b\\f\\n\\r\\t\\u001f\x7F\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}",
          0 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t length;
        put_model(scratch("from.safetensors"), cases[i].from, cases[i].data);
        struct vcl_model *model = open_model(scratch("from.safetensors"));
        char *const text = header_of(model, &length);
        vcl_model_close(model);
        assert_int_equal(length % 8, 0);
        assert_memory_equal(text, cases[i].to, strlen(cases[i].to));
        assert_int_equal(strspn(text + strlen(cases[i].to), " "), length - strlen(cases[i].to));
        put_model_n(scratch("to.safetensors"), text, length, cases[i].data);
        model = open_model(scratch("to.safetensors"));
        size_t again_length;
        char *const again = header_of(model, &again_length);
        vcl_model_close(model);
        assert_int_equal(again_length, length);
        assert_memory_equal(again, text, length);
        free(again);
        free(text);
    }
}

int main(void)
{
    static const struct CMUnitTest fixed[] = {
        cmocka_unit_test(header_limit_holds), cmocka_unit_test(things_that_are_no_files),
        cmocka_unit_test(every_truncation),   cmocka_unit_test(messages_are_one_clean_line),
        cmocka_unit_test(odd_but_valid),      cmocka_unit_test(every_dtype),
        cmocka_unit_test(names_are_decoded),  cmocka_unit_test(entries_run_by_offset),
        cmocka_unit_test(metadata_is_kept),   cmocka_unit_test(canonical_header),
    };
    enum {
        FIXED = sizeof fixed / sizeof *fixed,
        JSON = sizeof refusals / sizeof *refusals,
        RAW = sizeof raws / sizeof *raws
    };
    struct CMUnitTest tests[JSON + RAW + FIXED];
    for (size_t i = 0; i < JSON; i++)
        tests[i] =
            (struct CMUnitTest){ refusals[i].fault, refuse, NULL, NULL, (void *)(uintptr_t)&refusals[i] };
    for (size_t i = 0; i < RAW; i++)
        tests[JSON + i] =
            (struct CMUnitTest){ raws[i].fault, refuse_raw, NULL, NULL, (void *)(uintptr_t)&raws[i] };
    memcpy(tests + JSON + RAW, fixed, sizeof fixed);
    return _cmocka_run_group_tests("safetensors", tests, JSON + RAW + FIXED, scratch_setup, scratch_teardown);
}
