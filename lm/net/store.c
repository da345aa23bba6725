/* store.c - weights from a model file into memory, and their product with vectors.
 *
 * Matrices of a compressed model stay coded (coded.c) as far as the memory given for decoded ones makes it
 * so.  Others stay in bf16 where the file has bf16, else they become f32.  Their product cuts the rows
 * into groups of eight; each group meets all vectors, sixteen at a time, while it is in the cache.  That
 * with the transpose takes panels of columns in their place. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "coded.h"
#include "common/mix.h"
#include "store.h"

enum { ROWS_PER_PART = 4 * VCL_GROUP, CHUNK = 1 << 20 };
/* A panel of columns, for 512 rows in f32: with what it meets of sixteen vectors it is in the cache.  Rows
 * lie too far apart for the CPU to see which comes next: it is told, 16 ahead (4 % of a backward pass). */
enum { PANEL_COLS = 4 * VCL_GROUP, PANEL_ROWS = 512, AHEAD = 16 };

struct vcl_weight {
    size_t rows, cols;
    int vector;           /* of cols values */
    int transposed;       /* stored as its transpose */
    enum vcl_dtype dtype; /* F32 or BF16 */
    void *values;
    struct vcl_coded *coded; /* in place of values */
    float *noisy;            /* used in place of values while the weight is perturbed */
    const struct vcl_entry *entry, *stored;
    struct vcl_weight *next;
};

struct vcl_store {
    struct vcl_model *model;
    struct vcl_context *context;
    struct vcl_context **own; /* of each thread, where matrices are multiplied side by side; or NULL */
    struct vcl_pool *pool;
    const struct vcl_loops16 *loops;
    struct vcl_weight *weights; /* the last that was loaded first */
    struct vcl_observer observer;
    size_t most_cols;
    struct vcl_error fault; /* of the last product or rows that failed */
    float *packed;          /* vectors, interleaved by sixteen */
    size_t packed_room;
    float *scratch; /* per thread: a group of rows or a panel in f32, and its products */
    size_t scratch_cols;
};

/* ---- opening --------------------------------------------------------------------------------- */

enum vcl_status vcl_store_open(const char *path, struct vcl_pool *pool, struct vcl_store **store,
                               struct vcl_error *error)
{
    struct vcl_options options;
    *store = calloc(1, sizeof **store);
    if (!*store)
        return vcl_fault_memory(error);
    vcl_options_init(&options);
    options.pool = (*store)->pool = pool;
    (*store)->loops = vcl_loops16_choose();
    enum vcl_status status = vcl_model_open(path, NULL, &(*store)->model, error);
    if (status == VCL_OK && vcl_context_create(&options, &(*store)->context) != VCL_OK)
        status = vcl_fault_memory(error);
    if (status != VCL_OK) {
        vcl_store_close(*store);
        *store = NULL;
    }
    return status;
}

static void release_weight(struct vcl_weight *weight)
{
    vcl_coded_close(weight->coded);
    free(weight->values);
    free(weight->noisy);
    free(weight);
}

void vcl_store_close(struct vcl_store *store)
{
    if (!store)
        return;
    while (store->weights) {
        struct vcl_weight *weight = store->weights;
        store->weights = weight->next;
        release_weight(weight);
    }
    for (unsigned i = 0; store->own && i < vcl_pool_threads(store->pool); i++)
        vcl_context_destroy(store->own[i]);
    free(store->own);
    vcl_context_destroy(store->context);
    vcl_model_close(store->model);
    free(store->packed);
    free(store->scratch);
    free(store);
}

int vcl_store_has(const struct vcl_store *store, const char *name)
{
    return vcl_model_find(store->model, name) != NULL;
}

const char *vcl_store_name(const struct vcl_store *store, size_t i)
{
    const struct vcl_entry *entry = vcl_model_entry(store->model, i);
    return entry ? entry->name : NULL;
}

const struct vcl_loops16 *vcl_store_loops(const struct vcl_store *store) { return store->loops; }
struct vcl_pool *vcl_store_pool(const struct vcl_store *store) { return store->pool; }

/* ---- loading --------------------------------------------------------------------------------- */

/* A tensor as it decodes, and where its bytes are: an alias leads elsewhere. */
struct found {
    const struct vcl_entry *entry, *stored;
    struct vcl_tensor tensor;
    int compressed;
    enum vcl_codec codec; /* of a compressed one */
};

