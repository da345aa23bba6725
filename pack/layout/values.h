/* values.h - any stretch of a tensor's values, whether its model is compressed or not. */
#ifndef VCL_VALUES_H
#define VCL_VALUES_H

#include "common/errand.h"

struct vcl_values {
    struct vcl_errand *job;
    const struct vcl_model *model;
    const struct vcl_entry *entry;  /* as named */
    const struct vcl_entry *stored; /* where its bytes are: an alias leads elsewhere */
    struct vcl_tensor tensor;       /* as it decodes */
    uint64_t count, bytes;
    int compressed;
    struct vcl_info info; /* if compressed: of the stored frame */
    const char *decoder;
};

enum vcl_status vcl_values_open(struct vcl_errand *job, struct vcl_values *values,
                                const struct vcl_model *model, const struct vcl_entry *entry,
                                const char *decoder);
/* Bytes offset to offset+n-1 of the decoded tensor.  Decodes the tiles that overlap. */
enum vcl_status vcl_values_read(const struct vcl_values *values, struct vcl_context *ctx, uint64_t offset,
                                void *dst, size_t n);
/* Whole values per call with which a walk through the tensor decodes every tile once, or nearly; in bytes. */
size_t vcl_values_step(const struct vcl_values *values);

/* Decodes dims[0] indices first to first+count-1 into the sink; writer: whose sink it is, for the message,
 * or NULL. */
enum vcl_status vcl_values_decode(const struct vcl_values *values, struct vcl_context *ctx, uint64_t first,
                                  uint64_t count, const struct vcl_sink *sink,
                                  const struct vcl_writer *writer);

/* Fails with "FILE: tensor 'NAME' at offset N: " and why. */
enum vcl_status vcl_fail_at(struct vcl_errand *job, enum vcl_status status, const struct vcl_model *model,
                            const struct vcl_entry *entry, const char *why);

/* A sink that converts to another float dtype on its way to `to`. */
struct vcl_converter {
    enum vcl_dtype from, dtype;
    struct vcl_sink to;
};
struct vcl_sink vcl_converter_sink(struct vcl_converter *converter);

/* A sink into memory: a window of `bytes` bytes that starts at `base`; what falls outside is dropped, or
 * refused where `strict` is set. */
struct vcl_window {
    unsigned char *at;
    uint64_t base, bytes;
    int strict;
};
struct vcl_sink vcl_window_sink(struct vcl_window *window);

#endif
