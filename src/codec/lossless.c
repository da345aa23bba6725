/* lossless.c - stage 8: a tile's values to fewer bytes and exactly back.
 *
 * In: values of any dtype.  Out: byte planes, each raw, constant, packed into seven bits or rANS coded; of
 * values that lie on few levels (levels.c) the planes of their codes, scales and literals.
 *
 * The sign goes to the lowest bit, so that the first plane of a float is its exponent, which is where the
 * redundancy is; where seven bits hold a tile's exponents, the mantissa's highest bit joins them, since
 * small mantissas are more frequent in every octave.  The rest of a mantissa is noise: a plane that coding
 * would shrink by less than 1/64 is stored as it is, which halves the time of decoding.  Blocks of 256
 * symbols choose between up to four models by their mean, because rows and channels differ in scale.
 * docs/design.md has the numbers.
 *
 * Decoding runs over chunks of all planes at once, so that planes need no memory of a tile's size. */
#include "lossless.h"

#include <math.h>

#include "base/common.h"
#include "base/dtype.h"
#include "codec/levels.h"
#include "codec/rans.h"

enum tile_mode { TILE_RAW, TILE_PLANES, TILE_NARROW, TILE_LEVELS, TILE_MODES };
enum plane_mode { PLANE_RAW, PLANE_CONSTANT, PLANE_PACKED, PLANE_RANS, PLANE_MODES };

enum {
    CHUNK = 4096,
    BLOCK = 256,
    MAX_CLASSES = 4,
    FEW_LANES = 4,        /* for planes of less than */
    FEW_SYMBOLS = 4096,   /* this many symbols: a lane costs four bytes */
    WORDS_ROOM = 16,      /* what kernels may scribble below the words */
    SAMPLE_ABOVE = 65536, /* longer planes are first judged by */
    SAMPLE_STEP = 8,      /* one block in eight */
    LEVELS_HEAD = 16,
    LEVELS_ROOM = LEVELS_HEAD + 8 * VCL_LEVELS_MOST + 64 /* beyond codes, scales and literals */
};

struct model {
    uint32_t counts[256];
    uint16_t frequencies[256];
};

/* One plane while it is decoded. */
struct plane {
    enum plane_mode mode;
    const uint8_t *at, *end; /* the bytes left */
    const uint8_t *classes;  /* rANS: of blocks, `class_bits` bits each */
    unsigned class_bits;
    size_t block; /* next one */
    size_t lanes;
    uint32_t states[VCL_RANS_LANES];
    uint32_t (*tables)[VCL_RANS_TOTAL];
};

struct vcl_lossless {
    enum vcl_dtype dtype;
    struct vcl_split split; /* of the numbers at hand: the dtype's or, for scales, of f32 */
    enum vcl_fold fold;     /* likewise */
    int has_exponent_byte;  /* likewise: bits 1 to 8 after the sign, as in f32 */
    struct vcl_levels levels;
    /* Encoding */
    uint8_t *planes;                                        /* a tile's */
    uint8_t *words;                                         /* of one plane, written backwards */
    uint32_t *sums;                                         /* of a plane's blocks */
    uint8_t *classes;                                       /* likewise */
    struct model models[MAX_CLASSES + MAX_CLASSES / 2 + 1]; /* 4 classes, 2 classes, 1 */
    struct vcl_levels_finder *finder;
    uint8_t *codes, *packed, *literals;
    uint8_t *coded; /* a tile by its levels */
    size_t aside;   /* its literals */
    size_t fixed;   /* bytes of the last tile that its length does not tell in */
    /* Decoding */
    struct plane readers[VCL_MAX_PLANES];
    uint8_t (*chunks)[CHUNK];                        /* one per plane */
    uint8_t *expanded, *values;                      /* codes of a chunk, what they stand for */
    uint32_t (*tables)[MAX_CLASSES][VCL_RANS_TOTAL]; /* likewise */
};

static unsigned width_of(enum vcl_dtype dtype)
{
    const unsigned bits = dtype == VCL_DTYPE_C64 ? 32 : vcl_dtype_bits(dtype);
    return bits >= 16 ? bits / 8 : 1;
}

static enum vcl_fold fold_of(enum vcl_dtype dtype)
{
    switch (dtype) {
    case VCL_DTYPE_F16:
    case VCL_DTYPE_BF16:
    case VCL_DTYPE_F32:
    case VCL_DTYPE_C64:
    case VCL_DTYPE_F64: return VCL_FOLD_ROTATE;
    case VCL_DTYPE_I16:
    case VCL_DTYPE_I32:
    case VCL_DTYPE_I64: return VCL_FOLD_ZIGZAG;
    default: return VCL_FOLD_NONE;
    }
}

/* The numbers that come next are the dtype's. */
static void set_dtype(struct vcl_lossless *work, enum vcl_dtype dtype)
{
    work->split.width = width_of(dtype);
    work->fold = fold_of(dtype);
    work->has_exponent_byte = dtype == VCL_DTYPE_BF16 || dtype == VCL_DTYPE_F32 || dtype == VCL_DTYPE_C64;
}

