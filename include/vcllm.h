/* vcllm.h - tensors to frames and back.
 *
 * A frame is one coded tensor: self-describing, checksummed, decodable from any tile.  docs/format.md
 * is its definition.  Model files (safetensors, shards) are the business of vcllm_file.h.
 *
 *     struct vcl_context *ctx;
 *     struct vcl_params params;
 *     struct vcl_tensor tensor = { VCL_DTYPE_F32, 2, { 1024, 1024 } };
 *
 *     vcl_context_create(NULL, &ctx);
 *     vcl_params_init(&params);
 *     params.codec = VCL_CODEC_H265;
 *     params.goal = VCL_GOAL_BITS, params.target = 2.9;
 *     size_t bytes = vcl_bound(&tensor);
 *     void *frame = malloc(bytes);
 *     vcl_encode_buffer(ctx, &tensor, values, &params, frame, &bytes, NULL);
 *     vcl_decode_buffer(ctx, frame, bytes, values, 4 * 1024 * 1024);
 *
 * Conventions
 * - Tensors are dense, row-major, little-endian.  Dimensions run from the slowest to the fastest.
 * - "bits" is 8 x frame bytes / values: every byte of the frame counts.  SNR is 10 log10(sum x^2 / sum
 *   (x-y)^2) in dB over the finite values, y as decoded in the tensor's own dtype.
 * - Functions return enum vcl_status; sizes and objects come back through pointers.  Nothing is
 *   printed, nothing exits.
 * - Memory: the caller owns every buffer it passes.  The library allocates through the hooks in
 *   vcl_options and frees all of it in vcl_context_destroy.
 * - Threads: a context serves one thread at a time; different contexts are independent, also those that
 *   share a pool of threads.  There is no global state.
 * - Structs that begin with `size`, which is sizeof the struct as the caller was compiled, may grow at their
 *   end in later versions; no others do.  For one that goes in, its _init writes size and the defaults; one
 *   that comes out the caller makes: struct vcl_info info = { .size = sizeof info };  The library reads and
 *   writes no more than that.  Of one longer than it knows, the rest comes out as 0, and goes in only as 0:
 *   VCL_E_ARGUMENT else, and for a size that no struct can have. */
#ifndef VCLLM_H
#define VCLLM_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define VCL_API __attribute__((visibility("default")))
#else
#define VCL_API
#endif

#define VCL_VERSION_MAJOR 0
#define VCL_VERSION_MINOR 1
#define VCL_VERSION_PATCH 0
#define VCL_FORMAT_VERSION 0 /* of the frames written; frames of a newer version are refused */

/* "0.1.0", of the library that runs (the macros name the header compiled against). */
VCL_API const char *vcl_version(void);

/* ---- status ---------------------------------------------------------------------------------- */

/* Values are pinned: they never change meaning.  Families: -1.. caller, -10.. resources, -20.. data,
 * -30.. backends, -40.. targets. */
enum vcl_status {
    VCL_OK = 0,
    VCL_E_ARGUMENT = -1,   /* an argument is out of its documented range */
    VCL_E_SPACE = -2,      /* the destination is too small */
    VCL_E_MEMORY = -10,    /* an allocation failed */
    VCL_E_IO = -11,        /* a read or write failed */
    VCL_E_CANCELLED = -12, /* the cancel hook said so */
    VCL_E_FORMAT = -20,    /* the bytes break a rule of the format */
    VCL_E_TRUNCATED = -21, /* the bytes end too early */
    VCL_E_CHECKSUM = -22,  /* the bytes were altered */
    VCL_E_VERSION = -23,   /* a newer version, codec or critical flag than this library knows */
    VCL_E_LIMIT = -24,     /* beyond a limit of this library or of the caller */
    VCL_E_CODEC = -30,     /* the codec, module, encoder or decoder is not available here */
    VCL_E_BACKEND = -31,   /* an encoder or decoder failed, or did not decode what it had encoded */
    VCL_E_BUILD = -32,     /* the library was built so that it would write other bytes */
    VCL_E_RATE = -40       /* the target cannot be met */
};

/* A short English phrase for a status; never NULL. */
VCL_API const char *vcl_status_text(enum vcl_status status);

/* ---- tensors --------------------------------------------------------------------------------- */

#define VCL_MAX_RANK 16

