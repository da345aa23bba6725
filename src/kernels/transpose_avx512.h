/* transpose_avx512.h - 16 vectors of 16 floats, turned over.
 *
 * Included where TARGET, INLINE and UNROLL are defined. */
#ifndef VCL_TRANSPOSE_AVX512_H
#define VCL_TRANSPOSE_AVX512_H

/* Rows become columns: first within quarters of vectors, then the quarters change places. */
INLINE void transpose(__m512 r[16])
{
    __m512 s[16];
    UNROLL
    for (int i = 0; i < 16; i += 4) {
        const __m512 a = _mm512_unpacklo_ps(r[i], r[i + 1]), b = _mm512_unpackhi_ps(r[i], r[i + 1]);
        const __m512 c = _mm512_unpacklo_ps(r[i + 2], r[i + 3]), d = _mm512_unpackhi_ps(r[i + 2], r[i + 3]);
        s[i] = _mm512_shuffle_ps(a, c, 0x44);
        s[i + 1] = _mm512_shuffle_ps(a, c, 0xee);
        s[i + 2] = _mm512_shuffle_ps(b, d, 0x44);
        s[i + 3] = _mm512_shuffle_ps(b, d, 0xee);
    }
    UNROLL
    for (int i = 0; i < 4; i++) {
        const __m512 a = _mm512_shuffle_f32x4(s[i], s[i + 4], 0x88);
        const __m512 b = _mm512_shuffle_f32x4(s[i], s[i + 4], 0xdd);
        const __m512 c = _mm512_shuffle_f32x4(s[i + 8], s[i + 12], 0x88);
        const __m512 d = _mm512_shuffle_f32x4(s[i + 8], s[i + 12], 0xdd);
        r[i] = _mm512_shuffle_f32x4(a, c, 0x88);
        r[i + 4] = _mm512_shuffle_f32x4(b, d, 0x88);
        r[i + 8] = _mm512_shuffle_f32x4(a, c, 0xdd);
        r[i + 12] = _mm512_shuffle_f32x4(b, d, 0xdd);
    }
}

#endif
