/* merge.c - norm weights into the matrices that read the norm, then a rotation into all that touch the sum.
 *
 * With x the sum, g and b a norm's weight and bias, and n(x) what the norm makes of x without them, a
 * matrix W that reads it computes W (g n(x) + b).  For Q x in place of x, n gives Q n(x): an RMS norm with
 * any rotation, a layer norm with one that keeps the vector of ones.  So W becomes W g Q, its bias grows by
 * W b, the norm's become 1 and 0, and all that is added to x is multiplied by Q, which is its own inverse.
 *
 * A head has no bias.  But what a layer norm gives is orthogonal to the ones: each value of the last
 * norm's bias becomes CONSTANT, and a row of the head gets the part along the ones that gives W b with it. */
#include <float.h>
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "merge.h"
#include "rotation.h"

enum { LANES = VCL_ROTATION_LANES };
static const double CONSTANT = 0.125; /* small, for errors in the head are multiplied by it */

struct vcl_merge {
    struct vcl_network network;
    struct vcl_outline outline;
    struct vcl_pool *pool;
    struct vcl_rotation *rotation;
};

/* ---- opening --------------------------------------------------------------------------------- */

/* All tensors are there, in the shapes that config.json says, and no others. */
static enum vcl_status check(const struct vcl_merge *merge, const char *folder, struct vcl_error *error)
{
    const size_t count = merge->outline.count - (merge->network.config.tied != 0);
    enum vcl_status status = VCL_OK;
    if (merge->network.unread.count)
        return vcl_fault(
            error, VCL_E_FORMAT,
            "%s: has tensors that are not read (%s): what they do to a rotated model is not known", folder,
            merge->network.unread.text);
    enum vcl_dtype dtype;
    for (size_t i = 0; i < count && status == VCL_OK; i++) {
        const struct vcl_part *part = &merge->outline.parts[i];
        status = vcl_store_read(merge->network.store, part->name, &part->shape, &dtype, NULL, error);
    }
    return status;
}

enum vcl_status vcl_merge_open(const char *folder, uint64_t seed, struct vcl_pool *pool,
                               struct vcl_merge **merge, struct vcl_error *error)
{
    *merge = calloc(1, sizeof **merge);
    if (!*merge)
        return vcl_fault_memory(error);
    (*merge)->pool = pool;
    enum vcl_status status = vcl_network_outline(folder, pool, &(*merge)->network, &(*merge)->outline, error);
    if (status == VCL_OK)
        status = check(*merge, folder, error);
    if (status == VCL_OK) {
        (*merge)->rotation = vcl_rotation_create((*merge)->network.config.width, seed);
        status = (*merge)->rotation ? VCL_OK : vcl_fault_memory(error);
    }
    if (status != VCL_OK) {
        vcl_merge_close(*merge);
        *merge = NULL;
    }
    return status;
}

void vcl_merge_close(struct vcl_merge *merge)
{
    if (!merge)
        return;
    vcl_rotation_destroy(merge->rotation);
    free(merge->outline.parts);
    vcl_network_close(&merge->network);
    free(merge);
}

const struct vcl_part *vcl_merge_find(const struct vcl_merge *merge, const char *name)
{
    for (size_t i = 0; i < merge->outline.count; i++)
        if (strcmp(merge->outline.parts[i].name, name) == 0)
            return &merge->outline.parts[i];
    return NULL;
}

int vcl_merge_unties(const struct vcl_merge *merge, struct vcl_untied *untied)
{
    const struct vcl_part *parts = merge->outline.parts;
    *untied = (struct vcl_untied){ &parts[0], &parts[merge->outline.count - 1], "" };
    if (strcmp(untied->embedding->name, "wte.weight") == 0)
        untied->prefix = "transformer.";
    return merge->network.config.tied || merge->network.own_head;
}

const struct vcl_network *vcl_merge_network(const struct vcl_merge *merge) { return &merge->network; }

/* ---- reading --------------------------------------------------------------------------------- */

static enum vcl_status refuse_large(const struct vcl_merge *merge, const struct vcl_part *part,
                                    struct vcl_error *error)
{
    return vcl_store_blame(merge->network.store, part->name,
                           "gets a value that is too large for its dtype; see --dtype", error);
}