static int create_encoder(const struct vcl_mem *mem, const struct vcl_tensor *tensor, size_t n, size_t bytes,
                          struct vcl_lossless *work)
{
    const size_t blocks = n / BLOCK + 1;
    work->planes = vcl_alloc_raw(mem, bytes, 1);
    work->words = vcl_alloc_raw(mem, n + WORDS_ROOM, 1);
    work->sums = vcl_alloc(mem, blocks, sizeof *work->sums);
    work->classes = vcl_alloc(mem, blocks, 1);
    work->finder = vcl_levels_create(mem, tensor, n);
    work->codes = vcl_alloc_raw(mem, n, 1);
    work->packed = vcl_alloc_raw(mem, n, 1); /* and scales: fewer bytes than values */
    work->literals = vcl_alloc_raw(mem, bytes, 1);
    work->coded = vcl_alloc_raw(mem, bytes + 2 * n + LEVELS_ROOM, 1);
    return work->planes && work->words && work->sums && work->classes && work->finder && work->codes
        && work->packed && work->literals && work->coded;
}

static int create_decoder(const struct vcl_mem *mem, size_t width, struct vcl_lossless *work)
{
    const size_t planes = width < 4 ? 4 : width; /* scales have four */
    work->chunks = vcl_alloc(mem, planes, sizeof *work->chunks);
    work->tables = vcl_alloc(mem, planes, sizeof *work->tables);
    work->expanded = vcl_alloc_raw(mem, CHUNK, 1);
    work->values = vcl_alloc_raw(mem, CHUNK, width);
    return work->chunks && work->tables && work->expanded && work->values;
}

struct vcl_lossless *vcl_lossless_create(const struct vcl_mem *mem, const struct vcl_tensor *tensor,
                                         size_t bytes, int encoding)
{
    struct vcl_lossless *const work = vcl_alloc(mem, 1, sizeof *work);
    if (!work)
        return NULL;
    const unsigned width = width_of(tensor->dtype);
    const size_t n = bytes / width;
    work->dtype = work->levels.dtype = tensor->dtype;
    work->levels.width = width;
    work->levels.scales = vcl_alloc_raw(mem, n / VCL_LEVELS_GROUP + 2, sizeof *work->levels.scales);
    const int others =
        encoding ? create_encoder(mem, tensor, n, bytes, work) : create_decoder(mem, width, work);
    if (work->levels.scales && others)
        return work;
    vcl_lossless_destroy(mem, work);
    return NULL;
}

void vcl_lossless_destroy(const struct vcl_mem *mem, struct vcl_lossless *work)
{
    if (!work)
        return;
    vcl_free(mem, work->levels.scales);
    vcl_free(mem, work->planes);
    vcl_free(mem, work->words);
    vcl_free(mem, work->sums);
    vcl_free(mem, work->classes);
    vcl_levels_destroy(mem, work->finder);
    vcl_free(mem, work->codes);
    vcl_free(mem, work->packed);
    vcl_free(mem, work->literals);
    vcl_free(mem, work->coded);
    vcl_free(mem, work->chunks);
    vcl_free(mem, work->tables);
    vcl_free(mem, work->expanded);
    vcl_free(mem, work->values);
    vcl_free(mem, work);
}

static size_t lanes_for(size_t n) { return n < FEW_SYMBOLS ? FEW_LANES : VCL_RANS_LANES; }

/* Bytes of n values below 128, packed: whole groups in 7/8 of their size, the rest as it is. */
static size_t packed_bytes(size_t n)
{
    return n / VCL_PACK_GROUP * (VCL_PACK_GROUP / 8 * 7) + n % VCL_PACK_GROUP;
}

static size_t class_map_bytes(size_t n, unsigned class_bits)
{
    return (size_t)vcl_ceil_div(vcl_ceil_div(n, BLOCK) * class_bits, 8);
}

/* ---- encoding -------------------------------------------------------------------------------- */

/* Four tables, so that equal symbols in sequence do not wait for each other's store. */
static void count_bytes(const uint8_t *src, size_t n, uint32_t counts[4][256])
{
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const uint64_t x = vcl_load64(src + i);
        counts[0][x & 255]++;
        counts[1][x >> 8 & 255]++;
        counts[2][x >> 16 & 255]++;
        counts[3][x >> 24 & 255]++;
        counts[0][x >> 32 & 255]++;
        counts[1][x >> 40 & 255]++;
        counts[2][x >> 48 & 255]++;
        counts[3][x >> 56]++;
    }
    for (; i < n; i++)
        counts[0][src[i]]++;
}

static void add_counts(const uint32_t *a, const uint32_t *b, uint32_t *sum)
{
    for (int s = 0; s < 256; s++)
        sum[s] = a[s] + b[s];
}

/* Does it look as if coding saved 1/64 of `limit` bytes for n symbols?  A sample looks a little more
 * compressible than the whole, so a no can be believed. */
static int is_promising(const uint8_t *plane, size_t n, size_t limit)
{
    uint32_t counts[4][256] = { 0 };
    uint16_t frequencies[256];
    size_t sampled = 0;
    if (n < SAMPLE_ABOVE)
        return 1;
    for (size_t at = 0; at + BLOCK <= n; at += SAMPLE_STEP * BLOCK, sampled += BLOCK)
        count_bytes(plane + at, BLOCK, counts);
    for (int t = 1; t < 4; t++)
        add_counts(counts[0], counts[t], counts[0]);
    vcl_rans_normalise(counts[0], frequencies);
    const uint64_t bytes = vcl_rans_cost(counts[0], frequencies) * n / sampled / 8;
    return bytes < limit - limit / 64;
}

