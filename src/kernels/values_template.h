/* values_template.h - the loops of base/loops.h, compiled once per level of CPU.
 *
 * KERNEL(name) and TARGET tell which. */
#include "base/loops.h"
#include "kernels/values_loops.h"

TARGET void KERNEL(to_f32)(enum vcl_dtype dtype, const void *src, float *dst, size_t n)
{
    vcl_loop_to_f32(dtype, src, dst, n);
}

TARGET void KERNEL(compare)(enum vcl_dtype dtype, const void *x, const void *y, size_t n,
                            struct vcl_error_sums *sums)
{
    vcl_loop_compare(dtype, x, y, n, sums);
}

TARGET double KERNEL(energy)(const float *x, const double *weight, size_t n)
{
    return weight ? vcl_loop_energy(x, weight, n) : vcl_loop_energy(x, NULL, n);
}
