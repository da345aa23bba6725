/* safetensors.c - the header of a safetensors file: text to entries, entries to text, and vcllm.hash.
 *
 * In: a file, or a list of entries.  Out: entries sorted by offset whose data fill the file to the
 * byte, or the first rule of docs/format.md, "Container", that is broken, with tensor and offset.  The
 * header's length is checked against file and limit before anything is allocated; then text, strings,
 * entries and sorted lists together stay below 16 bytes per header byte, because every list is bounded
 * by the shortest text that its items can have. */
#include "io.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- what is it, if it is not a safetensors file? -------------------------------------------- */

struct look {
    size_t n;
    const char *start, *what;
};

static const char *what_it_looks_like(const uint8_t *start, size_t n)
{
    static const struct look looks[] = {
        { 4, "PK\3\4", "a zip archive, perhaps a PyTorch checkpoint" },
        { 1, "\x80", "a Python pickle, perhaps a PyTorch checkpoint" },
        { 7, "version", "a git-lfs pointer; the file itself was not downloaded" },
        { 2, "<!", "an HTML page" },
        { 5, "<html", "an HTML page" },
        { 1, "{", "JSON text" },
        { 6, "\x93NUMPY", "a NumPy array" },
        { 4, "\x89HDF", "an HDF5 file" },
        { 2, "\x1F\x8B", "a gzip file" },
        { 4, "\x28\xB5\x2F\xFD", "a zstd file" },
        { 4, "VCLF", "a bare VcLLM frame" },
        { 8, "\0\0\0\0\0\0\0\0", "zeros, perhaps an unfinished download" },
    };
    for (size_t i = 0; i < sizeof looks / sizeof *looks; i++)
        if (n >= looks[i].n && memcmp(start, looks[i].start, looks[i].n) == 0)
            return looks[i].what;
    return NULL;
}

/* ---- text to entries ------------------------------------------------------------------------- */

struct parser {
    struct vcl_json json;
    struct vcl_header *header;
    char *strings;    /* where the next string goes */
    const char *name; /* of what is being read: a tensor, metadata_name, or NULL */
    size_t shard;
    int metadata_seen;
};

enum { DTYPE = 1, SHAPE = 2, OFFSETS = 4 };

static const char metadata_name[] = "__metadata__";

/* Strings that are not kept are read to the end of the kept ones: there is room, as text is never shorter. */
static const char *read_scratch(struct parser *p)
{
    return vcl_json_string(&p->json, p->strings) ? p->strings : "";
}

static void read_dtype(struct parser *p, struct vcl_entry *entry)
{
    const char *const name = read_scratch(p);
    entry->tensor.dtype = vcl_dtype_parse(name);
    if (entry->tensor.dtype == VCL_DTYPE_COUNT)
        vcl_json_fail(&p->json, VCL_E_FORMAT, "dtype '%.32s' is not known", name);
}

static void read_shape(struct parser *p, struct vcl_entry *entry)
{
    unsigned rank = 0;
    vcl_json_expect(&p->json, '[');
    for (; vcl_json_item(&p->json, ']', rank); rank++) {
        if (rank == VCL_MAX_RANK)
            vcl_json_fail(&p->json, VCL_E_LIMIT, "the shape has more than %d dimensions", VCL_MAX_RANK);
        else
            vcl_json_integer(&p->json, &entry->tensor.dims[rank]);
    }
    entry->tensor.rank = rank;
}

/* Leaves the two numbers as they are in offset (begin) and bytes (end). */
static void read_offsets(struct parser *p, struct vcl_entry *entry)
{
    size_t n = 0;
    vcl_json_expect(&p->json, '[');
    for (; vcl_json_item(&p->json, ']', n); n++)
        if (n == 2)
            vcl_json_fail(&p->json, VCL_E_FORMAT, "data_offsets has more than two numbers");
        else
            vcl_json_integer(&p->json, n == 0 ? &entry->offset : &entry->bytes);
    if (n < 2)
        vcl_json_fail(&p->json, VCL_E_FORMAT, "data_offsets has fewer than two numbers");
}

