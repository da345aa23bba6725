/* io.h - what the files of src/io share: failures, input and output files, JSON, safetensors headers.
 *
 * Order of the floor: fail and json know nothing of files; map (input) and output (temporary file,
 * rename) know nothing of formats; safetensors is text to entries and back, gguf bytes to entries with the
 * help of blocks; shards and writer put these together behind vcllm_file.h. */
#ifndef VCL_IO_H
#define VCL_IO_H

#include "base/common.h"
#include "base/sized.h"
#include "vcllm_file.h"

#define VCL_HEADER_MAX 100000000u /* the format's own limit */

/* Adds bytes of tensor data; 1 where the file, with its header, would end beyond 63 bits. */
static inline int vcl_data_add(uint64_t *total, uint64_t bytes)
{
    return vcl_add(*total, bytes, total) || *total > INT64_MAX - VCL_HEADER_MAX - 8;
}

/* ---- fail.c: messages ------------------------------------------------------------------------ */

/* How a hostile name stands in a message: cut, so that the rest of the message stays. */
#define VCL_NAME "'%.160s'"

/* Fills *error (may be NULL) with "path: message" and returns status.  path may be NULL; %m is errno's
 * text. */
enum vcl_status vcl_fail(struct vcl_error *error, enum vcl_status status, const char *path,
                         const char *format, ...) __attribute__((format(printf, 4, 5)));
enum vcl_status vcl_fail_memory(struct vcl_error *error, const char *path);

/* ---- json.c: a bounded reader ---------------------------------------------------------------- */

/* A position in JSON text.  The first fault stays: after it every call returns 0 and moves nothing. */
struct vcl_json {
    const char *text;
    size_t length, at;
    enum vcl_status status; /* VCL_OK, or the first fault's */
    char fault[256];
};

