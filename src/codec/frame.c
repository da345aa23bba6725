/* frame.c - the header of a frame, as docs/format.md defines it.
 *
 * In: bytes nobody vouches for.  Out: a struct every field of which is within its bounds.  Nothing is
 * allocated: a header is parsed where it lies. */
#include "frame.h"

#include "base/common.h"
#include "codec/lossless.h"

#include <math.h>

static const uint8_t magic[4] = { 'V', 'C', 'L', 'F' };

static const char *const codec_names[VCL_CODEC_COUNT] = { "alias", "exact",  "h264",
                                                          "h265",  "tensor", "lossless" };

const char *vcl_codec_name(enum vcl_codec codec)
{
    return (unsigned)codec < VCL_CODEC_COUNT ? codec_names[codec] : NULL;
}

enum vcl_codec vcl_codec_parse(const char *name)
{
    unsigned i = 0;
    while (i < VCL_CODEC_COUNT && strcmp(codec_names[i], name) != 0)
        i++;
    return (enum vcl_codec)i;
}

/* An alias has no tiles, so its header is padded to be the whole frame. */
static uint64_t codec_part_bytes(const struct vcl_frame *frame)
{
    if (frame->codec == VCL_CODEC_ALIAS)
        return vcl_round_up(4 + (uint64_t)frame->target_length + 4, 8) - 4;
    if (frame->codec == VCL_CODEC_TENSOR)
        return 16 + 32 + (uint64_t)frame->side_bytes;
    return 16 + (vcl_codec_is_video(frame->codec) ? 16 : 0);
}

uint64_t vcl_frame_header_bytes(const struct vcl_frame *frame)
{
    const uint64_t fixed = VCL_FRAME_FIXED + 8 * (uint64_t)frame->tensor.rank + codec_part_bytes(frame) + 4;
    uint64_t table, all;
    if (vcl_mul(frame->plan.tiles, VCL_TILE_ENTRY, &table) || vcl_add(fixed, table, &all)
        || all > VCL_FRAME_HEADER_MAX)
        return UINT64_MAX;
    return all;
}

uint64_t vcl_bound(const struct vcl_tensor *tensor)
{
    struct vcl_frame frame = { .tensor = *tensor, .codec = VCL_CODEC_EXACT };
    uint64_t bytes;
    if (vcl_tensor_size(tensor, &frame.values, &bytes))
        return 0;
    vcl_plan_flat(frame.values, &frame.plan);
    const uint64_t header = vcl_frame_header_bytes(&frame);
    return header == UINT64_MAX ? 0
                                : vcl_round_up(header + bytes + VCL_LOSSLESS_OVERHEAD * frame.plan.tiles, 8);
}

static uint8_t *write_lossy(const struct vcl_frame *frame, uint8_t *p)
{
    vcl_store32(p, vcl_float_bits(frame->step));
    vcl_store32(p + 4, vcl_float_bits(frame->snr));
    vcl_store32(p + 8, frame->seed);
    return p + 12;
}

static uint8_t *write_video(const struct vcl_frame *frame, uint8_t *p)
{
    p[0] = (uint8_t)frame->depth;
    p[1] = frame->chroma == 420;
    p[2] = p[3] = 0;
    return write_lossy(frame, p + 4);
}

static uint8_t *write_tensor(const struct vcl_frame *frame, uint8_t *p)
{
    memset(p, 0, 8);
    p[0] = (uint8_t)frame->states;
    p[1] = (uint8_t)frame->lanes;
    p[3] = (uint8_t)frame->shape;
    p[4] = (uint8_t)frame->fine;
    p[5] = (uint8_t)(frame->transform.down | frame->transform.along << 4);
    memcpy(p + 8, frame->centroid, VCL_CENTROIDS);
    p = write_lossy(frame, p + 16);
    vcl_store32(p, frame->side_bytes);
    return p + 4;
}

