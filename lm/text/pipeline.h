/* pipeline.h - the tokenizer's: what tokenizer.json puts around its model, each part read into an empty tokenizer.  A part
 * that is not understood is refused by name (VCL_E_FORMAT). */
#ifndef VCL_RUN_PIPELINE_H
#define VCL_RUN_PIPELINE_H

#include "vocabulary.h"

/* Before the model is read: how texts change, how they are cut, what letters words are made of, and (after
 * that) how tokens are printed. */
enum vcl_status vcl_pipeline_normalizer(struct vcl_tokenizer *tokenizer, struct vcl_error *error);
enum vcl_status vcl_pipeline_pre_tokenizer(struct vcl_tokenizer *tokenizer, struct vcl_error *error);
enum vcl_status vcl_pipeline_decoder(struct vcl_tokenizer *tokenizer, struct vcl_error *error);
/* After the added tokens: which of them are put around every text. */
enum vcl_status vcl_pipeline_post_processor(struct vcl_tokenizer *tokenizer, struct vcl_error *error);

#endif
