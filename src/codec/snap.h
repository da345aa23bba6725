/* snap.h - step 7, lossless: scales and offsets that are integers times a scale of their own. */
#ifndef VCL_SNAP_H
#define VCL_SNAP_H

#include "codec/segment.h"

/* Takes n numbers, each of which may lie anywhere within its bounds, in runs of `length`, the first of
 * `first`, for integers times one scale a run, where most of a run can be that; the others of `numbers` stay
 * as they are. Returns how many were taken so.  `work` is spoilt. */
size_t vcl_snap(struct vcl_segment *work, const struct vcl_bounds *bounds, size_t n, size_t first,
                unsigned length, float *numbers);

#endif
