/* check.h - decodes everything a compressed model holds: verify, and the shards that --resume keeps. */
#ifndef VCL_CHECK_H
#define VCL_CHECK_H

#include "work.h"

struct vcl_check {
    const struct vcl_model *model;
    const char *decoder;
    int progress;       /* count it as this verb's work */
    unsigned char *bad; /* per entry; set to 1 where a fault is found */
    size_t checked;
    const struct vcl_work *work; /* set by vcl_check_tensors */
};
/* Every tensor's tiles against both of their checksums.  Says each fault and goes on; shards that are not
 * compressed are passed over.  Returns VCL_EXIT_CODEC, the message said once, where a codec is missing, and
 * VCL_EXIT_IO where a file cannot be read: no verdict on the data then. */
int vcl_check_tensors(struct vcl_check *check, struct vcl_work *work);

#endif
