/* blocks.h - the types of ggml's tensors: how values are stored, and how blocks of quantised ones decode. */
#ifndef VCL_BLOCKS_H
#define VCL_BLOCKS_H

#include "base/common.h"
#include "vcllm.h"

enum {
    VCL_BLOCK_STORED_MAX = 210, /* bytes of a block */
    VCL_BLOCK_BYTES_MAX = 1024  /* of its values */
};

struct vcl_blocks {
    uint32_t number; /* enum ggml_type */
    const char *name;
    enum vcl_dtype dtype; /* of the values as they are presented */
    unsigned values;      /* of a block; 1: stored as presented */
    unsigned bytes;       /* of a stored block */
    void (*decode)(const uint8_t *block, float *values);
};

/* NULL where the type is none that is read; then its name, NULL where there is none either. */
const struct vcl_blocks *vcl_blocks_find(uint32_t number);
const char *vcl_blocks_name(uint32_t number);
/* One block of a quantised type to little-endian values of its dtype. */
void vcl_blocks_decode(const struct vcl_blocks *type, const uint8_t *block, uint8_t *dst);

#endif
