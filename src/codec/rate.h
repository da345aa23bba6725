/* rate.h - finds the step that meets a target. */
#ifndef VCL_RATE_H
#define VCL_RATE_H

#include "vcllm.h"

/* What one trial gave. */
struct vcl_trial {
    double bits; /* per value, all bytes of the frame counted */
    double snr;  /* dB */
};

struct vcl_rate_point {
    double x, h; /* h: over the aim, in bits; falls as x grows */
};

/* A search under way: while not `done`, the caller codes with a step of logarithm (base 2) x and tells what
 * that gave.  Bits and SNR mostly fall as x grows, by about one bit and 6.02 dB per unit; where they do not,
 * the best of the trials is still the best of the trials. */
struct vcl_rate {
    enum vcl_goal goal;
    double target;
    double low, high; /* where x may lie */
    double x;         /* of the next trial, or of the last when done */
    int done, trials;
    struct vcl_rate_point above, below, last, before;
    int found;    /* a trial met the target; `best` is one that did */
    int accepted; /* the last one, so closely that the search ended */
    double best_x;
    struct vcl_trial best; /* the nearest to the target where none met it */
};

struct vcl_rate vcl_rate_begin(enum vcl_goal goal, double target, double low, double high, double guess);
/* The trial at rate->x; returns whether it is the best so far. */
int vcl_rate_tell(struct vcl_rate *rate, const struct vcl_trial *trial);

/* Does a trial meet the target, and does it do so closely enough to stop? */
int vcl_rate_meets(enum vcl_goal goal, double target, const struct vcl_trial *trial);
int vcl_rate_accepts(enum vcl_goal goal, double target, const struct vcl_trial *trial);
/* Does a trial that meets the target leave as little of it unused as is promised? */
int vcl_rate_fills(enum vcl_goal goal, double target, const struct vcl_trial *trial);
/* Is a better than b?  What meets the target is better than what does not; of two that meet it, at the bits
 * asked for the one with the higher SNR, at the SNR asked for the one with fewer bits. */
int vcl_rate_prefers(enum vcl_goal goal, double target, const struct vcl_trial *a, const struct vcl_trial *b);
/* A trial's height over the aim, in bits. */
double vcl_rate_height(enum vcl_goal goal, double target, const struct vcl_trial *trial);

#endif
