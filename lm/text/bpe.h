/* bpe.h - byte-pair encoding: which pairs of tokens merge into which, and in what order. */
#ifndef VCL_RUN_BPE_H
#define VCL_RUN_BPE_H

#include <stddef.h>
#include <stdint.h>

struct vcl_bpe; /* the merges */

struct vcl_bpe *vcl_bpe_create(size_t merges); /* room for so many; NULL: out of memory */
void vcl_bpe_destroy(struct vcl_bpe *bpe);     /* NULL is fine */
/* left and right merge into `merged`; of two pairs the one added first merges first.  0 where the pair is
 * there already. */
int vcl_bpe_add(struct vcl_bpe *bpe, uint32_t left, uint32_t right, uint32_t merged);

/* Memory of one word's merging, grown as needed. */
struct vcl_bpe_space {
    struct vcl_bpe_symbol *symbols;
    struct vcl_bpe_pair *heap;
    size_t room;
};
void vcl_bpe_release(struct vcl_bpe_space *space);
/* Merges n tokens in place and returns how many are left, SIZE_MAX where memory is out.  n log n. */
size_t vcl_bpe_merge(const struct vcl_bpe *bpe, struct vcl_bpe_space *space, uint32_t *tokens, size_t n);

#endif
