/* transform.c - step 3: a DCT down the columns, along the rows, or both.
 *
 * In: a tile of floats, smooth along an axis (position embeddings along positions, keys along tokens) or
 * made of waves (filter banks).  Out: as many coefficients, whose energy lies in few frequencies; rows or
 * columns of one frequency are alike, which the scale classes then find out.  Plain products with the
 * orthonormal DCT-II's matrix in a fixed order of additions: every machine decodes the same bits.
 * Hadamard's transform and prediction from the row before gain less (docs/experiments.md). */
#include "transform.h"

#include <stddef.h>

/* WIDTH: vectors transformed side by side, as so many quads; sums of OUTPUTS values of two quads are in
 * registers. */
enum { LONGEST = 256, CIRCLE = 4 * LONGEST, WIDTH = 32, QUADS = WIDTH / 4, OUTPUTS = 4 };
typedef float quad __attribute__((vector_size(16)));

/* 2^23 cos(pi m / 512) */
static const int32_t cosines[LONGEST + 1] = {
    8388608, 8388450, 8387976, 8387187, 8386082, 8384660, 8382924, 8380871, 8378504, 8375820, 8372822,
    8369508, 8365879, 8361935, 8357676, 8353102, 8348215, 8343012, 8337496, 8331666, 8325522, 8319064,
    8312294, 8305210, 8297814, 8290105, 8282085, 8273752, 8265108, 8256153, 8246887, 8237310, 8227423,
    8217227, 8206721, 8195906, 8184783, 8173351, 8161612, 8149565, 8137212, 8124552, 8111587, 8098316,
    8084740, 8070859, 8056675, 8042188, 8027397, 8012305, 7996911, 7981215, 7965220, 7948924, 7932329,
    7915436, 7898244, 7880755, 7862970, 7844888, 7826511, 7807839, 7788874, 7769615, 7750063, 7730220,
    7710086, 7689661, 7668947, 7647945, 7626654, 7605076, 7583212, 7561062, 7538628, 7515910, 7492909,
    7469625, 7446061, 7422216, 7398092, 7373689, 7349009, 7324052, 7298819, 7273311, 7247530, 7221475,
    7195149, 7168552, 7141685, 7114549, 7087145, 7059475, 7031538, 7003337, 6974873, 6946145, 6917156,
    6887907, 6858399, 6828632, 6798608, 6768328, 6737793, 6707005, 6675964, 6644672, 6613129, 6581338,
    6549299, 6517013, 6484482, 6451706, 6418688, 6385428, 6351928, 6318189, 6284212, 6249998, 6215549,
    6180865, 6145949, 6110802, 6075425, 6039819, 6003985, 5967926, 5931642, 5895134, 5858405, 5821455,
    5784285, 5746898, 5709295, 5671477, 5633445, 5595201, 5556746, 5518082, 5479211, 5440133, 5400850,
    5361364, 5321677, 5281788, 5241701, 5201417, 5160937, 5120262, 5079395, 5038336, 4997088, 4955652,
    4914029, 4872221, 4830229, 4788056, 4745702, 4703170, 4660461, 4617576, 4574518, 4531287, 4487885,
    4444315, 4400577, 4356674, 4312606, 4268377, 4223986, 4179437, 4134730, 4089867, 4044851, 3999682,
    3954362, 3908894, 3863279, 3817518, 3771613, 3725567, 3679380, 3633054, 3586592, 3539995, 3493264,
    3446402, 3399411, 3352291, 3305045, 3257674, 3210181, 3162567, 3114834, 3066984, 3019018, 2970939,
    2922748, 2874446, 2826037, 2777521, 2728901, 2680177, 2631353, 2582430, 2533410, 2484294, 2435084,
    2385783, 2336392, 2286914, 2237349, 2187700, 2137968, 2088156, 2038265, 1988298, 1938256, 1888141,
    1837954, 1787699, 1737376, 1686988, 1636536, 1586023, 1535450, 1484819, 1434132, 1383392, 1332599,
    1281756, 1230864, 1179927, 1128945, 1077920, 1026855, 975751,  924611,  873436,  822227,  770988,
    719720,  668425,  617104,  565761,  514396,  463011,  411609,  360192,  308761,  257319,  205867,
    154407,  102941,  51472,   0
};

