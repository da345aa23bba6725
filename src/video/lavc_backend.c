/* lavc_backend.c - the encoders and decoders the module knows, and how each is opened.
 *
 * In: a configuration.  Out: an open AVCodecContext.  Every setting that makes pictures pleasant and
 * numbers worse is off (docs/experiments.md has the measurements), and each context has one thread: tiles are
 * coded in parallel, not parts of one.  Nothing is printed: libavcodec's messages pass through av_log,
 * which adds the context's own log_level_offset to their level; the process-wide level and callback stay
 * as they are.  Two things escape that: FFmpeg 5's H.265 decoder says "nb_cpb N invalid" of a stream made
 * to have impossible buffering parameters, and libavutil complains of a GPU whose VA-API driver does not
 * load. */
#include "lavc_backend.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <libavutil/hwcontext.h>
#include <libavutil/opt.h>

/* ---- settings, encoder by encoder ------------------------------------------------------------ */

static int set_text(AVCodecContext *ctx, const char *key, const char *value)
{
    return av_opt_set(ctx, key, value, AV_OPT_SEARCH_CHILDREN);
}

static int set_number(AVCodecContext *ctx, const char *key, int value)
{
    return av_opt_set_int(ctx, key, value, AV_OPT_SEARCH_CHILDREN);
}

/* Sets key, value, key, value ... NULL; stops at the first that the encoder refuses. */
static int set_all(AVCodecContext *ctx, const char *const *pairs)
{
    int error = 0;
    for (; *pairs && error >= 0; pairs += 2)
        error = set_text(ctx, pairs[0], pairs[1]);
    return error;
}

/* Over every preset: rate-distortion optimised quantisation and hidden signs are worth 0.03 bit a value
 * and more, which no preset's search of blocks and modes is; up to medium, blocks under 16 x 16 cost half
 * of the time for 0.002 bit.  sao=1 also because x265 3.5 leaks its row buffers without it. */
static int configure_x265(AVCodecContext *ctx, const struct vcl_video_config *config, int depth)
{
    static const char *const presets[9] = { "ultrafast", "superfast", "veryfast", "faster", "medium",
                                            "slow",      "slower",    "veryslow", "placebo" };
    char params[320];
    (void)depth; /* x265 takes qp on the 8-bit scale */
    snprintf(params, sizeof params,
             "%s=%d:log-level=none:info=0:aud=0:hrd=0:pools=none:frame-threads=1:wpp=0:"
             "psy-rd=0:psy-rdoq=0:aq-mode=0:rdoq-level=2:signhide=1:sao=1:min-cu-size=%d",
             config->lossless ? "lossless" : "qp", config->lossless ? 1 : config->qp,
             config->effort <= 5 ? 16 : 8);
    const int error = set_text(ctx, "preset", presets[config->effort - 1]);
    return error < 0 ? error : set_text(ctx, "x265-params", params);
}

/* Over every preset: the trellis and the decisions that use it are worth 0.06 bit a value, arithmetic
 * coding 0.3; what the presets add to them is nothing in intra pictures.  Except that ultrafast predicts
 * whole 16 x 16 blocks only, which on weights is 6 times faster and 0.05 bit better at 2 bits and more,
 * while smooth tensors want the smaller blocks. */
static int configure_x264(AVCodecContext *ctx, const struct vcl_video_config *config, int depth)
{
    char params[160];
    const int qp = config->lossless ? 0 : config->qp + 6 * (depth - 8); /* x264's own 0 is exact */
    snprintf(params, sizeof params,
             "qp=%d:log=-1:aud=0:sliced-threads=0:psy=0:aq-mode=0:no-deblock=1:cabac=1:"
             "trellis=2:subme=9",
             qp);
    const int error = set_text(ctx, "preset", config->effort <= 5 ? "ultrafast" : "slow");
    return error < 0 ? error : set_text(ctx, "x264-params", params);
}

static int configure_nvenc(AVCodecContext *ctx, const struct vcl_video_config *config, int depth)
{
    static const char *const fixed[] = { "rc",  "constqp", "rc-lookahead", "0", "spatial_aq", "0",
                                         "aud", "0",       "zerolatency",  "1", "delay",      "0",
                                         NULL };
    const char preset[] = { 'p', (char)('1' + (config->effort - 1) * 6 / 8), 0 }; /* p1 to p7 */
    (void)depth;
    int error = set_all(ctx, fixed);
    error = error < 0 ? error : set_text(ctx, "preset", preset);
    error = error < 0 ? error : set_text(ctx, "tune", config->lossless ? "lossless" : "hq");
    return error < 0 ? error : set_number(ctx, "qp", config->lossless ? 0 : config->qp);
}

