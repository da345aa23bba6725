/* words.c - numbers as text and back, what of a name can be shown, and the clock. */
#include "words.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

size_t vcl_printable_length(const char *c)
{
    const unsigned char *b = (const unsigned char *)c;
    const size_t n = b[0] < 0x80 ? 1
                   : b[0] < 0xC2 ? 0
                   : b[0] < 0xE0 ? 2
                   : b[0] < 0xF0 ? 3
                   : b[0] < 0xF5 ? 4
                                 : 0;
    if (b[0] < 0x20 || b[0] == 0x7F || (b[0] == 0xC2 && b[1] < 0xA0))
        return 0;
    for (size_t i = 1; i < n; i++)
        if ((b[i] & 0xC0) != 0x80)
            return 0;
    return n;
}

void vcl_make_printable(char *text)
{
    while (*text) {
        const size_t n = vcl_printable_length(text);
        if (n == 0)
            *text = '?';
        text += n ? n : 1;
    }
}

struct vcl_words vcl_words_size(uint64_t bytes)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    struct vcl_words words;
    double value = (double)bytes;
    size_t unit = 0;
    while (value >= 1024) {
        value /= 1024;
        unit++;
    }
    snprintf(words.text, sizeof words.text, unit ? "%.2f %s" : "%.0f %s", value, units[unit]);
    return words;
}

struct vcl_words vcl_words_snr(double snr)
{
    struct vcl_words words;
    if (isfinite(snr))
        snprintf(words.text, sizeof words.text, "%.2f dB", snr);
    else
        snprintf(words.text, sizeof words.text, "%s", isnan(snr) ? "-" : snr > 0 ? "exact" : "none left");
    return words;
}

struct vcl_words vcl_words_time(double seconds)
{
    struct vcl_words words;
    const unsigned long s = seconds < 0 ? 0 : seconds > 3.6e9 ? 3600000000ul : (unsigned long)(seconds + 0.5);
    if (s >= 3600)
        snprintf(words.text, sizeof words.text, "%lu:%02lu:%02lu", s / 3600, s / 60 % 60, s % 60);
    else if (seconds >= 60)
        snprintf(words.text, sizeof words.text, "%lu:%02lu", s / 60, s % 60);
    else
        snprintf(words.text, sizeof words.text, "%.1f s", seconds);
    return words;
}

struct vcl_shape_words vcl_words_shape(const struct vcl_tensor *tensor)
{
    struct vcl_shape_words words;
    size_t at = 0;
    words.text[at++] = '[';
    for (unsigned i = 0; i < tensor->rank; i++)
        at += (size_t)snprintf(words.text + at, sizeof words.text - at, "%s%llu", i ? ", " : "",
                               (unsigned long long)tensor->dims[i]);
    words.text[at] = ']';
    words.text[at + 1] = '\0';
    return words;
}

double vcl_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

int vcl_parse_number(const char *text, double *value)
{
    char *end;
    if (*text == '\0' || strspn(text, "+-.0123456789eE") != strlen(text))
        return 0;
    *value = strtod(text, &end);
    return *end == '\0' && isfinite(*value);
}
