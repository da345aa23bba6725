/* lossless_c.c - the loops of lossless coding in portable C: the definition of what they compute. */
#include "kernels/lossless_loops.h"
#include "kernels/portable.h"

#include "base/common.h"

#define BYTES 16
#include "kernels/planes_template.h"

uint8_t *vcl_rans_encode_lanes(uint32_t *states, size_t lanes, const uint8_t *src, size_t n,
                               const uint32_t *table, uint8_t *end)
{
    for (size_t i = n, lane = n % lanes; i > 0; i--) {
        lane = (lane ? lane : lanes) - 1;
        const uint32_t entry = table[src[i - 1]], frequency = entry & 0xffff;
        uint32_t x = states[lane];
        if (x >> 20 >= frequency) { /* so that it stays below 2^32 */
            end -= 2;
            vcl_store16(end, (uint16_t)x);
            x >>= 16;
        }
        states[lane] = (x / frequency << VCL_RANS_BITS) + x % frequency + (entry >> 16);
    }
    return end;
}

const uint8_t *vcl_rans_decode_lanes(uint32_t *states, size_t lanes, const uint8_t *words, const uint8_t *end,
                                     const uint32_t *table, uint8_t *dst, size_t n)
{
    for (size_t i = 0, lane = 0; i < n; i++, lane = lane + 1 == lanes ? 0 : lane + 1) {
        const uint32_t entry = table[states[lane] & (VCL_RANS_TOTAL - 1)];
        uint32_t x = (entry >> 20) * (states[lane] >> VCL_RANS_BITS) + (entry >> 8 & (VCL_RANS_TOTAL - 1));
        if (x < VCL_RANS_LOW) {
            if (end - words < 2)
                return NULL;
            x = x << 16 | vcl_load16(words);
            words += 2;
        }
        states[lane] = x;
        dst[i] = (uint8_t)entry;
    }
    return words;
}

uint8_t *vcl_rans_encode_c(uint32_t *states, const uint8_t *src, size_t n, const uint32_t *table,
                           uint8_t *end)
{
    return vcl_rans_encode_lanes(states, VCL_RANS_LANES, src, n, table, end);
}

const uint8_t *vcl_rans_decode_c(uint32_t *states, const uint8_t *words, const uint8_t *end,
                                 const uint32_t *table, uint8_t *dst, size_t n)
{
    return vcl_rans_decode_lanes(states, VCL_RANS_LANES, words, end, table, dst, n);
}