size_t vcl_frame_write(const struct vcl_frame *frame, uint8_t *dst)
{
    uint8_t *p = dst + VCL_FRAME_FIXED;
    memcpy(dst, magic, 4);
    dst[4] = VCL_FORMAT_VERSION;
    dst[5] = (uint8_t)frame->codec;
    dst[6] = (uint8_t)frame->tensor.dtype;
    dst[7] = (uint8_t)frame->tensor.rank;
    vcl_store32(dst + 8, frame->flags);
    vcl_store32(dst + 12, frame->header_bytes);
    vcl_store64(dst + 16, frame->frame_bytes);
    for (unsigned i = 0; i < frame->tensor.rank; i++, p += 8)
        vcl_store64(p, frame->tensor.dims[i]);
    if (frame->codec == VCL_CODEC_ALIAS) {
        vcl_store32(p, (uint32_t)frame->target_length);
        return (size_t)(p + 4 - dst);
    }
    vcl_store64(p, frame->plan.cols);
    vcl_store32(p + 8, frame->plan.tile_rows);
    vcl_store32(p + 12, frame->plan.tile_cols);
    p += 16;
    if (vcl_codec_is_video(frame->codec))
        p = write_video(frame, p);
    else if (frame->codec == VCL_CODEC_TENSOR)
        p = write_tensor(frame, p);
    return (size_t)(p - dst);
}

static enum vcl_status fail(const char **reason, enum vcl_status status, const char *why)
{
    *reason = why;
    return status;
}

static uint32_t known_flags(enum vcl_codec codec)
{
    if (codec == VCL_CODEC_TENSOR)
        return VCL_FLAG_ROTATED | VCL_FLAG_NON_FINITE | VCL_FLAG_ANY_MEAN | VCL_FLAG_COL_STEPS
             | VCL_FLAG_TRANSPOSED | VCL_FLAG_CLASS_MODELS | VCL_FLAG_TABLES | VCL_FLAG_POINTS;
    return vcl_codec_is_video(codec) ? VCL_FLAG_ROTATED | VCL_FLAG_ROW_SCALES | VCL_FLAG_NON_FINITE : 0;
}

/* Bytes 0 to 23, as far as they can be judged alone. */
static enum vcl_status parse_fixed(const uint8_t *src, struct vcl_frame *frame, const char **reason)
{
    if (src[4] != VCL_FORMAT_VERSION)
        return fail(reason, VCL_E_VERSION, "frame of a version this library does not know");
    if (src[5] >= VCL_CODEC_COUNT)
        return fail(reason, VCL_E_VERSION, "frame of a codec this library does not know");
    frame->codec = (enum vcl_codec)src[5];
    frame->tensor.dtype = (enum vcl_dtype)src[6];
    frame->tensor.rank = src[7];
    frame->flags = vcl_load32(src + 8);
    frame->frame_bytes = vcl_load64(src + 16);
    if (src[6] >= VCL_DTYPE_COUNT)
        return fail(reason, VCL_E_FORMAT, "unknown dtype in frame header");
    if (src[7] > VCL_MAX_RANK)
        return fail(reason, VCL_E_FORMAT, "rank above 16 in frame header");
    if (frame->flags & ~known_flags(frame->codec))
        return fail(reason, VCL_E_VERSION, "frame with a flag this library does not know");
    if (frame->header_bytes < VCL_FRAME_FIXED + 8 * frame->tensor.rank + 8)
        return fail(reason, VCL_E_FORMAT, "header length too small");
    if (frame->frame_bytes < frame->header_bytes || frame->frame_bytes % 8 != 0)
        return fail(reason, VCL_E_FORMAT, "frame length is impossible");
    return VCL_OK;
}

/* Names are shown to people and looked up: whole UTF-8, no NUL. */
static enum vcl_status parse_alias(const uint8_t *p, size_t left, struct vcl_frame *frame,
                                   const char **reason)
{
    if (left < 4)
        return fail(reason, VCL_E_FORMAT, "alias without a name");
    const uint32_t length = vcl_load32(p);
    if (length == 0 || length > VCL_MAX_NAME || length > left - 4)
        return fail(reason, VCL_E_FORMAT, "length of an alias's name is impossible");
    if (memchr(p + 4, 0, length))
        return fail(reason, VCL_E_FORMAT, "NUL in an alias's name");
    for (size_t i = 4 + length; i < left; i++)
        if (p[i] != 0)
            return fail(reason, VCL_E_FORMAT, "padding after an alias's name is not zero");
    frame->target = (const char *)p + 4;
    frame->target_length = length;
    return VCL_OK;
}

