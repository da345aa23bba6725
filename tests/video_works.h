/* video_works.h - do both video codecs encode and decode here? */
#ifndef VCL_TEST_VIDEO_WORKS_H
#define VCL_TEST_VIDEO_WORKS_H

#include "vcllm.h"

static inline void video_works_note(void *user, const struct vcl_backend *backend)
{
    unsigned *const works = user;
    if (backend->works)
        *works |= 1u << (2 * (backend->codec == VCL_CODEC_H265) + backend->encodes);
}

/* Says so where they do not. */
static inline int video_works(struct vcl_context *ctx)
{
    unsigned works = 0;
    const int all = vcl_probe(ctx, video_works_note, &works) == VCL_OK && works == 15;
    if (!all)
        print_message("video codecs do not work here (%s): tested without them\n", vcl_context_message(ctx));
    return all;
}

#endif
