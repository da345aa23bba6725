/* product_avx2.c - the loops of products with coded matrices with AVX2. */
#if defined(__x86_64__)

#include <immintrin.h>

#define KERNEL(name) vcl_##name##_avx2
#define TARGET __attribute__((target("avx2,fma,f16c,bmi,bmi2,popcnt")))
#define INLINE TARGET static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#include "kernels/lanes_avx2.h"
#include "kernels/product_loops.h"
#include "kernels/transpose_avx2.h"

typedef __m256 vf;
typedef __m256i vi;

INLINE vf f_set(float x) { return _mm256_set1_ps(x); }
INLINE vf f_load(const float *p) { return _mm256_loadu_ps(p); }
INLINE void f_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
INLINE vf f_add(vf x, vf y) { return _mm256_add_ps(x, y); }
INLINE vf f_mul(vf x, vf y) { return _mm256_mul_ps(x, y); }
INLINE vf f_scale(vf x, const float *factor) { return f_mul(x, f_set(*factor)); }

/* A table of 64 would take seven permutations and their choice: where points are wide, those that are not
 * looked up are computed at once. */
enum { NARROW = VCL_NEAR / 2, WIDE = VCL_ESCAPE_POINT, PART_VECTORS = 4, PART_OUTPUTS = VECTORS / 2 };

INLINE void next_entries(struct lanes *s, const uint32_t *slots, vi entry[VECTORS])
{
    const vi active[VECTORS] = { set1(UINT32_MAX), set1(UINT32_MAX), set1(UINT32_MAX), set1(UINT32_MAX) };
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

INLINE vf round_to(enum vcl_dtype dtype, vf x)
{
    const vi u = _mm256_castps_si256(x), odd = _mm256_and_si256(_mm256_srli_epi32(u, 16), set1(1));
    const vi y = _mm256_add_epi32(u, _mm256_add_epi32(odd, set1(0x7fff)));
    if (dtype == VCL_DTYPE_BF16)
        return _mm256_castsi256_ps(_mm256_and_si256(y, set1(0xffff0000)));
    if (dtype == VCL_DTYPE_F16)
        return _mm256_cvtph_ps(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
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

/* Points beyond NARROW: on the lattice, but for those within VCL_NEAR that move. */
INLINE vf far_points(const struct vcl_point_values *values, vi index)
{
    const vi near = _mm256_and_si256(index, set1(2 * VCL_NEAR - 1));
    const vi back = _mm256_sub_epi32(_mm256_xor_si256(near, set1(VCL_NEAR)), set1(VCL_NEAR));
    const vf points = _mm256_cvtepi32_ps(index);
    if (!values->moved)
        return points;
    return _mm256_mask_i32gather_ps(points, values->point, near,
                                    _mm256_castsi256_ps(_mm256_cmpeq_epi32(back, index)), sizeof(float));
}

INLINE void correct_far(const struct vcl_point_values *values, const vi entry[VECTORS], uint32_t c,
                        vf w[VECTORS])
{
    UNROLL
    for (int v = 0; v < VECTORS; v++) {
        const vf points = far_points(values, _mm256_srai_epi32(entry[v], 20));
        const vf far = _mm256_castsi256_ps(beyond(entry[v], NARROW));
        w[v] = _mm256_blendv_ps(w[v], values_of(values, points, c), far);
    }
}

INLINE void look_up(const float *table, const struct vcl_point_values *values, const vi entry[VECTORS],
                    uint32_t c, int wide, vf w[VECTORS])
{
    UNROLL
    for (int v = 0; v < VECTORS; v++)
        w[v] = permute(table, entry[v]);
    if (wide)
        correct_far(values, entry, c, w);
}

TARGET void vcl_find_values_avx2(const struct vcl_point_values *values, const int16_t *j, uint32_t first,
                                 uint32_t count, float *w)
{
    for (uint32_t c = first; c < first + count; c++)
        for (int v = 0; v < VECTORS; v++, j += WIDTH, w += WIDTH) {
            const vi index = _mm256_cvtepi16_epi32(_mm_loadu_si128((const void *)j));
            const vi shifted = _mm256_add_epi32(index, set1(NARROW)); /* of all 16 bits, unlike an entry's */
            const vi outside = _mm256_cmpeq_epi32(_mm256_max_epu32(shifted, set1(2 * NARROW)), shifted);
            const vf far = _mm256_castsi256_ps(outside);
            const vf near = permute(values->point, _mm256_slli_epi32(index, 20));
            f_store(w, values_of(values, _mm256_blendv_ps(near, far_points(values, index), far), c));
        }
}

#include "kernels/product_template.h"

#endif
