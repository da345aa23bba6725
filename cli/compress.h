/* compress.h - the verb compress: what was asked for, and the parts that do it. */
#ifndef VCL_COMPRESS_H
#define VCL_COMPRESS_H

#include "allocate.h"
#include "folder.h"
#include "shard.h"
#include "totals.h"

struct vcl_compress {
    const char *input, *output;
    struct vcl_reading reading;
    struct vcl_policy policy;
    int jobs, json, resume, force, quiet, verbose, dry_run;

    struct vcl_model *model;
    struct vcl_choice *choices;
    struct vcl_result *results;
    struct vcl_work work;
    struct vcl_allocation allocation;
    double started;
};

/* compress.c: does it; returns an exit code. */
int vcl_compress_run(struct vcl_compress *job);
/* compress_folder.c: what a folder is compressed from and how, for --resume to compare; json_decref it. */
json_t *vcl_compress_journal(const struct vcl_compress *job, const struct vcl_folder *folder);
/* A folder to a folder; model, choices, results and work are there. */
int vcl_compress_folder(struct vcl_compress *job, struct vcl_folder *folder);
/* compress_plan.c: --dry-run, and the warning about tensors that are quantised already. */
int vcl_compress_plan(struct vcl_compress *job);
void vcl_compress_warn_packed(const struct vcl_compress *job);
/* compress_report.c: from the file or folder just written. */
int vcl_compress_report(const struct vcl_compress *job);
void vcl_compress_json_choice(json_t *object, const struct vcl_choice *choice);

#endif
