/* tensor_search_c.c - the trellis search in portable C: the definition.
 *
 * Viterbi's algorithm, every lane a path of its own.  The states come in butterflies: two that differ in
 * what a branch turns over lead to two that do so too.  Of every column scratch keeps one word for each
 * subset of points, j mod 4, and one for each state, with a bit for each lane: whether the point nearest
 * to zero was the better one, and by which branch the state was reached.  All arithmetic is plain float in
 * a fixed order, so that every CPU finds the same path. */
#include "kernels/tensor_loops.h"

#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* To the nearest, ties to even: beyond 2^23 a float has no fraction. */
INLINE float round_even(float x)
{
    const float magic = 12582912.0f;
    return (x + magic) - magic;
}

INLINE float nearest(float u, int subset)
{
    return (float)subset + 4 * round_even((u - (float)subset) * 0.25f);
}

INLINE float larger(float x, float y) { return x > y ? x : y; }

/* What is added for a point of this size. */
INLINE float bits_of(float size, const struct vcl_bend *bend)
{
    const float curve = bend->a * size + bend->b * (size * size), line = bend->rise + bend->slope * size;
    return curve < line ? curve : line;
}

/* Around what the points to look for are nearest (tensor_loops.h). */
INLINE float drawn(float u, const struct vcl_bend *bend)
{
    const float size = u < 0 ? -u : u, least = size * VCL_BEND_LEAST;
    const float curve = bend->a * size + bend->b * (size * size), line = bend->rise + bend->slope * size;
    const float near = larger(size - bend->a * 0.5f, least) * bend->shrink;
    const float v = curve < line ? near : larger(size - bend->slope * 0.5f, least);
    return u < 0 ? -v : v;
}

static const struct vcl_bend *bend_of(const struct vcl_stripe *t, int lane, uint32_t col)
{
    return t->bends + vcl_stripe_class(t, lane, col);
}

/* What a point costs where all costs are told. */
static float cost_at(const struct vcl_stripe *t, int lane, uint32_t col, float point)
{
    const int j = (int)point, high = j >> (vcl_stripe_low_bits(t, lane, col) + 1);
    const int symbol = high < -32 ? 0 : high > 31 ? 63 : high + 32;
    return t->costs[vcl_stripe_class(t, lane, col) * VCL_POINT_COSTS + 2 * symbol + (j & 1)];
}

/* Where decoding will put a point. */
static float moved(const struct vcl_stripe *t, float point)
{
    const int j = (int)point, low = j < -VCL_MOVED_POINTS - 1 ? -VCL_MOVED_POINTS - 1 : j;
    return point + t->moves[VCL_MOVED_POINTS + 1 + (low > VCL_MOVED_POINTS ? VCL_MOVED_POINTS : low)];
}

/* The better of a subset's two points around u, of equals the nearer one; what it costs. */
static float weigh_both(const struct vcl_stripe *t, int lane, uint32_t col, float u, int subset, float *point)
{
    const float p = nearest(u, subset), other = p + (u - p < 0 ? -4.0f : 4.0f);
    const float d = u - moved(t, p), e = u - moved(t, other);
    const float near = d * d + cost_at(t, lane, col, p), far = e * e + cost_at(t, lane, col, other);
    *point = far < near ? other : p;
    return far < near ? far : near;
}

/* What the best point of every subset costs. */
static void find_points(const struct vcl_stripe *t, const float *u, uint32_t col,
                        float best[4][VCL_STRIPE_LANES])
{
    float point;
    for (int l = 0; t->costs && l < t->lanes; l++)
        for (int q = 0; q < 4; q++)
            best[q][l] = weigh_both(t, l, col, u[l], q, &point);
    for (int l = 0; !t->costs && l < t->lanes; l++) {
        const struct vcl_bend *const how = bend_of(t, l, col);
        const float v = drawn(u[l], how);
        for (int q = 0; q < 4; q++) {
            const float p = nearest(v, q), d = u[l] - p, size = p < 0 ? -p : p;
            best[q][l] = d * d + bits_of(size, how);
        }
    }
}

/* The best point of a subset. */
static int16_t point_of(const struct vcl_stripe *t, int lane, uint32_t col, float u, int subset)
{
    float point;
    if (!t->costs)
        return (int16_t)nearest(drawn(u, bend_of(t, lane, col)), subset);
    weigh_both(t, lane, col, u, subset, &point);
    return (int16_t)point;
}

/* ---- forward --------------------------------------------------------------------------------- */

struct butterfly {
    unsigned from[2], to[2], g; /* from[0] reaches to[0] by branch 0, to[1] by branch 1; from[1] reversed */
};

static struct butterfly butterfly_to(int v, unsigned to)
{
    const unsigned branch = vcl_trellis_turns[v][0], turn = vcl_trellis_turns[v][1], g = to >> (v - 1);
    const unsigned from = 2 * (to ^ (g ? turn : 0)) + g;
    return (struct butterfly){ { from, from ^ 2 * branch }, { to, to ^ branch }, g };
}

