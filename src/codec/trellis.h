/* trellis.h - step 5: the quantiser, scalar and trellis-coded. */
#ifndef VCL_TRELLIS_H
#define VCL_TRELLIS_H

#include "codec/model.h"

/* Bytes of scratch kernels->search needs. */
size_t vcl_trellis_scratch(int v, uint32_t cols);
/* And kernels->search_feedback. */
size_t vcl_feedback_scratch(int v, uint32_t cols);

/* The bits of a class' indices as the search weighs them, a bit being worth lambda squared half-steps: a
 * parabola through those of the points that are near for a deviation of 2^octave half-steps, a line
 * through the others'.  `shift` low bits of an index are outside the model. */
struct vcl_bend vcl_trellis_bend(const struct vcl_symbol_model *model, int octave, float lambda,
                                 unsigned shift);

#endif
