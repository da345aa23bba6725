/* plane.c - step 7, lossless: one plane of bytes to fewer bytes and exactly back.
 *
 * In: bytes.  Out: themselves, one of them where all are equal, seven bits of each, or rANS.  Blocks of 256
 * symbols choose between up to four models by their mean, because rows and channels differ in scale; a plane
 * that coding would shrink by less than 1/64 is stored as it is.  docs/experiments.md has the numbers. */
#include "plane.h"

#include "base/common.h"

enum plane_mode { PLANE_RAW, PLANE_CONSTANT, PLANE_PACKED, PLANE_RANS, PLANE_MODES };

enum {
    BLOCK = VCL_PLANE_BLOCK,
    MAX_CLASSES = VCL_PLANE_CLASSES,
    FEW_LANES = 4,        /* for planes of less than */
    FEW_SYMBOLS = 4096,   /* this many symbols: a lane costs four bytes */
    WORDS_ROOM = 16,      /* what kernels may scribble below the words */
    SAMPLE_ABOVE = 65536, /* longer planes are first judged by */
    SAMPLE_STEP = 8       /* one block in eight */
};

int vcl_plane_writer_create(const struct vcl_mem *mem, size_t n, struct vcl_plane_writer *writer)
{
    const size_t blocks = n / BLOCK + 1;
    writer->words = vcl_alloc_raw(mem, n + WORDS_ROOM, 1);
    writer->sums = vcl_alloc(mem, blocks, sizeof *writer->sums);
    writer->classes = vcl_alloc(mem, blocks, 1);
    return writer->words && writer->sums && writer->classes;
}

