/* scale.c - step 4: one scale class per row and per column.
 *
 * In: the deviations of a tile's rows and of the tensor's columns.  Out: quarter-octave classes; the sum of
 * a row's and a column's class selects the probability table.  The step is one for the whole tensor: under
 * a squared-error budget a row of larger variance should get more bits, not a coarser step (reverse
 * water-filling).  Neighbouring rows are alike, or where there is
 * a transform those of one frequency, so differences are coded, with Rice's code. */
#include "scale.h"

#include <math.h>
#include <string.h>

int vcl_scale_class(double variance)
{
    /* 2^(i/2 - 1/4) for i = 1, 2, 3, 4: where a variance's next half-octave (a quarter of the
     * deviation) starts */
    static const double bounds[] = { 1.189207115002721, 1.681792830507429 };
    int64_t bits;
    memcpy(&bits, &variance, 8);
    if (!(variance > 0))
        return -400;
    const int exponent = (int)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffff) | (int64_t)1023 << 52;
    double mantissa;
    memcpy(&mantissa, &bits, 8);
    return 2 * exponent + (mantissa >= bounds[0]) + (mantissa >= bounds[1]);
}

double vcl_scale_weight(int class) { return ldexp(class & 1 ? 0.70710678118654752440 : 1.0, -(class >> 1)); }

static unsigned zigzag(int v) { return v < 0 ? 2u * (unsigned)(-v) - 1 : 2u * (unsigned)v; }
static int unzigzag(unsigned u) { return u & 1 ? -(int)(u / 2) - 1 : (int)(u / 2); }

enum { PARAMETERS = 6, CONSTANT = PARAMETERS }; /* CONSTANT in a parameter's place: no differences follow */

/* The entry before it that entry i is told from. */
static size_t reference(size_t i, size_t period) { return i >= period ? i - period : i - 1; }

static size_t rice_bits(const int8_t *class, size_t n, size_t period, unsigned parameter)
{
    size_t bits = 0;
    for (size_t i = 1; i < n; i++)
        bits += (zigzag(class[i] - class[reference(i, period)]) >> parameter) + 1 + parameter;
    return bits;
}

size_t vcl_scales_bound(size_t n) { return 2 + n * 32; }

static int is_constant(const int8_t *class, size_t n)
{
    size_t i = 1;
    while (i < n && class[i] == class[0])
        i++;
    return i >= n;
}

/* First class, Rice parameter, then every difference: quotient in unary (ones, then a zero), remainder. */
size_t vcl_scales_write(const int8_t *class, size_t n, size_t period, uint8_t *dst)
{
    unsigned parameter = 0;
    size_t bit = 0;
    if (n == 0)
        return 0;
    dst[0] = (uint8_t) class[0];
    if (is_constant(class, n)) {
        dst[1] = CONSTANT;
        return 2;
    }
    for (unsigned p = 1; p < PARAMETERS; p++)
        parameter = rice_bits(class, n, period, p) < rice_bits(class, n, period, parameter) ? p : parameter;
    dst[1] = (uint8_t)parameter;
    const size_t bytes = 2 + (rice_bits(class, n, period, parameter) + 7) / 8;
    memset(dst + 2, 0, bytes - 2);
    for (size_t i = 1; i < n; i++) {
        const unsigned u = zigzag(class[i] - class[reference(i, period)]);
        for (unsigned q = u >> parameter; q > 0; q--, bit++)
            dst[2 + bit / 8] |= (uint8_t)(1 << bit % 8);
        bit++;
        for (unsigned b = 0; b < parameter; b++, bit++)
            dst[2 + bit / 8] |= (uint8_t)((u >> b & 1) << bit % 8);
    }
    return bytes;
}

size_t vcl_scales_read(const uint8_t *src, size_t bytes, int8_t *class, size_t n, size_t period)
{
    if (n == 0 || bytes < 2 || src[1] > CONSTANT)
        return 0;
    const size_t end = (bytes - 2) * 8;
    size_t bit = 0;
    class[0] = (int8_t)src[0];
    if (src[1] == CONSTANT) {
        memset(class, class[0], n);
        return 2;
    }
    for (size_t i = 1; i < n; i++) {
        unsigned u = 0;
        while (bit < end && src[2 + bit / 8] >> bit % 8 & 1)
            bit++, u++;
        bit++;
        if (bit + src[1] > end || u > 512)
            return 0;
        unsigned low = 0;
        for (unsigned b = 0; b < src[1]; b++, bit++)
            low |= (unsigned)(src[2 + bit / 8] >> bit % 8 & 1) << b;
        const int next = class[reference(i, period)] + unzigzag(u << src[1] | low);
        if (next < -128 || next > 127)
            return 0;
        class[i] = (int8_t)next;
    }
    return 2 + (bit + 7) / 8;
}