/* Cuts the blocks into four classes of about equal number by their sums. */
static void classify(struct vcl_lossless *work, const struct vcl_kernels *kernels, const uint8_t *plane,
                     size_t n)
{
    uint32_t buckets[BLOCK] = { 0 }; /* by mean: a block's sum is below 2^16 */
    const size_t whole = n / BLOCK, blocks = (size_t)vcl_ceil_div(n, BLOCK);
    uint8_t class_of[BLOCK];
    size_t before = 0;
    kernels->sum_blocks(plane, whole, work->sums);
    if (blocks > whole)
        work->sums[whole] = whole ? work->sums[whole - 1] : 0;
    for (size_t b = 0; b < blocks; b++)
        buckets[work->sums[b] / BLOCK]++;
    for (int m = 0; m < BLOCK; m++) {
        class_of[m] = (uint8_t)((before + buckets[m] / 2) * MAX_CLASSES / blocks);
        before += buckets[m];
    }
    for (size_t b = 0; b < blocks; b++)
        work->classes[b] = class_of[work->sums[b] / BLOCK];
}

/* Models for four, two and one class, and how many bits name the class under the best of the three. */
static unsigned choose_models(struct vcl_lossless *work, const uint8_t *plane, size_t n, uint64_t *bytes)
{
    struct model *const m = work->models;
    uint32_t counts[MAX_CLASSES][4][256] = { 0 };
    uint64_t best = UINT64_MAX;
    unsigned best_bits = 0;
    for (size_t at = 0, b = 0; at < n; at += BLOCK, b++)
        count_bytes(plane + at, (size_t)vcl_min(BLOCK, n - at), counts[work->classes[b]]);
    for (int c = 0; c < MAX_CLASSES; c++) {
        add_counts(counts[c][0], counts[c][1], m[c].counts);
        add_counts(m[c].counts, counts[c][2], m[c].counts);
        add_counts(m[c].counts, counts[c][3], m[c].counts);
    }
    for (int c = 0; c < 3; c++)
        add_counts(m[2 * c].counts, m[2 * c + 1].counts, m[MAX_CLASSES + c].counts);
    for (unsigned bits = 0; bits <= 2; bits++) {
        uint64_t cost = 8 * class_map_bytes(n, bits);
        for (struct model *k = m + (8 - (2u << bits)); k < m + (8 - (1u << bits)); k++) {
            uint8_t table[VCL_RANS_TABLE_BYTES];
            vcl_rans_normalise(k->counts, k->frequencies);
            cost += vcl_rans_cost(k->counts, k->frequencies) + 8 * vcl_rans_put_table(k->frequencies, table);
        }
        if (cost < best) {
            best = cost;
            best_bits = bits;
        }
    }
    *bytes = best / 8 + 4 * lanes_for(n);
    return best_bits;
}

/* Models of `class_bits`: 7 in all, those of two bits first. */
static const struct model *models_of(const struct vcl_lossless *work, unsigned class_bits)
{
    return work->models + (8 - (2u << class_bits));
}

static unsigned class_at(const struct vcl_lossless *work, size_t block, unsigned class_bits)
{
    return (unsigned)work->classes[block] >> (2 - class_bits);
}

/* The words of a plane, backwards from the end of `words`; NULL if they do not fit. */
static uint8_t *encode_words(struct vcl_lossless *work, const struct vcl_kernels *kernels,
                             const uint8_t *plane, size_t n, unsigned class_bits, uint32_t *states,
                             uint8_t *end)
{
    uint32_t tables[MAX_CLASSES][VCL_RANS_ENCODE_ENTRIES];
    const size_t lanes = lanes_for(n);
    for (unsigned c = 0; c < 1u << class_bits; c++)
        vcl_rans_encode_table(models_of(work, class_bits)[c].frequencies, tables[c]);
    for (size_t i = 0; i < lanes; i++)
        states[i] = VCL_RANS_LOW;
    for (size_t block = (size_t)vcl_ceil_div(n, BLOCK); block > 0; block--) {
        const uint8_t *const src = plane + (block - 1) * BLOCK;
        const size_t count = (size_t)vcl_min(BLOCK, (size_t)(plane + n - src));
        const uint32_t *const table = tables[class_at(work, block - 1, class_bits)];
        if ((size_t)(end - work->words) < 2 * count + WORDS_ROOM)
            return NULL;
        end = lanes == VCL_RANS_LANES ? kernels->rans_encode(states, src, count, table, end)
                                      : vcl_rans_encode_lanes(states, lanes, src, count, table, end);
    }
    return end;
}

static size_t put_class_map(const struct vcl_lossless *work, size_t n, unsigned class_bits, uint8_t *dst)
{
    const size_t blocks = (size_t)vcl_ceil_div(n, BLOCK), bytes = class_map_bytes(n, class_bits);
    memset(dst, 0, bytes);
    for (size_t b = 0; b < blocks && class_bits; b++) {
        const size_t bit = b * class_bits;
        dst[bit / 8] = (uint8_t)(dst[bit / 8] | class_at(work, b, class_bits) << bit % 8);
    }
    return bytes;
}

