/* store.c - weights from a model file into memory, and their product with vectors.
 *
 * Matrices stay in bf16 where the file has bf16, else they become f32.  A product cuts the rows into groups
 * of eight; each group meets all vectors, sixteen at a time, while it is in the cache. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store.h"

enum { ROWS_PER_PART = 4 * VCL_GROUP };

struct vcl_weight {
    char *name;
    size_t rows, cols;    /* rows 0: a vector */
    int transposed;       /* stored so in the file */
    enum vcl_dtype dtype; /* F32 or BF16 */
    void *values;
    float *noisy; /* used in place of values while the weight is perturbed */
    struct vcl_weight *next;
};

struct vcl_store {
    struct vcl_model *model;
    struct vcl_context *context;
    struct vcl_team *team;
    const struct vcl_loops16 *loops;
    struct vcl_weight *weights, **end; /* in the order they were loaded */
    struct vcl_observer observer;
    uint64_t bytes;
    size_t most_cols;
    float *packed; /* vectors, interleaved by sixteen */
    size_t packed_room;
    float *scratch; /* per thread: a group of rows in f32, and its products */
    size_t scratch_cols;
};

/* ---- opening --------------------------------------------------------------------------------- */

enum vcl_status vcl_store_open(const char *path, struct vcl_team *team, struct vcl_store **store,
                               struct vcl_error *error)
{
    struct vcl_options options;
    *store = calloc(1, sizeof **store);
    if (!*store)
        return vcl_fault_memory(error);
    vcl_options_init(&options);
    options.threads = vcl_team_threads(team);
    (*store)->team = team;
    (*store)->loops = vcl_loops16_choose();
    (*store)->end = &(*store)->weights;
    enum vcl_status status = vcl_model_open(path, NULL, &(*store)->model, error);
    if (status == VCL_OK && vcl_context_create(&options, &(*store)->context) != VCL_OK)
        status = vcl_fault_memory(error);
    if (status != VCL_OK) {
        vcl_store_close(*store);
        *store = NULL;
    }
    return status;
}

