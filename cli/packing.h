/* packing.h - the verb compress: what was asked for, and the parts of it that print. */
#ifndef VCL_PACKING_H
#define VCL_PACKING_H

#include "allocate.h"
#include "jobs/compress.h"

struct vcl_packing {
    struct vcl_compress c;
    struct vcl_allocation allocation;
    int jobs, json, quiet, verbose, dry_run;
    double started;
};

/* compress_plan.c: --dry-run; returns an exit code. */
int vcl_packing_plan(struct vcl_packing *packing);
/* compress_report.c: the line of -v, for vcl_compress.on_tensor. */
void vcl_packing_print_line(void *packing, size_t i);
/* From the file or folder just written; returns an exit code. */
int vcl_packing_report(const struct vcl_packing *packing);
void vcl_packing_set_choice(json_t *object, const struct vcl_choice *choice);

#endif
