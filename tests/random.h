/* random.h - seeded test data: the same numbers on every machine. */
#ifndef VCL_TEST_RANDOM_H
#define VCL_TEST_RANDOM_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

/* xorshift64*: state must not be 0 */
static inline uint64_t random_bits(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545F4914F6CDD1D;
}

static inline double random_uniform(uint64_t *state)
{
    return ((double)(random_bits(state) >> 11) + 0.5) / 9007199254740992.0;
}

static inline double random_normal(uint64_t *state)
{
    const double u = random_uniform(state), v = random_uniform(state);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static inline double random_laplace(uint64_t *state)
{
    const double u = random_uniform(state) - 0.5;
    return (u < 0 ? 1 : -1) * log(1 - 2 * fabs(u));
}

static inline void random_fill(float *x, size_t n, uint64_t seed, double (*draw)(uint64_t *state))
{
    uint64_t state = seed * 0x9E3779B97F4A7C15 + 1;
    for (size_t i = 0; i < n; i++)
        x[i] = (float)draw(&state);
}

#endif
