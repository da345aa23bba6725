/* video.h - what the core asks of the video module: pictures to bytes and back.
 *
 * The module (lavc.c) is the only code that knows libavcodec.  It is loaded at run time by loader.c and
 * reached through the table below, so the core never links a GPL encoder.  A picture is one luma plane
 * of 8, 10 or 12 bits; its bytes are one Annex B access unit that decodes alone. */
#ifndef VCL_VIDEO_H
#define VCL_VIDEO_H

#include "vcllm.h"

#define VCL_VIDEO_ABI 1
#define VCL_VIDEO_SYMBOL "vcl_video_module" /* const struct vcl_video *(void) */
#define VCL_VIDEO_MESSAGE 256

enum { VCL_VIDEO_MIN_SIDE = 64, VCL_VIDEO_MAX_SIDE = 4096 }; /* of every picture, both multiples of 8 */

struct vcl_picture {
    int width, height;
    int depth;         /* 8, 10 or 12 */
    uint16_t *samples; /* height rows of width, 0 to 2^depth - 1 */
};

struct vcl_video_config {
    enum vcl_codec codec;
    const char *name; /* libavcodec's encoder or decoder; NULL = the first that works */
    int effort;       /* 1 to 9 */
    int chroma;       /* 400 or 420 */
    int lossless;     /* 1: exact; qp is ignored */
    int qp;           /* on the 8-bit scale at every depth: quantiser step = 2^((qp - 4) / 6) levels of 256 */
};

struct vcl_video_range { /* of an encoder at a depth */
    int works;           /* 0: it cannot code that depth at all */
    int qp_min, qp_max;  /* lossy, on the scale of vcl_video_config.qp */
    int lossless;        /* 1 if it can */
};

struct vcl_video {
    uint32_t abi; /* VCL_VIDEO_ABI */
    /* What the encoder can do at this depth and chroma; opens it.  VCL_E_CODEC with a message if it
     * does not work. */
    enum vcl_status (*range)(const struct vcl_video_config *config, int depth, struct vcl_video_range *range,
                             char message[VCL_VIDEO_MESSAGE]);
    /* One picture to bytes: VCL_E_SPACE where room is too small, VCL_E_BACKEND where the encoder fails. */
    enum vcl_status (*encode)(const struct vcl_video_config *config, const struct vcl_picture *picture,
                              void *bytes, size_t room, size_t *written, char message[VCL_VIDEO_MESSAGE]);
    /* Bytes to a picture whose width, height and depth the caller has set and whose samples it owns; a
     * stream that holds anything else is VCL_E_FORMAT, before memory beyond that size is used. */
    enum vcl_status (*decode)(const struct vcl_video_config *config, const void *bytes, size_t n,
                              struct vcl_picture *picture, char message[VCL_VIDEO_MESSAGE]);
    /* Tries every backend; see vcl_probe. */
    void (*probe)(void (*each)(void *user, const struct vcl_backend *), void *user);
};

#endif
