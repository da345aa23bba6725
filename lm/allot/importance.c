/* importance.c - llama.cpp's importance matrices, read and found by the names of checkpoints.
 *
 * The older format is a count of entries, then of each its name, how many chunks were read, and sums of
 * squares; in GGUF, which the library reads, an entry is a tensor NAME.in_sum2 beside one of counts.  Only
 * ratios within an entry are used here, so that no count is needed.  What lies behind the entries is passed
 * over. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "importance.h"

enum {
    LONGEST_NAME = 1024,
    LEAST_ENTRY = 12, /* bytes of a file: it has at most one entry for so many */
};
static const uint64_t FILE_LIMIT = (uint64_t)8 << 30; /* of a model of many experts: one */
static const double DAMPING = 0.1;                    /* times their mean, added to all mean squares */

struct entry {
    const char *name; /* of `length` bytes, in the file's */
    size_t length, offset, count;
    const struct vcl_entry *tensor; /* of a GGUF file, else NULL */
    struct vcl_inputs inputs;       /* made when asked for */
};

struct vcl_importance {
    char *file;
    struct vcl_model *model; /* a GGUF file */
    void *bytes;             /* or the whole of an older one */
    struct entry *entries;   /* by name */
    size_t count;
};

void vcl_importance_free(struct vcl_importance *importance)
{
    if (!importance)
        return;
    for (size_t i = 0; i < importance->count; i++)
        free(importance->entries[i].inputs.weight);
    free(importance->entries);
    vcl_model_close(importance->model);
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

/* A name behind its length. */
static void read_name(struct reader *r, struct entry *entry)
{
    r->entry = NULL;
    const uint64_t length = read_number(r, 4);
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
        read_name(r, entry);
        read_number(r, 4); /* chunks */
        entry->count = (size_t)read_number(r, 4);
        entry->offset = r->at;
        take(r, 4 * (uint64_t)entry->count);
        m->count += r->status == VCL_OK;
    }
}

/* ---- GGUF ------------------------------------------------------------------------------------ */

/* Entries are tensors whose name ends in .in_sum2, which is taken off. */
static enum vcl_status add_tensor(struct vcl_importance *m, const struct vcl_entry *tensor,
                                  struct vcl_error *error)
{
    static const char suffix[] = ".in_sum2";
    const size_t ending = sizeof suffix - 1, length = strlen(tensor->name);
    if (length <= ending || strcmp(tensor->name + length - ending, suffix) != 0)
        return VCL_OK;
    if (tensor->tensor.dtype != VCL_DTYPE_F32)
        return vcl_fault(error, VCL_E_FORMAT, "%s: entry '%.1024s': sums of squares are no f32", m->file,
                         tensor->name);
    m->entries[m->count++] = (struct entry){ .name = tensor->name,
                                             .length = length - ending,
                                             .offset = (size_t)tensor->offset,
                                             .count = (size_t)(tensor->bytes / sizeof(float)),
                                             .tensor = tensor };
    return VCL_OK;
}

static enum vcl_status read_gguf(struct vcl_importance *m, struct vcl_error *error)
{
    enum vcl_status status = vcl_model_open(m->file, NULL, &m->model, error);
    if (status != VCL_OK)
        return status;
    const char *type = vcl_model_metadata(m->model, 0, "general.type");
    if (!type || strcmp(type, "imatrix"))
        return vcl_fault(error, VCL_E_FORMAT, "%s: general.type is not \"imatrix\"", m->file);
    m->entries = calloc(vcl_model_count(m->model) + 1, sizeof *m->entries);
    if (!m->entries)
        return vcl_fault_memory(error);
    for (size_t i = 0; i < vcl_model_count(m->model) && status == VCL_OK; i++)
        status = add_tensor(m, vcl_model_entry(m->model, i), error);
    return status;
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
    const uint64_t count = read_number(r, 4);
    if (count == 0 || count > r->n / LEAST_ENTRY)
        fault(r, "is no importance matrix: more entries are announced than it has room for, or none", count);
    if (r->status != VCL_OK)
        return r->status;
    m->entries = calloc((size_t)count, sizeof *m->entries);
    if (!m->entries)
        return vcl_fault_memory(r->error);
    read_older(r, m, count);
    return r->status;
}

