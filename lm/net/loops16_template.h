/* loops16_template.h - the loops of loops16.c for one level of CPU.
 *
 * Included once per level with NAME, TARGET, BYTES (of its vectors: gcc puts wider ones in memory) and ROWS
 * (as many as keep their sums in registers).  Products and sums are not fused (-ffp-contract=off), and the
 * exponential is ours: what libm computes depends on the CPU. */

#define JOIN_(a, b) a##_##b
#define JOIN(a, b) JOIN_(a, b)
#define LOCAL(a) JOIN(a, NAME)
#define VF LOCAL(floats)
#define VI LOCAL(ints)
#define VU LOCAL(words)
#define VH LOCAL(halves)
#define FUNCTION TARGET static
#define INLINE TARGET static inline __attribute__((always_inline))

enum { LOCAL(WIDTH) = BYTES / 4, LOCAL(PER) = 4 * VCL_LANES / BYTES };
#define WIDTH LOCAL(WIDTH)
#define PER LOCAL(PER) /* vectors for 16 lanes */

typedef float VF __attribute__((vector_size(BYTES), aligned(4), may_alias));
typedef int32_t VI __attribute__((vector_size(BYTES), aligned(4), may_alias));
typedef uint32_t VU __attribute__((vector_size(BYTES), aligned(4), may_alias));
typedef uint16_t VH __attribute__((vector_size(BYTES / 2), aligned(2), may_alias));

/* ---- products -------------------------------------------------------------------------------- */

INLINE void LOCAL(block_of)(const float *w, size_t row, size_t col, size_t cols, const float *x, float *y,
                            const size_t rows)
{
    VF sum[ROWS][PER] = { 0 };
    for (size_t c = 0; c < cols; c++) {
        const VF *const lanes = (const VF *)(x + VCL_LANES * c);
#pragma GCC unroll 16
        for (size_t r = 0; r < rows; r++)
#pragma GCC unroll 16
            for (size_t k = 0; k < PER; k++)
                sum[r][k] += w[r * row + c * col] * lanes[k];
    }
    memcpy(y, sum, rows * VCL_LANES * sizeof *y);
}

FUNCTION void LOCAL(block)(const float *w, size_t row, size_t col, size_t rows, size_t cols, const float *x,
                           float *y)
{
    for (; rows >= ROWS; rows -= ROWS, w += ROWS * row, y += ROWS * VCL_LANES)
        LOCAL(block_of)(w, row, col, cols, x, y, ROWS);
    for (; rows; rows--, w += row, y += VCL_LANES)
        LOCAL(block_of)(w, row, col, cols, x, y, 1);
}

/* 64 sums side by side: one vector alone would wait for each addition. */
FUNCTION float LOCAL(dot_f32)(const void *weights, const float *x, size_t n)
{
    const float *w = weights;
    VF sum[4 * PER] = { 0 };
    size_t c = 0;
    for (; c + SUMS <= n; c += SUMS)
#pragma GCC unroll 16
        for (size_t k = 0; k < 4 * PER; k++)
            sum[k] += *(const VF *)(w + c + WIDTH * k) * *(const VF *)(x + c + WIDTH * k);
    float total = add_sums((const float *)sum);
    for (; c < n; c++)
        total += w[c] * x[c];
    return total;
}

FUNCTION float LOCAL(dot_bf16)(const void *weights, const float *x, size_t n)
{
    const uint16_t *w = weights;
    VF sum[4 * PER] = { 0 };
    size_t c = 0;
    for (; c + SUMS <= n; c += SUMS)
#pragma GCC unroll 16
        for (size_t k = 0; k < 4 * PER; k++) {
            const VU bits = __builtin_convertvector(*(const VH *)(w + c + WIDTH * k), VU) << 16;
            sum[k] += (VF)bits * *(const VF *)(x + c + WIDTH * k);
        }
    float total = add_sums((const float *)sum);
    for (; c < n; c++)
        total += widen(w[c]) * x[c];
    return total;
}

/* ---- exponentials ---------------------------------------------------------------------------- */