static enum vcl_status find(const struct vcl_store *store, const char *name, struct found *found,
                            struct vcl_error *error)
{
    struct vcl_info info = { .size = sizeof info };
    found->entry = vcl_model_find(store->model, name);
    if (!found->entry)
        return vcl_fault(error, VCL_E_FORMAT, "%s: tensor '%s' is missing",
                         vcl_model_shard_path(store->model, 0), name);
    found->compressed = vcl_model_is_compressed(store->model, found->entry->shard);
    const enum vcl_status status =
        vcl_model_resolve(store->model, found->entry, &info, &found->stored, error);
    found->tensor = info.tensor;
    found->codec = info.codec;
    return status;
}

static void write_shape(const struct vcl_tensor *tensor, char *text, size_t room)
{
    size_t at = (size_t)snprintf(text, room, "[");
    for (unsigned i = 0; i < tensor->rank && at < room; i++)
        at += (size_t)snprintf(text + at, room - at, "%s%llu", i ? ", " : "",
                               (unsigned long long)tensor->dims[i]);
    if (at < room)
        snprintf(text + at, room - at, "]");
}

/* Shape and dtype are checked before anything is allocated. */
static enum vcl_status check(const struct vcl_store *store, const struct found *found,
                             const struct vcl_tensor *want, struct vcl_error *error)
{
    char have[128], wanted[64];
    const char *path = vcl_model_shard_path(store->model, found->entry->shard);
    if (found->tensor.rank != want->rank
        || memcmp(found->tensor.dims, want->dims, want->rank * sizeof *want->dims)) {
        write_shape(&found->tensor, have, sizeof have);
        write_shape(want, wanted, sizeof wanted);
        return vcl_fault(error, VCL_E_FORMAT,
                         "%s: tensor '%s' has the shape %s, by config.json it should have %s", path,
                         found->entry->name, have, wanted);
    }
    if (!vcl_dtype_is_float(found->tensor.dtype))
        return vcl_fault(error, VCL_E_FORMAT, "%s: tensor '%s' is %s, not F16, BF16, F32 or F64", path,
                         found->entry->name, vcl_dtype_name(found->tensor.dtype));
    return VCL_OK;
}

static enum vcl_status look_up(const struct vcl_store *store, const char *name, const struct vcl_tensor *want,
                               struct found *found, struct vcl_error *error)
{
    const enum vcl_status status = find(store, name, found, error);
    return status == VCL_OK ? check(store, found, want, error) : status;
}

/* Says which tensor failed in the context's words. */
static enum vcl_status fail(const struct vcl_store *store, const struct vcl_entry *entry,
                            enum vcl_status status, struct vcl_error *error)
{
    const char *words = vcl_context_message(store->context);
    return vcl_fault(error, status, "%s: tensor '%s': %s", vcl_model_shard_path(store->model, entry->shard),
                     entry->name, *words ? words : vcl_status_text(status));
}

/* The bytes of a frame; free() them. */
static enum vcl_status read_frame(const struct vcl_store *store, const struct found *found, void **frame,
                                  struct vcl_error *error)
{
    *frame = malloc(found->stored->bytes);
    if (!*frame)
        return vcl_fault_memory(error);
    const enum vcl_status status =
        vcl_model_read(store->model, found->stored, 0, *frame, found->stored->bytes, error);
    if (status != VCL_OK) {
        free(*frame);
        *frame = NULL;
    }
    return status;
}

static enum vcl_status read_values(struct vcl_store *store, const struct found *found, void *values,
                                   size_t bytes, struct vcl_error *error)
{
    void *frame;
    if (!found->compressed)
        return vcl_model_read(store->model, found->entry, 0, values, bytes, error);
    enum vcl_status status = read_frame(store, found, &frame, error);
    if (status != VCL_OK)
        return status;
    status = vcl_decode_buffer(store->context, frame, found->stored->bytes, values, bytes);
    free(frame);
    return status == VCL_OK ? status : fail(store, found->entry, status, error);
}

/* Values from malloc as they are to be kept: raw itself where the dtypes are the same, else raw is freed.
 * NULL where memory is out. */
static void *keep(void *raw, enum vcl_dtype from, enum vcl_dtype to, uint64_t count)
{
    if (from == to)
        return raw;
    void *values = malloc(count * vcl_dtype_bits(to) / 8 + 1);
    if (values)
        vcl_convert(from, raw, to, values, count);
    free(raw);
    return values;
}

/* free() *raw. */
static enum vcl_status read_all(struct vcl_store *store, const struct found *found, void **raw,
                                struct vcl_error *error)
{
    uint64_t bytes = 0;
    vcl_tensor_size(&found->tensor, NULL, &bytes);
    *raw = malloc(bytes ? bytes : 1);
    const enum vcl_status status =
        *raw ? read_values(store, found, *raw, bytes, error) : vcl_fault_memory(error);
    if (status != VCL_OK) {
        free(*raw);
        *raw = NULL;
    }
    return status;
}

