/* tile.c - one tile through the steps of its codec, both ways.  THE FILE TO READ FIRST.
 *
 * The steps have the same numbers in docs/design.md, in docs/format.md and in their own files:
 *
 * 1 plan: which rectangle of the coded matrix the tile is (plan.c; settled before anything here)
 * 2 set aside: values to f32, means off, values without an index to a list (here; tensor.c)
 * 3 turn: a DCT (transform.c), or a rotation (rotate.c)
 * 4 scale: classes of rows and columns (scale.c); video: a range for each row (here)
 * 5 quantise: a path through the trellis (trellis.c); video: samples of a picture (picture.c)
 * 6 model: how probable each index is (model.c, tables.c)
 * 7 code: rANS in lanes (lanes.c); video: libavcodec; lossless: byte planes, levels (lossless.c)
 * 8 check: what a decoder will make of it, compared; hashes of stored bytes and decoded values (here)
 *
 * Four paths:  tensor    vcl_tile_encode, encode_lossy, vcl_tensor_encode        1 2 3 4 5 6 7 8
 *              video     vcl_tile_encode, encode_lossy, encode_picture           1 2 3 4 5 7 8
 *              lossless  vcl_tile_encode, encode_lossless                        1 7 8
 *              exact     vcl_tile_encode, encode_exact                           1 8
 * A picture is decoded by a fresh decoder, because an encoder that is believed unseen loses tensors.
 * Decoding runs the steps backwards.  Every step's file has its inverse below its forward. */
#include "tile.h"

#include "base/common.h"
#include "base/dtype.h"
#include "base/loops.h"
#include "codec/picture.h"
#include "codec/rotate.h"

#include <float.h>
#include <math.h>
#include <stdio.h>

static enum vcl_status fail(struct vcl_tile_work *work, enum vcl_status status, const char *why)
{
    snprintf(work->message, sizeof work->message, "%s", why);
    return status;
}

#define TOO_LARGE "values are too large to be coded lossily"

/* ---- buffers --------------------------------------------------------------------------------- */

static size_t value_bytes(const struct vcl_frame *frame) { return vcl_dtype_bits(frame->tensor.dtype) / 8; }

static size_t raw_bytes(const struct vcl_frame *frame, uint64_t n)
{
    return (size_t)vcl_dtype_bytes(frame->tensor.dtype, n);
}

/* The tensor codec writes values in their dtype where nothing comes after it. */
static int is_direct(const struct vcl_frame *frame)
{
    return frame->codec == VCL_CODEC_TENSOR && !(frame->flags & VCL_FLAG_ROTATED)
        && !vcl_tensor_restores(frame);
}

/* Room for a tile's stored bytes while encoding.  Three bytes a sample and a page is beyond any H.26x
 * picture of 12 bits: PCM coding units bound it near two.  The side list costs at most 8 bytes and a value
 * per value. */
static size_t stored_room(const struct vcl_frame *frame, size_t samples, size_t values)
{
    if (vcl_codec_is_exact(frame->codec))
        return raw_bytes(frame, values) + (frame->codec == VCL_CODEC_LOSSLESS ? VCL_LOSSLESS_ROOM : 0);
    const size_t lists = frame->flags & VCL_FLAG_NON_FINITE ? 4 + values * (8 + value_bytes(frame)) : 0;
    if (frame->codec == VCL_CODEC_TENSOR)
        return lists + vcl_tensor_bound(frame->plan.tile_rows, frame->plan.tile_cols);
    return lists + 2 * (size_t)frame->plan.tile_rows + 3 * samples + 4096;
}

/* Samples of the picture of the largest tile.  A smaller one at an edge may be wrapped, and padded to at
 * most its values and eight rows of the widest picture, or one of the smallest. */