static int32_t cosine(unsigned m)
{
    m = m > CIRCLE / 2 ? CIRCLE - m : m;
    return m > CIRCLE / 4 ? -cosines[CIRCLE / 2 - m] : cosines[m];
}

/* A transform of length n: W(k, i), frequency k at place i, is wave[place(n, k, i)]. */
struct dct {
    unsigned n;
    float wave[CIRCLE];
};

static void make_dct(unsigned log2, struct dct *t)
{
    /* 2^-23 sqrt(2/n) */
    static const float scales[] = { 0x1.6a09e6p-24f, 0x1p-24f, 0x1.6a09e6p-25f, 0x1p-25f,
                                    0x1.6a09e6p-26f, 0x1p-26f, 0x1.6a09e6p-27f };
    t->n = 1u << log2;
    for (unsigned m = 0; m < CIRCLE; m++)
        t->wave[m] = (float)cosine(m) * scales[log2 - 2];
}

static unsigned place(unsigned n, unsigned k, unsigned i)
{
    return k > 0 ? (2 * i + 1) * k * (LONGEST / n) % CIRCLE : CIRCLE / 8;
}

/* What the inputs are multiplied by for OUTPUTS outputs from `first` on. */
static void find_weights(const struct dct *t, int forward, unsigned first, float w[LONGEST][OUTPUTS])
{
    for (unsigned k = 0; k < t->n; k++)
        for (unsigned o = 0; o < OUTPUTS; o++)
            w[k][o] = t->wave[forward ? place(t->n, first + o, k) : place(t->n, k, first + o)];
}

/* Output o is the sum over k of input k times w[k][o], k ascending; of quads q and q + 1. */
static void multiply(unsigned n, quad in[LONGEST][QUADS], float w[LONGEST][OUTPUTS], unsigned q,
                     quad out[OUTPUTS][QUADS])
{
    quad sums[OUTPUTS][2];
    for (unsigned o = 0; o < OUTPUTS; o++)
        for (unsigned i = 0; i < 2; i++)
            sums[o][i] = in[0][q + i] * w[0][o];
    for (unsigned k = 1; k < n; k++)
        for (unsigned o = 0; o < OUTPUTS; o++)
            for (unsigned i = 0; i < 2; i++)
                sums[o][i] += in[k][q + i] * w[k][o];
    for (unsigned o = 0; o < OUTPUTS; o++)
        for (unsigned i = 0; i < 2; i++)
            out[o][q + i] = sums[o][i];
}

/* `width` vectors in place; `step` between a vector's values, `next` between vectors. */
static void apply(const struct dct *t, int forward, float *x, size_t step, size_t next, uint32_t width)
{
    quad in[LONGEST][QUADS], out[OUTPUTS][QUADS];
    float w[LONGEST][OUTPUTS];
    for (unsigned k = 0; k < t->n; k++)
        for (uint32_t v = 0; v < WIDTH; v++)
            in[k][v / 4][v % 4] = v < width ? x[k * step + v * next] : 0;
    for (unsigned i = 0; i < t->n; i += OUTPUTS) {
        find_weights(t, forward, i, w);
        for (unsigned q = 0; q < QUADS; q += 2)
            multiply(t->n, in, w, q, out);
        for (unsigned o = 0; o < OUTPUTS; o++)
            for (uint32_t v = 0; v < width; v++)
                x[(i + o) * step + v * next] = out[o][v / 4][v % 4];
    }
}

/* Vectors of `length` values, `count` of them, block by block. */
static void apply_all(unsigned log2, int forward, float *x, uint32_t length, size_t step, uint32_t count,
                      size_t next)
{
    struct dct t;
    if (log2 == 0)
        return;
    make_dct(log2, &t);
    for (uint32_t i = 0; i + t.n <= length; i += t.n)
        for (uint32_t v = 0; v < count; v += WIDTH)
            apply(&t, forward, x + i * step + v * next, step, next, count - v < WIDTH ? count - v : WIDTH);
}

void vcl_transform_tile(struct vcl_transform t, float *x, uint32_t rows, uint32_t cols)
{
    apply_all(t.down, 1, x, rows, cols, cols, 1);
    apply_all(t.along, 1, x, cols, 1, rows, cols);
}

void vcl_transform_tile_back(struct vcl_transform t, float *x, uint32_t rows, uint32_t cols)
{
    apply_all(t.along, 0, x, cols, 1, rows, cols);
    apply_all(t.down, 0, x, rows, cols, cols, 1);
}
