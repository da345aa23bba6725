/* lavc.c - the video module: one picture to one access unit and back, through libavcodec.
 *
 * In: a luma plane of 8, 10 or 12 bits.  Out: Annex B bytes that decode alone.  Every call opens its own
 * encoder or decoder and closes it: milliseconds a picture, and in return no state outlives a call and
 * threads share nothing.  A stream to be decoded is untrusted: its units and its size are checked
 * (lavc_units.c, lavc_sequence.c) before a decoder sees it.  Planes are copied row by row, never through
 * swscale, which would squeeze the range. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <libavutil/hwcontext.h>

#include "lavc_backend.h"
#include "lavc_units.h"

/* ---- luma in and out of frames --------------------------------------------------------------- */

static void fill_row(uint8_t *row, int depth, int shift, int n, unsigned sample)
{
    if (depth == 8) {
        memset(row, (int)sample, (size_t)n);
        return;
    }
    uint16_t *const wide = (uint16_t *)(void *)row; /* libavutil aligns rows for SIMD */
    for (int i = 0; i < n; i++)
        wide[i] = (uint16_t)(sample << shift);
}

static void fill_chroma(AVFrame *frame, const struct vcl_pixels *pixels)
{
    const int cols = pixels->planes == 2 ? frame->width : frame->width / 2; /* Cb, Cr alternate */
    for (int plane = 1; plane < pixels->planes; plane++)
        for (int r = 0; r < frame->height / 2; r++)
            fill_row(frame->data[plane] + (ptrdiff_t)r * frame->linesize[plane], pixels->depth, pixels->shift,
                     cols, 1u << (pixels->depth - 1));
}

/* The OR of all samples, which tells whether one has too many bits. */
static unsigned put_luma(AVFrame *frame, const struct vcl_pixels *pixels, const struct vcl_picture *picture)
{
    unsigned seen = 0;
    for (int r = 0; r < picture->height; r++) {
        const uint16_t *const from = picture->samples + (size_t)r * (size_t)picture->width;
        uint8_t *const row = frame->data[0] + (ptrdiff_t)r * frame->linesize[0];
        uint16_t *const wide = (uint16_t *)(void *)row;
        for (int c = 0; c < picture->width; c++)
            seen |= from[c];
        if (pixels->depth == 8)
            for (int c = 0; c < picture->width; c++)
                row[c] = (uint8_t)from[c];
        else
            for (int c = 0; c < picture->width; c++)
                wide[c] = (uint16_t)(from[c] << pixels->shift);
    }
    return seen;
}

static void get_luma(const AVFrame *frame, const struct vcl_pixels *pixels, struct vcl_picture *picture)
{
    const unsigned mask = (1u << pixels->depth) - 1;
    for (int r = 0; r < picture->height; r++) {
        uint16_t *const to = picture->samples + (size_t)r * (size_t)picture->width;
        const uint8_t *const row = frame->data[0] + (ptrdiff_t)r * frame->linesize[0];
        const uint16_t *const wide = (const uint16_t *)(const void *)row;
        if (pixels->depth == 8)
            for (int c = 0; c < picture->width; c++)
                to[c] = row[c];
        else
            for (int c = 0; c < picture->width; c++)
                to[c] = (uint16_t)(wide[c] >> pixels->shift & mask);
    }
}

/* ---- encoding -------------------------------------------------------------------------------- */

static enum vcl_status check_sides(const struct vcl_picture *picture, char message[VCL_VIDEO_MESSAGE])
{
    const int w = picture->width, h = picture->height;
    if (w >= VCL_VIDEO_MIN_SIDE && h >= VCL_VIDEO_MIN_SIDE && w <= VCL_VIDEO_MAX_SIDE
        && h <= VCL_VIDEO_MAX_SIDE && w % 8 == 0 && h % 8 == 0)
        return VCL_OK;
    snprintf(message, VCL_VIDEO_MESSAGE, "a picture of %d x %d: sides are multiples of 8 from %d to %d", w, h,
             VCL_VIDEO_MIN_SIDE, VCL_VIDEO_MAX_SIDE);
    return VCL_E_ARGUMENT;
}

/* A frame of the encoder's own kind on the GPU with the same picture; AVERROR or 0. */
static int upload(const struct vcl_coder *coder, AVFrame *frame)
{
    AVFrame *surface = av_frame_alloc();
    int error = surface ? av_hwframe_get_buffer(coder->surfaces, surface, 0) : AVERROR(ENOMEM);
    if (error >= 0)
        error = av_hwframe_transfer_data(surface, frame, 0);
    if (error >= 0) {
        av_frame_unref(frame);
        av_frame_move_ref(frame, surface);
    }
    av_frame_free(&surface);
    return error;
}

