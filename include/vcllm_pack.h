/* vcllm_pack.h - whole models: compressed, brought back, verified, evaluated.
 *
 * A model in (one .safetensors or .gguf file, or a folder of shards), a model out; what `vcllm compress`,
 * `decompress`, `verify` and `eval` do, without a word on the terminal.
 *
 *     struct vcl_compress_options options;
 *     struct vcl_pack_totals totals = { .size = sizeof totals };
 *     struct vcl_params params;
 *     struct vcl_error error;
 *     vcl_compress_options_init(&options);
 *     vcl_params_init(&params);
 *     params.objective = VCL_OBJECTIVE_MODEL, params.target = 2.9;
 *     options.params = &params;
 *     if (vcl_compress_model("in.safetensors", "small.safetensors", &options, NULL, &totals, &error))
 *         return fprintf(stderr, "%s\n", error.text), 1;
 *     printf("%.4f bits\n", totals.bits);
 *     if (vcl_verify_model("small.safetensors", NULL, NULL, NULL, &error))
 *         return fprintf(stderr, "%s\n", error.text), 1;
 *     if (vcl_decompress_model("small.safetensors", "back.safetensors", NULL, NULL, NULL, &error))
 *         return fprintf(stderr, "%s\n", error.text), 1;
 *
 * Conventions, besides those of vcllm.h and vcllm_file.h
 * - This is a library of its own, libvcllm_pack, on libvcllm: link both.
 * - A file or folder is there whole or not at all: it is written beside its place under another name
 *   (OUTPUT.partial for folders) and renamed.  After a failure nothing is left, but for a folder of which a
 *   shard was finished: its OUTPUT.partial is kept for `resume`.  What fails only once the output is there
 *   says so: file_bytes is missed, or its totals cannot be read.
 * - Every call takes options, hooks, a result and an error; each may be NULL: the defaults, no hooks, nothing
 *   told.  Options are read and hooks called during the call alone; the caller owns everything.
 * - Errors: the status, and in *error the first fault, with file, tensor and offset where they apply.  Hooks
 *   get every fault (struct vcl_hooks, vcllm.h).  VCL_E_ARGUMENT: options that contradict each other or the
 *   model; VCL_E_IO too where the output is there already; VCL_E_RATE: a target that cannot be met;
 *   VCL_E_CODEC: a codec that is missing here; VCL_E_CANCELLED; and what vcllm.h and vcllm_file.h say.
 *   Messages name options as the command line does: --bits, --resume; -f is `overwrite`.
 * - Threads: calls are independent; any number may run at once, each with threads of its own or all with one
 *   pool (vcl_pool_create).  Two that write to the same output fail, but for one. */
#ifndef VCLLM_PACK_H
#define VCLLM_PACK_H

#include "vcllm_file.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- compressing ----------------------------------------------------------------------------- */

struct vcl_compress_options {
    size_t size; /* of this struct; vcl_compress_options_init sets it */
    /* Codec, goal, target and effort of what is coded lossily; NULL: vcl_params_init's, but for
     * VCL_OBJECTIVE_MODEL, which is right for weights.  Goal and target: of the whole for VCL_GOAL_BITS, of
     * every tensor for the others.  columns, col_weight, feedback, nearest and row_floor are set for each
     * tensor, whatever stands here. */
    const struct vcl_params *params;
    int lossless;        /* 1: every tensor is kept exactly.  Default 0 */
    uint64_t file_bytes; /* most bytes of all output files together, in place of the goal, which must be
                          * VCL_GOAL_BITS; 0 (default): no limit */
    /* What is wanted of the tensors whose names match: "REGEX=BITS", "REGEX=snr:DB", "REGEX=error:E",
     * "REGEX=lossless" or "REGEX=copy", split at the last '='.  The first that matches wins; others go by
     * the rules of README, "What is kept exact".  PCRE2's expressions, unanchored. */
    const char *const *rules;
    size_t rule_count;
    double row_floor; /* dB that each row of an embedding keeps against itself, 0 (none) to 60; below 0
                       * (default): 10 where rows differ much in size */
    unsigned threads; /* 0 (default) = as many as CPUs this process may use */
    int overwrite;    /* 1: an output that is there is replaced.  Default 0 */
    int resume;       /* 1: a folder that was begun, with the same options, is continued.  Default 0 */
    enum vcl_io io;
    uint64_t header_limit; /* as in vcl_model_options; 0 (default): its default */
    struct vcl_pool *pool; /* as in vcl_options, in place of `threads`; NULL (default): the call's own */
};
VCL_API void vcl_compress_options_init_sized(struct vcl_compress_options *options, size_t size);
#define vcl_compress_options_init(options) vcl_compress_options_init_sized(options, sizeof *(options))

/* Of a compressed model, from its headers; a tied tensor's values count once. */
struct vcl_pack_totals {
    size_t size; /* of this struct, set by the caller */
    uint64_t tensors, lossy, exact, tied;
    uint64_t values, lossy_values, lossy_bytes;
    uint64_t raw_bytes, file_bytes; /* of the tensors uncompressed, and of all files with tensors */
    double bits;                    /* 8 x lossy_bytes / lossy_values; NAN where nothing is lossy */
    double file_bits;               /* 8 x file_bytes / values */
    double worst_snr;               /* of the lossy tensors, in dB; INFINITY where there is none */
    /* Of the tensors coded in this call: whose target is missed, and which are all zeros by it. */
    uint64_t missed, zero;
};

