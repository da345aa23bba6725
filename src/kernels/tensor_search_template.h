/* tensor_search_template.h - the trellis search in vectors, included once per level of CPU.
 *
 * In: floats, integers and masks of WIDTH lanes (vf, vi, vm) with what is done to them, KERNEL(name),
 * TARGET. The lanes of one vector run through all columns before the next vector's, so that the costs of
 * eight states stay in registers.  tensor_search_c.c is the definition: every lane does the same float
 * operations in the same order. */
#include "kernels/tensor_loops.h"

#include <string.h>

enum { VECTORS = VCL_STRIPE_LANES / WIDTH };

/* How the search weighs points. */
enum weighing {
    BY_DISTANCE,
    BY_WINDOWS, /* costs from windows */
    BY_COSTS    /* costs from tables by symbol: where low bits are outside the model */
};

INLINE vf nearest(vf u, vf subset)
{
    const vf quarter = f_mul(f_sub(u, subset), f_set(0.25f));
    return f_add(subset, f_mul(f_set(4), f_round(quarter)));
}

INLINE vf inwards(vf u) { return f_pick(f_less(u, f_set(0)), f_set(-4), f_set(4)); }

/* Classes of a vector's lanes in this column, times what a class' table holds. */
INLINE vi find_table(const struct vcl_stripe *t, int vector, uint32_t col, enum weighing weighing)
{
    const vi sum = i_add(i_load8(t->row_class + WIDTH * vector), i_set(t->col_class ? t->col_class[col] : 0));
    const vi class = i_min(i_max(sum, i_set(0)), i_set(VCL_MODEL_CLASSES - 1));
    return i_mul(class, i_set(weighing == BY_WINDOWS ? VCL_WINDOWS : 2 * VCL_MODEL_SYMBOLS));
}

INLINE void add_windows(const struct vcl_stripe *t, vf u, vi table, const vf near[4], vf best[4], vf far[4])
{
    vf costs[8], low = f_min(f_min(near[0], near[1]), f_min(near[2], near[3]));
    low = f_max(f_min(low, f_set(VCL_WINDOW_HIGH)), f_set(VCL_WINDOW_LOWEST));
    const vf first = f_pick(f_less(u, f_set(0)), f_set(VCL_WINDOW_LOW), f_set(VCL_WINDOW_NEGATIVE));
    load_windows(t->windows, i_add(table, i_from_f(f_add(low, first))), costs);
    UNROLL
    for (int q = 0; q < 4; q++) {
        best[q] = f_add(best[q], costs[q]);
        far[q] = f_add(far[q], costs[4 + q]);
    }
}

INLINE vf look_up(const struct vcl_stripe *t, vi table, vf point)
{
    const vi j = i_from_f(point), k = i_shift_right(j, t->shift + 1);
    const vi even = i_and(k, i_set(1)), g = i_and(j, i_set(1));
    vi symbol = i_add(k, i_set(32));
    symbol = i_pick(i_less(k, i_set(-31)), symbol, even);
    symbol = i_pick(i_less(i_set(30), k), symbol, i_add(even, i_set(62)));
    return f_gather(t->costs, i_add(table, i_add(i_mul(g, i_set(VCL_MODEL_SYMBOLS)), symbol)));
}

/* What the best point of every subset costs; its words get the bits of the lanes whose best is the inner
 * one. */
INLINE void find_points(const struct vcl_stripe *t, vf u, vi table, int vector, enum weighing weighing,
                        vf best[4], uint32_t *words)
{
    vf near[4], far[4];
    UNROLL
    for (int q = 0; q < 4; q++) {
        near[q] = nearest(u, f_set((float)q));
        const vf d = f_sub(u, near[q]), e = f_sub(u, f_add(near[q], inwards(u)));
        best[q] = f_mul(d, d);
        far[q] = f_mul(e, e);
    }
    if (weighing == BY_WINDOWS)
        add_windows(t, u, table, near, best, far);
    UNROLL
    for (int q = 0; q < 4; q++) {
        if (weighing == BY_COSTS) {
            best[q] = f_add(best[q], look_up(t, table, near[q]));
            far[q] = f_add(far[q], look_up(t, table, f_add(near[q], inwards(u))));
        }
        if (weighing == BY_DISTANCE) {
            put_bits(&words[q], vector, 0);
        } else {
            put_bits(&words[q], vector, bits_of(f_less(far[q], best[q])));
            best[q] = f_min(far[q], best[q]);
        }
    }
}