static enum vcl_status make_frame(const struct vcl_coder *coder, const struct vcl_picture *picture,
                                  AVFrame *frame, char message[VCL_VIDEO_MESSAGE])
{
    frame->format = coder->pixels->format;
    frame->width = picture->width;
    frame->height = picture->height;
    int error = av_frame_get_buffer(frame, 0);
    if (error < 0)
        return vcl_lavc_fault(message, VCL_E_BACKEND, coder->backend->name, "its frame", error);
    if (put_luma(frame, coder->pixels, picture) >> coder->pixels->depth) {
        snprintf(message, VCL_VIDEO_MESSAGE, "a sample has more than %d bits", picture->depth);
        return VCL_E_ARGUMENT;
    }
    fill_chroma(frame, coder->pixels);
    error = coder->surfaces ? upload(coder, frame) : 0;
    if (error < 0)
        return vcl_lavc_fault(message, VCL_E_BACKEND, coder->backend->name, "uploading to the GPU", error);
    frame->pts = 0;
    frame->pict_type = AV_PICTURE_TYPE_I;
    return VCL_OK;
}

/* The one packet that the frame becomes. */
static enum vcl_status frame_to_packet(const struct vcl_coder *coder, const AVFrame *frame, AVPacket *packet,
                                       char message[VCL_VIDEO_MESSAGE])
{
    const char *const name = coder->backend->name;
    int error = avcodec_send_frame(coder->ctx, frame);
    if (error >= 0)
        error = avcodec_send_frame(coder->ctx, NULL);
    if (error >= 0)
        error = avcodec_receive_packet(coder->ctx, packet);
    if (error < 0)
        return vcl_lavc_fault(message, VCL_E_BACKEND, name, "encoding", error);
    AVPacket *extra = av_packet_alloc();
    error = extra ? avcodec_receive_packet(coder->ctx, extra) : AVERROR(ENOMEM);
    av_packet_free(&extra);
    if (error == AVERROR_EOF)
        return VCL_OK;
    if (error < 0)
        return vcl_lavc_fault(message, VCL_E_BACKEND, name, "encoding", error);
    snprintf(message, VCL_VIDEO_MESSAGE, "%s: gave two packets for one picture", name);
    return VCL_E_BACKEND;
}

/* An encoder may take monochrome and write 4:2:0, or the reverse; what it wrote says which. */
static enum vcl_status check_chroma(const struct vcl_coder *coder, const struct vcl_video_config *config,
                                    const struct vcl_units *units, char message[VCL_VIDEO_MESSAGE])
{
    if (units->chroma == config->chroma)
        return VCL_OK;
    snprintf(message, VCL_VIDEO_MESSAGE, "%s: was asked for %s planes and wrote %s", coder->backend->name,
             config->chroma == 400 ? "4:0:0" : "4:2:0", units->chroma == 400 ? "4:0:0" : "4:2:0");
    return VCL_E_BACKEND;
}

static enum vcl_status encode_frame(const struct vcl_coder *coder, const struct vcl_video_config *config,
                                    const struct vcl_picture *picture, AVFrame *frame, AVPacket *packet,
                                    void *bytes, size_t room, size_t *written,
                                    char message[VCL_VIDEO_MESSAGE])
{
    struct vcl_units units;
    enum vcl_status status = make_frame(coder, picture, frame, message);
    if (status == VCL_OK)
        status = frame_to_packet(coder, frame, packet, message);
    if (status != VCL_OK)
        return status;
    status = vcl_units_copy(config->codec, packet->data, (size_t)packet->size, bytes, room, &units);
    *written = units.written;
    if (status == VCL_E_SPACE)
        snprintf(message, VCL_VIDEO_MESSAGE, "%s: %d bytes where %zu have room", coder->backend->name,
                 packet->size, room);
    if (status != VCL_E_FORMAT)
        return status == VCL_OK ? check_chroma(coder, config, &units, message) : status;
    snprintf(message, VCL_VIDEO_MESSAGE, "%s: its stream %s", coder->backend->name, units.fault);
    return VCL_E_BACKEND;
}

