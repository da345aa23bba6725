/* basis.c - the transform of a part of a KV cache: values to components and back.
 *
 * In: a mean and a basis, as learned or as a recipe's bytes have them.  Out: the two matrices.  A decoder's is kept
 * in 8 bits a number with a scale for each component; an encoder's is the exact inverse of that, in f64 and in one
 * order of additions, so that every machine codes the same.  Rounding costs 0.005 bit a value at most
 * (docs/experiments.md). */
#include "kv/basis.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/common.h"

uint32_t vcl_basis_cols(uint32_t n)
{
    const uint32_t cols = (uint32_t)vcl_round_up(n, (uint64_t)VCL_MIX_COLS);
    return cols > VCL_BASIS_LEAST_COLS ? cols : VCL_BASIS_LEAST_COLS;
}

size_t vcl_basis_bytes(uint32_t n) { return 8 * (size_t)n + (size_t)n * n; }

/* ---- to bytes ---------------------------------------------------------------------------------- */

/* A component's numbers to 8 bits; its scale, 0 if there is none. */
static float write_component(const float *component, uint32_t n, uint8_t *dst)
{
    float most = 0;
    for (uint32_t i = 0; i < n; i++)
        most = fmaxf(most, fabsf(component[i]));
    const float scale = most / 127;
    for (uint32_t i = 0; i < n; i++) {
        if (!(fabsf(component[i]) <= FLT_MAX) || !(scale >= FLT_MIN))
            return 0;
        dst[i] = (uint8_t)(int8_t)rintf(component[i] / scale);
    }
    return scale;
}

int vcl_basis_write(const float *mean, const float *basis, uint32_t n, uint8_t *dst)
{
    uint8_t *const scales = dst + 4 * (size_t)n, *const numbers = scales + 4 * (size_t)n;
    for (uint32_t c = 0; c < n; c++) {
        const float scale = write_component(basis + (size_t)c * n, n, numbers + (size_t)c * n);
        if (scale == 0 || !(fabsf(mean[c]) <= FLT_MAX))
            return 0;
        vcl_store32(dst + 4 * (size_t)c, vcl_float_bits(mean[c]));
        vcl_store32(scales + 4 * (size_t)c, vcl_float_bits(scale));
    }
    return 1;
}

/* ---- and back ---------------------------------------------------------------------------------- */

static int read_basis(const uint8_t *src, struct vcl_basis *b)
{
    const uint32_t n = b->n;
    const uint8_t *const scales = src + 4 * (size_t)n, *const numbers = scales + 4 * (size_t)n;
    for (uint32_t c = 0; c < n; c++) {
        const float scale = vcl_float_from_bits(vcl_load32(scales + 4 * (size_t)c));
        b->mean[c] = vcl_float_from_bits(vcl_load32(src + 4 * (size_t)c));
        if (!(fabsf(b->mean[c]) <= FLT_MAX) || !(scale >= FLT_MIN && scale <= FLT_MAX / 128))
            return 0;
        for (uint32_t i = 0; i < n; i++)
            b->inverse[(size_t)c * b->cols + i] = scale * (float)(int8_t)numbers[(size_t)c * n + i];
    }
    return 1;
}

/* A matrix being inverted in place by Gauss and Jordan's elimination. */
struct inversion {
    double *a; /* [n][n] */
    uint32_t n, *order;
};

static void swap_rows(const struct inversion *v, uint32_t r, uint32_t s)
{
    for (uint32_t c = 0; c < v->n && r != s; c++) {
        const double x = v->a[(size_t)r * v->n + c];
        v->a[(size_t)r * v->n + c] = v->a[(size_t)s * v->n + c];
        v->a[(size_t)s * v->n + c] = x;
    }
}

static uint32_t largest_below(const struct inversion *v, uint32_t k)
{
    uint32_t best = k;
    for (uint32_t r = k + 1; r < v->n; r++)
        if (fabs(v->a[(size_t)r * v->n + k]) > fabs(v->a[(size_t)best * v->n + k]))
            best = r;
    return best;
}

/* The k-th row becomes the k-th unknown's. */
static void eliminate(const struct inversion *v, uint32_t k)
{
    double *const row = v->a + (size_t)k * v->n, pivot = row[k];
    row[k] = 1;
    for (uint32_t c = 0; c < v->n; c++)
        row[c] /= pivot;
    for (uint32_t r = 0; r < v->n; r++) {
        double *restrict const other = v->a + (size_t)r * v->n;
        const double factor = other[k];
        if (r == k || factor == 0)
            continue;
        other[k] = 0;
        for (uint32_t c = 0; c < v->n; c++)
            other[c] -= factor * row[c];
    }
}

