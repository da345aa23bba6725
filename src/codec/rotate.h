/* rotate.h - step 3: incoherence by a randomised Hadamard rotation of a tile. */
#ifndef VCL_ROTATE_H
#define VCL_ROTATE_H

#include <stdint.h>

/* x: rows x cols values, row-major, rotated in place on both sides. */
void vcl_rotate(float *x, uint32_t rows, uint32_t cols, uint32_t seed);
void vcl_rotate_back(float *x, uint32_t rows, uint32_t cols, uint32_t seed);

#endif
