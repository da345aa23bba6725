/* vcllm_file.h - model files: one .safetensors or .gguf file, or a folder of safetensors shards, read; and
 * safetensors files written.
 *
 * A model is a list of named tensors in one file or several.  This header finds and reads their bytes,
 * writes new files, and leads from a tensor of a compressed model to the frame that has its values; what
 * is in a frame is the business of vcllm.h.  Compressed models are valid safetensors files themselves,
 * whose tensors are the frames (docs/format.md, "Container").
 *
 *     struct vcl_error error;
 *     struct vcl_model *model;
 *     if (vcl_model_open("in.safetensors", NULL, &model, &error))
 *         return fprintf(stderr, "%s\n", error.text), 1;
 *
 *     const struct vcl_entry *entry = vcl_model_find(model, "weight"), *stored;
 *     struct vcl_info info = { .size = sizeof info };
 *     if (!entry || vcl_model_resolve(model, entry, &info, &stored, &error))
 *         return 1;
 *     uint64_t bytes;
 *     vcl_tensor_size(&info.tensor, NULL, &bytes);
 *     void *values = malloc(bytes), *frame = malloc(stored->bytes);
 *     if (!values || !frame)
 *         return 1;
 *     if (info.frame_bytes == 0) {
 *         vcl_model_read(model, entry, 0, values, bytes, &error);
 *     } else {
 *         vcl_model_read(model, stored, 0, frame, stored->bytes, &error);
 *         vcl_decode_buffer(ctx, frame, stored->bytes, values, bytes);
 *     }
 *
 *     struct vcl_entry copy = { "weight", info.tensor, 0, bytes, 0 };
 *     struct vcl_layout layout;
 *     struct vcl_writer *writer;
 *     vcl_layout_init(&layout);
 *     layout.count = 1, layout.entries = &copy;
 *     if (vcl_writer_create("out.safetensors", &layout, 0, &writer, &error))
 *         return fprintf(stderr, "%s\n", error.text), 1;
 *     struct vcl_sink sink = vcl_writer_sink(writer);
 *     sink.write(sink.user, 0, values, bytes);
 *     if (vcl_writer_end(writer, bytes, &error) == VCL_OK)
 *         vcl_writer_commit(writer, &error);
 *     else
 *         vcl_writer_abandon(writer);
 *     vcl_model_close(model);
 *
 * Conventions, besides those of vcllm.h
 * - Sizes and offsets are in bytes; shards, entries and pairs are numbered from 0.  Names, keys and values
 *   are UTF-8, paths whatever the system takes; both end with a NUL.
 * - Files are read by the format's rules, strictly: what breaks one is refused, nothing is repaired.  No
 *   more is held than the limits below allow, whatever a file says of itself.
 * - Errors: calls that can fail return a status and take a struct vcl_error, which may be NULL and is filled
 *   on failure alone.  VCL_E_IO: the system refused, and its words are in the text.  VCL_E_FORMAT,
 *   VCL_E_TRUNCATED, VCL_E_CHECKSUM: the file breaks a rule, ends early, was altered; VCL_E_LIMIT: it is
 *   beyond a limit.  VCL_E_ARGUMENT: what the caller asks for contradicts itself or the file.
 *   VCL_E_MEMORY.  Any call that opens, reads or writes may fail with these; what else one says is with it.
 * - Pointers may be NULL where it says so and nowhere else; *model and *writer are NULL after a failure.
 * - Ownership: what a model returns (entries, names, texts) belongs to it and lives until vcl_model_close;
 *   what is given to a call is copied or no longer needed when it returns, but for the handle of
 *   vcl_model_source.  Texts and bytes that come with "free() it" are malloc's; the memory hooks of
 *   vcl_options have no say here.
 * - Threads: a model may be read by several threads at once; it does not change.  A writer belongs to one
 *   thread, except its sink, which may be written from several.
 * - Names appear on disk only when they are whole: files are written under a temporary name beside their
 *   place (they end in .tmp; what a killed program left of one is swept by the next that writes there),
 *   synced, and renamed. */