static enum vcl_status encode(const struct vcl_video_config *config, const struct vcl_picture *picture,
                              void *bytes, size_t room, size_t *written, char message[VCL_VIDEO_MESSAGE])
{
    struct vcl_coder coder;
    enum vcl_status status = check_sides(picture, message);
    if (status != VCL_OK)
        return status;
    status = vcl_coder_open(&coder, config, 1, picture->width, picture->height, picture->depth, message);
    AVFrame *frame = av_frame_alloc();
    AVPacket *packet = av_packet_alloc();
    if (status == VCL_OK && (!frame || !packet))
        status = vcl_lavc_fault(message, VCL_E_MEMORY, coder.backend->name, "its frame", AVERROR(ENOMEM));
    if (status == VCL_OK)
        status = encode_frame(&coder, config, picture, frame, packet, bytes, room, written, message);
    av_packet_free(&packet);
    av_frame_free(&frame);
    vcl_coder_close(&coder);
    return status == VCL_E_LIMIT ? VCL_E_CODEC : status;
}

/* ---- decoding -------------------------------------------------------------------------------- */

static enum vcl_status refuse(char message[VCL_VIDEO_MESSAGE], const char *fault)
{
    snprintf(message, VCL_VIDEO_MESSAGE, "the stream %s", fault);
    return VCL_E_FORMAT;
}

/* Whether the headers speak of the picture expected.  Decoders allocate by what the stream says, so this
 * comes before they see it; coded sides may be rounded up to whole blocks, of 64 at most. */
static enum vcl_status check_headers(const struct vcl_units *units, const struct vcl_picture *picture,
                                     char message[VCL_VIDEO_MESSAGE])
{
    const int w = picture->width, h = picture->height;
    if (units->width == w && units->height == h && units->depth == picture->depth
        && units->coded_width < w + 64 && units->coded_height < h + 64)
        return VCL_OK;
    snprintf(message, VCL_VIDEO_MESSAGE,
             "the stream holds %d x %d samples of %d bits where %d x %d of %d are expected", units->width,
             units->height, units->depth, w, h, picture->depth);
    return VCL_E_FORMAT;
}

/* The stream's units that matter, in a packet with the zeros behind it that libavcodec reads past the
 * end. */
static enum vcl_status make_packet(enum vcl_codec codec, const void *bytes, size_t n,
                                   const struct vcl_picture *picture, AVPacket *packet,
                                   char message[VCL_VIDEO_MESSAGE])
{
    struct vcl_units units;
    if (n > INT_MAX - AV_INPUT_BUFFER_PADDING_SIZE)
        return refuse(message, "is larger than any picture of ours");
    const int error = av_new_packet(packet, (int)n);
    if (error < 0)
        return vcl_lavc_fault(message, VCL_E_MEMORY, "decoding", "the packet", error);
    if (vcl_units_copy(codec, bytes, n, packet->data, n, &units) != VCL_OK)
        return refuse(message, units.fault);
    av_shrink_packet(packet, (int)units.written);
    return check_headers(&units, picture, message);
}

/* A frame from the GPU's memory to ours; nothing to do for the others. */
static int download(AVFrame *frame)
{
    if (frame->format != AV_PIX_FMT_VAAPI)
        return 0;
    AVFrame *plain = av_frame_alloc();
    const int error = plain ? av_hwframe_transfer_data(plain, frame, 0) : AVERROR(ENOMEM);
    if (error >= 0) {
        av_frame_unref(frame);
        av_frame_move_ref(frame, plain);
    }
    av_frame_free(&plain);
    return error;
}

/* A hardware decoder that fails for reasons of its own says so with one of these. */
static enum vcl_status blame(int error)
{
    return error == AVERROR_EXTERNAL || error == AVERROR_UNKNOWN ? VCL_E_BACKEND : VCL_E_FORMAT;
}

/* The one frame that the packet holds. */
static enum vcl_status packet_to_frame(const struct vcl_coder *coder, const AVPacket *packet, AVFrame *frame,
                                       char message[VCL_VIDEO_MESSAGE])
{
    const char *const name = coder->backend->name;
    int error = avcodec_send_packet(coder->ctx, packet);
    if (error >= 0)
        error = avcodec_send_packet(coder->ctx, NULL);
    if (error >= 0)
        error = avcodec_receive_frame(coder->ctx, frame);
    if (error < 0)
        return vcl_lavc_fault(message, blame(error), name, "decoding", error);
    AVFrame *extra = av_frame_alloc();
    error = extra ? avcodec_receive_frame(coder->ctx, extra) : AVERROR(ENOMEM);
    av_frame_free(&extra);
    if (error >= 0)
        return refuse(message, "holds two pictures");
    if (error != AVERROR_EOF)
        return vcl_lavc_fault(message, blame(error), name, "decoding", error);
    error = download(frame);
    return error < 0 ? vcl_lavc_fault(message, VCL_E_BACKEND, name, "downloading from the GPU", error)
                     : VCL_OK;
}