static size_t sample_room(uint32_t rows, uint32_t cols)
{
    int width, height;
    vcl_picture_sides(rows, cols, &width, &height);
    return (size_t)width * (size_t)height + 8 * VCL_VIDEO_MAX_SIDE + VCL_VIDEO_MIN_SIDE * VCL_VIDEO_MIN_SIDE;
}

static int create_float_buffers(const struct vcl_mem *mem, const struct vcl_frame *frame, size_t rows,
                                size_t cols, size_t samples, int encoding, struct vcl_tile_work *work)
{
    const int video = vcl_codec_is_video(frame->codec);
    work->x = vcl_alloc_raw(mem, encoding || !is_direct(frame) ? work->values : 0, sizeof *work->x);
    if (video) {
        work->scales = vcl_alloc(mem, rows, sizeof *work->scales);
        work->samples = vcl_alloc_raw(mem, samples, sizeof *work->samples);
    } else if (vcl_tensor_work_create(mem, frame, encoding, &work->tensor)) {
        return 0;
    }
    if (encoding) {
        work->y = vcl_alloc_raw(mem, work->values, sizeof *work->y);
        work->decoded = vcl_alloc_raw(mem, raw_bytes(frame, work->values), 1);
    }
    if (encoding && !video) {
        work->counts = vcl_alloc(mem, 1, sizeof *work->counts);
        work->col_energy = vcl_alloc(mem, cols, sizeof *work->col_energy);
        work->col_sum = vcl_alloc(mem, cols, sizeof *work->col_sum);
    }
    return work->x && (!video || (work->scales && work->samples)) && (!encoding || (work->y && work->decoded))
        && (!encoding || video || (work->counts && work->col_energy && work->col_sum));
}

static int create_lossless(const struct vcl_mem *mem, const struct vcl_frame *frame, int encoding,
                           struct vcl_tile_work *work)
{
    if (frame->codec == VCL_CODEC_LOSSLESS)
        work->lossless = vcl_lossless_create(mem, &frame->tensor, raw_bytes(frame, work->values), encoding);
    return frame->codec != VCL_CODEC_LOSSLESS || work->lossless;
}

size_t vcl_tile_room(const struct vcl_frame *frame)
{
    const uint32_t rows = (uint32_t)vcl_min(frame->plan.tile_rows, frame->plan.rows);
    const uint32_t cols = (uint32_t)vcl_min(frame->plan.tile_cols, frame->plan.cols);
    return stored_room(frame, vcl_codec_is_video(frame->codec) ? sample_room(rows, cols) : 0,
                       (size_t)rows * cols);
}

enum vcl_status vcl_tile_work_create(const struct vcl_mem *mem, const struct vcl_frame *frame, size_t room,
                                     struct vcl_tile_work *work)
{
    const uint32_t rows = (uint32_t)vcl_min(frame->plan.tile_rows, frame->plan.rows);
    const uint32_t cols = (uint32_t)vcl_min(frame->plan.tile_cols, frame->plan.cols);
    const size_t samples = vcl_codec_is_video(frame->codec) ? sample_room(rows, cols) : 0;
    memset(work, 0, sizeof *work);
    work->values = (size_t)rows * cols;
    work->room = room ? room : vcl_tile_room(frame);
    work->raw = work->own = vcl_alloc_raw(mem, raw_bytes(frame, work->values), 1);
    work->stored = vcl_alloc_raw(mem, work->room, 1);
    if (frame->flags & VCL_FLAG_TRANSPOSED)
        work->lines = vcl_alloc_raw(mem, (size_t)rows * VCL_TRANSPOSED_LINES, value_bytes(frame));
    const int others = vcl_codec_is_exact(frame->codec)
                         ? create_lossless(mem, frame, room == 0, work)
                         : create_float_buffers(mem, frame, rows, cols, samples, room == 0, work);
    if (work->own && work->stored && others && (work->lines || !(frame->flags & VCL_FLAG_TRANSPOSED)))
        return VCL_OK;
    vcl_tile_work_destroy(mem, work);
    return VCL_E_MEMORY;
}

