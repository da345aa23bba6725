/* tensor_search_template.h - the trellis search in vectors, included once per level of CPU.
 *
 * In: the level's header, and store16, put_bits, lane_bits and select_word.  The lanes of one vector run
 * through all columns before the next vector's, so that the costs of few states stay in registers.  A stripe
 * is VECTORS of them, or one: stripes of 8 lanes go by AVX2 at every level above it, too.
 * tensor_search_c.c is the definition: every lane does the same float operations in the same order. */
#include "kernels/tensor_loops.h"

#include <stddef.h>
#include <string.h>

enum { VECTORS = VCL_STRIPE_LANES / WIDTH };

_Static_assert(VCL_STRIPE_LANES % WIDTH == 0, "a stripe is whole vectors");
_Static_assert(sizeof(struct vcl_bend) == 5 * sizeof(float)
                   && offsetof(struct vcl_bend, slope) == 4 * sizeof(float),
               "bends are gathered as five floats: a, b, shrink, rise, slope");

INLINE vf nearest(vf u, vf subset)
{
    const vf quarter = f_mul(f_sub(u, subset), f_set(0.25f));
    return f_add(subset, f_mul(f_set(4), f_round(quarter)));
}

/* The lanes' vcl_bend. */
struct bends {
    vf a, b, shrink, rise, slope;
};

INLINE vi find_classes(const struct vcl_stripe *t, int vector, uint32_t col)
{
    const vi sum = i_add(i_load8(t->row_class + WIDTH * vector), i_set(t->col_class ? t->col_class[col] : 0));
    return i_min(i_max(sum, i_set(0)), i_set(VCL_MODEL_CLASSES - 1));
}

INLINE struct bends find_bends(const struct vcl_stripe *t, int vector, uint32_t col)
{
    const float *const first = &t->bends->a;
    const vi at = i_mul(find_classes(t, vector, col), i_set(sizeof *t->bends / sizeof *first));
    return (struct bends){ f_gather(first, at), f_gather(first + 1, at), f_gather(first + 2, at),
                           f_gather(first + 3, at), f_gather(first + 4, at) };
}

INLINE vf curve_of(vf size, const struct bends *how)
{
    return f_add(f_mul(how->a, size), f_mul(how->b, f_mul(size, size)));
}

INLINE vf line_of(vf size, const struct bends *how) { return f_add(how->rise, f_mul(how->slope, size)); }

INLINE vf drawn(vf u, const struct bends *how)
{
    const vf size = f_abs(u), least = f_mul(size, f_set(VCL_BEND_LEAST)), half = f_set(0.5f);
    const vf near = f_mul(f_max(f_sub(size, f_mul(how->a, half)), least), how->shrink);
    const vf far = f_max(f_sub(size, f_mul(how->slope, half)), least);
    const vf v = f_pick(f_less(curve_of(size, how), line_of(size, how)), far, near);
    return f_with_sign(v, f_add(u, f_set(0))); /* -0 has no sign */
}

/* Where the lanes' costs stand, and how many low bits their indices have. */
struct prices {
    vi first, low;
};

INLINE struct prices find_prices(const struct vcl_stripe *t, int vector, uint32_t col)
{
    const vi class = find_classes(t, vector, col);
    const vi over = i_sub(class, i_min(class, i_set(t->low_from - 4)));
    const vi low = vcl_stripe_is_low(t) ? i_shift_right(over, i_set(2)) : i_set(0);
    return (struct prices){ i_mul(class, i_set(VCL_POINT_COSTS)), low };
}

INLINE vf cost_at(const struct vcl_stripe *t, const struct prices *how, vf point)
{
    const vi j = i_from_f(point), one = i_set(1), high = i_shift_right(j, i_add(how->low, one));
    const vi symbol = i_add(i_min(i_max(high, i_set(-32)), i_set(31)), i_set(32));
    return f_gather(t->costs, i_add(how->first, i_or(i_add(symbol, symbol), i_and(j, one))));
}

