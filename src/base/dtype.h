/* dtype.h - value formats: conversions between the float dtypes and f32, exact and vectorisable. */
#ifndef VCL_DTYPE_H
#define VCL_DTYPE_H

#include "vcllm.h"

/* n little-endian values of a float dtype to f32 and back.  f64 beyond f32's range becomes an infinity. */
void vcl_to_f32(enum vcl_dtype dtype, const void *src, float *dst, size_t n);
void vcl_from_f32(enum vcl_dtype dtype, const float *src, void *dst, size_t n);

/* The largest finite value of a float dtype that an f32 can hold. */
float vcl_dtype_max(enum vcl_dtype dtype);

#endif