/* The better of two ways into a state, of equals the one from the lower state; the branch's bits. */
INLINE uint32_t choose(int lanes, const float *a, const float *pa, const float *b, const float *pb,
                       int b_is_lower, float *to)
{
    uint32_t word = 0;
    for (int l = 0; l < lanes; l++) {
        const float x = a[l] + pa[l], y = b[l] + pb[l];
        const int second = b_is_lower ? y <= x : y < x;
        to[l] = second ? y : x;
        word |= second ? (uint32_t)1 << l : 0;
    }
    return word;
}

INLINE void advance(int v, int lanes, const float *cost, float best[4][VCL_STRIPE_LANES], float *next,
                    uint32_t *words)
{
    const unsigned branch = vcl_trellis_turns[v][0];
    for (unsigned to = 0; to < 1u << v; to++) {
        const struct butterfly b = butterfly_to(v, to);
        if (to > (to ^ branch))
            continue;
        const float *const c0 = cost + b.from[0] * VCL_STRIPE_LANES, *const c1 =
                                                                         cost + b.from[1] * VCL_STRIPE_LANES;
        const float *const p0 = best[b.g], *const p1 = best[2 + b.g];
        const int lower = b.from[1] < b.from[0];
        words[b.to[0]] = choose(lanes, c0, p0, c1, p1, lower, next + b.to[0] * VCL_STRIPE_LANES);
        words[b.to[1]] = choose(lanes, c1, p0, c0, p1, !lower, next + b.to[1] * VCL_STRIPE_LANES);
    }
}

/* Keeps the sums small, so that they stay exact enough. */
static void subtract_least(int states, float *cost)
{
    for (int l = 0; l < VCL_STRIPE_LANES; l++) {
        float least = cost[l];
        for (int s = 1; s < states; s++)
            least = cost[s * VCL_STRIPE_LANES + l] < least ? cost[s * VCL_STRIPE_LANES + l] : least;
        for (int s = 0; s < states; s++)
            cost[s * VCL_STRIPE_LANES + l] -= least;
    }
}

/* The costs of all paths end up in cost. */
static void forward(const struct vcl_stripe *t, const float *u, uint32_t *words, float *cost)
{
    const int states = 1 << t->v;
    float next[(1 << VCL_TRELLIS_BITS_MAX) * VCL_STRIPE_LANES], best[4][VCL_STRIPE_LANES];
    for (int i = 0; i < states * VCL_STRIPE_LANES; i++)
        cost[i] = next[i] = i < VCL_STRIPE_LANES ? 0 : VCL_UNREACHED;
    for (uint32_t c = 0; c < t->cols; c++, u += t->lanes, words += states) {
        find_points(t, u, c, best);
        if (t->lanes == VCL_STRIPE_LANES)
            advance(t->v, VCL_STRIPE_LANES, cost, best, next, words);
        else
            advance(t->v, t->lanes, cost, best, next, words);
        if (c % VCL_RENORM == VCL_RENORM - 1)
            subtract_least(states, next);
        memcpy(cost, next, (size_t)states * VCL_STRIPE_LANES * sizeof *cost);
    }
}

/* ---- back ------------------------------------------------------------------------------------ */

static void trace_back(const struct vcl_stripe *t, const float *u, const uint32_t *words, const float *cost,
                       int lane, int16_t *j)
{
    const uint32_t branch = vcl_trellis_turns[t->v][0], turn = vcl_trellis_turns[t->v][1];
    const size_t states = (size_t)1 << t->v;
    uint32_t state = 0;
    for (uint32_t s = 1; s < states; s++)
        state = cost[s * VCL_STRIPE_LANES + (size_t)lane] < cost[state * VCL_STRIPE_LANES + (size_t)lane]
                  ? s
                  : state;
    for (size_t c = t->cols; c-- > 0;) {
        const uint32_t b = words[c * states + state] >> lane & 1, g = state >> (t->v - 1);
        const size_t at = c * (size_t)t->lanes + (size_t)lane;
        j[at] = point_of(t, lane, (uint32_t)c, u[at], (int)(2 * b + g));
        state = 2 * (state ^ (g ? turn : 0) ^ (b ? branch : 0)) + g;
    }
}

/* One state, one codebook, of which subsets 0 and 2 are the parts: each value alone. */
static void search_scalar(const struct vcl_stripe *t, const float *u, int16_t *j)
{
    float best[4][VCL_STRIPE_LANES];
    for (uint32_t c = 0; c < t->cols; c++, u += t->lanes, j += t->lanes) {
        find_points(t, u, c, best);
        for (int l = 0; l < t->lanes; l++)
            j[l] = point_of(t, l, c, u[l], best[2][l] < best[0][l] ? 2 : 0);
    }
}

void vcl_search_c(const struct vcl_stripe *t, const float *u, uint32_t *scratch, int16_t *j)
{
    float cost[(1 << VCL_TRELLIS_BITS_MAX) * VCL_STRIPE_LANES];
    if (t->v == 0) {
        search_scalar(t, u, j);
        return;
    }
    forward(t, u, scratch, cost);
    for (int l = 0; l < t->lanes; l++)
        trace_back(t, u, scratch, cost, l, j);
}
