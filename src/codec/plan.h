/* plan.h - step 1: any shape becomes a matrix, the matrix becomes independent tiles. */
#ifndef VCL_PLAN_H
#define VCL_PLAN_H

#include "vcllm.h"

struct vcl_plan {
    uint64_t rows, cols; /* 0 rows for an empty tensor; cols 1 or more */
    uint32_t tile_rows, tile_cols;
    uint64_t across; /* tiles side by side */
    uint64_t tiles;
};

struct vcl_rect {
    uint64_t row, col;
    uint32_t rows, cols;
};

#define VCL_TILE_VALUES ((uint32_t)1 << 20)     /* of the tiles this encoder makes */
#define VCL_TILE_VALUES_MAX ((uint32_t)1 << 22) /* of the tiles the format allows */

/* One row, cut every VCL_TILE_VALUES values: tiles of a tensor kept as it is. */
void vcl_plan_flat(uint64_t values, struct vcl_plan *plan);
/* Tiles that make good pictures, no side above max_side. */
void vcl_plan_pictures(const struct vcl_tensor *tensor, uint64_t values, uint32_t max_side,
                       struct vcl_plan *plan);
/* Tiles of whole stripes of `lanes` rows; for the tensor codec. */
void vcl_plan_stripes(const struct vcl_tensor *tensor, uint64_t values, int transpose, struct vcl_plan *plan,
                      int *lanes);
/* The same with tiles as tall as the matrix where they can be and as narrow as their values allow: a column is
 * decoded from few others. */
void vcl_plan_columns(struct vcl_plan *plan);
/* From what a header says; 0 if it breaks a rule of the format. */
int vcl_plan_parse(uint64_t values, uint64_t cols, uint32_t tile_rows, uint32_t tile_cols,
                   struct vcl_plan *plan);

struct vcl_rect vcl_plan_tile(const struct vcl_plan *plan, uint64_t tile);

/* A unit: VCL_UNIT_ROWS rows of a tile of vcl_plan_stripes, over all its columns.  Samples are made of units;
 * a stripe, which is 8 or 32 rows, is what lanes.h codes side by side. */
enum { VCL_UNIT_ROWS = 32 };
uint64_t vcl_plan_units(const struct vcl_plan *plan);
struct vcl_rect vcl_plan_unit(const struct vcl_plan *plan, uint64_t unit);

#endif