/* Mode, length, class bits, class map, tables, states, words; 0 if that takes `limit` bytes or more. */
static size_t encode_rans(struct vcl_lossless *work, const struct vcl_kernels *kernels, const uint8_t *plane,
                          size_t n, size_t limit, uint8_t *dst)
{
    uint32_t states[VCL_RANS_LANES];
    uint64_t estimate;
    classify(work, kernels, plane, n);
    const unsigned class_bits = choose_models(work, plane, n, &estimate);
    if (estimate + 6 >= limit - limit / 64)
        return 0;
    uint8_t *const end = work->words + n + WORDS_ROOM;
    const uint8_t *const words = encode_words(work, kernels, plane, n, class_bits, states, end);
    const size_t count = words ? (size_t)(end - words) : 0, lanes = lanes_for(n);
    /* Tables may be longer than what is left of the limit: they are bounded by themselves. */
    uint8_t head[MAX_CLASSES * VCL_RANS_TABLE_BYTES];
    size_t at = 6, tables = 0;
    for (unsigned c = 0; c < 1u << class_bits; c++)
        tables += vcl_rans_put_table(models_of(work, class_bits)[c].frequencies, head + tables);
    const size_t size = at + class_map_bytes(n, class_bits) + tables + 4 * lanes + count;
    if (!words || size >= limit)
        return 0;
    dst[0] = PLANE_RANS;
    vcl_store32(dst + 1, (uint32_t)(size - 5));
    dst[5] = (uint8_t)class_bits;
    at += put_class_map(work, n, class_bits, dst + at);
    memcpy(dst + at, head, tables);
    at += tables;
    for (size_t i = 0; i < lanes; i++, at += 4)
        vcl_store32(dst + at, states[i]);
    memcpy(dst + at, words, count);
    work->fixed += tables + 3 * lanes; /* a state's fourth byte is full of values */
    return size;
}

/* Returns the bytes written: n + 1 at most. */
static size_t encode_plane(struct vcl_lossless *work, const struct vcl_kernels *kernels, const uint8_t *plane,
                           size_t n, uint8_t *dst)
{
    struct vcl_byte_range range;
    kernels->range(plane, n, &range);
    if (range.least == range.most) {
        dst[0] = PLANE_CONSTANT;
        dst[1] = range.most;
        return 2;
    }
    const int packs = range.most < 128;
    const size_t plain = packs ? packed_bytes(n) : n;
    const size_t coded =
        is_promising(plane, n, plain) ? encode_rans(work, kernels, plane, n, plain + 1, dst) : 0;
    if (coded)
        return coded;
    dst[0] = packs ? PLANE_PACKED : PLANE_RAW;
    const size_t whole = packs ? n / VCL_PACK_GROUP : 0;
    kernels->pack(plane, whole, dst + 1);
    memcpy(dst + 1 + whole * (VCL_PACK_GROUP / 8 * 7), plane + whole * VCL_PACK_GROUP,
           n - whole * VCL_PACK_GROUP);
    return plain + 1;
}

/* Where the planes of a tile lie that have n values each. */
static void place_planes(const struct vcl_lossless *work, size_t n, uint8_t **planes)
{
    for (size_t p = 0; p < work->split.width; p++)
        planes[p] = work->planes + p * n;
}

/* Do seven bits hold the exponents, less a base for all but 0?  Then that is how the values are split. */
static int choose_narrow(struct vcl_lossless *work, const struct vcl_kernels *kernels, const uint8_t *raw,
                         size_t n)
{
    uint8_t *planes[VCL_MAX_PLANES] = { 0 };
    uint8_t most = 0, least_positive = 255;
    place_planes(work, (size_t)vcl_min(n, CHUNK), planes);
    for (size_t at = 0; at < n; at += CHUNK) {
        const size_t count = (size_t)vcl_min(n - at, CHUNK);
        struct vcl_byte_range range;
        kernels->split(&work->split, raw + at * work->split.width, count, planes);
        kernels->range(planes[0], count, &range);
        most = range.most > most ? range.most : most;
        least_positive = range.least_positive < least_positive ? range.least_positive : least_positive;
    }
    const unsigned base = most > 127 ? most - 127u : 0;
    if (least_positive <= base)
        return 0;
    work->split.fold = VCL_FOLD_NARROW;
    work->split.base = base;
    return 1;
}

/* Values of a dtype to a tile of mode 0, 1 or 2: a byte more than they take at most. */
static size_t encode_planes(struct vcl_lossless *work, const struct vcl_kernels *kernels,
                            enum vcl_dtype dtype, const uint8_t *raw, size_t bytes, uint8_t *dst)
{
    const size_t width = width_of(dtype), n = bytes / width;
    uint8_t *planes[VCL_MAX_PLANES] = { 0 };
    size_t at = 1;
    set_dtype(work, dtype);
    work->split.fold = work->fold;
    dst[0] = TILE_PLANES;
    if (work->has_exponent_byte && choose_narrow(work, kernels, raw, n)) {
        dst[0] = TILE_NARROW;
        dst[at++] = (uint8_t)work->split.base;
    }
    if (width == 1)
        at += encode_plane(work, kernels, raw, n, dst + at);
    place_planes(work, n, planes);
    if (width > 1)
        kernels->split(&work->split, raw, n, planes);
    for (size_t p = 0; p < width && width > 1; p++)
        at += encode_plane(work, kernels, planes[p], n, dst + at);
    if (at <= bytes)
        return at;
    dst[0] = TILE_RAW;
    memcpy(dst + 1, raw, bytes);
    return bytes + 1;
}

