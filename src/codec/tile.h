/* tile.h - one tile through the steps of its codec, both ways. */
#ifndef VCL_TILE_H
#define VCL_TILE_H

#include "base/mem.h"
#include "codec/frame.h"
#include "codec/lossless.h"
#include "codec/plan.h"
#include "codec/tensor.h"
#include "video/video.h"

enum {
    VCL_TRANSFORMS = 10,      /* that are tried, the first being none */
    VCL_TRANSPOSED_LINES = 16 /* columns of the coded matrix read or written at a time */
};

/* What all tiles of one tensor share while coding. */
struct vcl_tile_coder {
    const struct vcl_kernels *kernels;
    const struct vcl_tensor_tables *tables; /* tensor codec */
    const struct vcl_video *video;          /* video codecs, to decoder */
    struct vcl_video_config config;         /* encoder's or decoder's */
    const char *decoder;                    /* encoding: what checks the result */
    int counting;                           /* encoding, tensor codec: fill work->counts */
};

/* What the encoder must know of a tensor before it chooses a step. */
struct vcl_tile_stats {
    uint64_t non_finite;  /* or too large to have an index */
    double energy;        /* sum of x^2 over finite values */
    double scaled_energy; /* sum of (x / range)^2, range the row's where there are row scales, else 1 */
    double log_deviation; /* tensor codec: sum over values of log2 of their row's deviation */
    uint64_t lively;      /* tensor codec: values in that sum, those of rows that are not all 0 */
    float largest;        /* of finite magnitudes */
    float absmax;         /* the same after step 3 */
};

/* What values take with one of the transforms, as foretold. */
struct vcl_turned {
    double bits, error; /* error: squared */
    float largest;      /* coefficient */
};

/* Buffers for one tile at a time, one of these per thread. */
struct vcl_tile_work {
    uint8_t *lines;    /* transposed: VCL_TRANSPOSED_LINES columns */
    uint8_t *raw;      /* the tile's values in the tensor's dtype; decoding leaves them here (own or lent) */
    uint8_t *own;      /* room for them */
    uint8_t *decoded;  /* encoding: what a decoder will give */
    uint8_t *stored;   /* the tile's bytes in the frame */
    size_t room, size; /* of stored: room for, in use */
    float *x, *y, *scales;
    uint16_t *samples;
    size_t values; /* of the largest tile */
    struct vcl_lossless *lossless;
    struct vcl_tensor_work tensor;
    struct vcl_tensor_counts *counts; /* encoding: of the tile just coded */
    double *col_energy, *col_sum;     /* measuring: by column of the tile */
    struct vcl_tile_stats stats;      /* measuring; encoding: non_finite */
    double gain[VCL_TRANSFORMS];      /* analysing: bits all values would save, by candidate */
    double step;                      /* analysing: that at which they would have the target as they are */
    struct vcl_turned turned[VCL_TRANSFORMS]; /* analysing: by candidate */
    struct vcl_error_sums sums;
    uint32_t stored_hash, decoded_hash;
    enum vcl_status status;
    char message[VCL_VIDEO_MESSAGE + 64];
};

/* The largest magnitude of n finite values. */
float vcl_absmax(const float *x, size_t n);

/* Most stored bytes a tile of this frame can have. */
size_t vcl_tile_room(const struct vcl_frame *frame);

/* room: the most stored bytes a tile to decode has; 0 = for encoding. */
enum vcl_status vcl_tile_work_create(const struct vcl_mem *mem, const struct vcl_frame *frame, size_t room,
                                     struct vcl_tile_work *work);
void vcl_tile_work_destroy(const struct vcl_mem *mem, struct vcl_tile_work *work);

/* work->raw to statistics and, for the tensor codec, its values as the quantiser gets them in work->x. */
enum vcl_status vcl_tile_measure(const struct vcl_frame *frame, const struct vcl_tile_coder *coder,
                                 struct vcl_rect rect, struct vcl_tile_work *work,
                                 struct vcl_tile_stats *stats);
/* work->raw to work->stored, with both hashes and the error against what a fresh decoder makes of it. */
enum vcl_status vcl_tile_encode(const struct vcl_frame *frame, const struct vcl_tile_coder *coder,
                                struct vcl_rect rect, struct vcl_tile_work *work);
/* What the header's tile table says of the tile: how many bytes are stored, and the hashes. */
void vcl_tile_look_up(const struct vcl_frame *frame, const uint8_t *header, uint64_t tile,
                      struct vcl_tile_work *work);
/* work->stored to work->raw, checked against work->stored_hash and work->decoded_hash. */
enum vcl_status vcl_tile_decode(const struct vcl_frame *frame, const struct vcl_tile_coder *coder,
                                struct vcl_rect rect, struct vcl_tile_work *work);

#endif