static void read_field(struct parser *p, struct vcl_entry *entry, unsigned *seen)
{
    const char *const key = read_scratch(p);
    const unsigned field = strcmp(key, "dtype") == 0        ? DTYPE
                         : strcmp(key, "shape") == 0        ? SHAPE
                         : strcmp(key, "data_offsets") == 0 ? OFFSETS
                                                            : 0;
    if (field == 0)
        vcl_json_fail(&p->json, VCL_E_FORMAT, "key " VCL_NAME " does not belong there", key);
    else if (*seen & field)
        vcl_json_fail(&p->json, VCL_E_FORMAT, "key '%s' is there twice", key);
    *seen |= field;
    vcl_json_expect(&p->json, ':');
    if (field == DTYPE)
        read_dtype(p, entry);
    else if (field == SHAPE)
        read_shape(p, entry);
    else
        read_offsets(p, entry);
}

static void check_entry(struct parser *p, const struct vcl_entry *entry, unsigned seen)
{
    uint64_t bytes;
    const uint64_t begin = entry->offset, end = entry->bytes;
    const char *const missing = !(seen & DTYPE) ? "dtype" : !(seen & SHAPE) ? "shape" : "data_offsets";
    const enum vcl_status status =
        seen == (DTYPE | SHAPE | OFFSETS) ? vcl_tensor_size(&entry->tensor, NULL, &bytes) : VCL_OK;
    if (seen != (DTYPE | SHAPE | OFFSETS))
        vcl_json_fail(&p->json, VCL_E_FORMAT, "%s is missing", missing);
    else if (status == VCL_E_FORMAT)
        vcl_json_fail(&p->json, status, "its values do not fill whole bytes");
    else if (status != VCL_OK)
        vcl_json_fail(&p->json, status, "its size is beyond 63 bits");
    else if (end < begin)
        vcl_json_fail(&p->json, VCL_E_FORMAT, "data_offsets end at %" PRIu64 " before they begin at %" PRIu64,
                      end, begin);
    else if (end - begin != bytes)
        vcl_json_fail(&p->json, VCL_E_FORMAT,
                      "dtype and shape take %" PRIu64 " bytes; data_offsets %" PRIu64 " to %" PRIu64
                      " hold %" PRIu64,
                      bytes, begin, end, end - begin);
}

static void read_entry(struct parser *p, struct vcl_entry *entry)
{
    unsigned seen = 0;
    memset(entry, 0, sizeof *entry);
    entry->name = p->name;
    entry->shard = p->shard;
    vcl_json_expect(&p->json, '{');
    for (size_t i = 0; vcl_json_item(&p->json, '}', i); i++)
        read_field(p, entry, &seen);
    check_entry(p, entry, seen);
    entry->bytes -= entry->offset;
}

static void read_member(struct parser *p)
{
    struct vcl_header *const header = p->header;
    const char *const name = p->strings;
    vcl_json_string(&p->json, p->strings);
    vcl_json_expect(&p->json, ':');
    if (p->json.status != VCL_OK)
        return;
    if (strcmp(name, metadata_name) != 0) {
        p->name = name;
        p->strings += strlen(name) + 1;
        read_entry(p, &header->entries[header->count++]);
    } else if (p->name = metadata_name, p->metadata_seen++)
        vcl_json_fail(&p->json, VCL_E_FORMAT, "the key is there twice");
    else
        vcl_json_pairs(&p->json, &header->metadata, &p->strings);
    if (p->json.status == VCL_OK)
        p->name = NULL;
}

static void read_text(struct parser *p)
{
    if (p->json.text[0] != '{')
        vcl_json_fail(&p->json, VCL_E_FORMAT, "the header does not begin with '{'");
    vcl_json_expect(&p->json, '{');
    for (size_t i = 0; vcl_json_item(&p->json, '}', i); i++)
        read_member(p);
    for (; p->json.status == VCL_OK && p->json.at < p->json.length; p->json.at++)
        if (p->json.text[p->json.at] != ' ') {
            vcl_json_fail(&p->json, VCL_E_FORMAT,
                          "something other than spaces follows the header's last '}'");
            break;
        }
}

static enum vcl_status report_fault(const struct parser *p, const char *path, struct vcl_error *error)
{
    const size_t at = p->json.at + 8;
    if (p->json.status == VCL_E_MEMORY)
        return vcl_fail_memory(error, path);
    if (p->name == NULL)
        return vcl_fail(error, p->json.status, path, "%s (byte %zu)", p->json.fault, at);
    return vcl_fail(error, p->json.status, path, "%s" VCL_NAME ": %s (byte %zu)",
                    p->name == metadata_name ? "" : "tensor ", p->name, p->json.fault, at);
}