void vcl_tile_work_destroy(const struct vcl_mem *mem, struct vcl_tile_work *work)
{
    vcl_free(mem, work->lines);
    vcl_free(mem, work->own);
    vcl_free(mem, work->decoded);
    vcl_free(mem, work->stored);
    vcl_free(mem, work->x);
    vcl_free(mem, work->y);
    vcl_free(mem, work->scales);
    vcl_free(mem, work->samples);
    vcl_free(mem, work->counts);
    vcl_free(mem, work->col_energy);
    vcl_free(mem, work->col_sum);
    vcl_tensor_work_destroy(mem, &work->tensor);
    vcl_lossless_destroy(mem, work->lossless);
    memset(work, 0, sizeof *work);
}

/* ---- step 2: values set aside ---------------------------------------------------------------- */

/* What has an index in every column, and where steps differ what has one in its own. */
struct limit {
    float all;
    const float *steps; /* of a tile's columns, or NULL */
    size_t cols;
};

/* Non-finite values, and for the tensor codec those beyond its largest index. */
static int is_set_aside(const struct limit *limit, const float *x, size_t i)
{
    if (fabsf(x[i]) <= limit->all)
        return 0;
    return !limit->steps || !(fabsf(x[i]) <= fminf(VCL_INDEX_MAX * limit->steps[i % limit->cols], FLT_MAX));
}

static struct limit limit_of(const struct vcl_frame *frame, const struct vcl_tile_coder *coder,
                             struct vcl_rect rect)
{
    struct limit limit = { .all = FLT_MAX, .cols = rect.cols };
    if (frame->codec != VCL_CODEC_TENSOR)
        return limit;
    limit.all = fminf(VCL_INDEX_MAX * coder->tables->least_step, FLT_MAX);
    if (frame->flags & VCL_FLAG_COL_STEPS)
        limit.steps = coder->tables->col_step + rect.col;
    return limit;
}

/* Where the next value set aside is, from i on: blocks without one are passed over in vectors. */
static size_t find_aside(const float *x, size_t i, size_t n, const struct limit *limit)
{
    enum { BLOCK = 64 };
    while (i < n) {
        const size_t end = n - i < BLOCK ? n : i + BLOCK;
        int any = 0;
        for (size_t k = i; k < end; k++)
            any |= !(fabsf(x[k]) <= limit->all);
        for (; any && i < end; i++)
            if (is_set_aside(limit, x, i))
                return i;
        i = end;
    }
    return n;
}

/* Writes the list of runs of equal values set aside and sets them to 0 in x, so that they spoil neither the
 * range nor the rotation.  Returns the list's bytes; dst NULL only counts the values, in *count. */
static size_t take_aside(const struct vcl_frame *frame, const struct limit *limit, const uint8_t *raw,
                         float *x, size_t n, uint8_t *dst, uint64_t *count)
{
    const size_t size = value_bytes(frame);
    uint32_t runs = 0;
    size_t at = 4;
    *count = 0;
    for (size_t i = find_aside(x, 0, n, limit); i < n; i = find_aside(x, i, n, limit)) {
        size_t end = i;
        while (end < n && is_set_aside(limit, x, end) && memcmp(raw + end * size, raw + i * size, size) == 0)
            x[end++] = 0;
        if (dst) {
            vcl_store32(dst + at, (uint32_t)i);
            vcl_store32(dst + at + 4, (uint32_t)(end - i));
            memcpy(dst + at + 8, raw + i * size, size);
        }
        at += 8 + size;
        runs++;
        *count += end - i;
        i = end;
    }
    if (dst)
        vcl_store32(dst, runs);
    return at;
}

