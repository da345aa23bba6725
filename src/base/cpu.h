/* cpu.h - which instruction sets the machine has, as one ladder.
 *
 * The ladder is defined here alone.  The functions of every level are declared by VCL_*_LEVEL in
 * kernels/tensor_loops.h, product_loops.h, lossless_levels.h and values_levels.h, and kernels/kernels.c has a
 * table of them for each level.  The runtime, which sees include/ alone, asks for itself (lm/net/loops16.c). */
#ifndef VCL_CPU_H
#define VCL_CPU_H

/* Each level has all that the ones before it have. */
enum vcl_cpu_level {
    VCL_CPU_C = 0,  /* what the compiler was told to assume */
    VCL_CPU_AVX2,   /* AVX2, FMA, F16C, BMI1, BMI2 */
    VCL_CPU_AVX512, /* and AVX-512 F, BW, DQ, VL, CD */
    VCL_CPU_COUNT
};

/* The highest level of this machine. */
enum vcl_cpu_level vcl_cpu_detect(void);

/* The same, lowered to what the environment's VCLLM_CPU (c, avx2 or avx512) names.  A word that is none of
 * them, and a level the machine does not have, change nothing. */
enum vcl_cpu_level vcl_cpu_level(void);

/* "avx2" */
const char *vcl_cpu_name(enum vcl_cpu_level level);

#endif
