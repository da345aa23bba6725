/* palette.c - step 7, lossless: values of few levels to codes of a palette.
 *
 * In: a tile's values, any dtype.  Out: up to 255 of them, and a code for each value, which may say that it
 * is none of them but a literal.  A look at a few values spares ordinary weights the counting. */
#include "palette.h"

#include <stdlib.h>

#include "base/common.h"
#include "codec/rans.h"

enum {
    SLOT_BITS = 11,
    SLOTS = 1 << SLOT_BITS, /* of the table of values */
    MOST_DISTINCT = SLOTS / 2,
    SAMPLE = 1024, /* values first looked at */
    SAMPLE_RUNS = 4
};

struct slot {
    uint64_t value;
    uint32_t count; /* 0: free */
    uint8_t code;
};

struct vcl_palette_finder {
    struct slot slots[SLOTS];
    const struct slot *sorted[MOST_DISTINCT];
    unsigned distinct;
};

struct vcl_palette_finder *vcl_palette_create(const struct vcl_mem *mem)
{
    return vcl_alloc(mem, 1, sizeof(struct vcl_palette_finder));
}

void vcl_palette_destroy(const struct vcl_mem *mem, struct vcl_palette_finder *finder)
{
    vcl_free(mem, finder);
}

static uint64_t load_value(const uint8_t *p, unsigned width)
{
    return width == 2 ? vcl_load16(p) : width == 4 ? vcl_load32(p) : vcl_load64(p);
}

/* Which slot is the value's, or the free one where it would be. */
static size_t find_slot(const struct slot *slots, uint64_t value)
{
    size_t i = (size_t)(value * 0x9E3779B97F4A7C15 >> (64 - SLOT_BITS));
    while (slots[i].count && slots[i].value != value)
        i = (i + 1) % SLOTS;
    return i;
}

/* The first `most` different values are counted; 0, early, if there are more of them. */
static int count_values(struct vcl_palette_finder *f, const uint8_t *raw, size_t n, unsigned width,
                        unsigned most)
{
    for (size_t i = 0; i < n; i++) {
        const uint64_t value = load_value(raw + i * width, width);
        struct slot *const slot = f->slots + find_slot(f->slots, value);
        if (slot->count) {
            slot->count++;
        } else if (f->distinct < most) {
            *slot = (struct slot){ value, 1, 0 };
            f->distinct++;
        } else if (most < MOST_DISTINCT) {
            return 0;
        }
    }
    return 1;
}

static void clear_slots(struct vcl_palette_finder *f)
{
    memset(f->slots, 0, sizeof f->slots);
    f->distinct = 0;
}

unsigned vcl_palette_unlike(struct vcl_palette_finder *finder, const uint8_t *raw, size_t n, unsigned width)
{
    clear_slots(finder);
    count_values(finder, raw, n, width, MOST_DISTINCT);
    return finder->distinct;
}

/* Are there no more than `most` values in a sample, or is an eighth of it very few of them? */
static int looks_few(struct vcl_palette_finder *f, const uint8_t *raw, size_t n, unsigned width,
                     unsigned most)
{
    const size_t length = (size_t)vcl_min(n, SAMPLE) / SAMPLE_RUNS;
    size_t frequent = 0;
    clear_slots(f);
    for (size_t run = 0; run < SAMPLE_RUNS; run++)
        if (!count_values(f, raw + (n - length) / (SAMPLE_RUNS - 1) * run * width, length, width, most))
            return 0;
    for (size_t i = 0; i < SLOTS; i++)
        frequent += f->slots[i].count >= length * SAMPLE_RUNS / 64 + 4 ? f->slots[i].count : 0;
    return f->distinct <= VCL_LEVELS_MOST || frequent >= length * SAMPLE_RUNS / 8;
}

static int compare_values(const void *a, const void *b)
{
    const struct slot *const x = *(const struct slot *const *)a, *const y = *(const struct slot *const *)b;
    return x->value < y->value ? -1 : x->value > y->value;
}

static int compare_counts(const void *a, const void *b)
{
    const struct slot *const x = *(const struct slot *const *)a, *const y = *(const struct slot *const *)b;
    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    return compare_values(a, b);
}

/* All values where there are few; else those that occur often enough, the most frequent. */
static void choose_palette(struct vcl_palette_finder *f, size_t n, struct vcl_levels *levels)
{
    const size_t least = f->distinct <= VCL_LEVELS_MOST ? 1 : 2 + (n >> (4 * levels->width + 5));
    unsigned count = 0;
    for (size_t i = 0; i < SLOTS; i++)
        if (f->slots[i].count >= least)
            f->sorted[count++] = &f->slots[i];
    qsort(f->sorted, count, sizeof *f->sorted, compare_counts);
    count = count < VCL_LEVELS_MOST ? count : VCL_LEVELS_MOST;
    qsort(f->sorted, count, sizeof *f->sorted, compare_values);
    levels->count = count;
    for (size_t i = 0; i < SLOTS; i++)
        f->slots[i].code = (uint8_t)count;
    for (unsigned i = 0; i < count; i++) {
        uint8_t value[8];
        vcl_store64(value, f->sorted[i]->value);
        memcpy(levels->palette + i * levels->width, value, levels->width);
        f->slots[f->sorted[i] - f->slots].code = (uint8_t)i;
    }
}

/* About the bytes that codes and literals take, these half of what they are. */
static uint64_t palette_bytes(const struct vcl_palette_finder *f, size_t n, const struct vcl_levels *levels)
{
    uint32_t counts[256] = { 0 }, aside = (uint32_t)n;
    uint16_t frequencies[256];
    for (unsigned i = 0; i < levels->count; i++) {
        counts[i] = f->sorted[i]->count;
        aside -= counts[i];
    }
    counts[levels->count] = aside;
    vcl_rans_normalise(counts, frequencies);
    return vcl_rans_cost(counts, frequencies) / 8 + aside * (uint64_t)levels->width / 2;
}

int vcl_palette_find(struct vcl_palette_finder *finder, const uint8_t *raw, size_t n, int literals,
                     size_t most, struct vcl_levels *levels)
{
    const unsigned distinct = literals ? MOST_DISTINCT : VCL_LEVELS_MOST;
    levels->group = levels->first = 0;
    levels->has_offsets = 0;
    if (levels->width == 1 || n < SAMPLE_RUNS || !looks_few(finder, raw, n, levels->width, distinct))
        return 0;
    clear_slots(finder);
    if (!count_values(finder, raw, n, levels->width, distinct))
        return 0;
    choose_palette(finder, n, levels);
    if (levels->count < VCL_LEVELS_MOST) /* blocks may be of fewer levels than the whole */
        return levels->count > 0;
    return palette_bytes(finder, n, levels) < most;
}

size_t vcl_palette_code(const struct vcl_palette_finder *finder, const struct vcl_levels *levels,
                        const uint8_t *raw, size_t n, uint8_t *codes, uint8_t *literals)
{
    const unsigned width = levels->width;
    size_t aside = 0;
    for (size_t i = 0; i < n; i++) {
        const struct slot *const slot =
            finder->slots + find_slot(finder->slots, load_value(raw + i * width, width));
        codes[i] = slot->count ? slot->code : (uint8_t)levels->count;
        if (codes[i] == levels->count)
            memcpy(literals + aside++ * width, raw + i * width, width);
    }
    return aside;
}