/* ---- forward --------------------------------------------------------------------------------- */

/* The better of two ways into a state, of equals the one from the lower state. */
INLINE vf choose(vf a, vf b, int b_is_lower, int vector, uint32_t *word)
{
    put_bits(word, vector, bits_of(b_is_lower ? f_less_equal(b, a) : f_less(b, a)));
    return f_min(b, a);
}

/* The two states that n and g, their highest bit, stand for, and the two that lead there. */
INLINE void advance_pair(int v, unsigned g, unsigned n, int vector, const vf *cost, vf p0, vf p1, vf *next,
                         uint32_t *words)
{
    const unsigned branch = vcl_trellis_turns[v][0], turn = vcl_trellis_turns[v][1];
    const unsigned below = (1u << (31 - __builtin_clz(branch))) - 1;
    const unsigned a = g << (v - 1) | (n & below) | (n & ~below) << 1, b = a ^ branch;
    const unsigned from = 2 * (a ^ (g ? turn : 0)) + g, other = from ^ 2 * branch;
    const vf c0 = cost[from], c1 = cost[other];
    next[a] = choose(f_add(c0, p0), f_add(c1, p1), other < from, vector, &words[a]);
    next[b] = choose(f_add(c1, p0), f_add(c0, p1), from < other, vector, &words[b]);
}

INLINE void advance(int v, int vector, const vf *cost, const vf best[4], vf *next, uint32_t *words)
{
    const unsigned pairs = 1u << v >> 2;
    UNROLL_PAIRS
    for (unsigned n = 0; n < pairs; n++)
        advance_pair(v, 0, n, vector, cost, best[0], best[2], next, words);
    UNROLL_PAIRS
    for (unsigned n = 0; n < pairs; n++)
        advance_pair(v, 1, n, vector, cost, best[1], best[3], next, words);
}

INLINE void subtract_least(int states, vf *cost)
{
    vf least = cost[0];
    UNROLL_PAIRS
    for (int s = 1; s < states; s++)
        least = f_min(cost[s], least);
    UNROLL_PAIRS
    for (int s = 0; s < states; s++)
        cost[s] = f_sub(cost[s], least);
}

/* The state in which the best path ends. */
INLINE vi best_state(int states, const vf *cost)
{
    vf least = cost[0];
    vi state = i_set(0);
    UNROLL_PAIRS
    for (int s = 1; s < states; s++) {
        state = i_pick(f_less(cost[s], least), state, i_set(s));
        least = f_min(cost[s], least);
    }
    return state;
}

/* One vector's lanes through all columns. */
INLINE vi forward(const struct vcl_stripe *t, int v, enum weighing weighing, const float *u, int vector,
                  uint32_t *words, vf *cost, vf *next)
{
    const int states = 1 << v;
    vi table = find_table(t, vector, 0, weighing);
    UNROLL_PAIRS
    for (int s = 0; s < states; s++)
        cost[s] = f_set(s == 0 ? 0 : VCL_UNREACHED);
    for (uint32_t c = 0; c < t->cols; c++, words += 4 + states) {
        vf best[4];
        if (weighing != BY_DISTANCE && t->col_class)
            table = find_table(t, vector, c, weighing);
        find_points(t, f_load(u + (size_t)c * VCL_STRIPE_LANES + WIDTH * vector), table, vector, weighing,
                    best, words);
        advance(v, vector, cost, best, next, words + 4);
        if (c % VCL_RENORM == VCL_RENORM - 1)
            subtract_least(states, next);
        UNROLL_PAIRS
        for (int s = 0; s < states; s++)
            cost[s] = next[s];
    }
    return best_state(states, cost);
}