static enum vcl_status load(struct vcl_store *store, const struct found *found, struct vcl_weight *weight,
                            struct vcl_error *error)
{
    uint64_t count = 0;
    void *raw;
    const enum vcl_status status = read_all(store, found, &raw, error);
    if (status != VCL_OK)
        return status;
    vcl_tensor_size(&found->tensor, &count, NULL);
    weight->values = keep(raw, found->tensor.dtype, weight->dtype, count);
    return weight->values ? VCL_OK : vcl_fault_memory(error);
}

static enum vcl_status load_coded(struct vcl_store *store, const struct found *found,
                                  struct vcl_weight *weight, struct vcl_error *error)
{
    void *frame;
    enum vcl_status status = read_frame(store, found, &frame, error);
    if (status != VCL_OK)
        return status;
    status = vcl_coded_open(store->context, frame, found->stored->bytes, weight->transposed, &weight->coded);
    return status == VCL_OK ? status : fail(store, found->entry, status, error);
}

static int transpose(struct vcl_weight *weight)
{
    const size_t rows = weight->rows, cols = weight->cols, size = vcl_dtype_bits(weight->dtype) / 8;
    const char *from = weight->values;
    char *to = malloc(rows * cols * size + 1);
    if (!to)
        return 0;
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < cols; c++)
            memcpy(to + (r * cols + c) * size, from + (c * rows + r) * size, size);
    free(weight->values);
    weight->values = to;
    return 1;
}

static enum vcl_status add(struct vcl_store *store, const struct found *found, const struct vcl_weight *like,
                           int coded, struct vcl_weight **added, struct vcl_error *error)
{
    struct vcl_weight *weight = malloc(sizeof *weight);
    if (!weight)
        return vcl_fault_memory(error);
    *weight = *like;
    weight->entry = found->entry;
    weight->stored = found->stored;
    enum vcl_status status =
        coded ? load_coded(store, found, weight, error) : load(store, found, weight, error);
    if (status == VCL_OK && !coded && weight->transposed && !transpose(weight))
        status = vcl_fault_memory(error);
    if (status != VCL_OK) {
        release_weight(weight);
        return status;
    }
    weight->next = store->weights;
    store->weights = *added = weight;
    return VCL_OK;
}

/* Another name of a tensor that is there already: an alias of it, or it of this one. */
static struct vcl_weight *find_same(const struct vcl_store *store, const struct found *found, int transposed)
{
    struct vcl_weight *weight = found->compressed ? store->weights : NULL;
    while (weight && (weight->stored != found->stored || weight->transposed != transposed))
        weight = weight->next;
    return weight;
}

static enum vcl_status add_matrix(struct vcl_store *store, const char *name, const struct vcl_weight *like,
                                  const struct vcl_weight **matrix, struct vcl_error *error)
{
    const size_t rows = like->rows, cols = like->cols;
    const struct vcl_tensor want = { VCL_DTYPE_F32,
                                     2,
                                     { like->transposed ? cols : rows, like->transposed ? rows : cols } };
    struct found found = { 0 };
    struct vcl_weight weight = *like, *added = NULL;
    enum vcl_status status = look_up(store, name, &want, &found, error);
    *matrix = NULL;
    if (status != VCL_OK)
        return status;
    weight.dtype = found.tensor.dtype == VCL_DTYPE_BF16 ? VCL_DTYPE_BF16 : VCL_DTYPE_F32;
    added = find_same(store, &found, like->transposed);
    if (!added)
        status =
            add(store, &found, &weight, found.compressed && found.codec != VCL_CODEC_EXACT, &added, error);
    *matrix = added;
    if (cols > store->most_cols)
        store->most_cols = cols;
    return status;
}

enum vcl_status vcl_store_matrix(struct vcl_store *store, const char *name, size_t rows, size_t cols,
                                 const struct vcl_weight **weight, struct vcl_error *error)
{
    return add_matrix(store, name, &(struct vcl_weight){ .rows = rows, .cols = cols }, weight, error);
}

enum vcl_status vcl_store_transposed(struct vcl_store *store, const char *name, size_t rows, size_t cols,
                                     const struct vcl_weight **weight, struct vcl_error *error)
{
    return add_matrix(store, name, &(struct vcl_weight){ .rows = rows, .cols = cols, .transposed = 1 },
                      weight, error);
}

enum vcl_status vcl_store_vector(struct vcl_store *store, const char *name, size_t n, const float **vector,
                                 struct vcl_error *error)
{
    const struct vcl_tensor want = { VCL_DTYPE_F32, 1, { n } };
    const struct vcl_weight like = { .rows = 1, .cols = n, .vector = 1, .dtype = VCL_DTYPE_F32 };
    struct found found = { 0 };
    struct vcl_weight *added = NULL;
    enum vcl_status status = look_up(store, name, &want, &found, error);
    if (status == VCL_OK)
        status = add(store, &found, &like, 0, &added, error);
    if (status == VCL_OK)
        *vector = added->values;
    return status;
}

