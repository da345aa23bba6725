/* rans.h - step 7, lossless: static order-0 models, their tables, and what they cost. */
#ifndef VCL_RANS_H
#define VCL_RANS_H

#include "kernels/kernels.h"

/* Bytes of the longest table vcl_rans_put_table writes: 2, and 256 times 4 + 11 bits. */
#define VCL_RANS_TABLE_BYTES 482

/* Frequencies in proportion to the counts, of sum VCL_RANS_TOTAL, none of them all of it; every counted
 * symbol has one.  Counts must sum to less than 2^32. */
void vcl_rans_normalise(const uint32_t counts[256], uint16_t frequencies[256]);

/* Bits that symbols of these counts take, rounded up. */
uint64_t vcl_rans_cost(const uint32_t counts[256], const uint16_t frequencies[256]);

/* Frequencies to bytes and back.  Both return the bytes used; reading gives 0 if they are no table of this
 * total, at most 2^12. */
size_t vcl_rans_put_table(const uint16_t frequencies[256], uint8_t *dst);
size_t vcl_rans_get_table(const uint8_t *src, size_t bytes, uint32_t total, uint16_t frequencies[256]);

/* The tables of kernels.h. */
void vcl_rans_encode_table(const uint16_t frequencies[256], uint32_t table[VCL_RANS_ENCODE_ENTRIES]);
void vcl_rans_decode_table(const uint16_t frequencies[256], uint32_t table[VCL_RANS_DECODE_ENTRIES]);

#endif