/* Where decoding will put a point. */
INLINE vf moved(const struct vcl_stripe *t, vf point)
{
    const vi low = i_max(i_from_f(point), i_set(-VCL_MOVED_POINTS - 1));
    const vi at = i_add(i_min(low, i_set(VCL_MOVED_POINTS)), i_set(VCL_MOVED_POINTS + 1));
    return f_add(point, f_gather(t->moves, at));
}

/* The better of a subset's two points around u, of equals the nearer one; what it costs. */
INLINE vf weigh_both(const struct vcl_stripe *t, const struct prices *how, vf u, vf subset, vf *point)
{
    const vf p = nearest(u, subset);
    const vf other = f_add(p, f_pick(f_less(f_sub(u, p), f_set(0)), f_set(4), f_set(-4)));
    const vf d = f_sub(u, moved(t, p)), e = f_sub(u, moved(t, other));
    const vf near = f_add(f_mul(d, d), cost_at(t, how, p)), far = f_add(f_mul(e, e), cost_at(t, how, other));
    const vm better = f_less(far, near);
    *point = f_pick(better, p, other);
    return f_pick(better, near, far);
}

/* What the best point of every subset costs. */
INLINE void weigh_points(const struct vcl_stripe *t, vf u, const struct prices *how, vf best[4])
{
    vf point;
    UNROLL
    for (int q = 0; q < 4; q++)
        best[q] = weigh_both(t, how, u, f_set((float)q), &point);
}

