/* lavc_units.h - the units an access unit may hold: parameter sets and the slices of one IDR picture. */
#ifndef VCL_LAVC_UNITS_H
#define VCL_LAVC_UNITS_H

#include "video.h"

struct vcl_units {
    size_t written;
    int width, height;             /* of the picture, by the sequence parameter set */
    int coded_width, coded_height; /* before cropping */
    int depth;                     /* of luma */
    int chroma;                    /* 400 or 420 */
    const char *fault;             /* a few words that follow "the stream"; NULL if there is none */
};

/* Copies the Annex B bytes from[0..n) to `to` without the units that decoding does not need (SEI,
 * delimiters, filler).  At most n bytes are written; VCL_E_SPACE where room is less than what is kept.
 * VCL_E_FORMAT with a fault where the bytes are anything but one sequence parameter set, other parameter
 * sets, and the slices of one IDR picture after them. */
enum vcl_status vcl_units_copy(enum vcl_codec codec, const uint8_t *from, size_t n, uint8_t *to, size_t room,
                               struct vcl_units *units);

/* Reads the sizes from a sequence parameter set, header included; 0 if it is of a kind that an intra
 * picture of ours never has (interlaced, scaling lists, layers, 4:2:2) or makes no sense. */
int vcl_sequence_read(enum vcl_codec codec, const uint8_t *unit, size_t n, struct vcl_units *units);

#endif
