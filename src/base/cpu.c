/* cpu.c - which instruction sets the machine has, as one ladder.
 *
 * Three rungs are enough: machines with AVX2 but without BMI2 or F16C are too rare to be worth a fourth. */
#include "base/cpu.h"

#include <stdlib.h>
#include <string.h>

static const char *const names[VCL_CPU_COUNT] = { "c", "avx2", "avx512" };

const char *vcl_cpu_name(enum vcl_cpu_level level) { return names[level]; }

enum vcl_cpu_level vcl_cpu_detect(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
                  && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    const int avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
                    && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")
                    && __builtin_cpu_supports("avx512cd");
    return avx512 ? VCL_CPU_AVX512 : avx2 ? VCL_CPU_AVX2 : VCL_CPU_C;
#else
    return VCL_CPU_C;
#endif
}

enum vcl_cpu_level vcl_cpu_level(void)
{
    const enum vcl_cpu_level most = vcl_cpu_detect();
    const char *const word = getenv("VCLLM_CPU");
    for (int level = VCL_CPU_C; word && level < (int)most; level++)
        if (strcmp(word, names[level]) == 0)
            return (enum vcl_cpu_level)level;
    return most;
}
