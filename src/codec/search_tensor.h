/* search_tensor.h - what the search for the tensor codec's settings shares: its state, what a pass teaches
 * (learn_tensor.c) and points that move one by one (shape_points.c). */
#ifndef VCL_SEARCH_TENSOR_H
#define VCL_SEARCH_TENSOR_H

#include "codec/encoder.h"

struct vcl_setting {
    double x;
    int shape;
    double width; /* of the model against what the classes say, in sixteenths of an octave */
    int8_t centroid[VCL_CENTROIDS];
    int8_t move[2 * VCL_MOVED_POINTS]; /* with points that move one by one */
    float lambda;
};

/* A pass over the whole that can be made again. */
struct vcl_kept {
    struct vcl_setting setting;
    int own, own_base, priced, states, lists;
    uint64_t rows; /* that are kept */
    uint32_t flags;
    struct vcl_class_model models[VCL_MODEL_CLASSES];
    struct vcl_trial trial;
};

struct vcl_tensor_search {
    struct vcl_encoder *e;
    uint64_t measured;        /* values in e->stats */
    double deviation;         /* mean of log2 of what a class stands for */
    double lively;            /* the part of the values in rows that are not all 0 */
    struct vcl_setting now;   /* of the next pass */
    struct vcl_setting plain; /* the last without points of their own */
    int own, own_base;        /* classes have models of their own, numbered for this row_base */
    double saved;             /* bits a value that they promised */
    double least;             /* x below which indices do not suffice */
    double learned;           /* x of the pass that taught `now` */
    double error;             /* of that pass: squared half-steps a value that is not among zeros */
    double last;              /* x of the last pass */
    double near, near_height; /* x of the pass that came nearest to the target, and how near; no priced one */
    int lists;                /* the columns' classes, steps and means are told */
    int8_t *class, *exponent; /* as they were analysed, by column */
    struct vcl_trial expected; /* of the first pass over the whole, as the sample foretells it */
    int misled;                /* it was not so */
    int unusual;               /* few values, unlike those that the models were made for */
    int biased;                /* least squared error whatever the objective */
    int any, in_sink;          /* there is a best pass; it is the last over the whole */
    struct vcl_kept best;
    int any_beyond;         /* there is a pass that takes more than the target; */
    struct vcl_kept beyond; /* of these the one whose bits do most */
};

enum { VCL_OWN_MODELS = VCL_FLAG_CLASS_MODELS | VCL_FLAG_TABLES | VCL_FLAG_POINTS };

/* Bits a value that a frame takes before it tells of values or of columns. */
double vcl_fixed_bits(const struct vcl_encoder *e);
/* Do points move to the means of what they stand for? */
int vcl_has_centroids(const struct vcl_params *params);
/* Where learning starts. */
struct vcl_setting vcl_first_setting(const struct vcl_tensor_search *s);

/* A pass with these settings; or over the sample at x with those of now. */
enum vcl_status vcl_run_setting(struct vcl_tensor_search *s, const struct vcl_setting *setting,
                                enum vcl_pass pass, struct vcl_trial *trial);
enum vcl_status vcl_sample_pass(struct vcl_tensor_search *s, double x, struct vcl_trial *trial);

/* Settings of the next pass from the counts of the last; returns the bits a value its symbols would take. */
double vcl_learn(struct vcl_tensor_search *s);
/* Models of their own for the classes where the counts say that they pay; returns the bits saved. */
double vcl_choose_class_models(struct vcl_tensor_search *s);
/* Bits a value that tables save only where values have a shape of their own. */
#define VCL_OWN_SHAPE 0.03
/* A step at which values take about three bits: a coarser one does not show their shape. */
double vcl_telling_x(const struct vcl_tensor_search *s);
/* Bits a value that tables would save over the model just fitted. */
double vcl_promise_of(const struct vcl_tensor_search *s);
enum vcl_status vcl_drop_own_models(struct vcl_tensor_search *s);
/* Takes them where they save enough; the next passes then keep the classes' numbers. */
enum vcl_status vcl_take_own_models(struct vcl_tensor_search *s);
/* A pass over the sample with them. */
enum vcl_status vcl_try_own_models(struct vcl_tensor_search *s, double x, struct vcl_trial *expected);

/* Learns at x from the sample what holds for all classes, or with models of their own all there is to learn;
 * *expected: what a pass should give with it. */
enum vcl_status vcl_survey(struct vcl_tensor_search *s, double x, struct vcl_trial *expected);
enum vcl_status vcl_settle(struct vcl_tensor_search *s, double x, struct vcl_trial *expected);

/* The columns as they were analysed, or all alike, and nothing told of them: lists cost what low rates do not
 * have.  Flags are the business of who calls vcl_set_lists. */
enum vcl_status vcl_remember_lists(struct vcl_tensor_search *s);
void vcl_set_lists(struct vcl_tensor_search *s, int lists);
enum vcl_status vcl_drop_lists(struct vcl_tensor_search *s);
/* What the columns' classes leave to those of the rows. */
void vcl_find_deviations(struct vcl_tensor_search *s);

/* All that a pass depends on, to be taken up again. */
struct vcl_kept vcl_save_setting(const struct vcl_tensor_search *s, const struct vcl_setting *setting,
                                 const struct vcl_trial *trial);
enum vcl_status vcl_restore_setting(struct vcl_tensor_search *s, const struct vcl_kept *kept);

/* Bits a value that are not turned into SNR. */
double vcl_waste_of(const struct vcl_trial *trial);

/* Where values have a shape of their own: settings with points that move one by one, and their step in *x, where
 * they are better than what was found at *x. */
enum vcl_status vcl_shape_points(struct vcl_tensor_search *s, double *x, struct vcl_trial *expected);

#endif
