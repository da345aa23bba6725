/* mix.h - SplitMix64's output function (Steele, Lea, Flood 2014): white bits from a counter. */
#ifndef VCL_RUN_MIX_H
#define VCL_RUN_MIX_H

#include <stdint.h>

#define VCL_MIX_STEP 0x9E3779B97F4A7C15u /* between the counters of one sequence */

static inline uint64_t vcl_mix(uint64_t counter)
{
    uint64_t z = counter;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

#endif