/* Puts the listed values back and gives the list's bytes in *used. */
static enum vcl_status put_aside(const struct vcl_frame *frame, const uint8_t *src, size_t bytes,
                                 uint8_t *raw, size_t n, size_t *used, struct vcl_tile_work *work)
{
    const size_t size = value_bytes(frame), entry = 8 + size;
    uint64_t next = 0;
    if (bytes < 4 || vcl_load32(src) > (bytes - 4) / entry)
        return fail(work, VCL_E_FORMAT, "list of values set aside is cut off");
    const uint32_t runs = vcl_load32(src);
    for (uint32_t i = 0; i < runs; i++) {
        const uint8_t *const run = src + 4 + i * entry;
        const uint64_t first = vcl_load32(run), length = vcl_load32(run + 4);
        if (first < next || length == 0 || first + length > n)
            return fail(work, VCL_E_FORMAT, "list of values set aside is out of order or out of the tile");
        next = first + length;
        for (uint64_t j = first; raw && j < next; j++)
            memcpy(raw + j * size, run + 8, size);
    }
    *used = 4 + runs * entry;
    return VCL_OK;
}

/* ---- encoding -------------------------------------------------------------------------------- */

enum { SIDE_BY_SIDE = 16 }; /* so that vectors may be of any width */

float vcl_absmax(const float *x, size_t n)
{
    float max[SIDE_BY_SIDE] = { 0 };
    size_t i = 0;
    for (; i + SIDE_BY_SIDE <= n; i += SIDE_BY_SIDE)
        for (size_t k = 0; k < SIDE_BY_SIDE; k++)
            max[k] = fabsf(x[i + k]) > max[k] ? fabsf(x[i + k]) : max[k];
    for (; i < n; i++)
        max[0] = fabsf(x[i]) > max[0] ? fabsf(x[i]) : max[0];
    for (size_t k = 1; k < SIDE_BY_SIDE; k++)
        max[0] = max[k] > max[0] ? max[k] : max[0];
    return max[0];
}

/* Steps 2 and 3, and of step 4 the columns: work->raw to work->x, turned, with means off and values set
 * aside, whose list goes to dst.  *largest, unless NULL: of what is left, before it is turned. */
static size_t load_values(const struct vcl_frame *frame, const struct vcl_tile_coder *coder,
                          const struct limit *limit, struct vcl_rect rect, struct vcl_tile_work *work,
                          uint8_t *dst, uint64_t *aside, float *largest)
{
    const size_t n = (size_t)rect.rows * rect.cols;
    const int tensor = frame->codec == VCL_CODEC_TENSOR, rotated = (frame->flags & VCL_FLAG_ROTATED) != 0;
    coder->kernels->to_f32(frame->tensor.dtype, work->raw, work->x, n);
    if (tensor && !rotated) /* first, so that what is set aside is far from the mean */
        vcl_tensor_center(frame, coder->tables, rect, work->x);
    const size_t list = take_aside(frame, limit, work->raw, work->x, n, dst, aside);
    if (largest)
        *largest = vcl_absmax(work->x, n);
    if (rotated)
        vcl_rotate(work->x, rect.rows, rect.cols, frame->seed);
    if (tensor && rotated)
        vcl_tensor_center(frame, coder->tables, rect, work->x);
    if (tensor)
        vcl_tensor_prepare(frame, coder->tables, rect, work->x);
    return list;
}

/* The columns' energy relative to their rows', from which the columns' classes follow; the columns' sums. */
static void measure_cols(const struct vcl_tile_coder *coder, struct vcl_rect rect, struct vcl_tile_work *work,
                         struct vcl_tile_stats *stats)
{
    memset(work->col_energy, 0, rect.cols * sizeof *work->col_energy);
    memset(work->col_sum, 0, rect.cols * sizeof *work->col_sum);
    for (uint32_t r = 0; r < rect.rows; r++) {
        const float *const row = work->x + (size_t)r * rect.cols;
        const double e = coder->kernels->energy(row, NULL, rect.cols);
        if (e == 0)
            continue;
        const double weight = rect.cols / e;
        stats->log_deviation += 0.5 * log2(e / rect.cols) * rect.cols;
        stats->lively += rect.cols;
        for (uint32_t c = 0; c < rect.cols; c++) {
            work->col_energy[c] += (double)row[c] * row[c] * weight;
            work->col_sum[c] += row[c];
        }
    }
}

