/* plane.h - step 7, lossless: one plane of bytes to fewer bytes and exactly back. */
#ifndef VCL_PLANE_H
#define VCL_PLANE_H

#include "base/mem.h"
#include "codec/rans.h"
#include "kernels/kernels.h"

enum {
    VCL_PLANE_BLOCK = 256, /* symbols that share a class */
    VCL_PLANE_CLASSES = 4
};

struct vcl_plane_model {
    uint32_t counts[256];
    uint16_t frequencies[256];
};

/* For one plane at a time. */
struct vcl_plane_writer {
    uint8_t *words;   /* written backwards */
    uint32_t *sums;   /* of the blocks */
    uint8_t *classes; /* likewise */
    size_t fixed;     /* bytes that planes took whatever their length; the caller sets it back */
    struct vcl_plane_model
        models[VCL_PLANE_CLASSES + VCL_PLANE_CLASSES / 2 + 1]; /* 4 classes, 2 classes, 1 */
};

/* One plane while it is decoded. */
struct vcl_plane {
    unsigned mode;
    const uint8_t *at, *end; /* the bytes left */
    const uint8_t *classes;  /* rANS: of blocks, `class_bits` bits each */
    unsigned class_bits;
    size_t block; /* next one */
    size_t lanes;
    uint32_t states[VCL_RANS_LANES];
    uint32_t (*tables)[VCL_RANS_TOTAL];
};

/* For planes of at most n bytes; 0: no memory. */
int vcl_plane_writer_create(const struct vcl_mem *mem, size_t n, struct vcl_plane_writer *writer);
void vcl_plane_writer_destroy(const struct vcl_mem *mem, struct vcl_plane_writer *writer);

/* n bytes to dst.  Returns the bytes written: n + 1 at most. */
size_t vcl_plane_encode(struct vcl_plane_writer *writer, const struct vcl_kernels *kernels,
                        const uint8_t *plane, size_t n, uint8_t *dst);

/* The inverse, for a plane whose tables are set: open, read until all n bytes are there, close.  Each gives
 * NULL, or what is wrong with the stored bytes. */

/* The plane of n bytes at src; *used is what it takes of the `bytes` there. */
const char *vcl_plane_open(struct vcl_plane *plane, size_t n, const uint8_t *src, size_t bytes, size_t *used);
/* The next n bytes, whole blocks unless they are the last, at *symbols: in `chunk` or where they are
 * stored. */
const char *vcl_plane_read(struct vcl_plane *plane, const struct vcl_kernels *kernels, size_t n,
                           uint8_t *chunk, const uint8_t **symbols);
const char *vcl_plane_close(const struct vcl_plane *plane);

#endif
