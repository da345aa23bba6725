/* model.h - step 6: how probable each index is, from a family of distributions built in. */
#ifndef VCL_MODEL_H
#define VCL_MODEL_H

#include "kernels/tensor_loops.h"

/* Reconstruction points are integers j in units of the half-step; the union codebook g holds those with
 * j mod 2 = g, numbered k = (j - g) / 2.  A symbol is k + 32 for k = -31 ... 30; 0 and 63 are escapes for
 * all other k, even and odd. */
/* Class t: deviation over half-step = 2^((t - 16) / 4 + fine / 16), fine the frame's plus a class' own. */
enum { VCL_MODEL_UNIT = 16 };

struct vcl_symbol_model {
    uint16_t freq[2][VCL_MODEL_SYMBOLS]; /* 0: the symbol must be escaped */
    uint16_t cum[2][VCL_MODEL_SYMBOLS];
};

/* shape: 0 (Gaussian) to 7 (heavy tails); class: 0 to VCL_MODEL_CLASSES - 1; fine: -32 to 31 */
void vcl_model_make(int shape, int class, int fine, struct vcl_symbol_model *model);

/* Of frequencies that are given. */
void vcl_model_take(const uint16_t freq[2][VCL_MODEL_SYMBOLS], struct vcl_symbol_model *model);

/* What the decoder looks up: entry[g << 10 | slot] = frequency | (slot - cum) << 10 | j << 20, where j is the
 * symbol's point, -64 + g or 62 + g for escapes. */
void vcl_model_slots(const struct vcl_symbol_model *model, uint32_t entry[2 * VCL_MODEL_TOTAL]);

/* What the encoder looks up: code[g << 6 | symbol] = frequency | cum << 10 | escaped << 31. */
void vcl_model_codes(const struct vcl_symbol_model *model, uint32_t code[2 * VCL_MODEL_SYMBOLS]);

/* Bits each symbol costs, escapes' own bytes included: 64 per codebook. */
void vcl_model_costs(const struct vcl_symbol_model *model, float costs[2 * VCL_MODEL_SYMBOLS]);
/* Bits that symbols of both codebooks, counted, take. */
double vcl_model_bits(const struct vcl_symbol_model *model, const uint32_t symbols[2 * VCL_MODEL_SYMBOLS]);

/* Bits that a codebook's symbols, counted, take at least; adds to *used how many of the 64 there are. */
double vcl_model_entropy(const uint32_t symbols[VCL_MODEL_SYMBOLS], int *used);

#endif
