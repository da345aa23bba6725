/* tensor_template.h - which of its loops a level of vectors takes for a stripe, included once per level.
 *
 * The file that includes it has the level's header, and decode_columns and encode_stripe for stripes of 32
 * lanes; all others go the portable way, and so do the columns for which the words are short. */
#include "kernels/tensor_loops.h"

TARGET void KERNEL(decode_columns)(const struct vcl_stripe *t, struct vcl_lanes_reader *r, uint32_t first,
                                   uint32_t count, int16_t *j)
{
    const int whole = t->active == VCL_STRIPE_LANES;
    uint32_t done = 0;
    if (t->lanes == VCL_STRIPE_LANES && count > 0) {
        if (vcl_stripe_is_low(t))
            done = decode_columns(t, r, first, count, 1, t->col_class != NULL, 0, j);
        else if (!whole)
            done = decode_columns(t, r, first, count, 0, t->col_class != NULL, 0, j);
        else if (t->col_class)
            done = decode_columns(t, r, first, count, 0, 1, 1, j);
        else
            done = decode_columns(t, r, first, count, 0, 0, 1, j);
    }
    vcl_decode_columns_c(t, r, first + done, count - done, j + (size_t)done * VCL_STRIPE_LANES);
}

TARGET void KERNEL(encode_stripe)(const struct vcl_stripe *t, struct vcl_lanes_writer *w, const int16_t *j)
{
    if (t->lanes != VCL_STRIPE_LANES)
        vcl_encode_stripe_c(t, w, j);
    else if (vcl_stripe_is_low(t))
        encode_stripe(t, w, j, 1);
    else
        encode_stripe(t, w, j, 0);
}

TARGET int KERNEL(rounds_products)(void) { return vcl_product_is_rounded(); }