/* The dtypes of safetensors, in its order; the numbers are those written in frames. */
enum vcl_dtype {
    VCL_DTYPE_BOOL = 0,
    VCL_DTYPE_F4,
    VCL_DTYPE_F6_E2M3,
    VCL_DTYPE_F6_E3M2,
    VCL_DTYPE_U8,
    VCL_DTYPE_I8,
    VCL_DTYPE_F8_E5M2,
    VCL_DTYPE_F8_E4M3,
    VCL_DTYPE_F8_E8M0,
    VCL_DTYPE_F8_E4M3FNUZ,
    VCL_DTYPE_F8_E5M2FNUZ,
    VCL_DTYPE_I16,
    VCL_DTYPE_U16,
    VCL_DTYPE_F16,
    VCL_DTYPE_BF16,
    VCL_DTYPE_I32,
    VCL_DTYPE_U32,
    VCL_DTYPE_F32,
    VCL_DTYPE_C64,
    VCL_DTYPE_F64,
    VCL_DTYPE_I64,
    VCL_DTYPE_U64,
    VCL_DTYPE_COUNT
};

/* Bits of one value (4 to 64), 0 for a number that is no dtype. */
VCL_API unsigned vcl_dtype_bits(enum vcl_dtype dtype);
/* safetensors' name ("BF16"), NULL for a number that is no dtype. */
VCL_API const char *vcl_dtype_name(enum vcl_dtype dtype);
/* The dtype of that name, VCL_DTYPE_COUNT if there is none. */
VCL_API enum vcl_dtype vcl_dtype_parse(const char *name);
/* Nonzero for the dtypes that can be coded lossily: F16, BF16, F32, F64. */
VCL_API int vcl_dtype_is_float(enum vcl_dtype dtype);

struct vcl_tensor {
    enum vcl_dtype dtype;
    unsigned rank;               /* 0 (one value) to VCL_MAX_RANK */
    uint64_t dims[VCL_MAX_RANK]; /* slowest first; a 0 makes the tensor empty */
};

/* Number of values and bytes; VCL_E_ARGUMENT for a bad dtype or rank, VCL_E_LIMIT where either
 * overflows 63 bits, VCL_E_FORMAT where the values do not fill whole bytes (F4 and F6).  Either pointer
 * may be NULL. */
VCL_API enum vcl_status vcl_tensor_size(const struct vcl_tensor *tensor, uint64_t *values, uint64_t *bytes);

/* Converts n values between F16, BF16, F32 and F64 (to narrower: round to nearest even; NaN stays NaN,
 * its payload cut).  src and dst must not overlap.  VCL_E_ARGUMENT for other dtypes. */
VCL_API enum vcl_status vcl_convert(enum vcl_dtype from, const void *src, enum vcl_dtype to, void *dst,
                                    size_t n);

/* Sums over the pairs (x, y) of n values of a float dtype that are both finite; pairs of equal
 * non-finite values (any NaN with any NaN) are skipped, others counted in `mismatches`.  Adds to *sums:
 * zero it first. */
struct vcl_error_sums {
    uint64_t values;     /* finite pairs */
    uint64_t mismatches; /* pairs that differ in being finite, or in which infinity */
    double signal;       /* sum x^2 */
    double error;        /* sum (x-y)^2 */
    double max_error;    /* max |x-y| */
};
VCL_API enum vcl_status vcl_compare(enum vcl_dtype dtype, const void *x, const void *y, size_t n,
                                    struct vcl_error_sums *sums);
/* SNR in dB: INFINITY where the error is 0, -INFINITY where only the signal is, NAN where its square
 * overflows. */
VCL_API double vcl_snr(const struct vcl_error_sums *sums);

/* ---- contexts -------------------------------------------------------------------------------- */

struct vcl_options {
    size_t size;            /* of this struct; vcl_options_init sets it */
    unsigned threads;       /* for the tiles of one tensor; 0 = one per CPU the process may use.  Default 1 */
    const char *module_dir; /* folder of the video module; NULL = the environment's VCLLM_MODULE_DIR, else
                             * beside the library, else where it was installed */
    void *user;             /* for the hooks */
    /* Both or neither; NULL = malloc and free.  Called from any thread of the pool; release(NULL) is not. */
    void *(*allocate)(void *user, size_t bytes);
    void (*release)(void *user, void *block);
    /* Polled between tiles; nonzero = stop with VCL_E_CANCELLED. */
    int (*cancel)(void *user);
    /* Whose threads do the work, in place of `threads` of the context's own; NULL (default): those. */
    struct vcl_pool *pool;
};
VCL_API void vcl_options_init_sized(struct vcl_options *options, size_t size);
#define vcl_options_init(options) vcl_options_init_sized(options, sizeof *(options))

