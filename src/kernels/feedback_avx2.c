/* feedback_avx2.c - the search with error feedback with AVX2. */
#if defined(__x86_64__)

#define KERNEL(name) vcl_##name##_avx2
#define TARGET __attribute__((target("avx2,bmi,bmi2,popcnt")))
#include "kernels/feedback_template.h"

#endif
