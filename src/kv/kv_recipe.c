/* kv_recipe.c - what all pages of a model's KV cache share: for every part a basis, and a recipe for the matrix of
 * its components.
 *
 * In: means, bases and typical vectors; or bytes, which nobody vouches for.  Out: bytes; or what a coder needs.
 * Learning ends in bytes and every recipe begins from them, as in codec/recipe.c. */
#include "kv/kv_recipe.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/common.h"
#include "codec/encode.h"

static const uint8_t magic[4] = { 'V', 'C', 'K', 'R' };

enum { FIXED = 28, PART_FIXED = 4, BOTH = VCL_KV_KEYS | VCL_KV_VALUES, MOST_SIDE = 65535 };

uint32_t vcl_kv_width(const struct vcl_kv_shape *s, uint32_t sides)
{
    return s->heads * ((sides & VCL_KV_KEYS ? s->key_dim : 0) + (sides & VCL_KV_VALUES ? s->value_dim : 0));
}

/* What is wrong with a shape; NULL if nothing. */
static const char *shape_fault(const struct vcl_kv_shape *s)
{
    const uint32_t sides[] = { s->layers, s->heads, s->key_dim, s->value_dim };
    for (size_t i = 0; i < sizeof sides / sizeof *sides; i++)
        if (sides[i] == 0 || sides[i] > MOST_SIDE)
            return "layers, heads and dims of a KV cache are 1 to 65535";
    const uint64_t keys = (uint64_t)s->heads * s->key_dim, values = (uint64_t)s->heads * s->value_dim;
    return keys > VCL_BASIS_MOST || values > VCL_BASIS_MOST
             ? "keys or values of a layer are more than 4096 for a token"
             : NULL;
}

/* ---- learning ------------------------------------------------------------------------------------ */

struct lesson {
    const struct vcl_env *env;
    const struct vcl_kv_shape *shape;
    double step;
    uint8_t *bytes; /* of the recipe so far */
    size_t size, room;
    uint64_t coded, values; /* bytes that the typical vectors take, and their number */
};

/* Room for n more bytes at the end. */
static uint8_t *extend(struct lesson *l, size_t n)
{
    if (l->room - l->size < n) {
        const size_t room = 2 * l->room + n;
        uint8_t *const more = vcl_alloc_raw(l->env->mem, room, 1);
        if (!more)
            return NULL;
        if (l->size > 0)
            memcpy(more, l->bytes, l->size);
        vcl_free(l->env->mem, l->bytes);
        l->bytes = more;
        l->room = room;
    }
    l->size += n;
    return l->bytes + l->size - n;
}

static enum vcl_status no_memory(const struct lesson *l)
{
    return vcl_env_fail(l->env, VCL_E_MEMORY, "no memory to learn a KV cache's recipe");
}

static int put_text(struct lesson *l, const char *text)
{
    const size_t n = text ? strlen(text) : 0;
    uint8_t *const dst = n < VCL_KV_TEXT ? extend(l, 1 + n) : NULL;
    if (!dst)
        return 0;
    dst[0] = (uint8_t)n;
    if (n > 0)
        memcpy(dst + 1, text, n);
    return 1;
}

static enum vcl_status put_fixed(struct lesson *l, const struct vcl_kv_identity *identity, size_t count)
{
    uint8_t *const dst = extend(l, FIXED);
    const char *const texts[VCL_KV_TEXTS] = { identity->model, identity->revision, identity->rope,
                                              identity->layout };
    if (!dst)
        return no_memory(l);
    memcpy(dst, magic, sizeof magic);
    vcl_store32(dst + 4, 0);
    vcl_store32(dst + 8, l->shape->layers);
    vcl_store32(dst + 12, l->shape->heads);
    vcl_store32(dst + 16, l->shape->key_dim);
    vcl_store32(dst + 20, l->shape->value_dim);
    vcl_store32(dst + 24, (uint32_t)count);
    for (int i = 0; i < VCL_KV_TEXTS; i++) {
        if (texts[i] && strlen(texts[i]) >= VCL_KV_TEXT)
            return vcl_env_fail(l->env, VCL_E_ARGUMENT, "a text of the identity is longer than 255 bytes");
        if (!put_text(l, texts[i]))
            return no_memory(l);
    }
    return VCL_OK;
}