void vcl_store_close(struct vcl_store *store)
{
    if (!store)
        return;
    while (store->weights) {
        struct vcl_weight *weight = store->weights;
        store->weights = weight->next;
        free(weight->values);
        free(weight->noisy);
        free(weight->name);
        free(weight);
    }
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

uint64_t vcl_store_bytes(const struct vcl_store *store) { return store->bytes; }
const struct vcl_loops16 *vcl_store_loops(const struct vcl_store *store) { return store->loops; }
struct vcl_team *vcl_store_team(const struct vcl_store *store) { return store->team; }

/* ---- loading --------------------------------------------------------------------------------- */

/* A tensor as it decodes, and where its bytes are: an alias leads elsewhere. */
struct found {
    const struct vcl_entry *entry, *stored;
    struct vcl_tensor tensor;
    int compressed;
};

static enum vcl_status find(const struct vcl_store *store, const char *name, struct found *found,
                            struct vcl_error *error)
{
    struct vcl_info info;
    found->entry = found->stored = vcl_model_find(store->model, name);
    if (!found->entry)
        return vcl_fault(error, VCL_E_FORMAT, "%s: tensor '%s' is missing",
                         vcl_model_shard_path(store->model, 0), name);
    found->tensor = found->entry->tensor;
    found->compressed = vcl_model_is_compressed(store->model, found->entry->shard);
    if (!found->compressed)
        return VCL_OK;
    const enum vcl_status status = vcl_model_frame(store->model, found->entry, &info, &found->stored, error);
    found->tensor = info.tensor;
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

static enum vcl_status read_values(struct vcl_store *store, const struct found *found, void *values,
                                   size_t bytes, struct vcl_error *error)
{
    struct vcl_entry_handle handle = { .model = store->model, .entry = found->stored };
    if (!found->compressed)
        return vcl_model_read(store->model, found->entry, 0, values, bytes, error);
    void *frame = malloc(found->stored->bytes);
    if (!frame)
        return vcl_fault_memory(error);
    enum vcl_status status =
        vcl_model_read(handle.model, handle.entry, 0, frame, found->stored->bytes, error);
    if (status == VCL_OK) {
        status = vcl_decode_buffer(store->context, frame, found->stored->bytes, values, bytes);
        if (status != VCL_OK)
            vcl_fault(error, status, "%s: tensor '%s': %s",
                      vcl_model_shard_path(store->model, found->entry->shard), found->entry->name,
                      vcl_context_message(store->context));
    }
    free(frame);
    return status;
}

/* The tensor's values as `dtype`, or as they are where that is bf16 and `dtype` is not asked for. */
static enum vcl_status load(struct vcl_store *store, const char *name, const struct vcl_tensor *want,
                            int keep_bf16, enum vcl_dtype *dtype, void **values, struct vcl_error *error)
{
    struct found found = { 0 };
    uint64_t count = 0, bytes = 0;
    void *raw = NULL;
    *values = NULL;
    enum vcl_status status = find(store, name, &found, error);
    if (status == VCL_OK)
        status = check(store, &found, want, error);
    if (status != VCL_OK)
        return status;
    vcl_tensor_size(&found.tensor, &count, &bytes);
    *dtype = keep_bf16 && found.tensor.dtype == VCL_DTYPE_BF16 ? VCL_DTYPE_BF16 : VCL_DTYPE_F32;
    raw = malloc(bytes ? bytes : 1);
    status = raw ? read_values(store, &found, raw, bytes, error) : vcl_fault_memory(error);
    if (status == VCL_OK && *dtype != found.tensor.dtype) {
        *values = malloc(count * sizeof(float) + 1);
        status =
            *values ? vcl_convert(found.tensor.dtype, raw, *dtype, *values, count) : vcl_fault_memory(error);
    } else if (status == VCL_OK) {
        *values = raw;
        raw = NULL;
    }
    free(raw);
    store->bytes += status == VCL_OK ? count * vcl_dtype_bits(*dtype) / 8 : 0;
    return status;
}

static enum vcl_status add(struct vcl_store *store, const char *name, const struct vcl_tensor *want,
                           int keep_bf16, struct vcl_weight **added, struct vcl_error *error)
{
    struct vcl_weight *weight = calloc(1, sizeof *weight);
    if (!weight)
        return vcl_fault_memory(error);
    *store->end = *added = weight;
    store->end = &weight->next;
    weight->name = strdup(name);
    if (!weight->name)
        return vcl_fault_memory(error);
    return load(store, name, want, keep_bf16, &weight->dtype, &weight->values, error);
}

static enum vcl_status add_matrix(struct vcl_store *store, const char *name, const struct vcl_tensor *want,
                                  size_t rows, size_t cols, struct vcl_weight **added,
                                  struct vcl_error *error)
{
    const enum vcl_status status = add(store, name, want, 1, added, error);
    if (status != VCL_OK)
        return status;
    (*added)->rows = rows;
    (*added)->cols = cols;
    if (cols > store->most_cols)
        store->most_cols = cols;
    return VCL_OK;
}

enum vcl_status vcl_store_matrix(struct vcl_store *store, const char *name, size_t rows, size_t cols,
                                 const struct vcl_weight **weight, struct vcl_error *error)
{
    const struct vcl_tensor want = { VCL_DTYPE_F32, 2, { rows, cols } };
    struct vcl_weight *added = NULL;
    const enum vcl_status status = add_matrix(store, name, &want, rows, cols, &added, error);
    *weight = added;
    return status;
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
    weight->transposed = 1;
    return 1;
}

enum vcl_status vcl_store_transposed(struct vcl_store *store, const char *name, size_t rows, size_t cols,
                                     const struct vcl_weight **weight, struct vcl_error *error)
{
    const struct vcl_tensor want = { VCL_DTYPE_F32, 2, { cols, rows } };
    struct vcl_weight *added = NULL;
    const enum vcl_status status = add_matrix(store, name, &want, rows, cols, &added, error);
    *weight = added;
    return status != VCL_OK || transpose(added) ? status : vcl_fault_memory(error);
}

enum vcl_status vcl_store_vector(struct vcl_store *store, const char *name, size_t n, const float **vector,
                                 struct vcl_error *error)
{
    const struct vcl_tensor want = { VCL_DTYPE_F32, 1, { n } };
    struct vcl_weight *added = NULL;
    const enum vcl_status status = add(store, name, &want, 0, &added, error);
    if (status == VCL_OK)
        *vector = added->values;
    return status;
}

/* ---- products -------------------------------------------------------------------------------- */

struct product {
    const struct vcl_store *store;
    const struct vcl_weight *weight;
    const float *x, *packed;
    size_t n;
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

void vcl_store_row(const struct vcl_weight *weight, size_t r, float *row)
{
    if (dtype_of(weight) == VCL_DTYPE_F32)
        memcpy(row, row_at(weight, r), weight->cols * sizeof *row);
    else
        vcl_convert(weight->dtype, row_at(weight, r), VCL_DTYPE_F32, row, weight->cols);
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

static size_t scratch_floats(size_t cols) { return VCL_GROUP * (cols + VCL_LANES); }

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
    const size_t cols = product->weight->cols, i = part * VCL_LANES;
    const size_t lanes = product->n - i < VCL_LANES ? product->n - i : VCL_LANES;
    float *packed = product->store->packed + i * cols;
    (void)thread;
    if (lanes < VCL_LANES)
        memset(packed, 0, cols * VCL_LANES * sizeof *packed);
    for (size_t l = 0; l < lanes; l++)
        for (size_t c = 0; c < cols; c++)
            packed[VCL_LANES * c + l] = product->x[(i + l) * cols + c];
}

static int make_room(struct vcl_store *store, size_t floats)
{
    const size_t threads = vcl_team_threads(store->team);
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

enum vcl_status vcl_store_multiply(struct vcl_store *store, const struct vcl_weight *weight, const float *x,
                                   size_t n, float *y)
{
    const size_t blocks = (n + VCL_LANES - 1) / VCL_LANES,
                 parts = (weight->rows + ROWS_PER_PART - 1) / ROWS_PER_PART;
    struct product product = { store, weight, x, NULL, n, y };
    if (store->observer.see)
        store->observer.see(store->observer.user, weight, x, n);
    if (n == 1) {
        vcl_team_run(store->team, &(struct vcl_job){ multiply_one, &product, parts });
        return VCL_OK;
    }
    if (!make_room(store, blocks * VCL_LANES * weight->cols))
        return VCL_E_MEMORY;
    product.packed = store->packed;
    vcl_team_run(store->team, &(struct vcl_job){ pack_part, &product, blocks });
    vcl_team_run(store->team, &(struct vcl_job){ multiply_part, &product, parts });
    return VCL_OK;
}

/* ---- measuring ------------------------------------------------------------------------------- */

struct vcl_weight *vcl_store_next(const struct vcl_store *store, const struct vcl_weight *weight)
{
    struct vcl_weight *next = weight ? weight->next : store->weights;
    while (next && !next->rows)
        next = next->next;
    return next;
}

struct vcl_weight_info vcl_store_describe(const struct vcl_weight *weight)
{
    return (struct vcl_weight_info){ weight->name, weight->rows, weight->cols, weight->transposed };
}

void vcl_store_observe(struct vcl_store *store, struct vcl_observer observer) { store->observer = observer; }

/* SplitMix64's output for a counter: white, the same wherever a row begins. */
static double noise_at(uint64_t seed, uint64_t i)
{
    uint64_t z = (seed << 40) + (i + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return (double)((z ^ z >> 31) >> 11) * 0x1p-52 - 1;
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
    for (size_t r = 0; r < weight->rows; r++)
        vcl_store_row(weight, r, noisy + r * weight->cols);
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
