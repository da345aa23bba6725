/* multiples.h - step 7, lossless: values that are small integers times a scale to codes. */
#ifndef VCL_MULTIPLES_H
#define VCL_MULTIPLES_H

#include "base/mem.h"
#include "codec/levels.h"

struct vcl_multiples_finder;

/* For runs of at most n values of the tensor, `shortest` of which share a scale at least.  NULL: no memory */
struct vcl_multiples_finder *vcl_multiples_create(const struct vcl_mem *mem, const struct vcl_tensor *tensor,
                                                  size_t n, uint32_t shortest);
void vcl_multiples_destroy(const struct vcl_mem *mem, struct vcl_multiples_finder *finder);

/* Are n values of levels->dtype, the first of them value `begin` of the tensor, integers times scales, plus
 * offsets where there may be `offsets`, and would they take less than `most` bytes so?  If so, fills
 * `levels`, whose scales and offsets have room for n / `shortest` + 2, and vcl_multiples_code can follow. */
int vcl_multiples_find(struct vcl_multiples_finder *finder, const uint8_t *raw, size_t n, uint64_t begin,
                       int offsets, size_t most, struct vcl_levels *levels);
/* A code for each value; those of literals one after the other to `literals`.  Returns how many. */
size_t vcl_multiples_code(const struct vcl_multiples_finder *finder, const struct vcl_levels *levels,
                          const uint8_t *raw, size_t n, uint8_t *codes, uint8_t *literals);

#endif
