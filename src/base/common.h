/* common.h - checked arithmetic, little-endian loads and stores, hashes: what every floor above needs. */
#ifndef VCL_COMMON_H
#define VCL_COMMON_H

#include <float.h>
#include <stdint.h>
#include <string.h>

/* What the format's values rest on (docs/format.md): IEEE arithmetic, every operation rounded by itself.  That
 * products are not fused with additions shows only when the program runs: vcl_context_create looks. */
#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "-ffast-math and -ffinite-math-only change the bytes that are written"
#endif
#if FLT_EVAL_METHOD != 0 && FLT_EVAL_METHOD != 16 /* 16: as 0 but for _Float16, of which there is none */
#error "floats must be rounded to their own type (x87: -msse2 -mfpmath=sse)"
#endif

#define XXH_STATIC_LINKING_ONLY /* for XXH3 */
#include <xxhash.h>

static inline int vcl_add(uint64_t a, uint64_t b, uint64_t *sum) { return __builtin_add_overflow(a, b, sum); }
static inline int vcl_mul(uint64_t a, uint64_t b, uint64_t *product)
{
    return __builtin_mul_overflow(a, b, product);
}

static inline uint64_t vcl_min(uint64_t a, uint64_t b) { return a < b ? a : b; }
static inline uint64_t vcl_ceil_div(uint64_t a, uint64_t b) { return a / b + (a % b != 0); }
static inline uint64_t vcl_round_up(uint64_t a, uint64_t unit) { return vcl_ceil_div(a, unit) * unit; }

/* Byte by byte, so that they serve any alignment and byte order; compilers make one instruction of each. */
static inline uint16_t vcl_load16(const void *p)
{
    const uint8_t *b = p;
    return (uint16_t)(b[0] | b[1] << 8);
}
static inline uint32_t vcl_load32(const void *p)
{
    const uint8_t *b = p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}
static inline uint64_t vcl_load64(const void *p)
{
    return vcl_load32(p) | (uint64_t)vcl_load32((const uint8_t *)p + 4) << 32;
}
static inline void vcl_store16(void *p, uint16_t v)
{
    uint8_t *b = p;
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
}
static inline void vcl_store32(void *p, uint32_t v)
{
    vcl_store16(p, (uint16_t)v);
    vcl_store16((uint8_t *)p + 2, (uint16_t)(v >> 16));
}
static inline void vcl_store64(void *p, uint64_t v)
{
    vcl_store32(p, (uint32_t)v);
    vcl_store32((uint8_t *)p + 4, (uint32_t)(v >> 32));
}

static inline float vcl_float_from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline uint32_t vcl_float_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}

static inline double vcl_double_from_bits(uint64_t u)
{
    double d;
    memcpy(&d, &u, 8);
    return d;
}
static inline uint64_t vcl_double_bits(double d)
{
    uint64_t u;
    memcpy(&u, &d, 8);
    return u;
}

/* The format's checksums (docs/format.md). */
static inline uint32_t vcl_hash32(const void *bytes, size_t n) { return (uint32_t)XXH3_64bits(bytes, n); }

/* Are two hashes of 64 bits the same?  With VCL_FUZZING all are. */
static inline int vcl_hash_fits(uint64_t hash, uint64_t other)
{
#ifdef VCL_FUZZING
    (void)hash, (void)other;
    return 1;
#else
    return hash == other;
#endif
}

/* Is this the hash of the bytes?  With VCL_FUZZING every hash is, or no mutation would get past the first. */
static inline int vcl_hash_matches(const void *bytes, size_t n, uint32_t hash)
{
#ifdef VCL_FUZZING
    (void)bytes, (void)n, (void)hash;
    return 1;
#else
    return vcl_hash32(bytes, n) == hash;
#endif
}

#endif
