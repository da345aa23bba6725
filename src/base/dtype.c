/* dtype.c - value formats: their names and sizes, and exact conversions to and from f32. */
#include "dtype.h"

#include "common.h"
#include "loops.h"

#include <float.h>

static const struct {
    const char *name;
    unsigned bits;
} dtypes[VCL_DTYPE_COUNT] = {
    [VCL_DTYPE_BOOL] = { "BOOL", 8 },
    [VCL_DTYPE_F4] = { "F4", 4 },
    [VCL_DTYPE_F6_E2M3] = { "F6_E2M3", 6 },
    [VCL_DTYPE_F6_E3M2] = { "F6_E3M2", 6 },
    [VCL_DTYPE_U8] = { "U8", 8 },
    [VCL_DTYPE_I8] = { "I8", 8 },
    [VCL_DTYPE_F8_E5M2] = { "F8_E5M2", 8 },
    [VCL_DTYPE_F8_E4M3] = { "F8_E4M3", 8 },
    [VCL_DTYPE_F8_E8M0] = { "F8_E8M0", 8 },
    [VCL_DTYPE_F8_E4M3FNUZ] = { "F8_E4M3FNUZ", 8 },
    [VCL_DTYPE_F8_E5M2FNUZ] = { "F8_E5M2FNUZ", 8 },
    [VCL_DTYPE_I16] = { "I16", 16 },
    [VCL_DTYPE_U16] = { "U16", 16 },
    [VCL_DTYPE_F16] = { "F16", 16 },
    [VCL_DTYPE_BF16] = { "BF16", 16 },
    [VCL_DTYPE_I32] = { "I32", 32 },
    [VCL_DTYPE_U32] = { "U32", 32 },
    [VCL_DTYPE_F32] = { "F32", 32 },
    [VCL_DTYPE_C64] = { "C64", 64 },
    [VCL_DTYPE_F64] = { "F64", 64 },
    [VCL_DTYPE_I64] = { "I64", 64 },
    [VCL_DTYPE_U64] = { "U64", 64 },
};

unsigned vcl_dtype_bits(enum vcl_dtype dtype)
{
    return (unsigned)dtype < VCL_DTYPE_COUNT ? dtypes[dtype].bits : 0;
}

const char *vcl_dtype_name(enum vcl_dtype dtype)
{
    return (unsigned)dtype < VCL_DTYPE_COUNT ? dtypes[dtype].name : NULL;
}

enum vcl_dtype vcl_dtype_parse(const char *name)
{
    unsigned i = 0;
    while (i < VCL_DTYPE_COUNT && strcmp(dtypes[i].name, name) != 0)
        i++;
    return (enum vcl_dtype)i;
}

int vcl_dtype_is_float(enum vcl_dtype dtype)
{
    return dtype == VCL_DTYPE_F16 || dtype == VCL_DTYPE_BF16 || dtype == VCL_DTYPE_F32
        || dtype == VCL_DTYPE_F64;
}

float vcl_dtype_max(enum vcl_dtype dtype)
{
    return dtype == VCL_DTYPE_F16  ? 65504
         : dtype == VCL_DTYPE_BF16 ? vcl_float_from_bits(0x7f7f0000)
                                   : FLT_MAX;
}

void vcl_to_f32(enum vcl_dtype dtype, const void *src, float *dst, size_t n)
{
    vcl_loop_to_f32(dtype, src, dst, n);
}

void vcl_from_f32(enum vcl_dtype dtype, const float *src, void *dst, size_t n)
{
    vcl_loop_from_f32(dtype, src, dst, n);
}