/* ---- the data behind the header -------------------------------------------------------------- */

/* By begin, then end; where both are equal (empty tensors) in the order of the header, which is that of
 * the names' places in the one block of strings. */
static int compare_offsets(const void *a, const void *b)
{
    const struct vcl_entry *const x = a, *const y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    return x->name < y->name ? -1 : x->name > y->name;
}

static void sort_by_offset(struct vcl_header *header)
{
    size_t i = 1;
    while (i < header->count && compare_offsets(&header->entries[i - 1], &header->entries[i]) < 0)
        i++;
    if (i < header->count)
        qsort(header->entries, header->count, sizeof *header->entries, compare_offsets);
}

/* Tensors follow each other to the end of the file.  Makes their offsets those in the file. */
static enum vcl_status place_entries(const char *path, struct vcl_header *header, uint64_t file_bytes,
                                     struct vcl_error *error)
{
    const uint64_t start = 8 + header->length;
    uint64_t end = 0;
    for (size_t i = 0; i < header->count; i++) {
        struct vcl_entry *const entry = &header->entries[i];
        if (entry->offset > end)
            return vcl_fail(error, VCL_E_FORMAT, path,
                            "tensor " VCL_NAME ": %" PRIu64 " bytes before it, from byte %" PRIu64
                            ", belong to no tensor",
                            entry->name, entry->offset - end, start + end);
        if (entry->offset < end)
            return vcl_fail(error, VCL_E_FORMAT, path,
                            "tensor " VCL_NAME ": begins at byte %" PRIu64 " inside tensor " VCL_NAME,
                            entry->name, start + entry->offset, header->entries[i - 1].name);
        end += entry->bytes; /* both below 2^63 */
        entry->offset += start;
        if (end > INT64_MAX - start || start + end > file_bytes)
            return vcl_fail(error, VCL_E_TRUNCATED, path,
                            "tensor " VCL_NAME ": ends at byte %" PRIu64 "; the file has %" PRIu64,
                            entry->name, start + end, file_bytes);
    }
    if (start + end < file_bytes)
        return vcl_fail(error, VCL_E_FORMAT, path,
                        "%" PRIu64 " bytes follow the last tensor, from byte %" PRIu64,
                        file_bytes - start - end, start + end);
    return VCL_OK;
}

/* Gives back what the bounds on the lists had taken too much. */
static void fit_entries(struct vcl_header *header)
{
    struct vcl_entry *const fitted = realloc(header->entries, (header->count + 1) * sizeof *header->entries);
    if (fitted != NULL)
        header->entries = fitted;
}

enum vcl_status vcl_header_parse(const char *path, char *text, size_t length, uint64_t file_bytes,
                                 size_t shard, struct vcl_header *header, struct vcl_error *error)
{
    struct parser p = { .json = { .text = text, .length = length }, .header = header, .shard = shard };
    enum vcl_status status;
    /* "":{"dtype":"U8","shape":[],"data_offsets":[0,0]}, is the shortest entry. */
    const size_t most = length / 50 + 1;
    memset(header, 0, sizeof *header);
    header->text = text;
    header->length = length;
    header->entries = malloc(most * sizeof *header->entries);
    header->strings = p.strings = malloc(length + 1);
    if (header->entries == NULL || header->strings == NULL)
        status = vcl_fail_memory(error, path);
    else if (read_text(&p), p.json.status != VCL_OK)
        status = report_fault(&p, path, error);
    else {
        fit_entries(header);
        sort_by_offset(header);
        status = place_entries(path, header, file_bytes, error);
    }
    if (status != VCL_OK)
        vcl_header_free(header);
    return status;
}

void vcl_header_free(struct vcl_header *header)
{
    vcl_pairs_free(&header->metadata);
    vcl_gguf_free(header->gguf);
    free(header->entries);
    free(header->strings);
    free(header->text);
    memset(header, 0, sizeof *header);
}

