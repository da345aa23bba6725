/* gguf.c - GGUF files, versions 2 and 3: metadata with types, then places of tensors, then their data.
 *
 * In: a file.  Out: the same entries as a safetensors file gives, dims in row-major order (GGUF's run the
 * other way), quantised tensors as the f32 or bf16 values that they stand for (blocks.c), decoded when and
 * where they are read; or the first rule of docs/format.md, "GGUF", that is broken.  The header says
 * nowhere how long it is: it is read as far as it has been understood, in doubling steps, so that nothing is
 * ever sized by a number that the file's own bytes do not back.  What else of the library asks a model for
 * a header's text gets that of the safetensors file that would hold the same. */
#include "blocks.h"
#include "io.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    MOST_DIMS = 4,
    LONGEST_NAME = 65535,
    MOST_ALIGNMENT = 1 << 20,
    LEAST_KEY = 8 + 1 + 4 + 1,     /* bytes of the shortest key and value */
    LEAST_TENSOR = 8 + 1 + 4 + 12, /* and of the shortest place of a tensor */
    FIRST_READ = 64 << 10
};

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, TEXT, LIST, U64, I64, F64, TYPES };
static const uint8_t sizes[TYPES] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 }; /* 0: they say themselves */

struct key {
    size_t name_at, length, at; /* in the header's bytes: the name, the first item */
    uint64_t count;
    uint32_t type;
    int is_list;
    const char *name;
};

struct gguf_place {
    size_t name_at, length;
    const struct vcl_blocks *type;
    uint64_t dims[MOST_DIMS]; /* slowest first */
    unsigned rank;
    uint64_t offset, stored; /* of the data, in bytes */
    uint64_t bytes;          /* as presented */
};

struct vcl_gguf {
    uint8_t *bytes; /* the header's */
    size_t length;
    struct key *keys; /* by name */
    size_t key_count;
    struct gguf_place *places; /* as the header's entries */
    size_t place_count;
    uint32_t alignment;
    uint64_t start; /* of the data in the file */
};

/* ---- bytes ----------------------------------------------------------------------------------- */

#define CUT_OFF "the file is cut off or damaged: "

/* After the first fault nothing more is taken. */
struct gguf_reader {
    struct vcl_file *file;
    struct vcl_gguf *gguf;
    size_t room, at;
    uint64_t limit;
    const char *what; /* is being read: "key" or "tensor"; NULL: neither */
    size_t name_at, name_length;
    int behind; /* the header is read: faults are of what is behind it, and say where */
    enum vcl_status status;
    struct vcl_error *error;
};

