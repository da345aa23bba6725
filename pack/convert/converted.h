/* converted.h - a tensor of a GGUF file as the checkpoint has it that the file was made from. */
#ifndef VCL_CONVERTED_H
#define VCL_CONVERTED_H

#include "common/errand.h"

struct vcl_converted {
    const struct vcl_entry *from;
    char *name;
    struct vcl_tensor tensor; /* as it will be */
    uint64_t bytes;
    uint64_t heads; /* not 0: rows of each head go from pairs to halves */
    int transposed; /* the input's matrix is the transpose */
};

/* n bytes of it from `offset` on, both whole values and within tensor->bytes.  VCL_E_FORMAT where a value is
 * beyond the range of the dtype it shall have. */
enum vcl_status vcl_converted_read(struct vcl_errand *job, const struct vcl_model *model,
                                   const struct vcl_converted *tensor, uint64_t offset, void *dst, size_t n);

#endif
