/* bench_data.c - what bench codes: seeded random matrices that anybody can make again, and matrices of real
 * models. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "common/mix.h"
#include "layout/values.h"

enum { COLS = 1024, SEED = 1 };

/* The same on every machine. */
static uint64_t next_random(uint64_t *state) { return vcl_mix(*state += VCL_MIX_STEP); }

/* In (0, 1), never an end. */
static double uniform(uint64_t *state) { return ((double)(next_random(state) >> 12) + 0.5) * 0x1p-52; }

static double normal(uint64_t *state)
{
    const double radius = sqrt(-2 * log(uniform(state)));
    return radius * cos(2 * 3.14159265358979323846 * uniform(state));
}

static double laplace(uint64_t *state) /* unit variance */
{
    const double u = uniform(state) - 0.5;
    return (u < 0 ? 1 : -1) * log(1 - 2 * fabs(u)) / sqrt(2);
}

static void make(struct vcl_bench_data *data, const char *name, uint64_t values,
                 double (*draw)(uint64_t *state))
{
    uint64_t state = SEED;
    const uint64_t rows = values / COLS ? values / COLS : 1;
    float *at;
    *data = (struct vcl_bench_data){ .name = vcl_text("%s", name),
                                     .tensor = { VCL_DTYPE_F32, 2, { rows, COLS } } };
    vcl_tensor_size(&data->tensor, &data->values, &data->bytes);
    data->at = at = vcl_zeros((size_t)data->bytes, 1);
    for (uint64_t i = 0; i < data->values; i++)
        at[i] = (float)draw(&state);
}

void vcl_bench_normal(struct vcl_bench_data *data, uint64_t values) { make(data, "N(0,1)", values, normal); }
void vcl_bench_laplace(struct vcl_bench_data *data, uint64_t values)
{
    make(data, "Laplace", values, laplace);
}

static const struct vcl_entry *largest_matrix(const struct vcl_model *model)
{
    const struct vcl_entry *largest = NULL;
    for (size_t i = 0; i < vcl_model_count(model); i++) {
        const struct vcl_entry *entry = vcl_model_entry(model, i);
        if (vcl_dtype_is_float(entry->tensor.dtype) && entry->tensor.rank >= 2 && entry->bytes
            && (!largest || entry->bytes > largest->bytes))
            largest = entry;
    }
    return largest;
}

static int load(struct vcl_bench_data *data, const char *path, const struct vcl_model *model, uint64_t most)
{
    const struct vcl_entry *entry = largest_matrix(model);
    struct vcl_values values;
    if (!entry)
        return vcl_tell(VCL_E_ARGUMENT, "%s: holds no float matrix to measure with", path);
    const int code = vcl_exit_of(vcl_values_open(vcl_cli_errand(), &values, model, entry, NULL));
    if (code)
        return code;
    const uint64_t row = values.count / values.tensor.dims[0], rows = most / row ? most / row : 1;
    data->tensor = values.tensor;
    if (rows < data->tensor.dims[0])
        data->tensor.dims[0] = rows;
    vcl_tensor_size(&data->tensor, &data->values, &data->bytes);
    const char *slash = strrchr(path, '/');
    data->name = vcl_text("%s", entry->name);
    data->file = vcl_text("%s", slash ? slash + 1 : path);
    data->at = vcl_zeros((size_t)data->bytes, 1);
    return vcl_exit_of(vcl_values_read(&values, NULL, 0, data->at, (size_t)data->bytes));
}

int vcl_bench_file(struct vcl_bench_data *data, const char *path, uint64_t values)
{
    const struct vcl_reading reading = { 0 };
    struct vcl_model *model;
    int code = vcl_cli_open(path, &reading, &model);
    if (code)
        return code;
    *data = (struct vcl_bench_data){ 0 };
    for (size_t i = 0; i < vcl_model_shards(model) && !code; i++)
        if (vcl_model_is_compressed(model, i)) {
            vcl_say("%s: is compressed: the coder is measured on models that are not", path);
            code = VCL_EXIT_USAGE;
        }
    if (!code)
        code = load(data, path, model, values);
    vcl_model_close(model);
    if (code)
        vcl_bench_data_free(data);
    return code;
}

void vcl_bench_data_free(struct vcl_bench_data *data)
{
    free(data->name);
    free(data->file);
    free(data->at);
    *data = (struct vcl_bench_data){ 0 };
}
