/* bpe.c - merges by rank, leftmost first, with a heap: a word of a million letters takes no million squared.
 *
 * Pairs lie in an open hash table.  A word is a list of symbols linked both ways; the heap holds the pairs
 * that can merge, and one whose symbols have changed since is passed over. */
#include <stdlib.h>

#include "bpe.h"

struct merge {
    uint64_t pair;         /* left << 32 | right */
    uint32_t merged, rank; /* rank counts from 1; 0: the place is empty */
};

struct vcl_bpe {
    struct merge *table;
    size_t mask;
    uint32_t count, room;
};

struct vcl_bpe_symbol {
    uint32_t token;
    int32_t left, right; /* -1: none */
};

struct vcl_bpe_pair {
    uint32_t rank, merged;
    int32_t at;
    uint32_t left, right; /* tokens when it was found */
};

/* ---- the table ------------------------------------------------------------------------------- */

struct vcl_bpe *vcl_bpe_create(size_t merges)
{
    struct vcl_bpe *bpe = calloc(1, sizeof *bpe);
    size_t places = 16;
    while (places < 2 * merges)
        places *= 2;
    if (bpe) {
        bpe->table = calloc(places, sizeof *bpe->table);
        bpe->mask = places - 1;
        bpe->room = (uint32_t)merges;
    }
    if (bpe && bpe->table)
        return bpe;
    vcl_bpe_destroy(bpe);
    return NULL;
}

void vcl_bpe_destroy(struct vcl_bpe *bpe)
{
    if (bpe)
        free(bpe->table);
    free(bpe);
}

static struct merge *find(const struct vcl_bpe *bpe, uint32_t left, uint32_t right)
{
    const uint64_t pair = (uint64_t)left << 32 | right;
    size_t place = (size_t)((pair * 0x9E3779B97F4A7C15u) >> 20) & bpe->mask; /* 2^64 / golden ratio */
    while (bpe->table[place].rank && bpe->table[place].pair != pair)
        place = (place + 1) & bpe->mask;
    return &bpe->table[place];
}

int vcl_bpe_add(struct vcl_bpe *bpe, uint32_t left, uint32_t right, uint32_t merged)
{
    struct merge *merge = find(bpe, left, right);
    if (merge->rank || bpe->count == bpe->room)
        return 0;
    *merge = (struct merge){ (uint64_t)left << 32 | right, merged, ++bpe->count };
    return 1;
}

/* ---- the heap -------------------------------------------------------------------------------- */

static int before(const struct vcl_bpe_pair *a, const struct vcl_bpe_pair *b)
{
    return a->rank != b->rank ? a->rank < b->rank : a->at < b->at;
}

static void push(struct vcl_bpe_pair *heap, size_t *count, struct vcl_bpe_pair pair)
{
    size_t at = (*count)++;
    for (; at && before(&pair, &heap[(at - 1) / 2]); at = (at - 1) / 2)
        heap[at] = heap[(at - 1) / 2];
    heap[at] = pair;
}

static struct vcl_bpe_pair pop(struct vcl_bpe_pair *heap, size_t *count)
{
    const struct vcl_bpe_pair first = heap[0], last = heap[--*count];
    size_t at = 0, child;
    while ((child = 2 * at + 1) < *count) {
        if (child + 1 < *count && before(&heap[child + 1], &heap[child]))
            child++;
        if (!before(&heap[child], &last))
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = last;
    return first;
}

/* ---- a word ---------------------------------------------------------------------------------- */

/* The pair of a symbol and the one to its right, if it merges.  Each merge adds two pairs at most and takes a
 * symbol away, so that 3 n places are enough. */
static void offer(const struct vcl_bpe *bpe, struct vcl_bpe_space *space, size_t *count, int32_t at)
{
    const struct vcl_bpe_symbol *s = space->symbols;
    if (at < 0 || s[at].right < 0)
        return;
    const uint32_t left = s[at].token, right = s[s[at].right].token;
    const struct merge *merge = find(bpe, left, right);
    if (merge->rank)
        push(space->heap, count, (struct vcl_bpe_pair){ merge->rank, merge->merged, at, left, right });
}

static void apply(const struct vcl_bpe *bpe, struct vcl_bpe_space *space, size_t *count,
                  const struct vcl_bpe_pair *pair)
{
    struct vcl_bpe_symbol *s = space->symbols;
    const int32_t right = s[pair->at].right;
    if (s[pair->at].token != pair->left || right < 0 || s[right].token != pair->right)
        return;
    s[pair->at].token = pair->merged;
    s[pair->at].right = s[right].right;
    s[right].token = UINT32_MAX; /* gone: no pair's left token */
    if (s[right].right >= 0)
        s[s[right].right].left = pair->at;
    offer(bpe, space, count, s[pair->at].left);
    offer(bpe, space, count, pair->at);
}

static int make_room(struct vcl_bpe_space *space, size_t n)
{
    if (n <= space->room)
        return 1;
    if (n > INT32_MAX)
        return 0;
    vcl_bpe_release(space);
    space->symbols = malloc(n * sizeof *space->symbols);
    space->heap = malloc(3 * n * sizeof *space->heap);
    space->room = space->symbols && space->heap ? n : 0;
    return space->room > 0;
}

void vcl_bpe_release(struct vcl_bpe_space *space)
{
    free(space->symbols);
    free(space->heap);
    *space = (struct vcl_bpe_space){ 0 };
}

size_t vcl_bpe_merge(const struct vcl_bpe *bpe, struct vcl_bpe_space *space, uint32_t *tokens, size_t n)
{
    size_t count = 0, left = 0;
    if (n < 2)
        return n;
    if (!make_room(space, n))
        return SIZE_MAX;
    for (size_t i = 0; i < n; i++)
        space->symbols[i] =
            (struct vcl_bpe_symbol){ tokens[i], (int32_t)i - 1, i + 1 < n ? (int32_t)i + 1 : -1 };
    for (size_t i = 0; i + 1 < n; i++)
        offer(bpe, space, &count, (int32_t)i);
    while (count) {
        const struct vcl_bpe_pair pair = pop(space->heap, &count);
        apply(bpe, space, &count, &pair);
    }
    for (int32_t i = 0; i >= 0; i = space->symbols[i].right)
        tokens[left++] = space->symbols[i].token;
    return left;
}
