/* convert.h - the verb convert: a GGUF file to a Hugging Face folder, part by part. */
#ifndef VCL_CONVERT_H
#define VCL_CONVERT_H

#include "cli.h"
#include "convert/converted.h"

/* ---- metadata.c: what the file says ---------------------------------------------------------- */

/* After the first fault, which has been said, `code` is an exit code and every read gives its `absent`. */
struct vcl_metadata {
    const struct vcl_model *model;
    const char *path, *architecture;
    int code;
};

void vcl_metadata_open(struct vcl_metadata *metadata, const struct vcl_model *model);
/* A key that begins with '.' is one of the architecture: ".block_count" is "llama.block_count".
 * absent: -1 = it must be there. */
int64_t vcl_metadata_integer(struct vcl_metadata *metadata, const char *key, int64_t low, int64_t high,
                             int64_t absent);
double vcl_metadata_real(struct vcl_metadata *metadata, const char *key, double low, double high,
                         double absent);
int vcl_metadata_flag(struct vcl_metadata *metadata, const char *key, int absent);
/* NULL: it is not there.  Valid as long as the model is open. */
const char *vcl_metadata_text(struct vcl_metadata *metadata, const char *key);
/* A list of `kind`; its length. */
size_t vcl_metadata_list(struct vcl_metadata *metadata, const char *key, enum vcl_item_kind kind, int needed,
                         struct vcl_value *value);
/* What a key that is there says, for a message. */
const char *vcl_metadata_words(const struct vcl_metadata *metadata, const char *key);
void vcl_metadata_fault(struct vcl_metadata *metadata, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* ---- convert_names.c: what tensors become ---------------------------------------------------- */

/* What shapes of tensors are made of, as the keys say it (convert_config.c). */
enum vcl_size {
    VCL_SIZE_NONE,
    VCL_SIZE_VOCAB,
    VCL_SIZE_WIDTH,
    VCL_SIZE_QUERIES, /* heads times the dimensions of one */
    VCL_SIZE_KEYS,
    VCL_SIZE_FUSED, /* queries, keys and values, one below the other */
    VCL_SIZE_FFN,
    VCL_SIZE_CONTEXT,
    VCL_SIZES
};

struct vcl_convert {
    const char *input, *output;
    enum vcl_dtype dtype; /* of all float tensors; VCL_DTYPE_COUNT: each as it is presented */
    struct vcl_reading reading;
    int force, quiet, json;
    struct vcl_model *model;
    struct vcl_metadata metadata;
    uint64_t layers, heads, kv_heads, head_dim, sizes[VCL_SIZES];
    int tied; /* the head is the embedding */
    struct vcl_converted *tensors;
    size_t count;
    json_t *sides; /* file names to what they hold */
};

/* All return exit codes, with what is wrong said. */
/* Every tensor there must be is, in its shape, and none besides. */
int vcl_convert_names(struct vcl_convert *job);
/* ---- convert_keys.c: no key is left out that changes the model */
int vcl_convert_keys(struct vcl_convert *job);
/* ---- convert_config.c: config.json and generation_config.json */
int vcl_convert_config(struct vcl_convert *job);
/* ---- convert_tokenizer.c: tokenizer.json and tokenizer_config.json */
int vcl_convert_tokenizer(struct vcl_convert *job);
/* ---- convert_weights.c: model.safetensors */
int vcl_convert_weights(struct vcl_convert *job, const char *path);

#endif
