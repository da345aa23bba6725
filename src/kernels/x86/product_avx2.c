/* product_avx2.c - the loops of products with coded matrices with AVX2. */
#include "kernels/product_loops.h"
#include "kernels/x86/lanes_avx2.h"

INLINE vf f_scale(vf x, const float *factor) { return f_mul(x, f_set(*factor)); }

/* A table of 64 would take seven permutations and their choice: where points are wide, those that are not
 * looked up are computed at once. */
enum { NARROW = VCL_NEAR / 2, WIDE = NARROW, PART_VECTORS = 4, PART_OUTPUTS = VECTORS / 2 };

INLINE void next_entries(struct lanes *s, const uint32_t *slots, vi entry[VECTORS])
{
    const vi active[VECTORS] = { i_bits(UINT32_MAX), i_bits(UINT32_MAX), i_bits(UINT32_MAX),
                                 i_bits(UINT32_MAX) };
    take_symbols(s, slots, active, 1, entry);
    turn_trellis(s, entry, 21);
}

INLINE void store_points(const vi entry[VECTORS], int16_t *j)
{
    vi index[VECTORS];
    UNROLL
    for (int v = 0; v < VECTORS; v++)
        index[v] = _mm256_srai_epi32(entry[v], 20);
    store_indices(j, index);
}

/* What stands at j & 31 of the table's middle, j being an entry's from bit 20 on. */
INLINE vf permute(const float *table, vi entry)
{
    const vi j = _mm256_srli_epi32(entry, 20);
    const vf third = _mm256_castsi256_ps(_mm256_slli_epi32(entry, 8));
    const vf fourth = _mm256_castsi256_ps(_mm256_slli_epi32(entry, 7));
    const vf a = _mm256_permutevar8x32_ps(f_load(table), j);
    const vf b = _mm256_permutevar8x32_ps(f_load(table + WIDTH), j);
    const vf c = _mm256_permutevar8x32_ps(f_load(table + 6 * WIDTH), j);
    const vf d = _mm256_permutevar8x32_ps(f_load(table + 7 * WIDTH), j);
    return _mm256_blendv_ps(_mm256_blendv_ps(a, b, third), _mm256_blendv_ps(c, d, third), fourth);
}

INLINE vf near_points(const float *table, vi index) { return permute(table, _mm256_slli_epi32(index, 20)); }

INLINE vf near_values(const float *table, vi entry, int wide)
{
    (void)wide;
    return permute(table, entry);
}

#include "kernels/product_template.h"
