/* lavc_backend.h - the encoders and decoders the module knows, and how each is opened. */
#ifndef VCL_LAVC_BACKEND_H
#define VCL_LAVC_BACKEND_H

#include <libavcodec/avcodec.h>

#include "video.h"

enum vcl_device { VCL_DEVICE_NONE, VCL_DEVICE_NVIDIA, VCL_DEVICE_VAAPI };

struct vcl_lavc_backend {
    const char *name; /* libavcodec's, or for VA-API decoders its decoder's with _vaapi */
    enum vcl_codec codec;
    int encodes;
    int depth; /* largest that it could code in any version */
    int lossless;
    int qp_min, qp_max;            /* on the 8-bit scale, at 8 bits */
    int qp_follows;                /* 1: every further bit of depth lowers qp_min by 6 */
    int least_width, least_height; /* of a picture; 0 = as the module's own */
    enum vcl_device device;
    const char *library; /* of the device's driver, without which libavcodec cannot open it */
    /* Sets the encoder's options; AVERROR or >= 0. */
    int (*configure)(AVCodecContext *ctx, const struct vcl_video_config *config, int depth);
};

/* Backend number i of the table, best first for each codec; NULL beyond the last. */
const struct vcl_lavc_backend *vcl_lavc_backend_at(size_t i);
/* The backend after `last` (NULL = the first) that does config's codec and bears config's name, where it
 * has one. */
const struct vcl_lavc_backend *vcl_lavc_backend_next(const struct vcl_video_config *config, int encodes,
                                                     const struct vcl_lavc_backend *last);
int vcl_lavc_qp_min(const struct vcl_lavc_backend *backend, int depth);

/* How one of libavcodec's pixel formats keeps luma. */
struct vcl_pixels {
    enum AVPixelFormat format;
    int chroma; /* 400 or 420 */
    int depth;
    int shift; /* of a sample in its 16-bit word */
    int planes;
};
/* How a decoded frame of this format and depth keeps luma; NULL if it is none of ours. */
const struct vcl_pixels *vcl_pixels_of(enum AVPixelFormat format, int depth);

/* What an open encoder or decoder holds. */
struct vcl_coder {
    const struct vcl_lavc_backend *backend;
    const struct vcl_pixels *pixels; /* of the frames given to an encoder */
    AVCodecContext *ctx;
    AVBufferRef *device, *surfaces; /* of VA-API */
};

/* Opens the first backend that works for config, a picture of these sides and this depth.  VCL_E_CODEC:
 * none does, and the message is about the first tried.  VCL_E_LIMIT: it works but not at this depth.
 * Close it also after a failure. */
enum vcl_status vcl_coder_open(struct vcl_coder *coder, const struct vcl_video_config *config, int encodes,
                               int width, int height, int depth, char message[VCL_VIDEO_MESSAGE]);
void vcl_coder_close(struct vcl_coder *coder);

/* Above every level that exists: adding it to a context's messages keeps them from being printed. */
enum { VCL_LAVC_QUIET = 100 };

/* Fills the message with "name: what: libavcodec's words" and returns status, or VCL_E_MEMORY if that was
 * the cause. */
enum vcl_status vcl_lavc_fault(char message[VCL_VIDEO_MESSAGE], enum vcl_status status, const char *name,
                               const char *what, int error);

#endif
