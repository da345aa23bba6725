/* trellis.c - step 5: the quantiser, scalar and trellis-coded.
 *
 * Reconstruction points are integers j in units of the half-step, of which the decoder needs only
 * k = (j - g) / 2: g, the union codebook, follows from the state, and the state from the branches k & 1
 * before.  Entropy-coded trellis-coded quantisation (Fischer and Wang 1992; Joshi, Crump and Fischer 1995)
 * with Ungerboeck's one-dimensional codes (1982).  The search, Viterbi's over all states, is a kernel; here
 * its tables are made. */
#include "trellis.h"

#include <float.h>
#include <string.h>

size_t vcl_trellis_scratch(int v, uint32_t cols) { return ((size_t)cols << v) * 4; }

/* Survivors, errors by column, points and branches of a block. */
size_t vcl_feedback_scratch(int v, uint32_t cols)
{
    return 2 * sizeof(struct vcl_survivors) + (size_t)cols * VCL_STRIPE_LANES * sizeof(float)
         + ((size_t)VCL_FEEDBACK_BLOCK * VCL_STRIPE_LANES << v) * 3;
}

/* Solves n equations with a symmetric matrix that is positive definite. */
static void solve(int n, double m[3][3], double y[3])
{
    for (int i = 0; i < n; i++)
        for (int r = i + 1; r < n; r++) {
            const double f = m[r][i] / m[i][i];
            for (int c = i; c < n; c++)
                m[r][c] -= f * m[i][c];
            y[r] -= f * y[i];
        }
    for (int i = n - 1; i >= 0; i--) {
        for (int c = i + 1; c < n; c++)
            y[i] -= m[i][c] * y[c];
        y[i] /= m[i][i];
    }
}

/* The polynomial of `terms` terms nearest to the bits of the points from first to last, by their
 * frequencies. */
static void fit(const struct vcl_symbol_model *model, const float *bits, int first, int last, int terms,
                double fitted[3])
{
    const double least = 1.0 / 64; /* of the first few, so that there is a solution where none is probable */
    double m[3][3] = { { 0 } };
    memset(fitted, 0, 3 * sizeof *fitted);
    for (int p = first; p <= last; p++) {
        const int g = p & 1, symbol = (p >> 1) + 32;
        const double weight = (p ? 2.0 : 1.0) * model->freq[g][symbol] + (p < first + 3 ? least : 0);
        const double powers[3] = { 1, p, (double)p * p };
        for (int r = 0; r < terms; r++) {
            for (int c = 0; c < terms; c++)
                m[r][c] += weight * powers[r] * powers[c];
            fitted[r] += weight * powers[r] * bits[g * VCL_MODEL_SYMBOLS + symbol];
        }
    }
    solve(terms, m, fitted);
}

enum { FAR = 60 };

/* Curve and line that meet behind point `near`; returns how far they are from the bits. */
static double fit_both(const struct vcl_symbol_model *model, const float *bits, int near, double curve[3],
                       double line[3])
{
    double sum = 0;
    fit(model, bits, 0, near, 3, curve);
    if (curve[2] < 0) /* would fall below the line far out */
        fit(model, bits, 0, near, 2, curve);
    fit(model, bits, near + 1, FAR, 2, line);
    if (line[1] < 0)
        fit(model, bits, near + 1, FAR, 1, line);
    for (int p = 0; p <= FAR; p++) {
        const int g = p & 1, symbol = (p >> 1) + 32;
        const double on_curve = curve[0] + curve[1] * p + curve[2] * p * p, on_line = line[0] + line[1] * p;
        const double off = (on_curve < on_line ? on_curve : on_line) - bits[g * VCL_MODEL_SYMBOLS + symbol];
        sum += model->freq[g][symbol] * off * off;
    }
    return sum;
}

/* A Gaussian is a parabola all along, heavy tails are lines from some point on. */
static void fit_best(const struct vcl_symbol_model *model, const float *bits, int octave, double curve[3],
                     double line[3])
{
    const int near[] = { FAR - 3, 2, octave < 0 ? 3 : octave > 3 ? 40 : 3 << octave };
    double least = DBL_MAX;
    for (int i = 0; i < 3; i++) {
        double a[3], b[3];
        const double off = fit_both(model, bits, near[i], a, b);
        if (off < least) {
            least = off;
            memcpy(curve, a, sizeof a);
            memcpy(line, b, sizeof b);
        }
    }
}

struct vcl_bend vcl_trellis_bend(const struct vcl_symbol_model *model, int octave, float lambda,
                                 unsigned shift)
{
    float bits[2 * VCL_MODEL_SYMBOLS];
    double curve[3] = { 0 }, line[3] = { 0 };
    const float unit = 1 / (float)(1u << shift);
    if (lambda == 0)
        return (struct vcl_bend){ .shrink = 1, .rise = FLT_MAX };
    vcl_model_costs(model, bits);
    fit_best(model, bits, octave, curve, line);
    const float a = lambda * (float)curve[1] * unit, b = lambda * (float)curve[2] * unit * unit;
    return (struct vcl_bend){ .a = a,
                              .b = b,
                              .shrink = 1 / (1 + b),
                              .rise = lambda * (float)(line[0] - curve[0]),
                              .slope = lambda * (float)line[1] * unit };
}
