/* vocabulary.h - what tokenizer.json says, checked and in tables. */
#ifndef VCL_RUN_VOCABULARY_H
#define VCL_RUN_VOCABULARY_H

#include "bpe.h"
#include "common/fields.h"
#include "rewrite.h"
#include "split.h"

enum { VCL_MOST_AFFIX = 8 };
#define VCL_NO_TOKEN UINT32_MAX

struct vcl_piece {
    char *bytes; /* as printed; NULL: no such token */
    size_t n;
    int added; /* 1: looked for in the text; 2: also special, never printed */
};

/* Tokens looked for in the text before anything else, by first byte: from first[b] to first[b + 1]. */
struct vcl_added_list {
    struct vcl_added {
        char *text; /* of n bytes, without a NUL */
        size_t n;
        uint32_t token;
        int strip_left, strip_right; /* takes the white space beside it along */
    } * items;
    size_t count, first[257];
};

struct vcl_tokenizer {
    char file[4096];
    json_t *root;
    json_t *words;     /* of root: token -> number */
    int bytes_only;    /* words are made of bytes, spelt in the byte alphabet; else of characters */
    int whole_words;   /* a word that is a token is not merged (ignore_merges) */
    int fallback;      /* a character that is no token becomes the tokens of its bytes */
    uint32_t unknown;  /* in place of what has none of these either; VCL_NO_TOKEN: it is left out */
    int fuse_unknown;  /* of neighbours one */
    uint64_t left_out; /* bytes of texts */
    size_t vocab;      /* of pieces */
    struct vcl_piece *pieces;
    uint32_t bytes[256];  /* the token of each byte, or VCL_NO_TOKEN */
    char letters[256][3]; /* and how it is spelt in `words`, with bytes_only */
    struct vcl_rewrites normalizer, prefix,
        decoder;                             /* of texts, of what is between added tokens; of tokens */
    int byte_pieces, fused;                  /* of the decoder: <0x41> is a byte; tokens are joined */
    struct vcl_added_list added, normalized; /* in the text as it is, in what the normalizer makes of it */
    struct vcl_named beyond;                 /* of them those that are no tokens of the model */
    struct vcl_bpe *bpe;
    struct vcl_split *split;
    uint32_t before[VCL_MOST_AFFIX], after[VCL_MOST_AFFIX]; /* tokens put around every text */
    size_t before_count, after_count;
};

/* Fills in an empty tokenizer but for `file`; where it fails, the caller still closes it. */
enum vcl_status vcl_vocabulary_load(struct vcl_tokenizer *tokenizer, size_t vocab, struct vcl_error *error);

#endif