static int configure_vaapi(AVCodecContext *ctx, const struct vcl_video_config *config, int depth)
{
    static const char *const fixed[] = { "rc_mode", "CQP", "aud", "0", "sei", "0", "async_depth", "1", NULL };
    (void)depth;
    const int error = set_all(ctx, fixed);
    return error < 0 ? error : set_number(ctx, "qp", config->qp);
}

/* ---- the table ------------------------------------------------------------------------------- */

#define H264 VCL_CODEC_H264
#define H265 VCL_CODEC_H265
#define NVIDIA VCL_DEVICE_NVIDIA
#define VAAPI VCL_DEVICE_VAAPI
#define CUDA_ENCODER "libnvidia-encode.so.1"
#define CUDA_DECODER "libnvcuvid.so.1"

/* Software first: it is what every machine has and what was measured.  x265 clips qp to 0 at every depth;
 * x264's least is 1 on its own scale, which begins 6 lower for each bit above 8 (its 0 is exact).  NVENC
 * takes p016 but cuts it to 10 bits.  Least sides of NVENC and NVDEC: by NVIDIA's documentation. */
static const struct vcl_lavc_backend backends[] = {
    /* name         codec enc depth exact qp     follows least    device */
    { "libx265", H265, 1, 12, 1, 0, 51, 0, 0, 0, VCL_DEVICE_NONE, NULL, configure_x265 },
    { "libx264", H264, 1, 10, 1, 1, 51, 1, 0, 0, VCL_DEVICE_NONE, NULL, configure_x264 },
    { "hevc_nvenc", H265, 1, 10, 1, 0, 51, 0, 129, 33, NVIDIA, CUDA_ENCODER, configure_nvenc },
    { "h264_nvenc", H264, 1, 8, 1, 0, 51, 0, 145, 49, NVIDIA, CUDA_ENCODER, configure_nvenc },
    { "hevc_vaapi", H265, 1, 10, 0, 1, 51, 0, 0, 0, VAAPI, NULL, configure_vaapi },
    { "h264_vaapi", H264, 1, 8, 0, 1, 51, 0, 0, 0, VAAPI, NULL, configure_vaapi },
    { "hevc", H265, 0, 12, 0, 0, 0, 0, 0, 0, VCL_DEVICE_NONE, NULL, NULL },
    { "h264", H264, 0, 10, 0, 0, 0, 0, 0, 0, VCL_DEVICE_NONE, NULL, NULL },
    { "hevc_cuvid", H265, 0, 12, 0, 0, 0, 0, 144, 144, NVIDIA, CUDA_DECODER, NULL },
    { "h264_cuvid", H264, 0, 8, 0, 0, 0, 0, 0, 0, NVIDIA, CUDA_DECODER, NULL },
    { "hevc_vaapi", H265, 0, 10, 0, 0, 0, 0, 0, 0, VAAPI, NULL, NULL },
    { "h264_vaapi", H264, 0, 8, 0, 0, 0, 0, 0, 0, VAAPI, NULL, NULL },
};

const struct vcl_lavc_backend *vcl_lavc_backend_at(size_t i)
{
    return i < sizeof backends / sizeof backends[0] ? &backends[i] : NULL;
}

const struct vcl_lavc_backend *vcl_lavc_backend_next(const struct vcl_video_config *config, int encodes,
                                                     const struct vcl_lavc_backend *last)
{
    const struct vcl_lavc_backend *b;
    for (size_t i = last ? (size_t)(last - backends) + 1 : 0; (b = vcl_lavc_backend_at(i)) != NULL; i++)
        if (b->codec == config->codec && b->encodes == encodes
            && (!config->name || !strcmp(b->name, config->name)))
            return b;
    return NULL;
}

int vcl_lavc_qp_min(const struct vcl_lavc_backend *backend, int depth)
{
    return backend->qp_min - (backend->qp_follows ? 6 * (depth - 8) : 0);
}

/* ---- pixel formats --------------------------------------------------------------------------- */