enum vcl_status vcl_store_read(struct vcl_store *store, const char *name, const struct vcl_tensor *shape,
                               enum vcl_dtype *dtype, void **values, struct vcl_error *error)
{
    struct found found = { 0 };
    const enum vcl_status status = look_up(store, name, shape, &found, error);
    *dtype = found.tensor.dtype;
    return status == VCL_OK && values ? read_all(store, &found, values, error) : status;
}

enum vcl_status vcl_store_blame(const struct vcl_store *store, const char *name, const char *words,
                                struct vcl_error *error)
{
    const struct vcl_entry *entry = vcl_model_find(store->model, name);
    return vcl_fault(error, VCL_E_FORMAT, "%s: tensor '%s' %s",
                     vcl_model_shard_path(store->model, entry ? entry->shard : 0), name, words);
}

/* ---- equal matrices -------------------------------------------------------------------------- */

/* As they are stored. */
static enum vcl_status compare_bytes(const struct vcl_store *store, const struct vcl_entry *a,
                                     const struct vcl_entry *b, int *same, struct vcl_error *error)
{
    char *chunks = malloc(2 * CHUNK);
    enum vcl_status status = chunks ? VCL_OK : vcl_fault_memory(error);
    *same = a->bytes == b->bytes;
    for (uint64_t at = 0; at < a->bytes && *same && status == VCL_OK; at += CHUNK) {
        const size_t n = a->bytes - at < CHUNK ? (size_t)(a->bytes - at) : CHUNK;
        status = vcl_model_read(store->model, a, at, chunks, n, error);
        if (status == VCL_OK)
            status = vcl_model_read(store->model, b, at, chunks + CHUNK, n, error);
        *same = status == VCL_OK && memcmp(chunks, chunks + CHUNK, n) == 0;
    }
    free(chunks);
    return status;
}

static int put(void *user, uint64_t offset, const void *src, size_t bytes)
{
    memcpy((char *)user + offset, src, bytes);
    return 0;
}

/* n rows in F64; raw: room for them as they are. */
static enum vcl_status read_rows(struct vcl_store *store, const struct found *found, uint64_t first, size_t n,
                                 void *raw, double *values, struct vcl_error *error)
{
    const struct vcl_tensor *tensor = &found->tensor;
    const size_t cols = (size_t)tensor->dims[1], row = cols * vcl_dtype_bits(tensor->dtype) / 8;
    struct vcl_entry_handle handle = { .model = store->model, .entry = found->stored };
    const struct vcl_source source = vcl_model_source(&handle);
    const struct vcl_sink sink = { .user = raw, .write = put, .base = raw };
    const enum vcl_status status =
        found->compressed ? vcl_decode(store->context, &source, found->stored->bytes, first, n, NULL, &sink)
                          : vcl_model_read(store->model, found->entry, first * row, raw, n * row, error);
    if (status == VCL_OK)
        vcl_convert(tensor->dtype, raw, VCL_DTYPE_F64, values, n * cols);
    else if (handle.error.status != VCL_OK)
        return vcl_fault(error, status, "%s", handle.error.text);
    else if (found->compressed)
        return fail(store, found->entry, status, error);
    return status;
}

static enum vcl_status compare_values(struct vcl_store *store, const struct found *a, const struct found *b,
                                      int *same, struct vcl_error *error)
{
    const size_t cols = (size_t)a->tensor.dims[1], most = cols < CHUNK / 8 ? CHUNK / 8 / cols : 1;
    const size_t room = most * cols;
    double *values = malloc(3 * room * sizeof *values); /* of both, and of one as it is */
    enum vcl_status status = values ? VCL_OK : vcl_fault_memory(error);
    *same = 1;
    for (uint64_t at = 0; at < a->tensor.dims[0] && *same && status == VCL_OK; at += most) {
        const size_t n = a->tensor.dims[0] - at < most ? (size_t)(a->tensor.dims[0] - at) : most;
        status = read_rows(store, a, at, n, values + 2 * room, values, error);
        if (status == VCL_OK)
            status = read_rows(store, b, at, n, values + 2 * room, values + room, error);
        *same = status == VCL_OK && memcmp(values, values + room, n * cols * sizeof *values) == 0;
    }
    free(values);
    return status;
}

