/* words.h - numbers as text and back, and the clock. */
#ifndef VCL_WORDS_H
#define VCL_WORDS_H

#include "vcllm.h"

/* Bytes of the UTF-8 character at c; 0 where it is a control character (U+0000-1F, 7F-9F), which could move
 * the cursor, or no UTF-8. */
size_t vcl_printable_length(const char *c);
/* Question marks in place of the bytes of which that is 0. */
void vcl_make_printable(char *text);

struct vcl_words {
    char text[32];
};                                               /* returned by value, so that several fit in one printf */
struct vcl_words vcl_words_size(uint64_t bytes); /* "5.31 MiB" */
struct vcl_words vcl_words_snr(double snr);      /* "17.21 dB", "exact" */
struct vcl_words vcl_words_time(double seconds); /* "1:02:03" */
struct vcl_shape_words {
    char text[VCL_MAX_RANK * 22 + 4];
};
struct vcl_shape_words vcl_words_shape(const struct vcl_tensor *tensor); /* "[2560, 2048]" */

/* 1 and the value, or 0 where the text is not a finite number and nothing else. */
int vcl_parse_number(const char *text, double *value);

double vcl_seconds(void); /* of a clock that never jumps */

#endif
