/* dtype.h - value formats: conversions between the float dtypes and f32, exact and vectorisable. */
#ifndef VCL_DTYPE_H
#define VCL_DTYPE_H

#include "vcllm.h"

/* n little-endian values of a float dtype to f32 and back.  f64 beyond f32's range becomes an infinity. */
void vcl_to_f32(enum vcl_dtype dtype, const void *src, float *dst, size_t n);
void vcl_from_f32(enum vcl_dtype dtype, const float *src, void *dst, size_t n);

/* Bytes of the first n values of a tensor, where those of the whole are known to fit 64 bits; n x bits fills
 * whole bytes (exact tiles of F4 and F6 have 2^20 values or all that is left). */
static inline uint64_t vcl_dtype_bytes(enum vcl_dtype dtype, uint64_t n)
{
    return n / 8 * vcl_dtype_bits(dtype) + n % 8 * vcl_dtype_bits(dtype) / 8;
}

/* The largest finite value of a float dtype that an f32 can hold. */
float vcl_dtype_max(enum vcl_dtype dtype);

#endif
