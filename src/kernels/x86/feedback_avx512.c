/* feedback_avx512.c - the search with error feedback with AVX-512. */
#include "kernels/x86/avx512.h"

#include "kernels/feedback_template.h"
