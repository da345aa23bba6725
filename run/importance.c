/* importance.c - llama.cpp's importance matrices, read and found by the names of checkpoints.
 *
 * The older format is a count of entries, then of each its name, how many chunks were read, and sums of
 * squares; in GGUF an entry is a tensor NAME.in_sum2 beside one of counts.  Only ratios within an entry
 * are used here, so that no count is needed.  What lies behind the entries, and what else a GGUF file
 * says, is passed over. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "importance.h"

enum {
    LONGEST_NAME = 1024,
    MOST_DIMS = 4,
    MOST_ALIGNMENT = 1 << 16,
    LEAST_ENTRY = 12, /* bytes of a file: it has at most one entry for so many */
};
static const uint64_t FILE_LIMIT = (uint64_t)8 << 30; /* of a model of many experts: one */
static const double DAMPING = 0.1;                    /* times their mean, added to all mean squares */

struct entry {
    const char *name; /* of `length` bytes, in the file's */
    size_t length, offset, count;
    struct vcl_inputs inputs; /* made when asked for */
};

struct vcl_importance {
    char *file;
    void *bytes;
    struct entry *entries; /* by name */
    size_t count;
};

void vcl_importance_free(struct vcl_importance *importance)
{
    if (!importance)
        return;
    for (size_t i = 0; i < importance->count; i++)
        free(importance->entries[i].inputs.weight);
    free(importance->entries);
    free(importance->bytes);
    free(importance->file);
    free(importance);
}

/* ---- bytes ----------------------------------------------------------------------------------- */

/* After the first fault everything read is 0 or empty. */
struct reader {
    const char *file;
    const unsigned char *bytes;
    size_t n, at;
    const struct entry *entry; /* being read, or NULL */
    struct vcl_error *error;
    enum vcl_status status;
};

static void fault(struct reader *r, const char *what, uint64_t number)
{
    const struct entry none = { .name = "" }, *entry = r->entry ? r->entry : &none;
    if (r->status == VCL_OK)
        r->status = vcl_fault(r->error, VCL_E_FORMAT, "%s: byte %zu, entry '%.*s': %s (%llu)", r->file, r->at,
                              (int)entry->length, entry->name, what, (unsigned long long)number);
}

static const unsigned char *take(struct reader *r, uint64_t n)
{
    const unsigned char *bytes = r->bytes + r->at;
    if (r->status == VCL_OK && n > r->n - r->at)
        fault(r, "more bytes are announced than the file has", n);
    if (r->status != VCL_OK)
        return NULL;
    r->at += (size_t)n;
    return bytes;
}

static uint64_t read_number(struct reader *r, size_t size)
{
    const unsigned char *bytes = take(r, size);
    uint64_t number = 0;
    for (size_t i = 0; bytes && i < size; i++)
        number |= (uint64_t)bytes[i] << 8 * i;
    return number;
}

