/* lossless.c - step 7, lossless: a tile's values to fewer bytes and exactly back.
 *
 * In: values of any dtype.  Out: byte planes, each raw, constant, packed into seven bits or rANS coded; of
 * values that lie on few levels the planes of their codes, scales, offsets and literals.
 *
 * The sign goes to the lowest bit, so that the first plane of a float is its exponent, which is where the
 * redundancy is; where seven bits hold a tile's exponents, the mantissa's highest bit joins them, since
 * small mantissas are more frequent in every octave.  The rest of a mantissa is noise: a plane that coding
 * would shrink by less than 1/64 is stored as it is (plane.c), which halves the time of decoding.
 * docs/experiments.md has the numbers.
 *
 * Decoding runs over chunks of all planes at once, so that planes need no memory of a tile's size. */
#include "lossless.h"

#include "base/common.h"
#include "base/dtype.h"
#include "base/loops.h"
#include "codec/levels.h"
#include "codec/multiples.h"
#include "codec/palette.h"
#include "codec/plane.h"

enum tile_mode { TILE_RAW, TILE_PLANES, TILE_NARROW, TILE_LEVELS, TILE_OFFSETS };

enum {
    CHUNK = 4096, /* values decoded at a time: whole blocks of planes, of packed codes too */
    LEVELS_HEAD = 16,
    SCALES_ROOM = 3 * sizeof(float), /* of the segments that are begun, beyond one for every four values */
    LEVELS_ROOM = LEVELS_HEAD + 8 * VCL_LEVELS_MOST + 64 /* beyond codes, scales, offsets and literals */
};

