/* rows.h - rows of a matrix, whose errors count each by itself: those that came to nothing. */
#ifndef VCL_ROWS_H
#define VCL_ROWS_H

#include "cli.h"

/* Values in a row of a tensor: its last dimension, all others together number the rows.  0 where it is no
 * matrix, or its rows are too short (under 16) to say anything by themselves. */
uint64_t vcl_row_length(const struct vcl_tensor *tensor);

/* 1 where all n values of a float dtype are 0, of either sign. */
int vcl_all_zero(enum vcl_dtype dtype, const void *values, size_t n);

#endif
