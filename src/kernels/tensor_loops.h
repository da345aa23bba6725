/* tensor_loops.h - the hot loops of the tensor codec: what they take, and their portable definition.
 *
 * A stripe is `lanes` rows whose columns run in sequence; arrays over it are [column][lane].  Stripes of 32
 * lanes are vectorised; those of 8, which belong to small tensors, take the portable way at every level but for
 * the search. */
#ifndef VCL_TENSOR_LOOPS_H
#define VCL_TENSOR_LOOPS_H

#include "base/cpu.h"
#include "vcllm.h"

enum {
    VCL_STRIPE_LANES = 32, /* the most */
    VCL_MODEL_BITS = 10,   /* probabilities are frequencies of 2^10 */
    VCL_MODEL_TOTAL = 1 << VCL_MODEL_BITS,
    VCL_MODEL_SYMBOLS = 64,
    VCL_MODEL_CLASSES = 64,
    VCL_LOW_CLASS = 32,    /* from here on the lowest bits of an index are outside the model */
    VCL_ESCAPE_POINT = 62, /* a table's points j that are not -62 ... 61 are escapes */
    VCL_TRELLIS_BITS_MAX = 8,
    VCL_OFFSETS = 16,     /* reconstruction offsets by |j| */
    VCL_MOVED_POINTS = 32 /* points -32 ... 31 may have one each */
};

#define VCL_LANE_LOW (1u << 16) /* the least a rANS state can be, and where it starts */

/* How many of them, where the first class with any is `from`: with each a class' deviation is halved, so that
 * class t has the model of t - 4 times as many, which is one of the four below. */
static inline int vcl_low_bits(int class, int from) { return class < from ? 0 : (class - from + 4) >> 2; }

/* The symbol of an index: -31 to 30 have their own, all others one of the two escapes, by parity. */
static inline int vcl_symbol_of(int k) { return k >= -31 && k <= 30 ? k + 32 : (k & 1) * 63; }

/* What the search adds to the squared distance of a point p, in half-steps: the less of a |p| + b p^2 and
 * rise + slope |p|, the bits that the class takes for p times what a bit is worth.  The best of every
 * fourth point is then the one nearest to u drawn inwards: to (|u| - a/2) times shrink, 1 / (1 + b), or
 * where the line is lower to |u| - slope/2. */
struct vcl_bend {
    float a, b, shrink, rise, slope;
};
#define VCL_BEND_LEAST 0.0625f /* of |u|, where that is more: signs stay */

/* Where curves do not fit what a class' points cost (values in two humps, or none beyond an edge), all of it:
 * one cost for each 2 K + g from -64 on, K being k without its low bits, at most 31 to either side.  Of
 * every fourth point the two around u are weighed, where decoding will put them. */
#define VCL_POINT_COSTS 128

struct vcl_stripe {
    int lanes;  /* 8 or 32 */
    int active; /* the first of them; the others have no row */
    uint32_t cols;
    int v;        /* trellis state bits */
    int low_from; /* the first class whose indices have low bits; VCL_MODEL_CLASSES: none here has */
    int8_t row_class[VCL_STRIPE_LANES];
    const int8_t *col_class;      /* by column; NULL: all 0 */
    const uint32_t *slots;        /* decoding, by class: vcl_model_slots */
    const uint32_t *codes;        /* encoding, by class: vcl_model_codes */
    const struct vcl_bend *bends; /* searching, by class */
    const float *costs;           /* searching: by class VCL_POINT_COSTS, in place of bends; or NULL */
    const float *moves;           /* searching, with costs: as in vcl_points, a 0 before and behind them */
};

static inline int vcl_stripe_class(const struct vcl_stripe *t, int lane, uint32_t col)
{
    const int class = t->row_class[lane] + (t->col_class ? t->col_class[col] : 0);
    return class < 0 ? 0 : class >= VCL_MODEL_CLASSES ? VCL_MODEL_CLASSES - 1 : class;
}

/* State s of v bits: union codebook g = s & 1, branch b = k & 1; the next state is s / 2 ^ (b ? turn[0]
 * : 0) ^ (g ? turn[1] : 0), and turn[1] alone has the highest bit: halves of Ungerboeck's parity-check
 * polynomials (1982), in octal 2 4 4 10 24 126 362 and 5 13 23 45 103 235 515 for 2 to 8 bits.  v = 0
 * is the scalar quantiser. */
static const uint8_t vcl_trellis_turns[VCL_TRELLIS_BITS_MAX + 1][2] = {
    { 0, 0 },    { 0, 0 },     { 01, 02 },    { 02, 05 },    { 02, 011 },
    { 04, 022 }, { 012, 041 }, { 053, 0116 }, { 0171, 0246 }
};

/* A float beyond any path's cost that still adds up exactly enough to stay beyond; and how often the
 * least cost is taken off all. */
#define VCL_UNREACHED 1e30f
#define VCL_RENORM 64

