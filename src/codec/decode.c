/* decode.c - a frame to a whole tensor, or to some of its rows.
 *
 * In: a checked header and a source.  Out: values, written where they belong as tiles finish.  Tiles
 * that hold none of the rows asked for are not even read. */
#include "decode.h"

#include "base/common.h"
#include "base/dtype.h"
#include "base/transpose.h"
#include "codec/walk.h"

#include <stdio.h>

struct decoder {
    const struct vcl_frame *frame;
    const uint8_t *header;
    const struct vcl_source *source;
    const struct vcl_sink *sink; /* NULL: only check */
    struct vcl_tile_coder coder;
    uint64_t *offsets;                /* of the tiles' stored bytes in the frame */
    struct vcl_tensor_tables *tables; /* tensor codec */
    uint64_t begin, end;              /* values asked for */
};

static uint64_t bytes_of(const struct decoder *d, uint64_t values)
{
    return vcl_dtype_bytes(d->frame->tensor.dtype, values);
}

/* The tensor's values lie in lines: the coded matrix' rows, or its columns where it is the transpose. */
static int is_transposed(const struct decoder *d) { return (d->frame->flags & VCL_FLAG_TRANSPOSED) != 0; }

static uint32_t lines_of(const struct decoder *d, struct vcl_rect rect)
{
    return is_transposed(d) ? rect.cols : rect.rows;
}

/* The part of a tile's line that was asked for: `count` of the tensor's values from `first` on, the first
 * of them at `at` in the line. */
struct line_part {
    uint64_t first, count, at;
};

static struct line_part part_of(const struct decoder *d, struct vcl_rect rect, uint32_t line)
{
    const struct vcl_plan *const plan = &d->frame->plan;
    const uint64_t start = is_transposed(d) ? (rect.col + line) * plan->rows + rect.row
                                            : (rect.row + line) * plan->cols + rect.col;
    const uint64_t stop = start + (is_transposed(d) ? rect.rows : rect.cols);
    const uint64_t from = start > d->begin ? start : d->begin, to = vcl_min(stop, d->end);
    return (struct line_part){ from, to > from ? to - from : 0, from - start };
}

static int wants_tile(const struct decoder *d, struct vcl_rect rect)
{
    for (uint32_t i = 0; i < lines_of(d, rect); i++)
        if (part_of(d, rect, i).count > 0)
            return 1;
    return 0;
}

/* src: the line's values. */
static enum vcl_status write_line(const struct decoder *d, struct line_part part, const uint8_t *src,
                                  struct vcl_tile_work *work)
{
    if (part.count > 0
        && d->sink->write(d->sink->user, bytes_of(d, part.first - d->begin), src + bytes_of(d, part.at),
                          (size_t)bytes_of(d, part.count))) {
        snprintf(work->message, sizeof work->message, "writing the values failed");
        return VCL_E_IO;
    }
    return VCL_OK;
}

static enum vcl_status write_transposed(const struct decoder *d, struct vcl_rect rect,
                                        struct vcl_tile_work *work)
{
    const size_t size = vcl_dtype_bits(d->frame->tensor.dtype) / 8;
    enum vcl_status status = VCL_OK;
    for (uint32_t c = 0; c < rect.cols && !status; c++) {
        const uint32_t line = c % VCL_TRANSPOSED_LINES;
        if (line == 0)
            vcl_transpose(work->raw + c * size, rect.rows, vcl_min(rect.cols - c, VCL_TRANSPOSED_LINES), size,
                          rect.cols, work->lines, rect.rows);
        status = write_line(d, part_of(d, rect, c), work->lines + (size_t)line * rect.rows * size, work);
    }
    return status;
}

static enum vcl_status write_tile(const struct decoder *d, struct vcl_rect rect, struct vcl_tile_work *work)
{
    enum vcl_status status = VCL_OK;
    if (is_transposed(d))
        return write_transposed(d, rect, work);
    for (uint32_t r = 0; r < rect.rows && !status; r++)
        status = write_line(d, part_of(d, rect, r), work->raw + bytes_of(d, (uint64_t)r * rect.cols), work);
    return status;
}

/* Has the tile decoded where its values are wanted, if that is memory and they lie together there. */
static int lend_target(const struct decoder *d, struct vcl_rect rect, struct vcl_tile_work *work)
{
    const uint64_t first = rect.row * d->frame->plan.cols, count = (uint64_t)rect.rows * rect.cols;
    const int lent = d->sink && d->sink->base && !is_transposed(d) && rect.cols == d->frame->plan.cols
                  && first >= d->begin && first + count <= d->end;
    work->raw = lent ? (uint8_t *)d->sink->base + bytes_of(d, first - d->begin) : work->own;
    return lent;
}

static enum vcl_status decode_tile(void *user, uint64_t tile, struct vcl_tile_work *work)
{
    const struct decoder *const d = user;
    const struct vcl_rect rect = vcl_plan_tile(&d->frame->plan, tile);
    if (!wants_tile(d, rect))
        return VCL_OK;
    vcl_tile_look_up(d->frame, d->header, tile, work);
    if (d->source->read(d->source->user, d->offsets[tile], work->stored, work->size)) {
        snprintf(work->message, sizeof work->message, "reading %zu bytes at frame offset %llu failed",
                 work->size, (unsigned long long)d->offsets[tile]);
        return VCL_E_IO;
    }
    const int lent = lend_target(d, rect, work);
    const enum vcl_status status = vcl_tile_decode(d->frame, &d->coder, rect, work);
    return status || lent || !d->sink ? status : write_tile(d, rect, work);
}

