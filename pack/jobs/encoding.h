/* encoding.h - tensors to frames in a file, as was chosen for each. */
#ifndef VCL_ENCODING_H
#define VCL_ENCODING_H

#include "common/work.h"
#include "layout/shard.h"

struct vcl_result {
    struct vcl_report report;
    int done; /* 0: kept from an earlier run; the report is empty */
};
struct vcl_encoding {
    const struct vcl_model *model;
    const struct vcl_choice *choices;
    const struct vcl_params *params;
    struct vcl_work *work;
    struct vcl_result *results; /* one per entry */
    int overwrite;
    void *user;
    void (*on_tensor)(void *user, size_t i); /* is in the file, and in results; may be NULL */
};
/* What a folder adds to its last shard, once all frames are written: metadata vcllm.files. */
struct vcl_late {
    size_t bytes; /* room in the header */
    void *user;
    /* frame_bytes: of this shard.  The text comes through *value, free()d by the caller. */
    enum vcl_status (*make)(void *user, uint64_t frame_bytes, char **value);
};
/* disk_bytes: what must be free before it starts.  late may be NULL. */
enum vcl_status vcl_encode_shard(const struct vcl_encoding *encoding, size_t number, const char *path,
                                 uint64_t disk_bytes, const struct vcl_late *late);
/* Most bytes all frames of the entries first to last-1 take while they are written; `certain` leaves out
 * those with a goal in dB, which usually end far below their raw size. */
uint64_t vcl_encode_disk_most(const struct vcl_choice *choices, size_t first, size_t last);
uint64_t vcl_encode_disk_certain(const struct vcl_choice *choices, size_t first, size_t last);
/* How much of the progress a tensor is: lossy coding takes far longer than copying. */
uint64_t vcl_encode_effort(const struct vcl_choice *choice, const struct vcl_entry *entry);
/* Codes a small matrix as the parameters say, so that a missing encoder shows before the work. */
enum vcl_status vcl_encode_try(const struct vcl_params *params, struct vcl_work *work);

#endif