static float read_float(const unsigned char *bytes)
{
    const uint32_t bits =
        bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* A name; its length, which comes first, has `size` bytes. */
static void read_name(struct reader *r, size_t size, struct entry *entry)
{
    r->entry = NULL;
    const uint64_t length = read_number(r, size);
    if (length > LONGEST_NAME)
        fault(r, "a name is longer than 1024 bytes", length);
    entry->name = (const char *)take(r, length);
    entry->length = entry->name ? (size_t)length : 0;
    r->entry = entry->name ? entry : NULL;
}

/* ---- the older format ------------------------------------------------------------------------ */

static void read_older(struct reader *r, struct vcl_importance *m, uint64_t count)
{
    while (m->count < count && r->status == VCL_OK) {
        struct entry *entry = &m->entries[m->count];
        read_name(r, 4, entry);
        read_number(r, 4); /* chunks */
        entry->count = (size_t)read_number(r, 4);
        entry->offset = r->at;
        take(r, 4 * (uint64_t)entry->count);
        m->count += r->status == VCL_OK;
    }
}

/* ---- GGUF ------------------------------------------------------------------------------------ */

enum { TEXT = 8, LIST = 9, F32 = 0 };

/* Bytes of a value of each type, 0 of those that say themselves. */
static const uint8_t SIZES[] = { 1, 1, 2, 2, 4, 4, 4, 1, [TEXT] = 0, [LIST] = 0, 8, 8, 8 };

static void skip_text(struct reader *r) { take(r, read_number(r, 8)); }

static uint64_t read_type(struct reader *r)
{
    const uint64_t type = read_number(r, 4);
    if (type >= sizeof SIZES)
        fault(r, "a value has an unknown type", type);
    return r->status == VCL_OK ? type : 0;
}

static void skip_list(struct reader *r)
{
    const uint64_t type = read_type(r), count = read_number(r, 8);
    if (type == LIST)
        fault(r, "a list of lists", count);
    else if (type == TEXT)
        for (uint64_t i = 0; i < count && r->status == VCL_OK; i++)
            skip_text(r);
    else if (count > r->n)
        fault(r, "a list is longer than the file", count);
    else
        take(r, count * SIZES[type]);
}

static int same(const char *text, size_t length, const char *other)
{
    return length == strlen(other) && memcmp(text, other, length) == 0;
}

/* What the header says of the rest. */
struct header {
    uint64_t alignment;
    int is_importance;
};

static void read_value(struct reader *r, struct header *header)
{
    struct entry key = { 0 }, text = { 0 };
    read_name(r, 8, &key);
    const uint64_t type = read_type(r);
    if (type == TEXT && same(key.name, key.length, "general.type")) {
        read_name(r, 8, &text);
        header->is_importance = same(text.name, text.length, "imatrix");
    } else if (type == 4 && same(key.name, key.length, "general.alignment"))
        header->alignment = read_number(r, 4);
    else if (type == TEXT)
        skip_text(r);
    else if (type == LIST)
        skip_list(r);
    else
        take(r, SIZES[type]);
    r->entry = NULL;
}

/* One tensor's place; entries are those whose name ends in .in_sum2, which is taken off. */
static void read_tensor(struct reader *r, struct vcl_importance *m)
{
    static const char suffix[] = ".in_sum2";
    const size_t ending = sizeof suffix - 1;
    struct entry entry = { 0 };
    uint64_t values = 1;
    read_name(r, 8, &entry);
    const uint64_t dims = read_number(r, 4);
    if (dims > MOST_DIMS)
        fault(r, "a tensor has more than 4 dimensions", dims);
    for (uint64_t i = 0; i < dims && r->status == VCL_OK; i++) {
        const uint64_t dim = read_number(r, 8);
        if (dim > r->n || __builtin_mul_overflow(values, dim, &values) || values > r->n)
            fault(r, "a tensor is larger than the file", dim);
    }
    const uint64_t type = read_number(r, 4), offset = read_number(r, 8);
    const int wanted =
        entry.length > ending && memcmp(entry.name + entry.length - ending, suffix, ending) == 0;
    if (wanted && type != F32)
        fault(r, "sums of squares are no f32", type);
    if (wanted && offset > r->n)
        fault(r, "a tensor begins behind the file's end", offset);
    r->entry = NULL;
    entry.length -= wanted ? ending : 0;
    entry.count = (size_t)values;
    entry.offset = (size_t)offset;
    if (wanted && r->status == VCL_OK)
        m->entries[m->count++] = entry;
}

/* Offsets count from the end of what describes the tensors, aligned. */
static void settle(struct reader *r, struct vcl_importance *m, uint64_t alignment)
{
    const size_t begin = (r->at + (size_t)alignment - 1) / (size_t)alignment * (size_t)alignment;
    for (size_t i = 0; i < m->count && r->status == VCL_OK; i++) {
        struct entry *entry = &m->entries[i];
        r->at = begin < r->n ? begin : r->n;
        r->entry = entry;
        take(r, entry->offset);
        entry->offset = r->at;
        take(r, 4 * (uint64_t)entry->count);
    }
}

static void read_gguf(struct reader *r, struct vcl_importance *m, uint64_t tensors)
{
    struct header header = { .alignment = 32 };
    const uint64_t values = read_number(r, 8);
    for (uint64_t i = 0; i < values && r->status == VCL_OK; i++)
        read_value(r, &header);
    if (!header.is_importance)
        fault(r, "general.type is not \"imatrix\"", values);
    if (header.alignment == 0 || header.alignment > MOST_ALIGNMENT)
        fault(r, "general.alignment is not from 1 to 65536", header.alignment);
    for (uint64_t i = 0; i < tensors && r->status == VCL_OK; i++)
        read_tensor(r, m);
    if (r->status == VCL_OK)
        settle(r, m, header.alignment);
}

/* ---- opening --------------------------------------------------------------------------------- */

static int compare(const char *a, size_t n, const char *b, size_t m)
{
    const int order = memcmp(a, b, n < m ? n : m);
    return order ? order : (n > m) - (n < m);
}

static int by_name(const void *x, const void *y)
{
    const struct entry *a = x, *b = y;
    return compare(a->name, a->length, b->name, b->length);
}

static enum vcl_status read_entries(struct vcl_importance *m, struct reader *r)
{
    const int gguf = r->n >= 4 && memcmp(r->bytes, "GGUF", 4) == 0;
    r->at = gguf ? 4 : 0;
    const uint64_t version = gguf ? read_number(r, 4) : 0, count = read_number(r, gguf ? 8 : 4);
    if (gguf && version != 2 && version != 3)
        fault(r, "this version of GGUF is unknown", version);
    if (count == 0 || count > r->n / LEAST_ENTRY)
        fault(r, "is no importance matrix: more entries are announced than it has room for, or none", count);
    if (r->status != VCL_OK)
        return r->status;
    m->entries = calloc((size_t)count, sizeof *m->entries);
    if (!m->entries)
        return vcl_fault_memory(r->error);
    if (gguf)
        read_gguf(r, m, count);
    else
        read_older(r, m, count);
    qsort(m->entries, m->count, sizeof *m->entries, by_name);
    for (size_t i = 1; i < m->count && r->status == VCL_OK; i++)
        if (by_name(&m->entries[i - 1], &m->entries[i]) == 0)
            r->status = vcl_fault(r->error, VCL_E_FORMAT, "%s: entry '%.*s' is there twice", m->file,
                                  (int)m->entries[i].length, m->entries[i].name);
    return r->status;
}

enum vcl_status vcl_importance_read(const char *path, struct vcl_importance **importance,
                                    struct vcl_error *error)
{
    struct vcl_importance *m = calloc(1, sizeof *m);
    *importance = NULL;
    if (!m || !(m->file = strdup(path))) {
        free(m);
        return vcl_fault_memory(error);
    }
    size_t n = 0;
    enum vcl_status status = vcl_read_file(path, FILE_LIMIT, &m->bytes, &n, error);
    struct reader reader = { .file = m->file, .bytes = m->bytes, .n = n, .error = error };
    if (status == VCL_OK)
        status = read_entries(m, &reader);
    if (status == VCL_OK)
        *importance = m;
    else
        vcl_importance_free(m);
    return status;
}

/* ---- names ----------------------------------------------------------------------------------- */

/* The matrices of layer N: what is before and behind the number, and llama.cpp's blk.N.PART.weight. */
static const struct part {
    const char *prefix, *name, *part;
    int transposed;
} PARTS[] = {
    { "model.layers.", "self_attn.q_proj", "attn_q", 0 },
    { "model.layers.", "self_attn.k_proj", "attn_k", 0 },
    { "model.layers.", "self_attn.v_proj", "attn_v", 0 },
    { "model.layers.", "self_attn.o_proj", "attn_output", 0 },
    { "model.layers.", "mlp.gate_proj", "ffn_gate", 0 },
    { "model.layers.", "mlp.up_proj", "ffn_up", 0 },
    { "model.layers.", "mlp.down_proj", "ffn_down", 0 },
    { "transformer.h.", "attn.c_attn", "attn_qkv", 1 },
    { "transformer.h.", "attn.c_proj", "attn_output", 1 },
    { "transformer.h.", "mlp.c_fc", "ffn_up", 1 },
    { "transformer.h.", "mlp.c_proj", "ffn_down", 1 },
    { "gpt_neox.layers.", "attention.query_key_value", "attn_qkv", 0 },
    { "gpt_neox.layers.", "attention.dense", "attn_output", 0 },
    { "gpt_neox.layers.", "mlp.dense_h_to_4h", "ffn_up", 0 },
    { "gpt_neox.layers.", "mlp.dense_4h_to_h", "ffn_down", 0 },
};
/* Not token_embd, which is there where it is the head as well: what a head reads says nothing of rows that
 * are looked up. */
static const struct whole {
    const char *name, *other;
} WHOLES[] = {
    { "lm_head.weight", "output.weight" },
    { "embed_out.weight", "output.weight" },
};

/* Writes llama.cpp's name; 0: it has none for this. */
static int translate_part(const struct part *part, const char *name, char other[64])
{
    const size_t before = strlen(part->prefix), digits = strspn(name + before, "0123456789");
    const char *behind = name + before + digits;
    if (digits < 1 || digits > 6 || behind[0] != '.')
        return 0;
    const size_t length = strlen(part->name);
    if (strncmp(behind + 1, part->name, length) != 0 || strcmp(behind + 1 + length, ".weight") != 0)
        return 0;
    snprintf(other, 64, "blk.%.*s.%s.weight", (int)digits, name + before, part->part);
    return 1;
}

/* GPT-2's published files leave out "transformer.". */
static int translate(const char *name, char other[64], int *transposed)
{
    char longer[128];
    *transposed = 0;
    if (strncmp(name, "h.", 2) == 0) {
        snprintf(longer, sizeof longer, "transformer.%s", name);
        name = longer;
    }
    for (size_t i = 0; i < sizeof PARTS / sizeof *PARTS; i++)
        if (strncmp(name, PARTS[i].prefix, strlen(PARTS[i].prefix)) == 0
            && translate_part(&PARTS[i], name, other)) {
            *transposed = PARTS[i].transposed;
            return 1;
        }
    for (size_t i = 0; i < sizeof WHOLES / sizeof *WHOLES; i++)
        if (strcmp(name, WHOLES[i].name) == 0) {
            strcpy(other, WHOLES[i].other);
            return 1;
        }
    return 0;
}

static int against_name(const void *name, const void *entry)
{
    const struct entry *e = entry;
    return compare(name, strlen(name), e->name, e->length);
}

/* Sums that are all zero say nothing and make none. */
static enum vcl_status make_weights(const struct vcl_importance *m, struct entry *entry,
                                    struct vcl_error *error)
{
    const unsigned char *bytes = (const unsigned char *)m->bytes + entry->offset;
    double sum = 0;
    for (size_t i = 0; i < entry->count; i++) {
        const float value = read_float(bytes + 4 * i);
        if (!(value >= 0) || isinf(value))
            return vcl_fault(error, VCL_E_FORMAT, "%s: entry '%.*s': the value at byte %zu is %g", m->file,
                             (int)entry->length, entry->name, entry->offset + 4 * i, (double)value);
        sum += (double)value;
    }
    if (sum == 0)
        return VCL_OK;
    float *weight = malloc(entry->count * sizeof *weight);
    if (!weight)
        return vcl_fault_memory(error);
    for (size_t i = 0; i < entry->count; i++)
        weight[i] = (float)((double)read_float(bytes + 4 * i) / sum * (double)entry->count + DAMPING);
    entry->inputs.weight = weight;
    entry->inputs.count = entry->count;
    return VCL_OK;
}

enum vcl_status vcl_importance_find(struct vcl_importance *m, const char *name,
                                    const struct vcl_inputs **inputs, struct vcl_error *error)
{
    char other[64];
    int transposed;
    *inputs = NULL;
    if (!translate(name, other, &transposed))
        return VCL_OK;
    struct entry *entry = bsearch(other, m->entries, m->count, sizeof *m->entries, against_name);
    if (!entry)
        return VCL_OK;
    if (!entry->inputs.weight) {
        const enum vcl_status status = make_weights(m, entry, error);
        if (status != VCL_OK)
            return status;
    }
    entry->inputs.transposed = transposed;
    *inputs = entry->inputs.weight ? &entry->inputs : NULL;
    return VCL_OK;
}
