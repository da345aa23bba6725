/* lossless_loops.h - the loops of lossless coding: what they take, and their portable definition. */
#ifndef VCL_LOSSLESS_LOOPS_H
#define VCL_LOSSLESS_LOOPS_H

#include "base/cpu.h"

#include <stddef.h>
#include <stdint.h>

/* ---- rANS: 32-bit states from 2^16 on, 16-bit renormalisation, 12-bit probabilities ------------ */

#define VCL_RANS_BITS 12
#define VCL_RANS_TOTAL (1u << VCL_RANS_BITS)
#define VCL_RANS_LOW (1u << 16) /* the least a state can be, and where it starts */
#define VCL_RANS_LANES 32       /* symbol i belongs to lane i mod 32 */

/* Tables.  Encoding: one entry per symbol, frequency | start << 16, and the first | the last << 8 of the
 * symbols that have a frequency.  Decoding: one entry per slot, symbol | (slot - start) << 8 | frequency
 * << 20.  So a frequency is 1 to 4095. */
#define VCL_RANS_ENCODE_ENTRIES 257
#define VCL_RANS_DECODE_ENTRIES VCL_RANS_TOTAL

/* ---- byte planes ------------------------------------------------------------------------------- */

/* What is done to a value, an unsigned number of its width, before it is cut into bytes
 * (docs/format.md, Codec 5). */
enum vcl_fold {
    VCL_FOLD_NONE = 0,
    VCL_FOLD_ROTATE, /* sign bit to the lowest place */
    VCL_FOLD_NARROW, /* and the exponent, less `base`, from 8 bits to 7 */
    VCL_FOLD_ZIGZAG  /* 0, -1, 1, -2 ... to 0, 1, 2, 3 ... */
};

struct vcl_plane_split {
    unsigned width; /* bytes of a value: 2, 4 or 8 */
    enum vcl_fold fold;
    unsigned base; /* of narrow: 0 to 255 */
};

#define VCL_MAX_PLANES 8
#define VCL_PACK_GROUP 512 /* values below 128 that go into 7/8 as many bytes */

struct vcl_byte_range {
    uint8_t least, most;
    uint8_t least_positive; /* 255 if there is none */
};

#define VCL_LOSSLESS_LEVEL(LEVEL, L, has)                                                               \
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

VCL_CPU_LEVELS(VCL_LOSSLESS_LEVEL)

/* Portable rANS over the first `lanes` states: the definition, and what the other levels end with. */
uint8_t *vcl_rans_encode_lanes(uint32_t *states, size_t lanes, const uint8_t *src, size_t n,
                               const uint32_t *table, uint8_t *end);
const uint8_t *vcl_rans_decode_lanes(uint32_t *states, size_t lanes, const uint8_t *words, const uint8_t *end,
                                     const uint32_t *table, uint8_t *dst, size_t n);

#endif