struct vcl_lossless {
    struct vcl_plane_split split; /* of the numbers at hand: the dtype's or, for scales, of f32 */
    enum vcl_fold fold;           /* likewise */
    int has_exponent_byte;        /* likewise: bits 1 to 8 after the sign, as in f32 */
    struct vcl_levels levels;
    struct vcl_lossless *inner; /* of scales and offsets, which may lie on levels, too; it has none itself */
    /* Encoding */
    uint8_t *planes; /* a tile's */
    struct vcl_plane_writer writer;
    struct vcl_palette_finder *palette;
    struct vcl_multiples_finder *multiples;
    uint8_t *codes, *packed, *literals;
    uint8_t *coded; /* a tile by its levels */
    /* Decoding */
    struct vcl_plane readers[VCL_MAX_PLANES];
    uint8_t (*chunks)[CHUNK];                              /* one per plane */
    uint32_t (*tables)[VCL_PLANE_CLASSES][VCL_RANS_TOTAL]; /* likewise */
    uint8_t *expanded, *values;                            /* codes of a chunk, what they stand for */
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
                          uint32_t shortest, struct vcl_lossless *work)
{
    work->planes = vcl_alloc_raw(mem, bytes, 1);
    work->palette = vcl_palette_create(mem);
    work->multiples = vcl_multiples_create(mem, tensor, n, shortest);
    work->codes = vcl_alloc_raw(mem, n, 1);
    work->packed = vcl_alloc_raw(mem, n + SCALES_ROOM, 1); /* and scales: fewer bytes than values */
    work->literals = vcl_alloc_raw(mem, bytes, 1);
    work->coded = vcl_alloc_raw(mem, bytes + 2 * n + LEVELS_ROOM, 1);
    return vcl_plane_writer_create(mem, n, &work->writer) && work->planes && work->palette && work->multiples
        && work->codes && work->packed && work->literals && work->coded;
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

/* For tiles of which `shortest` values or more share a scale. */
static struct vcl_lossless *create(const struct vcl_mem *mem, const struct vcl_tensor *tensor, size_t bytes,
                                   uint32_t shortest, int encoding)
{
    struct vcl_lossless *const work = vcl_alloc(mem, 1, sizeof *work);
    if (!work)
        return NULL;
    const unsigned width = width_of(tensor->dtype);
    const size_t n = bytes / width, segments = n / shortest + 2;
    work->levels.dtype = tensor->dtype;
    work->levels.width = width;
    work->levels.scales = vcl_alloc_raw(mem, segments, sizeof *work->levels.scales);
    work->levels.offsets = vcl_alloc_raw(mem, segments, sizeof *work->levels.offsets);
    const int others =
        encoding ? create_encoder(mem, tensor, n, bytes, shortest, work) : create_decoder(mem, width, work);
    if (work->levels.scales && work->levels.offsets && others)
        return work;
    vcl_lossless_destroy(mem, work);
    return NULL;
}

struct vcl_lossless *vcl_lossless_create(const struct vcl_mem *mem, const struct vcl_tensor *tensor,
                                         size_t bytes, int encoding)
{
    static const struct vcl_tensor scales = { .dtype = VCL_DTYPE_F32 };
    struct vcl_lossless *const work = create(mem, tensor, bytes, VCL_LEVELS_GROUP, encoding);
    if (!work)
        return NULL;
    const size_t segments = bytes / work->levels.width / VCL_LEVELS_GROUP + 2;
    work->inner = create(mem, &scales, segments * sizeof(float), VCL_LEVELS_INNER, encoding);
    if (work->inner)
        return work;
    vcl_lossless_destroy(mem, work);
    return NULL;
}

void vcl_lossless_destroy(const struct vcl_mem *mem, struct vcl_lossless *work)
{
    if (!work)
        return;
    vcl_lossless_destroy(mem, work->inner);
    vcl_free(mem, work->levels.scales);
    vcl_free(mem, work->levels.offsets);
    vcl_free(mem, work->planes);
    vcl_plane_writer_destroy(mem, &work->writer);
    vcl_palette_destroy(mem, work->palette);
    vcl_multiples_destroy(mem, work->multiples);
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

/* ---- encoding -------------------------------------------------------------------------------- */

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

static size_t encode_planes(struct vcl_lossless *work, const struct vcl_kernels *kernels, const uint8_t *raw,
                            size_t bytes, uint8_t *dst)
{
    const size_t width = work->split.width, n = bytes / width;
    uint8_t *planes[VCL_MAX_PLANES] = { 0 };
    size_t at = 1;
    work->split.fold = work->fold;
    dst[0] = TILE_PLANES;
    if (work->has_exponent_byte && choose_narrow(work, kernels, raw, n)) {
        dst[0] = TILE_NARROW;
        dst[at++] = (uint8_t)work->split.base;
    }
    if (width == 1)
        return at + vcl_plane_encode(&work->writer, kernels, raw, n, dst + at);
    place_planes(work, n, planes);
    kernels->split(&work->split, raw, n, planes);
    for (size_t p = 0; p < width; p++)
        at += vcl_plane_encode(&work->writer, kernels, planes[p], n, dst + at);
    return at;
}

/* Numbers of a dtype to a tile of mode 0, 1 or 2: a byte more than they take at most. */
static size_t encode_numbers(struct vcl_lossless *work, const struct vcl_kernels *kernels,
                             enum vcl_dtype dtype, const uint8_t *raw, size_t bytes, uint8_t *dst)
{
    set_dtype(work, dtype);
    const size_t size = encode_planes(work, kernels, raw, bytes, dst);
    if (size <= bytes)
        return size;
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
    size_t packed = 0, fixed = work->writer.fixed;
    *bits = symbols <= 2 ? 1 : symbols <= 4 ? 2 : symbols <= 16 ? 4 : 8;
    if (*bits < 8) {
        pack_codes(work->codes, n, *bits, work->packed);
        packed =
            vcl_plane_encode(&work->writer, kernels, work->packed, (size_t)vcl_ceil_div(n, 8U / *bits), dst);
    }
    const size_t packed_fixed = work->writer.fixed;
    work->writer.fixed = fixed;
    const size_t single = vcl_plane_encode(&work->writer, kernels, work->codes, n, dst + packed);
    if (packed > 0 && packed <= single + single / 64) {
        work->writer.fixed = packed_fixed;
        return packed;
    }
    *bits = 8;
    memmove(dst, dst + packed, single);
    return single;
}

/* Scales or offsets, the first of them number `begin` of the tensor's. */
static size_t encode_scales(struct vcl_lossless *work, const struct vcl_kernels *kernels, const float *scales,
                            size_t n, uint64_t begin, uint8_t *dst)
{
    vcl_from_f32(VCL_DTYPE_F32, scales, work->packed, n);
    if (!work->inner)
        return encode_numbers(work, kernels, VCL_DTYPE_F32, work->packed, 4 * n, dst);
    const size_t size = vcl_lossless_encode(work->inner, kernels, begin, work->packed, 4 * n, dst);
    work->writer.fixed += work->inner->writer.fixed;
    return size;
}

/* n values by the levels that were found, to work->coded. */
static size_t encode_levels(struct vcl_lossless *work, const struct vcl_kernels *kernels, uint64_t begin,
                            const uint8_t *raw, size_t n)
{
    const struct vcl_levels *const levels = &work->levels;
    uint8_t *const dst = work->coded;
    const size_t aside = levels->group
                           ? vcl_multiples_code(work->multiples, levels, raw, n, work->codes, work->literals)
                           : vcl_palette_code(work->palette, levels, raw, n, work->codes, work->literals);
    const size_t table = (levels->group ? 4 : levels->width) * levels->count;
    size_t at = LEVELS_HEAD + table;
    work->writer.fixed = at;
    dst[0] = levels->has_offsets ? TILE_OFFSETS : TILE_LEVELS;
    dst[2] = (uint8_t)levels->count;
    dst[3] = (uint8_t)(levels->group ? levels->rounding : 0);
    vcl_store32(dst + 4, levels->group);
    vcl_store32(dst + 8, levels->first);
    vcl_store32(dst + 12, (uint32_t)aside);
    if (levels->group) {
        const size_t segments = vcl_levels_segments(levels, n);
        const uint64_t first = begin / levels->group;
        vcl_from_f32(VCL_DTYPE_F32, levels->points, dst + LEVELS_HEAD, levels->count);
        at += encode_scales(work, kernels, levels->scales, segments, first, dst + at);
        if (levels->has_offsets)
            at += encode_scales(work, kernels, levels->offsets, segments, first, dst + at);
    } else {
        memcpy(dst + LEVELS_HEAD, levels->palette, table);
    }
    if (aside > 0)
        at += encode_numbers(work, kernels, work->levels.dtype, work->literals, aside * levels->width,
                             dst + at);
    return at + encode_codes(work, kernels, n, levels->count + (aside > 0), dst + at, dst + 1);
}

/* Puts the tile by its levels in the place of one of `size` bytes if it saves 1/64: it decodes slower. */
static size_t replace_by_levels(struct vcl_lossless *work, const struct vcl_kernels *kernels, uint64_t begin,
                                const uint8_t *raw, size_t n, size_t size, uint8_t *dst)
{
    const size_t fixed = work->writer.fixed, coded = encode_levels(work, kernels, begin, raw, n);
    if (coded < size - size / 64) {
        memcpy(dst, work->coded, coded);
        return coded;
    }
    work->writer.fixed = fixed;
    return size;
}

/* A palette of all values, then multiples of scales, then these with offsets; a palette with literals only
 * where those are none. */
size_t vcl_lossless_encode(struct vcl_lossless *work, const struct vcl_kernels *kernels, uint64_t begin,
                           const uint8_t *raw, size_t bytes, uint8_t *dst)
{
    enum { VERY_FEW = 4 }; /* levels of a whole tile: scales would find no fewer */
    struct vcl_levels *const levels = &work->levels;
    const size_t n = bytes / levels->width;
    work->writer.fixed = 0;
    size_t size = encode_numbers(work, kernels, work->levels.dtype, raw, bytes, dst);
    int found = vcl_palette_find(work->palette, raw, n, 0, size, levels);
    if (found)
        size = replace_by_levels(work, kernels, begin, raw, n, size, dst);
    if (found && levels->count <= VERY_FEW)
        return size;
    for (int offsets = 0; offsets <= (work->inner != NULL); offsets++)
        if (vcl_multiples_find(work->multiples, raw, n, begin, offsets, size, levels)) {
            size = replace_by_levels(work, kernels, begin, raw, n, size, dst);
            found = 1;
        }
    if (!found && vcl_palette_find(work->palette, raw, n, 1, size, levels))
        size = replace_by_levels(work, kernels, begin, raw, n, size, dst);
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
        estimate = (double)(size - vcl_min(size, work->writer.fixed)) / (double)bytes * bits;
    }
    vcl_free(mem, dst);
    vcl_lossless_destroy(mem, work);
    return estimate;
}

/* ---- decoding -------------------------------------------------------------------------------- */

static const char *decode_planes(struct vcl_lossless *work, const struct vcl_kernels *kernels, size_t n,
                                 uint8_t *raw)
{
    const size_t width = work->split.width;
    const uint8_t *planes[VCL_MAX_PLANES] = { 0 };
    const char *fault = NULL;
    for (size_t at = 0; at < n; at += CHUNK) {
        const size_t count = (size_t)vcl_min(CHUNK, n - at);
        for (size_t p = 0; p < width && !fault; p++)
            fault = vcl_plane_read(&work->readers[p], kernels, count, work->chunks[p], &planes[p]);
        if (fault)
            return fault;
        if (width > 1)
            kernels->join(&work->split, planes, count, raw + at * width);
        else
            memcpy(raw + at, planes[0], count);
    }
    for (size_t p = 0; p < width && !fault; p++)
        fault = vcl_plane_close(&work->readers[p]);
    return fault;
}

/* n numbers of a dtype from a tile of mode 0, 1 or 2; *used is what it takes of the `stored` bytes. */
static const char *decode_numbers(struct vcl_lossless *work, const struct vcl_kernels *kernels,
                                  enum vcl_dtype dtype, const uint8_t *src, size_t stored, uint8_t *raw,
                                  size_t n, size_t *used)
{
    const unsigned mode = stored > 0 ? src[0] : TILE_LEVELS;
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
        const char *const fault = vcl_plane_open(&work->readers[p], n, src + at, stored - at, &taken);
        if (fault)
            return fault;
    }
    *used = at;
    return decode_planes(work, kernels, n, raw);
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
    const unsigned bits = src[1], shortest = work->inner ? VCL_LEVELS_GROUP : VCL_LEVELS_INNER;
    levels->count = src[2];
    levels->rounding = (enum vcl_dtype)src[3];
    levels->has_offsets = src[0] == TILE_OFFSETS;
    levels->group = vcl_load32(src + 4);
    levels->first = vcl_load32(src + 8);
    const size_t aside = vcl_load32(src + 12), table = (levels->group ? 4 : levels->width) * levels->count;
    if ((bits != 1 && bits != 2 && bits != 4 && bits != 8) || levels->count == 0
        || levels->count > 1u << bits)
        return "number of levels or bits of their codes are impossible";
    if (aside > n || (aside > 0 && levels->count == 1u << bits))
        return "number of literals is impossible";
    if (levels->group ? levels->group < shortest || levels->first == 0 || levels->first > levels->group
                      : levels->first > 0 || levels->has_offsets)
        return "segments of scales are impossible";
    if (levels->group ? !can_round(work->levels.dtype, src[3]) : src[3] > 0)
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
    return vcl_is_finite(levels->points, levels->count) ? NULL : "level is not finite";
}

