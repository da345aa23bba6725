/* trellis.c - stage 4: the quantiser, scalar and trellis-coded.
 *
 * Reconstruction points are integers j in units of the half-step, of which the decoder needs only
 * k = (j - g) / 2: g, the union codebook, follows from the state, and the state from the branches k & 1
 * before.  Entropy-coded trellis-coded quantisation (Fischer and Wang 1992; Joshi, Crump and Fischer 1995)
 * with Ungerboeck's one-dimensional codes (1982).  The search, Viterbi's over all states, is a kernel; here
 * its tables are made. */
#include "trellis.h"

size_t vcl_trellis_scratch(int v, uint32_t cols) { return (size_t)cols * (4 + ((size_t)1 << v)) * 4; }

/* The point of subset q among the four from low on. */
static int point_of(int low, int q) { return low + ((q - low) & 3); }

static float cost_of(const float *costs, int j)
{
    return costs[(j & 1) * VCL_MODEL_SYMBOLS + vcl_cost_symbol(j >> 1)];
}

static void fill_window(const float *costs, int low, int inner, float window[8])
{
    for (int q = 0; q < 4; q++) {
        window[q] = cost_of(costs, point_of(low, q));
        window[4 + q] = cost_of(costs, point_of(low, q) + inner);
    }
}

void vcl_trellis_windows(const float costs[2 * VCL_MODEL_SYMBOLS], float windows[VCL_WINDOWS][8])
{
    for (int low = -VCL_WINDOW_LOW; low <= VCL_WINDOW_HIGH; low++)
        fill_window(costs, low, -4, windows[VCL_WINDOW_LOW + low]);
    for (int low = VCL_WINDOW_LOWEST; low < VCL_WINDOWS - VCL_WINDOW_NEGATIVE; low++)
        fill_window(costs, low, 4, windows[VCL_WINDOW_NEGATIVE + low]);
}
