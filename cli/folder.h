/* folder.h - a folder of shards on its way to another: side files, the partial folder, the journal, the
 * index. */
#ifndef VCL_FOLDER_H
#define VCL_FOLDER_H

#include "cli.h"

struct vcl_folder {
    const struct vcl_model *model;
    char *input;            /* the folder the model is in */
    char *output, *partial; /* partial is built and renamed to output at the end */
    char **sides;           /* names of the files to copy along, in order of name */
    size_t count;
    uint64_t side_bytes;
    int replaced; /* an older output is to be replaced */
};

#define VCL_JOURNAL "vcllm-journal.json"

/* Sets the paths and finds the side files; those left out are noted where `note` is set.  Returns an exit
 * code. */
int vcl_folder_open(struct vcl_folder *folder, const struct vcl_model *model, const char *output, int note);
void vcl_folder_close(struct vcl_folder *folder);

/* Makes the partial folder and writes the journal into it; journal NULL: none.  With `resume` a partial
 * folder whose journal says the same is kept; with `force` an older one and an existing output are
 * replaced.  Says why not. */
int vcl_folder_begin(struct vcl_folder *folder, const json_t *journal, int force, int resume);
/* Renames partial to output. */
int vcl_folder_commit(struct vcl_folder *folder);
/* Removes the partial folder with all files in it. */
void vcl_folder_discard(const struct vcl_folder *folder);
char *vcl_folder_file(const char *folder, const char *name); /* free() it */
int vcl_folder_has_shard(const struct vcl_model *model, const char *name);
/* The index file's name, NULL where the model has none. */
const char *vcl_folder_index(const struct vcl_folder *folder);

/* sides.c: copies the side files into the partial folder.  In the index total_size goes from before to after
 * where it is `before`.  *files becomes the text of vcllm.files, free() it. */
int vcl_sides_copy(const struct vcl_folder *folder, uint64_t before, uint64_t after, char **files);
/* Most bytes that text takes inside the header's JSON. */
size_t vcl_sides_room(const struct vcl_folder *folder);
/* The other direction: what vcllm.files of the model's last shard lists is copied and its hashes are
 * checked. */
int vcl_sides_restore(const struct vcl_folder *folder, uint64_t before, uint64_t after);
/* Only checks; says every fault and returns their number. */
size_t vcl_sides_verify(const struct vcl_model *model, size_t *checked);

#endif