static enum vcl_status parse_lossy(const uint8_t *p, struct vcl_frame *frame, const char **reason)
{
    frame->step = vcl_float_from_bits(vcl_load32(p));
    frame->snr = vcl_float_from_bits(vcl_load32(p + 4));
    frame->seed = vcl_load32(p + 8);
    if (!vcl_dtype_is_float(frame->tensor.dtype))
        return fail(reason, VCL_E_FORMAT, "dtype cannot be coded lossily");
    if (!isfinite(frame->step) || signbit(frame->step))
        return fail(reason, VCL_E_FORMAT, "step is negative or not finite");
    if (isnan(frame->snr))
        return fail(reason, VCL_E_FORMAT, "SNR is not a number");
    if (frame->seed != 0 && !(frame->flags & VCL_FLAG_ROTATED))
        return fail(reason, VCL_E_FORMAT, "seed of a rotation that is not there");
    return VCL_OK;
}

static enum vcl_status parse_video(const uint8_t *p, struct vcl_frame *frame, const char **reason)
{
    frame->depth = p[0];
    frame->chroma = p[1] ? 420 : 400;
    if (frame->depth != 8 && frame->depth != 10 && frame->depth != 12)
        return fail(reason, VCL_E_FORMAT, "depth is none of 8, 10, 12");
    if (p[1] > 1 || p[2] || p[3])
        return fail(reason, VCL_E_FORMAT, "reserved bytes are not zero");
    return parse_lossy(p + 4, frame, reason);
}

static enum vcl_status parse_tensor(const uint8_t *p, size_t left, struct vcl_frame *frame,
                                    const char **reason)
{
    frame->states = p[0];
    frame->lanes = p[1];
    frame->shape = p[3];
    frame->fine = (int8_t)p[4];
    frame->transform = (struct vcl_transform){ p[5] & 15, p[5] >> 4 };
    memcpy(frame->centroid, p + 8, VCL_CENTROIDS);
    frame->side_bytes = vcl_load32(p + 28);
    frame->side = p + 32;
    if (frame->states > VCL_STATES_MAX || frame->states == 1)
        return fail(reason, VCL_E_FORMAT, "number of trellis states is impossible");
    if (frame->lanes != 8 && frame->lanes != 32)
        return fail(reason, VCL_E_FORMAT, "lanes are neither 8 nor 32");
    if (frame->shape >= VCL_SHAPES || frame->fine < -VCL_FINE_MAX || frame->fine > VCL_FINE_MAX)
        return fail(reason, VCL_E_FORMAT, "probability model is impossible");
    const uint64_t rows = vcl_round_up(frame->plan.tile_rows, (uint64_t)frame->lanes);
    if (rows * frame->plan.tile_cols > VCL_TILE_VALUES_MAX)
        return fail(reason, VCL_E_FORMAT, "tile too large");
    if (!vcl_transform_exists(frame->transform))
        return fail(reason, VCL_E_FORMAT, "length of a transform is impossible");
    if (p[2] || p[6] || p[7])
        return fail(reason, VCL_E_FORMAT, "reserved bytes are not zero");
    if (frame->side_bytes > left - 32)
        return fail(reason, VCL_E_FORMAT, "side data of the columns is cut off");
    return parse_lossy(p + 16, frame, reason);
}

static enum vcl_status parse_matrix(const uint8_t *p, size_t left, struct vcl_frame *frame,
                                    const char **reason)
{
    const size_t need = vcl_codec_is_video(frame->codec) ? 32 : frame->codec == VCL_CODEC_TENSOR ? 48 : 16;
    if (left < need)
        return fail(reason, VCL_E_FORMAT, "header length too small");
    if (!vcl_plan_parse(frame->values, vcl_load64(p), vcl_load32(p + 8), vcl_load32(p + 12), &frame->plan))
        return fail(reason, VCL_E_FORMAT, "matrix or tile size is impossible");
    const unsigned bits = vcl_dtype_bits(frame->tensor.dtype);
    if (frame->values > 0
        && (frame->plan.cols % 8 * bits % 8 != 0 || frame->plan.tile_cols % 8 * bits % 8 != 0))
        return fail(reason, VCL_E_FORMAT, "rows do not fill whole bytes");
    if (frame->codec == VCL_CODEC_TENSOR)
        return parse_tensor(p + 16, left - 16, frame, reason);
    return vcl_codec_is_video(frame->codec) ? parse_video(p + 16, frame, reason) : VCL_OK;
}

