/* lavc_units.c - one access unit, checked unit by unit.
 *
 * In: Annex B bytes, from an encoder or from a file.  Out: the same without what decoding does not need;
 * x264 alone adds 700 bytes of its option string.  The grammar is strict because a decoder's is not: with
 * one sequence parameter set and one first slice, the size checked beforehand is the size that is
 * decoded, and there is one picture. */
#include "lavc_units.h"

#include <string.h>

enum unit { UNIT_BAD, UNIT_DROPPED, UNIT_SEQUENCE, UNIT_PARAMETERS, UNIT_SLICE };

struct parsed {
    int sequences, slices;
};

/* Types by table 7-1 of ITU-T H.264. */
static enum unit h264_unit(const uint8_t *unit)
{
    if (unit[0] & 0x80)
        return UNIT_BAD;
    switch (unit[0] & 31) {
    case 5: return UNIT_SLICE; /* IDR */
    case 7: return UNIT_SEQUENCE;
    case 8: return UNIT_PARAMETERS;
    case 6:
    case 9:
    case 10:
    case 11:
    case 12: return UNIT_DROPPED;
    default: return UNIT_BAD;
    }
}

/* Types by table 7-1 of ITU-T H.265; layers above the base are none of ours. */
static enum unit h265_unit(const uint8_t *unit)
{
    const int layer = (unit[0] & 1) << 5 | unit[1] >> 3;
    if (unit[0] & 0x80 || layer)
        return UNIT_BAD;
    switch (unit[0] >> 1 & 63) {
    case 19:
    case 20: return UNIT_SLICE; /* IDR */
    case 33: return UNIT_SEQUENCE;
    case 32:
    case 34: return UNIT_PARAMETERS;
    case 35:
    case 36:
    case 37:
    case 38:
    case 39:
    case 40: return UNIT_DROPPED;
    default: return UNIT_BAD;
    }
}

/* NULL, or what is wrong with this unit at this place. */
static const char *check_order(struct parsed *parsed, enum unit unit, const uint8_t *payload)
{
    const int opens_picture = *payload >> 7; /* both standards: a first slice's first bit */
    if (unit == UNIT_BAD)
        return "holds a unit other than parameter sets and an IDR picture";
    if (unit == UNIT_SEQUENCE && parsed->sequences++)
        return "holds two sequence parameter sets";
    if ((unit == UNIT_SEQUENCE || unit == UNIT_PARAMETERS) && parsed->slices)
        return "holds parameter sets after its picture";
    if (unit == UNIT_SLICE && opens_picture != !parsed->slices++)
        return opens_picture ? "holds two pictures" : "lacks its picture's first slice";
    return NULL;
}

/* Where the next 00 00 01 begins at or after p; end if nowhere. */
static const uint8_t *find_start(const uint8_t *p, const uint8_t *end)
{
    for (; end - p >= 3; p++) {
        p = memchr(p, 0, (size_t)(end - p) - 2);
        if (!p)
            return end;
        if (p[1] == 0 && p[2] == 1)
            return p;
    }
    return end;
}

/* The unit's segment ends where the next one's start code begins, and that may have a fourth byte, 00,
 * before it. */
static const uint8_t *segment_end(const uint8_t *unit, const uint8_t *end)
{
    const uint8_t *next = find_start(unit, end);
    return next < end && next > unit && next[-1] == 0 ? next - 1 : next;
}

/* Appends a segment to what was written. */
static int keep(const uint8_t *start, const uint8_t *next, uint8_t *to, size_t room, size_t *written)
{
    const size_t n = (size_t)(next - start);
    if (n > room - *written)
        return 0;
    memcpy(to + *written, start, n);
    *written += n;
    return 1;
}

enum vcl_status vcl_units_copy(enum vcl_codec codec, const uint8_t *from, size_t n, uint8_t *to, size_t room,
                               struct vcl_units *units)
{
    const size_t header = codec == VCL_CODEC_H264 ? 1 : 2;
    const uint8_t *const end = from + n;
    const uint8_t *start = from, *code = find_start(from, end);
    struct parsed parsed = { 0, 0 };

    memset(units, 0, sizeof *units);
    if (code != from && !(code == from + 1 && *from == 0))
        units->fault = "does not begin with a start code";
    while (!units->fault && start < end) {
        code = find_start(start, end);
        if ((size_t)(end - code) < 3 + header + 1) {
            units->fault = "ends within a unit";
            break;
        }
        const uint8_t *const unit = code + 3, *const next = segment_end(unit, end);
        const enum unit kind = codec == VCL_CODEC_H264 ? h264_unit(unit) : h265_unit(unit);
        units->fault = check_order(&parsed, kind, unit + header);
        if (kind == UNIT_SEQUENCE && !vcl_sequence_read(codec, unit, (size_t)(next - unit), units))
            units->fault = "has headers that no picture of ours has";
        if (!units->fault && kind != UNIT_DROPPED && !keep(start, next, to, room, &units->written))
            return VCL_E_SPACE;
        start = next;
    }
    if (!units->fault && (!parsed.slices || !parsed.sequences))
        units->fault = parsed.slices ? "holds no sequence parameter set" : "holds no picture";
    return units->fault ? VCL_E_FORMAT : VCL_OK;
}