/* The components whose deviation is above a quarter of the quantiser's step: the others would take next to no
 * bits, and lose next to nothing as 0.  A multiple of 16. */
static uint32_t count_used(const struct lesson *l, const struct vcl_basis *b, const float *z, size_t tokens)
{
    uint32_t used = 0;
    for (uint32_t c = 0; c < b->n; c++) {
        double sum = 0;
        for (size_t t = 0; t < tokens; t++)
            sum += (double)z[t * b->cols + c] * z[t * b->cols + c];
        if (sum > 0.25 * l->step * l->step * (double)tokens)
            used = c + 1;
    }
    return vcl_basis_cols(used);
}

static int read_floats(void *user, uint64_t offset, void *dst, size_t bytes)
{
    memcpy(dst, (const uint8_t *)user + offset, bytes);
    return 0;
}

/* z, tokens x cols, whose first `used` columns are wanted, to a recipe's bytes. */
static enum vcl_status learn_components(struct lesson *l, float *z, size_t tokens, uint32_t cols,
                                        uint32_t used)
{
    const struct vcl_params params = { .codec = VCL_CODEC_TENSOR,
                                       .goal = VCL_GOAL_STEP,
                                       .target = l->step,
                                       .effort = 5,
                                       .objective = VCL_OBJECTIVE_MSE,
                                       .disable = VCL_STAGE_MEANS | VCL_STAGE_TRANSFORM };
    const struct vcl_tensor tensor = { VCL_DTYPE_F32, 2, { tokens, used } };
    for (size_t t = 1; t < tokens && used < cols; t++)
        memmove(z + t * used, z + t * cols, used * sizeof *z);
    const struct vcl_source source = { z, read_floats, z };
    struct vcl_recipe *recipe = NULL;
    struct vcl_report report;
    enum vcl_status status = vcl_learn_recipe(l->env, &tensor, &source, &params, &recipe, &report);
    if (status)
        return status;
    uint8_t *const dst = extend(l, 4 + vcl_recipe_bytes(recipe));
    if (dst) {
        vcl_store32(dst, (uint32_t)vcl_recipe_bytes(recipe));
        vcl_recipe_write(&recipe->frame, recipe->tables, dst + 4);
        l->coded += report.frame_bytes - recipe->frame.header_bytes;
    }
    vcl_recipe_unmake(recipe);
    return dst ? VCL_OK : no_memory(l);
}

/* x becomes the vectors without their mean, padded. */
static int take_vectors(const struct vcl_basis *b, const struct vcl_kv_part *part, float *x)
{
    for (size_t t = 0; t < part->tokens; t++)
        for (uint32_t i = 0; i < b->n; i++) {
            x[t * b->cols + i] = part->vectors[t * b->n + i] - b->mean[i];
            if (!(fabsf(x[t * b->cols + i]) <= FLT_MAX))
                return 0;
        }
    return 1;
}

static enum vcl_status learn_coding(struct lesson *l, const struct vcl_kv_part *part,
                                    const struct vcl_basis *b)
{
    float *const x = vcl_alloc(l->env->mem, part->tokens, b->cols * sizeof *x);
    float *const z = vcl_alloc(l->env->mem, part->tokens, b->cols * sizeof *z);
    enum vcl_status status = x && z ? VCL_OK : no_memory(l);
    if (!status && !take_vectors(b, part, x))
        status =
            vcl_env_fail(l->env, VCL_E_ARGUMENT, "a typical vector of layer %u is not finite", part->layer);
    if (!status) {
        vcl_basis_forward(l->env->kernels, b, x, part->tokens, b->cols, z);
        status = learn_components(l, z, part->tokens, b->cols, count_used(l, b, z, part->tokens));
    }
    l->values += (uint64_t)part->tokens * b->n;
    vcl_free(l->env->mem, x);
    vcl_free(l->env->mem, z);
    return status;
}