struct vcl_tile_entry vcl_frame_read_entry(const struct vcl_frame *frame, const uint8_t *header,
                                           uint64_t tile)
{
    const uint8_t *const src = header + vcl_frame_entry(frame, tile);
    return (struct vcl_tile_entry){ vcl_load32(src), vcl_load32(src + 4), vcl_load32(src + 8) };
}

void vcl_frame_write_entry(const struct vcl_tile_entry *entry, uint8_t *dst)
{
    vcl_store32(dst, entry->size);
    vcl_store32(dst + 4, entry->stored_hash);
    vcl_store32(dst + 8, entry->decoded_hash);
}

uint64_t vcl_frame_locate(const struct vcl_frame *frame, const uint8_t *header, uint64_t *offsets)
{
    uint64_t end = frame->header_bytes;
    for (uint64_t i = 0; i < frame->plan.tiles; i++) {
        if (offsets)
            offsets[i] = end;
        end += vcl_frame_read_entry(frame, header, i).size; /* below 2^32 x 2^32: cannot overflow */
    }
    return end;
}

/* The stored sizes must add up to the frame's length. */
static enum vcl_status check_table(const uint8_t *src, const struct vcl_frame *frame, const char **reason)
{
    if (vcl_round_up(vcl_frame_locate(frame, src, NULL), 8) != frame->frame_bytes)
        return fail(reason, VCL_E_FORMAT, "tile sizes do not add up to the frame's length");
    return VCL_OK;
}

enum vcl_status vcl_frame_parse(const uint8_t *src, uint64_t bytes, struct vcl_frame *frame,
                                const char **reason)
{
    memset(frame, 0, sizeof *frame);
    if (memcmp(src, magic, (size_t)vcl_min(bytes, 4)) != 0)
        return fail(reason, VCL_E_FORMAT, "not a frame: wrong magic bytes");
    if (bytes < VCL_PEEK_BYTES)
        return fail(reason, VCL_E_TRUNCATED, "frame header is cut off");
    frame->header_bytes = vcl_load32(src + 12);
    if (frame->header_bytes < VCL_FRAME_FIXED + 8)
        return fail(reason, VCL_E_FORMAT, "header length too small");
    if (frame->header_bytes > VCL_FRAME_HEADER_MAX)
        return fail(reason, VCL_E_LIMIT, "frame header above 16 MiB");
    if (bytes < frame->header_bytes)
        return fail(reason, VCL_E_TRUNCATED, "frame header is cut off");
    if (!vcl_hash_matches(src, frame->header_bytes - 4, vcl_load32(src + frame->header_bytes - 4)))
        return fail(reason, VCL_E_CHECKSUM, "frame header is damaged: its checksum does not match");

    enum vcl_status status = parse_fixed(src, frame, reason);
    if (status)
        return status;
    for (unsigned i = 0; i < frame->tensor.rank; i++)
        frame->tensor.dims[i] = vcl_load64(src + VCL_FRAME_FIXED + 8 * i);
    if (vcl_tensor_size(&frame->tensor, &frame->values, NULL))
        return fail(reason, VCL_E_FORMAT, "shape is impossible");

    const size_t offset = VCL_FRAME_FIXED + 8 * frame->tensor.rank, left = frame->header_bytes - 4 - offset;
    if (frame->codec == VCL_CODEC_ALIAS)
        status = parse_alias(src + offset, left, frame, reason);
    else
        status = parse_matrix(src + offset, left, frame, reason);
    if (status)
        return status;
    if (vcl_frame_header_bytes(frame) != frame->header_bytes)
        return fail(reason, VCL_E_FORMAT, "header length is not what its fields imply");
    return check_table(src, frame, reason);
}
