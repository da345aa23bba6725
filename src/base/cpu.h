/* cpu.h - which instruction sets the machine has, as one ladder.
 *
 * VCL_CPU_LEVELS is the one list of levels: the names, the detection, the declarations of every level's
 * functions (kernels/..._loops.h) and the tables of them (kernels/kernels.c) are made of it; the runtime,
 * which sees include/ alone, asks vcl_cpu. */
#ifndef VCL_CPU_H
#define VCL_CPU_H

/* The lowest first; each has all that the ones before it have.  X(LEVEL, name, has): what a machine must have
 * besides for it.  The compiler is told by TARGET in kernels/x86/. */
#if defined(__x86_64__)
#define VCL_CPU_LEVELS(X)                                                                     \
    X(C, c, 1)                                                                                \
    X(AVX2, avx2, VCL_HAS("avx2") && VCL_HAS("fma") && VCL_HAS("bmi") && VCL_HAS("bmi2"))     \
    X(AVX512, avx512,                                                                         \
      VCL_HAS("avx512f") && VCL_HAS("avx512bw") && VCL_HAS("avx512dq") && VCL_HAS("avx512vl") \
          && VCL_HAS("avx512cd"))
#else
#define VCL_CPU_LEVELS(X) X(C, c, 1)
#endif

#define VCL_CPU_ENTRY(LEVEL, name, has) VCL_CPU_##LEVEL,
enum vcl_cpu_level { VCL_CPU_LEVELS(VCL_CPU_ENTRY) VCL_CPU_COUNT };
#undef VCL_CPU_ENTRY

/* The highest level of this machine. */
enum vcl_cpu_level vcl_cpu_detect(void);

/* The same, lowered to what the environment's VCLLM_CPU (c, avx2 or avx512) names.  A word that is none of
 * them, and a level the machine does not have, change nothing. */
enum vcl_cpu_level vcl_cpu_level(void);

/* "avx2" */
const char *vcl_cpu_name(enum vcl_cpu_level level);

#endif
