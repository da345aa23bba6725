/* rotation.h - a random rotation of any length that keeps the vector of ones, and is its own inverse. */
#ifndef VCL_RUN_ROTATION_H
#define VCL_RUN_ROTATION_H

#include <stddef.h>
#include <stdint.h>

enum { VCL_ROTATION_LANES = 16 }; /* vectors that are rotated side by side */

struct vcl_rotation;

/* n >= 1.  NULL where memory is out. */
struct vcl_rotation *vcl_rotation_create(size_t n, uint64_t seed);
void vcl_rotation_destroy(struct vcl_rotation *rotation); /* NULL is fine */
/* Doubles of scratch that vcl_rotation_apply takes. */
size_t vcl_rotation_scratch(const struct vcl_rotation *rotation);
/* x: [n][VCL_ROTATION_LANES], in place.  The same bits on every machine. */
void vcl_rotation_apply(const struct vcl_rotation *rotation, double *x, double *scratch);

#endif