/* Threads that the caller owns and that any number of contexts share; vcllm_pack.h's calls take it too.  Who
 * has several contexts, or loops of its own beside them, so has threads for all of it once:
 *
 *     options.threads = 8;
 *     vcl_pool_create(&options, &options.pool);
 *     vcl_context_create(&options, &one);
 *     vcl_context_create(&options, &other);
 *
 * Who calls works too: a pool of n threads starts n - 1 of them, and every call goes on if none is free.  So
 * contexts may use one pool at the same time from different threads, and a job or a source that runs on it may
 * itself call on another context that has the pool, or vcl_pool_run: whoever calls does all that nobody else
 * takes of it, and nothing of other calls while it waits for the rest. */
struct vcl_pool;

/* Of options, NULL = defaults, `threads` and the hooks for memory count; these must work until
 * vcl_pool_destroy.  Threads above 1024 or that the system does not give are done without, as a context does:
 * vcl_pool_threads tells how many there are, the one that calls counted.  VCL_E_MEMORY, VCL_E_ARGUMENT. */
VCL_API enum vcl_status vcl_pool_create(const struct vcl_options *options, struct vcl_pool **pool);
/* After the contexts that have it, and not while it runs anything.  NULL is fine. */
VCL_API void vcl_pool_destroy(struct vcl_pool *pool);
VCL_API unsigned vcl_pool_threads(const struct vcl_pool *pool);

/* Calls job(user, i, thread) once for every i below count, in any order and on any threads of the pool, and
 * returns when all are done; what jobs wrote can then be read.  thread is below vcl_pool_threads, and of the
 * jobs of one call no two have the same at the same time: it numbers their places to work in.  The caller's
 * is 0.  A job must not wait for another of its call, which may come after it on the same thread.  Allocates
 * nothing and cannot fail. */
VCL_API void vcl_pool_run(struct vcl_pool *pool, size_t count,
                          void (*job)(void *user, size_t i, unsigned thread), void *user);

struct vcl_context;

/* options NULL = defaults.  VCL_E_MEMORY, VCL_E_ARGUMENT; VCL_E_BUILD where the compiler was not told
 * -ffp-contract=off, without which values differ in their last bit from one CPU to the next.  The
 * environment's VCLLM_CPU (c, avx2 or avx512) keeps the context to the loops of that level of CPU at most:
 * the same results, to the bit, in another time. */
VCL_API enum vcl_status vcl_context_create(const struct vcl_options *options, struct vcl_context **ctx);
VCL_API void vcl_context_destroy(struct vcl_context *ctx); /* NULL is fine */

/* The level of CPU that a context created now keeps to: 0 portable C, 1 AVX2, 2 AVX-512, on a ladder on which
 * each level has all that those below it have, and to which later versions may add.  For a program that has
 * loops of its own beside the library's. */
VCL_API unsigned vcl_cpu(void);

/* What went wrong in this context's last failed call, one line with no newline: the offset in the
 * frame, the codec's own words.  Empty if nothing did.  Valid until the next call on the context. */
VCL_API const char *vcl_context_message(const struct vcl_context *ctx);

/* ---- encoding -------------------------------------------------------------------------------- */

/* The numbers are those written in frames. */
enum vcl_codec {
    VCL_CODEC_ALIAS = 0,    /* the name of another tensor with the same bytes; see vcl_alias_encode */
    VCL_CODEC_EXACT = 1,    /* the tensor's bytes, unchanged */
    VCL_CODEC_H264 = 2,     /* round to nearest at 8 to 12 bits, pictures, H.264 intra */
    VCL_CODEC_H265 = 3,     /* the same through H.265 */
    VCL_CODEC_TENSOR = 4,   /* scale classes, trellis-coded quantisation, rANS */
    VCL_CODEC_LOSSLESS = 5, /* the tensor's bytes in fewer bytes: byte planes, few levels, rANS */
    VCL_CODEC_COUNT
};
/* "h265"; NULL for a number that is no codec.  And back: VCL_CODEC_COUNT for a name that is none. */
VCL_API const char *vcl_codec_name(enum vcl_codec codec);
VCL_API enum vcl_codec vcl_codec_parse(const char *name);