static enum vcl_status refuse(const struct vcl_merge *merge, const struct vcl_part *part,
                              struct vcl_error *error)
{
    return vcl_store_blame(merge->network.store, part->name,
                           "holds a NaN or an infinity, which a rotation would spread", error);
}

static int all_fit(const double *x, size_t n, enum vcl_dtype dtype)
{
    const double most = dtype == VCL_DTYPE_F16  ? 65504
                      : dtype == VCL_DTYPE_BF16 ? 0x1.FEp127
                      : dtype == VCL_DTYPE_F32  ? FLT_MAX
                                                : DBL_MAX;
    int good = 1;
    for (size_t i = 0; i < n; i++)
        good &= fabs(x[i]) <= most;
    return good;
}

/* A vector's values; free() them. */
static enum vcl_status read_vector(const struct vcl_merge *merge, const struct vcl_part *part,
                                   double **vector, struct vcl_error *error)
{
    const size_t n = (size_t)part->shape.dims[0];
    enum vcl_dtype dtype;
    void *raw = NULL;
    const enum vcl_status status =
        vcl_store_read(merge->network.store, part->name, &part->shape, &dtype, &raw, error);
    *vector = NULL;
    if (status != VCL_OK)
        return status;
    *vector = malloc(n * sizeof **vector);
    if (*vector)
        vcl_convert(dtype, raw, VCL_DTYPE_F64, *vector, n);
    free(raw);
    if (!*vector)
        return vcl_fault_memory(error);
    return all_fit(*vector, n, VCL_DTYPE_F64) ? VCL_OK : refuse(merge, part, error);
}

/* The norm that a matrix reads: weight, and bias or NULL. */
struct norm {
    double *weight, *bias;
};

static enum vcl_status read_norm(const struct vcl_merge *merge, const struct vcl_part *part,
                                 struct norm *norm, struct vcl_error *error)
{
    const struct vcl_part *at = part;
    while (at->kind != VCL_PART_NORM)
        at--;
    enum vcl_status status = read_vector(merge, at, &norm->weight, error);
    if (status == VCL_OK && at[1].kind == VCL_PART_NORM_BIAS)
        status = read_vector(merge, &at[1], &norm->bias, error);
    return status;
}

/* ---- matrices -------------------------------------------------------------------------------- */

/* A matrix on its way.  A lane is a vector along the sum's axis: of an embedding a row. */
struct turning {
    const struct vcl_rotation *rotation;
    size_t width, lanes; /* along the sum's axis, and across */
    int strided;         /* the sum's axis is the first: a lane is a column */
    struct norm norm;    /* that it reads; weight NULL: none */
    int is_head;         /* takes the norm's bias itself */
    enum vcl_dtype from, to;
    const char *raw;
    char *made;      /* NULL: only the offsets are wanted */
    double *offsets; /* [lane]: its product with the norm's bias */
    double *scratch; /* of each thread: LANES lanes, one more, the rotation's */
    size_t scratch_room;
    atomic_int bad, too_large;
};

/* x: [width][LANES], what is not there 0; row: scratch of one lane. */
static void load_lanes(struct turning *t, size_t first, size_t count, double *x, double *row)
{
    const size_t size = vcl_dtype_bits(t->from) / 8;
    memset(x, 0, t->width * LANES * sizeof *x);
    for (size_t i = 0; i < t->width && t->strided; i++)
        vcl_convert(t->from, t->raw + (i * t->lanes + first) * size, VCL_DTYPE_F64, x + i * LANES, count);
    for (size_t l = 0; l < count && !t->strided; l++) {
        vcl_convert(t->from, t->raw + (first + l) * t->width * size, VCL_DTYPE_F64, row, t->width);
        for (size_t i = 0; i < t->width; i++)
            x[i * LANES + l] = row[i];
    }
    if (!all_fit(x, t->width * LANES, VCL_DTYPE_F64))
        atomic_store(&t->bad, 1);
}