enum vcl_status vcl_tile_measure(const struct vcl_frame *frame, const struct vcl_tile_coder *coder,
                                 struct vcl_rect rect, struct vcl_tile_work *work,
                                 struct vcl_tile_stats *stats)
{
    const struct limit finite = { .all = FLT_MAX };
    memset(stats, 0, sizeof *stats);
    load_values(frame, coder, &finite, rect, work, NULL, &stats->non_finite, &stats->largest);
    if (!vcl_is_finite(work->x, (size_t)rect.rows * rect.cols)) /* rotated values near FLT_MAX overflow */
        return fail(work, VCL_E_RATE, TOO_LARGE);
    for (uint32_t r = 0; r < rect.rows; r++) {
        const float *const row = work->x + (size_t)r * rect.cols, absmax = vcl_absmax(row, rect.cols);
        const double e = coder->kernels->energy(row, NULL, rect.cols),
                     range = frame->flags & VCL_FLAG_ROW_SCALES ? absmax : 1;
        stats->energy += e;
        stats->scaled_energy += range > 0 ? e / (range * range) : 0;
        stats->absmax = absmax > stats->absmax ? absmax : stats->absmax;
    }
    if (frame->codec == VCL_CODEC_TENSOR)
        measure_cols(coder, rect, work, stats);
    return VCL_OK;
}

/* Step 4 of a video codec. */
static enum vcl_status put_row_scales(float step, struct vcl_rect rect, struct vcl_tile_work *work)
{
    for (uint32_t r = 0; r < rect.rows; r++) {
        const uint16_t scale = vcl_row_scale(vcl_absmax(work->x + (size_t)r * rect.cols, rect.cols));
        vcl_store16(work->stored + work->size, scale);
        work->size += 2;
        work->scales[r] = vcl_row_scale_value(scale);
        if (!isfinite(work->scales[r] * step))
            return fail(work, VCL_E_RATE, TOO_LARGE);
    }
    return VCL_OK;
}

/* Beyond the dtype's range a value stays at the largest finite one: an infinity would be a value nobody
 * wrote.  Returns 0 if there is a NaN, which only a rotation of values near FLT_MAX makes. */
static int saturate(enum vcl_dtype dtype, float *y, size_t n)
{
    const float limit = dtype == VCL_DTYPE_F16  ? 65504.0f
                      : dtype == VCL_DTYPE_BF16 ? vcl_float_from_bits(0x7f7f0000)
                                                : FLT_MAX;
    int numbers = 1;
    for (size_t i = 0; i < n; i++) {
        numbers &= y[i] == y[i];
        y[i] = y[i] > limit ? limit : y[i] < -limit ? -limit : y[i];
    }
    return numbers;
}

/* Steps 3 and 2 back: y to values in the dtype, as decoding ends. */
static enum vcl_status finish_values(const struct vcl_frame *frame, struct vcl_rect rect, float *y,
                                     uint8_t *raw, struct vcl_tile_work *work)
{
    const size_t n = (size_t)rect.rows * rect.cols;
    size_t used;
    if (frame->flags & VCL_FLAG_ROTATED)
        vcl_rotate_back(y, rect.rows, rect.cols, frame->seed);
    if (!is_direct(frame)) {
        if (!saturate(frame->tensor.dtype, y, n))
            return fail(work, VCL_E_FORMAT, "values overflow in the rotation");
        vcl_from_f32(frame->tensor.dtype, y, raw, n);
    }
    if (!(frame->flags & VCL_FLAG_NON_FINITE))
        return VCL_OK;
    return put_aside(frame, work->stored, work->size, raw, n, &used, work);
}

