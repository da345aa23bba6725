/* decode.h - a frame to a whole tensor, or to some of its rows. */
#ifndef VCL_DECODE_H
#define VCL_DECODE_H

#include "codec/env.h"
#include "codec/frame.h"

/* header: the frame's first frame->header_bytes bytes, already parsed into *frame and checked against
 * the length.  first, count: dims[0] indices, within the tensor. */
enum vcl_status vcl_decode_frame(const struct vcl_env *env, const struct vcl_frame *frame,
                                 const uint8_t *header, const struct vcl_source *source, uint64_t first,
                                 uint64_t count, const char *decoder, const struct vcl_sink *sink);

#endif
