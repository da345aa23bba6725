/* planes_template.h - values to byte planes and back, included once per level of CPU.
 *
 * In: KERNEL(name), the function's name at this level, TARGET, its attributes, INLINE, and BYTES of a
 * vector. The loops are written over vectors, of which a compiler makes what the level has; the last,
 * partial one goes through a buffer, so that there is one way to do everything. */
#include "kernels/lossless_loops.h"

#include <string.h>

#define VECTOR(T, SIZE) __attribute__((vector_size(SIZE))) T

enum { ROW = 64 }; /* bytes of a row of a packed group */

_Static_assert(VCL_PACK_GROUP == 8 * ROW, "a packed group has eight rows");

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define TO_LITTLE(BITS, x) (x)
#else
#define TO_LITTLE(BITS, x) __builtin_bswap##BITS(x)
#endif

/* Between numbers and their lowest bytes, by halves: compilers have an instruction for that, and loops for
 * more. */
#define TO(TYPE, x) __builtin_convertvector(x, TYPE)
#define TO_BYTES16(x) TO(bytes16, x)
#define TO_BYTES32(x) TO(bytes32, TO(shorts32, x))
#define TO_BYTES64(x) TO(bytes64, TO(shorts64, TO(words64, x)))
#define FROM_BYTES16(b) TO(values16, b)
#define FROM_BYTES32(b) TO(values32, TO(shorts32, b))
#define FROM_BYTES64(b) TO(values64, TO(words64, TO(shorts64, b)))

typedef VECTOR(uint16_t, BYTES / 2) shorts32;
typedef VECTOR(uint16_t, BYTES / 4) shorts64;
typedef VECTOR(uint32_t, BYTES / 2) words64;

/* Values of T, BITS wide, as a vector; S is the signed type.  `fold` is a constant wherever they are inlined.
 * Narrow: the highest 8 of the BITS - 1 bits that are left move up by one, so that the first plane holds
 * the exponent and the mantissa's highest bit, and the second plane's values are below 128. */
