/* bench.h - the verb bench: data to code, points to measure. */
#ifndef VCL_BENCH_H
#define VCL_BENCH_H

#include "cli.h"

struct vcl_bench_data {
    char *name, *file; /* file: without its folders; NULL for what is made */
    struct vcl_tensor tensor;
    uint64_t values, bytes;
    void *at;
};
/* bench_data.c: each makes one; free with vcl_bench_data_free. */
void vcl_bench_normal(struct vcl_bench_data *data, uint64_t values);
void vcl_bench_laplace(struct vcl_bench_data *data, uint64_t values);
/* The largest float matrix of a file, its first rows where it has more than `values`.  Returns an
 * exit code. */
int vcl_bench_file(struct vcl_bench_data *data, const char *path, uint64_t values);
void vcl_bench_data_free(struct vcl_bench_data *data);

#endif
