/* mix_avx512.c - a vector times a matrix with AVX-512. */
#include "kernels/x86/avx512.h"

#include "kernels/mix_template.h"
