/* resolve.c - from an entry to what it holds, in plain and compressed models alike.
 *
 * In: an entry.  Out: the header of the frame that has its values, and the entry of that frame: an alias leads
 * to its target, which vcl_model_frame has found to be no alias. */
#include "io.h"

enum vcl_status vcl_model_resolve(const struct vcl_model *model, const struct vcl_entry *entry,
                                  struct vcl_info *info, const struct vcl_entry **stored,
                                  struct vcl_error *error)
{
    const struct vcl_info plain = { .tensor = entry->tensor };
    *stored = entry;
    if (!vcl_give_sized(&plain, sizeof plain, info))
        return vcl_fail(error, VCL_E_ARGUMENT, NULL, "info.size must be sizeof info");
    if (!vcl_model_is_compressed(model, entry->shard))
        return VCL_OK;
    const enum vcl_status status = vcl_model_frame(model, entry, info, stored, error);
    return status == VCL_OK && *stored != entry ? vcl_model_frame(model, *stored, info, NULL, error) : status;
}