enum vcl_goal {
    VCL_GOAL_BITS, /* target = bits per value, 0.01 to 64: never above.  At most 2 % below for tensors of 65,536
                    * values or more; VCL_REPORT_SATURATED tells of those whose values allow no more.  Smaller
                    * tensors may end further below.  Exact where that takes no more */
    VCL_GOAL_SNR,   /* target = dB, -10 to 200: never below, and close to it; exact where that takes no more
                    * bytes.  NMSE is 10^(-dB/10) */
    VCL_GOAL_ERROR, /* target = largest |x - y| over finite values, above 0: never above.  Tensor codec
                     * alone; with its scalar quantiser and points on the lattice, no transform and no
                     * rotation, whatever else is asked for */
    VCL_GOAL_STEP /* target = half the distance of the quantiser's points, above 0, to 11 bits: the squared error
                   * is about 0.27 of its square a value.  Tensor codec alone; without a search for the step,
                   * for several tensors whose errors count alike.  Exact where that takes no more bytes */
};

enum vcl_objective {
    VCL_OBJECTIVE_MODEL, /* unbiased: the nearest path, points on the lattice; for weights, whose errors must
                          * not all point towards zero */
    VCL_OBJECTIVE_MSE    /* least squared error: points near zero are preferred where bits are dear */
};

/* Stages of the tensor codec that can be switched off, so that their worth can be measured. */
enum {
    VCL_STAGE_MEANS = 1,       /* columns' means are taken off where that pays */
    VCL_STAGE_TRANSFORM = 2,   /* a DCT where that pays */
    VCL_STAGE_ROW_CLASSES = 4, /* a scale class for each row where that pays; else one */
    VCL_STAGE_COL_CLASSES = 8,
    VCL_STAGE_MODEL = 16,    /* the distribution's shape fitted; else Gaussian */
    VCL_STAGE_TRELLIS = 32,  /* else a scalar quantiser, whatever the effort */
    VCL_STAGE_CENTROIDS = 64 /* points moved to their centroids; else on the lattice */
};

struct vcl_params {
    size_t size;          /* of this struct; vcl_params_init sets it */
    enum vcl_codec codec; /* default VCL_CODEC_TENSOR; EXACT and LOSSLESS ignore all that follows */
    enum vcl_goal goal;   /* default VCL_GOAL_BITS */
    double target;        /* default 2.9 */
    int effort;           /* 1 (fast) to 9 (thorough), default 5.  Tensor codec: scalar quantiser, then 4, 8,
                           * 8, 16, 32, 64, 128, 256 trellis states; x265: presets ultrafast to placebo;
                           * x264: 1-5 and 6-9 (docs/experiments.md says why) */
    enum vcl_objective
        objective;  /* tensor codec; default VCL_OBJECTIVE_MSE, since a buffer may hold anything;
                                   * the command line, which codes weights, has MODEL as its default */
    int rotate;     /* 1 = randomised Hadamard on both sides of every tile before coding.  Default 0 */
    uint32_t seed;  /* of the rotation's signs.  Default 1 */
    int row_scales; /* 1 = one 8- to 12-bit range per matrix row instead of one per tensor.  Default 0 */
    int depth;      /* bits of the range: 0 = as few of 8, 10, 12 as the target allows, or 8, 10, 12 */
    int chroma;     /* 400 (luma only, default) or 420 (constant chroma, for hardware without monochrome) */
    /* Tensor codec, to the end of these.  disable: VCL_STAGE_* switched off, default 0.  transpose: 0
     * (default), the matrix' rows are coded side by side and its columns in sequence, right for weights (out,
     * in); 1, its transpose is coded so, right for weights (in, out), whose inputs are then the sequence.
     * vcl_coded_shape tells what the coded matrix is. */
    unsigned disable;
    int transpose;
    /* For encoders that know how much errors matter; both pointers NULL by default, read during the call.
     * columns: how many the caller takes the coded matrix to have; checked.  col_weight: what a squared error
     * in each column costs, above 0 and finite; only ratios count.  The columns' steps become proportional to
     * 1 / sqrt(weight), in quarter octaves, 2^-16 to 2^16 around their geometric mean.  feedback: columns x
     * columns, row-major, of which only feedback[c][c'] with c' < c is read, -2^32 to 2^32: before column c
     * is coded, the sum over c' < c of feedback[c][c'] times the error (value - decoded value) of column c'
     * is added to its values.  With the second moments H of what multiplies the columns factored as H = (I +
     * U) D (I + U)^T, U strictly upper triangular and D diagonal, feedback[c][c'] = U[c'][c] and col_weight =
     * diag(D) make the squared errors of the quantiser sum up to the error of the product (LDLQ: Chee et al.,
     * QuIP, arXiv 2307.13304).  Not across tiles (vcl_info's tile_cols); not with `rotate`. */
    uint64_t columns;
    const float *col_weight, *feedback;
    const char *encoder; /* libavcodec's name, e.g. "hevc_nvenc"; NULL = the first that works */
    const char *decoder; /* likewise; decodes what was encoded, to check it */
    int nearest; /* 1 = where neither the codec nor a lossless frame meets the target, the nearest rate that
                  * works, flagged VCL_REPORT_MISSED, instead of VCL_E_RATE.  Default 0 */
    /* Tensor codec with VCL_GOAL_BITS: least SNR in dB of each row of the tensor against itself, 0 (default,
     * none) to 60; for rows that are looked up one by one with a norm behind them.  Rows far below the others
     * get finer steps, which the others pay; a shortfall of half a dB is let pass, and what is more than 96 dB
     * below the mean cannot be kept: report->row_snr tells.  Rows of zeros come back as about a thousandth of
     * the step of the others.  The transpose is coded, in tiles as tall as a row is long.  Rows must be 64
     * values and longer, and 32 or more.  Not with `rotate`, col_weight or feedback. */
    double row_floor;
};
VCL_API void vcl_params_init_sized(struct vcl_params *params, size_t size);
#define vcl_params_init(params) vcl_params_init_sized(params, sizeof *(params))