/* In the machine's byte order, as libavcodec has them.  yuvj420p is yuv420p that claims the full range. */
static const struct vcl_pixels kinds[] = {
    { AV_PIX_FMT_GRAY8, 400, 8, 0, 1 },      { AV_PIX_FMT_GRAY10, 400, 10, 0, 1 },
    { AV_PIX_FMT_GRAY12, 400, 12, 0, 1 },    { AV_PIX_FMT_YUV420P, 420, 8, 0, 3 },
    { AV_PIX_FMT_YUV420P10, 420, 10, 0, 3 }, { AV_PIX_FMT_YUV420P12, 420, 12, 0, 3 },
    { AV_PIX_FMT_YUVJ420P, 420, 8, 0, 3 },   { AV_PIX_FMT_NV12, 420, 8, 0, 2 },
    { AV_PIX_FMT_P010, 420, 10, 6, 2 },      { AV_PIX_FMT_P016, 420, 12, 4, 2 },
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

const struct vcl_pixels *vcl_pixels_of(enum AVPixelFormat format, int depth)
{
    for (int i = 0; i < KINDS; i++)
        if (kinds[i].format == format && kinds[i].depth == depth)
            return &kinds[i];
    return NULL;
}

/* Ended by AV_PIX_FMT_NONE; NULL where the encoder names none. */
static const enum AVPixelFormat *formats_of(const AVCodec *codec)
{
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(61, 13, 100)
    const void *formats = NULL;
    const int fault =
        avcodec_get_supported_config(NULL, codec, AV_CODEC_CONFIG_PIX_FORMAT, 0, &formats, NULL);
    return fault < 0 ? NULL : formats;
#else
    return codec->pix_fmts;
#endif
}

static int encoder_takes(const AVCodec *codec, enum vcl_device device, const struct vcl_pixels *pixels)
{
    if (device == VCL_DEVICE_VAAPI) /* its surfaces are uploaded from these */
        return pixels->planes == 2;
    for (const enum AVPixelFormat *f = formats_of(codec); f && *f != AV_PIX_FMT_NONE; f++)
        if (*f == pixels->format)
            return 1;
    return 0;
}

/* The first kind of that chroma which the encoder takes, of that depth or, for depth 0, of any. */
static const struct vcl_pixels *find_pixels(const struct vcl_lavc_backend *backend, const AVCodec *codec,
                                            int chroma, int depth)
{
    for (int i = 0; i < KINDS; i++) {
        const struct vcl_pixels *const pixels = &kinds[i];
        if (pixels->chroma == chroma && pixels->depth <= backend->depth && (!depth || pixels->depth == depth)
            && encoder_takes(codec, backend->device, pixels))
            return pixels;
    }
    return NULL;
}

/* ---- hardware -------------------------------------------------------------------------------- */

enum vcl_status vcl_lavc_fault(char message[VCL_VIDEO_MESSAGE], enum vcl_status status, const char *name,
                               const char *what, int error)
{
    char words[AV_ERROR_MAX_STRING_SIZE] = "unknown error";
    av_strerror(error, words, sizeof words);
    snprintf(message, VCL_VIDEO_MESSAGE, "%s: %s: %s", name, what, words);
    return error == AVERROR(ENOMEM) ? VCL_E_MEMORY : status;
}

/* Tries the driver's library first: libavcodec only says "Operation not permitted" or "Unknown error"
 * without it. */
static enum vcl_status check_driver(const struct vcl_lavc_backend *backend, char message[VCL_VIDEO_MESSAGE])
{
    const char *const needed[] = { "libcuda.so.1", backend->library };
    for (int i = 0; i < 2; i++) {
        void *const handle = dlopen(needed[i], RTLD_LAZY | RTLD_LOCAL);
        if (!handle) {
            snprintf(message, VCL_VIDEO_MESSAGE, "%s: needs an NVIDIA GPU and its driver: %.150s",
                     backend->name, dlerror());
            return VCL_E_CODEC;
        }
        dlclose(handle);
    }
    return VCL_OK;
}

/* The first GPU's render node, opened once by us: without one libavutil would try X11 and print. */
static enum vcl_status open_vaapi(struct vcl_coder *coder, char message[VCL_VIDEO_MESSAGE])
{
    static const char node[] = "/dev/dri/renderD128";
    const int file = open(node, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return vcl_lavc_fault(message, VCL_E_CODEC, coder->backend->name, node, AVERROR(errno));
    close(file);
    const int error = av_hwdevice_ctx_create(&coder->device, AV_HWDEVICE_TYPE_VAAPI, node, NULL, 0);
    if (error < 0)
        return vcl_lavc_fault(message, VCL_E_CODEC, coder->backend->name, "no VA-API driver for this GPU",
                              error);
    return VCL_OK;
}

/* An encoder's surfaces, to which pictures are uploaded. */
static int make_surfaces(struct vcl_coder *coder)
{
    coder->surfaces = av_hwframe_ctx_alloc(coder->device);
    if (!coder->surfaces)
        return AVERROR(ENOMEM);
    AVHWFramesContext *const frames = (AVHWFramesContext *)coder->surfaces->data;
    frames->format = AV_PIX_FMT_VAAPI;
    frames->sw_format = coder->pixels->format;
    frames->width = coder->ctx->width;
    frames->height = coder->ctx->height;
    frames->initial_pool_size = 4; /* the picture, its reconstruction, and room for the encoder's own */
    const int error = av_hwframe_ctx_init(coder->surfaces);
    if (error < 0)
        return error;
    coder->ctx->pix_fmt = AV_PIX_FMT_VAAPI;
    coder->ctx->hw_frames_ctx = av_buffer_ref(coder->surfaces);
    return coder->ctx->hw_frames_ctx ? 0 : AVERROR(ENOMEM);
}

/* A VA-API decoder decodes on the GPU or not at all: libavcodec's own choice would fall back to software
 * in silence. */
static enum AVPixelFormat choose_surface(AVCodecContext *ctx, const enum AVPixelFormat *formats)
{
    (void)ctx;
    while (*formats != AV_PIX_FMT_NONE && *formats != AV_PIX_FMT_VAAPI)
        formats++;
    return *formats;
}

static enum vcl_status open_device(struct vcl_coder *coder, char message[VCL_VIDEO_MESSAGE])
{
    switch (coder->backend->device) {
    case VCL_DEVICE_NVIDIA: return check_driver(coder->backend, message);
    case VCL_DEVICE_VAAPI: return open_vaapi(coder, message);
    default: return VCL_OK;
    }
}

/* ---- opening --------------------------------------------------------------------------------- */

static const AVCodec *find_codec(const struct vcl_lavc_backend *backend)
{
    if (backend->encodes)
        return avcodec_find_encoder_by_name(backend->name);
    if (backend->device == VCL_DEVICE_VAAPI) /* a way of decoding, not a decoder of its own */
        return avcodec_find_decoder_by_name(backend->codec == VCL_CODEC_H264 ? "h264" : "hevc");
    return avcodec_find_decoder_by_name(backend->name);
}

static enum vcl_status choose_pixels(struct vcl_coder *coder, const AVCodec *codec, int chroma, int depth,
                                     char message[VCL_VIDEO_MESSAGE])
{
    const char *const name = coder->backend->name;
    coder->pixels = find_pixels(coder->backend, codec, chroma, depth);
    if (coder->pixels)
        return VCL_OK;
    if (find_pixels(coder->backend, codec, chroma, 0)) {
        snprintf(message, VCL_VIDEO_MESSAGE, "%s: cannot code %d-bit pictures here", name, depth);
        return VCL_E_LIMIT;
    }
    snprintf(message, VCL_VIDEO_MESSAGE, "%s: has no %s", name,
             chroma == 400 ? "monochrome (4:0:0); use --chroma 420" : "4:2:0; use --chroma gray");
    return VCL_E_CODEC;
}

/* Smaller pictures would only say "invalid argument" later. */
static enum vcl_status check_least(const struct vcl_lavc_backend *backend, int width, int height,
                                   char message[VCL_VIDEO_MESSAGE])
{
    if (width >= backend->least_width && height >= backend->least_height)
        return VCL_OK;
    snprintf(
        message, VCL_VIDEO_MESSAGE,
        "%s: cannot code pictures below %d x %d; this tensor, or its last tile, makes one of %d x %d: keep "
        "it exact or use another %s",
        backend->name, backend->least_width, backend->least_height, width, height,
        backend->encodes ? "encoder" : "decoder");
    return VCL_E_CODEC;
}

static void set_common(AVCodecContext *ctx, int width, int height)
{
    ctx->log_level_offset = VCL_LAVC_QUIET;
    ctx->thread_count = 1;
    ctx->width = width;
    ctx->height = height;
}

static int set_encoder(struct vcl_coder *coder, const struct vcl_video_config *config, int depth)
{
    AVCodecContext *const ctx = coder->ctx;
    ctx->pix_fmt = coder->pixels->format;
    ctx->time_base = (AVRational){ 1, 25 }; /* any: there is one picture */
    ctx->gop_size = 1;
    ctx->max_b_frames = 0;
    ctx->i_quant_factor = 1; /* the qp asked for, not one derived for I pictures */
    ctx->i_quant_offset = 0;
    if (config->effort < 1 || config->effort > 9)
        return AVERROR(EINVAL);
    const int error = coder->device ? make_surfaces(coder) : 0;
    return error < 0 ? error : coder->backend->configure(ctx, config, depth);
}

static int set_decoder(struct vcl_coder *coder, int width, int height)
{
    AVCodecContext *const ctx = coder->ctx;
    /* libavcodec counts rows of whole SIMD registers; the picture's own size was checked before. */
    ctx->max_pixels = (int64_t)(width + 64) * (height + 64);
    ctx->err_recognition = AV_EF_EXPLODE | AV_EF_BITSTREAM | AV_EF_BUFFER | AV_EF_CRCCHECK | AV_EF_CAREFUL;
    ctx->error_concealment = 0;
    if (!coder->device)
        return 0;
    ctx->get_format = choose_surface;
    ctx->hw_device_ctx = av_buffer_ref(coder->device);
    return ctx->hw_device_ctx ? 0 : AVERROR(ENOMEM);
}

static enum vcl_status open_backend(struct vcl_coder *coder, const struct vcl_video_config *config, int width,
                                    int height, int depth, char message[VCL_VIDEO_MESSAGE])
{
    const struct vcl_lavc_backend *const backend = coder->backend;
    const AVCodec *const codec = find_codec(backend);
    enum vcl_status status = VCL_OK;
    if (!codec) {
        snprintf(message, VCL_VIDEO_MESSAGE, "%s: not in this libavcodec (%s); install a build that has it",
                 backend->name, av_version_info());
        return VCL_E_CODEC;
    }
    if (backend->encodes)
        status = choose_pixels(coder, codec, config->chroma, depth, message);
    if (status == VCL_OK)
        status = check_least(backend, width, height, message);
    if (status == VCL_OK)
        status = open_device(coder, message);
    if (status != VCL_OK)
        return status;
    coder->ctx = avcodec_alloc_context3(codec);
    if (!coder->ctx)
        return vcl_lavc_fault(message, VCL_E_MEMORY, backend->name, "opening it", AVERROR(ENOMEM));
    set_common(coder->ctx, width, height);
    int error = backend->encodes ? set_encoder(coder, config, depth) : set_decoder(coder, width, height);
    if (error >= 0)
        error = avcodec_open2(coder->ctx, codec, NULL);
    if (error < 0)
        return vcl_lavc_fault(message, VCL_E_CODEC, backend->name, "opening it", error);
    return VCL_OK;
}

static enum vcl_status unknown_name(const struct vcl_video_config *config, int encodes,
                                    char message[VCL_VIDEO_MESSAGE])
{
    snprintf(message, VCL_VIDEO_MESSAGE, "%.60s: no %s %s of that name; `vcllm codecs` lists them",
             config->name, config->codec == VCL_CODEC_H264 ? "H.264" : "H.265",
             encodes ? "encoder" : "decoder");
    return VCL_E_CODEC;
}

enum vcl_status vcl_coder_open(struct vcl_coder *coder, const struct vcl_video_config *config, int encodes,
                               int width, int height, int depth, char message[VCL_VIDEO_MESSAGE])
{
    const struct vcl_lavc_backend *backend = NULL;
    enum vcl_status status, first = VCL_OK;
    char later[VCL_VIDEO_MESSAGE];

    memset(coder, 0, sizeof *coder);
    while ((backend = vcl_lavc_backend_next(config, encodes, backend)) != NULL) {
        char *const reason = first == VCL_OK ? message : later;
        coder->backend = backend;
        status = open_backend(coder, config, width, height, depth, reason);
        if (status != VCL_E_CODEC && status != VCL_E_LIMIT)
            return status;
        vcl_coder_close(coder);
        first = first == VCL_OK ? status : first;
    }
    return first == VCL_OK ? unknown_name(config, encodes, message) : first;
}

void vcl_coder_close(struct vcl_coder *coder)
{
    avcodec_free_context(&coder->ctx);
    av_buffer_unref(&coder->surfaces);
    av_buffer_unref(&coder->device);
}
