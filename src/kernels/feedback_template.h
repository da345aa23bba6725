/* feedback_template.h - the trellis search with error feedback, compiled once per level of CPU.
 *
 * KERNEL(name), TARGET and INLINE tell which.  What a column's target is depends on the errors of the columns
 * before it, and these on the path: every survivor carries the sum that its own errors add to the columns
 * ahead (per-survivor processing; Raheli, Polydoros and Tzou 1995).  That is kept up for a block of
 * columns; at its end the best survivor stays alone, and what its errors add to later blocks is a product
 * with the feedback matrix (as GPTQ's lazy batches, arXiv 2210.17323).
 *
 * Plain C over lanes: a compiler may use vectors of any width, every lane does the same float operations
 * in the same order. */
#include "kernels/tensor_loops.h"

#include <string.h>

enum { LANES = VCL_STRIPE_LANES, BLOCK = VCL_FEEDBACK_BLOCK };

/* One block on its way through the trellis.  [..][LANES] are floats or integers side by side. */
struct block {
    const struct vcl_stripe *t;
    const struct vcl_feedback *feedback;
    uint32_t first, count;      /* columns */
    float weight[BLOCK][BLOCK]; /* [c][k]: what an error of column first + c adds to column first + k */
    float value[BLOCK][LANES];  /* as the caller gave them */
    float target[BLOCK][LANES]; /* and with the errors of all blocks before */
    int32_t state[LANES];       /* in which the path ends */
    struct vcl_survivors *now, *next;
    int16_t *point;  /* [c][state][LANES]: by which the state was reached */
    uint8_t *branch; /* likewise */
};

/* The lanes' vcl_bend, side by side. */
struct bend_arrays {
    float a[LANES], b[LANES], shrink[LANES], rise[LANES], slope[LANES];
};

INLINE float larger(float x, float y) { return x > y ? x : y; }

/* The point of the subset to take for u, and its cost (tensor_loops.h, struct vcl_bend). */
INLINE float weigh(float u, const struct bend_arrays *how, int l, float subset, float *cost)
{
    const float magic = 12582912.0f, size = u < 0 ? -u : u, least = size * VCL_BEND_LEAST;
    const float a = how->a[l], b = how->b[l], rise = how->rise[l], slope = how->slope[l];
    const float near = larger(size - a * 0.5f, least) * how->shrink[l],
                far = larger(size - slope * 0.5f, least);
    const float v = a * size + b * (size * size) < rise + slope * size ? near : far;
    const float quarter = ((u < 0 ? -v : v) - subset) * 0.25f, p = subset + 4 * ((quarter + magic) - magic);
    const float d = u - p, point = p < 0 ? -p : p;
    const float curve = a * point + b * (point * point), line = rise + slope * point;
    *cost = d * d + (curve < line ? curve : line);
    return p;
}

/* ---- one column ------------------------------------------------------------------------------ */

/* What leads to state `to` by branch b. */
INLINE unsigned before(int v, unsigned to, unsigned b)
{
    const unsigned branch = vcl_trellis_turns[v][0], turn = vcl_trellis_turns[v][1],
                   g = v ? to >> (v - 1) : 0;
    return v ? 2 * (to ^ (g ? turn : 0) ^ (b ? branch : 0)) + g : 0;
}

INLINE float limited(float u)
{
    return u > VCL_FEEDBACK_LIMIT ? VCL_FEEDBACK_LIMIT : u < -VCL_FEEDBACK_LIMIT ? -VCL_FEEDBACK_LIMIT : u;
}

/* The better of the two ways into a state: its cost, its point and what it adds to the columns ahead. */
INLINE void reach(struct block *x, uint32_t c, unsigned to, const struct bend_arrays *how)
{
    const struct vcl_feedback *const f = x->feedback;
    const unsigned v = (unsigned)x->t->v, first = before(x->t->v, to, 0), other = before(x->t->v, to, 1);
    const float *const ahead = x->now->ahead[first][c], *const other_ahead = x->now->ahead[other][c];
    const float *const reached = x->now->cost[first], *const other_reached = x->now->cost[other];
    const float subset = v ? (float)(to >> (v - 1)) : 0;
    const size_t at = ((size_t)c << v | to) * LANES;
    const float factor = f->factor[x->first + c], inverse = f->inverse[x->first + c];
    float error[LANES], cost[LANES]; /* of its own each, or they might be taken for one another */
    int32_t second[LANES], point[LANES];
    for (int l = 0; l < LANES; l++) {
        const float target = x->target[c][l];
        float one, two;
        const float p = weigh(limited(target + ahead[l] * inverse), how, l, subset, &one);
        const float q = weigh(limited(target + other_ahead[l] * inverse), how, l, subset + 2, &two);
        one += reached[l];
        two += other_reached[l];
        second[l] = two < one;
        cost[l] = two < one ? two : one;
        const float chosen = two < one ? q : p;
        point[l] = (int32_t)chosen;
        error[l] = (x->value[c][l] - chosen) * factor;
    }
    memcpy(x->next->cost[to], cost, sizeof cost);
    for (int l = 0; l < LANES; l++)
        x->point[at + (size_t)l] = (int16_t)point[l];
    for (int l = 0; l < LANES; l++)
        x->branch[at + (size_t)l] = (uint8_t)second[l];
    for (uint32_t k = c + 1; k < x->count; k++) {
        const float *const a = x->now->ahead[first][k], *const b = x->now->ahead[other][k];
        float *const sums = x->next->ahead[to][k];
        const float weight = x->weight[c][k];
        for (int l = 0; l < LANES; l++)
            sums[l] = (second[l] ? b[l] : a[l]) + weight * error[l];
    }
}

