/* palette.h - step 7, lossless: values of few levels to codes of a palette. */
#ifndef VCL_PALETTE_H
#define VCL_PALETTE_H

#include "base/mem.h"
#include "codec/levels.h"

struct vcl_palette_finder;

/* NULL: no memory. */
struct vcl_palette_finder *vcl_palette_create(const struct vcl_mem *mem);
void vcl_palette_destroy(const struct vcl_mem *mem, struct vcl_palette_finder *finder);

/* How many of n numbers of 2, 4 or 8 bytes differ; of 1024 and more, 1024. */
unsigned vcl_palette_unlike(struct vcl_palette_finder *finder, const uint8_t *raw, size_t n, unsigned width);

/* Do n numbers of levels->width bytes lie on few values, all of them or (literals) many, and would they
 * take less than `most` bytes so?  If so, fills `levels`, and vcl_palette_code can follow. */
int vcl_palette_find(struct vcl_palette_finder *finder, const uint8_t *raw, size_t n, int literals,
                     size_t most, struct vcl_levels *levels);
/* A code for each value; those of literals one after the other to `literals`.  Returns how many. */
size_t vcl_palette_code(const struct vcl_palette_finder *finder, const struct vcl_levels *levels,
                        const uint8_t *raw, size_t n, uint8_t *codes, uint8_t *literals);

#endif