static enum vcl_status take_picture(const AVFrame *frame, struct vcl_picture *picture,
                                    char message[VCL_VIDEO_MESSAGE])
{
    const struct vcl_pixels *const pixels = vcl_pixels_of(frame->format, picture->depth);
    if (frame->decode_error_flags || frame->flags & AV_FRAME_FLAG_CORRUPT)
        return refuse(message, "is damaged");
    if (!pixels || frame->width != picture->width || frame->height != picture->height) {
        snprintf(message, VCL_VIDEO_MESSAGE,
                 "the stream holds %d x %d samples of another kind than %d x %d of %d bits", frame->width,
                 frame->height, picture->width, picture->height, picture->depth);
        return VCL_E_FORMAT;
    }
    get_luma(frame, pixels, picture);
    return VCL_OK;
}

static enum vcl_status decode_packet(const struct vcl_video_config *config, const AVPacket *packet,
                                     AVFrame *frame, struct vcl_picture *picture,
                                     char message[VCL_VIDEO_MESSAGE])
{
    struct vcl_coder coder;
    enum vcl_status status =
        vcl_coder_open(&coder, config, 0, picture->width, picture->height, picture->depth, message);
    if (status == VCL_OK)
        status = packet_to_frame(&coder, packet, frame, message);
    if (status == VCL_OK)
        status = take_picture(frame, picture, message);
    vcl_coder_close(&coder);
    return status;
}

static enum vcl_status decode(const struct vcl_video_config *config, const void *bytes, size_t n,
                              struct vcl_picture *picture, char message[VCL_VIDEO_MESSAGE])
{
    AVFrame *frame = av_frame_alloc();
    AVPacket *packet = av_packet_alloc();
    enum vcl_status status = check_sides(picture, message);
    if (!frame || !packet)
        status = vcl_lavc_fault(message, VCL_E_MEMORY, "decoding", "its frame", AVERROR(ENOMEM));
    if (status == VCL_OK)
        status = make_packet(config->codec, bytes, n, picture, packet, message);
    if (status == VCL_OK)
        status = decode_packet(config, packet, frame, picture, message);
    av_packet_free(&packet);
    av_frame_free(&frame);
    return status;
}

/* ---- what works ------------------------------------------------------------------------------ */

enum { TRIAL_WIDTH = 192, TRIAL_HEIGHT = 144 }; /* no backend's least picture is larger */
enum { TRIAL_SAMPLES = TRIAL_WIDTH * TRIAL_HEIGHT, TRIAL_QP = 22 };

static enum vcl_status range(const struct vcl_video_config *config, int depth, struct vcl_video_range *range,
                             char message[VCL_VIDEO_MESSAGE])
{
    struct vcl_video_config trial = *config;
    struct vcl_coder coder;
    memset(range, 0, sizeof *range);
    trial.lossless = 0;
    trial.qp = TRIAL_QP;
    const enum vcl_status status =
        vcl_coder_open(&coder, &trial, 1, TRIAL_WIDTH, TRIAL_HEIGHT, depth, message);
    if (status == VCL_OK) {
        range->works = 1;
        range->qp_min = vcl_lavc_qp_min(coder.backend, depth);
        range->qp_max = coder.backend->qp_max;
        range->lossless = coder.backend->lossless;
    }
    vcl_coder_close(&coder);
    return status == VCL_E_LIMIT ? VCL_OK : status;
}

/* What a trial needs: a picture of noise, what came back, and the bytes between. */
struct trial {
    uint16_t noise[TRIAL_SAMPLES], back[TRIAL_SAMPLES];
    uint8_t bytes[4 * TRIAL_SAMPLES];
    size_t written;
    char message[VCL_VIDEO_MESSAGE];
};

static void make_noise(struct trial *trial, int depth)
{
    uint32_t state = 1;
    for (int i = 0; i < TRIAL_SAMPLES; i++) {
        unsigned sum = 0;
        for (int k = 0; k < 4; k++) { /* a sum of four uniform numbers: a bell */
            state = state * 1664525u + 1013904223u;
            sum += state >> 16;
        }
        trial->noise[i] = (uint16_t)(sum >> (18 - depth));
    }
}

/* Whether what came back is what should have: every sample if lossless; else a mean squared error below
 * that of setting to zero all that is smaller than the quantiser's step. */
static int is_close(const struct trial *trial, const struct vcl_video_config *config, int depth)
{
    double error = 0;
    for (int i = 0; i < TRIAL_SAMPLES; i++) {
        const double d = (double)trial->noise[i] - trial->back[i];
        error += d * d;
    }
    const double step = 8 << (depth - 8); /* TRIAL_QP: 2^((22 - 4) / 6) levels of 256 */
    return config->lossless ? error == 0 : error / TRIAL_SAMPLES < step * step;
}