static void pack_codes(const uint8_t *codes, size_t n, unsigned bits, uint8_t *dst)
{
    const size_t each = 8 / bits;
    for (size_t at = 0; at < n; at += each) {
        const size_t count = (size_t)vcl_min(each, n - at);
        unsigned byte = 0;
        for (size_t i = 0; i < count; i++)
            byte |= (unsigned)codes[at + i] << bits * i;
        dst[at / each] = (uint8_t)byte;
    }
}

/* Codes as many in a byte as there is room for, which is faster, unless one in each is smaller by 1/64. */
static size_t encode_codes(struct vcl_lossless *work, const struct vcl_kernels *kernels, size_t n,
                           unsigned symbols, uint8_t *dst, uint8_t *bits)
{
    size_t packed = 0, fixed = work->fixed;
    *bits = symbols <= 2 ? 1 : symbols <= 4 ? 2 : symbols <= 16 ? 4 : 8;
    if (*bits < 8) {
        pack_codes(work->codes, n, *bits, work->packed);
        packed = encode_plane(work, kernels, work->packed, (size_t)vcl_ceil_div(n, 8 / *bits), dst);
    }
    const size_t packed_fixed = work->fixed;
    work->fixed = fixed;
    const size_t single = encode_plane(work, kernels, work->codes, n, dst + packed);
    if (packed > 0 && packed <= single + single / 64) {
        work->fixed = packed_fixed;
        return packed;
    }
    *bits = 8;
    memmove(dst, dst + packed, single);
    return single;
}

/* n values by the levels that were found, to work->coded. */
static size_t encode_levels(struct vcl_lossless *work, const struct vcl_kernels *kernels, const uint8_t *raw,
                            size_t n)
{
    const struct vcl_levels *const levels = &work->levels;
    uint8_t *const dst = work->coded;
    const size_t aside = work->aside =
        vcl_levels_code(work->finder, levels, raw, n, work->codes, work->literals);
    const size_t table = (levels->group ? 4 : levels->width) * levels->count;
    size_t at = LEVELS_HEAD + table;
    work->fixed = at;
    dst[0] = TILE_LEVELS;
    dst[2] = (uint8_t)levels->count;
    dst[3] = (uint8_t)(levels->group ? levels->rounding : 0);
    vcl_store32(dst + 4, levels->group);
    vcl_store32(dst + 8, levels->first);
    vcl_store32(dst + 12, (uint32_t)aside);
    if (levels->group) {
        const size_t segments = vcl_levels_segments(levels, n);
        vcl_from_f32(VCL_DTYPE_F32, levels->points, dst + LEVELS_HEAD, levels->count);
        vcl_from_f32(VCL_DTYPE_F32, levels->scales, work->packed, segments);
        at += encode_planes(work, kernels, VCL_DTYPE_F32, work->packed, 4 * segments, dst + at);
    } else {
        memcpy(dst + LEVELS_HEAD, levels->palette, table);
    }
    if (aside > 0)
        at += encode_planes(work, kernels, work->dtype, work->literals, aside * levels->width, dst + at);
    return at + encode_codes(work, kernels, n, levels->count + (aside > 0), dst + at, dst + 1);
}

/* Puts the tile by its levels in the place of one of `size` bytes if it saves 1/64, for it decodes slower. */
static size_t replace_by_levels(struct vcl_lossless *work, const struct vcl_kernels *kernels,
                                const uint8_t *raw, size_t n, size_t size, uint8_t *dst)
{
    const size_t fixed = work->fixed, coded = encode_levels(work, kernels, raw, n);
    if (coded < size - size / 64) {
        memcpy(dst, work->coded, coded);
        return coded;
    }
    work->fixed = fixed;
    return size;
}

size_t vcl_lossless_encode(struct vcl_lossless *work, const struct vcl_kernels *kernels, uint64_t begin,
                           const uint8_t *raw, size_t bytes, uint8_t *dst)
{
    enum { VERY_FEW = 4 }; /* levels of a whole tile: scales would find no fewer */
    const size_t n = bytes / work->levels.width;
    work->fixed = 0;
    size_t size = encode_planes(work, kernels, work->dtype, raw, bytes, dst);
    if (vcl_levels_find_palette(work->finder, raw, n, size, &work->levels)) {
        size = replace_by_levels(work, kernels, raw, n, size, dst);
        if (work->aside == 0 && work->levels.count <= VERY_FEW)
            return size;
    }
    if (vcl_levels_find_scales(work->finder, raw, n, begin, size, &work->levels))
        size = replace_by_levels(work, kernels, raw, n, size, dst);
    return size;
}