static enum vcl_status learn_part(struct lesson *l, const struct vcl_kv_part *part)
{
    struct vcl_basis basis = { .n = vcl_kv_width(l->shape, part->sides) };
    const size_t bytes = vcl_basis_bytes(basis.n), at = l->size + PART_FIXED;
    uint8_t *const dst = extend(l, PART_FIXED + bytes);
    if (!dst)
        return no_memory(l);
    vcl_store16(dst, (uint16_t)part->layer);
    dst[2] = (uint8_t)part->sides;
    dst[3] = 0;
    if (!vcl_basis_write(part->mean, part->basis, basis.n, dst + PART_FIXED))
        return vcl_env_fail(l->env, VCL_E_ARGUMENT,
                            "mean or basis of layer %u is not finite, or has a component "
                            "of zeros",
                            part->layer);
    enum vcl_status status = vcl_basis_make(l->env, l->env->mem, l->bytes + at, &basis);
    if (status == VCL_E_FORMAT)
        status = VCL_E_ARGUMENT;
    if (!status)
        status = learn_coding(l, part, &basis);
    vcl_basis_unmake(l->env->mem, &basis);
    return status;
}

static const struct vcl_kv_part *part_of(const struct vcl_kv_part *parts, size_t count, uint32_t layer,
                                         uint32_t side)
{
    const struct vcl_kv_part *found = NULL;
    for (size_t i = 0; i < count; i++)
        if (parts[i].layer == layer && parts[i].sides & side) {
            if (found)
                return NULL;
            found = parts + i;
        }
    return found;
}

static enum vcl_status learn_layer(struct lesson *l, const struct vcl_kv_part *parts, size_t count,
                                   uint32_t layer)
{
    const struct vcl_kv_part *const keys = part_of(parts, count, layer, VCL_KV_KEYS), *const values = part_of(
                                                                                          parts, count, layer,
                                                                                          VCL_KV_VALUES);
    if (!keys || !values)
        return vcl_env_fail(l->env, VCL_E_ARGUMENT, "layer %u has not its keys and values once each", layer);
    const enum vcl_status status = learn_part(l, keys);
    return status || keys == values ? status : learn_part(l, values);
}

static const char *parts_fault(const struct vcl_kv_shape *shape, const struct vcl_kv_part *parts,
                               size_t count)
{
    if (count > 2 * (size_t)shape->layers)
        return "more parts than keys and values of all layers";
    for (size_t i = 0; i < count; i++) {
        const struct vcl_kv_part *const p = parts + i;
        if (p->layer >= shape->layers || p->sides == 0 || p->sides > BOTH)
            return "a part of a layer or of sides that there are not";
        if (vcl_kv_width(shape, p->sides) > VCL_BASIS_MOST)
            return "a part of more than 4096 values for a token";
        if (!p->mean || !p->basis || !p->vectors || p->tokens < 32)
            return "a part without mean, basis or 32 typical vectors";
    }
    return NULL;
}

static enum vcl_status learn_all(struct lesson *l, const struct vcl_kv_identity *identity,
                                 const struct vcl_kv_part *parts, size_t count)
{
    enum vcl_status status = put_fixed(l, identity, count);
    for (uint32_t layer = 0; layer < l->shape->layers && !status; layer++)
        status = learn_layer(l, parts, count, layer);
    if (status)
        return status;
    uint8_t *const end = extend(l, 8);
    if (!end)
        return no_memory(l);
    vcl_store64(end, XXH3_64bits(l->bytes, l->size - 8));
    return VCL_OK;
}

enum vcl_status vcl_kv_learn(const struct vcl_env *env, const struct vcl_kv_shape *shape,
                             const struct vcl_kv_identity *identity, const struct vcl_kv_part *parts,
                             size_t count, double step, struct vcl_kv_recipe **recipe, double *bits)
{
    struct lesson lesson = { .env = env, .shape = shape, .step = step };
    const char *fault = shape_fault(shape);
    if (!fault)
        fault = parts_fault(shape, parts, count);
    if (!fault && !(step >= FLT_MIN && step <= FLT_MAX))
        fault = "a step that is not above 0 and finite";
    if (fault)
        return vcl_env_fail(env, VCL_E_ARGUMENT, "%s", fault);
    enum vcl_status status = learn_all(&lesson, identity, parts, count);
    if (!status)
        status = vcl_kv_recipe_make(env, lesson.bytes, lesson.size, recipe);
    *bits = status ? 0 : 8 * (double)lesson.coded / (double)lesson.values;
    vcl_free(env->mem, lesson.bytes);
    return status;
}

/* ---- from bytes ---------------------------------------------------------------------------------- */