/* start: the file's first 9 bytes, or all of them. */
static enum vcl_status check_length(const struct vcl_file *file, const uint8_t *start, uint64_t limit,
                                    struct vcl_error *error)
{
    const uint64_t n = vcl_load64(start);
    const int brace = file->bytes == 8 || start[8] == '{';
    const char *const look = what_it_looks_like(start, 8);
    if (n > VCL_HEADER_MAX || n == 0 || !brace)
        return vcl_fail(
            error, VCL_E_FORMAT, file->path, "is not a safetensors file, nor GGUF: %s %" PRIu64 "%s%s",
            brace ? "a header length of" : "the header does not begin with '{' but has a length of", n,
            look != NULL ? "; it looks like " : "", look != NULL ? look : "");
    if (n > file->bytes - 8)
        return vcl_fail(error, VCL_E_TRUNCATED, file->path,
                        "the header ends at byte %" PRIu64 "; the file has %" PRIu64, 8 + n, file->bytes);
    if (n > limit)
        return vcl_fail(error, VCL_E_LIMIT, file->path,
                        "the header has %" PRIu64 " bytes; the limit is %" PRIu64, n, limit);
    return VCL_OK;
}

static enum vcl_status open_header(struct vcl_file *file, size_t shard, uint64_t limit,
                                   struct vcl_header *header, struct vcl_error *error)
{
    uint8_t start[9];
    if (file->bytes == 0)
        return vcl_fail(error, VCL_E_TRUNCATED, file->path, "is empty");
    if (file->bytes < 8)
        return vcl_fail(error, VCL_E_TRUNCATED, file->path,
                        "has %" PRIu64 " bytes; a safetensors file begins with 8, a GGUF file with 'GGUF'",
                        file->bytes);
    enum vcl_status status = vcl_file_read(file, 0, start, (size_t)vcl_min(file->bytes, sizeof start), error);
    if (status == VCL_OK)
        status = check_length(file, start, limit, error);
    if (status != VCL_OK)
        return status;
    const size_t length = (size_t)vcl_load64(start);
    char *const text = malloc(length + 1);
    if (text == NULL)
        return vcl_fail_memory(error, file->path);
    status = vcl_file_read(file, 8, text, length, error);
    if (status != VCL_OK) {
        free(text);
        return status;
    }
    text[length] = 0;
    return vcl_header_parse(file->path, text, length, file->bytes, shard, header, error);
}

static int probe(const uint8_t *start, size_t n)
{
    (void)start, (void)n;
    return 1;
}

static enum vcl_status read_bytes(struct vcl_file *file, const struct vcl_header *header,
                                  const struct vcl_entry *entry, uint64_t offset, void *dst, size_t n,
                                  struct vcl_error *error)
{
    (void)header;
    return vcl_file_read(file, entry->offset + offset, dst, n, error);
}

const struct vcl_format vcl_format_safetensors = { probe, open_header, read_bytes };

static int compare_names(const void *a, const void *b)
{
    const struct vcl_entry *const x = *(const struct vcl_entry *const *)a,
                                  *const y = *(const struct vcl_entry *const *)b;
    return strcmp(x->name, y->name);
}

const struct vcl_entry *vcl_names_sort(const struct vcl_entry **entries, size_t count)
{
    qsort(entries, count, sizeof *entries, compare_names);
    for (size_t i = 1; i < count; i++)
        if (strcmp(entries[i - 1]->name, entries[i]->name) == 0)
            return entries[i];
    return NULL;
}

/* ---- entries to text ------------------------------------------------------------------------- */

struct text {
    char *bytes;
    size_t n, room;
    int failed;
};

static void put(struct text *t, const char *bytes, size_t n)
{
    if (t->failed)
        return;
    if (t->room - t->n < n) {
        const size_t room = 2 * t->room + n;
        char *const grown = realloc(t->bytes, room);
        if (grown == NULL) {
            t->failed = 1;
            return;
        }
        t->bytes = grown;
        t->room = room;
    }
    memcpy(t->bytes + t->n, bytes, n);
    t->n += n;
}

static void put_text(struct text *t, const char *text) { put(t, text, strlen(text)); }

static void put_number(struct text *t, uint64_t value)
{
    char digits[24];
    put(t, digits, (size_t)snprintf(digits, sizeof digits, "%" PRIu64, value));
}

