/* quantised.c - finds modules that other software has quantised: packed integers or small floats, with
 * their scales, zero points and codebooks, and the routers of experts.
 *
 * In: names, dtypes and shapes; of a folder also config.json.  A module is a name up to its last dot.
 * Where the model says that it is quantised, a module with one packed tensor is packed as a whole; where it
 * does not, its tensors named like scales are, and those of the layouts that are known by name. */
#include "quantised.h"

#include <stdlib.h>
#include <string.h>

#include "common/texts.h"
#include "folder/folder.h"

enum { CONFIG_LIMIT = 1 << 20 }; /* a tree of JSON takes up to 75 bytes a byte */
enum { ENDING = 32 };            /* bytes of the longest ending that is tried */

struct module {
    const char *name; /* not ended */
    size_t length;
};
struct vcl_quantised {
    const struct vcl_model *model;
    struct module *modules; /* that hold packed tensors, sorted */
    size_t count;
    char *name;   /* room for the longest name and an ending */
    int declared; /* the model says that it is quantised */
    size_t experts;
};

/* ---- names ----------------------------------------------------------------------------------- */

static int ends_with(const struct module *name, const char *end)
{
    const size_t n = strlen(end);
    return name->length >= n && memcmp(name->name + name->length - n, end, n) == 0;
}

/* Up to the last dot; empty where there is none. */
static struct module parent_of(struct module name)
{
    while (name.length && name.name[name.length - 1] != '.')
        name.length--;
    name.length -= name.length > 0;
    return name;
}

static int compare_modules(const void *a, const void *b)
{
    const struct module *x = a, *y = b;
    const int order = memcmp(x->name, y->name, x->length < y->length ? x->length : y->length);
    return order ? order : (x->length > y->length) - (x->length < y->length);
}

static int holds_packed(const struct vcl_quantised *q, struct module module)
{
    return module.length && bsearch(&module, q->modules, q->count, sizeof module, compare_modules) != NULL;
}

/* ---- what the model says ---------------------------------------------------------------------- */

static void read_config(struct vcl_quantised *q, json_t *config)
{
    static const char *const quantised[] = { "quantization_config", "compression_config", "quantization" };
    static const char *const experts[] = { "num_experts", "num_local_experts", "n_routed_experts",
                                           "moe_num_experts" };
    for (size_t i = 0; i < sizeof quantised / sizeof *quantised; i++)
        q->declared |= json_is_object(json_object_get(config, quantised[i]));
    for (size_t i = 0; i < sizeof experts / sizeof *experts && !q->experts; i++) {
        const json_int_t n = json_integer_value(json_object_get(config, experts[i]));
        q->experts = n > 1 ? (size_t)n : 0;
    }
}

static json_t *load_config(const char *folder)
{
    char *path = vcl_path_in(folder, "config.json");
    void *bytes = NULL;
    size_t n = 0;
    json_t *config = NULL;
    if (path && vcl_read_file(path, CONFIG_LIMIT, &bytes, &n, NULL) == VCL_OK)
        config = json_loadb(bytes, n, JSON_REJECT_DUPLICATES, NULL);
    free(bytes);
    free(path);
    return config;
}

/* What cannot be read says nothing: config.json is not what is compressed. */
static void read_folder(struct vcl_quantised *q, const char *folder)
{
    static const char *const files[] = { "quantize_config.json", "quant_config.json",
                                         "hf_quant_config.json" };
    static const char *const parts[] = { "text_config", "llm_config", "language_config", "ffn_config" };
    json_t *config = load_config(folder);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        q->declared |= vcl_is_in(folder, files[i]);
    read_config(q, config);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        read_config(q, json_object_get(config, parts[i]));
    json_decref(config);
}

/* Masks of attention are BOOL. */
static int is_packed_dtype(enum vcl_dtype dtype)
{
    return !vcl_dtype_is_float(dtype) && dtype != VCL_DTYPE_BOOL;
}

static size_t longest_name(const struct vcl_model *model)
{
    size_t longest = 0;
    for (size_t i = 0; i < vcl_model_count(model); i++) {
        const size_t length = strlen(vcl_model_entry(model, i)->name);
        longest = length > longest ? length : longest;
    }
    return longest;
}

