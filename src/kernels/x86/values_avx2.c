/* values_avx2.c - the loops over values with AVX2. */
#include "kernels/x86/avx2.h"

#include "kernels/values_template.h"
