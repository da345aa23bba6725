/* frames.h - what info and compress say of a compressed model and of one tensor of it. */
#ifndef VCL_FRAMES_H
#define VCL_FRAMES_H

#include "cli.h"
#include "jobs/totals.h"

/* name, shape, dtype, codec, bytes, bits, snr and the rest of a frame's header; target NULL: no alias. */
json_t *vcl_frame_json(const struct vcl_entry *entry, const struct vcl_info *info,
                       const struct vcl_entry *target);
/* The same of a tensor that is not compressed. */
json_t *vcl_plain_json(const struct vcl_entry *entry);
/* 8 x frame bytes / values; 0 for an empty tensor. */
double vcl_frame_bits(const struct vcl_info *info);

void vcl_totals_print(const struct vcl_totals *totals);
json_t *vcl_totals_json(const struct vcl_totals *totals);

#endif