/* Equal frames decode to equal values; others may, and so may values of another dtype. */
enum vcl_status vcl_store_same(struct vcl_store *store, const char *a, const char *b,
                               const struct vcl_tensor *shape, int *same, struct vcl_error *error)
{
    struct found one = { 0 }, other = { 0 };
    enum vcl_status status = look_up(store, a, shape, &one, error);
    if (status == VCL_OK)
        status = look_up(store, b, shape, &other, error);
    *same = status == VCL_OK && one.stored == other.stored;
    if (status != VCL_OK || *same)
        return status;
    const int alike = one.compressed == other.compressed && one.tensor.dtype == other.tensor.dtype;
    if (alike)
        status = compare_bytes(store, one.stored, other.stored, same, error);
    if (status == VCL_OK && !*same && (!alike || one.compressed))
        status = compare_values(store, &one, &other, same, error);
    return status;
}

/* ---- what stays coded ------------------------------------------------------------------------ */

static uint64_t decoded_bytes(const struct vcl_weight *weight)
{
    return (uint64_t)weight->rows * weight->cols * (vcl_dtype_bits(weight->dtype) / 8);
}

static enum vcl_status decode(struct vcl_store *store, struct vcl_weight *weight, struct vcl_error *error)
{
    const struct vcl_tensor *tensor = vcl_coded_tensor(weight->coded);
    uint64_t count = 0, bytes = 0;
    vcl_tensor_size(tensor, &count, &bytes);
    void *raw = malloc(bytes + 1);
    if (!raw)
        return vcl_fault_memory(error);
    const enum vcl_status status = vcl_coded_decode(store->context, weight->coded, raw, bytes);
    if (status != VCL_OK) {
        free(raw);
        return fail(store, weight->entry, status, error);
    }
    weight->values = keep(raw, tensor->dtype, weight->dtype, count);
    vcl_coded_close(weight->coded);
    weight->coded = NULL;
    return weight->values && (!weight->transposed || transpose(weight)) ? VCL_OK : vcl_fault_memory(error);
}

/* Decodes the fast ones or the others, while *left lasts; with the default, the others alone. */
static enum vcl_status settle(struct vcl_store *store, int fast, uint64_t memory, uint64_t *left,
                              struct vcl_error *error)
{
    enum vcl_status status = VCL_OK;
    for (struct vcl_weight *weight = store->weights; weight && status == VCL_OK; weight = weight->next) {
        if (!weight->coded || vcl_coded_is_fast(weight->coded) != fast)
            continue;
        const uint64_t need = decoded_bytes(weight), have = vcl_coded_bytes(weight->coded);
        const int wanted = memory == VCL_MEMORY_DEFAULT ? !fast : need <= *left;
        if (!wanted && need > have)
            continue;
        *left -= need < *left ? need : *left;
        status = decode(store, weight, error);
    }
    return status;
}

enum vcl_status vcl_store_settle(struct vcl_store *store, uint64_t memory, struct vcl_error *error)
{
    uint64_t left = memory;
    const enum vcl_status status = settle(store, 0, memory, &left, error);
    return status == VCL_OK ? settle(store, 1, memory, &left, error) : status;
}

uint64_t vcl_store_coded_bytes(const struct vcl_store *store)
{
    uint64_t bytes = 0;
    for (const struct vcl_weight *weight = store->weights; weight; weight = weight->next)
        bytes += weight->coded ? vcl_coded_bytes(weight->coded) : 0;
    return bytes;
}

uint64_t vcl_store_bytes(const struct vcl_store *store)
{
    uint64_t bytes = vcl_store_coded_bytes(store);
    for (const struct vcl_weight *weight = store->weights; weight; weight = weight->next)
        bytes += weight->coded ? 0 : decoded_bytes(weight);
    return bytes;
}

/* ---- products -------------------------------------------------------------------------------- */

struct product {
    const struct vcl_store *store;
    const struct vcl_weight *weight;
    const float *x, *packed;
    size_t n, length; /* of vectors, and of each */
    float *y;
};

static enum vcl_dtype dtype_of(const struct vcl_weight *weight)
{
    return weight->noisy ? VCL_DTYPE_F32 : weight->dtype;
}

static const void *row_at(const struct vcl_weight *weight, size_t r)
{
    if (weight->noisy)
        return weight->noisy + r * weight->cols;
    return (const char *)weight->values + r * weight->cols * (vcl_dtype_bits(weight->dtype) / 8);
}

static enum vcl_status remember(struct vcl_store *store, const struct vcl_weight *weight,
                                enum vcl_status status)
{
    return status == VCL_OK ? status : fail(store, weight->entry, status, &store->fault);
}

const char *vcl_store_words(const struct vcl_store *store, enum vcl_status status)
{
    return store->fault.status == status && *store->fault.text ? store->fault.text : vcl_status_text(status);
}