static void store_lanes(struct turning *t, size_t first, size_t count, const double *x, double *row)
{
    const size_t size = vcl_dtype_bits(t->to) / 8;
    if (!all_fit(x, t->width * LANES, t->to))
        atomic_store(&t->too_large, 1);
    for (size_t i = 0; i < t->width && t->strided; i++)
        vcl_convert(VCL_DTYPE_F64, x + i * LANES, t->to, t->made + (i * t->lanes + first) * size, count);
    for (size_t l = 0; l < count && !t->strided; l++) {
        for (size_t i = 0; i < t->width; i++)
            row[i] = x[i * LANES + l];
        vcl_convert(VCL_DTYPE_F64, row, t->to, t->made + (first + l) * t->width * size, t->width);
    }
}

static void dot(const double *x, const double *with, size_t n, double *sums)
{
    memset(sums, 0, LANES * sizeof *sums);
    for (size_t i = 0; i < n; i++)
        for (size_t l = 0; l < LANES; l++)
            sums[l] += x[i * LANES + l] * with[i];
}

static void scale(double *x, const double *by, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t l = 0; l < LANES; l++)
            x[i * LANES + l] *= by[i];
}

/* Makes product / CONSTANT that of each lane with the vector of ones. */
static void set_along_ones(double *x, size_t n, const double *product)
{
    double sums[LANES] = { 0 };
    for (size_t i = 0; i < n; i++)
        for (size_t l = 0; l < LANES; l++)
            sums[l] += x[i * LANES + l];
    for (size_t i = 0; i < n; i++)
        for (size_t l = 0; l < LANES; l++)
            x[i * LANES + l] += (product[l] / CONSTANT - sums[l]) / (double)n;
}

static void turn_lanes(void *user, size_t part, unsigned thread)
{
    struct turning *t = user;
    const size_t first = part * LANES, count = t->lanes - first < LANES ? t->lanes - first : LANES;
    double *x = t->scratch + thread * t->scratch_room, *row = x + t->width * LANES, products[LANES] = { 0 };
    load_lanes(t, first, count, x, row);
    if (t->norm.bias)
        dot(x, t->norm.bias, t->width, products);
    if (t->offsets)
        memcpy(t->offsets + first, products, count * sizeof *products);
    if (!t->made)
        return;
    if (t->norm.weight)
        scale(x, t->norm.weight, t->width);
    vcl_rotation_apply(t->rotation, x, row + t->width);
    if (t->is_head && t->norm.bias)
        set_along_ones(x, t->width, products);
    store_lanes(t, first, count, x, row);
}

/* Of a vector, one lane of it. */
static enum vcl_status run(const struct vcl_merge *merge, const struct vcl_part *part, struct turning *t,
                           struct vcl_error *error)
{
    const size_t width = merge->network.config.width;
    t->rotation = merge->rotation;
    t->width = width;
    t->lanes = part->shape.rank == 2 ? (size_t)part->shape.dims[!part->axis] : 1;
    t->strided = part->shape.rank == 2 && part->axis == 0;
    t->scratch_room = width * (LANES + 1) + vcl_rotation_scratch(merge->rotation);
    t->scratch = malloc(vcl_pool_threads(merge->pool) * t->scratch_room * sizeof *t->scratch);
    if (!t->scratch)
        return vcl_fault_memory(error);
    vcl_pool_run(merge->pool, (t->lanes + LANES - 1) / LANES, turn_lanes, t);
    free(t->scratch);
    if (t->bad)
        return refuse(merge, part, error);
    return t->too_large ? refuse_large(merge, part, error) : VCL_OK;
}

static enum vcl_status read_matrix(const struct vcl_merge *merge, const struct vcl_part *part,
                                   struct turning *t, void **raw, struct vcl_error *error)
{
    const struct vcl_part *source = part;
    if (part->kind == VCL_PART_HEAD && merge->network.config.tied)
        source = &merge->outline.parts[0];
    const enum vcl_status status =
        vcl_store_read(merge->network.store, source->name, &source->shape, &t->from, raw, error);
    t->raw = *raw;
    return status;
}

