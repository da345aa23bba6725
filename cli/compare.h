/* compare.h - two models and what differs between them. */
#ifndef VCL_COMPARE_H
#define VCL_COMPARE_H

#include "cli.h"
#include "common/work.h"

enum vcl_difference_state {
    VCL_DIFFERENCE_MISSING, /* only in A */
    VCL_DIFFERENCE_SHAPE,   /* shapes differ, or dtypes that do not compare */
    VCL_DIFFERENCE_FLOATS,  /* sums */
    VCL_DIFFERENCE_BYTES    /* differing */
};
struct vcl_difference { /* of one tensor of A */
    enum vcl_difference_state state;
    struct vcl_tensor shape_a, shape_b;
    enum vcl_dtype dtype_a, dtype_b;
    struct vcl_error_sums sums;
    double worst_row_nmse;         /* of rows that were not all zero; 0: there are none, or none differs */
    uint64_t worst_row, rows_lost; /* lost: all zero in B only */
    uint64_t differing;            /* values */
};

struct vcl_comparison {
    const char *name_a, *name_b, *decoder;
    double min_snr;
    int json, quiet;
    struct vcl_model *a, *b;
    struct vcl_difference *differences;
    const struct vcl_work *work;
};

void vcl_sums_add(struct vcl_error_sums *sums, const struct vcl_error_sums *more);

/* compare_report.c: prints, and returns the exit code that the differences deserve. */
int vcl_comparison_report(const struct vcl_comparison *job);

#endif
