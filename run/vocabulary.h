/* vocabulary.h - what tokenizer.json says, checked and in tables. */
#ifndef VCL_RUN_VOCABULARY_H
#define VCL_RUN_VOCABULARY_H

#include "bpe.h"
#include "fields.h"
#include "split.h"

enum { VCL_MOST_AFFIX = 8 };

struct vcl_piece {
    char *bytes; /* NULL: no such token */
    size_t n;
    int added; /* 1: matched in the text as it is; 2: also special, never printed */
};

struct vcl_tokenizer {
    char file[4096];
    json_t *root;
    json_t *words;    /* of root: token -> number, in the byte alphabet */
    int whole_words;  /* a word that is a token is not merged (ignore_merges) */
    int prefix_space; /* a space is put before a text that does not begin with one */
    size_t vocab;     /* of pieces */
    struct vcl_piece *pieces;
    uint32_t bytes[256];  /* the token of each byte */
    char letters[256][3]; /* and how it is spelt in `words` */
    uint32_t *added;      /* numbers of added tokens, by first byte: from first[b] to first[b + 1] */
    size_t first[257];
    struct vcl_bpe *bpe;
    struct vcl_split *split;
    uint32_t before[VCL_MOST_AFFIX], after[VCL_MOST_AFFIX]; /* tokens put around every text */
    size_t before_count, after_count;
};

/* Fills in an empty tokenizer but for `file`; where it fails, the caller still closes it. */
enum vcl_status vcl_vocabulary_load(struct vcl_tokenizer *tokenizer, size_t vocab, struct vcl_error *error);

#endif
