/* levels.h - stage 8: values of few levels to codes and back. */
#ifndef VCL_LEVELS_H
#define VCL_LEVELS_H

#include "base/mem.h"
#include "vcllm.h"

enum {
    VCL_LEVELS_MOST = 255,
    VCL_LEVELS_GROUP = 16 /* the fewest values that share a scale */
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
    float *scales;            /* one for every segment */
};

/* Segments of n values. */
size_t vcl_levels_segments(const struct vcl_levels *levels, size_t n);

/* ---- encoding */

struct vcl_levels_finder;

/* For runs of at most n values of the tensor.  NULL: no memory. */
struct vcl_levels_finder *vcl_levels_create(const struct vcl_mem *mem, const struct vcl_tensor *tensor,
                                            size_t n);
void vcl_levels_destroy(const struct vcl_mem *mem, struct vcl_levels_finder *finder);

/* Do n values, numbers of levels->width bytes, lie on few points, and do they take less than `most` bytes so?
 * Gives up early on ordinary weights.  If so, fills `levels`, and vcl_levels_code can follow. */
int vcl_levels_find_palette(struct vcl_levels_finder *finder, const uint8_t *raw, size_t n, size_t most,
                            struct vcl_levels *levels);
/* The same for points times scales; begin: where in the tensor the first value stands.  levels->scales has room
 * for n / VCL_LEVELS_GROUP + 2. */
int vcl_levels_find_scales(struct vcl_levels_finder *finder, const uint8_t *raw, size_t n, uint64_t begin,
                           size_t most, struct vcl_levels *levels);
/* A code for each value; those of literals one after the other to `literals`.  Returns how many. */
size_t vcl_levels_code(const struct vcl_levels_finder *finder, const struct vcl_levels *levels,
                       const uint8_t *raw, size_t n, uint8_t *codes, uint8_t *literals);

/* ---- decoding: the values of `count` codes, the first of them value `begin` of the tile */
void vcl_levels_values(const struct vcl_levels *levels, const uint8_t *codes, size_t begin, size_t count,
                       uint8_t *dst);

#endif
