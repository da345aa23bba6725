/* model.c - step 6: how probable each index is, from a family of distributions built in.
 *
 * In: a shape and a scale class.  Out: integer frequencies for both union codebooks, the slot table the
 * decoder looks up and the costs the search weighs.  Integer arithmetic only: the frequencies are part of
 * the format.  An index stands for the cell of one half-step to either side of its point, which fits the
 * indices of a rate-distortion optimised trellis to 0.002 bit (docs/experiments.md). */
#include "model.h"

#include <math.h>
#include <string.h>

#include "model_cdf.h"

_Static_assert(VCL_ESCAPE_POINT == VCL_MODEL_SYMBOLS - 2,
               "the kernels' escapes are the last symbols' points");
_Static_assert(2 * VCL_MODEL_BITS <= 20, "a slot's frequency and place stand below its point");

enum { SCALE_BITS = 31, LOWEST_OCTAVE = -10, OCTAVES = 17 };

/* 2^16 x 2^(b/16) */
static const uint32_t fractions[16] = { 65536, 68438, 71468,  74632,  77936,  81386,  84990,  88752,
                                        92682, 96785, 101070, 105545, 110218, 115098, 120194, 125515 };

/* P(|X| <= m half-steps) in units of 2^-31, where a half-step is 2^(q/16) deviations. */
static uint32_t cumulative(const uint32_t *cdf, int q, uint32_t m)
{
    const int e = q >> 4;
    const uint32_t v = m * fractions[q & 15]; /* 2^16 x m x 2^(q/16 - e): below 2^25 */
    if (m == 0)
        return 0;
    const int top = 31 - __builtin_clz(v), octave = top - 16 + e;
    if (octave >= LOWEST_OCTAVE + OCTAVES)
        return 1u << SCALE_BITS;
    if (octave < LOWEST_OCTAVE)
        return (uint32_t)(((uint64_t)cdf[1] * v >> 16) >> (LOWEST_OCTAVE - e));
    const uint32_t fraction =
        (uint32_t)(((uint64_t)v << 32 >> top) & 0xffffffff); /* beyond the leading one */
    const int i = 1 + 8 * (octave - LOWEST_OCTAVE) + (int)(fraction >> 29);
    const uint32_t low = cdf[i], high = i < 8 * OCTAVES ? cdf[i + 1] : 1u << SCALE_BITS;
    return low + (uint32_t)((uint64_t)(high - low) * (fraction << 3 >> 16) >> 16);
}

/* Twice the probability of the cell around j, from what is within every number of half-steps. */
static uint32_t cell(const uint32_t within[VCL_MODEL_SYMBOLS], int j)
{
    const int m = j < 0 ? -j : j;
    if (m == 0)
        return within[1] * 2 - (within[1] >> 30);
    return within[m + 1] - within[m - 1];
}

/* Frequencies in proportion, at least 1 for the escapes and for what has an eighth of that: a frequency costs
 * all others 0.0014 bit, an escape 18 bits; what rounding leaves goes to the first of the
 * largest. */
static void fill_codebook(const uint32_t within[VCL_MODEL_SYMBOLS], int g, uint16_t freq[VCL_MODEL_SYMBOLS])
{
    uint32_t mass[VCL_MODEL_SYMBOLS] = { 0 };
    uint64_t total = 0;
    int sum = 0, largest = 0;
    for (int s = 1; s < VCL_MODEL_SYMBOLS - 1; s++)
        total += mass[s] = cell(within, 2 * (s - 32) + g);
    const uint64_t tail = (1ull << 32) > total ? (1ull << 32) - total : 0;
    mass[0] = mass[63] = (uint32_t)(tail / 2);
    total += 2 * (uint64_t)mass[0];
    for (int s = 0; s < VCL_MODEL_SYMBOLS; s++) {
        const uint64_t scaled = mass[s] * (uint64_t)VCL_MODEL_TOTAL + total / 2;
        freq[s] = (uint16_t)(scaled < total ? 0 : scaled / total); /* most are 0, and dividing takes long */
        if (freq[s] == 0 && (s == 0 || s == 63 || mass[s] * 8 * (uint64_t)VCL_MODEL_TOTAL >= total))
            freq[s] = 1;
        sum += freq[s];
        largest = freq[s] > freq[largest] ? s : largest;
    }
    freq[largest] = (uint16_t)(freq[largest] + VCL_MODEL_TOTAL - sum);
}

