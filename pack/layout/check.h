/* check.h - decodes everything a compressed model holds: verify, and the shards that --resume keeps. */
#ifndef VCL_CHECK_H
#define VCL_CHECK_H

#include "common/work.h"

struct vcl_check {
    const struct vcl_model *model;
    const char *decoder;
    int progress;       /* count it as this stage's work */
    unsigned char *bad; /* per entry; set to 1 where a fault is found */
    size_t checked;
    const struct vcl_work *work; /* vcl_check_tensors sets it */
};
/* Every tensor's tiles against both of their checksums.  Tells each fault and goes on; shards that are not
 * compressed are passed over.  Returns VCL_E_CODEC, told once, where a codec is missing, and VCL_E_IO where a
 * file cannot be read: no verdict on the data then. */
enum vcl_status vcl_check_tensors(struct vcl_check *check, struct vcl_work *work);

#endif