#ifndef VCLLM_FILE_H
#define VCLLM_FILE_H

#include "vcllm.h"

#ifdef __cplusplus
extern "C" {
#endif

struct vcl_error {
    enum vcl_status status; /* the one the call returned */
    char text[1024];        /* one line: file, tensor and offset where they apply; UTF-8, cut if too long */
};

/* ---- reading --------------------------------------------------------------------------------- */

struct vcl_entry {
    const char *name; /* UTF-8, NUL-terminated; a name with a NUL inside is refused */
    struct vcl_tensor tensor;
    uint64_t offset; /* of its first byte in its shard's file */
    uint64_t bytes;  /* as many as tensor takes; a GGUF file's quantised tensors take less there:
                      * vcl_model_stored */
    size_t shard;    /* below vcl_model_shards */
};

/* With VCL_IO_MMAP, pages are given back while reading, and a file found shorter than it was is
 * VCL_E_IO as with VCL_IO_PREAD; but one that is cut short during the very copy raises SIGBUS. */
enum vcl_io { VCL_IO_PREAD, VCL_IO_MMAP };

struct vcl_model_options {
    size_t size;           /* of this struct; vcl_model_options_init sets it */
    enum vcl_io io;        /* default VCL_IO_PREAD */
    uint64_t header_limit; /* most bytes of one shard's header, and of the index; default 16 MiB, at most
                              100,000,000 */
};
VCL_API void vcl_model_options_init_sized(struct vcl_model_options *options, size_t size);
#define vcl_model_options_init(options) vcl_model_options_init_sized(options, sizeof *(options))

struct vcl_model;

/* path: a .safetensors file; a .gguf file; a folder with model.safetensors.index.json or, without one, with
 * model.safetensors or, without that, with other *.safetensors files (all of them but hidden ones); or
 * an index file itself (NAME.safetensors.index.json).  Shards come in the order of their names, and
 * their files stay open. options NULL = defaults. Checks every shard's header, that no two shards hold
 * the same name, and that the index, where there is one, names exactly the tensors there are, each in
 * its shard.  Memory: 16 bytes per header byte at most, of a GGUF file 20.
 *
 * Which of the two formats a file has, its first bytes say.  A GGUF file (version 2 or 3, one part) is one
 * shard; its tensors have the dims that PyTorch would show, slowest first; quantised ones are F32, those of
 * MXFP4 BF16, and have exactly the values that ggml gives them (docs/format.md, "GGUF"), decoded as they are
 * read. */
VCL_API enum vcl_status vcl_model_open(const char *path, const struct vcl_model_options *options,
                                       struct vcl_model **model, struct vcl_error *error);
VCL_API void vcl_model_close(struct vcl_model *model); /* NULL is fine */

/* How many tensors there are in all shards. */
VCL_API size_t vcl_model_count(const struct vcl_model *model);
/* Entries run shard by shard, in each by offset (empty tensors in header order).  NULL beyond the last. */
VCL_API const struct vcl_entry *vcl_model_entry(const struct vcl_model *model, size_t index);
/* The entry of that name, NULL if there is none; log2(count) comparisons. */
VCL_API const struct vcl_entry *vcl_model_find(const struct vcl_model *model, const char *name);

/* How many files there are, one or more; and of one its path as it can be opened, its name without folders
 * and its length.  NULL or 0 for a shard beyond the last, here and below. */
VCL_API size_t vcl_model_shards(const struct vcl_model *model);
VCL_API const char *vcl_model_shard_path(const struct vcl_model *model, size_t shard);
VCL_API const char *vcl_model_shard_name(const struct vcl_model *model, size_t shard);
VCL_API uint64_t vcl_model_shard_bytes(const struct vcl_model *model, size_t shard);
/* The shard's header text (JSON, as in the file) and its length, padding included.  Of a GGUF file: the
 * canonical one of a safetensors file with the same entries and metadata. */
VCL_API const char *vcl_model_shard_header(const struct vcl_model *model, size_t shard, size_t *length);
/* The index file's path, NULL if there is none. */
VCL_API const char *vcl_model_index_path(const struct vcl_model *model);
/* 1 if the path given was a folder or an index file. */
VCL_API int vcl_model_is_folder(const struct vcl_model *model);

/* Value of a key of the shard's __metadata__, NULL if absent; and pair number i in file order, 0 beyond
 * the last.  Of a GGUF file: the strings, and numbers as text; vcl_model_value has the lists as well. */
VCL_API const char *vcl_model_metadata(const struct vcl_model *model, size_t shard, const char *key);
VCL_API int vcl_model_metadata_at(const struct vcl_model *model, size_t shard, size_t i, const char **key,
                                  const char **value);
/* 1 if this shard is compressed (its metadata has vcllm.hash). */
VCL_API int vcl_model_is_compressed(const struct vcl_model *model, size_t shard);

/* The type that an entry is stored in ("F32"; "Q4_1") and its bytes in the file. */
VCL_API const char *vcl_model_stored(const struct vcl_model *model, const struct vcl_entry *entry,
                                     uint64_t *bytes);

/* Reads bytes offset to offset+n-1 of the tensor: VCL_E_ARGUMENT where it has not so many, VCL_E_IO, with
 * file and offset, where reading failed or the file has become shorter.  Plain and compressed models alike:
 * of a compressed one these are the frame's bytes. */
VCL_API enum vcl_status vcl_model_read(const struct vcl_model *model, const struct vcl_entry *entry,
                                       uint64_t offset, void *dst, size_t n, struct vcl_error *error);
/* The same as a source for vcl_encode and vcl_decode; `handle` must live as long as the source is used.
 * The caller sets model and entry; error keeps the first failure, of whichever thread (status VCL_OK:
 * none). */
struct vcl_entry_handle {
    const struct vcl_model *model;
    const struct vcl_entry *entry;
    struct vcl_error error;
};
VCL_API struct vcl_source vcl_model_source(struct vcl_entry_handle *handle);

/* What a GGUF file's metadata say, with its types: one value, or a list of values of one type, taken one
 * after the other.
 *
 *     struct vcl_value value;
 *     struct vcl_item item;
 *     if (vcl_model_value(model, 0, "tokenizer.ggml.tokens", &value))
 *         while (vcl_value_next(&value, &item))
 *             printf("%.*s\n", (int)item.length, item.text);                                       */
enum vcl_item_kind { VCL_ITEM_INTEGER, VCL_ITEM_REAL, VCL_ITEM_FLAG, VCL_ITEM_TEXT };
struct vcl_item {
    enum vcl_item_kind kind;
    int64_t integer;  /* INTEGER; FLAG: 0 or 1 */
    double real;      /* REAL, to which an integer beyond 63 bits belongs */
    const char *text; /* TEXT: any bytes, no NUL behind them; as long as the model is open */
    size_t length;
};
struct vcl_value {
    int is_list;
    uint64_t left;           /* values not taken yet */
    uint32_t type;           /* GGUF's number */
    const unsigned char *at; /* the library's */
};
/* 0: the shard has no such key, or is no GGUF file. */
VCL_API int vcl_model_value(const struct vcl_model *model, size_t shard, const char *key,
                            struct vcl_value *value);
/* Key number i, in order of the keys' bytes, and what it says; 0 beyond the last.  *key: as long as the model
 * is open. */
VCL_API int vcl_model_value_at(const struct vcl_model *model, size_t shard, size_t i, const char **key,
                               struct vcl_value *value);
/* The next one; 0: there is none. */
VCL_API int vcl_value_next(struct vcl_value *value, struct vcl_item *item);

/* The hash over names, dtypes, shapes, offsets and metadata that a compressed shard carries
 * (docs/format.md): VCL_E_CHECKSUM where it is absent or another, or where the text, but for the
 * padding, is not the canonical header. */
VCL_API enum vcl_status vcl_model_check_hash(const struct vcl_model *model, size_t shard,
                                             struct vcl_error *error);

/* ---- compressed models ----------------------------------------------------------------------- */

/* What a compressed entry holds, from its frame's header: info, and in *target (target may be NULL) for an
 * alias the entry it leads to, else the entry itself.  VCL_E_FORMAT where it is no frame, or where an alias
 * leads nowhere, to another alias, out of its shard, or to other dtype or shape; else as vcl_peek. */
VCL_API enum vcl_status vcl_model_frame(const struct vcl_model *model, const struct vcl_entry *entry,
                                        struct vcl_info *info, const struct vcl_entry **target,
                                        struct vcl_error *error);

/* What an entry of any model holds, and where.  Of a plain entry: info->tensor, everything else of info 0,
 * and *stored is entry.  Of a compressed one (info->frame_bytes is not 0): info of the frame that has the
 * values, *stored the entry whose bytes that is; for an alias both are its target's.  Fails as
 * vcl_model_frame does. */
VCL_API enum vcl_status vcl_model_resolve(const struct vcl_model *model, const struct vcl_entry *entry,
                                          struct vcl_info *info, const struct vcl_entry **stored,
                                          struct vcl_error *error);

/* Does what a compressed shard's metadata say of the original hold together?  vcllm.header, where it is
 * there, must be a header of exactly the tensors that the frames hold and of the other metadata; vcllm.files
 * an object of plain file names, none of them a shard's, and hashes.  VCL_E_FORMAT where one does not, or
 * what vcl_model_frame says of a frame.  Without it, decompressing may fail where every frame is good. */
VCL_API enum vcl_status vcl_model_check_original(const struct vcl_model *model, size_t shard,
                                                 struct vcl_error *error);

/* ---- writing --------------------------------------------------------------------------------- */

struct vcl_pair {
    const char *key, *value;
};

/* One safetensors file, written beside its place under a temporary name and renamed into it by
 * vcl_writer_commit; nothing is left behind otherwise (vcl_writer_abandon; for signals,
 * vcl_writer_temporary names the file to unlink). */
struct vcl_writer;

struct vcl_layout {
    size_t size; /* of this struct; vcl_layout_init sets it */
    size_t count;
    const struct vcl_entry *entries; /* name, tensor, bytes, in file order.  Other fields are ignored. */
    size_t metadata_count;
    const struct vcl_pair *metadata;
    /* header not NULL: this text, header_length bytes, is the header, to the letter (the file that
     * decompress restores); it must agree with entries. */
    const char *header;
    size_t header_length;
    /* 1: entries are frames (U8, 1-D; `tensor` is not looked at) whose `bytes` are upper bounds;
     * vcl_writer_end gives the size, data begin at a multiple of 64, and commit adds vcllm.hash. */
    int frames;
    /* With frames: characters of header kept for vcl_writer_add_metadata; a pair takes its JSON text,
     * quotes, escapes, colon and a comma included. */
    size_t late_bytes;
    /* 0: VCL_E_IO if the file is there, at creation or at commit.  1: a regular file or link is
     * replaced; a folder, device or pipe never. */
    int overwrite;
};
VCL_API void vcl_layout_init_sized(struct vcl_layout *layout, size_t size);
#define vcl_layout_init(layout) vcl_layout_init_sized(layout, sizeof *(layout))

/* Checks names and sizes, creates the temporary file and makes sure the disk has room for `disk_bytes`
 * (0 = do not check; VCL_E_IO with both figures); where sizes are known (not `frames`) the room is reserved
 * if the file system can.  The layout is copied.  VCL_E_ARGUMENT: a layout that contradicts itself, a size
 * that is not its tensor's; VCL_E_FORMAT: names or keys that are there twice or are no UTF-8, a header that
 * is not the entries'; VCL_E_LIMIT: a file beyond 63 bits or a header beyond 100,000,000 bytes. */
VCL_API enum vcl_status vcl_writer_create(const char *path, const struct vcl_layout *layout,
                                          uint64_t disk_bytes, struct vcl_writer **writer,
                                          struct vcl_error *error);
/* Entries are written one after the other: writes at any offsets of the entry through the sink, then
 * end with the size, after which the sink writes the next entry.  VCL_E_ARGUMENT where that is not the
 * layout's, or with `frames` above it, or there is no entry left.  Without `frames`, bytes that were not
 * written are 0. */
VCL_API struct vcl_sink vcl_writer_sink(struct vcl_writer *writer);
VCL_API enum vcl_status vcl_writer_end(struct vcl_writer *writer, uint64_t bytes, struct vcl_error *error);
/* VCL_E_SPACE where late_bytes was too small, VCL_E_ARGUMENT where the key is there already. */
VCL_API enum vcl_status vcl_writer_add_metadata(struct vcl_writer *writer, const char *key, const char *value,
                                                struct vcl_error *error);
/* Bytes of tensor data so far: the sum of all sizes given to vcl_writer_end. */
VCL_API uint64_t vcl_writer_bytes(const struct vcl_writer *writer);
/* Why the sink's first failed write failed (file, offset, the system's words); empty if none did.
 * After a failure vcl_writer_end and vcl_writer_commit fail in the same words. */
VCL_API const char *vcl_writer_failure(const struct vcl_writer *writer);
VCL_API const char *vcl_writer_temporary(const struct vcl_writer *writer);
/* Writes the header, cuts the file to its length, fsyncs file and folder, renames.  Frees the writer,
 * also on failure. */
VCL_API enum vcl_status vcl_writer_commit(struct vcl_writer *writer, struct vcl_error *error);
VCL_API void vcl_writer_abandon(struct vcl_writer *writer); /* removes the temporary file; NULL is fine */

/* The header text a file with this layout has when this library writes it (docs/format.md, "Canonical
 * header"), padding included; free() it.  With `frames`, it is that of the upper bounds: as long as the one
 * that will be written.  VCL_E_ARGUMENT with `header`. */
VCL_API enum vcl_status vcl_layout_header(const struct vcl_layout *layout, char **text, size_t *length,
                                          struct vcl_error *error);
/* What vcllm.header holds of the header that a file of this plain layout really had: *kept, free() it; NULL
 * where that is the canonical one, and nothing need be kept. */
VCL_API enum vcl_status vcl_layout_keep_header(const struct vcl_layout *layout, const char *header,
                                               size_t length, char **kept, struct vcl_error *error);
/* The way back: *header, free() it, is not parsed yet.  VCL_E_FORMAT where kept is nothing that could have
 * been kept. */
VCL_API enum vcl_status vcl_layout_restore_header(const struct vcl_layout *layout, const char *kept,
                                                  char **header, size_t *length, struct vcl_error *error);

/* Writes a small file the same way: temporary name, fsync, rename. */
VCL_API enum vcl_status vcl_write_file(const char *path, const void *bytes, size_t n, int overwrite,
                                       struct vcl_error *error);
/* Makes the names in a folder durable, as a renamed file's is.  VCL_E_IO where there is no such folder or
 * the disk did not take it; file systems that cannot sync folders, and folders that cannot be read, are
 * left to the system. */
VCL_API enum vcl_status vcl_sync_folder(const char *folder, struct vcl_error *error);
/* Reads a whole file of at most `limit` bytes; free() *bytes.  A NUL byte follows the data, not counted. */
VCL_API enum vcl_status vcl_read_file(const char *path, uint64_t limit, void **bytes, size_t *n,
                                      struct vcl_error *error);
/* Copies a file of any size the same way, and gives XXH3-128 of its bytes as 32 hexadecimal digits and
 * a NUL (hex may be NULL).  to NULL: only the hash. */
VCL_API enum vcl_status vcl_copy_file(const char *from, const char *to, int overwrite, char hex[33],
                                      struct vcl_error *error);

#ifdef __cplusplus
}
#endif
#endif
