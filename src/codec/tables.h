/* tables.h - what all tiles of a tensor frame share, and the side bytes that tell a decoder of it. */
#ifndef VCL_TABLES_H
#define VCL_TABLES_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/mem.h"
#include "codec/frame.h"
#include "codec/model.h"
#include "kernels/kernels.h"

/* A class' own model, where a frame has them: its shape, and what is added to the frame's fine (frame.h); or
 * its own table. */
struct vcl_class_model {
    uint8_t shape;
    int8_t fine;
    uint8_t tabled;
    uint16_t freq[2][VCL_MODEL_SYMBOLS];
};

/* What the kernels look up, by class; made when a tile first needs a class. */
struct vcl_class_tables {
    pthread_mutex_t lock;                                     /* of making */
    _Atomic uint64_t ready[2];                                /* a bit for each class: encoding, decoding */
    uint32_t slots[VCL_MODEL_CLASSES][2 * VCL_MODEL_TOTAL];   /* decoding, as vcl_model_slots */
    uint32_t codes[VCL_MODEL_CLASSES][2 * VCL_MODEL_SYMBOLS]; /* encoding, as vcl_model_codes */
    struct vcl_bend bends[VCL_MODEL_CLASSES];                 /* encoding, as vcl_trellis_bend */
    float costs[VCL_MODEL_CLASSES][VCL_POINT_COSTS];          /* encoding, priced: lambda times bits */
};

/* What all tiles of a frame share, besides its header: tables and the columns' classes. */
struct vcl_tensor_tables {
    const struct vcl_kernels *kernels;
    struct vcl_class_tables *classes;
    struct vcl_class_model own[VCL_MODEL_CLASSES]; /* with VCL_FLAG_CLASS_MODELS or VCL_FLAG_TABLES */
    float lambda;                                  /* encoding: squared half-steps a bit is worth */
    int priced;                                    /* encoding: curves do not fit what points cost */
    double row_unit;                               /* encoding: 1 / variance of a row of class row_base */
    int row_base;
    float mean; /* with VCL_FLAG_MEAN, else 0 */
    /* With VCL_FLAG_POINTS: what is added to the points from -VCL_MOVED_POINTS on, in half-steps of 1/64; the
     * same as floats, with a 0 before and behind. */
    int8_t move[2 * VCL_MOVED_POINTS];
    float moves[2 * VCL_MOVED_POINTS + 2];
    int mean_exponent;
    uint64_t kept_rows; /* encoding: rows from here on are coded as zeros */
    int one_row_class;  /* encoding: the same for all rows of a tile */
    /* cols of each */
    float *col_mean; /* mean + col_level of 2^mean_exponent; with VCL_FLAG_COL_MEANS */
    int8_t *col_level;
    int8_t *col_class;
    int8_t *col_exponent; /* of the column's step, in quarter octaves */
    float *col_step;
    const float *feedback;           /* encoding: cols x cols (vcllm.h), or NULL */
    float *col_factor, *col_inverse; /* with feedback: the steps over the frame's, and the reverse */
    float least_step;                /* of col_step */
    double *col_weight;              /* encoding: 1 / variance the column's class stands for */
};

/* Room for the tables of a frame, columns' classes all 0; NULL if there is none. */
struct vcl_tensor_tables *vcl_tensor_tables_create(const struct vcl_mem *mem,
                                                   const struct vcl_kernels *kernels,
                                                   const struct vcl_frame *frame);
/* The steps are settled but for the frame's: room and factors for feedback (vcllm.h). */
enum vcl_status vcl_tensor_tables_add_feedback(const struct vcl_mem *mem, const struct vcl_frame *frame,
                                               const float *feedback, struct vcl_tensor_tables *tables);
void vcl_tensor_tables_destroy(const struct vcl_mem *mem, struct vcl_tensor_tables *tables);

/* What a column's step is over the frame's: 2^(exponent/4). */
float vcl_tensor_step_factor(int exponent);
/* The columns' steps from the frame's step and their exponents; 0 if one is not finite. */
int vcl_tensor_tables_steps(const struct vcl_frame *frame, struct vcl_tensor_tables *tables);

/* The points' moves as floats. */
void vcl_tensor_tables_points(struct vcl_tensor_tables *tables);

/* The columns' means from the mean and their levels; 0 if one is not finite. */
int vcl_tensor_tables_means(const struct vcl_frame *frame, struct vcl_tensor_tables *tables);

/* Forgets classes' own models. */
void vcl_tensor_tables_plain(const struct vcl_frame *frame, struct vcl_tensor_tables *tables);
/* A class' probabilities, from the frame's shape and fine or its own. */
void vcl_tensor_model(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables, int class,
                      struct vcl_symbol_model *model);
/* Makes what there is not yet of classes, a bit for each: slots when decoding, else codes and bends.  From
 * any thread. */
void vcl_tensor_tables_need(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                            int decoding, uint64_t classes);
/* The frame's model or lambda changed: all classes are made anew. */
void vcl_tensor_tables_renew(struct vcl_tensor_tables *tables);

enum { VCL_TABLE_BYTES = 2 + VCL_MODEL_SYMBOLS * 14 / 8 }; /* of the longest table */

/* A table's bytes; returns how many. */
size_t vcl_tensor_put_table(const uint16_t freq[VCL_MODEL_SYMBOLS], uint8_t *dst);
/* The side bytes that tables (to which frame's flags) make; returns how many, at most
 * vcl_tensor_side_bound. */
size_t vcl_tensor_side_write(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables,
                             uint8_t *dst);
size_t vcl_tensor_side_bound(uint64_t cols);
/* Everything in the frame's side bytes; 0 if they are damaged. */
int vcl_tensor_tables_read(const struct vcl_frame *frame, struct vcl_tensor_tables *tables);

#endif
