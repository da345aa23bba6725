/* rotate.c - step 3: incoherence by a randomised Hadamard rotation of a tile.
 *
 * In: a tile of floats.  Out: the same energy, spread so that no value stands out (QuIP#, arXiv
 * 2402.04396; VcLLM, arXiv 2407.00467).  A length that is no power of two is cut into blocks of its set
 * bits: padding would add values to code.  The order of additions is part of the format, so that every
 * machine decodes the same bits. */
#include "rotate.h"

#include <math.h>
#include <stddef.h>

static float sign_of(uint32_t seed, unsigned axis, uint32_t position)
{
    uint64_t z = ((uint64_t)seed << 33) + ((uint64_t)axis << 32) + position;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9; /* splitmix64's finaliser */
    z = (z ^ z >> 27) * 0x94D049BB133111EB;
    z ^= z >> 31;
    return z >> 63 ? -1.0f : 1.0f;
}

static float factor_of(uint32_t block)
{
    const int k = __builtin_ctz(block);
    return (float)ldexp(k & 1 ? 0.70710678118654752440 : 1.0, -(k / 2)); /* 2^(-k/2) */
}

/* The transform of `block` vectors of `width` values each, one vector after the other. */
static void hadamard(float *x, uint32_t block, uint32_t width)
{
    for (uint32_t h = 1; h < block; h *= 2)
        for (uint32_t i = 0; i < block; i += 2 * h)
            for (uint32_t j = i; j < i + h; j++) {
                float *restrict p = x + (size_t)j * width;
                float *restrict q = p + (size_t)h * width;
                for (uint32_t k = 0; k < width; k++) {
                    const float a = p[k], b = q[k];
                    p[k] = a + b;
                    q[k] = a - b;
                }
            }
}

static void scale(float *x, size_t n, float factor)
{
    for (size_t i = 0; i < n; i++)
        x[i] *= factor;
}

/* One axis of `length` vectors of `width` values: axis 1 is a tile as it lies, axis 0 a single row with
 * width 1.  Signs are +-1, so that they and the factor may be applied in either order. */
static void rotate_axis(float *x, uint32_t length, uint32_t width, unsigned axis, uint32_t seed, int back)
{
    for (uint32_t start = 0; start < length;) {
        const uint32_t block = 1u << (31 - __builtin_clz(length - start));
        float *const first = x + (size_t)start * width;
        const float factor = factor_of(block);
        if (back)
            hadamard(first, block, width);
        for (uint32_t j = 0; j < block; j++)
            scale(first + (size_t)j * width, width, sign_of(seed, axis, start + j) * (back ? factor : 1.0f));
        if (!back) {
            hadamard(first, block, width);
            scale(first, (size_t)block * width, factor);
        }
        start += block;
    }
}

void vcl_rotate(float *x, uint32_t rows, uint32_t cols, uint32_t seed)
{
    for (uint32_t r = 0; r < rows; r++)
        rotate_axis(x + (size_t)r * cols, cols, 1, 0, seed, 0);
    rotate_axis(x, rows, cols, 1, seed, 0);
}

void vcl_rotate_back(float *x, uint32_t rows, uint32_t cols, uint32_t seed)
{
    rotate_axis(x, rows, cols, 1, seed, 1);
    for (uint32_t r = 0; r < rows; r++)
        rotate_axis(x + (size_t)r * cols, cols, 1, 0, seed, 1);
}
