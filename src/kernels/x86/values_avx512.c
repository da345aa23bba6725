/* values_avx512.c - the loops over values with AVX-512. */
#include "kernels/x86/avx512.h"

#include "kernels/values_template.h"