double vcl_lossless_estimate(const struct vcl_mem *mem, const struct vcl_kernels *kernels,
                             const struct vcl_tensor *tensor, uint64_t begin, const uint8_t *raw,
                             size_t bytes)
{
    struct vcl_lossless *const work = vcl_lossless_create(mem, tensor, bytes, 1);
    uint8_t *const dst = vcl_alloc_raw(mem, bytes + VCL_LOSSLESS_ROOM, 1);
    const unsigned bits = vcl_dtype_bits(tensor->dtype);
    double estimate = bits;
    if (work && dst && bytes > 0) {
        const size_t size = vcl_lossless_encode(work, kernels, begin, raw, bytes, dst);
        estimate = (double)(size - vcl_min(size, work->fixed)) / (double)bytes * bits;
    }
    vcl_free(mem, dst);
    vcl_lossless_destroy(mem, work);
    return estimate;
}

/* ---- decoding -------------------------------------------------------------------------------- */

static const char *open_rans(struct plane *plane, size_t n)
{
    const uint8_t *at = plane->at;
    plane->lanes = lanes_for(n);
    plane->class_bits = at < plane->end ? *at++ : 0;
    const size_t map = class_map_bytes(n, plane->class_bits);
    if (plane->class_bits > 2 || (size_t)(plane->end - at) < map)
        return "map of rANS classes is cut off or impossible";
    plane->classes = at;
    at += map;
    for (unsigned c = 0; c < 1u << plane->class_bits; c++) {
        uint16_t frequencies[256];
        const size_t used = vcl_rans_get_table(at, (size_t)(plane->end - at), VCL_RANS_TOTAL, frequencies);
        if (used == 0)
            return "rANS frequencies are cut off or do not add up";
        vcl_rans_decode_table(frequencies, plane->tables[c]);
        at += used;
    }
    if ((size_t)(plane->end - at) < 4 * plane->lanes)
        return "rANS states are cut off";
    for (size_t i = 0; i < plane->lanes; i++, at += 4) {
        plane->states[i] = vcl_load32(at);
        if (plane->states[i] < VCL_RANS_LOW)
            return "rANS state is impossible";
    }
    plane->at = at;
    return NULL;
}

/* The plane of n values at src; *used is what it takes of the `bytes` there. */
static const char *open_plane(struct plane *plane, size_t n, const uint8_t *src, size_t bytes, size_t *used)
{
    if (bytes < 1 || src[0] >= PLANE_MODES)
        return "byte plane is cut off or of an unknown mode";
    plane->mode = (enum plane_mode)src[0];
    if (plane->mode == PLANE_RANS && bytes < 5)
        return "byte plane is cut off";
    const size_t head = plane->mode == PLANE_RANS ? 5 : 1;
    const size_t length = plane->mode == PLANE_RAW      ? n
                        : plane->mode == PLANE_CONSTANT ? 1
                        : plane->mode == PLANE_PACKED   ? packed_bytes(n)
                                                        : vcl_load32(src + 1);
    if (length > bytes - head)
        return "byte plane is cut off";
    plane->at = src + head;
    plane->end = plane->at + length;
    plane->block = 0;
    *used = head + length;
    return plane->mode == PLANE_RANS ? open_rans(plane, n) : NULL;
}

static unsigned read_class(const struct plane *plane, size_t block)
{
    const size_t bit = block * plane->class_bits;
    return plane->class_bits ? plane->classes[bit / 8] >> bit % 8 & ((1u << plane->class_bits) - 1) : 0;
}

/* The next n symbols: runs of blocks of one class at a time.  Chunks hold whole blocks. */
static const char *read_rans(struct plane *plane, const struct vcl_kernels *kernels, size_t n, uint8_t *dst)
{
    const size_t blocks = (size_t)vcl_ceil_div(n, BLOCK);
    for (size_t b = 0, next; b < blocks; b = next) {
        const unsigned class = read_class(plane, plane->block + b);
        for (next = b + 1; next < blocks && read_class(plane, plane->block + next) == class;)
            next++;
        const size_t count = (size_t)vcl_min(next * BLOCK, n) - b * BLOCK;
        const uint32_t *const table = plane->tables[class];
        plane->at =
            plane->lanes == VCL_RANS_LANES
                ? kernels->rans_decode(plane->states, plane->at, plane->end, table, dst + b * BLOCK, count)
                : vcl_rans_decode_lanes(plane->states, plane->lanes, plane->at, plane->end, table,
                                        dst + b * BLOCK, count);
        if (!plane->at)
            return "rANS words are cut off";
    }
    plane->block += blocks;
    return NULL;
}

/* The next n symbols, n <= CHUNK, at *symbols: in `chunk` or where they are stored. */
static const char *read_plane(struct plane *plane, const struct vcl_kernels *kernels, size_t n,
                              uint8_t *chunk, const uint8_t **symbols)
{
    const size_t whole = n / VCL_PACK_GROUP, rest = n % VCL_PACK_GROUP;
    *symbols = chunk;
    switch (plane->mode) {
    case PLANE_RAW:
        *symbols = plane->at;
        plane->at += n;
        return NULL;
    case PLANE_CONSTANT: memset(chunk, *plane->at, n); return NULL;
    case PLANE_PACKED:
        kernels->unpack(plane->at, whole, chunk);
        plane->at += packed_bytes(whole * VCL_PACK_GROUP);
        memcpy(chunk + whole * VCL_PACK_GROUP, plane->at, rest);
        plane->at += rest;
        return NULL;
    default: return read_rans(plane, kernels, n, chunk);
    }
}

