/* loader.h - finds and loads the video module. */
#ifndef VCL_LOADER_H
#define VCL_LOADER_H

#include "video.h"

#define VCL_VIDEO_FILE "libvcllm_video.so"

struct vcl_video_library {
    void *handle;                  /* dlopen's */
    const struct vcl_video *video; /* valid until vcl_video_unload */
};

/* Looks for VCL_VIDEO_FILE in module_dir; if that is NULL or empty, in the folder that the environment's
 * VCLLM_MODULE_DIR names (not in setuid programs); if that is unset or empty, in the folder of the
 * library or program that holds this code, its subfolder vcllm/, and the folder where the module was
 * installed (VCL_MODULE_DIR when this file was compiled).  VCL_E_CODEC with a message where it is in none
 * of them, does not load, or is of another version.  May be called from several threads at once; every
 * success needs one unload. */
enum vcl_status vcl_video_load(const char *module_dir, struct vcl_video_library *library,
                               char message[VCL_VIDEO_MESSAGE]);
void vcl_video_unload(struct vcl_video_library *library); /* fine if nothing is loaded */

#endif
