/* blocks.c - the quantised blocks of ggml: stored bytes to values, exactly as ggml defines them.
 *
 * In: whole blocks of one type.  Out: 32 or 256 values each, f32; those of MXFP4 bf16.  A block is one or two
 * f16 scales, perhaps scales of groups in 4 or 6 bits, and small integers; value = scale x integer, or that
 * less or plus an offset.  Layouts and formulas are those of ggml's ggml-common.h and dequantize_row_* in
 * ggml-quants.c (https://github.com/ggml-org/ggml, MIT); docs/format.md has them as tables.  Every product
 * of scale and integer has at most 24 significant bits but Q6_K's, so that each value is the exact one
 * rounded once to f32: no order of operations and no fused instruction gives another.  Hence f32 and not a
 * shorter type, which would round once more; MXFP4 is a power of two times 0 to 12, which bf16 holds. */
#include "blocks.h"

#include "base/loops.h"

enum { GROUP = 32, SUPER = 256 };

static float half(const uint8_t *p) { return vcl_float_from_bits(vcl_f16_to_f32_bits(vcl_load16(p))); }

/* ---- blocks of 32 values --------------------------------------------------------------------- */

static const float NONE = -0.f; /* added to anything it changes nothing, not even the sign of a zero */

/* Low nibbles are the first 16 values, high ones the other 16; bit i of `high` is the fifth of value i. */
static void decode_nibbles(const uint8_t *nibbles, uint32_t high, float scale, int zero, float offset,
                           float *values)
{
    for (unsigned i = 0; i < GROUP / 2; i++) {
        const int low = (nibbles[i] & 15) | (int)(high >> i & 1) << 4;
        const int top = nibbles[i] >> 4 | (int)(high >> (i + 16) & 1) << 4;
        values[i] = scale * (float)(low - zero) + offset;
        values[i + GROUP / 2] = scale * (float)(top - zero) + offset;
    }
}

static void decode_q4_0(const uint8_t *b, float *values)
{
    decode_nibbles(b + 2, 0, half(b), 8, NONE, values);
}

static void decode_q4_1(const uint8_t *b, float *values)
{
    decode_nibbles(b + 4, 0, half(b), 0, half(b + 2), values);
}

static void decode_q5_0(const uint8_t *b, float *values)
{
    decode_nibbles(b + 6, vcl_load32(b + 2), half(b), 16, NONE, values);
}

static void decode_q5_1(const uint8_t *b, float *values)
{
    decode_nibbles(b + 8, vcl_load32(b + 4), half(b), 0, half(b + 2), values);
}

static void decode_q8_0(const uint8_t *b, float *values)
{
    const float scale = half(b);
    for (unsigned i = 0; i < GROUP; i++)
        values[i] = scale * (float)(int8_t)b[2 + i];
}

/* An E2M1 times two, and 2^(exponent - 128), which makes up for it: the f32 has room for no larger one. */
static void decode_mxfp4(const uint8_t *b, float *values)
{
    static const int8_t twice[16] = { 0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12 };
    const float scale =
        vcl_float_from_bits(b[0] < 2 ? UINT32_C(0x00200000) << b[0] : (uint32_t)(b[0] - 1) << 23);
    for (unsigned i = 0; i < GROUP / 2; i++) {
        values[i] = scale * (float)twice[b[1 + i] & 15];
        values[i + GROUP / 2] = scale * (float)twice[b[1 + i] >> 4];
    }
}

/* ---- blocks of 256 values -------------------------------------------------------------------- */

