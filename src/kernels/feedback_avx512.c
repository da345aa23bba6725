/* feedback_avx512.c - the search with error feedback with AVX-512. */
#if defined(__x86_64__)

#define KERNEL(name) vcl_##name##_avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512cd,avx2,bmi,bmi2,popcnt")))
#include "kernels/feedback_template.h"

#endif