/* The matrix that the tensor codec codes: the tensor's last dimension is the row, joined with those before
 * it while it is shorter than 64; a few long rows are cut to make it nearly square; with transpose, the
 * transpose of that. Either pointer may be NULL.  Fails as vcl_tensor_size does. */
VCL_API enum vcl_status vcl_coded_shape(const struct vcl_tensor *tensor, int transpose, uint64_t *rows,
                                        uint64_t *cols);

/* Where values come from and bytes go to.  Both work by position; `read` is called from several threads
 * at once unless there is one thread alone; so is `write` when decoding.  Return 0, or anything else for a
 * failure (VCL_E_IO). */
struct vcl_source {
    void *user;
    int (*read)(void *user, uint64_t offset, void *dst, size_t bytes);
    const void *base; /* NULL, or where offset 0 lies in memory: values may be taken from there unread */
};
struct vcl_sink {
    void *user;
    int (*write)(void *user, uint64_t offset, const void *src, size_t bytes);
    void *
        base; /* NULL, or where offset 0 lies in memory: decoding may put values there unwritten, and may have
                 * put others there where it fails */
};

enum {
    VCL_REPORT_SATURATED = 1, /* more of the target would not raise the SNR: written with less */
    VCL_REPORT_FELL_BACK = 2, /* kept exactly by a lossless frame: it takes no more than the target allows, or
                               * nothing else meets it */
    VCL_REPORT_MISSED = 4,    /* with `nearest`: the target is not met */
    VCL_REPORT_ZERO = 8       /* all that the target has room for: every value decodes to 0, or to the mean */
};
struct vcl_report {
    size_t size; /* of this struct; the caller sets it */
    uint64_t frame_bytes;
    uint64_t values;
    double bits;          /* per value; 0 for an empty tensor */
    double snr;           /* dB; INFINITY for exact frames */
    double max_error;     /* largest |x - y| over finite values */
    double trials;        /* whole-tensor encodes it took; a probe of some tiles counts as their share */
    enum vcl_codec codec; /* as written */
    int depth;            /* of the quantised values, 0 for exact frames */
    unsigned flags;       /* VCL_REPORT_* */
    double row_snr;       /* with row_floor: dB of the worst row that is not all 0; else NAN */
};

/* Most bytes a frame of this tensor can take, whatever the parameters: the raw bytes, the header of an exact
 * frame, and one byte for every 2^20 values.  0 where vcl_tensor_size fails. */
VCL_API uint64_t vcl_bound(const struct vcl_tensor *tensor);

/* Encodes the values at source offsets 0 to bytes-1.  The frame goes to sink offsets 0 to
 * report->frame_bytes-1; parts of it are written more than once, the header last, and rejected trials
 * may have written beyond its end, up to vcl_bound.  Memory: a few tiles of at most 2^20 values per
 * thread and 12 bytes per tile, never the whole tensor. report may be NULL. VCL_E_CODEC: no module or
 * no working encoder.  VCL_E_RATE: neither the codec nor the exact frame meets the target.
 * VCL_E_ARGUMENT also for a dtype that can only be coded exactly.  No frame with an SNR below 0 dB is
 * written. */
VCL_API enum vcl_status vcl_encode(struct vcl_context *ctx, const struct vcl_tensor *tensor,
                                   const struct vcl_source *source, const struct vcl_params *params,
                                   const struct vcl_sink *sink, struct vcl_report *report);

