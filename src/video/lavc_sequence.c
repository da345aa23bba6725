/* lavc_sequence.c - the picture's size, depth and chroma, from the head of a sequence parameter set.
 *
 * In: the unit's bytes, untrusted.  Out: sizes.  libavcodec could be asked, but it prints about sizes it
 * does not like and takes memory by those it does; so a stream of any other size than expected never
 * reaches it. */
#include "lavc_units.h"

enum { HEAD_BYTES = 128 }; /* more than all fields up to the sizes take */

struct bit_reader {
    uint8_t bytes[HEAD_BYTES]; /* without the emulation prevention bytes */
    unsigned bits, at;
    int failed; /* sticks: reading on gives zeros */
};

static void open_reader(struct bit_reader *r, const uint8_t *unit, size_t n)
{
    unsigned zeros = 0, used = 0;
    for (size_t i = 0; i < n && used < HEAD_BYTES; i++) {
        const int prevention = zeros >= 2 && unit[i] == 3;
        zeros = unit[i] == 0 ? zeros + 1 : 0;
        if (!prevention)
            r->bytes[used++] = unit[i];
    }
    r->bits = 8 * used;
    r->at = 0;
    r->failed = 0;
}

static unsigned read_bit(struct bit_reader *r)
{
    if (r->at >= r->bits) {
        r->failed = 1;
        return 0;
    }
    const unsigned bit = r->bytes[r->at / 8] >> (7 - r->at % 8) & 1;
    r->at++;
    return bit;
}

static unsigned read_bits(struct bit_reader *r, int n)
{
    unsigned value = 0;
    while (n-- > 0)
        value = value << 1 | read_bit(r);
    return value;
}

static void require(struct bit_reader *r, int condition)
{
    if (!condition)
        r->failed = 1;
}

/* An Exp-Golomb number of at most `limit`, which is below 2^16. */
static int read_golomb(struct bit_reader *r, unsigned limit)
{
    int zeros = 0;
    while (zeros < 16 && !r->failed && !read_bit(r))
        zeros++;
    const unsigned value = (1u << zeros) - 1 + read_bits(r, zeros);
    require(r, value <= limit);
    return r->failed ? 0 : (int)value;
}

enum { MAX_CROP = 4096 };

/* Sizes are in luma samples, cropping in chroma samples. */
static void read_cropping(struct bit_reader *r, int chroma_format, struct vcl_units *units)
{
    const int unit = chroma_format == 1 ? 2 : 1;
    units->width = units->coded_width;
    units->height = units->coded_height;
    if (!read_bit(r))
        return;
    for (int edge = 0; edge < 4; edge++) {
        const int crop = unit * read_golomb(r, MAX_CROP); /* left, right, top, bottom in both standards */
        *(edge < 2 ? &units->width : &units->height) -= crop;
    }
}

/* The profiles that have the fields of 4:2:0 or other formats and of depth; the rest is 8-bit 4:2:0. */
static int is_high(unsigned p) { return p == 100 || p == 110 || p == 122 || p == 244; }

static void read_h264_format(struct bit_reader *r, int *chroma_format, struct vcl_units *units)
{
    *chroma_format = read_golomb(r, 1);
    units->depth = 8 + read_golomb(r, 6);
    read_golomb(r, 6);        /* chroma depth */
    read_bit(r);              /* transform bypass */
    require(r, !read_bit(r)); /* scaling lists */
}

/* 7.3.2.1.1 of ITU-T H.264 */
static void read_h264(struct bit_reader *r, struct vcl_units *units)
{
    int chroma_format = 1;
    read_bits(r, 8);
    const unsigned profile = read_bits(r, 8);
    read_bits(r, 16);   /* constraints, level */
    read_golomb(r, 31); /* id */
    units->depth = 8;
    if (is_high(profile))
        read_h264_format(r, &chroma_format, units);
    read_golomb(r, 12); /* frame number's bits */
    const int order = read_golomb(r, 2);
    if (order == 0)
        read_golomb(r, 12);
    require(r, order != 1);
    read_golomb(r, 16); /* reference frames */
    read_bit(r);        /* gaps */
    units->coded_width = 16 * (1 + read_golomb(r, 4095));
    units->coded_height = 16 * (1 + read_golomb(r, 4095));
    require(r, (int)read_bit(r)); /* frames only */
    read_bit(r);                  /* direct 8x8 */
    read_cropping(r, chroma_format, units);
    units->chroma = chroma_format ? 420 : 400;
}

/* 7.3.2.2.1 of ITU-T H.265 */
static void read_h265(struct bit_reader *r, struct vcl_units *units)
{
    read_bits(r, 16);
    read_bits(r, 4);                  /* id of the video parameter set */
    require(r, read_bits(r, 3) == 0); /* temporal layers */
    read_bit(r);
    for (int i = 0; i < 3; i++)
        read_bits(r, 32); /* profile, tier, level */
    read_golomb(r, 15);   /* id */
    const int chroma_format = read_golomb(r, 1);
    units->chroma = chroma_format ? 420 : 400;
    units->coded_width = read_golomb(r, 65534);
    units->coded_height = read_golomb(r, 65534);
    read_cropping(r, chroma_format, units);
    units->depth = 8 + read_golomb(r, 8);
}

int vcl_sequence_read(enum vcl_codec codec, const uint8_t *unit, size_t n, struct vcl_units *units)
{
    struct bit_reader r;
    open_reader(&r, unit, n);
    if (codec == VCL_CODEC_H264)
        read_h264(&r, units);
    else
        read_h265(&r, units);
    return !r.failed;
}