/* e^x for x in [-87, 88], beyond which it stays: x = k ln 2 + r, the Taylor polynomial of r to r^7 (|r| <=
 * 0.35: 6e-9 relative), and k into the exponent.  Adding and taking off 1.5 x 2^23 rounds to integers. */
INLINE void LOCAL(exponential)(VF *value)
{
    const VF zero = { 0 }, least = zero - 87.0f, most = zero + 88.0f;
    VF x = *value;
    const VI low = x<least, high = x> most;
    x = (VF)(((VI)x & ~low & ~high) | ((VI)least & low) | ((VI)most & high));
    const VF k = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
    const VF r = (x - k * 0.693145752f) - k * 1.42860677e-6f;
    VF p = r * (1 / 5040.0f) + 1 / 720.0f;
    p = p * r + 1 / 120.0f;
    p = p * r + 1 / 24.0f;
    p = p * r + 1 / 6.0f;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    *value = p * (VF)((__builtin_convertvector(k, VI) + 127) << 23);
}

/* One vector of lanes, down all rows, of which all lanes have those from `begun` to before `ended`. */
INLINE void LOCAL(softmax_lanes)(float *s, size_t n, float scale, const size_t *first, const size_t *end,
                                 size_t begun, size_t ended)
{
    VF most = *(VF *)s, sum = { 0 };
    for (size_t j = 0; j < n; j++) {
        const VF value = *(VF *)(s + VCL_LANES * j);
        const VI more = value > most;
        most = (VF)(((VI)value & more) | ((VI)most & ~more));
    }
    for (size_t j = 0; j < n; j++) {
        VF value = (*(VF *)(s + VCL_LANES * j) - most) * scale;
        LOCAL(exponential)(&value);
        *(VF *)(s + VCL_LANES * j) = value;
        if (j < begun || j >= ended)
            mask(s, j, WIDTH, first, end, 0);
        sum += *(VF *)(s + VCL_LANES * j);
    }
    const VF share = 1.0f / sum;
    for (size_t j = 0; j < n; j++)
        *(VF *)(s + VCL_LANES * j) *= share;
}

FUNCTION void LOCAL(softmax)(float *s, size_t n, float scale, const size_t *first, const size_t *end)
{
    size_t begun = 0, ended = n;
    for (size_t l = 0; l < VCL_LANES; l++) {
        begun = first[l] > begun ? first[l] : begun;
        ended = end[l] < ended ? end[l] : ended;
    }
    for (size_t j = 0; j < n; j++)
        if (j < begun || j >= ended)
            mask(s, j, VCL_LANES, first, end, -3e38f);
    for (size_t l = 0; l < VCL_LANES; l += WIDTH)
        LOCAL(softmax_lanes)(s + l, n, scale, first + l, end + l, begun, ended);
}

INLINE void LOCAL(swiglu_of)(float *gate, const float *up)
{
    const VF x = *(VF *)gate;
    VF power = -x;
    LOCAL(exponential)(&power);
    *(VF *)gate = x / (1.0f + power) * *(const VF *)up;
}

FUNCTION void LOCAL(swiglu)(float *gate, const float *up, size_t n)
{
    float last[2][WIDTH] = { 0 };
    size_t i = 0;
    for (; i + WIDTH <= n; i += WIDTH)
        LOCAL(swiglu_of)(gate + i, up + i);
    memcpy(last[0], gate + i, (n - i) * sizeof *gate);
    memcpy(last[1], up + i, (n - i) * sizeof *up);
    LOCAL(swiglu_of)(last[0], last[1]);
    memcpy(gate + i, last[0], (n - i) * sizeof *gate);
}

static const struct vcl_loops16 LOCAL(level) = { LOCAL(block), LOCAL(dot_f32), LOCAL(dot_bf16),
                                                 LOCAL(softmax), LOCAL(swiglu) };

#undef JOIN_
#undef JOIN
#undef LOCAL
#undef VF
#undef VI
#undef VU
#undef VH
#undef FUNCTION
#undef INLINE
#undef WIDTH
#undef PER
#undef NAME
#undef TARGET
#undef BYTES
#undef ROWS
