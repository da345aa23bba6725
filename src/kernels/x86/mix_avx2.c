/* mix_avx2.c - a vector times a matrix with AVX2. */
#include "kernels/x86/avx2.h"

#include "kernels/mix_template.h"