struct kv_reader {
    const struct vcl_env *env;
    const uint8_t *bytes;
    size_t at, end; /* before the hash */
};

/* The next n bytes; NULL where there are not so many. */
static const uint8_t *take(struct kv_reader *r, size_t n)
{
    if (r->end - r->at < n)
        return NULL;
    r->at += n;
    return r->bytes + r->at - n;
}

static enum vcl_status cut_off(const struct kv_reader *r)
{
    return vcl_env_fail(r->env, VCL_E_TRUNCATED, "KV cache's recipe is cut off at byte %zu", r->at);
}

static enum vcl_status read_texts(struct kv_reader *r, struct vcl_kv_recipe *recipe)
{
    for (int i = 0; i < VCL_KV_TEXTS; i++) {
        const uint8_t *const length = take(r, 1), *const text = length ? take(r, *length) : NULL;
        if (!text)
            return cut_off(r);
        if (memchr(text, 0, *length))
            return vcl_env_fail(r->env, VCL_E_FORMAT, "NUL in a text of a KV cache's recipe");
        memcpy(recipe->text[i], text, *length);
    }
    return VCL_OK;
}

static enum vcl_status read_fixed(struct kv_reader *r, struct vcl_kv_recipe *recipe)
{
    const uint8_t *const src = take(r, FIXED);
    if (!src)
        return cut_off(r);
    recipe->shape = (struct vcl_kv_shape){ vcl_load32(src + 8), vcl_load32(src + 12), vcl_load32(src + 16),
                                           vcl_load32(src + 20) };
    recipe->count = vcl_load32(src + 24);
    const char *const fault = shape_fault(&recipe->shape);
    if (fault)
        return vcl_env_fail(r->env, VCL_E_FORMAT, "KV cache's recipe: %s", fault);
    if (recipe->count < recipe->shape.layers || recipe->count > 2 * (size_t)recipe->shape.layers)
        return vcl_env_fail(r->env, VCL_E_FORMAT, "%zu parts cannot be keys and values of %u layers",
                            recipe->count, recipe->shape.layers);
    return read_texts(r, recipe);
}

/* The recipe of a part's components. */
static enum vcl_status read_coding(struct kv_reader *r, struct vcl_kv_coding *part)
{
    const uint8_t *const length = take(r, 4), *const bytes = length ? take(r, vcl_load32(length)) : NULL;
    if (!bytes)
        return cut_off(r);
    const enum vcl_status status = vcl_recipe_make(r->env, bytes, vcl_load32(length), &part->recipe);
    if (status)
        return status;
    const struct vcl_frame *const f = &part->recipe->frame;
    if (f->plan.cols > part->basis.cols || f->plan.cols % VCL_MIX_COLS != 0
        || f->plan.cols < VCL_BASIS_LEAST_COLS || f->transform.down || f->transform.along
        || f->flags & (VCL_FLAG_ROTATED | VCL_FLAG_TRANSPOSED | VCL_FLAG_ANY_MEAN | VCL_FLAG_COL_STEPS))
        return vcl_env_fail(r->env, VCL_E_FORMAT, "layer %u: its components cannot be coded so", part->layer);
    return VCL_OK;
}

/* Are the parts in order so far? */
static int follows(const struct vcl_kv_coding *part, const struct vcl_kv_coding *before)
{
    if (part->sides == 0 || part->sides > BOTH)
        return 0;
    if (before && before->sides == VCL_KV_KEYS)
        return part->layer == before->layer && part->sides == VCL_KV_VALUES;
    return part->layer == (before ? before->layer + 1 : 0) && part->sides & VCL_KV_KEYS;
}

static enum vcl_status read_part(struct kv_reader *r, struct vcl_kv_recipe *recipe, size_t i)
{
    struct vcl_kv_coding *const part = recipe->parts + i;
    const uint8_t *const src = take(r, PART_FIXED);
    if (!src)
        return cut_off(r);
    part->layer = vcl_load16(src);
    part->sides = src[2];
    if (src[3] != 0 || !follows(part, i > 0 ? part - 1 : NULL))
        return vcl_env_fail(r->env, VCL_E_FORMAT, "part %zu of a KV cache's recipe is out of order", i);
    part->basis.n = vcl_kv_width(&recipe->shape, part->sides);
    if (part->basis.n > VCL_BASIS_MOST)
        return vcl_env_fail(r->env, VCL_E_FORMAT, "part %zu has more than 4096 values", i);
    const uint8_t *const basis = take(r, vcl_basis_bytes(part->basis.n));
    if (!basis)
        return cut_off(r);
    const enum vcl_status status = vcl_basis_make(r->env, &recipe->mem, basis, &part->basis);
    return status ? status : read_coding(r, part);
}

