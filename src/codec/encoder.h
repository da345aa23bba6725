/* encoder.h - what encode.c, passes.c, analyse.c and the searches of the codecs share while a tensor is
 * encoded. */
#ifndef VCL_ENCODER_H
#define VCL_ENCODER_H

#include "codec/env.h"
#include "codec/floor.h"
#include "codec/rate.h"
#include "codec/walk.h"

/* What a pass is over: all tiles; all tiles, counting indices; or a sample, counting them (where the codec
 * has any). */
enum vcl_pass { VCL_PASS_WHOLE, VCL_PASS_COUNTED, VCL_PASS_SAMPLE };

struct vcl_encoder {
    const struct vcl_env *env;
    const struct vcl_source *source;
    const struct vcl_params *params;
    const struct vcl_sink *sink;
    struct vcl_frame frame;
    struct vcl_tile_coder coder;
    struct vcl_walk walk;
    uint8_t *table;
    uint64_t bound; /* nothing is written beyond */
    struct vcl_tile_stats stats;
    double *col_energy, *col_sum; /* tensor codec, to side: by column, over all measured tiles */
    struct vcl_tensor_tables *tables;
    struct vcl_floor floor; /* with params->row_floor */
    uint8_t *side;

    enum vcl_pass pass;               /* what the last pass was over, and whether it counted */
    uint64_t stored, tiles, sampled;  /* the last pass: bytes, tiles and values */
    uint64_t aside;                   /* values that need a list */
    double gain[VCL_TRANSFORMS];      /* bits the sample would save with each transform */
    double log_step, steps;           /* sum of log2 of the step of the sample's units, and how many */
    double turn_step[VCL_TRANSFORMS]; /* at which each transform is weighed, 0: not */
    struct vcl_turned turned[VCL_TRANSFORMS]; /* what the sample gives with it */
    struct vcl_error_sums sums;
    double row_snr; /* of the worst row, where rows have a floor */
    struct vcl_tensor_counts counts;
    double trials;
    int few_points; /* of a small tensor: its values lie on few */
};

/* A sample is VCL_PROBE_TILES tiles of a tensor of more than VCL_PROBE_ABOVE; for the tensor codec so many
 * units that they hold VCL_SAMPLE_VALUES, four at least, or all.  Of units with twice as many columns and
 * more, VCL_PROBE_COLS are coded; a multiple of every transform's length. */
enum { VCL_PROBE_TILES = 4, VCL_PROBE_ABOVE = 8, VCL_SAMPLE_VALUES = 1 << 16, VCL_PROBE_COLS = 512 };

/* Up to so many values a tensor is always tried exactly too, and it is looked whether they lie on few
 * points. */
enum { VCL_SMALL = 1 << 16 };

/* Do errors count otherwise than by their squares?  Then SNR is no measure of them. */
static inline int vcl_has_weights(const struct vcl_params *params)
{
    return params->feedback || params->col_weight || params->row_floor > 0;
}

/* Codes as frame and coder now say, and tells what that gave. */
enum vcl_status vcl_encoder_pass(struct vcl_encoder *e, enum vcl_pass pass, struct vcl_trial *trial);

/* Bytes of the frame that the last pass made, or if it was over a sample would have. */
uint64_t vcl_encoder_frame_bytes(const struct vcl_encoder *e);

/* Statistics to e->stats, and by column for the tensor codec. */
enum vcl_status vcl_encoder_measure(struct vcl_encoder *e, enum vcl_pass pass);

/* Tensor codec: does a sample hold everything? */
int vcl_encoder_samples_all(const struct vcl_encoder *e);

/* Reads a tile or a part of it to work->raw. */
enum vcl_status vcl_encoder_read(const struct vcl_encoder *e, struct vcl_rect rect,
                                 struct vcl_tile_work *work);

/* Tensor codec: calls work and done for the units of a sample. */
enum vcl_status
vcl_encoder_walk_sample(struct vcl_encoder *e,
                        enum vcl_status (*work)(void *user, uint64_t unit, struct vcl_tile_work *buffers),
                        enum vcl_status (*done)(void *user, uint64_t unit, struct vcl_tile_work *buffers));

/* Tensor codec: the side bytes from the tables, and the header's length that follows. */
enum vcl_status vcl_encoder_side(struct vcl_encoder *e);

/* Tensor codec: decides from a sample on means, transform, columns' classes and steps; fills tables and
 * side bytes. */
enum vcl_status vcl_analyse(struct vcl_encoder *e);

/* Search for settings that meet the target and leave the tiles of the best ones in the sink.  *found: 0 if
 * none meets it; *flags: VCL_REPORT_*. */
enum vcl_status vcl_search_video(struct vcl_encoder *e, int *found, unsigned *flags);
enum vcl_status vcl_search_tensor(struct vcl_encoder *e, int *found, unsigned *flags);

#endif
