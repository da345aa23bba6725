/* eigen.c - one call of LAPACK.
 *
 * With the metric M = L L^T and the covariance C, C' = L^T C L = U V U^T is that of the vectors that L^T
 * makes; there errors count alike, and U decorrelates.  A component is a row of U^T L^T, and its row of the
 * basis is the column of L^-T U.  These columns are the solutions x of C M x = v x with x^T M x = 1, which
 * DSYGVD finds by just these steps. */
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eigen.h"

#ifdef VCL_LAPACK

/* Fortran's: every argument is a pointer, and lengths of texts come last. */
void dsygvd_(const int *kind, const char *vectors, const char *triangle, const int *n, double *a,
             const int *a_rows, double *b, const int *b_rows, double *values, double *work,
             const int *work_size, int *integers, const int *integers_size, int *info, size_t, size_t);

/* work_size -1: puts what is needed into work[0] and integers[0]. */
static int solve(int n, double *covariance, double *metric, double *variance, double *work, int work_size,
                 int *integers, int integers_size)
{
    const int kind = 2; /* a b x = v x */
    int info;
    dsygvd_(&kind, "V", "L", &n, covariance, &n, metric, &n, variance, work, &work_size, integers,
            &integers_size, &info, 1, 1);
    return info;
}

/* LAPACK has the smallest first. */
static void turn_round(size_t n, double *basis, double *variance)
{
    for (size_t a = 0, b = n - 1; a < b; a++, b--) {
        const double x = variance[a];
        variance[a] = variance[b];
        variance[b] = x;
        for (size_t i = 0; i < n; i++) {
            const double y = basis[a * n + i];
            basis[a * n + i] = basis[b * n + i];
            basis[b * n + i] = y;
        }
    }
}

static int are_finite(const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += fabs(x[i]);
    return isfinite(sum);
}

enum vcl_status vcl_eigen_check(struct vcl_error *error)
{
    (void)error;
    return VCL_OK;
}

enum vcl_status vcl_eigen_basis(size_t n, double *covariance, double *metric, double *variance,
                                struct vcl_error *error)
{
    double size, *work = NULL;
    int integers_size, *integers = NULL, info = n <= INT_MAX / 16 ? 0 : 1;
    if (!info)
        info = solve((int)n, covariance, metric, variance, &size, -1, &integers_size, -1);
    if (info || size > INT_MAX)
        return vcl_fault(error, VCL_E_LIMIT, "a basis of %zu values is more than LAPACK can do", n);
    work = malloc((size_t)size * sizeof *work);
    integers = malloc((size_t)integers_size * sizeof *integers);
    enum vcl_status status = work && integers ? VCL_OK : vcl_fault_memory(error);
    if (status == VCL_OK && !(are_finite(covariance, n * n) && are_finite(metric, n * n)))
        status = vcl_fault(error, VCL_E_FORMAT, "keys, values or their gradients are not finite");
    if (status == VCL_OK
        && solve((int)n, covariance, metric, variance, work, (int)size, integers, integers_size) != 0)
        status = vcl_fault(error, VCL_E_FORMAT, "a metric that is not positive definite");
    free(work);
    free(integers);
    if (status == VCL_OK)
        turn_round(n, covariance, variance);
    return status;
}

#else

enum vcl_status vcl_eigen_check(struct vcl_error *error)
{
    return vcl_fault(error, VCL_E_CODEC,
                     "this vcllm was built without LAPACK (liblapack-dev), which learning how to code a KV "
                     "cache needs; recipes that were learned elsewhere work without");
}

enum vcl_status vcl_eigen_basis(size_t n, double *covariance, double *metric, double *variance,
                                struct vcl_error *error)
{
    (void)n, (void)covariance, (void)metric, (void)variance;
    return vcl_eigen_check(error);
}

#endif
