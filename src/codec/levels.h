/* levels.h - step 7, lossless: what the codes of a tile of few levels stand for. */
#ifndef VCL_LEVELS_H
#define VCL_LEVELS_H

#include "vcllm.h"

enum {
    VCL_LEVELS_MOST = 255,
    VCL_LEVELS_GROUP = 16, /* the fewest values that share a scale */
    VCL_LEVELS_INNER = 8   /* the fewest scales that do */
};

/* What the codes of a tile stand for (docs/format.md, Codec 5).  Code `count` is a literal. */
struct vcl_levels {
    unsigned width;           /* bytes of a value */
    unsigned count;           /* levels, 1 to VCL_LEVELS_MOST */
    uint32_t group, first;    /* values that share a scale, and of these the tile's first; 0: no scales */
    enum vcl_dtype dtype;     /* the values' */
    enum vcl_dtype rounding;  /* with scales: of the products */
    uint8_t palette[256 * 8]; /* without: the levels, `width` bytes each */
    float points[256];        /* with scales: the levels */
    int has_offsets;          /* with scales */
    float *scales, *offsets;  /* one for every segment */
};

/* Segments of n values, and where one begins; that of the one after the last is n. */
size_t vcl_levels_segments(const struct vcl_levels *levels, size_t n);
size_t vcl_levels_begin(const struct vcl_levels *levels, size_t segment, size_t n);

/* Products, or sums, as the values they are rounded to; y is spoilt. */
void vcl_levels_round(const struct vcl_levels *levels, float *y, size_t n, uint8_t *dst);

/* The values of `count` codes, the first of them value `begin` of the tile. */
void vcl_levels_values(const struct vcl_levels *levels, const uint8_t *codes, size_t begin, size_t count,
                       uint8_t *dst);

#endif
