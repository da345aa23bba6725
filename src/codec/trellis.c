/* trellis.c - stage 4: the quantiser, scalar and trellis-coded.
 *
 * In: values in units of the half-step.  Out: integers j, one per value, of which the decoder needs only
 * k = (j - g) / 2: g, the union codebook, follows from the state, and the state from the branches k & 1
 * before.  Entropy-coded trellis-coded quantisation (Fischer and Wang 1992; Joshi, Crump and Fischer 1995)
 * with Ungerboeck's one-dimensional codes (1982).  The search is Viterbi's over all states, every lane a
 * path of its own; all arithmetic is plain float in a fixed order, so that every CPU finds the same path. */
#include "trellis.h"

#include <math.h>
#include <string.h>

#include "codec/model.h"

/* Ungerboeck's parity-check polynomials, octal as he gives them, by the number of state bits. */
static const unsigned h0[] = { 0, 0, 05, 013, 023, 045, 0103, 0235, 0515 };
static const unsigned h1[] = { 0, 0, 02, 04, 04, 010, 024, 0126, 0362 };

unsigned vcl_trellis_next(int v, unsigned state, unsigned branch)
{
    const unsigned g = state & 1;
    return v == 0 ? 0 : (state >> 1) ^ (branch ? h1[v] >> 1 : 0) ^ (g ? h0[v] >> 1 : 0);
}

size_t vcl_trellis_scratch(int v, int lanes, uint32_t cols)
{
    return ((size_t)cols * (size_t)lanes << v) + ((size_t)cols * (size_t)lanes * 4 * sizeof(int16_t));
}

/* The two ways into each state: where from, and through which of the four subsets j mod 4 = 2 b + g. */
struct way {
    uint8_t from, subset;
};

static void find_ways(int v, struct way ways[][2])
{
    uint8_t known[1 << VCL_TRELLIS_BITS_MAX] = { 0 };
    for (unsigned s = 0; s < 1u << v; s++)
        for (unsigned b = 0; b < 2; b++) {
            const unsigned to = vcl_trellis_next(v, s, b);
            ways[to][known[to]++] = (struct way){ (uint8_t)s, (uint8_t)(2 * b + (s & 1)) };
        }
}

static float cost_of(const float *costs, unsigned shift, int j)
{
    const int g = j & 1, k = ((j - g) / 2) >> shift;
    const int s = k < -31 ? k & 1 : k > 30 ? 62 + (k & 1) : k + 32;
    return costs[g * VCL_MODEL_SYMBOLS + s];
}

/* The best point of a subset: the nearest one, or where bits count its neighbour towards zero. */
static float best_point(const struct vcl_stripe *stripe, size_t at, int subset, int16_t *point)
{
    const float u = stripe->u[at], lambda = stripe->lambda, *const costs = stripe->costs[stripe->class[at]];
    const int near = subset + 4 * (int)rintf((u - (float)subset) * 0.25f);
    const float d = u - (float)near;
    float best = d * d;
    *point = (int16_t)near;
    if (lambda == 0)
        return best;
    best += lambda * cost_of(costs, stripe->shift, near);
    const int inner = near + (u < 0 ? 4 : -4);
    const float e = u - (float)inner, other = e * e + lambda * cost_of(costs, stripe->shift, inner);
    if (other < best) {
        best = other;
        *point = (int16_t)inner;
    }
    return best;
}

/* A float beyond any path's cost that still adds up exactly enough to stay beyond. */
#define UNREACHED 1e30f

static void forward(const struct vcl_stripe *stripe, const struct way ways[][2], uint8_t *taken,
                    int16_t *points, float *cost)
{
    const int lanes = stripe->lanes, states = 1 << stripe->v;
    float next[(1 << VCL_TRELLIS_BITS_MAX) * VCL_STRIPE_LANES], d[4][VCL_STRIPE_LANES];
    for (int i = 0; i < states * lanes; i++)
        cost[i] = i < lanes ? 0 : UNREACHED;
    for (uint32_t c = 0; c < stripe->cols; c++) {
        const size_t at = (size_t)c * (size_t)lanes;
        for (int l = 0; l < lanes; l++)
            for (int q = 0; q < 4; q++)
                d[q][l] = best_point(stripe, at + (size_t)l, q, &points[(at + (size_t)l) * 4 + (size_t)q]);
        for (int s = 0; s < states; s++) {
            const struct way a = ways[s][0], b = ways[s][1];
            uint8_t *const to = taken + (at << stripe->v) + (size_t)(s * lanes);
            for (int l = 0; l < lanes; l++) {
                const float first = cost[a.from * lanes + l] + d[a.subset][l];
                const float second = cost[b.from * lanes + l] + d[b.subset][l];
                to[l] = second < first;
                next[s * lanes + l] = second < first ? second : first;
            }
        }
        for (int l = 0; c % 64 == 63 && l < lanes; l++) { /* keep the sums small, so that they stay exact */
            float least = next[l];
            for (int s = 1; s < states; s++)
                least = next[s * lanes + l] < least ? next[s * lanes + l] : least;
            for (int s = 0; s < states; s++)
                next[s * lanes + l] -= least;
        }
        memcpy(cost, next, (size_t)(states * lanes) * sizeof *cost);
    }
}

static void trace_back(const struct vcl_stripe *stripe, const struct way ways[][2], const uint8_t *taken,
                       const int16_t *points, const float *cost, int16_t *j)
{
    const int lanes = stripe->lanes, states = 1 << stripe->v;
    for (int l = 0; l < lanes; l++) {
        int state = 0;
        for (int s = 1; s < states; s++)
            state = cost[s * lanes + l] < cost[state * lanes + l] ? s : state;
        for (uint32_t c = stripe->cols; c-- > 0;) {
            const size_t at = (size_t)c * (size_t)lanes;
            const struct way way = ways[state][taken[(at << stripe->v) + (size_t)(state * lanes + l)]];
            j[at + (size_t)l] = points[(at + (size_t)l) * 4 + way.subset];
            state = way.from;
        }
    }
}

/* One state, one codebook: each value alone. */
static void search_scalar(const struct vcl_stripe *stripe, int16_t *j)
{
    const size_t n = (size_t)stripe->cols * (size_t)stripe->lanes;
    for (size_t i = 0; i < n; i++) {
        int16_t even, odd; /* subsets 0 and 2 make the even codebook */
        const float a = best_point(stripe, i, 0, &even), b = best_point(stripe, i, 2, &odd);
        j[i] = b < a ? odd : even;
    }
}

void vcl_trellis_search(const struct vcl_stripe *stripe, void *scratch, int16_t *j)
{
    struct way ways[1 << VCL_TRELLIS_BITS_MAX][2];
    float cost[(1 << VCL_TRELLIS_BITS_MAX) * VCL_STRIPE_LANES];
    if (stripe->v == 0) {
        search_scalar(stripe, j);
        return;
    }
    int16_t *const points = scratch;
    uint8_t *const taken = (uint8_t *)(points + (size_t)stripe->cols * (size_t)stripe->lanes * 4);
    find_ways(stripe->v, ways);
    forward(stripe, (const struct way(*)[2])ways, taken, points, cost);
    trace_back(stripe, (const struct way(*)[2])ways, taken, points, cost, j);
}