/* Whatever Q is multiplied to, its norm before it. */
static enum vcl_status turn(const struct vcl_merge *merge, const struct vcl_part *part, enum vcl_dtype dtype,
                            void *made, struct vcl_error *error)
{
    struct turning t = { .to = dtype, .made = made, .is_head = part->kind == VCL_PART_HEAD };
    void *raw = NULL;
    enum vcl_status status = read_matrix(merge, part, &t, &raw, error);
    if (status == VCL_OK && (part->kind == VCL_PART_READER || t.is_head))
        status = read_norm(merge, part, &t.norm, error);
    if (status == VCL_OK)
        status = run(merge, part, &t, error);
    free(raw);
    free(t.norm.weight);
    free(t.norm.bias);
    return status;
}

/* ---- vectors --------------------------------------------------------------------------------- */

/* A reader's bias, and what its matrix makes of the norm's. */
static enum vcl_status add_offsets(const struct vcl_merge *merge, const struct vcl_part *part, double *bias,
                                   struct vcl_error *error)
{
    const size_t n = (size_t)part->shape.dims[0];
    struct turning t = { .offsets = malloc(n * sizeof *t.offsets) };
    void *raw = NULL;
    enum vcl_status status = read_matrix(merge, part - 1, &t, &raw, error);
    if (status == VCL_OK)
        status = read_norm(merge, part, &t.norm, error);
    if (status == VCL_OK && !t.offsets)
        status = vcl_fault_memory(error);
    if (status == VCL_OK)
        status = run(merge, part - 1, &t, error);
    for (size_t i = 0; i < n && status == VCL_OK; i++)
        bias[i] += t.offsets[i];
    free(raw);
    free(t.offsets);
    free(t.norm.weight);
    free(t.norm.bias);
    return status;
}

static enum vcl_status make_reader_bias(const struct vcl_merge *merge, const struct vcl_part *part,
                                        enum vcl_dtype dtype, void *made, struct vcl_error *error)
{
    double *bias;
    enum vcl_status status = read_vector(merge, part, &bias, error);
    if (status == VCL_OK)
        status = add_offsets(merge, part, bias, error);
    if (status == VCL_OK && !all_fit(bias, (size_t)part->shape.dims[0], dtype))
        status = refuse_large(merge, part, error);
    if (status == VCL_OK)
        vcl_convert(VCL_DTYPE_F64, bias, dtype, made, (size_t)part->shape.dims[0]);
    free(bias);
    return status;
}

static enum vcl_status make_norm(const struct vcl_part *part, enum vcl_dtype dtype, char *made)
{
    const size_t size = vcl_dtype_bits(dtype) / 8;
    const int is_last = part[1].kind == VCL_PART_HEAD;
    const double value = part->kind == VCL_PART_NORM ? 1 : is_last ? CONSTANT : 0;
    for (size_t i = 0; i < part->shape.dims[0]; i++)
        vcl_convert(VCL_DTYPE_F64, &value, dtype, made + i * size, 1);
    return VCL_OK;
}

/* ---- any ------------------------------------------------------------------------------------- */

static enum vcl_status make(const struct vcl_merge *merge, const struct vcl_part *part, enum vcl_dtype dtype,
                            void *made, struct vcl_error *error)
{
    switch (part->kind) {
    case VCL_PART_NORM:
    case VCL_PART_NORM_BIAS: return make_norm(part, dtype, made);
    case VCL_PART_READER_BIAS: return make_reader_bias(merge, part, dtype, made, error);
    default: return turn(merge, part, dtype, made, error);
    }
}

enum vcl_status vcl_merge_make(const struct vcl_merge *merge, const struct vcl_part *part,
                               enum vcl_dtype dtype, void **values, struct vcl_error *error)
{
    struct vcl_tensor tensor = part->shape;
    uint64_t bytes = 0;
    tensor.dtype = dtype;
    const enum vcl_status size = vcl_tensor_size(&tensor, NULL, &bytes);
    *values = NULL;
    if (size != VCL_OK)
        return vcl_fault(error, size, "tensor '%s': %s", part->name, vcl_status_text(size));
    *values = malloc(bytes + 1);
    const enum vcl_status status =
        *values ? make(merge, part, dtype, *values, error) : vcl_fault_memory(error);
    if (status != VCL_OK) {
        free(*values);
        *values = NULL;
    }
    return status;
}