enum vcl_status vcl_store_rows(struct vcl_store *store, const struct vcl_weight *weight, const uint32_t *rows,
                               size_t n, float *out)
{
    const size_t cols = weight->cols;
    if (weight->coded)
        return remember(store, weight, vcl_coded_rows(store->context, weight->coded, rows, n, out));
    for (size_t i = 0; i < n; i++)
        if (dtype_of(weight) == VCL_DTYPE_F32)
            memcpy(out + i * cols, row_at(weight, rows[i]), cols * sizeof *out);
        else
            vcl_convert(weight->dtype, row_at(weight, rows[i]), VCL_DTYPE_F32, out + i * cols, cols);
    return VCL_OK;
}

/* One vector: a dot product a row. */
static void multiply_one(void *user, size_t part, unsigned thread)
{
    const struct product *product = user;
    const struct vcl_weight *weight = product->weight;
    const struct vcl_loops16 *loops = product->store->loops;
    const size_t from = part * ROWS_PER_PART;
    const size_t to = from + ROWS_PER_PART < weight->rows ? from + ROWS_PER_PART : weight->rows;
    (void)thread;
    for (size_t r = from; r < to; r++)
        product->y[r] = (dtype_of(weight) == VCL_DTYPE_F32 ? loops->dot_f32 : loops->dot_bf16)(
            row_at(weight, r), product->x, weight->cols);
}

static size_t scratch_floats(size_t cols)
{
    const size_t group = VCL_GROUP * cols, panel = PANEL_COLS * PANEL_ROWS;
    return (group > panel ? group : panel) + VCL_GROUP * VCL_LANES;
}

/* A group of at most eight rows with all vectors. */
static void multiply_group(const struct product *product, size_t r, size_t rows, float *scratch)
{
    const struct vcl_weight *weight = product->weight;
    const float *w = row_at(weight, r);
    float *y = scratch + VCL_GROUP * weight->cols;
    if (dtype_of(weight) != VCL_DTYPE_F32) {
        vcl_convert(weight->dtype, w, VCL_DTYPE_F32, scratch, rows * weight->cols);
        w = scratch;
    }
    for (size_t i = 0; i < product->n; i += VCL_LANES) {
        const size_t lanes = product->n - i < VCL_LANES ? product->n - i : VCL_LANES;
        product->store->loops->block(w, weight->cols, 1, rows, weight->cols,
                                     product->packed + i * weight->cols, y);
        for (size_t l = 0; l < lanes; l++)
            for (size_t k = 0; k < rows; k++)
                product->y[(i + l) * weight->rows + r + k] = y[VCL_LANES * k + l];
    }
}

static void multiply_part(void *user, size_t part, unsigned thread)
{
    const struct product *product = user;
    const size_t rows = product->weight->rows, from = part * ROWS_PER_PART;
    const size_t to = from + ROWS_PER_PART < rows ? from + ROWS_PER_PART : rows;
    float *scratch = product->store->scratch + thread * scratch_floats(product->store->scratch_cols);
    for (size_t r = from; r < to; r += VCL_GROUP)
        multiply_group(product, r, to - r < VCL_GROUP ? to - r : VCL_GROUP, scratch);
}

static void pack_part(void *user, size_t part, unsigned thread)
{
    const struct product *product = user;
    const size_t length = product->length, i = part * VCL_LANES;
    const size_t lanes = product->n - i < VCL_LANES ? product->n - i : VCL_LANES;
    float *packed = product->store->packed + i * length;
    (void)thread;
    if (lanes < VCL_LANES)
        memset(packed, 0, length * VCL_LANES * sizeof *packed);
    for (size_t l = 0; l < lanes; l++)
        for (size_t c = 0; c < length; c++)
            packed[VCL_LANES * c + l] = product->x[(i + l) * length + c];
}

static int make_room(struct vcl_store *store, size_t floats)
{
    const size_t threads = vcl_pool_threads(store->pool);
    if (store->scratch_cols < store->most_cols) {
        free(store->scratch);
        store->scratch = malloc(threads * scratch_floats(store->most_cols) * sizeof(float));
        store->scratch_cols = store->scratch ? store->most_cols : 0;
    }
    if (store->packed_room < floats) {
        free(store->packed);
        store->packed = malloc(floats * sizeof(float));
        store->packed_room = store->packed ? floats : 0;
    }
    return store->scratch_cols && store->packed_room;
}

/* All vectors, interleaved. */
static int pack(struct vcl_store *store, struct product *product)
{
    const size_t blocks = (product->n + VCL_LANES - 1) / VCL_LANES;
    if (!make_room(store, blocks * VCL_LANES * product->length))
        return 0;
    product->packed = store->packed;
    vcl_pool_run(store->pool, blocks, pack_part, product);
    return 1;
}