/* 0: out of memory. */
static int fill(struct vcl_quantised *q, const char *folder)
{
    q->modules = vcl_calloc(vcl_model_count(q->model), sizeof *q->modules);
    q->name = vcl_calloc(longest_name(q->model) + ENDING, 1);
    if (!q->modules || !q->name || !folder)
        return 0;
    for (size_t i = 0; i < vcl_model_count(q->model); i++) {
        const struct vcl_entry *entry = vcl_model_entry(q->model, i);
        if (is_packed_dtype(entry->tensor.dtype))
            q->modules[q->count++] = parent_of((struct module){ entry->name, strlen(entry->name) });
    }
    qsort(q->modules, q->count, sizeof *q->modules, compare_modules);
    if (vcl_model_is_folder(q->model))
        read_folder(q, folder);
    return 1;
}

struct vcl_quantised *vcl_quantised_find(const struct vcl_model *model)
{
    struct vcl_quantised *q = vcl_calloc(1, sizeof *q);
    char *folder = vcl_folder_of(vcl_model_shard_path(model, 0));
    if (q) {
        q->model = model;
        if (!fill(q, folder)) {
            vcl_quantised_free(q);
            q = NULL;
        }
    }
    free(folder);
    return q;
}

void vcl_quantised_free(struct vcl_quantised *q)
{
    if (q) {
        free(q->modules);
        free(q->name);
    }
    free(q);
}

/* ---- tensors ---------------------------------------------------------------------------------- */

static int is_small_float(enum vcl_dtype dtype)
{
    return vcl_dtype_bits(dtype) <= 8 && dtype != VCL_DTYPE_BOOL && dtype != VCL_DTYPE_U8
        && dtype != VCL_DTYPE_I8;
}

static int is_packed(const struct vcl_quantised *q, struct module module, const char *end)
{
    memcpy(q->name, module.name, module.length);
    strcpy(q->name + module.length, end);
    const struct vcl_entry *entry = vcl_model_find(q->model, q->name);
    return entry && !vcl_dtype_is_float(entry->tensor.dtype);
}

/* Endings by which quantisers name what belongs to packed weights: weight_scale_inv, zeros, codebooks ... */
static int is_scale(struct module name)
{
    static const char *const endings[] = { "scale",    "scales",    "scale_inv",  "scale_2",
                                           "zero",     "zeros",     "zero_point", "zp",
                                           "codebook", "codebooks", "centroids",  "absmax",
                                           "g_idx",    "quant_map", "biases",     "zero_points" };
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (ends_with(&name, endings[i]))
            return 1;
    return 0;
}

int vcl_quantised_has(const struct vcl_quantised *q, const struct vcl_entry *entry)
{
    struct module name = { entry->name, strlen(entry->name) };
    const struct module module = parent_of(name);
    const int is_weight = ends_with(&name, ".weight");
    if (is_small_float(entry->tensor.dtype))
        return 1;
    if (!module.length)
        return 0;
    if (is_packed(q, module, ".qweight") || is_packed(q, module, ".weight_packed")
        || (!is_weight && (is_packed(q, module, "") || is_packed(q, module, ".weight"))))
        return 1;
    if (q->declared && holds_packed(q, module))
        return 1;
    if (is_weight) /* centroids.weight stands beside indices */
        name.length -= sizeof ".weight" - 1;
    return is_scale(name) && holds_packed(q, parent_of(name));
}

int vcl_quantised_routes(const struct vcl_quantised *q, const struct vcl_entry *entry)
{
    static const char *const words[] = { "gate", "router" };
    if (!q->experts || entry->tensor.rank != 2 || entry->tensor.dims[0] != q->experts)
        return 0;
    for (const char *part = entry->name; part; part = strchr(part, '.')) {
        part += *part == '.';
        for (size_t i = 0; i < sizeof words / sizeof *words; i++)
            if (strncmp(part, words[i], strlen(words[i])) == 0 && part[strlen(words[i])] == '.')
                return 1;
    }
    return 0;
}