/* A decoder that makes nonsense of a picture errs by the signal's own energy and more, twice over for
 * an unrelated one; the coarsest quantiser stays below it. */
static int is_sane(const struct vcl_error_sums *sums)
{
    return sums->error <= 1.5 * sums->signal || sums->error == 0;
}

/* Steps 5 and 7 of a video codec, and back. */
static enum vcl_status encode_picture(const struct vcl_frame *frame, const struct vcl_tile_coder *coder,
                                      struct vcl_rect rect, struct vcl_tile_work *work)
{
    struct vcl_picture picture = { 0, 0, frame->depth, work->samples };
    const float *const scales = frame->flags & VCL_FLAG_ROW_SCALES ? work->scales : NULL;
    struct vcl_video_config decoder = coder->config;
    size_t written = 0;

    if (!vcl_picture_sides(rect.rows, rect.cols, &picture.width, &picture.height))
        return fail(work, VCL_E_LIMIT, "tile too large for a picture");
    vcl_picture_fill(&picture, work->x, rect.rows, rect.cols, frame->step, scales);
    enum vcl_status status = coder->video->encode(&coder->config, &picture, work->stored + work->size,
                                                  work->room - work->size, &written, work->message);
    if (status)
        return status == VCL_E_SPACE ? VCL_E_BACKEND : status;

    decoder.name = coder->decoder;
    status = coder->video->decode(&decoder, work->stored + work->size, written, &picture, work->message);
    if (status)
        return status == VCL_E_CODEC || status == VCL_E_MEMORY ? status : VCL_E_BACKEND;
    work->size += written;
    vcl_picture_values(&picture, work->y, rect.rows, rect.cols, frame->step, scales);
    return VCL_OK;
}

/* Steps 4 to 7: work->x to work->stored behind the list, and to what a decoder will make of it in work->y. */
static enum vcl_status encode_values(const struct vcl_frame *frame, const struct vcl_tile_coder *coder,
                                     struct vcl_rect rect, struct vcl_tile_work *work)
{
    enum vcl_status status = VCL_OK;
    if (frame->codec == VCL_CODEC_TENSOR) {
        struct vcl_tensor_counts *const counts = coder->counting ? work->counts : NULL;
        if (counts)
            memset(counts, 0, sizeof *counts);
        work->size +=
            vcl_tensor_encode(frame, coder->tables, rect, work->x, &work->tensor, work->stored + work->size,
                              is_direct(frame) ? frame->tensor.dtype : VCL_DTYPE_F32,
                              is_direct(frame) ? (void *)work->decoded : work->y, counts);
        vcl_tensor_restore(frame, coder->tables, rect, work->y);
        return VCL_OK;
    }
    if (frame->flags & VCL_FLAG_ROW_SCALES)
        status = put_row_scales(frame->step, rect, work);
    return status ? status : encode_picture(frame, coder, rect, work);
}

/* Steps 2 to 7, then step 8. */
static enum vcl_status encode_lossy(const struct vcl_frame *frame, const struct vcl_tile_coder *coder,
                                    struct vcl_rect rect, struct vcl_tile_work *work)
{
    const size_t n = (size_t)rect.rows * rect.cols;
    const int listed = (frame->flags & VCL_FLAG_NON_FINITE) != 0;
    const struct limit limit = limit_of(frame, coder, rect);
    uint64_t aside;
    const size_t list =
        load_values(frame, coder, &limit, rect, work, listed ? work->stored : NULL, &aside, NULL);
    work->size = listed ? list : 0;
    work->stats.non_finite = aside;
    memset(&work->sums, 0, sizeof work->sums);
    if (aside > 0 && !listed) /* this pass cannot be kept: they need a list */
        return VCL_OK;
    const enum vcl_status status = encode_values(frame, coder, rect, work);
    if (status)
        return status;
    if (finish_values(frame, rect, work->y, work->decoded, work))
        return fail(work, VCL_E_RATE, TOO_LARGE);
    coder->kernels->compare(frame->tensor.dtype, work->raw, work->decoded, n, &work->sums);
    if (work->sums.mismatches || !isfinite(work->sums.signal))
        return fail(work, VCL_E_RATE, TOO_LARGE);
    if (vcl_codec_is_video(frame->codec) && !is_sane(&work->sums))
        return fail(work, VCL_E_BACKEND, "the decoder's picture is not what was encoded");
    work->stored_hash = vcl_hash32(work->stored, work->size);
    work->decoded_hash = vcl_hash32(work->decoded, n * value_bytes(frame));
    return VCL_OK;
}