/* ---- back ------------------------------------------------------------------------------------ */

/* All vectors side by side: each is one long chain of dependent steps. */
INLINE void trace_back(const struct vcl_stripe *t, int v, const float *u, const uint32_t *words,
                       vi state[VECTORS], int16_t *j)
{
    const vi turn = i_set(vcl_trellis_turns[v][1]), branch = i_set(vcl_trellis_turns[v][0]), one = i_set(1);
    const vi top = i_set(1 << (v - 1)), two = i_set(2);
    for (size_t c = t->cols; c-- > 0;) {
        const uint32_t *const column = words + c * (4 + ((size_t)1 << v));
        UNROLL
        for (int n = 0; n < VECTORS; n++) {
            const size_t at = c * VCL_STRIPE_LANES + WIDTH * (size_t)n;
            const vi bit = lane_bits(n);
            const vm b = i_any(select_word(v, column + 4, state[n]), bit), g = i_any(state[n], top);
            const vi q = i_or(i_where(b, two), i_where(g, one));
            const vm inner = i_any(select_subset(column, q), bit);
            const vi bent = i_xor(i_xor(state[n], i_where(g, turn)), i_where(b, branch));
            const vf x = f_load(u + at), near = nearest(x, f_from_i(q));
            state[n] = i_or(i_add(bent, bent), i_where(g, one));
            store16(j + at, i_from_f(f_pick(inner, near, f_add(near, inwards(x)))));
        }
    }
}

/* ---- the whole ------------------------------------------------------------------------------- */

INLINE void search_trellis(const struct vcl_stripe *t, enum weighing weighing, const float *u,
                           uint32_t *scratch, int16_t *j)
{
    vi state[VECTORS];
    for (int n = 0; n < VECTORS; n++) {
        vf cost[8], next[8], many[2][1 << VCL_TRELLIS_BITS_MAX];
        state[n] = t->v == 3 ? forward(t, 3, weighing, u, n, scratch, cost, next)
                             : forward(t, t->v, weighing, u, n, scratch, many[0], many[1]);
    }
    if (t->v == 3)
        trace_back(t, 3, u, scratch, state, j);
    else
        trace_back(t, t->v, u, scratch, state, j);
}

/* One state, one codebook, of which subsets 0 and 2 are the parts: each value alone. */
INLINE void search_scalar(const struct vcl_stripe *t, enum weighing weighing, const float *u, int16_t *j)
{
    for (size_t c = 0; c < t->cols; c++)
        for (int n = 0; n < VECTORS; n++) {
            const size_t at = c * VCL_STRIPE_LANES + WIDTH * (size_t)n;
            const vf x = f_load(u + at);
            uint32_t words[4] = { 0 };
            vf best[4];
            find_points(t, x, find_table(t, n, (uint32_t)c, weighing), n, weighing, best, words);
            const vm odd = f_less(best[2], best[0]);
            const vi q = i_where(odd, i_set(2));
            const vm inner = i_any(select_subset(words, q), lane_bits(n));
            const vf near = nearest(x, f_from_i(q));
            store16(j + at, i_from_f(f_pick(inner, near, f_add(near, inwards(x)))));
        }
}

INLINE void search(const struct vcl_stripe *t, enum weighing weighing, const float *u, uint32_t *scratch,
                   int16_t *j)
{
    if (t->v == 0)
        search_scalar(t, weighing, u, j);
    else
        search_trellis(t, weighing, u, scratch, j);
}

TARGET void KERNEL(search)(const struct vcl_stripe *t, const float *u, uint32_t *scratch, int16_t *j)
{
    if (t->lanes != VCL_STRIPE_LANES)
        vcl_search_c(t, u, scratch, j);
    else if (!t->costs)
        search(t, BY_DISTANCE, u, scratch, j);
    else if (t->shift)
        search(t, BY_COSTS, u, scratch, j);
    else
        search(t, BY_WINDOWS, u, scratch, j);
}