/* The same in memory.  *bytes: in, the room at frame (vcl_bound is always enough); out, the frame's size. */
VCL_API enum vcl_status vcl_encode_buffer(struct vcl_context *ctx, const struct vcl_tensor *tensor,
                                          const void *values, const struct vcl_params *params, void *frame,
                                          size_t *bytes, struct vcl_report *report);

#define VCL_MAX_NAME 65535 /* bytes of a tensor's name */

/* A frame that says "the same as the tensor `target` of this file".  *bytes: in, the room (at most
 * VCL_MAX_NAME + 256 is needed); out, the size. */
VCL_API enum vcl_status vcl_alias_encode(const struct vcl_tensor *tensor, const char *target, void *frame,
                                         size_t *bytes);

/* ---- recipes --------------------------------------------------------------------------------- */

/* All that settles how the values of a matrix of so many columns are coded with the tensor codec: trellis,
 * step, models, the columns' classes, means and transform.  To find it takes most of an encode's time; it is
 * learned once from typical values and used many times: for gradients of one step after the other, for the
 * pages of a cache, for the same layer's activations.  What is coded with a recipe is an ordinary frame, which
 * decodes without it.  A recipe promises neither bits nor SNR: reports tell what it gives, and that it has
 * aged.
 *
 *     struct vcl_recipe *recipe;
 *     vcl_recipe_learn(ctx, &tensor, &first, &params, &recipe, NULL);
 *     vcl_recipe_encode(ctx, recipe, &tensor, &source, &sink, &report);
 *
 * A recipe does not need the context that it came from; its memory comes from that context's hooks, which must
 * work until vcl_recipe_destroy.  Contexts may encode with one recipe at the same time, but not while it is
 * scaled. */
struct vcl_recipe;

/* What vcl_encode would find for these values, params and target, and with report what that would give; values
 * that lie on few points are not kept exactly.  VCL_E_ARGUMENT for codecs other than VCL_CODEC_TENSOR, for
 * feedback and row_floor, which are no part of a recipe, and for a tensor without values or whose coded matrix has more than 2^20
 * columns; VCL_E_RATE where no
 * step meets the target with an SNR above 0 dB, VCL_GOAL_STEP apart; else as vcl_encode. */
VCL_API enum vcl_status vcl_recipe_learn(struct vcl_context *ctx, const struct vcl_tensor *tensor,
                                         const struct vcl_source *source, const struct vcl_params *params,
                                         struct vcl_recipe **recipe, struct vcl_report *report);
VCL_API void vcl_recipe_destroy(struct vcl_recipe *recipe); /* NULL is fine */

/* Encodes as vcl_encode does, in one pass.  The coded matrix of the tensor must have the recipe's columns
 * (vcl_coded_shape), its dtype may be another: VCL_E_ARGUMENT else.  Where the frame would be larger than
 * vcl_bound or its SNR not above 0 dB, a lossless one is written instead, flagged VCL_REPORT_FELL_BACK. */
VCL_API enum vcl_status vcl_recipe_encode(struct vcl_context *ctx, const struct vcl_recipe *recipe,
                                          const struct vcl_tensor *tensor, const struct vcl_source *source,
                                          const struct vcl_sink *sink, struct vcl_report *report);

/* Makes the step `factor` times what it was when the recipe was learned or loaded, above 0: twice the step
 * takes about a bit a value less.  What was learned fits best near 1; further than an eighth of an octave from
 * it models that some classes have of their own are put aside.  VCL_E_ARGUMENT, and nothing changes, where
 * the step would be no normal float or is about 30 octaves away. */
VCL_API enum vcl_status vcl_recipe_scale(struct vcl_recipe *recipe, double factor);

struct vcl_recipe_info {
    size_t size;    /* of this struct; the caller sets it */
    uint64_t cols;  /* of the coded matrix */
    int transposed; /* it is the transpose of the tensor's */
    size_t bytes;   /* that vcl_recipe_save writes now */
    double step;    /* half the distance of the quantiser's points, in units of the values */
    uint64_t hash;  /* XXH3 of those bytes: two recipes with one hash code alike */
};
VCL_API enum vcl_status vcl_recipe_describe(const struct vcl_recipe *recipe, struct vcl_recipe_info *info);

/* To bytes and back (docs/format.md).  *size: in, the room; out, what it takes, also with VCL_E_SPACE.  Any
 * bytes may be loaded: VCL_E_TRUNCATED, _FORMAT, _VERSION, _CHECKSUM, _LIMIT, _MEMORY with a message. */