static enum vcl_status read_parts(struct kv_reader *r, struct vcl_kv_recipe *recipe)
{
    enum { LEAST = PART_FIXED + 8 + 1 + 4 }; /* bytes of a part */
    if ((r->end - r->at) / LEAST < recipe->count)
        return cut_off(r);
    recipe->parts = vcl_alloc(&recipe->mem, recipe->count, sizeof *recipe->parts);
    if (!recipe->parts)
        return vcl_env_fail(r->env, VCL_E_MEMORY, "no memory for a KV cache's recipe");
    enum vcl_status status = VCL_OK;
    for (size_t i = 0; i < recipe->count && !status; i++)
        status = read_part(r, recipe, i);
    if (status)
        return status;
    const struct vcl_kv_coding *const last = recipe->parts + recipe->count - 1;
    if (last->layer + 1 != recipe->shape.layers || !(last->sides & VCL_KV_VALUES) || r->at != r->end)
        return vcl_env_fail(r->env, VCL_E_FORMAT, "parts of a KV cache's recipe are missing, or too many");
    return VCL_OK;
}

static enum vcl_status check_whole(const struct vcl_env *env, const uint8_t *bytes, size_t size)
{
    if (size < FIXED + 8)
        return vcl_env_fail(env, VCL_E_TRUNCATED, "KV cache's recipe is cut off at byte %zu", size);
    if (memcmp(bytes, magic, sizeof magic) != 0)
        return vcl_env_fail(env, VCL_E_FORMAT, "not a KV cache's recipe: wrong magic bytes");
    if (vcl_load32(bytes + 4) != 0)
        return vcl_env_fail(env, VCL_E_VERSION, "KV cache's recipe of a version this library does not know");
    if (!vcl_hash_fits(XXH3_64bits(bytes, size - 8), vcl_load64(bytes + size - 8)))
        return vcl_env_fail(env, VCL_E_CHECKSUM, "KV cache's recipe is damaged or cut off: its hash differs");
    return VCL_OK;
}

enum vcl_status vcl_kv_recipe_make(const struct vcl_env *env, const uint8_t *bytes, size_t size,
                                   struct vcl_kv_recipe **out)
{
    struct vcl_mem mem = *env->mem;
    enum vcl_status status = check_whole(env, bytes, size);
    if (status)
        return status;
    mem.spares = NULL; /* they are the context's, which a recipe may outlive */
    struct vcl_kv_recipe *const recipe = vcl_alloc(&mem, 1, sizeof *recipe);
    if (!recipe)
        return vcl_env_fail(env, VCL_E_MEMORY, "no memory for a KV cache's recipe");
    recipe->mem = mem;
    recipe->hash = vcl_load64(bytes + size - 8);
    recipe->size = size;
    recipe->bytes = vcl_alloc_raw(&mem, size, 1);
    if (!recipe->bytes)
        status = vcl_env_fail(env, VCL_E_MEMORY, "no memory for a KV cache's recipe of %zu bytes", size);
    else
        memcpy(recipe->bytes, bytes, size);
    struct kv_reader reader = { env, recipe->bytes, 0, size - 8 };
    if (!status)
        status = read_fixed(&reader, recipe);
    if (!status)
        status = read_parts(&reader, recipe);
    if (status)
        vcl_kv_recipe_unmake(recipe);
    else
        *out = recipe;
    return status;
}

void vcl_kv_recipe_unmake(struct vcl_kv_recipe *recipe)
{
    if (!recipe)
        return;
    const struct vcl_mem mem = recipe->mem;
    for (size_t i = 0; recipe->parts && i < recipe->count; i++) {
        vcl_basis_unmake(&mem, &recipe->parts[i].basis);
        vcl_recipe_unmake(recipe->parts[i].recipe);
    }
    vcl_free(&mem, recipe->parts);
    vcl_free(&mem, recipe->bytes);
    vcl_free(&mem, recipe);
}
