/* folder.h - a folder of shards on its way to another: side files, the partial folder, the journal, the
 * index. */
#ifndef VCL_FOLDER_H
#define VCL_FOLDER_H

#include <jansson.h>

#include "common/errand.h"

struct vcl_folder {
    struct vcl_errand *job;
    const struct vcl_model *model;
    char *input;            /* the folder the model is in */
    char *output, *partial; /* partial is built and renamed to output at the end */
    char **sides;           /* names of the files to copy along, in order of name */
    size_t count;
    int replaced; /* an older output is to be replaced */
    int begun;    /* a partial folder is there already */
    int resumed;  /* and is continued */
    int same;     /* the output has the files of the input by their names, without a list of them */
    int made;     /* the output's files are `sides` alone, all new */
    int lock;     /* the journal, locked while the partial folder is this run's; 0: none */
};

#define VCL_JOURNAL "vcllm-journal.json"
/* By which a folder is opened; an index of another name, given by its path, gets it in the output. */
#define VCL_INDEX "model.safetensors.index.json"

/* Sets the paths and finds the side files; those left out are noted where `note` is set. */
enum vcl_status vcl_folder_open(struct vcl_folder *folder, struct vcl_errand *job,
                                const struct vcl_model *model, const char *output, int note);
/* The same for a folder of new files, with these names (the keys of an object), made from one file. */
enum vcl_status vcl_folder_make(struct vcl_folder *folder, struct vcl_errand *job,
                                const struct vcl_model *model, const char *output, json_t *names);
void vcl_folder_close(struct vcl_folder *folder); /* after a failure, too; of zeros as well */

/* Before the work: tidies what a killed run left, and tells whether output and partial folder are free, or
 * may be continued (`resume`: the partial folder's journal says the same) or replaced (`force`; what was
 * begun but is not worth keeping always).  Tells why not. */
enum vcl_status vcl_folder_check(struct vcl_folder *folder, const json_t *journal, int force, int resume);
/* After the check: makes the partial folder with the journal in it, or tidies the one that is continued. */
enum vcl_status vcl_folder_begin(struct vcl_folder *folder, const json_t *journal);
/* Renames partial to output.  VCL_E_IO too where output is there but something could not be tidied. */
enum vcl_status vcl_folder_commit(const struct vcl_folder *folder);
/* Removes the partial folder with the files that were written into it. */
void vcl_folder_discard(const struct vcl_folder *folder);
/* All of these, once the folder is open, for what cannot be continued: `fill` writes all that the partial
 * folder shall hold. */
enum vcl_status vcl_folder_write(struct vcl_folder *folder, int force,
                                 enum vcl_status (*fill)(void *user, struct vcl_folder *folder), void *user);
/* The index file's name, NULL where the model has none. */
const char *vcl_folder_index(const struct vcl_folder *folder);

/* ---- listed.c -------------------------------------------------------------------------------- */

char *vcl_path_in(const char *folder, const char *name); /* free() it; NULL: out of memory, here and below */
char *vcl_folder_of(const char *path);                   /* "." of a name without; free() it */
int vcl_is_in(const char *folder, const char *name);
int vcl_listed_shard(const struct vcl_model *model, const char *name);
/* What a compressed model lists in vcllm.files: names and hashes.  NULL, told unless job is NULL, where that
 * is malformed. */
json_t *vcl_listed_files(struct vcl_errand *job, const struct vcl_model *model);

/* ---- owned.c --------------------------------------------------------------------------------- */

/* Names of the files that vcllm wrote into a folder, as keys of an object: those of a compressed model with
 * all that it lists, or of a partial folder's journal.  Where memory is out there are fewer: then less is
 * removed, and more is not ours. */
json_t *vcl_owned_names(const char *path);
/* Adds the names of a compressed model's shards and of the files that it lists. */
void vcl_owned_add_model(json_t *names, const struct vcl_model *model);
/* The journal in a folder, NULL where there is none. */
json_t *vcl_owned_journal(const char *folder);
/* A journal that only lists these names, the keys of an object.  NULL: out of memory. */
json_t *vcl_owned_list(json_t *names);
int vcl_owned_is_temporary(const char *name);
/* 1 where a folder holds nothing but temporary files of ours. */
int vcl_owned_is_empty(const char *path);
/* VCL_E_IO where path is a link or no folder, or holds what is not among the names. */
enum vcl_status vcl_owned_check(struct vcl_errand *job, const char *path, const json_t *names);
/* Removes the files among the names, the journal last, and the folder. */
enum vcl_status vcl_owned_remove(struct vcl_errand *job, const char *path, const json_t *names);

/* ---- sides.c --------------------------------------------------------------------------------- */

/* Copies the side files, but for the index, into the partial folder: before the work, so that what cannot
 * be read shows early.  *files: their names and hashes, json_decref it. */
enum vcl_status vcl_sides_copy(const struct vcl_folder *folder, json_t **files);
/* After the work: copies the index, its total_size going from before to after where it is `before`.  *text:
 * vcllm.files, free() it. */
enum vcl_status vcl_sides_finish(const struct vcl_folder *folder, json_t *files, uint64_t before,
                                 uint64_t after, char **text);
/* Most bytes that text takes inside the header's JSON; 0: out of memory. */
size_t vcl_sides_room(const struct vcl_folder *folder);
/* The other direction: what vcllm.files of the model's last shard lists is copied and its hashes are
 * checked. */
enum vcl_status vcl_sides_restore(const struct vcl_folder *folder, uint64_t before, uint64_t after);
/* Only checks.  One file, before it is read; VCL_OK too where it is not listed. */
enum vcl_status vcl_sides_check(struct vcl_errand *job, const struct vcl_model *model, const char *name);
/* All that are listed: tells and counts every fault.  A failure where one cannot be read: no verdict. */
enum vcl_status vcl_sides_verify(struct vcl_errand *job, const struct vcl_model *model, size_t *checked,
                                 size_t *faults);

#endif