void vcl_plane_writer_destroy(const struct vcl_mem *mem, struct vcl_plane_writer *writer)
{
    vcl_free(mem, writer->words);
    vcl_free(mem, writer->sums);
    vcl_free(mem, writer->classes);
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
static void classify(struct vcl_plane_writer *writer, const struct vcl_kernels *kernels, const uint8_t *plane,
                     size_t n)
{
    uint32_t buckets[BLOCK] = { 0 }; /* by mean: a block's sum is below 2^16 */
    const size_t whole = n / BLOCK, blocks = (size_t)vcl_ceil_div(n, BLOCK);
    uint8_t class_of[BLOCK];
    size_t before = 0;
    kernels->sum_blocks(plane, whole, writer->sums);
    if (blocks > whole)
        writer->sums[whole] = whole ? writer->sums[whole - 1] : 0;
    for (size_t b = 0; b < blocks; b++)
        buckets[writer->sums[b] / BLOCK]++;
    for (int m = 0; m < BLOCK; m++) {
        class_of[m] = (uint8_t)((before + buckets[m] / 2) * MAX_CLASSES / blocks);
        before += buckets[m];
    }
    for (size_t b = 0; b < blocks; b++)
        writer->classes[b] = class_of[writer->sums[b] / BLOCK];
}

/* Models for four, two and one class, and how many bits name the class under the best of the three. */
static unsigned choose_models(struct vcl_plane_writer *writer, const uint8_t *plane, size_t n,
                              uint64_t *bytes)
{
    struct vcl_plane_model *const m = writer->models;
    uint32_t counts[MAX_CLASSES][4][256] = { 0 };
    uint64_t best = UINT64_MAX;
    unsigned best_bits = 0;
    for (size_t at = 0, b = 0; at < n; at += BLOCK, b++)
        count_bytes(plane + at, (size_t)vcl_min(BLOCK, n - at), counts[writer->classes[b]]);
    for (int c = 0; c < MAX_CLASSES; c++) {
        add_counts(counts[c][0], counts[c][1], m[c].counts);
        add_counts(m[c].counts, counts[c][2], m[c].counts);
        add_counts(m[c].counts, counts[c][3], m[c].counts);
    }
    for (int c = 0; c < 3; c++)
        add_counts(m[2 * c].counts, m[2 * c + 1].counts, m[MAX_CLASSES + c].counts);
    for (unsigned bits = 0; bits <= 2; bits++) {
        uint64_t cost = 8 * class_map_bytes(n, bits);
        for (struct vcl_plane_model *k = m + (8 - (2u << bits)); k < m + (8 - (1u << bits)); k++) {
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
static const struct vcl_plane_model *models_of(const struct vcl_plane_writer *writer, unsigned class_bits)
{
    return writer->models + (8 - (2u << class_bits));
}

static unsigned class_at(const struct vcl_plane_writer *writer, size_t block, unsigned class_bits)
{
    return (unsigned)writer->classes[block] >> (2 - class_bits);
}

/* The words of a plane, backwards from the end of `words`; NULL if they do not fit. */
static uint8_t *encode_words(struct vcl_plane_writer *writer, const struct vcl_kernels *kernels,
                             const uint8_t *plane, size_t n, unsigned class_bits, uint32_t *states,
                             uint8_t *end)
{
    uint32_t tables[MAX_CLASSES][VCL_RANS_ENCODE_ENTRIES];
    const size_t lanes = lanes_for(n);
    for (unsigned c = 0; c < 1u << class_bits; c++)
        vcl_rans_encode_table(models_of(writer, class_bits)[c].frequencies, tables[c]);
    for (size_t i = 0; i < lanes; i++)
        states[i] = VCL_RANS_LOW;
    for (size_t block = (size_t)vcl_ceil_div(n, BLOCK); block > 0; block--) {
        const uint8_t *const src = plane + (block - 1) * BLOCK;
        const size_t count = (size_t)vcl_min(BLOCK, (size_t)(plane + n - src));
        const uint32_t *const table = tables[class_at(writer, block - 1, class_bits)];
        if ((size_t)(end - writer->words) < 2 * count + WORDS_ROOM)
            return NULL;
        end = lanes == VCL_RANS_LANES ? kernels->rans_encode(states, src, count, table, end)
                                      : vcl_rans_encode_lanes(states, lanes, src, count, table, end);
    }
    return end;
}

static size_t put_class_map(const struct vcl_plane_writer *writer, size_t n, unsigned class_bits,
                            uint8_t *dst)
{
    const size_t blocks = (size_t)vcl_ceil_div(n, BLOCK), bytes = class_map_bytes(n, class_bits);
    memset(dst, 0, bytes);
    for (size_t b = 0; b < blocks && class_bits; b++) {
        const size_t bit = b * class_bits;
        dst[bit / 8] = (uint8_t)(dst[bit / 8] | class_at(writer, b, class_bits) << bit % 8);
    }
    return bytes;
}

/* Mode, length, class bits, class map, tables, states, words; 0 if that takes `limit` bytes or more. */
static size_t encode_rans(struct vcl_plane_writer *writer, const struct vcl_kernels *kernels,
                          const uint8_t *plane, size_t n, size_t limit, uint8_t *dst)
{
    uint32_t states[VCL_RANS_LANES];
    uint64_t estimate;
    classify(writer, kernels, plane, n);
    const unsigned class_bits = choose_models(writer, plane, n, &estimate);
    if (estimate + 6 >= limit - limit / 64)
        return 0;
    uint8_t *const end = writer->words + n + WORDS_ROOM;
    const uint8_t *const words = encode_words(writer, kernels, plane, n, class_bits, states, end);
    const size_t count = words ? (size_t)(end - words) : 0, lanes = lanes_for(n);
    /* Tables may be longer than what is left of the limit: they are bounded by themselves. */
    uint8_t head[MAX_CLASSES * VCL_RANS_TABLE_BYTES];
    size_t at = 6, tables = 0;
    for (unsigned c = 0; c < 1u << class_bits; c++)
        tables += vcl_rans_put_table(models_of(writer, class_bits)[c].frequencies, head + tables);
    const size_t size = at + class_map_bytes(n, class_bits) + tables + 4 * lanes + count;
    if (!words || size >= limit)
        return 0;
    dst[0] = PLANE_RANS;
    vcl_store32(dst + 1, (uint32_t)(size - 5));
    dst[5] = (uint8_t)class_bits;
    at += put_class_map(writer, n, class_bits, dst + at);
    memcpy(dst + at, head, tables);
    at += tables;
    for (size_t i = 0; i < lanes; i++, at += 4)
        vcl_store32(dst + at, states[i]);
    memcpy(dst + at, words, count);
    writer->fixed += tables + 3 * lanes; /* a state's fourth byte is full of values */
    return size;
}

size_t vcl_plane_encode(struct vcl_plane_writer *writer, const struct vcl_kernels *kernels,
                        const uint8_t *plane, size_t n, uint8_t *dst)
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
        is_promising(plane, n, plain) ? encode_rans(writer, kernels, plane, n, plain + 1, dst) : 0;
    if (coded)
        return coded;
    dst[0] = packs ? PLANE_PACKED : PLANE_RAW;
    const size_t whole = packs ? n / VCL_PACK_GROUP : 0;
    kernels->pack(plane, whole, dst + 1);
    memcpy(dst + 1 + whole * (VCL_PACK_GROUP / 8 * 7), plane + whole * VCL_PACK_GROUP,
           n - whole * VCL_PACK_GROUP);
    return plain + 1;
}

/* ---- decoding -------------------------------------------------------------------------------- */

static const char *open_rans(struct vcl_plane *plane, size_t n)
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

const char *vcl_plane_open(struct vcl_plane *plane, size_t n, const uint8_t *src, size_t bytes, size_t *used)
{
    if (bytes < 1 || src[0] >= PLANE_MODES)
        return "byte plane is cut off or of an unknown mode";
    plane->mode = src[0];
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

static unsigned read_class(const struct vcl_plane *plane, size_t block)
{
    const size_t bit = block * plane->class_bits;
    return plane->class_bits ? plane->classes[bit / 8] >> bit % 8 & ((1u << plane->class_bits) - 1) : 0;
}

/* The next n symbols: runs of blocks of one class at a time. */
static const char *read_rans(struct vcl_plane *plane, const struct vcl_kernels *kernels, size_t n,
                             uint8_t *dst)
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

const char *vcl_plane_read(struct vcl_plane *plane, const struct vcl_kernels *kernels, size_t n,
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
const char *vcl_plane_close(const struct vcl_plane *plane)
{
    if (plane->mode != PLANE_RANS)
        return NULL;
    for (size_t i = 0; i < plane->lanes; i++)
        if (plane->states[i] != VCL_RANS_LOW)
            return "rANS states do not end where they began";
    return plane->at == plane->end ? NULL : "bytes after the last rANS word";
}
