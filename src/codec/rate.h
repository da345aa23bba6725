/* rate.h - finds the step that meets a target. */
#ifndef VCL_RATE_H
#define VCL_RATE_H

#include "vcllm.h"

/* What one trial gave. */
struct vcl_trial {
    double bits; /* per value, all bytes of the frame counted */
    double snr;  /* dB */
};

/* x is the logarithm (base 2) of the quantiser's step: bits and SNR both fall as it grows, by about one
 * bit and 6.02 dB per unit. */
struct vcl_rate_search {
    enum vcl_goal goal;
    double target;
    double low, high; /* where x may lie */
    double guess;
    void *user;
    enum vcl_status (*run)(void *user, double x, struct vcl_trial *trial);
};

struct vcl_rate_result {
    int found; /* 0: no x in the range meets the target */
    double x;
    struct vcl_trial trial;
    int accepted;  /* 1: within the accepted window below the bits or above the SNR asked for */
    double last_x; /* of the last trial run: not x if an earlier one was better */
};

/* Does a trial meet the target, and does it do so closely enough to stop? */
int vcl_rate_meets(enum vcl_goal goal, double target, const struct vcl_trial *trial);
int vcl_rate_accepts(enum vcl_goal goal, double target, const struct vcl_trial *trial);

/* Runs trials until one is accepted or no better one can be hoped for.  Returns a failed run's status. */
enum vcl_status vcl_rate_run(const struct vcl_rate_search *search, struct vcl_rate_result *result);

#endif
