/* trellis.h - stage 4: the quantiser, scalar and trellis-coded. */
#ifndef VCL_TRELLIS_H
#define VCL_TRELLIS_H

#include "kernels/tensor_loops.h"

/* Bytes of scratch kernels->search needs. */
size_t vcl_trellis_scratch(int v, uint32_t cols);

/* A class' costs, 64 for each union codebook, as the search looks them up (kernels/tensor_loops.h). */
void vcl_trellis_windows(const float costs[2 * VCL_MODEL_SYMBOLS], float windows[VCL_WINDOWS][8]);

#endif
