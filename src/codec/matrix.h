/* matrix.h - a coded matrix ready for products: its frame checked, its tables made. */
#ifndef VCL_MATRIX_H
#define VCL_MATRIX_H

#include "codec/env.h"
#include "codec/frame.h"
#include "codec/lanes.h"
#include "codec/tables.h"

/* Nothing changes once it is made (but the tables of classes that decoding needs, under their own lock). */
struct vcl_matrix {
    struct vcl_mem mem;   /* keeps no spares: several contexts may use the matrix */
    size_t held;          /* bytes of all below */
    const uint8_t *bytes; /* the caller's */
    struct vcl_frame frame;
    uint64_t rows, cols; /* of the tensor's matrix */
    int turned;          /* that is the transpose of the coded matrix */
    uint64_t line; /* values of a row of the coded matrix, or where it is of another shape, of the tensor's */
    uint64_t *offsets;                /* of the tiles' bytes */
    int fused;                        /* tiles go through the kernels of products; else through decoding */
    struct vcl_tensor_tables *tables; /* tensor codec, not fused */

    /* Fused, to the end.  Of the classes there are tables for those in use. */
    uint32_t *starts;  /* of the tiles' lanes, behind their rows' classes */
    int8_t *row_class; /* of all tiles side by side, then of those below: which table */
    int8_t *col_class; /* how many tables farther on; NULL: none */
    int low_from;      /* number of the first class with low bits; VCL_MODEL_CLASSES: none is in use */
    uint32_t *slots;
    float (*near)[2 * VCL_NEAR]; /* values of the points near 0, by step */
    uint8_t *near_table;         /* by column: which of them */
    float *steps, *means;        /* by column; means may be NULL */
    struct vcl_point_values values;
};

/* frame: as many bytes as it has, which stay the caller's and must stay as they are. */
enum vcl_status vcl_matrix_make(const struct vcl_env *env, const uint8_t *frame, size_t bytes,
                                struct vcl_matrix **matrix);
void vcl_matrix_unmake(struct vcl_matrix *matrix);

/* A tile's stored bytes, and how many. */
const uint8_t *vcl_matrix_tile(const struct vcl_matrix *matrix, uint64_t tile, size_t *bytes);

/* Fused: how a tile is coded, and a reader at the start of its lanes; 0 if they are damaged. */
int vcl_matrix_lanes(const struct vcl_matrix *matrix, const struct vcl_kernels *kernels, uint64_t tile,
                     struct vcl_lanes *lanes, struct vcl_point_values *values,
                     struct vcl_lanes_reader *reader);

#endif