static enum vcl_status encode_exact(const struct vcl_frame *frame, struct vcl_rect rect,
                                    struct vcl_tile_work *work)
{
    work->size = raw_bytes(frame, (uint64_t)rect.rows * rect.cols);
    memcpy(work->stored, work->raw, work->size);
    memset(&work->sums, 0, sizeof work->sums);
    work->stored_hash = work->decoded_hash = vcl_hash32(work->raw, work->size);
    return VCL_OK;
}

static enum vcl_status encode_lossless(const struct vcl_frame *frame, const struct vcl_tile_coder *coder,
                                       struct vcl_rect rect, struct vcl_tile_work *work)
{
    const size_t bytes = raw_bytes(frame, (uint64_t)rect.rows * rect.cols);
    const uint64_t begin = rect.row * frame->plan.cols + rect.col; /* tiles are runs of values */
    work->size = vcl_lossless_encode(work->lossless, coder->kernels, begin, work->raw, bytes, work->stored);
    memset(&work->sums, 0, sizeof work->sums);
    work->stored_hash = vcl_hash32(work->stored, work->size);
    work->decoded_hash = vcl_hash32(work->raw, bytes);
    return VCL_OK;
}

enum vcl_status vcl_tile_encode(const struct vcl_frame *frame, const struct vcl_tile_coder *coder,
                                struct vcl_rect rect, struct vcl_tile_work *work)
{
    if (frame->codec == VCL_CODEC_EXACT)
        return encode_exact(frame, rect, work);
    if (frame->codec == VCL_CODEC_LOSSLESS)
        return encode_lossless(frame, coder, rect, work);
    return encode_lossy(frame, coder, rect, work);
}

/* ---- decoding -------------------------------------------------------------------------------- */

static enum vcl_status get_row_scales(const uint8_t *src, size_t bytes, float step, struct vcl_rect rect,
                                      struct vcl_tile_work *work)
{
    if (bytes < 2 * (size_t)rect.rows)
        return fail(work, VCL_E_FORMAT, "row scales are cut off");
    for (uint32_t r = 0; r < rect.rows; r++) {
        work->scales[r] = vcl_row_scale_value(vcl_load16(src + 2 * r));
        if (!isfinite(work->scales[r] * step) || signbit(work->scales[r]))
            return fail(work, VCL_E_FORMAT, "row scale is negative or too large");
    }
    return VCL_OK;
}

static enum vcl_status decode_picture(const struct vcl_frame *frame, const struct vcl_tile_coder *coder,
                                      struct vcl_rect rect, size_t at, struct vcl_tile_work *work)
{
    struct vcl_picture picture = { 0, 0, frame->depth, work->samples };
    const float *scales = NULL;
    enum vcl_status status = VCL_OK;
    if (frame->flags & VCL_FLAG_ROW_SCALES) {
        status = get_row_scales(work->stored + at, work->size - at, frame->step, rect, work);
        at += 2 * (size_t)rect.rows;
        scales = work->scales;
    }
    if (status)
        return status;
    if (!vcl_picture_sides(rect.rows, rect.cols, &picture.width, &picture.height))
        return fail(work, VCL_E_FORMAT, "tile too large for a picture");
    status =
        coder->video->decode(&coder->config, work->stored + at, work->size - at, &picture, work->message);
    if (!status)
        vcl_picture_values(&picture, work->x, rect.rows, rect.cols, frame->step, scales);
    return status;
}

