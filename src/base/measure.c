/* measure.c - tensors as such: their size, conversion and comparison (vcllm.h documents them), and the
 * words for a status. */
#include "base/common.h"
#include "base/dtype.h"
#include "base/loops.h"

#include <float.h>
#include <math.h>

const char *vcl_status_text(enum vcl_status status)
{
    switch (status) {
    case VCL_OK: return "success";
    case VCL_E_ARGUMENT: return "argument out of range";
    case VCL_E_SPACE: return "destination too small";
    case VCL_E_MEMORY: return "out of memory";
    case VCL_E_IO: return "reading or writing failed";
    case VCL_E_CANCELLED: return "cancelled";
    case VCL_E_FORMAT: return "data breaks a rule of the format";
    case VCL_E_TRUNCATED: return "data is cut off";
    case VCL_E_CHECKSUM: return "data is damaged: a checksum does not match";
    case VCL_E_VERSION: return "data of a newer version";
    case VCL_E_LIMIT: return "beyond a limit";
    case VCL_E_CODEC: return "codec not available here";
    case VCL_E_BACKEND: return "encoder or decoder failed";
    case VCL_E_BUILD: return "this library was built without -ffp-contract=off and would write other bytes";
    case VCL_E_RATE: return "target cannot be met";
    }
    return "unknown status";
}

enum vcl_status vcl_tensor_size(const struct vcl_tensor *tensor, uint64_t *values, uint64_t *bytes)
{
    const uint64_t bits_each = vcl_dtype_bits(tensor->dtype);
    uint64_t n = 1, bits;
    int empty = 0, overflow = 0;
    if (bits_each == 0 || tensor->rank > VCL_MAX_RANK)
        return VCL_E_ARGUMENT;
    for (unsigned i = 0; i < tensor->rank; i++) {
        empty |= tensor->dims[i] == 0;
        overflow |= vcl_mul(n, tensor->dims[i], &n);
        if (tensor->dims[i] >> 63)
            return VCL_E_LIMIT;
    }
    if (empty)
        n = 0;
    if ((overflow && !empty) || vcl_mul(n, bits_each, &bits) || bits >> 63)
        return VCL_E_LIMIT;
    if (bits % 8 != 0)
        return VCL_E_FORMAT;
    if (values)
        *values = n;
    if (bytes)
        *bytes = bits / 8;
    return VCL_OK;
}

enum { CHUNK = 256 }; /* values converted at a time: two buffers that stay in the first-level cache */

enum vcl_status vcl_convert(enum vcl_dtype from, const void *src, enum vcl_dtype to, void *dst, size_t n)
{
    float x[CHUNK];
    if (!vcl_dtype_is_float(from) || !vcl_dtype_is_float(to))
        return VCL_E_ARGUMENT;
    if (from == to) {
        memcpy(dst, src, n * (vcl_dtype_bits(from) / 8));
        return VCL_OK;
    }
    for (size_t i = 0; i < n; i += CHUNK) {
        const size_t count = n - i < CHUNK ? n - i : CHUNK;
        vcl_to_f32(from, (const uint8_t *)src + i * (vcl_dtype_bits(from) / 8), x, count);
        vcl_from_f32(to, x, (uint8_t *)dst + i * (vcl_dtype_bits(to) / 8), count);
    }
    return VCL_OK;
}

enum vcl_status vcl_compare(enum vcl_dtype dtype, const void *x, const void *y, size_t n,
                            struct vcl_error_sums *sums)
{
    if (!vcl_dtype_is_float(dtype))
        return VCL_E_ARGUMENT;
    vcl_loop_compare(dtype, x, y, n, sums);
    return VCL_OK;
}

double vcl_snr(const struct vcl_error_sums *sums)
{
    if (sums->error == 0)
        return INFINITY;
    if (!isfinite(sums->signal))
        return NAN;
    return 10 * log10(sums->signal / sums->error); /* log10(0) = -infinity */
}