static const char *decode_tile(struct vcl_lossless *work, const struct vcl_kernels *kernels,
                               const uint8_t *src, size_t stored, uint8_t *raw, size_t n, size_t *used);

/* Scales or offsets of n values; *used is what they take. */
static const char *read_scales(struct vcl_lossless *work, const struct vcl_kernels *kernels,
                               const uint8_t *src, size_t stored, size_t n, float *scales, size_t *used)
{
    const size_t segments = vcl_levels_segments(&work->levels, n);
    uint8_t *const raw = (uint8_t *)scales;
    const char *const fault =
        work->inner ? decode_tile(work->inner, kernels, src, stored, raw, segments, used)
                    : decode_numbers(work, kernels, VCL_DTYPE_F32, src, stored, raw, segments, used);
    if (fault)
        return fault;
    vcl_to_f32(VCL_DTYPE_F32, scales, scales, segments);
    return vcl_is_finite(scales, segments) ? NULL : "scale or offset is not finite";
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
        const char *const fault = vcl_plane_read(&work->readers[0], kernels, packed, work->chunks[0], &codes);
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
    return found == aside ? vcl_plane_close(&work->readers[0]) : "literals are not as many as their codes";
}

static const char *decode_levels(struct vcl_lossless *work, const struct vcl_kernels *kernels,
                                 const uint8_t *src, size_t stored, uint8_t *raw, size_t n, size_t *used)
{
    struct vcl_levels *const levels = &work->levels;
    size_t at = 0, taken = 0;
    const char *fault = read_levels(work, src, stored, n, &at);
    if (!fault && levels->group)
        fault = read_scales(work, kernels, src + at, stored - at, n, levels->scales, &taken);
    if (fault)
        return fault;
    at += taken;
    taken = 0;
    if (levels->has_offsets)
        fault = read_scales(work, kernels, src + at, stored - at, n, levels->offsets, &taken);
    if (fault)
        return fault;
    const size_t aside = vcl_load32(src + 12);
    at += taken;
    taken = 0;
    if (aside > 0)
        fault = decode_numbers(work, kernels, levels->dtype, src + at, stored - at,
                               raw + (n - aside) * levels->width, aside, &taken);
    if (fault)
        return fault;
    at += taken;
    work->readers[0].tables = work->tables[0];
    fault =
        vcl_plane_open(&work->readers[0], (size_t)vcl_ceil_div(n * src[1], 8), src + at, stored - at, &taken);
    if (fault)
        return fault;
    *used = at + taken;
    return decode_codes(work, kernels, n, src[1], aside, raw);
}

/* n values; *used is what they take of the `stored` bytes. */
static const char *decode_tile(struct vcl_lossless *work, const struct vcl_kernels *kernels,
                               const uint8_t *src, size_t stored, uint8_t *raw, size_t n, size_t *used)
{
    if (stored > 0 && (src[0] == TILE_LEVELS || (src[0] == TILE_OFFSETS && work->inner)))
        return decode_levels(work, kernels, src, stored, raw, n, used);
    return decode_numbers(work, kernels, work->levels.dtype, src, stored, raw, n, used);
}

const char *vcl_lossless_decode(struct vcl_lossless *work, const struct vcl_kernels *kernels,
                                const uint8_t *src, size_t stored, uint8_t *raw, size_t bytes)
{
    size_t used = 0;
    if (stored > bytes + VCL_LOSSLESS_OVERHEAD)
        return "lossless tile takes more than its values and a byte";
    const char *const fault = decode_tile(work, kernels, src, stored, raw, bytes / work->levels.width, &used);
    return fault || used == stored ? fault : "bytes after the values";
}