static void fault(struct gguf_reader *r, enum vcl_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static void fault(struct gguf_reader *r, enum vcl_status status, const char *format, ...)
{
    char text[256], at[32] = "";
    va_list list;
    if (r->status != VCL_OK)
        return;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    const int n = (int)vcl_min(r->name_length, 160);
    r->status = status;
    if (!r->behind)
        snprintf(at, sizeof at, " (byte %zu)", r->at);
    if (status == VCL_E_MEMORY)
        vcl_fail_memory(r->error, r->file->path);
    else if (r->what == NULL)
        vcl_fail(r->error, status, r->file->path, "%s%s", text, at);
    else
        vcl_fail(r->error, status, r->file->path, "%s '%.*s': %s%s", r->what, n,
                 (const char *)r->gguf->bytes + r->name_at, text, at);
}

/* Reads on, so that at least `end` bytes are there. */
static void read_on(struct gguf_reader *r, uint64_t end)
{
    const uint64_t most = vcl_min(r->file->bytes, r->limit);
    const size_t have = r->gguf->length;
    const size_t room =
        (size_t)vcl_min(most, end > 2 * (uint64_t)have ? end + FIRST_READ : 2 * (uint64_t)have);
    uint8_t *const grown = realloc(r->gguf->bytes, room);
    if (grown == NULL) {
        fault(r, VCL_E_MEMORY, "out of memory");
        return;
    }
    r->gguf->bytes = grown;
    r->status = vcl_file_read(r->file, have, grown + have, room - have, r->error);
    if (r->status == VCL_OK)
        r->gguf->length = room;
}

/* The next n bytes, which stay where they are until the next call. */
static const uint8_t *take(struct gguf_reader *r, uint64_t n)
{
    if (r->status == VCL_OK && n > r->file->bytes - r->at)
        fault(r, VCL_E_TRUNCATED, CUT_OFF "%" PRIu64 " byte%s should follow, %" PRIu64 " do", n,
              n == 1 ? "" : "s", r->file->bytes - r->at);
    else if (r->status == VCL_OK && r->at + n > r->limit)
        fault(r, VCL_E_LIMIT, "the header has more than %" PRIu64 " bytes, which is the limit", r->limit);
    else if (r->status == VCL_OK && r->at + n > r->gguf->length)
        read_on(r, r->at + n);
    if (r->status != VCL_OK)
        return NULL;
    r->at += (size_t)n;
    return r->gguf->bytes + r->at - n;
}

static uint32_t take32(struct gguf_reader *r)
{
    const uint8_t *const bytes = take(r, 4);
    return bytes != NULL ? vcl_load32(bytes) : 0;
}

static uint64_t take64(struct gguf_reader *r)
{
    const uint8_t *const bytes = take(r, 8);
    return bytes != NULL ? vcl_load64(bytes) : 0;
}

/* UTF-8 without a NUL. */
static int is_text(const uint8_t *bytes, size_t n)
{
    while (n > 0) {
        const size_t step = *bytes != 0 ? vcl_utf8_length((const char *)bytes, n) : 0;
        if (step == 0)
            return 0;
        bytes += step;
        n -= step;
    }
    return 1;
}

/* A name, of which all that follows is said to be. */
static void take_name(struct gguf_reader *r, const char *what, size_t *at, size_t *length)
{
    const uint64_t n = take64(r);
    if (n == 0 || n > LONGEST_NAME)
        fault(r, VCL_E_FORMAT, "a %s's name of %" PRIu64 " bytes; it has 1 to %d", what, n, LONGEST_NAME);
    const uint8_t *const name = take(r, n);
    if (name == NULL)
        return;
    r->what = what;
    *at = r->name_at = r->at - (size_t)n;
    *length = r->name_length = (size_t)n;
    if (!is_text(name, (size_t)n))
        fault(r, VCL_E_FORMAT, "the name is not UTF-8 or has a NUL inside");
}

/* ---- metadata -------------------------------------------------------------------------------- */

static void skip_items(struct gguf_reader *r, uint32_t type, uint64_t count)
{
    const uint64_t left = r->file->bytes - r->at;
    if (type != TEXT && count > left / sizes[type])
        fault(r, VCL_E_TRUNCATED,
              CUT_OFF "%" PRIu64 " item%s of %u byte%s should follow, %" PRIu64 " bytes do", count,
              count == 1 ? "" : "s", sizes[type], sizes[type] == 1 ? "" : "s", left);
    else if (type != TEXT)
        take(r, count * sizes[type]);
    for (uint64_t i = 0; type == TEXT && i < count && r->status == VCL_OK; i++)
        take(r, take64(r));
}

static void read_type(struct gguf_reader *r, struct key *key)
{
    key->type = take32(r);
    key->count = 1;
    if (key->type == LIST) {
        key->is_list = 1;
        key->type = take32(r);
        key->count = take64(r);
        if (key->type == LIST)
            fault(r, VCL_E_FORMAT, "is a list of lists, which is not read");
    }
    if (key->type >= TYPES)
        fault(r, VCL_E_FORMAT, "is of the unknown type %" PRIu32, key->type);
}

static void read_alignment(struct gguf_reader *r, const struct key *key)
{
    const uint32_t value = key->type == U32 && !key->is_list ? vcl_load32(r->gguf->bytes + key->at) : 0;
    if (value == 0 || value > MOST_ALIGNMENT || (value & (value - 1)) != 0)
        fault(r, VCL_E_FORMAT, "is no power of two from 1 to %d, or not stored as u32", MOST_ALIGNMENT);
    r->gguf->alignment = value;
}

static int is_called(const struct gguf_reader *r, const struct key *key, const char *name)
{
    return key->length == strlen(name) && memcmp(r->gguf->bytes + key->name_at, name, key->length) == 0;
}

static void refuse_parts(struct gguf_reader *r, const struct key *key)
{
    struct vcl_value value = { key->is_list, key->count, key->type, r->gguf->bytes + key->at };
    struct vcl_item item;
    if (vcl_value_next(&value, &item) && item.kind == VCL_ITEM_INTEGER && item.integer > 1)
        fault(r, VCL_E_VERSION,
              "the file is one of %" PRId64
              " parts; 'llama-gguf-split --merge FIRST-PART OUTPUT' makes one of them",
              item.integer);
}

static void read_key(struct gguf_reader *r, struct key *key)
{
    memset(key, 0, sizeof *key);
    r->what = NULL;
    take_name(r, "key", &key->name_at, &key->length);
    read_type(r, key);
    key->at = r->at;
    if (r->status == VCL_OK)
        skip_items(r, key->type, key->count);
    if (r->status == VCL_OK && is_called(r, key, "general.alignment"))
        read_alignment(r, key);
    else if (r->status == VCL_OK && is_called(r, key, "split.count"))
        refuse_parts(r, key);
}

/* ---- places of tensors ----------------------------------------------------------------------- */

static void read_shape(struct gguf_reader *r, struct gguf_place *place)
{
    place->rank = take32(r);
    if (place->rank > MOST_DIMS)
        fault(r, VCL_E_FORMAT, "has %u dimensions; %d is the most", place->rank, MOST_DIMS);
    for (unsigned i = 0; i < place->rank && r->status == VCL_OK; i++)
        place->dims[place->rank - 1 - i] = take64(r);
}

static void read_tensor_type(struct gguf_reader *r, struct gguf_place *place)
{
    const uint32_t number = take32(r);
    const char *const name = vcl_blocks_name(number);
    place->type = vcl_blocks_find(number);
    if (place->type == NULL && name != NULL)
        fault(r, VCL_E_VERSION,
              "is of type %s, which is not read; Q2_K to Q8_0, MXFP4, F16, BF16 and F32 are", name);
    else if (place->type == NULL)
        fault(r, VCL_E_FORMAT, "is of the unknown type %" PRIu32, number);
}

static struct vcl_tensor tensor_of(const struct gguf_place *place)
{
    struct vcl_tensor tensor = { .dtype = place->type->dtype, .rank = place->rank };
    memcpy(tensor.dims, place->dims, sizeof place->dims);
    return tensor;
}

static void measure(struct gguf_reader *r, struct gguf_place *place)
{
    const struct vcl_blocks *const type = place->type;
    const struct vcl_tensor tensor = tensor_of(place);
    const uint64_t row = place->rank > 0 ? place->dims[place->rank - 1] : 1;
    uint64_t values;
    if (vcl_tensor_size(&tensor, &values, &place->bytes) != VCL_OK)
        fault(r, VCL_E_LIMIT, "its size is beyond 63 bits");
    else if (row % type->values != 0)
        fault(r, VCL_E_FORMAT,
              "its rows' length %" PRIu64 " is no multiple of %u, the values of a block of %s", row,
              type->values, type->name);
    else
        place->stored = values / type->values * type->bytes; /* no more than what is presented */
}

static void read_place(struct gguf_reader *r, struct gguf_place *place)
{
    memset(place, 0, sizeof *place);
    r->what = NULL;
    take_name(r, "tensor", &place->name_at, &place->length);
    read_shape(r, place);
    if (r->status == VCL_OK)
        read_tensor_type(r, place);
    if (r->status == VCL_OK)
        measure(r, place);
    place->offset = take64(r);
    if (place->offset % r->gguf->alignment != 0)
        fault(r, VCL_E_FORMAT,
              "begins at byte %" PRIu64 " of the data, no multiple of the alignment %" PRIu32, place->offset,
              r->gguf->alignment);
}

/* ---- the header ------------------------------------------------------------------------------ */

/* Room for `count` items, each of which takes at least `least` of the bytes that the header may have. */
static void *make_room(struct gguf_reader *r, const char *what, uint64_t count, size_t least, size_t size)
{
    const uint64_t left = vcl_min(r->file->bytes, r->limit) - r->at;
    if (count > left / least) {
        if (count > (r->file->bytes - r->at) / least)
            fault(r, VCL_E_TRUNCATED,
                  CUT_OFF "%" PRIu64 " %s%s of %zu or more bytes should follow, %" PRIu64 " bytes do", count,
                  what, count == 1 ? "" : "s", least, r->file->bytes - r->at);
        else
            fault(r, VCL_E_LIMIT,
                  "%" PRIu64 " %s%s of %zu or more bytes follow; %" PRIu64
                  " bytes of the header's limit are left",
                  count, what, count == 1 ? "" : "s", least, left);
        return NULL;
    }
    void *const room = malloc((size_t)count * size + 1);
    if (room == NULL)
        fault(r, VCL_E_MEMORY, "out of memory");
    return room;
}

static void check_version(struct gguf_reader *r)
{
    const uint32_t version = take32(r);
    if (r->status == VCL_OK && version != 0 && (version & 0xFFFF) == 0)
        fault(r, VCL_E_VERSION, "the file is big-endian, which is not read");
    else if (version != 2 && version != 3)
        fault(r, VCL_E_VERSION, "is GGUF of version %" PRIu32 "; 2 and 3 are read", version);
}

static void read_header(struct gguf_reader *r)
{
    struct vcl_gguf *const gguf = r->gguf;
    take(r, 4); /* GGUF */
    check_version(r);
    const uint64_t tensors = take64(r), keys = take64(r);
    if (r->status == VCL_OK)
        gguf->keys = make_room(r, "key", keys, LEAST_KEY, sizeof *gguf->keys);
    for (; r->status == VCL_OK && gguf->key_count < keys; gguf->key_count++)
        read_key(r, &gguf->keys[gguf->key_count]);
    r->what = NULL;
    if (r->status == VCL_OK)
        gguf->places = make_room(r, "tensor", tensors, LEAST_TENSOR, sizeof *gguf->places);
    for (; r->status == VCL_OK && gguf->place_count < tensors; gguf->place_count++)
        read_place(r, &gguf->places[gguf->place_count]);
    r->what = NULL;
}

/* ---- the data behind it ---------------------------------------------------------------------- */

static int compare_places(const void *a, const void *b)
{
    const struct gguf_place *const x = a, *const y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    if (x->stored != y->stored)
        return x->stored < y->stored ? -1 : 1;
    return x->name_at < y->name_at ? -1 : x->name_at > y->name_at;
}

static void blame(struct gguf_reader *r, const struct gguf_place *place)
{
    r->what = "tensor";
    r->name_at = place->name_at;
    r->name_length = place->length;
}

/* Tensors follow each other, each at the first multiple of the alignment; the file may be padded to one. */
static void check_place(struct gguf_reader *r, const struct gguf_place *place, uint64_t *end)
{
    const uint64_t begin = place->offset, start = r->gguf->start, bytes = r->file->bytes;
    blame(r, place);
    if (begin > bytes - start || place->stored > bytes - start - begin)
        fault(r, VCL_E_TRUNCATED,
              "its %" PRIu64 " bytes at offset %" PRIu64
              " of the data end behind the file, which has %" PRIu64
              " bytes of data: it is cut off or damaged",
              place->stored, begin, bytes - start);
    else if (begin < *end)
        fault(r, VCL_E_FORMAT, "its data begin at byte %" PRIu64 " of the file, inside another tensor's",
              start + begin);
    else if (begin - *end >= r->gguf->alignment)
        fault(r, VCL_E_FORMAT, "bytes %" PRIu64 " to %" PRIu64 " of the file, before it, belong to no tensor",
              start + *end, start + begin - 1);
    *end = begin + place->stored;
}

static void check_data(struct gguf_reader *r)
{
    struct vcl_gguf *const gguf = r->gguf;
    const uint64_t bytes = r->file->bytes, start = vcl_round_up(r->at, gguf->alignment);
    uint64_t end = 0;
    gguf->start = start;
    r->behind = 1;
    qsort(gguf->places, gguf->place_count, sizeof *gguf->places, compare_places);
    if (start > bytes && gguf->place_count > 0)
        fault(r, VCL_E_TRUNCATED, CUT_OFF "the tensors' data begin at byte %" PRIu64 ", it has %" PRIu64,
              start, bytes);
    for (size_t i = 0; i < gguf->place_count && r->status == VCL_OK; i++)
        check_place(r, &gguf->places[i], &end);
    r->what = NULL;
    if (r->status == VCL_OK && bytes > start && bytes - start - end >= gguf->alignment)
        fault(r, VCL_E_FORMAT, "bytes %" PRIu64 " to %" PRIu64 ", behind the last tensor, belong to none",
              start + end, bytes - 1);
}

/* ---- what the rest of the library sees ------------------------------------------------------- */

static int compare_keys(const void *a, const void *b)
{
    return strcmp(((const struct key *)a)->name, ((const struct key *)b)->name);
}

enum { NUMBER_TEXT = 32 }; /* more than any number's digits */

static void print_number(const uint8_t *at, uint32_t type, char text[NUMBER_TEXT])
{
    struct vcl_value value = { .type = type, .left = 1, .at = at };
    struct vcl_item item;
    vcl_value_next(&value, &item);
    if (item.kind == VCL_ITEM_REAL)
        snprintf(text, NUMBER_TEXT, type == F32 ? "%.9g" : "%.17g", item.real);
    else if (item.kind == VCL_ITEM_FLAG)
        snprintf(text, NUMBER_TEXT, "%s", item.integer ? "true" : "false");
    else
        snprintf(text, NUMBER_TEXT, "%" PRId64, item.integer);
}

static char *keep(char **strings, const void *bytes, size_t n)
{
    char *const kept = *strings;
    memcpy(kept, bytes, n);
    kept[n] = 0;
    *strings += n + 1;
    return kept;
}

/* A single value as a pair of strings, as safetensors has them; what cannot be one there is left out. */
static void add_pair(const struct vcl_gguf *gguf, const struct key *key, struct vcl_pairs *pairs,
                     char **strings)
{
    const uint8_t *const at = gguf->bytes + key->at;
    char number[NUMBER_TEXT];
    if (key->is_list || (key->type == TEXT && !is_text(at + 8, (size_t)vcl_load64(at))))
        return;
    if (key->type != TEXT)
        print_number(at, key->type, number);
    pairs->pair[pairs->count].key = key->name;
    pairs->pair[pairs->count++].value = key->type == TEXT ? keep(strings, at + 8, (size_t)vcl_load64(at))
                                                          : keep(strings, number, strlen(number));
}

static void name_all(struct vcl_gguf *gguf, size_t shard, struct vcl_header *header)
{
    char *strings = header->strings;
    for (size_t i = 0; i < gguf->key_count; i++) {
        gguf->keys[i].name = keep(&strings, gguf->bytes + gguf->keys[i].name_at, gguf->keys[i].length);
        add_pair(gguf, &gguf->keys[i], &header->metadata, &strings);
    }
    for (size_t i = 0; i < gguf->place_count; i++) {
        const struct gguf_place *const place = &gguf->places[i];
        header->entries[i] = (struct vcl_entry){
            .name = keep(&strings, gguf->bytes + place->name_at, place->length),
            .tensor = tensor_of(place),
            .offset = gguf->start + place->offset,
            .bytes = place->bytes,
            .shard = shard,
        };
    }
}

static void check_names(struct gguf_reader *r, const struct vcl_header *header)
{
    struct vcl_gguf *const gguf = r->gguf;
    qsort(gguf->keys, gguf->key_count, sizeof *gguf->keys, compare_keys);
    for (size_t i = 1; i < gguf->key_count; i++)
        if (strcmp(gguf->keys[i - 1].name, gguf->keys[i].name) == 0)
            fault(r, VCL_E_FORMAT, "key " VCL_NAME " is there twice", gguf->keys[i].name);
    for (size_t i = 0; i < header->count; i++)
        if (strcmp(header->entries[i].name, "__metadata__") == 0)
            fault(r, VCL_E_FORMAT, "a tensor with the name '__metadata__'");
}

static enum vcl_status write_text(struct vcl_header *header, struct vcl_error *error)
{
    struct vcl_layout layout;
    char *text;
    vcl_layout_init(&layout);
    layout.count = header->count;
    layout.entries = header->entries;
    layout.metadata_count = header->metadata.count;
    layout.metadata = header->metadata.pair;
    const enum vcl_status status = vcl_layout_header(&layout, &text, &header->length, error);
    if (status == VCL_OK)
        header->text = text;
    return status;
}

/* A number takes at most NUMBER_TEXT bytes, everything else its own and a NUL, which has taken 8. */
static void fill_header(struct gguf_reader *r, size_t shard, struct vcl_header *header)
{
    struct vcl_gguf *const gguf = r->gguf;
    const char *twice;
    header->count = gguf->place_count;
    header->entries = malloc((gguf->place_count + 1) * sizeof *header->entries);
    header->strings = malloc(r->at + gguf->key_count * NUMBER_TEXT + 1);
    header->metadata.pair = malloc((gguf->key_count + 1) * sizeof *header->metadata.pair);
    if (header->entries == NULL || header->strings == NULL || header->metadata.pair == NULL) {
        fault(r, VCL_E_MEMORY, "out of memory");
        return;
    }
    name_all(gguf, shard, header);
    check_names(r, header);
    if (r->status == VCL_OK && vcl_pairs_sort(&header->metadata, &twice) != VCL_OK)
        fault(r, VCL_E_MEMORY, "out of memory");
    if (r->status == VCL_OK)
        r->status = write_text(header, r->error);
}

/* Gives back what was read beyond the header. */
static void fit_bytes(struct gguf_reader *r)
{
    uint8_t *const fitted = realloc(r->gguf->bytes, r->at);
    if (fitted != NULL)
        r->gguf->bytes = fitted;
    r->gguf->length = r->at;
}

/* ---- the table's functions ------------------------------------------------------------------- */

static int probe(const uint8_t *start, size_t n) { return n >= 4 && memcmp(start, "GGUF", 4) == 0; }

static enum vcl_status open_header(struct vcl_file *file, size_t shard, uint64_t limit,
                                   struct vcl_header *header, struct vcl_error *error)
{
    struct gguf_reader r = { .file = file, .limit = limit, .error = error };
    header->gguf = r.gguf = calloc(1, sizeof *r.gguf);
    if (r.gguf == NULL)
        return vcl_fail_memory(error, file->path);
    r.gguf->alignment = 32;
    read_header(&r);
    if (r.status == VCL_OK)
        check_data(&r);
    if (r.status == VCL_OK) {
        fit_bytes(&r);
        fill_header(&r, shard, header);
    }
    return r.status;
}

void vcl_gguf_free(struct vcl_gguf *gguf)
{
    if (gguf == NULL)
        return;
    free(gguf->bytes);
    free(gguf->keys);
    free(gguf->places);
    free(gguf);
}

/* The part of block number `block` that lies in bytes offset to offset+n-1 of the tensor. */
static void put_block(const struct vcl_blocks *type, const uint8_t *stored, uint64_t block, uint64_t offset,
                      uint8_t *dst, size_t n)
{
    uint8_t values[VCL_BLOCK_BYTES_MAX];
    const size_t size = type->values * vcl_dtype_bits(type->dtype) / 8;
    const uint64_t begin = block * size;
    if (begin >= offset && begin + size <= offset + n) {
        vcl_blocks_decode(type, stored, dst + (begin - offset));
        return;
    }
    const uint64_t from = begin > offset ? begin : offset, to = vcl_min(begin + size, offset + n);
    vcl_blocks_decode(type, stored, values);
    memcpy(dst + (from - offset), values + (from - begin), (size_t)(to - from));
}

static enum vcl_status read_blocks(struct vcl_file *file, const struct vcl_blocks *type, uint64_t start,
                                   uint64_t offset, uint8_t *dst, size_t n, struct vcl_error *error)
{
    enum { BLOCKS = 64 };
    uint8_t stored[BLOCKS * VCL_BLOCK_STORED_MAX];
    const size_t size = type->values * vcl_dtype_bits(type->dtype) / 8;
    const uint64_t end = vcl_ceil_div(offset + n, size);
    for (uint64_t block = offset / size; block < end; block += BLOCKS) {
        const size_t count = (size_t)vcl_min(BLOCKS, end - block);
        const enum vcl_status status =
            vcl_file_read(file, start + block * type->bytes, stored, count * type->bytes, error);
        if (status != VCL_OK)
            return status;
        for (size_t i = 0; i < count; i++)
            put_block(type, stored + i * type->bytes, block + i, offset, dst, n);
    }
    return VCL_OK;
}

static enum vcl_status read_entry(struct vcl_file *file, const struct vcl_header *header,
                                  const struct vcl_entry *entry, uint64_t offset, void *dst, size_t n,
                                  struct vcl_error *error)
{
    const struct vcl_blocks *const type = header->gguf->places[entry - header->entries].type;
    if (n == 0)
        return VCL_OK;
    return type->decode != NULL ? read_blocks(file, type, entry->offset, offset, dst, n, error)
                                : vcl_file_read(file, entry->offset + offset, dst, n, error);
}

const struct vcl_format vcl_format_gguf = { probe, open_header, read_entry };

/* ---- what only GGUF files have --------------------------------------------------------------- */

const char *vcl_gguf_stored(const struct vcl_header *header, const struct vcl_entry *entry, uint64_t *bytes)
{
    const struct gguf_place *const place = &header->gguf->places[entry - header->entries];
    *bytes = place->stored;
    return place->type->name;
}

static void set_value(const struct vcl_gguf *gguf, const struct key *key, struct vcl_value *value)
{
    value->is_list = key->is_list;
    value->left = key->count;
    value->type = key->type;
    value->at = gguf->bytes + key->at;
}

int vcl_gguf_value(const struct vcl_gguf *gguf, const char *name, struct vcl_value *value)
{
    const struct key wanted = { .name = name };
    const struct key *const key =
        gguf->key_count > 0 ? bsearch(&wanted, gguf->keys, gguf->key_count, sizeof wanted, compare_keys)
                            : NULL;
    if (key == NULL)
        return 0;
    set_value(gguf, key, value);
    return 1;
}

int vcl_gguf_value_at(const struct vcl_gguf *gguf, size_t i, const char **name, struct vcl_value *value)
{
    if (i >= gguf->key_count)
        return 0;
    *name = gguf->keys[i].name;
    set_value(gguf, &gguf->keys[i], value);
    return 1;
}

static double load_f64(const uint8_t *p)
{
    const uint64_t bits = vcl_load64(p);
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void load_number(const uint8_t *p, uint32_t type, struct vcl_item *item)
{
    const uint64_t wide = type >= U64 ? vcl_load64(p) : 0;
    item->kind = type == BOOL ? VCL_ITEM_FLAG : VCL_ITEM_INTEGER;
    item->integer = type == U8   ? *p
                  : type == I8   ? (int8_t)*p
                  : type == U16  ? vcl_load16(p)
                  : type == I16  ? (int16_t)vcl_load16(p)
                  : type == U32  ? vcl_load32(p)
                  : type == I32  ? (int32_t)vcl_load32(p)
                  : type == BOOL ? *p != 0
                                 : (int64_t)wide;
    item->real = type == F32 ? vcl_float_from_bits(vcl_load32(p)) : type == F64 ? load_f64(p) : (double)wide;
    if (type == F32 || type == F64 || (type == U64 && wide > INT64_MAX))
        item->kind = VCL_ITEM_REAL;
}

int vcl_value_next(struct vcl_value *value, struct vcl_item *item)
{
    if (value->left == 0)
        return 0;
    memset(item, 0, sizeof *item);
    value->left--;
    if (value->type == TEXT) {
        item->kind = VCL_ITEM_TEXT;
        item->length = (size_t)vcl_load64(value->at);
        item->text = (const char *)value->at + 8;
        value->at += 8 + item->length;
    } else {
        load_number(value->at, value->type, item);
        value->at += sizes[value->type];
    }
    return 1;
}
