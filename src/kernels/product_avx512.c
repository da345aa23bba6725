/* product_avx512.c - the loops of products with coded matrices with AVX-512. */
#if defined(__x86_64__)

#include <immintrin.h>

#define KERNEL(name) vcl_##name##_avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx2,bmi,bmi2,popcnt")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#include "kernels/lanes_avx512.h"
#include "kernels/product_loops.h"
#include "kernels/transpose_avx512.h"

typedef __m512 vf;
typedef __m512i vi;

INLINE vf f_set(float x) { return _mm512_set1_ps(x); }
INLINE vf f_load(const float *p) { return _mm512_loadu_ps(p); }
INLINE void f_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
INLINE vf f_add(vf x, vf y) { return _mm512_add_ps(x, y); }
INLINE vf f_mul(vf x, vf y) { return _mm512_mul_ps(x, y); }

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

INLINE vf round_to(enum vcl_dtype dtype, vf x)
{
    const vi u = _mm512_castps_si512(x), half = _mm512_add_epi32(u, set1(0x7fff));
    const vi y = _mm512_mask_add_epi32(half, _mm512_test_epi32_mask(u, set1(0x10000)), u, set1(0x8000));
    if (dtype == VCL_DTYPE_BF16)
        return _mm512_castsi512_ps(_mm512_and_si512(y, set1(0xffff0000)));
    if (dtype == VCL_DTYPE_F16)
        return _mm512_cvtph_ps(_mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
    return x;
}

/* Points to values of column c. */
INLINE vf values_of(const struct vcl_point_values *values, vf points, uint32_t c)
{
    vf x = f_mul(points, f_set(values->steps[c]));
    if (values->means)
        x = f_add(x, f_set(values->means[c]));
    return round_to(values->dtype, x);
}

/* What stands at j & 31 of the table's middle, or at j & 63 of all of it. */
INLINE vf permute(const float *table, vi j, int wide)
{
    const vf x = _mm512_permutex2var_ps(f_load(table), j, f_load(table + (wide ? 1 : 3) * WIDTH));
    if (!wide)
        return x;
    const vf y = _mm512_permutex2var_ps(f_load(table + 2 * WIDTH), j, f_load(table + 3 * WIDTH));
    return _mm512_mask_mov_ps(x, _mm512_test_epi32_mask(j, set1(VCL_NEAR)), y);
}

INLINE void look_up(const float *table, const struct vcl_point_values *values, const vi entry[VECTORS],
                    uint32_t c, int wide, vf w[VECTORS])
{
    (void)values, (void)c;
    UNROLL
    for (int v = 0; v < VECTORS; v++)
        w[v] = permute(table, _mm512_srli_epi32(entry[v], 20), wide);
}

/* Points beyond NARROW: on the lattice, but for those within VCL_NEAR that move. */
INLINE vf far_points(const struct vcl_point_values *values, vi index)
{
    const vi near = _mm512_and_si512(index, set1(2 * VCL_NEAR - 1));
    const vi back = _mm512_sub_epi32(_mm512_xor_si512(near, set1(VCL_NEAR)), set1(VCL_NEAR));
    const vf points = _mm512_cvtepi32_ps(index);
    if (!values->moved)
        return points;
    return _mm512_mask_i32gather_ps(points, _mm512_cmpeq_epi32_mask(back, index), near, values->point,
                                    sizeof(float));
}

INLINE void correct_far(const struct vcl_point_values *values, const vi entry[VECTORS], uint32_t c,
                        vf w[VECTORS])
{
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        const vf points = far_points(values, _mm512_srai_epi32(entry[v], 20));
        w[v] = _mm512_mask_mov_ps(w[v], beyond(entry[v], NARROW), values_of(values, points, c));
    }
}

TARGET void vcl_find_values_avx512(const struct vcl_point_values *values, const int16_t *j, uint32_t first,
                                   uint32_t count, float *w)
{
    for (uint32_t c = first; c < first + count; c++)
        for (int v = 0; v < VECTORS; v++, j += WIDTH, w += WIDTH) {
            const vi index = _mm512_cvtepi16_epi32(_mm256_loadu_si256((const void *)j));
            const vf near = permute(values->point, index, 0);
            const vi shifted = _mm512_add_epi32(index, set1(NARROW)); /* of all 16 bits, unlike an entry's */
            const __mmask16 far = _mm512_cmpge_epu32_mask(shifted, set1(2 * NARROW));
            f_store(w, values_of(values, _mm512_mask_mov_ps(near, far, far_points(values, index)), c));
        }
}

#include "kernels/product_template.h"

#endif