/* A decoder that read what was written ends where the encoder began. */
static const char *close_plane(const struct plane *plane)
{
    if (plane->mode != PLANE_RANS)
        return NULL;
    for (size_t i = 0; i < plane->lanes; i++)
        if (plane->states[i] != VCL_RANS_LOW)
            return "rANS states do not end where they began";
    return plane->at == plane->end ? NULL : "bytes after the last rANS word";
}

static const char *decode_planes(struct vcl_lossless *work, const struct vcl_kernels *kernels, size_t n,
                                 uint8_t *raw)
{
    const size_t width = work->split.width;
    const uint8_t *planes[VCL_MAX_PLANES] = { 0 };
    const char *fault = NULL;
    for (size_t at = 0; at < n; at += CHUNK) {
        const size_t count = (size_t)vcl_min(CHUNK, n - at);
        for (size_t p = 0; p < width && !fault; p++)
            fault = read_plane(&work->readers[p], kernels, count, work->chunks[p], &planes[p]);
        if (fault)
            return fault;
        if (width > 1)
            kernels->join(&work->split, planes, count, raw + at * width);
        else
            memcpy(raw + at, planes[0], count);
    }
    for (size_t p = 0; p < width && !fault; p++)
        fault = close_plane(&work->readers[p]);
    return fault;
}

/* n numbers of a dtype from a tile of mode 0, 1 or 2; *used is what it takes of the `stored` bytes. */
static const char *decode_tile(struct vcl_lossless *work, const struct vcl_kernels *kernels,
                               enum vcl_dtype dtype, const uint8_t *src, size_t stored, uint8_t *raw,
                               size_t n, size_t *used)
{
    const unsigned mode = stored > 0 ? src[0] : TILE_MODES;
    size_t at = mode == TILE_NARROW ? 2 : 1, taken = 0;
    set_dtype(work, dtype);
    const size_t width = work->split.width;
    if (mode >= TILE_LEVELS || at > stored || (mode == TILE_NARROW && !work->has_exponent_byte))
        return "lossless tile is cut off or of an unknown mode";
    *used = n * width + 1;
    if (mode == TILE_RAW && stored < *used)
        return "raw tile of another size than its values take";
    if (mode == TILE_RAW) {
        memcpy(raw, src + 1, n * width);
        return NULL;
    }
    work->split.fold = mode == TILE_NARROW ? VCL_FOLD_NARROW : work->fold;
    work->split.base = mode == TILE_NARROW ? src[1] : 0;
    for (size_t p = 0; p < width; p++, at += taken) {
        work->readers[p].tables = work->tables[p];
        const char *const fault = open_plane(&work->readers[p], n, src + at, stored - at, &taken);
        if (fault)
            return fault;
    }
    *used = at;
    return decode_planes(work, kernels, n, raw);
}

static int is_all_finite(const float *x, size_t n)
{
    size_t i = 0;
    while (i < n && isfinite(x[i]))
        i++;
    return i == n;
}

static int can_round(enum vcl_dtype dtype, unsigned rounding)
{
    return dtype == VCL_DTYPE_F32
             ? rounding == VCL_DTYPE_F32 || rounding == VCL_DTYPE_F16 || rounding == VCL_DTYPE_BF16
             : (dtype == VCL_DTYPE_F16 || dtype == VCL_DTYPE_BF16) && rounding == (unsigned)dtype;
}

/* The head of a tile by levels and their table; *used is what both take. */
static const char *read_levels(struct vcl_lossless *work, const uint8_t *src, size_t stored, size_t n,
                               size_t *used)
{
    struct vcl_levels *const levels = &work->levels;
    if (stored < LEVELS_HEAD)
        return "head of a tile by levels is cut off";
    const unsigned bits = src[1];
    levels->count = src[2];
    levels->rounding = (enum vcl_dtype)src[3];
    levels->group = vcl_load32(src + 4);
    levels->first = vcl_load32(src + 8);
    const size_t aside = vcl_load32(src + 12), table = (levels->group ? 4 : levels->width) * levels->count;
    if ((bits != 1 && bits != 2 && bits != 4 && bits != 8) || levels->count == 0
        || levels->count > 1u << bits)
        return "number of levels or bits of their codes are impossible";
    if (aside > n || (aside > 0 && levels->count == 1u << bits))
        return "number of literals is impossible";
    if (levels->group
            ? levels->group < VCL_LEVELS_GROUP || levels->first == 0 || levels->first > levels->group
            : levels->first > 0)
        return "segments of scales are impossible";
    if (levels->group ? !can_round(work->dtype, src[3]) : src[3] > 0)
        return "products of levels and scales cannot be rounded to this dtype";
    *used = LEVELS_HEAD + table;
    if (stored < *used)
        return "table of levels is cut off";
    memset(levels->palette, 0, sizeof levels->palette); /* a literal's code is looked up too */
    memset(levels->points, 0, sizeof levels->points);
    if (levels->group)
        vcl_to_f32(VCL_DTYPE_F32, src + LEVELS_HEAD, levels->points, levels->count);
    else
        memcpy(levels->palette, src + LEVELS_HEAD, table);
    return is_all_finite(levels->points, levels->count) ? NULL : "level is not finite";
}