/* Every tensor gets the same rate unless a rule says otherwise: sharing out bits by what the model predicts,
 * --allocate, and --imatrix are the command line's.  Memory does not grow with the model. */
VCL_API enum vcl_status vcl_compress_model(const char *input, const char *output,
                                           const struct vcl_compress_options *options,
                                           const struct vcl_hooks *hooks, struct vcl_pack_totals *totals,
                                           struct vcl_error *error);

/* ---- bringing back and verifying ------------------------------------------------------------- */

struct vcl_decompress_options {
    size_t size;          /* of this struct; vcl_decompress_options_init sets it */
    enum vcl_dtype dtype; /* of all float tensors; VCL_DTYPE_COUNT (default): as they were */
    const char *decoder;  /* libavcodec's name; NULL = the first that works */
    unsigned threads;     /* these as above; overwrite: a folder only where vcllm wrote all that is in it */
    int overwrite;
    enum vcl_io io;
    uint64_t header_limit;
    struct vcl_pool *pool;
};
VCL_API void vcl_decompress_options_init_sized(struct vcl_decompress_options *options, size_t size);
#define vcl_decompress_options_init(options) vcl_decompress_options_init_sized(options, sizeof *(options))

struct vcl_decompressed {
    size_t size;      /* of this struct, set by the caller */
    uint64_t tensors; /* written */
    uint64_t bytes;   /* of them */
};

/* What was kept exactly comes back to the byte; a file compressed with `lossless` is the same file. */
VCL_API enum vcl_status vcl_decompress_model(const char *input, const char *output,
                                             const struct vcl_decompress_options *options,
                                             const struct vcl_hooks *hooks, struct vcl_decompressed *result,
                                             struct vcl_error *error);

struct vcl_verify_options {
    size_t size; /* of this struct; vcl_verify_options_init sets it */
    const char *decoder;
    unsigned threads;
    enum vcl_io io;
    uint64_t header_limit;
    struct vcl_pool *pool;
};
VCL_API void vcl_verify_options_init_sized(struct vcl_verify_options *options, size_t size);
#define vcl_verify_options_init(options) vcl_verify_options_init_sized(options, sizeof *(options))

struct vcl_verified {
    size_t size;         /* of this struct, set by the caller */
    int compressed;      /* 0: there are no checksums, only the structure was looked at */
    uint64_t tensors;    /* that were decoded, or would have been */
    uint64_t side_files; /* whose hashes were compared */
    uint64_t faults;
};

/* Every checksum there is, every tile decoded; goes on after a fault, and hooks->fault gets each.  With a
 * fault the status is the first one's, VCL_E_CHECKSUM, say; *result is filled then, too. */
VCL_API enum vcl_status vcl_verify_model(const char *input, const struct vcl_verify_options *options,
                                         const struct vcl_hooks *hooks, struct vcl_verified *result,
                                         struct vcl_error *error);

/* ---- evaluating ------------------------------------------------------------------------------ */

struct vcl_evaluate_options {
    size_t size;      /* of this struct; vcl_evaluate_options_init sets it */
    const char *text; /* UTF-8, encoded by the model's tokenizer.json; or NULL, and tokens */
    size_t text_bytes;
    const uint32_t *tokens;
    size_t token_count;
    const char *baseline; /* the folder of a model of the same vocabulary; NULL (default): none */
    size_t context;       /* tokens a window reads; 0 (default) = the model's context */
    size_t stride;        /* from window to window; 0 (default) = context.  A later window counts its last
                           * `stride` predictions */
    size_t windows;       /* only so many, spread evenly over the text; 0 (default) = all */
    uint64_t memory;      /* bytes of a compressed model's matrices that may be kept decoded; UINT64_MAX
                           * (default): what products read as it is coded stays so, all else is decoded */
    unsigned threads;     /* as above */
    struct vcl_pool *pool;
};
VCL_API void vcl_evaluate_options_init_sized(struct vcl_evaluate_options *options, size_t size);
#define vcl_evaluate_options_init(options) vcl_evaluate_options_init_sized(options, sizeof *(options))

/* Over the predictions, with its standard error, of which the windows are the sample: NAN for one window. */
struct vcl_mean {
    double mean, error;
};

struct vcl_evaluation {
    size_t size; /* of this struct, set by the caller */
    uint64_t context, stride, windows;
    uint64_t tokens;            /* predictions counted */
    struct vcl_mean perplexity; /* exp(nll) */
    struct vcl_mean nll;        /* nats a token */
    /* Against the baseline, NAN without one. */
    struct vcl_mean baseline_perplexity;
    struct vcl_mean difference; /* of the two nll, window by window */
    struct vcl_mean kl;         /* KL(baseline || model), nats a token */
    struct vcl_mean same_top;   /* share of the predictions whose likeliest token is the baseline's */
    double kl_median, kl_99;
};

/* model: a folder with config.json (LLaMA, Mistral, GPT-2 or GPT-NeoX), compressed or not.  The same figures
 * for any number of threads.  hooks->cancel is asked after each window.  VCL_E_CODEC where this build has no
 * PCRE2 or utf8proc and the tokenizer needs it. */
VCL_API enum vcl_status vcl_evaluate_model(const char *model, const struct vcl_evaluate_options *options,
                                           const struct vcl_hooks *hooks, struct vcl_evaluation *result,
                                           struct vcl_error *error);

#ifdef __cplusplus
}
#endif
#endif