static void put_escaped(struct text *t, char c)
{
    static const char plain[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
    const char *const known = strchr(plain, c);
    char escape[8];
    if (known != NULL)
        put(t, escape, (size_t)snprintf(escape, sizeof escape, "\\%c", letters[known - plain]));
    else
        put(t, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", (unsigned char)c));
}

static void put_string(struct text *t, const char *string)
{
    put(t, "\"", 1);
    while (*string != 0) {
        size_t n = 0; /* of characters that stand for themselves */
        while ((unsigned char)string[n] >= 0x20 && string[n] != '"' && string[n] != '\\')
            n++;
        put(t, string, n);
        string += n;
        if (*string != 0)
            put_escaped(t, *string++);
    }
    put(t, "\"", 1);
}

static void put_pairs(struct text *t, const struct vcl_pair *pairs, size_t count)
{
    put_text(t, "\"__metadata__\":{");
    for (size_t i = 0; i < count; i++) {
        put(t, ",", i > 0);
        put_string(t, pairs[i].key);
        put(t, ":", 1);
        put_string(t, pairs[i].value);
    }
    put(t, "}", 1);
}

static void put_entry(struct text *t, const struct vcl_entry *entry, int frame, uint64_t begin)
{
    const struct vcl_tensor as_bytes = { VCL_DTYPE_U8, 1, { entry->bytes } };
    const struct vcl_tensor *const tensor = frame ? &as_bytes : &entry->tensor;
    put_string(t, entry->name);
    put_text(t, ":{\"dtype\":\"");
    put_text(t, vcl_dtype_name(tensor->dtype));
    put_text(t, "\",\"shape\":[");
    for (unsigned i = 0; i < tensor->rank; i++) {
        put(t, ",", i > 0);
        put_number(t, tensor->dims[i]);
    }
    put_text(t, "],\"data_offsets\":[");
    put_number(t, begin);
    put(t, ",", 1);
    put_number(t, begin + entry->bytes);
    put_text(t, "]}");
}

enum vcl_status vcl_header_text(const struct vcl_entry *entries, size_t count, int frames,
                                const struct vcl_pair *pairs, size_t pair_count, char **text, size_t *length)
{
    struct text t = { 0 };
    uint64_t begin = 0;
    put(&t, "{", 1);
    if (pair_count > 0)
        put_pairs(&t, pairs, pair_count);
    for (size_t i = 0; i < count; i++) {
        put(&t, ",", i > 0 || pair_count > 0);
        put_entry(&t, &entries[i], frames, begin);
        begin += entries[i].bytes;
    }
    put(&t, "}", 1);
    if (t.failed) {
        free(t.bytes);
        return VCL_E_MEMORY;
    }
    *text = t.bytes;
    *length = t.n;
    return VCL_OK;
}

/* ---- vcllm.hash ------------------------------------------------------------------------------ */

static void hash_number(XXH3_state_t *state, uint64_t value, size_t bytes)
{
    uint8_t stored[8];
    vcl_store64(stored, value);
    XXH3_128bits_update(state, stored, bytes);
}

static void hash_string(XXH3_state_t *state, const char *string)
{
    const size_t n = strlen(string);
    hash_number(state, n, 4);
    XXH3_128bits_update(state, string, n);
}

static void hash_entry(XXH3_state_t *state, const struct vcl_entry *entry, uint64_t start)
{
    hash_string(state, entry->name);
    hash_number(state, entry->tensor.dtype, 4);
    hash_number(state, entry->tensor.rank, 4);
    for (unsigned i = 0; i < entry->tensor.rank; i++)
        hash_number(state, entry->tensor.dims[i], 8);
    hash_number(state, entry->offset - start, 8);
    hash_number(state, entry->offset - start + entry->bytes, 8);
}

void vcl_hash_hex(XXH128_hash_t hash, char hex[33])
{
    snprintf(hex, 33, "%016llx%016llx", (unsigned long long)hash.high64, (unsigned long long)hash.low64);
}

void vcl_header_hash(const struct vcl_header *header, char hex[33])
{
    XXH3_state_t state;
    XXH3_128bits_reset(&state);
    for (size_t i = 0; i < header->metadata.count; i++) {
        const struct vcl_pair *const pair = header->metadata.by_key[i];
        if (strcmp(pair->key, VCL_HASH_KEY) != 0) {
            hash_string(&state, pair->key);
            hash_string(&state, pair->value);
        }
    }
    for (size_t i = 0; i < header->count; i++)
        hash_entry(&state, &header->entries[i], 8 + header->length);
    vcl_hash_hex(XXH3_128bits_digest(&state), hex);
}