/* Codes the noise with config's encoder and decodes it with the decoder of that name. */
static enum vcl_status try_pair(struct trial *trial, const struct vcl_video_config *config,
                                const char *decoder, int depth)
{
    struct vcl_picture picture = { TRIAL_WIDTH, TRIAL_HEIGHT, depth, trial->noise };
    struct vcl_video_config back = *config;
    make_noise(trial, depth);
    enum vcl_status status =
        encode(config, &picture, trial->bytes, sizeof trial->bytes, &trial->written, trial->message);
    if (status != VCL_OK)
        return status;
    back.name = decoder;
    picture.samples = trial->back;
    status = decode(&back, trial->bytes, trial->written, &picture, trial->message);
    if (status != VCL_OK || is_close(trial, config, depth))
        return status;
    snprintf(trial->message, sizeof trial->message, "%s: decodes to something else than was coded",
             decoder ? decoder : config->name);
    return VCL_E_BACKEND;
}

/* Appends "NAME 8, 10, 12 bits" with the depths that work at this chroma; how many do. */
static int try_chroma(struct trial *trial, struct vcl_video_config *config, const char *decoder, int chroma,
                      char detail[VCL_VIDEO_MESSAGE], int *lossless)
{
    size_t used = strlen(detail);
    int count = 0;
    config->chroma = chroma;
    for (int depth = 8; depth <= 12; depth += 2) {
        config->lossless = 0;
        if (try_pair(trial, config, decoder, depth) != VCL_OK)
            continue;
        used += (size_t)snprintf(detail + used, VCL_VIDEO_MESSAGE - used, "%s%d",
                                 count           ? ", "
                                 : chroma == 400 ? "monochrome "
                                 : used          ? "; 4:2:0 "
                                                 : "4:2:0 ",
                                 depth);
        count++;
        config->lossless = 1;
        *lossless |= try_pair(trial, config, decoder, depth) == VCL_OK;
    }
    if (count)
        snprintf(detail + used, VCL_VIDEO_MESSAGE - used, " bits");
    return count;
}

/* 1 if the backend works; detail says what it can do, or why it cannot.  Decoders are tried on the first
 * encoder's streams, encoders with the first decoder. */
static int try_backend(struct trial *trial, const struct vcl_lavc_backend *backend,
                       char detail[VCL_VIDEO_MESSAGE])
{
    struct vcl_video_config config = { .codec = backend->codec, .effort = 1, .qp = TRIAL_QP, .chroma = 420 };
    const char *const decoder = backend->encodes ? NULL : backend->name;
    config.name = backend->encodes ? backend->name : NULL;
    detail[0] = 0;
    if (try_pair(trial, &config, decoder, 8) != VCL_OK) {
        const size_t name = strlen(backend->name); /* the reader sees it already */
        const int named =
            !strncmp(trial->message, backend->name, name) && !strncmp(trial->message + name, ": ", 2);
        snprintf(detail, VCL_VIDEO_MESSAGE, "%s", trial->message + (named ? name + 2 : 0));
        return 0;
    }
    int lossless = 0;
    try_chroma(trial, &config, decoder, 400, detail, &lossless);
    try_chroma(trial, &config, decoder, 420, detail, &lossless);
    if (lossless)
        strncat(detail, "; lossless", VCL_VIDEO_MESSAGE - strlen(detail) - 1);
    return 1;
}

static void probe(void (*each)(void *user, const struct vcl_backend *), void *user)
{
    char detail[VCL_VIDEO_MESSAGE];
    const struct vcl_lavc_backend *b;
    struct trial *const trial = malloc(sizeof *trial);
    for (size_t i = 0; (b = vcl_lavc_backend_at(i)) != NULL; i++) {
        struct vcl_backend backend = { b->name,    b->codec,
                                       b->encodes, b->device != VCL_DEVICE_NONE,
                                       0,          "not tried: out of memory" };
        if (trial) {
            backend.works = try_backend(trial, b, detail);
            backend.detail = detail;
        }
        each(user, &backend);
    }
    free(trial);
}

/* ---- the table ------------------------------------------------------------------------------- */

VCL_API const struct vcl_video *vcl_video_module(void); /* found by name: VCL_VIDEO_SYMBOL */

const struct vcl_video *vcl_video_module(void)
{
    static const struct vcl_video table = { VCL_VIDEO_ABI, range, encode, decode, probe };
    return &table;
}