enum vcl_status vcl_store_multiply(struct vcl_store *store, const struct vcl_weight *weight, const float *x,
                                   size_t n, float *y)
{
    const size_t parts = (weight->rows + ROWS_PER_PART - 1) / ROWS_PER_PART;
    struct product product = { store, weight, x, NULL, n, weight->cols, y };
    if (store->observer.see)
        store->observer.see(store->observer.user, weight, x, n);
    if (weight->coded)
        return remember(store, weight, vcl_coded_multiply(store->context, weight->coded, x, n, y));
    if (n == 1) {
        vcl_pool_run(store->pool, parts, multiply_one, &product);
        return VCL_OK;
    }
    if (!pack(store, &product))
        return VCL_E_MEMORY;
    vcl_pool_run(store->pool, parts, multiply_part, &product);
    return VCL_OK;
}

/* ---- products with the transpose -------------------------------------------------------------- */

/* f32 or, of 2 bytes each, bf16. */
static inline void widen(const char *values, size_t bytes, size_t count, float *to)
{
    if (bytes == sizeof *to) {
        memcpy(to, values, count * sizeof *to);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        uint16_t bf16;
        memcpy(&bf16, values + i * sizeof bf16, sizeof bf16);
        const uint32_t bits = (uint32_t)bf16 << 16;
        memcpy(to + i, &bits, sizeof *to);
    }
}

/* Columns of some rows in groups of eight: to[group][row][8].  Their usual number is a constant, for the
 * compiler. */
static void gather(const struct vcl_weight *weight, size_t r, size_t rows, size_t first, size_t cols,
                   float *to)
{
    const size_t bytes = vcl_dtype_bits(dtype_of(weight)) / 8, stride = weight->cols * bytes;
    const char *row = (const char *)row_at(weight, r) + first * bytes;
    for (size_t k = 0; k < rows; k++, row += stride)
        for (size_t c = 0; c < cols; c += VCL_GROUP) {
            float *at = to + c * PANEL_ROWS + k * VCL_GROUP;
            if (k + AHEAD < rows)
                __builtin_prefetch(row + AHEAD * stride + c * bytes);
            if (cols - c < VCL_GROUP)
                widen(row + c * bytes, bytes, cols - c, at);
            else
                widen(row + c * bytes, bytes, VCL_GROUP, at);
        }
}

/* What rows r to r + rows add to columns first to first + cols, of all vectors. */
static void multiply_panel(const struct product *product, size_t r, size_t rows, size_t first, size_t cols,
                           float *panel)
{
    float *sums = panel + PANEL_COLS * PANEL_ROWS;
    gather(product->weight, r, rows, first, cols, panel);
    for (size_t i = 0; i < product->n; i += VCL_LANES)
        for (size_t c = 0; c < cols; c += VCL_GROUP) {
            const size_t lanes = product->n - i < VCL_LANES ? product->n - i : VCL_LANES;
            const size_t group = cols - c < VCL_GROUP ? cols - c : VCL_GROUP;
            product->store->loops->block(panel + c * PANEL_ROWS, 1, VCL_GROUP, group, rows,
                                         product->packed + i * product->length + r * VCL_LANES, sums);
            for (size_t l = 0; l < lanes; l++)
                for (size_t k = 0; k < group; k++)
                    product->y[(i + l) * product->weight->cols + first + c + k] += sums[VCL_LANES * k + l];
        }
}

static void transposed_part(void *user, size_t part, unsigned thread)
{
    const struct product *product = user;
    const size_t rows = product->weight->rows, cols = product->weight->cols, first = part * PANEL_COLS;
    const size_t count = cols - first < PANEL_COLS ? cols - first : PANEL_COLS;
    float *panel = product->store->scratch + thread * scratch_floats(product->store->scratch_cols);
    for (size_t i = 0; i < product->n; i++)
        memset(product->y + i * cols + first, 0, count * sizeof *product->y);
    for (size_t r = 0; r < rows; r += PANEL_ROWS)
        multiply_panel(product, r, rows - r < PANEL_ROWS ? rows - r : PANEL_ROWS, first, count, panel);
}

enum vcl_status vcl_store_multiply_transposed(struct vcl_store *store, const struct vcl_weight *weight,
                                              const float *x, size_t n, float *y)
{
    const size_t parts = (weight->cols + PANEL_COLS - 1) / PANEL_COLS;
    struct product product = { store, weight, x, NULL, n, weight->rows, y };
    if (weight->coded)
        return remember(store, weight, vcl_coded_multiply_transposed(store->context, weight->coded, x, n, y));
    if (!pack(store, &product))
        return VCL_E_MEMORY;
    vcl_pool_run(store->pool, parts, transposed_part, &product);
    return VCL_OK;
}