static void add_up(struct vcl_symbol_model *model)
{
    for (int g = 0; g < 2; g++) {
        unsigned sum = 0;
        for (int s = 0; s < VCL_MODEL_SYMBOLS; s++) {
            model->cum[g][s] = (uint16_t)sum;
            sum += model->freq[g][s];
        }
    }
}

void vcl_model_make(int shape, int class, int fine, struct vcl_symbol_model *model)
{
    const int q = 4 * (VCL_MODEL_UNIT + 4 * vcl_low_bits(class, VCL_LOW_CLASS) - class) - fine;
    uint32_t within[VCL_MODEL_SYMBOLS];
    for (uint32_t m = 0; m < VCL_MODEL_SYMBOLS; m++)
        within[m] = cumulative(model_cdf[shape], q, m);
    for (int g = 0; g < 2; g++)
        fill_codebook(within, g, model->freq[g]);
    add_up(model);
}

void vcl_model_take(const uint16_t freq[2][VCL_MODEL_SYMBOLS], struct vcl_symbol_model *model)
{
    memcpy(model->freq, freq, sizeof model->freq);
    add_up(model);
}

void vcl_model_slots(const struct vcl_symbol_model *model, uint32_t entry[2 * VCL_MODEL_TOTAL])
{
    for (uint32_t g = 0; g < 2; g++)
        for (uint32_t s = 0; s < VCL_MODEL_SYMBOLS; s++)
            for (uint32_t i = 0; i < model->freq[g][s]; i++)
                entry[g << VCL_MODEL_BITS | (model->cum[g][s] + i)] =
                    model->freq[g][s] | i << 10 | (2 * (s - 32) + g) << 20;
}

void vcl_model_codes(const struct vcl_symbol_model *model, uint32_t code[2 * VCL_MODEL_SYMBOLS])
{
    for (uint32_t g = 0; g < 2; g++)
        for (uint32_t s = 0; s < VCL_MODEL_SYMBOLS; s++) {
            const uint32_t escaped = s == 0 || s == 63 || model->freq[g][s] == 0;
            const uint32_t coded = escaped ? (s & 1) * 63 : s;
            code[g * VCL_MODEL_SYMBOLS + s] =
                model->freq[g][coded] | (uint32_t)model->cum[g][coded] << 10 | escaped << 31;
        }
}

/* log2 of 1 ... 1024 to 10^-6: no libm, whose last bits differ.  2 / ln 2 times the series of atanh. */
static double log2_of(uint32_t v)
{
    const int top = 31 - __builtin_clz(v);
    const double m = (double)v / (1u << top), s = (m - 1.4142135623730951) / (m + 1.4142135623730951),
                 t = s * s;
    return top + 0.5 + 2.8853900817779268 * s * (1 + t * (1.0 / 3 + t * (1.0 / 5 + t / 7)));
}

static float cost_of(const uint16_t freq[VCL_MODEL_SYMBOLS], int s)
{
    enum { ESCAPE_BYTES = 1 }; /* of nearly all */
    const int escaped = s == 0 || s == 63 || freq[s] == 0;
    const int coded = !escaped ? s : (s & 1) * 63;
    return (float)(VCL_MODEL_BITS - log2_of(freq[coded])) + (escaped ? 8 * ESCAPE_BYTES : 0);
}

void vcl_model_costs(const struct vcl_symbol_model *model, float costs[2 * VCL_MODEL_SYMBOLS])
{
    for (int g = 0; g < 2; g++)
        for (int s = 0; s < VCL_MODEL_SYMBOLS; s++)
            costs[g * VCL_MODEL_SYMBOLS + s] = cost_of(model->freq[g], s);
}

double vcl_model_bits(const struct vcl_symbol_model *model, const uint32_t symbols[2 * VCL_MODEL_SYMBOLS])
{
    double sum = 0;
    for (int i = 0; i < 2 * VCL_MODEL_SYMBOLS; i++)
        if (symbols[i] > 0)
            sum += symbols[i] * (double)cost_of(model->freq[i / VCL_MODEL_SYMBOLS], i % VCL_MODEL_SYMBOLS);
    return sum;
}

double vcl_model_entropy(const uint32_t symbols[VCL_MODEL_SYMBOLS], int *used)
{
    double total = 0, sum = 0;
    for (int i = 0; i < VCL_MODEL_SYMBOLS; i++)
        total += symbols[i], *used += symbols[i] > 0;
    for (int i = 0; i < VCL_MODEL_SYMBOLS; i++)
        if (symbols[i] > 0)
            sum += symbols[i] * log2(total / symbols[i]);
    return sum;
}
