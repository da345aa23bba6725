/* rows.c - rows that decode to nothing but zeros.
 *
 * A tensor is coded to an error that is small against the whole of it: rows far below the others can become
 * zero while its SNR stays good.  Where a norm follows, as behind an embedding, such a row is lost. */
#include "rows.h"

enum { SHORTEST = 16 };

uint64_t vcl_row_length(const struct vcl_tensor *tensor)
{
    const uint64_t length = tensor->rank < 2 ? 0 : tensor->dims[tensor->rank - 1];
    return length < SHORTEST ? 0 : length;
}

int vcl_all_zero(enum vcl_dtype dtype, const void *values, size_t n)
{
    const size_t size = vcl_dtype_bits(dtype) / 8;
    const unsigned char *bytes = values;
    for (size_t i = 0; i < n * size; i++)
        if (bytes[i] & ((i + 1) & (size - 1) ? 0xFF : 0x7F)) /* little-endian: the sign is on top */
            return 0;
    return 1;
}