static const char *read_scales(struct vcl_lossless *work, const struct vcl_kernels *kernels,
                               const uint8_t *src, size_t stored, size_t n, size_t *used)
{
    float *const scales = work->levels.scales;
    const size_t segments = vcl_levels_segments(&work->levels, n);
    const char *const fault =
        decode_tile(work, kernels, VCL_DTYPE_F32, src, stored, (uint8_t *)scales, segments, used);
    if (fault)
        return fault;
    vcl_to_f32(VCL_DTYPE_F32, scales, scales, segments);
    return is_all_finite(scales, segments) ? NULL : "scale is not finite";
}

static void expand_codes(const uint8_t *packed, size_t n, unsigned bits, uint8_t *codes)
{
    const unsigned mask = (1u << bits) - 1;
    const size_t each = 8 / bits, whole = n / each;
    for (size_t at = 0; at < whole; at++)
        for (size_t i = 0; i < each; i++)
            codes[at * each + i] = (uint8_t)(packed[at] >> bits * i & mask);
    for (size_t i = 0; i < n % each; i++)
        codes[whole * each + i] = (uint8_t)(packed[whole] >> bits * i & mask);
}

static void copy_value(uint8_t *dst, const uint8_t *src, unsigned width)
{
    if (width == 2)
        memcpy(dst, src, 2);
    else if (width == 4)
        memcpy(dst, src, 4);
    else
        memmove(dst, src, width);
}

/* A chunk's values, the literals among them from *next on.  A literal is read before its place is written: no
 * more values than all others are before it. */
static void merge_literals(const struct vcl_lossless *work, const uint8_t *codes, size_t count, uint8_t *dst,
                           const uint8_t **next, size_t *left)
{
    const unsigned width = work->levels.width, literal = work->levels.count;
    for (size_t i = 0; i < count; i++) {
        const int is_literal = codes[i] == literal && *left > 0;
        copy_value(dst + i * width, is_literal ? *next : work->values + i * width, width);
        *next += is_literal ? width : 0;
        *left -= (size_t)is_literal;
    }
}

/* n codes to values; `aside` literals stand at the end of raw. */
static const char *decode_codes(struct vcl_lossless *work, const struct vcl_kernels *kernels, size_t n,
                                unsigned bits, size_t aside, uint8_t *raw)
{
    const unsigned width = work->levels.width, count = work->levels.count;
    const uint8_t *next = raw + (n - aside) * width, *codes;
    size_t found = 0, left = aside;
    for (size_t at = 0; at < n; at += CHUNK) {
        const size_t some = (size_t)vcl_min(CHUNK, n - at), packed = (size_t)vcl_ceil_div(some * bits, 8);
        struct vcl_byte_range range;
        const char *const fault = read_plane(&work->readers[0], kernels, packed, work->chunks[0], &codes);
        if (fault)
            return fault;
        if (bits < 8) {
            expand_codes(codes, some, bits, work->expanded);
            codes = work->expanded;
        }
        kernels->range(codes, some, &range);
        if (range.most > count)
            return "code of no level";
        if (range.most < count) {
            vcl_levels_values(&work->levels, codes, at, some, raw + at * width);
            continue;
        }
        for (size_t i = 0; i < some; i++)
            found += codes[i] == count;
        vcl_levels_values(&work->levels, codes, at, some, work->values);
        merge_literals(work, codes, some, raw + at * width, &next, &left);
    }
    return found == aside ? close_plane(&work->readers[0]) : "literals are not as many as their codes";
}

static const char *decode_levels(struct vcl_lossless *work, const struct vcl_kernels *kernels,
                                 const uint8_t *src, size_t stored, uint8_t *raw, size_t n)
{
    size_t at = 0, used = 0;
    const char *fault = read_levels(work, src, stored, n, &at);
    if (!fault && work->levels.group)
        fault = read_scales(work, kernels, src + at, stored - at, n, &used);
    if (fault)
        return fault;
    const size_t aside = vcl_load32(src + 12);
    at += used;
    used = 0;
    if (aside > 0)
        fault = decode_tile(work, kernels, work->dtype, src + at, stored - at,
                            raw + (n - aside) * work->levels.width, aside, &used);
    if (fault)
        return fault;
    at += used;
    work->readers[0].tables = work->tables[0];
    fault = open_plane(&work->readers[0], (size_t)vcl_ceil_div(n * src[1], 8), src + at, stored - at, &used);
    if (fault)
        return fault;
    return at + used == stored ? decode_codes(work, kernels, n, src[1], aside, raw) : "bytes after the codes";
}

const char *vcl_lossless_decode(struct vcl_lossless *work, const struct vcl_kernels *kernels,
                                const uint8_t *src, size_t stored, uint8_t *raw, size_t bytes)
{
    const size_t n = bytes / work->levels.width;
    size_t used = 0;
    if (stored > bytes + VCL_LOSSLESS_OVERHEAD)
        return "lossless tile takes more than its values and a byte";
    if (stored > 0 && src[0] == TILE_LEVELS)
        return decode_levels(work, kernels, src, stored, raw, n);
    const char *const fault = decode_tile(work, kernels, work->dtype, src, stored, raw, n, &used);
    return fault || used == stored ? fault : "bytes after the values";
}
