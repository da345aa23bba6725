/* values_avx512.c - the loops over values with AVX-512. */
#if defined(__x86_64__)

#define KERNEL(name) vcl_##name##_avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx2,bmi,bmi2,popcnt")))
#include "kernels/values_template.h"

#endif