INLINE void find_bends(const struct vcl_stripe *t, uint32_t col, struct bend_arrays *how)
{
    for (int l = 0; l < LANES; l++) {
        const struct vcl_bend *const bend = &t->bends[vcl_stripe_class(t, l < t->lanes ? l : 0, col)];
        how->a[l] = bend->a;
        how->b[l] = bend->b;
        how->shrink[l] = bend->shrink;
        how->rise[l] = bend->rise;
        how->slope[l] = bend->slope;
    }
}

static void TARGET run_column(struct block *x, uint32_t c)
{
    struct bend_arrays how;
    find_bends(x->t, x->first + c, &how);
    for (unsigned to = 0; to < 1u << x->t->v; to++)
        reach(x, c, to, &how);
    struct vcl_survivors *const next = x->next;
    x->next = x->now;
    x->now = next;
}

/* ---- blocks ---------------------------------------------------------------------------------- */

/* Targets: the values, and what all earlier columns' errors add. */
static void TARGET begin_block(struct block *x, const float *u, const float *errors)
{
    const struct vcl_feedback *const f = x->feedback;
    memset(x->value, 0, sizeof x->value);
    for (uint32_t c = 0; c < x->count; c++) {
        const float *const row = f->matrix + (size_t)(f->first + x->first + c) * f->stride + f->first;
        const float inverse = f->inverse[x->first + c];
        float sum[LANES] = { 0 };
        for (uint32_t k = 0; k < x->first; k++)
            for (int l = 0; l < LANES; l++)
                sum[l] += row[k] * errors[(size_t)k * LANES + (size_t)l];
        for (int l = 0; l < x->t->lanes; l++)
            x->value[c][l] = u[(size_t)(x->first + c) * (size_t)x->t->lanes + (size_t)l];
        for (int l = 0; l < LANES; l++)
            x->target[c][l] = x->value[c][l] + sum[l] * inverse;
        for (uint32_t k = 0; k < c; k++)
            x->weight[k][c] = row[x->first + k];
    }
    for (unsigned s = 0; s < 1u << x->t->v; s++) {
        for (int l = 0; l < LANES; l++)
            x->now->cost[s][l] = x->state[l] == (int32_t)s ? 0 : VCL_UNREACHED;
        memset(x->now->ahead[s], 0, x->count * sizeof x->now->ahead[s][0]);
    }
}

static int32_t best_state(const struct block *x, int lane)
{
    int32_t best = 0;
    for (int32_t s = 1; s < 1 << x->t->v; s++)
        best = x->now->cost[s][lane] < x->now->cost[best][lane] ? s : best;
    return best;
}

/* The best survivor's points, errors and targets; every lane goes on from its state. */
static void TARGET end_block(struct block *x, float *u, float *errors, int16_t *j)
{
    const size_t lanes = (size_t)x->t->lanes;
    for (int l = 0; l < x->t->lanes; l++) {
        unsigned state = (unsigned)best_state(x, l);
        x->state[l] = (int32_t)state;
        for (uint32_t c = x->count; c-- > 0;) {
            const size_t at = ((size_t)c << x->t->v | state) * LANES + (size_t)l;
            j[(x->first + c) * lanes + (size_t)l] = x->point[at];
            state = before(x->t->v, state, x->branch[at]);
        }
    }
    for (uint32_t c = 0; c < x->count; c++) {
        const uint32_t col = x->first + c;
        float sum[LANES] = { 0 };
        for (uint32_t k = 0; k < c; k++)
            for (int l = 0; l < LANES; l++)
                sum[l] += x->weight[k][c] * errors[(size_t)(x->first + k) * LANES + (size_t)l];
        for (size_t l = 0; l < LANES; l++) {
            const float p = l < lanes ? (float)j[col * lanes + l] : 0;
            errors[(size_t)col * LANES + l] = (x->value[c][l] - p) * x->feedback->factor[col];
        }
        for (size_t l = 0; l < lanes; l++)
            u[col * lanes + l] = limited(x->target[c][l] + sum[l] * x->feedback->inverse[col]);
    }
}

void TARGET KERNEL(search_feedback)(const struct vcl_stripe *t, const struct vcl_feedback *feedback, float *u,
                                    void *scratch, int16_t *j)
{
    struct vcl_survivors *const survivors = scratch;
    float *const errors = (float *)(survivors + 2);
    int16_t *const point = (int16_t *)(errors + (size_t)t->cols * LANES);
    uint8_t *const branch = (uint8_t *)(point + ((size_t)BLOCK * LANES << t->v));
    struct block x = { .t = t,
                       .feedback = feedback,
                       .now = survivors,
                       .next = survivors + 1,
                       .point = point,
                       .branch = branch };
    for (x.first = 0; x.first < t->cols; x.first += x.count) {
        x.count = t->cols - x.first < BLOCK ? t->cols - x.first : BLOCK;
        begin_block(&x, u, errors);
        for (uint32_t c = 0; c < x.count; c++)
            run_column(&x, c);
        end_block(&x, u, errors, j);
    }
}

#undef INLINE
