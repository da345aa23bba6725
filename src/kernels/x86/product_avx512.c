/* product_avx512.c - the loops of products with coded matrices with AVX-512. */
#include "kernels/product_loops.h"
#include "kernels/x86/lanes_avx512.h"

/* A broadcast is free as an operand and takes a cycle of its own as a load, which is what compilers make
 * of a factor that they see used twice. */
INLINE vf f_scale(vf x, const float *factor)
{
    vf y;
    __asm__("vmulps %2%{1to16%}, %1, %0" : "=v"(y) : "v"(x), "m"(*factor));
    return y;
}

enum { NARROW = VCL_NEAR / 2, WIDE = VCL_NEAR, PART_VECTORS = 8, PART_OUTPUTS = VECTORS };

INLINE void next_entries(struct lanes *s, const uint32_t *slots, vi entry[VECTORS])
{
    __mmask16 branch[VECTORS];
    take_symbols(s, slots, UINT32_MAX, 1, entry);
    find_branches(entry, branch);
    turn_trellis(s, branch);
}

INLINE void store_points(const vi entry[VECTORS], int16_t *j) { _mm512_storeu_si512(j, indices_of(entry)); }

/* What stands at j & 31 of the table's middle, or at j & 63 of all of it. */
INLINE vf permute(const float *table, vi j, int wide)
{
    const vf x = _mm512_permutex2var_ps(f_load(table), j, f_load(table + (wide ? 1 : 3) * WIDTH));
    if (!wide)
        return x;
    const vf y = _mm512_permutex2var_ps(f_load(table + 2 * WIDTH), j, f_load(table + 3 * WIDTH));
    return _mm512_mask_mov_ps(x, _mm512_test_epi32_mask(j, i_bits(VCL_NEAR)), y);
}

INLINE vf near_points(const float *table, vi index) { return permute(table, index, 0); }

INLINE vf near_values(const float *table, vi entry, int wide)
{
    return permute(table, _mm512_srli_epi32(entry, 20), wide);
}

#include "kernels/product_template.h"
