/* lossless_levels.h - the loops of lossless coding at every level, for kernels.c alone to choose from. */
#ifndef VCL_LOSSLESS_LEVELS_H
#define VCL_LOSSLESS_LEVELS_H

#include "kernels/kernels.h"

#define VCL_LOSSLESS_LEVEL(L)                                                                           \
    void vcl_split_##L(const struct vcl_plane_split *how, const uint8_t *src, size_t n,                 \
                       uint8_t *const *planes);                                                         \
    void vcl_join_##L(const struct vcl_plane_split *how, const uint8_t *const *planes, size_t n,        \
                      uint8_t *dst);                                                                    \
    void vcl_pack_##L(const uint8_t *src, size_t groups, uint8_t *dst);                                 \
    void vcl_unpack_##L(const uint8_t *src, size_t groups, uint8_t *dst);                               \
    void vcl_range_##L(const uint8_t *src, size_t n, struct vcl_byte_range *range);                     \
    void vcl_sum_blocks_##L(const uint8_t *src, size_t blocks, uint32_t *sums);                         \
    uint8_t *vcl_rans_encode_##L(uint32_t *states, const uint8_t *src, size_t n, const uint32_t *table, \
                                 uint8_t *end);                                                         \
    const uint8_t *vcl_rans_decode_##L(uint32_t *states, const uint8_t *words, const uint8_t *end,      \
                                       const uint32_t *table, uint8_t *dst, size_t n);

/* The levels of base/cpu.h. */
VCL_LOSSLESS_LEVEL(c)
VCL_LOSSLESS_LEVEL(avx2)
VCL_LOSSLESS_LEVEL(avx512)

#endif