/* Columns go back to where rows came from. */
static void restore_order(const struct inversion *v)
{
    for (uint32_t k = v->n; k-- > 0;) {
        const uint32_t from = v->order[k];
        for (uint32_t r = 0; r < v->n && from != k; r++) {
            double *const row = v->a + (size_t)r * v->n, x = row[k];
            row[k] = row[from];
            row[from] = x;
        }
    }
}

/* 0 for a matrix so near to a singular one that f32 cannot tell. */
static int invert(const struct inversion *v)
{
    double least = INFINITY, most = 0;
    for (uint32_t k = 0; k < v->n; k++) {
        v->order[k] = largest_below(v, k);
        swap_rows(v, k, v->order[k]);
        const double pivot = fabs(v->a[(size_t)k * v->n + k]);
        least = fmin(least, pivot);
        most = fmax(most, pivot);
        if (!(least > 1e-9 * most))
            return 0;
        eliminate(v, k);
    }
    restore_order(v);
    return 1;
}

/* With every component's largest number made 1, so that scales do not look like singularity. */
static int invert_basis(const uint8_t *src, const struct vcl_basis *b, const struct inversion *v)
{
    const uint32_t n = b->n;
    const uint8_t *const scales = src + 4 * (size_t)n, *const numbers = scales + 4 * (size_t)n;
    for (size_t i = 0; i < (size_t)n * n; i++)
        v->a[i] = (int8_t)numbers[i] / 127.0;
    if (!invert(v))
        return 0;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t c = 0; c < n; c++) {
            const double scale = 127.0 * (double)vcl_float_from_bits(vcl_load32(scales + 4 * (size_t)c));
            const double x = v->a[(size_t)i * n + c] / scale;
            if (!(fabs(x) <= FLT_MAX))
                return 0;
            b->forward[(size_t)i * b->cols + c] = (float)x;
        }
    return 1;
}

enum vcl_status vcl_basis_make(const struct vcl_env *env, const struct vcl_mem *mem, const uint8_t *src,
                               struct vcl_basis *b)
{
    b->cols = vcl_basis_cols(b->n);
    b->mean = vcl_alloc(mem, b->cols, sizeof *b->mean);
    b->forward = vcl_alloc(mem, (size_t)b->n * b->cols, sizeof *b->forward);
    b->inverse = vcl_alloc(mem, (size_t)b->n * b->cols, sizeof *b->inverse);
    const struct inversion v = { vcl_alloc_raw(env->mem, (size_t)b->n * b->n, sizeof *v.a), b->n,
                                 vcl_alloc_raw(env->mem, b->n, sizeof *v.order) };
    enum vcl_status status = VCL_OK;
    if (!b->mean || !b->forward || !b->inverse || !v.a || !v.order)
        status = vcl_env_fail(env, VCL_E_MEMORY, "no memory for a basis of %u values", b->n);
    else if (!read_basis(src, b))
        status = vcl_env_fail(env, VCL_E_FORMAT, "mean or scale of a basis is impossible");
    else if (!invert_basis(src, b, &v))
        status = vcl_env_fail(env, VCL_E_FORMAT, "a basis that cannot be inverted");
    vcl_free(env->mem, v.a);
    vcl_free(env->mem, v.order);
    return status;
}

void vcl_basis_unmake(const struct vcl_mem *mem, struct vcl_basis *b)
{
    vcl_free(mem, b->mean);
    vcl_free(mem, b->forward);
    vcl_free(mem, b->inverse);
    memset(b, 0, sizeof *b);
}

/* ---- values ------------------------------------------------------------------------------------ */

void vcl_basis_forward(const struct vcl_kernels *kernels, const struct vcl_basis *b, const float *x,
                       size_t tokens, uint32_t used, float *z)
{
    const struct vcl_mix mix = { b->forward, b->n, used, b->cols };
    memset(z, 0, tokens * used * sizeof *z);
    kernels->mix(&mix, x, b->cols, tokens, z, used);
}

void vcl_basis_inverse(const struct vcl_kernels *kernels, const struct vcl_basis *b, const float *z,
                       size_t tokens, uint32_t used, float *x)
{
    const struct vcl_mix mix = { b->inverse, vcl_min(used, b->n), b->cols, b->cols };
    for (size_t t = 0; t < tokens; t++)
        memcpy(x + t * b->cols, b->mean, b->cols * sizeof *x);
    kernels->mix(&mix, z, used, tokens, x, b->cols);
}
