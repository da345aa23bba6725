/* loader.c - finds and loads the video module.
 *
 * In: a folder or none.  Out: the module's table of functions.  The core reaches libavcodec, and the GPL
 * encoders in it, this way only; without them everything else still works. */
#include "loader.h"

#include <dlfcn.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Path of the library or program that this function is part of; 0 if the system does not tell. */
static int own_path(char path[PATH_MAX])
{
    Dl_info info;
    struct link_map *map = NULL;
    ssize_t length;

    if (!dladdr1((const void *)vcl_video_load, &info, (void **)&map, RTLD_DL_LINKMAP) || !map)
        return 0;
    if (map->l_name[0])
        return snprintf(path, PATH_MAX, "%s", map->l_name) < PATH_MAX;
    length = readlink("/proc/self/exe", path, PATH_MAX - 1); /* the program has no name in the map */
    if (length < 0)
        return 0;
    path[length] = 0;
    return 1;
}

/* Writes the module's path in that folder; 1 if there is such a file. */
static int module_in(const char *folder, const char *subfolder, char path[PATH_MAX])
{
    const int n = snprintf(path, PATH_MAX, "%s/%s" VCL_VIDEO_FILE, folder, subfolder);
    return n < PATH_MAX && access(path, F_OK) == 0;
}

static int find_beside(char path[PATH_MAX])
{
    char folder[PATH_MAX], *slash;
    if (!own_path(folder))
        return 0;
    slash = strrchr(folder, '/');
    if (!slash)
        return 0;
    *slash = 0;
    return module_in(folder, "", path) || module_in(folder, "vcllm/", path);
}

static int find_installed(char path[PATH_MAX])
{
#ifdef VCL_MODULE_DIR
    return module_in(VCL_MODULE_DIR, "", path);
#else
    (void)path;
    return 0;
#endif
}

static enum vcl_status find_module(const char *module_dir, char path[PATH_MAX],
                                   char message[VCL_VIDEO_MESSAGE])
{
    const char *where = "VCLLM_MODULE_DIR";
    if (!module_dir || !*module_dir)
        module_dir = secure_getenv(where);
    else
        where = "the module folder";
    if (module_dir && *module_dir) {
        if (module_in(module_dir, "", path))
            return VCL_OK;
        snprintf(message, VCL_VIDEO_MESSAGE, "no " VCL_VIDEO_FILE " in %.150s (%s)", module_dir, where);
        return VCL_E_CODEC;
    }
    if (find_beside(path) || find_installed(path))
        return VCL_OK;
    snprintf(message, VCL_VIDEO_MESSAGE,
             "no " VCL_VIDEO_FILE ", which H.264 and H.265 need: install VcLLM's video module, "
             "or set VCLLM_MODULE_DIR to its folder");
    return VCL_E_CODEC;
}

static enum vcl_status open_module(const char *path, struct vcl_video_library *library,
                                   char message[VCL_VIDEO_MESSAGE])
{
    const struct vcl_video *(*table)(void);
    /* NODELETE: codec libraries leave thread-local data and static tables behind and are not made to be
     * unmapped; and the next context loads in microseconds. */
    library->handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    if (!library->handle) {
        snprintf(message, VCL_VIDEO_MESSAGE,
                 "video module: %.160s; the packages libavcodec59 and libavutil57, or a "
                 "rebuild, bring what it needs",
                 dlerror());
        return VCL_E_CODEC;
    }
    void *const symbol = dlsym(library->handle, VCL_VIDEO_SYMBOL);
    memcpy(&table, &symbol, sizeof table); /* ISO C has no cast from object to function pointer */
    library->video = table ? table() : NULL;
    if (!library->video || library->video->abi != VCL_VIDEO_ABI) {
        snprintf(message, VCL_VIDEO_MESSAGE, "%.160s is of another version than this library: reinstall both",
                 path);
        return VCL_E_CODEC;
    }
    return VCL_OK;
}

enum vcl_status vcl_video_load(const char *module_dir, struct vcl_video_library *library,
                               char message[VCL_VIDEO_MESSAGE])
{
    char path[PATH_MAX];
    enum vcl_status status = find_module(module_dir, path, message);
    library->handle = NULL;
    library->video = NULL;
    if (status == VCL_OK)
        status = open_module(path, library, message);
    if (status != VCL_OK)
        vcl_video_unload(library);
    return status;
}

void vcl_video_unload(struct vcl_video_library *library)
{
    if (library->handle)
        dlclose(library->handle);
    library->handle = NULL;
    library->video = NULL;
}
