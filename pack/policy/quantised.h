/* quantised.h - what other software has quantised in a model already, and what routes to its experts. */
#ifndef VCL_QUANTISED_H
#define VCL_QUANTISED_H

#include "common/errand.h"

struct vcl_quantised;

/* From the model's names and dtypes, and where it is a folder from config.json and the files by which
 * quantisers are known.  NULL: out of memory. */
struct vcl_quantised *vcl_quantised_find(const struct vcl_model *model);
void vcl_quantised_free(struct vcl_quantised *quantised);

/* 1 for packed weights and all that they are worth nothing without: scales, zero points, codebooks. */
int vcl_quantised_has(const struct vcl_quantised *quantised, const struct vcl_entry *entry);
/* 1 for a matrix that chooses between experts: its name says so and it has as many rows as config.json says
 * that there are experts. */
int vcl_quantised_routes(const struct vcl_quantised *quantised, const struct vcl_entry *entry);

#endif