static enum vcl_status decode_lossy(const struct vcl_frame *frame, const struct vcl_tile_coder *coder,
                                    struct vcl_rect rect, struct vcl_tile_work *work)
{
    size_t at = 0;
    enum vcl_status status = VCL_OK;
    if (frame->flags & VCL_FLAG_NON_FINITE)
        status = put_aside(frame, work->stored, work->size, NULL, (size_t)rect.rows * rect.cols, &at, work);
    if (status)
        return status;
    if (frame->codec != VCL_CODEC_TENSOR)
        status = decode_picture(frame, coder, rect, at, work);
    else if (!vcl_tensor_decode(frame, coder->tables, rect, work->stored + at, work->size - at, &work->tensor,
                                is_direct(frame) ? frame->tensor.dtype : VCL_DTYPE_F32,
                                is_direct(frame) ? (void *)work->raw : work->x))
        status = fail(work, VCL_E_FORMAT, "stored bytes are no stream of the tensor codec");
    else
        vcl_tensor_restore(frame, coder->tables, rect, work->x);
    return status ? status : finish_values(frame, rect, work->x, work->raw, work);
}

static enum vcl_status decode_exact(const struct vcl_frame *frame, struct vcl_rect rect,
                                    struct vcl_tile_work *work)
{
    if (work->size != raw_bytes(frame, (uint64_t)rect.rows * rect.cols))
        return fail(work, VCL_E_FORMAT, "exact tile of another size than its values take");
    memcpy(work->raw, work->stored, work->size);
    return VCL_OK;
}

static enum vcl_status decode_lossless(const struct vcl_frame *frame, const struct vcl_tile_coder *coder,
                                       struct vcl_rect rect, struct vcl_tile_work *work)
{
    const size_t bytes = raw_bytes(frame, (uint64_t)rect.rows * rect.cols);
    const char *const fault =
        vcl_lossless_decode(work->lossless, coder->kernels, work->stored, work->size, work->raw, bytes);
    return fault ? fail(work, VCL_E_FORMAT, fault) : VCL_OK;
}

static enum vcl_status decode_values(const struct vcl_frame *frame, const struct vcl_tile_coder *coder,
                                     struct vcl_rect rect, struct vcl_tile_work *work)
{
    if (frame->codec == VCL_CODEC_EXACT)
        return decode_exact(frame, rect, work);
    if (frame->codec == VCL_CODEC_LOSSLESS)
        return decode_lossless(frame, coder, rect, work);
    return decode_lossy(frame, coder, rect, work);
}

void vcl_tile_look_up(const struct vcl_frame *frame, const uint8_t *header, uint64_t tile,
                      struct vcl_tile_work *work)
{
    const struct vcl_tile_entry entry = vcl_frame_read_entry(frame, header, tile);
    work->size = entry.size;
    work->stored_hash = entry.stored_hash;
    work->decoded_hash = entry.decoded_hash;
}

enum vcl_status vcl_tile_decode(const struct vcl_frame *frame, const struct vcl_tile_coder *coder,
                                struct vcl_rect rect, struct vcl_tile_work *work)
{
    const size_t bytes = raw_bytes(frame, (uint64_t)rect.rows * rect.cols);
    if (!vcl_hash_matches(work->stored, work->size, work->stored_hash))
        return fail(work, VCL_E_CHECKSUM, "stored bytes are damaged: their checksum does not match");
    const enum vcl_status status = decode_values(frame, coder, rect, work);
    if (status)
        return status;
    if (!vcl_hash_matches(work->raw, bytes, work->decoded_hash))
        return fail(work, VCL_E_CHECKSUM,
                    "decoded values are not the encoder's: their checksum does not match");
    return VCL_OK;
}