#define DEFINE_PLANES(T, S, BITS)                                                                            \
    enum { COUNT##BITS = BYTES * 8 / BITS };                                                                 \
    typedef VECTOR(T, BYTES) values##BITS;                                                                   \
    typedef VECTOR(S, BYTES) signed##BITS;                                                                   \
    typedef VECTOR(uint8_t, BYTES * 8 / BITS) bytes##BITS;                                                   \
                                                                                                             \
    INLINE void fold##BITS(values##BITS *v, enum vcl_fold fold, T base)                                      \
    {                                                                                                        \
        const T low = (T)((T)1 << (BITS - 9)) - 1;                                                           \
        values##BITS x = *v;                                                                                 \
        if (fold == VCL_FOLD_ZIGZAG)                                                                         \
            x = (x << 1) ^ (values##BITS)((signed##BITS)x >> (BITS - 1));                                    \
        if (fold == VCL_FOLD_ROTATE || fold == VCL_FOLD_NARROW)                                              \
            x = (x << 1) | (x >> (BITS - 1));                                                                \
        if (fold == VCL_FOLD_NARROW) {                                                                       \
            x -= (values##BITS)((x >> (BITS - 8)) != 0) & (T)(base << (BITS - 8));                           \
            x = ((x & (T)~low) << 1) | (x & low);                                                            \
        }                                                                                                    \
        *v = x;                                                                                              \
    }                                                                                                        \
    INLINE void unfold##BITS(values##BITS *v, enum vcl_fold fold, T base)                                    \
    {                                                                                                        \
        const T low = (T)((T)1 << (BITS - 9)) - 1;                                                           \
        values##BITS x = *v;                                                                                 \
        if (fold == VCL_FOLD_ZIGZAG)                                                                         \
            x = (x >> 1) ^ -(x & 1);                                                                         \
        if (fold == VCL_FOLD_NARROW) {                                                                       \
            x = ((x >> 1) & (T)~low) | (x & low);                                                            \
            x += (values##BITS)((x >> (BITS - 8)) != 0) & (T)(base << (BITS - 8));                           \
        }                                                                                                    \
        if (fold == VCL_FOLD_ROTATE || fold == VCL_FOLD_NARROW)                                              \
            x = (x >> 1) | (x << (BITS - 1));                                                                \
        *v = x;                                                                                              \
    }                                                                                                        \
    INLINE void swap##BITS(values##BITS *v)                                                                  \
    {                                                                                                        \
        for (int i = 0; i < COUNT##BITS; i++)                                                                \
            (*v)[i] = TO_LITTLE(BITS, (*v)[i]);                                                              \
    }                                                                                                        \
    INLINE void split_fold##BITS(const uint8_t *src, size_t n, enum vcl_fold fold, unsigned base,            \
                                 uint8_t *const *planes)                                                     \
    {                                                                                                        \
        for (size_t at = 0; at < n; at += COUNT##BITS) {                                                     \
            const size_t count = n - at < COUNT##BITS ? n - at : COUNT##BITS;                                \
            values##BITS x = { 0 };                                                                          \
            if (count == COUNT##BITS)                                                                        \
                memcpy(&x, src + at * sizeof(T), sizeof x);                                                  \
            else                                                                                             \
                memcpy(&x, src + at * sizeof(T), count * sizeof(T));                                         \
            swap##BITS(&x);                                                                                  \
            fold##BITS(&x, fold, (T)base);                                                                   \
            for (int p = 0; p < BITS / 8; p++) {                                                             \
                const bytes##BITS b = TO_BYTES##BITS(x >> (BITS - 8 - 8 * p));                               \
                if (count == COUNT##BITS)                                                                    \
                    memcpy(planes[p] + at, &b, sizeof b);                                                    \
                else                                                                                         \
                    memcpy(planes[p] + at, &b, count);                                                       \
            }                                                                                                \
        }                                                                                                    \
    }                                                                                                        \
    INLINE void join_fold##BITS(const uint8_t *const *planes, size_t n, enum vcl_fold fold, unsigned base,   \
                                uint8_t *dst)                                                                \
    {                                                                                                        \
        for (size_t at = 0; at < n; at += COUNT##BITS) {                                                     \
            const size_t count = n - at < COUNT##BITS ? n - at : COUNT##BITS;                                \
            values##BITS x = { 0 };                                                                          \
            for (int p = 0; p < BITS / 8; p++) {                                                             \
                bytes##BITS b = { 0 };                                                                       \
                if (count == COUNT##BITS)                                                                    \
                    memcpy(&b, planes[p] + at, sizeof b);                                                    \
                else                                                                                         \
                    memcpy(&b, planes[p] + at, count);                                                       \
                x |= FROM_BYTES##BITS(b) << (BITS - 8 - 8 * p);                                              \
            }                                                                                                \
            unfold##BITS(&x, fold, (T)base);                                                                 \
            swap##BITS(&x);                                                                                  \
            if (count == COUNT##BITS)                                                                        \
                memcpy(dst + at * sizeof(T), &x, sizeof x);                                                  \
            else                                                                                             \
                memcpy(dst + at * sizeof(T), &x, count * sizeof(T));                                         \
        }                                                                                                    \
    }                                                                                                        \
    TARGET static void split##BITS(const struct vcl_plane_split *how, const uint8_t *src, size_t n,          \
                                   uint8_t *const *planes)                                                   \
    {                                                                                                        \
        switch (how->fold) {                                                                                 \
        case VCL_FOLD_ROTATE: split_fold##BITS(src, n, VCL_FOLD_ROTATE, 0, planes); break;                   \
        case VCL_FOLD_NARROW: split_fold##BITS(src, n, VCL_FOLD_NARROW, how->base, planes); break;           \
        case VCL_FOLD_ZIGZAG: split_fold##BITS(src, n, VCL_FOLD_ZIGZAG, 0, planes); break;                   \
        default: split_fold##BITS(src, n, VCL_FOLD_NONE, 0, planes); break;                                  \
        }                                                                                                    \
    }                                                                                                        \
    TARGET static void join##BITS(const struct vcl_plane_split *how, const uint8_t *const *planes, size_t n, \
                                  uint8_t *dst)                                                              \
    {                                                                                                        \
        switch (how->fold) {                                                                                 \
        case VCL_FOLD_ROTATE: join_fold##BITS(planes, n, VCL_FOLD_ROTATE, 0, dst); break;                    \
        case VCL_FOLD_NARROW: join_fold##BITS(planes, n, VCL_FOLD_NARROW, how->base, dst); break;            \
        case VCL_FOLD_ZIGZAG: join_fold##BITS(planes, n, VCL_FOLD_ZIGZAG, 0, dst); break;                    \
        default: join_fold##BITS(planes, n, VCL_FOLD_NONE, 0, dst); break;                                   \
        }                                                                                                    \
    }

DEFINE_PLANES(uint16_t, int16_t, 16)
DEFINE_PLANES(uint32_t, int32_t, 32)
DEFINE_PLANES(uint64_t, int64_t, 64)

typedef VECTOR(uint8_t, ROW) bytes8;

INLINE void load_bytes(bytes8 *v, const uint8_t *src) { memcpy(v, src, sizeof *v); }

TARGET void KERNEL(split)(const struct vcl_plane_split *how, const uint8_t *src, size_t n,
                          uint8_t *const *planes)
{
    if (how->width == 2)
        split16(how, src, n, planes);
    else if (how->width == 4)
        split32(how, src, n, planes);
    else
        split64(how, src, n, planes);
}

TARGET void KERNEL(join)(const struct vcl_plane_split *how, const uint8_t *const *planes, size_t n,
                         uint8_t *dst)
{
    if (how->width == 2)
        join16(how, planes, n, dst);
    else if (how->width == 4)
        join32(how, planes, n, dst);
    else
        join64(how, planes, n, dst);
}

/* Of eight rows of 64 values seven are stored; the eighth is spread over their highest bits. */
TARGET void KERNEL(pack)(const uint8_t *src, size_t groups, uint8_t *dst)
{
    bytes8 row, last;
    for (; groups > 0; groups--, src += VCL_PACK_GROUP) {
        load_bytes(&last, src + 7 * ROW);
        for (int r = 0; r < 7; r++, last >>= 1, dst += ROW) {
            load_bytes(&row, src + r * ROW);
            row |= last << 7;
            memcpy(dst, &row, sizeof row);
        }
    }
}

TARGET void KERNEL(unpack)(const uint8_t *src, size_t groups, uint8_t *dst)
{
    bytes8 row;
    for (; groups > 0; groups--, dst += VCL_PACK_GROUP) {
        bytes8 last = { 0 };
        for (int r = 0; r < 7; r++, src += ROW) {
            load_bytes(&row, src);
            last = (last >> 1) | (row & 128);
            row &= 127;
            memcpy(dst + r * ROW, &row, sizeof row);
        }
        last >>= 1;
        memcpy(dst + 7 * ROW, &last, sizeof last);
    }
}

INLINE uint8_t lesser(uint8_t a, uint8_t b) { return a < b ? a : b; }
INLINE uint8_t greater(uint8_t a, uint8_t b) { return a > b ? a : b; }

TARGET void KERNEL(range)(const uint8_t *src, size_t n, struct vcl_byte_range *range)
{
    uint8_t least[ROW], most[ROW], before[ROW]; /* of x - 1: 0 becomes 255 */
    size_t at = 0;
    memset(least, 255, sizeof least);
    memset(before, 255, sizeof before);
    memset(most, 0, sizeof most);
    for (; at + ROW <= n; at += ROW)
        for (int i = 0; i < ROW; i++) {
            const uint8_t x = src[at + (size_t)i];
            least[i] = lesser(x, least[i]);
            most[i] = greater(x, most[i]);
            before[i] = lesser((uint8_t)(x - 1), before[i]);
        }
    for (; at < n; at++) {
        least[0] = lesser(src[at], least[0]);
        most[0] = greater(src[at], most[0]);
        before[0] = lesser((uint8_t)(src[at] - 1), before[0]);
    }
    for (int i = 1; i < ROW; i++) {
        least[0] = lesser(least[i], least[0]);
        most[0] = greater(most[i], most[0]);
        before[0] = lesser(before[i], before[0]);
    }
    *range = (struct vcl_byte_range){ least[0], most[0], before[0] == 255 ? 255 : (uint8_t)(before[0] + 1) };
}

TARGET void KERNEL(sum_blocks)(const uint8_t *src, size_t blocks, uint32_t *sums)
{
    for (size_t b = 0; b < blocks; b++, src += 256) {
        uint16_t columns[ROW];
        uint32_t sum = 0;
        for (int i = 0; i < ROW; i++)
            columns[i] = (uint16_t)(src[i] + src[i + 64] + src[i + 128] + src[i + 192]);
        for (int i = 0; i < ROW; i++)
            sum += columns[i];
        sums[b] = sum;
    }
}
