/* totals.h - sums over a compressed model, from its headers alone. */
#ifndef VCL_TOTALS_H
#define VCL_TOTALS_H

#include "common/errand.h"

struct vcl_totals {
    size_t tensors, lossy, exact, aliases;
    uint64_t values;                    /* a tied tensor counts once */
    uint64_t lossy_values, lossy_bytes; /* frame bytes */
    uint64_t raw_bytes;                 /* of the decoded tensors, tied ones included */
    uint64_t file_bytes;                /* of all shards; the following three make it up */
    uint64_t container_bytes;           /* safetensors headers */
    uint64_t header_bytes;              /* frame headers, tile tables, padding */
    uint64_t tile_bytes;                /* coded values with their side lists */
    double worst_snr;                   /* of lossy tensors; INFINITY where there is none */
    const char *worst_name;             /* lives as long as the model */
};

enum vcl_status vcl_totals_take(struct vcl_errand *job, struct vcl_totals *totals,
                                const struct vcl_model *model);
/* Of lossily coded values; NAN where there are none. */
double vcl_totals_bits(const struct vcl_totals *totals);
double vcl_totals_file_bits(const struct vcl_totals *totals); /* 8 x file bytes / values */

#endif