VCL_API enum vcl_status vcl_recipe_save(const struct vcl_recipe *recipe, void *bytes, size_t *size);
VCL_API enum vcl_status vcl_recipe_load(struct vcl_context *ctx, const void *bytes, size_t size,
                                        struct vcl_recipe **recipe);

/* ---- decoding -------------------------------------------------------------------------------- */

struct vcl_info {
    size_t size; /* of this struct; the caller sets it */
    struct vcl_tensor tensor;
    enum vcl_codec codec;
    uint64_t frame_bytes;
    uint64_t header_bytes; /* of them the header, tile table and padding */
    uint64_t values;
    uint64_t cols; /* the tensor is coded as a matrix of values / cols rows */
    uint64_t tiles;
    uint32_t tile_rows, tile_cols;
    int rotated, row_scales, non_finite; /* 0 or 1 */
    int depth;                           /* 0 for exact frames */
    double snr; /* dB, as measured by the encoder; INFINITY for exact frames, NAN for an alias */
    /* Tensor codec, else 0. */
    int transposed;      /* the coded matrix, which cols and tiles are of, is the transpose of the tensor's */
    int transform_down;  /* length of the DCT down the columns; 0: none */
    int transform_along; /* along the rows */
    int states;          /* of the trellis: 1 (scalar quantiser), 4 to 256 */
    int lanes;
    const char *fault; /* why vcl_peek refused it, a constant string; NULL where it did not */
};

/* Smallest number of bytes with which vcl_peek can tell how long the header is. */
#define VCL_PEEK_BYTES 16

/* Reads and checks a frame's header from its first `bytes` bytes; allocates nothing.  VCL_E_TRUNCATED
 * where more bytes are needed, with info->header_bytes set to how many once VCL_PEEK_BYTES are there (0
 * before).  target, if not NULL and the frame is an alias, points at the target's name inside frame,
 * *target_length bytes without a NUL. */
VCL_API enum vcl_status vcl_peek(const void *frame, size_t bytes, struct vcl_info *info, const char **target,
                                 size_t *target_length);

/* Decodes dims[0] indices first to first+count-1 of the frame at source offsets 0 to bytes-1 (a tensor
 * of rank 0 has one; count UINT64_MAX = all from first).  Only tiles that overlap are read.  Values go
 * to sink offsets from 0; sink NULL = check everything, keep nothing.  Both checksums of every tile
 * touched are checked; on failure what was written is undefined.  decoder: libavcodec's name or NULL.
 * Memory: a few tiles per thread and the header. VCL_E_ARGUMENT for an alias frame: decode its target
 * instead. */
VCL_API enum vcl_status vcl_decode(struct vcl_context *ctx, const struct vcl_source *source, uint64_t bytes,
                                   uint64_t first, uint64_t count, const char *decoder,
                                   const struct vcl_sink *sink);

/* The whole tensor in memory; values must have room for all its bytes (VCL_E_SPACE). */
VCL_API enum vcl_status vcl_decode_buffer(struct vcl_context *ctx, const void *frame, size_t bytes,
                                          void *values, size_t room);

/* ---- products -------------------------------------------------------------------------------- */

/* A coded matrix times vectors, without ever having the matrix decoded in memory.
 *
 * The matrix W is the tensor with its last dimension as columns and all others as rows (rank 1: one row; rank
 * 0: one value), its values those that vcl_decode gives, as floats: F64 rounded to f32, everything else
 * exactly.  Vectors and results are f32, row-major, one vector a row.
 *
 * Every result is a sum of f32 products w x in f32, no multiplication fused with an addition: terms are
 * added in sequence in blocks of 32, a block's sum starting from 0, and blocks in sequence.  So it is a
 * function of W and the vector alone, the same bits whatever the frame's codec and tiles, the number of
 * threads, the CPU and the other vectors of the call (a NaN's payload aside).  Relative to sum |w x| it
 * errs by 2^-24 x (32 + terms / 32) at most. */
struct vcl_matrix;

/* Makes ready the matrix coded in frame, `bytes` bytes, which must stay where and as they are until
 * vcl_matrix_close.  Checks the header and every tile's stored bytes against their checksums, once: no later
 * call does.  Those of decoded values are checked here for exact frames and by each product for others, but
 * not where values are never stored: products of frames of the tensor codec that `fused` below tells of trust
 * the decoder.  Failures as vcl_decode's, with the tile in the message; VCL_E_ARGUMENT for an alias frame and
 * for dtypes other than F16, BF16, F32, F64; VCL_E_LIMIT for an empty tensor of 2^64 rows or more.
 *
 * The matrix does not change afterwards and does not need ctx any more: any context may multiply by it,
 * several at the same time.  Its memory comes from ctx's hooks, which must work until vcl_matrix_close. */