static void decode_q2_k(const uint8_t *b, float *values)
{
    const float scale = half(b + 80), offset = half(b + 82);
    for (unsigned i = 0; i < SUPER; i++) {
        const uint8_t group = b[i / 16];
        const int q = b[16 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
        values[i] = scale * (float)(group & 15) * (float)q - offset * (float)(group >> 4);
    }
}

/* Of 16 groups' scales in 6 bits, 12 bytes: low four bits in the first 8, high two in the last 4. */
static int scale_of_q3(const uint8_t *scales, unsigned group)
{
    const int low = group < 8 ? scales[group] & 15 : scales[group - 8] >> 4;
    return (low | (scales[8 + group % 4] >> (group / 4 * 2) & 3) << 4) - 32;
}

static void decode_q3_k(const uint8_t *b, float *values)
{
    const float scale = half(b + 108);
    for (unsigned i = 0; i < SUPER; i++) {
        const int low = b[32 + i / 128 * 32 + i % 32] >> (i % 128 / 32 * 2) & 3;
        const int q = low - (b[i % 32] >> i / 32 & 1 ? 0 : 4);
        values[i] = scale * (float)scale_of_q3(b + 96, i / 16) * (float)q;
    }
}

/* Of 8 groups' scales and offsets in 6 bits, 12 bytes: the first four of each whole, in bytes 0-3 and 4-7,
 * whose two spare bits are the high ones of the last four, which have their low nibbles in bytes 8-11. */
static void scales_of_q4(const uint8_t *b, unsigned group, int *scale, int *offset)
{
    if (group < 4) {
        *scale = b[group] & 63;
        *offset = b[group + 4] & 63;
    } else {
        *scale = (b[group + 4] & 15) | b[group - 4] >> 6 << 4;
        *offset = b[group + 4] >> 4 | b[group] >> 6 << 4;
    }
}

/* nibbles: of 64 values each 32 bytes, the low ones first.  fifth: bit g of byte i is that of value i of
 * group g; NULL: there is none. */
static void decode_scaled_nibbles(const uint8_t *b, const uint8_t *fifth, const uint8_t *nibbles,
                                  float *values)
{
    for (unsigned group = 0; group < SUPER / GROUP; group++) {
        int scale, offset;
        scales_of_q4(b + 4, group, &scale, &offset);
        const float step = half(b) * (float)scale, least = half(b + 2) * (float)offset;
        for (unsigned i = 0; i < GROUP; i++) {
            const int low = nibbles[group / 2 * 32 + i] >> (group % 2 * 4) & 15;
            const int q = low | (fifth != NULL ? (fifth[i] >> group & 1) << 4 : 0);
            values[group * GROUP + i] = step * (float)q - least;
        }
    }
}

static void decode_q4_k(const uint8_t *b, float *values) { decode_scaled_nibbles(b, NULL, b + 16, values); }
static void decode_q5_k(const uint8_t *b, float *values) { decode_scaled_nibbles(b, b + 16, b + 48, values); }

static void decode_q6_k(const uint8_t *b, float *values)
{
    const float scale = half(b + 208);
    for (unsigned i = 0; i < SUPER; i++) {
        const unsigned upper = i / 128, part = i % 128 / 32, at = i % 32;
        const int low = b[upper * 64 + part % 2 * 32 + at] >> (part / 2 * 4) & 15;
        const int q = (low | (b[128 + upper * 32 + at] >> part * 2 & 3) << 4) - 32;
        values[i] = scale * (float)(int8_t)b[192 + i / 16] * (float)q;
    }
}

/* ---- types ----------------------------------------------------------------------------------- */

/* Numbers are those of enum ggml_type. */
static const struct vcl_blocks types[] = {
    { 0, "F32", VCL_DTYPE_F32, 1, 4, NULL },
    { 1, "F16", VCL_DTYPE_F16, 1, 2, NULL },
    { 2, "Q4_0", VCL_DTYPE_F32, GROUP, 18, decode_q4_0 },
    { 3, "Q4_1", VCL_DTYPE_F32, GROUP, 20, decode_q4_1 },
    { 6, "Q5_0", VCL_DTYPE_F32, GROUP, 22, decode_q5_0 },
    { 7, "Q5_1", VCL_DTYPE_F32, GROUP, 24, decode_q5_1 },
    { 8, "Q8_0", VCL_DTYPE_F32, GROUP, 34, decode_q8_0 },
    { 10, "Q2_K", VCL_DTYPE_F32, SUPER, 84, decode_q2_k },
    { 11, "Q3_K", VCL_DTYPE_F32, SUPER, 110, decode_q3_k },
    { 12, "Q4_K", VCL_DTYPE_F32, SUPER, 144, decode_q4_k },
    { 13, "Q5_K", VCL_DTYPE_F32, SUPER, 176, decode_q5_k },
    { 14, "Q6_K", VCL_DTYPE_F32, SUPER, 210, decode_q6_k },
    { 24, "I8", VCL_DTYPE_I8, 1, 1, NULL },
    { 25, "I16", VCL_DTYPE_I16, 1, 2, NULL },
    { 26, "I32", VCL_DTYPE_I32, 1, 4, NULL },
    { 27, "I64", VCL_DTYPE_I64, 1, 8, NULL },
    { 28, "F64", VCL_DTYPE_F64, 1, 8, NULL },
    { 30, "BF16", VCL_DTYPE_BF16, 1, 2, NULL },
    { 39, "MXFP4", VCL_DTYPE_BF16, GROUP, 17, decode_mxfp4 },
};

const struct vcl_blocks *vcl_blocks_find(uint32_t number)
{
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (types[i].number == number)
            return &types[i];
    return NULL;
}

const char *vcl_blocks_name(uint32_t number)
{
    static const char *const others[] = {
        [4] = "Q4_2",    [5] = "Q4_3",     [9] = "Q8_1",   [15] = "Q8_K",   [16] = "IQ2_XXS",
        [17] = "IQ2_XS", [18] = "IQ3_XXS", [19] = "IQ1_S", [20] = "IQ4_NL", [21] = "IQ3_S",
        [22] = "IQ2_S",  [23] = "IQ4_XS",  [29] = "IQ1_M", [34] = "TQ1_0",  [35] = "TQ2_0",
    };
    return number < sizeof others / sizeof *others ? others[number] : NULL;
}

void vcl_blocks_decode(const struct vcl_blocks *type, const uint8_t *block, uint8_t *dst)
{
    float values[SUPER];
    type->decode(block, values);
    for (unsigned i = 0; i < type->values; i++)
        if (type->dtype == VCL_DTYPE_BF16)
            vcl_store16(dst + 2 * i, (uint16_t)(vcl_float_bits(values[i]) >> 16));
        else
            vcl_store32(dst + 4 * i, vcl_float_bits(values[i]));
}