/* ---- coded matrices side by side -------------------------------------------------------------- */

/* For one vector a small matrix is less jobs than there are threads.  Then each thread takes a matrix of
 * its own, if that ends sooner than all threads on one after the other. */
static int pays_side_by_side(const struct vcl_store *store, const struct vcl_multiplication *list,
                             size_t count)
{
    const uint64_t threads = vcl_pool_threads(store->pool), rounds = (count + threads - 1) / threads;
    uint64_t most = 0, in_turn = 0;
    for (size_t i = 0; i < count; i++) {
        const uint64_t jobs = list[i].weight->coded ? vcl_coded_jobs(list[i].weight->coded) : 0;
        if (!jobs)
            return 0;
        most = jobs > most ? jobs : most;
        in_turn += (jobs + threads - 1) / threads;
    }
    return rounds * most < in_turn;
}

struct several {
    struct vcl_store *store;
    const struct vcl_multiplication *list;
    const float *x;
    enum vcl_status *status;
};

static void multiply_coded(void *user, size_t part, unsigned thread)
{
    const struct several *several = user;
    const struct vcl_multiplication *one = &several->list[part];
    several->status[part] =
        vcl_coded_multiply(several->store->own[thread], one->weight->coded, several->x, 1, one->y);
}

/* A context for every thread of the pool. */
static int make_contexts(struct vcl_store *store)
{
    const unsigned threads = vcl_pool_threads(store->pool);
    if (!store->own)
        store->own = calloc(threads, sizeof *store->own);
    for (unsigned i = 0; store->own && i < threads; i++)
        if (!store->own[i] && vcl_context_create(NULL, &store->own[i]) != VCL_OK)
            return 0;
    return store->own != NULL;
}

enum vcl_status vcl_store_multiply_all(struct vcl_store *store, const struct vcl_multiplication *list,
                                       size_t count, const float *x, size_t n)
{
    enum { MOST = 8 };
    enum vcl_status status[MOST] = { VCL_OK };
    size_t failed = 0;
    if (n == 1 && count <= MOST && pays_side_by_side(store, list, count)) {
        struct several several = { store, list, x, status };
        if (!make_contexts(store))
            return VCL_E_MEMORY;
        vcl_pool_run(store->pool, count, multiply_coded, &several);
        while (failed < count && status[failed] == VCL_OK)
            failed++;
        if (failed == count)
            return VCL_OK;
    }
    /* One after the other; after a failure, so that it is found again with its words. */
    for (size_t i = 0; i < count; i++) {
        const enum vcl_status one = vcl_store_multiply(store, list[i].weight, x, n, list[i].y);
        if (one != VCL_OK)
            return one;
    }
    return VCL_OK;
}

/* ---- measuring ------------------------------------------------------------------------------- */

struct vcl_weight *vcl_store_next(const struct vcl_store *store, const struct vcl_weight *weight)
{
    struct vcl_weight *next = weight ? weight->next : store->weights;
    while (next && next->vector)
        next = next->next;
    return next;
}

struct vcl_weight_info vcl_store_describe(const struct vcl_weight *weight)
{
    return (struct vcl_weight_info){ weight->entry->name, weight->rows, weight->cols, weight->transposed };
}

void vcl_store_observe(struct vcl_store *store, struct vcl_observer observer) { store->observer = observer; }

/* White, the same wherever a row begins. */
static double noise_at(uint64_t seed, uint64_t i)
{
    return (double)(vcl_mix((seed << 40) + (i + 1) * VCL_MIX_STEP) >> 11) * 0x1p-52 - 1;
}

/* Uniform noise has a third of the square of its half width. */
enum vcl_status vcl_store_perturb(struct vcl_weight *weight, double ratio, uint64_t seed, double *energy)
{
    const size_t n = weight->rows * weight->cols;
    float *noisy = malloc(n * sizeof *noisy + 1);
    double power = 0;
    *energy = 0;
    if (!noisy)
        return VCL_E_MEMORY;
    vcl_convert(weight->dtype, weight->values, VCL_DTYPE_F32, noisy, n);
    for (size_t i = 0; i < n; i++)
        power += (double)noisy[i] * (double)noisy[i];
    const double width = sqrt(3 * ratio * power / (double)n);
    for (size_t i = 0; i < n; i++) {
        const float before = noisy[i];
        noisy[i] += (float)(width * noise_at(seed, i));
        *energy += ((double)noisy[i] - (double)before) * ((double)noisy[i] - (double)before);
    }
    weight->noisy = noisy;
    return VCL_OK;
}

void vcl_store_restore(struct vcl_weight *weight)
{
    free(weight->noisy);
    weight->noisy = NULL;
}