VCL_API enum vcl_status vcl_matrix_open(struct vcl_context *ctx, const void *frame, size_t bytes,
                                        struct vcl_matrix **matrix);
VCL_API void vcl_matrix_close(struct vcl_matrix *matrix); /* NULL is fine */

struct vcl_matrix_info {
    size_t size; /* of this struct; the caller sets it */
    uint64_t rows, cols;
    /* Of memory held besides the frame: 8 KiB for every scale class in use (about ten), 4 to 10 bytes a
     * column, a byte a row, 12 a tile; frames that are not fused, 350 KiB. */
    size_t bytes;
    /* Whether vcl_multiply, or vcl_multiply_transposed, decodes into sums; of other products, some tiles are
     * decoded to memory at a time.  Both 0 for codecs other than tensor, and for what that codec does to few
     * weights: rotation, DCT, side lists, 8 lanes, less than 32 rows. */
    int fused, fused_transposed;
};
VCL_API enum vcl_status vcl_matrix_describe(const struct vcl_matrix *matrix, struct vcl_matrix_info *info);

/* Y = X times the transpose of W: n vectors of cols values, x_stride apart, to n of rows values, y_stride
 * apart.  And Y = X times W: n of rows values to n of cols values.  n is any number; one takes as long as
 * decoding, and many share it.  Strides are in values, at least a vector's length where n is above 1.  X
 * and Y must not overlap.  On failure Y is undefined: VCL_E_FORMAT with the tile where bytes that pass
 * their checksums are no such tile.  Memory, kept by the context for its next call: min(n, 512) vectors;
 * not fused, 4 bytes for every value of a tile per thread and of 32 rows. */
VCL_API enum vcl_status vcl_multiply(struct vcl_context *ctx, const struct vcl_matrix *matrix, const float *x,
                                     size_t n, size_t x_stride, float *y, size_t y_stride);
VCL_API enum vcl_status vcl_multiply_transposed(struct vcl_context *ctx, const struct vcl_matrix *matrix,
                                                const float *x, size_t n, size_t x_stride, float *y,
                                                size_t y_stride);

/* ---- backends -------------------------------------------------------------------------------- */

struct vcl_backend {
    const char *name; /* "libx265", "hevc_cuvid" */
    enum vcl_codec codec;
    int encodes; /* 1 encoder, 0 decoder */
    int hardware;
    int works;          /* it just coded a picture and gave back what it should */
    const char *detail; /* why not; or what it can do ("8, 10, 12 bits, monochrome") */
};

/* Tries every encoder and decoder the project knows by coding a picture, and tells `each` of it
 * (strings are valid during the call).  VCL_E_CODEC with a message if the video module cannot be loaded
 * at all. */
VCL_API enum vcl_status vcl_probe(struct vcl_context *ctx,
                                  void (*each)(void *user, const struct vcl_backend *), void *user);

/* ---- long calls ------------------------------------------------------------------------------ */

/* How far a call is: in one stage after the other, each from done = 0 on. */
struct vcl_progress {
    size_t size;           /* of this struct, as the library has it */
    const char *stage;     /* "compress"; NULL: the one before has ended */
    const char *things;    /* what is counted: "tensors" */
    size_t count, counted; /* how many there are, and have ended */
    const char *unit;      /* of work: "bytes" of the input, "tokens" */
    uint64_t work, done;
};

/* What the calls of vcllm_pack.h, which take long, ask and tell; vcl_options has the first of these for the
 * calls above.  All may be NULL: struct vcl_hooks hooks = { .size = sizeof hooks };  They are called from any
 * thread of the call, one at a time, cancel alone also by several at once.  They must not call back into what
 * is running, and texts last until they return. */
struct vcl_hooks {
    size_t size; /* of this struct */
    void *user;  /* for the hooks */
    /* Polled between tiles and while files are read; nonzero = stop with VCL_E_CANCELLED. */
    int (*cancel)(void *user);
    /* When a stage begins, between tiles, after each item, and when the stage has ended. */
    void (*progress)(void *user, const struct vcl_progress *progress);
    /* What the user should know of a call that goes on: one line, no newline. */
    void (*note)(void *user, const char *text);
    /* Each thing that is wrong, as it is found; the first is the call's error. */
    void (*fault)(void *user, const char *text);
    /* The temporary file that is being written, NULL: none any more; for who ends the process at once. */
    void (*writing)(void *user, const char *path);
};

#ifdef __cplusplus
}
#endif
#endif
