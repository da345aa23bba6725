/* loops16.c - matrix times sixteen vectors, dot products, softmax and SwiGLU, at three levels of CPU. */
#include <string.h>

#include "loops16.h"
#include "vcllm.h"

enum { SUMS = 4 * VCL_LANES }; /* of a dot product */

static inline float add_sums(const float *sum)
{
    float sums[SUMS];
    memcpy(sums, sum, sizeof sums);
    for (size_t half = SUMS / 2; half; half /= 2)
        for (size_t l = 0; l < half; l++)
            sums[l] += sums[l + half];
    return sums[0];
}

static inline float widen(uint16_t bf16)
{
    const uint32_t bits = (uint32_t)bf16 << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Row j of lanes that do not have it. */
static inline void mask(float *s, size_t j, size_t lanes, const size_t *first, const size_t *end, float value)
{
    for (size_t l = 0; l < lanes; l++)
        if (j < first[l] || j >= end[l])
            s[VCL_LANES * j + l] = value;
}

#define NAME c
#define TARGET
#define BYTES 16
#define ROWS 2
#include "loops16_template.h"

#if defined(__x86_64__)

#define NAME avx2
#define TARGET __attribute__((target("avx2")))
#define BYTES 32
#define ROWS 4
#include "loops16_template.h"

#define NAME avx512
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))
#define BYTES 64
#define ROWS 8
#include "loops16_template.h"

#endif

/* By the library's level; a level that it has and this file does not takes the highest here. */
static const struct vcl_loops16 *const levels[] = {
    &level_c,
#if defined(__x86_64__)
    &level_avx2,
    &level_avx512,
#endif
};

const struct vcl_loops16 *vcl_loops16_choose(void)
{
    enum { LEVELS = sizeof levels / sizeof *levels };
    const unsigned level = vcl_cpu();
    return levels[level < LEVELS ? level : LEVELS - 1];
}