/* A slot's entry is a frequency, from bit 10 on what is left of the slot, from bit 20 on the point, of which
 * the lowest bit is the codebook; loops in vectors take the numbers for granted. */
_Static_assert(VCL_MODEL_BITS == 10, "a frequency, and what is left of a slot, have ten bits of an entry");

struct vcl_lanes_reader {
    const uint8_t *escapes, *escapes_end;
    const uint8_t *words, *words_end;
    uint32_t state[VCL_STRIPE_LANES];   /* never below VCL_LANE_LOW */
    uint32_t trellis[VCL_STRIPE_LANES]; /* 0 at the start of a stripe */
    int damaged;
};

/* Both go down: the last written is the first read. */
struct vcl_lanes_writer {
    uint8_t *escapes;
    uint8_t *words; /* 32 bytes more may be scribbled on than are used */
    uint32_t state[VCL_STRIPE_LANES];
};

/* How j becomes a value: j moved away from 0 by offset[|j|] (0 for 0 and for the last), times its column's
 * step, kept within limit, in dtype. */
struct vcl_points {
    float offset[VCL_OFFSETS];
    const float *moves; /* NULL; or in place of offset what is added to each j, from -VCL_MOVED_POINTS on */
    const float *steps;
    float limit;
    enum vcl_dtype dtype;
};

/* Values to half-steps: x times scale, kept within limit. */
struct vcl_scaling {
    float scale, limit;
};

/* Error feedback: what the errors of columns, in half-steps times factor, add to later ones: before column
 * c is coded, inverse[c] times the sum over earlier columns k of the tile of matrix[first + c][first + k]
 * times k's error. */
struct vcl_feedback {
    const float *matrix; /* rows `stride` values apart */
    size_t stride;
    size_t first;                  /* column of the matrix that is the tile's first */
    const float *factor, *inverse; /* by column of the tile: its step over the frame's, and the reverse */
};

enum { VCL_FEEDBACK_BLOCK = 64 };  /* columns between which survivors are told apart */
#define VCL_FEEDBACK_LIMIT 30000.f /* half-steps that a target with its feedback may have */

struct vcl_survivors {
    float cost[1 << VCL_TRELLIS_BITS_MAX][VCL_STRIPE_LANES];
    float ahead[1 << VCL_TRELLIS_BITS_MAX][VCL_FEEDBACK_BLOCK]
               [VCL_STRIPE_LANES]; /* what is added, by column */
};

/* Is a product rounded before something is added to it, in the function that this stands in?  (1 + 2^-12)^2 is
 * 1 + 2^-11 in f32, 2^-24 less than it is.  The volatile factors are for compilers that would find out now. */
static inline __attribute__((always_inline)) int vcl_product_is_rounded(void)
{
    const volatile float factor = 0x1.001p0f, square = 0x1.002p0f;
    const float x = factor, y = square;
    return x * x - y == 0;
}

#define VCL_TENSOR_LEVEL(LEVEL, L, has)                                                                     \
    int vcl_rounds_products_##L(void);                                                                      \
    void vcl_decode_columns_##L(const struct vcl_stripe *t, struct vcl_lanes_reader *r, uint32_t first,     \
                                uint32_t count, int16_t *j);                                                \
    void vcl_encode_stripe_##L(const struct vcl_stripe *t, struct vcl_lanes_writer *w, const int16_t *j);   \
    void vcl_load_rows_##L(const struct vcl_stripe *t, const struct vcl_scaling *scaling, const float *x,   \
                           size_t stride, float *u);                                                        \
    void vcl_store_rows_##L(const struct vcl_stripe *t, const struct vcl_points *points, const int16_t *j,  \
                            uint32_t first, uint32_t count, void *dst, size_t stride);                      \
    void vcl_search_##L(const struct vcl_stripe *t, const float *u, uint32_t *scratch, int16_t *j);         \
    void vcl_search_feedback_##L(const struct vcl_stripe *t, const struct vcl_feedback *feedback, float *u, \
                                 void *scratch, int16_t *j);

VCL_CPU_LEVELS(VCL_TENSOR_LEVEL)

/* What all levels share: escapes are rare. */

static inline int vcl_stripe_is_low(const struct vcl_stripe *t) { return t->low_from < VCL_MODEL_CLASSES; }

/* Low bits of a lane's index in a column. */
static inline unsigned vcl_stripe_low_bits(const struct vcl_stripe *t, int lane, uint32_t col)
{
    return (unsigned)vcl_low_bits(vcl_stripe_class(t, lane, col), t->low_from);
}

/* Reads the escapes of the lanes in mask and puts them in place of the bits above the low bits and g. */
void vcl_get_escapes(const struct vcl_stripe *t, struct vcl_lanes_reader *r, uint32_t mask, uint32_t col,
                     int16_t *column);
/* Writes those of the lanes in mask. */
void vcl_put_escapes(const struct vcl_stripe *t, struct vcl_lanes_writer *w, uint32_t mask, uint32_t col,
                     const int16_t *column);

#endif
