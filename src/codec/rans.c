/* rans.c - step 7, lossless: static order-0 models, their tables, and what they cost.
 *
 * In: counts of bytes.  Out: frequencies of sum 2^12, coded in about ten bits per symbol used, and the
 * tables the kernels run on.  All arithmetic is integer: the same bytes on every machine. */
#include "rans.h"

#include <string.h>

_Static_assert(VCL_RANS_BITS + 8 + VCL_RANS_BITS == 32, "symbol, place and frequency fill a table's entry");
_Static_assert(VCL_RANS_LOW >> 16 == 1 && VCL_RANS_BITS <= 16, "one word is enough to renormalise");

static uint64_t sum_counts(const uint32_t counts[256], unsigned *used)
{
    uint64_t sum = 0;
    *used = 0;
    for (int s = 0; s < 256; s++) {
        sum += counts[s];
        *used += counts[s] > 0;
    }
    return sum;
}

/* One symbol alone would have a frequency of 2^12, which does not fit the tables: a neighbour gets 1. */
static void normalise_single(const uint32_t counts[256], uint16_t frequencies[256])
{
    int s = 0;
    while (s < 255 && counts[s] == 0)
        s++;
    s = counts[s] ? s : 0;
    frequencies[s] = VCL_RANS_TOTAL - 1;
    frequencies[s ^ 1] = 1;
}

static int most_frequent(const uint16_t frequencies[256])
{
    int most = 0;
    for (int s = 1; s < 256; s++)
        most = frequencies[s] > frequencies[most] ? s : most;
    return most;
}

/* What rounding adds or takes goes to the symbols it hurts least. */
void vcl_rans_normalise(const uint32_t counts[256], uint16_t frequencies[256])
{
    unsigned used;
    const uint64_t total = sum_counts(counts, &used);
    uint32_t sum = 0;
    memset(frequencies, 0, 256 * sizeof *frequencies);
    if (used < 2) {
        normalise_single(counts, frequencies);
        return;
    }
    for (int s = 0; s < 256; s++) {
        const uint64_t f = ((uint64_t)counts[s] * VCL_RANS_TOTAL + total / 2) / total;
        frequencies[s] = (uint16_t)(counts[s] && f == 0 ? 1 : f);
        sum += frequencies[s];
    }
    for (; sum > VCL_RANS_TOTAL; sum--)
        frequencies[most_frequent(frequencies)]--;
    for (; sum < VCL_RANS_TOTAL; sum++)
        frequencies[most_frequent(frequencies)]++;
}

/* log2(x) in 1/65536, rounded down; x is 1 to 2^12.  The fraction's bits come from squaring. */
static uint32_t log2_fixed(uint32_t x)
{
    const unsigned whole = 31 - (unsigned)__builtin_clz(x);
    uint64_t mantissa = (uint64_t)x << (31 - whole); /* 1 to 2 in units of 2^-31 */
    uint32_t result = whole << 16;
    for (uint32_t bit = 1u << 15; bit; bit >>= 1) {
        mantissa = mantissa * mantissa >> 31;
        if (mantissa >> 32) {
            mantissa >>= 1;
            result |= bit;
        }
    }
    return result;
}

uint64_t vcl_rans_cost(const uint32_t counts[256], const uint16_t frequencies[256])
{
    uint64_t cost = 65535;
    for (int s = 0; s < 256; s++)
        if (counts[s])
            cost += (uint64_t)counts[s] * ((VCL_RANS_BITS << 16) - log2_fixed(frequencies[s]));
    return cost >> 16;
}

/* First and last symbol, then for each between them, lowest bits first: 4 bits, how many bits its frequency
 * has, and those bits without the leading one. */
size_t vcl_rans_put_table(const uint16_t frequencies[256], uint8_t *dst)
{
    unsigned first = 0, last = 255, bits = 0;
    uint32_t pending = 0;
    size_t at = 2;
    while (frequencies[first] == 0)
        first++;
    while (frequencies[last] == 0)
        last--;
    dst[0] = (uint8_t)first;
    dst[1] = (uint8_t)last;
    for (unsigned s = first; s <= last; s++) {
        const uint32_t f = frequencies[s], length = f ? 32 - (uint32_t)__builtin_clz(f) : 0;
        pending |= length << bits;
        bits += 4;
        if (length) {
            pending |= (f ^ 1u << (length - 1)) << bits;
            bits += length - 1;
        }
        for (; bits >= 8; bits -= 8, pending >>= 8)
            dst[at++] = (uint8_t)pending;
    }
    if (bits)
        dst[at++] = (uint8_t)pending;
    return at;
}

size_t vcl_rans_get_table(const uint8_t *src, size_t bytes, uint32_t total, uint16_t frequencies[256])
{
    uint32_t pending = 0, sum = 0;
    unsigned bits = 0;
    size_t at = 2;
    memset(frequencies, 0, 256 * sizeof *frequencies);
    if (bytes < 2 || src[0] > src[1])
        return 0;
    for (unsigned s = src[0]; s <= src[1]; s++) {
        for (; bits < 15 && at < bytes; bits += 8)
            pending |= (uint32_t)src[at++] << bits;
        const unsigned length = pending & 15, used = length ? length + 3 : 4;
        if (length > VCL_RANS_BITS || used > bits)
            return 0;
        if (length)
            frequencies[s] = (uint16_t)((pending >> 4 & ((1u << (length - 1)) - 1)) | 1u << (length - 1));
        sum += frequencies[s];
        pending >>= used;
        bits -= used;
    }
    return sum == total ? at - bits / 8 : 0;
}

void vcl_rans_encode_table(const uint16_t frequencies[256], uint32_t table[VCL_RANS_ENCODE_ENTRIES])
{
    uint32_t start = 0, first = 255, last = 0;
    for (uint32_t s = 0; s < 256; s++) {
        table[s] = frequencies[s] | start << 16;
        start += frequencies[s];
        first = frequencies[s] && s < first ? s : first;
        last = frequencies[s] ? s : last;
    }
    table[256] = first | last << 8;
}

void vcl_rans_decode_table(const uint16_t frequencies[256], uint32_t table[VCL_RANS_DECODE_ENTRIES])
{
    uint32_t slot = 0;
    for (uint32_t s = 0; s < 256; s++)
        for (uint32_t i = 0; i < frequencies[s]; i++)
            table[slot++] = s | i << 8 | (uint32_t)frequencies[s] << 20;
}
