/* rows.h - rows of a matrix, whose errors count each by itself: those that came to nothing. */
#ifndef VCL_ROWS_H
#define VCL_ROWS_H

#include "common/errand.h"

/* Values in a row of a tensor: its last dimension, all others together number the rows.  0 where it is no
 * matrix, or its rows are too short (under 16) to say anything by themselves. */
uint64_t vcl_row_length(const struct vcl_tensor *tensor);

/* 1 where all n values of a float dtype are 0, of either sign. */
int vcl_all_zero(enum vcl_dtype dtype, const void *values, size_t n);

/* 1 where info -v counts a tensor's zero rows: it is coded lossily and has rows. */
int vcl_rows_may_vanish(const struct vcl_info *info);
/* Decodes the matrices of a compressed model that are coded lossily; zero[i]: rows of entry i that are all
 * zero. */
enum vcl_status vcl_zero_rows_count(struct vcl_errand *job, const struct vcl_model *model,
                                    const char *decoder, unsigned threads, uint64_t *zero);

#endif
