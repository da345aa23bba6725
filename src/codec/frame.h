/* frame.h - the header of a frame, as docs/format.md defines it. */
#ifndef VCL_FRAME_H
#define VCL_FRAME_H

#include "codec/plan.h"
#include "codec/transform.h"

#define VCL_FRAME_FIXED 24 /* bytes before the dims */
#define VCL_FRAME_FIELDS (VCL_FRAME_FIXED + 8 * VCL_MAX_RANK + 48)
#define VCL_FRAME_HEADER_MAX ((uint32_t)1 << 24) /* bytes of a frame's header */
#define VCL_TILE_ENTRY 12                        /* bytes of one entry of the tile table */

enum {
    VCL_CENTROIDS = 8,  /* points with |j| = 1 ... 8 may lie off the lattice */
    VCL_STATES_MAX = 8, /* bits of trellis state */
    VCL_SHAPES = 8,
    VCL_FINE_MAX = 16,
    VCL_EXPONENT_MAX = 64, /* of a column's step, in quarter octaves */
    VCL_MOVE_UNIT = 64     /* of a half-step: how far a point that moves by itself goes */
};

enum {
    VCL_FLAG_ROTATED = 1,
    VCL_FLAG_ROW_SCALES = 2,
    VCL_FLAG_NON_FINITE = 4,
    VCL_FLAG_COL_MEANS = 8,
    VCL_FLAG_COL_STEPS = 16,
    VCL_FLAG_TRANSPOSED = 32, /* the plan is that of the transpose */
    VCL_FLAG_CLASS_MODELS = 64,
    VCL_FLAG_TABLES = 128,
    VCL_FLAG_MEAN = 256,   /* one for all values, to which those of the columns are relative */
    VCL_FLAG_POINTS = 512, /* points move one by one, not by their size */
    VCL_FLAG_ANY_MEAN = VCL_FLAG_MEAN | VCL_FLAG_COL_MEANS
};

struct vcl_frame {
    struct vcl_tensor tensor;
    uint64_t values;
    enum vcl_codec codec;
    uint32_t flags;
    uint32_t header_bytes;
    uint64_t frame_bytes;
    const char *target; /* alias: points into the header */
    size_t target_length;
    struct vcl_plan plan; /* of the coded matrix */
    float step;           /* lossy codecs, to seed.  Tensor codec: the half-step, the spacing of points */
    float snr;
    uint32_t seed;
    int depth; /* video codecs, to chroma */
    int chroma;
    int states; /* tensor codec, to the end: bits of trellis state */
    int lanes;
    int shape, fine; /* of the model: which distribution; its width, in sixteenths of an octave */
    struct vcl_transform transform;
    int8_t centroid[VCL_CENTROIDS];
    uint32_t side_bytes; /* class models, tables, mean, points, the columns' classes, steps and means */
    const uint8_t *side;
};

static inline int vcl_codec_is_video(enum vcl_codec codec)
{
    return codec == VCL_CODEC_H264 || codec == VCL_CODEC_H265;
}
static inline int vcl_codec_is_exact(enum vcl_codec codec)
{
    return codec == VCL_CODEC_EXACT || codec == VCL_CODEC_LOSSLESS;
}

/* Bytes of the header that these fields imply; UINT64_MAX if that is above VCL_FRAME_HEADER_MAX. */
uint64_t vcl_frame_header_bytes(const struct vcl_frame *frame);

/* All of the header but the tile table and the hash: at most VCL_FRAME_FIELDS bytes.  header_bytes and
 * frame_bytes are written as they stand in the struct.  Returns the bytes written (an alias's name and
 * the side bytes not among them). */
size_t vcl_frame_write(const struct vcl_frame *frame, uint8_t *dst);

/* Parses and checks a header of which `bytes` bytes are there.  VCL_E_TRUNCATED sets
 * frame->header_bytes to what is needed, 0 if not even that can be told.  On other failures *reason
 * says why.  The hash is checked. */
enum vcl_status vcl_frame_parse(const uint8_t *src, uint64_t bytes, struct vcl_frame *frame,
                                const char **reason);

/* The tile's place in the table. */
static inline size_t vcl_frame_entry(const struct vcl_frame *frame, uint64_t tile)
{
    return (size_t)(frame->header_bytes - 4 - VCL_TILE_ENTRY * (frame->plan.tiles - tile));
}

/* What stands there. */
struct vcl_tile_entry {
    uint32_t size, stored_hash, decoded_hash;
};

struct vcl_tile_entry vcl_frame_read_entry(const struct vcl_frame *frame, const uint8_t *header,
                                           uint64_t tile);
void vcl_frame_write_entry(const struct vcl_tile_entry *entry, uint8_t *dst);

/* Where the last tile's bytes end in the frame, and in offsets[tile], unless it is NULL, where each tile's
 * begin. */
uint64_t vcl_frame_locate(const struct vcl_frame *frame, const uint8_t *header, uint64_t *offsets);

#endif
