/* lossless.h - step 7, lossless: a tile's values to fewer bytes and exactly back. */
#ifndef VCL_LOSSLESS_H
#define VCL_LOSSLESS_H

#include "base/mem.h"
#include "kernels/kernels.h"
#include "vcllm.h"

struct vcl_lossless; /* buffers for one tile at a time */

/* For tiles of at most `bytes` bytes of the tensor, to encode or to decode.  NULL: no memory. */
struct vcl_lossless *vcl_lossless_create(const struct vcl_mem *mem, const struct vcl_tensor *tensor,
                                         size_t bytes, int encoding);
void vcl_lossless_destroy(const struct vcl_mem *mem, struct vcl_lossless *work);

/* Room that encoding needs beyond the bytes of the values, and most of it that a tile keeps. */
#define VCL_LOSSLESS_ROOM 16
#define VCL_LOSSLESS_OVERHEAD 1

/* raw, `bytes` bytes of whole values, the first of them value `begin` of the tensor, to dst, which has room
 * for bytes + VCL_LOSSLESS_ROOM.  Returns the bytes written, bytes + VCL_LOSSLESS_OVERHEAD at most. */
size_t vcl_lossless_encode(struct vcl_lossless *work, const struct vcl_kernels *kernels, uint64_t begin,
                           const uint8_t *raw, size_t bytes, uint8_t *dst);

/* The inverse.  NULL, or what is wrong with the stored bytes. */
const char *vcl_lossless_decode(struct vcl_lossless *work, const struct vcl_kernels *kernels,
                                const uint8_t *src, size_t stored, uint8_t *raw, size_t bytes);

/* About how many bits a value a lossless frame of the tensor takes, judged by `bytes` bytes of whole
 * values, the first of them value `begin`.  4096 values tell within a quarter, 65536 within a
 * twentieth, where the rest is like them.  What a tile takes whatever its length, tables and states, is
 * left out.  Without memory: the bits of the dtype. */
double vcl_lossless_estimate(const struct vcl_mem *mem, const struct vcl_kernels *kernels,
                             const struct vcl_tensor *tensor, uint64_t begin, const uint8_t *raw,
                             size_t bytes);

#endif
