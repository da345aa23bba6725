/* plan.c - step 1: any shape becomes a matrix, the matrix becomes independent tiles.
 *
 * In: dims.  Out: rows x cols and a grid of tiles.  The last dimension is the row, as in memory; where
 * it is too short to be a row (3 x 3 kernels, heads of 8) it is joined with the dimensions before it.
 * Tiles are as equal as can be, so that none is a sliver: a sliver wastes parameter sets and padding. */
#include "plan.h"

#include "base/common.h"

enum { MIN_COLS = 64 }; /* the smallest side of a picture */

static void set_grid(struct vcl_plan *plan)
{
    plan->across = vcl_ceil_div(plan->cols, plan->tile_cols);
    plan->tiles = vcl_ceil_div(plan->rows, plan->tile_rows) * plan->across;
}

void vcl_plan_flat(uint64_t values, struct vcl_plan *plan)
{
    plan->rows = values > 0;
    plan->cols = values > 0 ? values : 1;
    plan->tile_rows = 1;
    plan->tile_cols = VCL_TILE_VALUES;
    set_grid(plan);
}

static uint64_t join_short_dims(const struct vcl_tensor *tensor)
{
    uint64_t cols = 1;
    for (unsigned i = tensor->rank; i > 0 && cols < MIN_COLS; i--)
        cols *= tensor->dims[i - 1];
    return cols;
}

/* A side of n cut into the fewest equal parts of at most `limit`, rounded up to 8. */
static uint32_t equal_part(uint64_t n, uint64_t limit)
{
    return (uint32_t)vcl_round_up(vcl_ceil_div(n, vcl_ceil_div(n, limit)), 8);
}

void vcl_plan_pictures(const struct vcl_tensor *tensor, uint64_t values, uint32_t max_side,
                       struct vcl_plan *plan)
{
    if (values == 0) {
        vcl_plan_flat(0, plan);
        return;
    }
    plan->cols = join_short_dims(tensor);
    plan->rows = values / plan->cols;
    if (plan->rows < MIN_COLS
        && plan->cols > max_side) { /* a few long rows: better one, wrapped into pictures */
        plan->cols = values;
        plan->rows = 1;
        plan->tile_rows = 1;
        plan->tile_cols = equal_part(values, VCL_TILE_VALUES);
    } else {
        plan->tile_cols = equal_part(plan->cols, max_side);
        plan->tile_rows = equal_part(plan->rows, vcl_min(max_side, VCL_TILE_VALUES / plan->tile_cols));
    }
    set_grid(plan);
}

/* The largest divisor of values that is no more than about its square root: a near square matrix of what
 * would be a few long rows. */
static uint64_t square_rows(uint64_t values)
{
    uint64_t rows = 1;
    for (uint64_t d = 2; d <= 1024 && d * d <= values; d++)
        rows = values % d == 0 ? d : rows;
    return rows;
}

void vcl_plan_stripes(const struct vcl_tensor *tensor, uint64_t values, int transpose, struct vcl_plan *plan,
                      int *lanes)
{
    enum { MAX_COLS = 1 << 15, FEW_ROWS = 32, SMALL = 32768 };
    *lanes = values <= SMALL ? 8 : 32; /* a lane's state costs two bytes */
    if (values == 0) {
        vcl_plan_flat(0, plan);
        return;
    }
    plan->cols = join_short_dims(tensor);
    plan->rows = values / plan->cols;
    if (plan->rows < FEW_ROWS) {
        plan->rows = square_rows(values);
        plan->cols = values / plan->rows;
    }
    if (transpose) {
        const uint64_t rows = plan->rows;
        plan->rows = plan->cols;
        plan->cols = rows;
    }
    plan->tile_cols = equal_part(plan->cols, MAX_COLS);
    const uint64_t most = vcl_round_up(vcl_ceil_div(VCL_TILE_VALUES, plan->tile_cols), 32);
    plan->tile_rows = (uint32_t)vcl_round_up(vcl_ceil_div(plan->rows, vcl_ceil_div(plan->rows, most)), 32);
    set_grid(plan);
}

void vcl_plan_columns(struct vcl_plan *plan)
{
    enum { LEAST_COLS = 64, MOST_COLS = 1 << 15, BLOCK = 32 };
    const uint64_t parts = vcl_ceil_div(plan->rows, VCL_TILE_VALUES / LEAST_COLS);
    plan->tile_rows = (uint32_t)vcl_round_up(vcl_ceil_div(plan->rows, parts), BLOCK);
    const uint64_t most = vcl_min(VCL_TILE_VALUES / plan->tile_rows / BLOCK * BLOCK, MOST_COLS);
    const uint64_t across = vcl_ceil_div(plan->cols, most);
    plan->tile_cols = (uint32_t)vcl_round_up(vcl_ceil_div(plan->cols, across), BLOCK);
    set_grid(plan);
}

int vcl_plan_parse(uint64_t values, uint64_t cols, uint32_t tile_rows, uint32_t tile_cols,
                   struct vcl_plan *plan)
{
    if (cols == 0 || tile_rows == 0 || tile_cols == 0 || values % cols != 0)
        return 0;
    if ((uint64_t)tile_rows * tile_cols > VCL_TILE_VALUES_MAX)
        return 0;
    plan->rows = values / cols;
    plan->cols = cols;
    plan->tile_rows = tile_rows;
    plan->tile_cols = tile_cols;
    set_grid(plan);
    return 1;
}

struct vcl_rect vcl_plan_tile(const struct vcl_plan *plan, uint64_t tile)
{
    struct vcl_rect rect = { tile / plan->across * plan->tile_rows, tile % plan->across * plan->tile_cols, 0,
                             0 };
    rect.rows = (uint32_t)vcl_min(plan->tile_rows, plan->rows - rect.row);
    rect.cols = (uint32_t)vcl_min(plan->tile_cols, plan->cols - rect.col);
    return rect;
}

uint64_t vcl_plan_units(const struct vcl_plan *plan)
{
    return vcl_ceil_div(plan->rows, VCL_UNIT_ROWS) * plan->across;
}

struct vcl_rect vcl_plan_unit(const struct vcl_plan *plan, uint64_t unit)
{
    struct vcl_plan units = *plan;
    units.tile_rows = VCL_UNIT_ROWS;
    return vcl_plan_tile(&units, unit);
}
