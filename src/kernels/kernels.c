/* kernels.c - the tables of loops, one per level of CPU. */
#include "kernels/kernels.h"

#define KERNELS(LEVEL, L, has)                                        \
    [VCL_CPU_##LEVEL] = { .level = VCL_CPU_##LEVEL,                   \
                          .split = vcl_split_##L,                     \
                          .join = vcl_join_##L,                       \
                          .pack = vcl_pack_##L,                       \
                          .unpack = vcl_unpack_##L,                   \
                          .range = vcl_range_##L,                     \
                          .sum_blocks = vcl_sum_blocks_##L,           \
                          .rans_encode = vcl_rans_encode_##L,         \
                          .rans_decode = vcl_rans_decode_##L,         \
                          .rounds_products = vcl_rounds_products_##L, \
                          .decode_columns = vcl_decode_columns_##L,   \
                          .encode_stripe = vcl_encode_stripe_##L,     \
                          .load_rows = vcl_load_rows_##L,             \
                          .store_rows = vcl_store_rows_##L,           \
                          .search = vcl_search_##L,                   \
                          .search_feedback = vcl_search_feedback_##L, \
                          .to_f32 = vcl_to_f32_##L,                   \
                          .compare = vcl_compare_##L,                 \
                          .energy = vcl_energy_##L,                   \
                          .multiply_blocks = vcl_multiply_blocks_##L, \
                          .decode_blocks = vcl_decode_blocks_##L,     \
                          .find_values = vcl_find_values_##L,         \
                          .multiply_panel = vcl_multiply_panel_##L,   \
                          .turn = vcl_turn_##L,                       \
                          .mix = vcl_mix_##L },

static const struct vcl_kernels kernels[VCL_CPU_COUNT] = { VCL_CPU_LEVELS(KERNELS) };

const struct vcl_kernels *vcl_kernels_for(enum vcl_cpu_level level) { return &kernels[level]; }
