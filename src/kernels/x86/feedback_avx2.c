/* feedback_avx2.c - the search with error feedback with AVX2. */
#include "kernels/x86/avx2.h"

#include "kernels/feedback_template.h"
