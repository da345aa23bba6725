/* cpu.c - which instruction sets the machine has, as one ladder.
 *
 * Three rungs are enough: machines with AVX2 but without BMI2 or F16C are too rare to be worth a fourth. */
#include "base/cpu.h"

#include <stdlib.h>
#include <string.h>

#define NAME(LEVEL, name, has) #name,
static const char *const names[VCL_CPU_COUNT] = { VCL_CPU_LEVELS(NAME) };

const char *vcl_cpu_name(enum vcl_cpu_level level) { return names[level]; }

#define VCL_HAS(feature) __builtin_cpu_supports(feature)
#define STEP(LEVEL, name, has)                          \
    if ((int)VCL_CPU_##LEVEL == (int)most + 1 && (has)) \
        most = VCL_CPU_##LEVEL;

enum vcl_cpu_level vcl_cpu_detect(void)
{
    enum vcl_cpu_level most = VCL_CPU_C;
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    VCL_CPU_LEVELS(STEP)
    return most;
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
