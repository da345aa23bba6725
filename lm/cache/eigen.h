/* eigen.h - the basis in which a covariance is diagonal and a metric is the identity. */
#ifndef VCL_RUN_EIGEN_H
#define VCL_RUN_EIGEN_H

#include <stddef.h>

#include "common/fault.h"

/* VCL_E_CODEC where this build has no LAPACK: before anything long. */
enum vcl_status vcl_eigen_check(struct vcl_error *error);

/* n x n, symmetric, both triangles filled; metric positive definite.  On return covariance holds the basis,
 * row c that of component c, and variance the components' variances, the largest first: a vector of this
 * covariance is the sum of its components times their rows, and an error's square in the metric is the sum
 * of its components' squares.  metric is overwritten.  VCL_E_FORMAT where the metric is not positive
 * definite, or a number is not finite; VCL_E_MEMORY, VCL_E_LIMIT; as the check. */
enum vcl_status vcl_eigen_basis(size_t n, double *covariance, double *metric, double *variance,
                                struct vcl_error *error);

#endif
