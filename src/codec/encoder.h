/* encoder.h - what encode.c and the searches of the codecs share while a tensor is encoded. */
#ifndef VCL_ENCODER_H
#define VCL_ENCODER_H

#include "codec/env.h"
#include "codec/rate.h"
#include "codec/walk.h"

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
    double *col_energy; /* tensor codec, to side: by column, over all tiles */
    struct vcl_tensor_tables *tables;
    uint8_t *side;

    int probing;                     /* the next pass is over a few tiles only */
    uint64_t stored, tiles, sampled; /* the last pass: bytes, tiles and values */
    struct vcl_error_sums sums;
    struct vcl_tensor_counts counts;
    double trials;
};

/* Tensors of more tiles are searched on a few of them first. */
enum { VCL_PROBE_TILES = 4, VCL_PROBE_ABOVE = 8 };

/* Codes all tiles, or when probing a few, as frame and coder now say, and tells what that gave. */
enum vcl_status vcl_encoder_pass(struct vcl_encoder *e, struct vcl_trial *trial);

/* Search for settings that meet the target and leave the tiles of the best ones in the sink.  *found: 0 if
 * none meets it; *flags: VCL_REPORT_*. */
enum vcl_status vcl_search_video(struct vcl_encoder *e, int *found, unsigned *flags);
enum vcl_status vcl_search_tensor(struct vcl_encoder *e, int *found, unsigned *flags);

#endif