void vcl_json_fail(struct vcl_json *json, enum vcl_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Steps over spaces and this character. */
int vcl_json_expect(struct vcl_json *json, char c);
/* Before item `index` of an object ('}') or array (']'): 1 if there is one; 0 at the end, which is
 * stepped over. */
int vcl_json_item(struct vcl_json *json, char close, size_t index);
/* A string, decoded, and a NUL: never more bytes than its text with the quotes.  dst NULL: only checked. */
int vcl_json_string(struct vcl_json *json, char *dst);
/* A non-negative integer below 2^63, without fraction and exponent. */
int vcl_json_integer(struct vcl_json *json, uint64_t *value);
/* Any value, checked and ignored. */
void vcl_json_skip(struct vcl_json *json);
/* A fault where anything but white space follows. */
void vcl_json_end(struct vcl_json *json);
/* Bytes of the UTF-8 character at text, of which `left` bytes are there; 0 if it is none. */
size_t vcl_utf8_length(const char *text, size_t left);

/* An object of strings: __metadata__, or the weight_map of an index. */
struct vcl_pairs {
    struct vcl_pair *pair; /* in the order of the file */
    size_t count;
    const struct vcl_pair **by_key; /* sorted */
};
/* Reads one; strings go to *strings, which moves on.  Duplicate keys are a fault.  The caller frees,
 * also then. */
void vcl_json_pairs(struct vcl_json *json, struct vcl_pairs *pairs, char **strings);
/* (Re)builds by_key from pair: VCL_E_MEMORY, or VCL_E_FORMAT with the key that is there twice. */
enum vcl_status vcl_pairs_sort(struct vcl_pairs *pairs, const char **twice);
const char *vcl_pairs_find(const struct vcl_pairs *pairs, const char *key);
void vcl_pairs_free(struct vcl_pairs *pairs);

/* ---- map.c: input files ---------------------------------------------------------------------- */

struct vcl_file {
    int fd; /* -1: not open */
    char *path;
    uint64_t bytes;           /* when it was opened */
    uint8_t *map;             /* NULL: pread */
    _Atomic uint64_t touched; /* bytes of the mapping used since pages were last given back */
};

/* Opens a regular file.  On failure nothing is held. */
enum vcl_status vcl_file_open(struct vcl_file *file, const char *path, enum vcl_io io,
                              struct vcl_error *error);
/* May be called from several threads. */
enum vcl_status vcl_file_read(struct vcl_file *file, uint64_t offset, void *dst, size_t n,
                              struct vcl_error *error);
void vcl_file_close(struct vcl_file *file);

/* ---- output.c: output files ------------------------------------------------------------------ */

struct vcl_output {
    int fd;
    int overwrite;
    char *path, *temporary;
};

/* Creates the temporary file beside path.  On failure nothing is held and nothing is left on disk. */
enum vcl_status vcl_output_create(struct vcl_output *output, const char *path, int overwrite,
                                  struct vcl_error *error);
/* Is there room for `needed` bytes on this disk?  The first `exact` of them are reserved where that can
 * be done. */
enum vcl_status vcl_output_reserve(const struct vcl_output *output, uint64_t needed, uint64_t exact,
                                   struct vcl_error *error);
/* May be called from several threads. */
enum vcl_status vcl_output_write(const struct vcl_output *output, uint64_t offset, const void *src, size_t n,
                                 struct vcl_error *error);
/* Cuts the file to `bytes`, makes it durable and gives it its name.  Either way nothing is held
 * afterwards. */
enum vcl_status vcl_output_commit(struct vcl_output *output, uint64_t bytes, struct vcl_error *error);
void vcl_output_abandon(struct vcl_output *output);

/* ---- safetensors.c: header text and entries -------------------------------------------------- */

#define VCL_HASH_KEY "vcllm.hash"

struct vcl_gguf;

struct vcl_header {
    char *text; /* the JSON, padding included; of a GGUF file that of the same as safetensors */
    size_t length;
    struct vcl_entry *entries; /* by offset */
    size_t count;
    struct vcl_pairs metadata;
    char *strings;         /* all names, keys and values */
    struct vcl_gguf *gguf; /* what only a GGUF file has, else NULL */
};

/* A kind of model file.  shards.c tries them in order; safetensors, the last, takes any file, and says what
 * it looks like where it is none. */
struct vcl_format {
    int (*probe)(const uint8_t *start, size_t n); /* from the first 4 bytes, or all that there are */
    /* Reads and checks the header of an open file.  Whatever it returns, the caller frees the header, which
     * is all zeros before. */
    enum vcl_status (*open)(struct vcl_file *file, size_t shard, uint64_t limit, struct vcl_header *header,
                            struct vcl_error *error);
    /* Bytes of an entry of this header, as it presents them; they are there.  Any thread. */
    enum vcl_status (*read)(struct vcl_file *file, const struct vcl_header *header,
                            const struct vcl_entry *entry, uint64_t offset, void *dst, size_t n,
                            struct vcl_error *error);
};
extern const struct vcl_format vcl_format_safetensors, vcl_format_gguf;

/* From text of a file of file_bytes bytes.  Takes text over, also on failure.  All the
 * format's rules but that names differ, which vcl_names_sort checks. */
enum vcl_status vcl_header_parse(const char *path, char *text, size_t length, uint64_t file_bytes,
                                 size_t shard, struct vcl_header *header, struct vcl_error *error);
void vcl_header_free(struct vcl_header *header);
/* Sorts entries by name.  Returns one that has the same name as another, NULL if there is none. */
const struct vcl_entry *vcl_names_sort(const struct vcl_entry **entries, size_t count);

/* The canonical header text of entries in this order (offsets are their running sum), without padding;
 * free() it.  frames: of U8 tensors of their bytes, whatever `tensor` is. */
enum vcl_status vcl_header_text(const struct vcl_entry *entries, size_t count, int frames,
                                const struct vcl_pair *pairs, size_t pair_count, char **text, size_t *length);
/* vcllm.hash of a header whose offsets are set. */
void vcl_header_hash(const struct vcl_header *header, char hex[33]);
void vcl_hash_hex(XXH128_hash_t hash, char hex[33]);

/* ---- gguf.c ---------------------------------------------------------------------------------- */

void vcl_gguf_free(struct vcl_gguf *gguf); /* NULL is fine */
/* The name of the type that an entry of this header is stored in, and its bytes there. */
const char *vcl_gguf_stored(const struct vcl_header *header, const struct vcl_entry *entry, uint64_t *bytes);
int vcl_gguf_value(const struct vcl_gguf *gguf, const char *name, struct vcl_value *value);
int vcl_gguf_value_at(const struct vcl_gguf *gguf, size_t i, const char **name, struct vcl_value *value);

/* ---- index.c: which files make up a model ---------------------------------------------------- */

struct vcl_paths {
    char **path;
    size_t count;
};
void vcl_paths_free(struct vcl_paths *paths);
/* The *.safetensors files of a folder, by name; model.safetensors alone where it is there. */
enum vcl_status vcl_folder_list(const char *folder, struct vcl_paths *paths, struct vcl_error *error);

struct vcl_index {
    char *path;
    struct vcl_pairs weight_map; /* tensor to shard */
    char *strings;
};
enum vcl_status vcl_index_read(const char *path, uint64_t limit, struct vcl_index *index,
                               struct vcl_error *error);
void vcl_index_free(struct vcl_index *index);
/* The shards' paths, by name, each once. */
enum vcl_status vcl_index_list(const struct vcl_index *index, struct vcl_paths *paths,
                               struct vcl_error *error);
/* Does the index name exactly these entries (sorted by name), each in its shard? */
enum vcl_status vcl_index_match(const struct vcl_index *index, const struct vcl_paths *shards,
                                const struct vcl_entry *const *by_name, size_t count,
                                struct vcl_error *error);
/* "a/b" -> "b" */
static inline const char *vcl_base_name(const char *path)
{
    const char *const slash = strrchr(path, '/');
    return slash != NULL ? slash + 1 : path;
}

#endif