/* The largest stored size among the tiles first to last - 1; 0 if that is more than any encoder writes, and
 * no reason to find the memory for it. */
static size_t largest_tile(const struct decoder *d, uint64_t first_tile, uint64_t last_tile)
{
    size_t largest = 1;
    for (uint64_t i = first_tile; i < last_tile; i++) {
        const size_t size = vcl_frame_read_entry(d->frame, d->header, i).size;
        largest = size > largest ? size : largest;
    }
    return first_tile == last_tile || largest <= vcl_tile_room(d->frame) ? largest : 0;
}

/* The final padding is the one part of a frame that no hash covers. */
static enum vcl_status check_padding(const struct vcl_env *env, const struct decoder *d, uint64_t end)
{
    uint8_t padding[8] = { 0 };
    const size_t n = (size_t)(d->frame->frame_bytes - end);
    if (n > 0 && d->source->read(d->source->user, end, padding, n))
        return vcl_env_fail(env, VCL_E_IO, "reading the end of the frame failed");
    if (vcl_load64(padding) != 0)
        return vcl_env_fail(env, VCL_E_FORMAT, "padding at the frame's end is not zero");
    return VCL_OK;
}

/* The tiles first to last - 1 are those of the tile rows that hold values asked for. */
static void find_tiles(const struct decoder *d, uint64_t *first, uint64_t *last)
{
    const struct vcl_plan *const plan = &d->frame->plan;
    *first = *last = 0;
    if (d->begin == d->end)
        return;
    if (is_transposed(d)) { /* every row of tiles may hold some */
        *last = plan->tiles;
        return;
    }
    const uint64_t band =
        plan->tile_rows * plan->cols; /* below 2^53, or the tile table would not fit its header */
    *first = d->begin / band * plan->across;
    *last = vcl_ceil_div(d->end, band) * plan->across;
}

static enum vcl_status decode_rows(const struct vcl_env *env, struct decoder *d)
{
    struct vcl_walk walk;
    uint64_t first, last;
    find_tiles(d, &first, &last);
    const uint64_t end = vcl_frame_locate(d->frame, d->header, d->offsets);
    const size_t room = largest_tile(d, first, last);
    if (room == 0)
        return vcl_env_fail(env, VCL_E_FORMAT, "a tile has more bytes than its values can take");
    enum vcl_status status = check_padding(env, d, end);
    if (status || first == last)
        return status;
    status = vcl_walk_create(env, d->frame, room, &walk);
    if (status)
        return status;
    status = vcl_walk_run(&walk, first, 1, last - first, decode_tile, NULL, d);
    vcl_walk_destroy(&walk);
    return status;
}

static enum vcl_status make_tables(const struct vcl_env *env, struct decoder *d)
{
    if (d->frame->codec != VCL_CODEC_TENSOR || d->frame->values == 0)
        return VCL_OK;
    d->tables = vcl_tensor_tables_create(env->mem, env->kernels, d->frame);
    if (!d->tables)
        return vcl_env_fail(env, VCL_E_MEMORY, "no memory for the model's tables");
    if (!vcl_tensor_tables_read(d->frame, d->tables))
        return vcl_env_fail(env, VCL_E_FORMAT, "side data of the columns is damaged");
    d->coder.tables = d->tables;
    return VCL_OK;
}

enum vcl_status vcl_decode_frame(const struct vcl_env *env, const struct vcl_frame *frame,
                                 const uint8_t *header, const struct vcl_source *source, uint64_t first,
                                 uint64_t count, const char *decoder, const struct vcl_sink *sink)
{
    const uint64_t dim0 = frame->tensor.rank ? frame->tensor.dims[0] : 1;
    const uint64_t stride = dim0 ? frame->values / dim0 : 0;
    struct decoder d = { .frame = frame, .header = header, .source = source, .sink = sink };
    d.coder.kernels = env->kernels;
    d.coder.video = env->video;
    d.coder.config =
        (struct vcl_video_config){ .codec = frame->codec, .name = decoder, .chroma = frame->chroma };
    d.begin = first * stride;
    d.end = (first + count) * stride;
    const unsigned odd_bits = vcl_dtype_bits(frame->tensor.dtype) % 8;
    if (d.begin % 8 * odd_bits % 8 || d.end % 8 * odd_bits % 8)
        return vcl_env_fail(env, VCL_E_ARGUMENT, "these rows do not start and end at whole bytes");
    d.offsets = vcl_alloc(env->mem, (size_t)frame->plan.tiles, sizeof *d.offsets);
    enum vcl_status status =
        d.offsets ? make_tables(env, &d) : vcl_env_fail(env, VCL_E_MEMORY, "no memory for the tile offsets");
    if (!status)
        status = decode_rows(env, &d);
    vcl_tensor_tables_destroy(env->mem, d.tables);
    vcl_free(env->mem, d.offsets);
    return status;
}