static int is_gguf(const char *path)
{
    char start[4] = { 0 };
    FILE *file = fopen(path, "rb");
    const int is = file && fread(start, 1, sizeof start, file) == sizeof start && !memcmp(start, "GGUF", 4);
    if (file)
        fclose(file);
    return is;
}

static enum vcl_status read_file(struct vcl_importance *m, struct vcl_error *error)
{
    if (is_gguf(m->file))
        return read_gguf(m, error);
    size_t n = 0;
    const enum vcl_status status = vcl_read_file(m->file, FILE_LIMIT, &m->bytes, &n, error);
    struct reader reader = { .file = m->file, .bytes = m->bytes, .n = n, .error = error };
    return status == VCL_OK ? read_entries(m, &reader) : status;
}

static enum vcl_status sort_entries(struct vcl_importance *m, struct vcl_error *error)
{
    if (m->count == 0)
        return vcl_fault(error, VCL_E_FORMAT, "%s: is no importance matrix: it has no entry", m->file);
    qsort(m->entries, m->count, sizeof *m->entries, by_name);
    for (size_t i = 1; i < m->count; i++)
        if (by_name(&m->entries[i - 1], &m->entries[i]) == 0)
            return vcl_fault(error, VCL_E_FORMAT, "%s: entry '%.*s' is there twice", m->file,
                             (int)m->entries[i].length, m->entries[i].name);
    return VCL_OK;
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
    enum vcl_status status = read_file(m, error);
    if (status == VCL_OK)
        status = sort_entries(m, error);
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

/* The entry's sums; free() them. */
static enum vcl_status read_sums(const struct vcl_importance *m, const struct entry *entry, float **sums,
                                 struct vcl_error *error)
{
    const size_t n = entry->count * sizeof **sums;
    *sums = malloc(n + 1);
    if (!*sums)
        return vcl_fault_memory(error);
    enum vcl_status status = VCL_OK;
    if (entry->tensor)
        status = vcl_model_read(m->model, entry->tensor, 0, *sums, n, error);
    else
        memcpy(*sums, (const unsigned char *)m->bytes + entry->offset, n);
    for (size_t i = 0; i < entry->count && status == VCL_OK; i++)
        (*sums)[i] = read_float((const unsigned char *)(*sums + i));
    return status;
}

/* Sums that are all zero say nothing and make none. */
static enum vcl_status make_weights(const struct vcl_importance *m, struct entry *entry, float *sums,
                                    struct vcl_error *error)
{
    double sum = 0;
    for (size_t i = 0; i < entry->count; i++) {
        if (!(sums[i] >= 0) || isinf(sums[i]))
            return vcl_fault(error, VCL_E_FORMAT, "%s: entry '%.*s': the value at byte %zu is %g", m->file,
                             (int)entry->length, entry->name, entry->offset + 4 * i, (double)sums[i]);
        sum += (double)sums[i];
    }
    for (size_t i = 0; i < entry->count && sum > 0; i++)
        sums[i] = (float)((double)sums[i] / sum * (double)entry->count + DAMPING);
    entry->inputs.weight = sum > 0 ? sums : NULL;
    entry->inputs.count = entry->count;
    return VCL_OK;
}

static enum vcl_status load_weights(const struct vcl_importance *m, struct entry *entry,
                                    struct vcl_error *error)
{
    float *sums = NULL;
    enum vcl_status status = read_sums(m, entry, &sums, error);
    if (status == VCL_OK)
        status = make_weights(m, entry, sums, error);
    if (entry->inputs.weight != sums)
        free(sums);
    return status;
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
        const enum vcl_status status = load_weights(m, entry, error);
        if (status != VCL_OK)
            return status;
    }
    entry->inputs.transposed = transposed;
    *inputs = entry->inputs.weight ? &entry->inputs : NULL;
    return VCL_OK;
}
