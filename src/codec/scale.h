/* scale.h - step 4: one scale class per row and per column. */
#ifndef VCL_SCALE_H
#define VCL_SCALE_H

#include <stddef.h>
#include <stdint.h>

/* The class of a deviation given as its square: round(4 log2 deviation), -400 for 0. */
int vcl_scale_class(double variance);

/* 1 / the variance that a class stands for, 2^(class/2): no libm is asked for 2^(1/2). */
double vcl_scale_weight(int class);

/* Room for n coded classes. */
size_t vcl_scales_bound(size_t n);
/* n classes (-128 to 127), each told from the one `period` (1 or more) before, to bytes; returns how many. */
size_t vcl_scales_write(const int8_t *class, size_t n, size_t period, uint8_t *dst);
/* Back; returns the bytes used, 0 if they are damaged. */
size_t vcl_scales_read(const uint8_t *src, size_t bytes, int8_t *class, size_t n, size_t period);

#endif
