/* recipe.h - all that settles how the values of a matrix are coded, apart from the search that found it. */
#ifndef VCL_RECIPE_H
#define VCL_RECIPE_H

#include "codec/env.h"
#include "codec/tables.h"

enum { VCL_RECIPE_COLS = 1 << 20 }; /* most columns of a recipe: tables take 23 bytes for each */

struct vcl_recipe {
    struct vcl_mem mem;
    struct vcl_frame frame; /* of no values */
    uint8_t *side;          /* its side bytes */
    struct vcl_tensor_tables *tables;
    float step; /* as made, to fine: what other steps are relative to */
    uint32_t flags;
    int priced, row_base, fine;
};

/* What frame and tables now say, as docs/format.md has it; returns how many bytes, at most the bound. */
size_t vcl_recipe_bound(uint64_t cols);
size_t vcl_recipe_write(const struct vcl_frame *frame, const struct vcl_tensor_tables *tables, uint8_t *dst);

/* And back.  Memory comes from env's hooks, not from what its context keeps. */
enum vcl_status vcl_recipe_make(const struct vcl_env *env, const uint8_t *bytes, size_t size,
                                struct vcl_recipe **recipe);
void vcl_recipe_unmake(struct vcl_recipe *recipe);

/* Of what vcl_recipe_write makes of it: how many bytes, and their XXH3. */
size_t vcl_recipe_bytes(const struct vcl_recipe *recipe);
uint64_t vcl_recipe_hash(const struct vcl_recipe *recipe);

/* The step becomes so many times what it was made with; 0, and nothing changes, where it cannot be. */
int vcl_recipe_rescale(struct vcl_recipe *recipe, double factor);

#endif