INLINE void find_points(vf u, const struct bends *how, vf best[4])
{
    const vf v = drawn(u, how);
    UNROLL
    for (int q = 0; q < 4; q++) {
        const vf p = nearest(v, f_set((float)q)), d = f_sub(u, p);
        best[q] = f_add(f_mul(d, d), f_min(curve_of(f_abs(p), how), line_of(f_abs(p), how)));
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
INLINE vi forward(const struct vcl_stripe *t, int v, int priced, int by_column, const float *u, int vector,
                  uint32_t *words, vf *cost, vf *next)
{
    const int states = 1 << v;
    struct bends how = find_bends(t, vector, 0);
    struct prices prices = find_prices(t, vector, 0);
    UNROLL_PAIRS
    for (int s = 0; s < states; s++)
        cost[s] = f_set(s == 0 ? 0 : VCL_UNREACHED);
    for (uint32_t c = 0; c < t->cols; c++, words += states) {
        vf best[4];
        const vf target = f_load(u + (size_t)c * (size_t)t->lanes + WIDTH * vector);
        if (by_column && priced)
            prices = find_prices(t, vector, c);
        else if (by_column)
            how = find_bends(t, vector, c);
        if (priced)
            weigh_points(t, target, &prices, best);
        else
            find_points(target, &how, best);
        advance(v, vector, cost, best, next, words);
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
INLINE void trace_back(const struct vcl_stripe *t, int vectors, int v, int priced, int by_column,
                       const float *u, const uint32_t *words, vi state[VECTORS], int16_t *j)
{
    const vi turn = i_set(vcl_trellis_turns[v][1]), branch = i_set(vcl_trellis_turns[v][0]), one = i_set(1);
    const vi top = i_set(1 << (v - 1)), two = i_set(2);
    struct bends how[VECTORS];
    UNROLL
    for (int n = 0; n < vectors; n++)
        how[n] = find_bends(t, n, 0);
    for (size_t c = t->cols; c-- > 0;) {
        const uint32_t *const column = words + (c << v);
        UNROLL
        for (int n = 0; n < vectors; n++) {
            const size_t at = c * (size_t)t->lanes + WIDTH * (size_t)n;
            const vm b = i_any(select_word(v, column, state[n]), lane_bits(n)), g = i_any(state[n], top);
            const vi q = i_or(i_where(b, two), i_where(g, one));
            const vi bent = i_xor(i_xor(state[n], i_where(g, turn)), i_where(b, branch));
            if (by_column && !priced)
                how[n] = find_bends(t, n, (uint32_t)c);
            state[n] = i_or(i_add(bent, bent), i_where(g, one));
            vf point = nearest(drawn(f_load(u + at), &how[n]), f_from_i(q));
            if (priced) {
                const struct prices prices = find_prices(t, n, (uint32_t)c);
                weigh_both(t, &prices, f_load(u + at), f_from_i(q), &point);
            }
            store16(j + at, i_from_f(point));
        }
    }
}

/* ---- the whole ------------------------------------------------------------------------------- */

INLINE void search_trellis(const struct vcl_stripe *t, int vectors, int v, int priced, int by_column,
                           const float *u, uint32_t *scratch, int16_t *j)
{
    vi state[VECTORS];
    for (int n = 0; n < vectors; n++) {
        vf few[2][16], many[2][1 << VCL_TRELLIS_BITS_MAX];
        state[n] = v <= 4 ? forward(t, v, priced, by_column, u, n, scratch, few[0], few[1])
                          : forward(t, v, priced, by_column, u, n, scratch, many[0], many[1]);
    }
    trace_back(t, vectors, v, priced, by_column, u, scratch, state, j);
}

/* The numbers of states that are used most have code of their own; not under sanitizers (CMakeLists.txt). */
#ifdef VCL_FEW_SEARCHES
enum { FEW_SEARCHES = 1 };
#else
enum { FEW_SEARCHES = 0 };
#endif

INLINE void search_states(const struct vcl_stripe *t, int by_column, const float *u, uint32_t *scratch,
                          int16_t *j)
{
    if (t->v == 3)
        search_trellis(t, VECTORS, 3, 0, by_column, u, scratch, j);
    else if (t->v == 4)
        search_trellis(t, VECTORS, 4, 0, by_column, u, scratch, j);
    else
        search_trellis(t, VECTORS, t->v, 0, by_column, u, scratch, j);
}

/* One state, one codebook, of which subsets 0 and 2 are the parts: each value alone. */
INLINE void search_scalar(const struct vcl_stripe *t, int vectors, const float *u, int16_t *j)
{
    for (size_t c = 0; c < t->cols; c++)
        for (int n = 0; n < vectors; n++) {
            const size_t at = c * (size_t)t->lanes + WIDTH * (size_t)n;
            const struct bends how = find_bends(t, n, (uint32_t)c);
            const vf x = f_load(u + at);
            vf best[4];
            find_points(x, &how, best);
            const vf q = f_pick(f_less(best[2], best[0]), f_set(0), f_set(2));
            store16(j + at, i_from_f(nearest(drawn(x, &how), q)));
        }
}

TARGET void KERNEL(search)(const struct vcl_stripe *t, const float *u, uint32_t *scratch, int16_t *j)
{
    if (t->costs && t->v == 0)
        vcl_search_c(t, u, scratch, j);
    else if (t->lanes < WIDTH)
        vcl_search_avx2(t, u, scratch, j);
    else if (t->v == 0)
        search_scalar(t, t->lanes / WIDTH, u, j);
    else if (t->lanes == WIDTH)
        search_trellis(t, 1, t->v, t->costs != NULL, 1, u, scratch, j);
    else if (FEW_SEARCHES)
        search_trellis(t, VECTORS, t->v, t->costs != NULL, 1, u, scratch, j);
    else if (t->costs && t->v == 4)
        search_trellis(t, VECTORS, 4, 1, t->col_class != NULL, u, scratch, j);
    else if (t->costs)
        search_trellis(t, VECTORS, t->v, 1, 1, u, scratch, j);
    else if (t->col_class)
        search_states(t, 1, u, scratch, j);
    else
        search_states(t, 0, u, scratch, j);
}
