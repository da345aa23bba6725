/* scratch.h - a folder of its own for a test program, and safetensors files made by hand. */
#ifndef VCL_SCRATCH_H
#define VCL_SCRATCH_H

#include "vcllm_file.h"

#include <dirent.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char scratch_folder[64];

static inline int scratch_setup(void **state)
{
    (void)state;
    strcpy(scratch_folder, "/tmp/vcllm-test-XXXXXX");
    return mkdtemp(scratch_folder) == NULL;
}

static inline int scratch_remove(const char *path, const struct stat *about, int type, struct FTW *walk)
{
    (void)about, (void)type, (void)walk;
    return remove(path);
}

static inline int scratch_teardown(void **state)
{
    (void)state;
    return nftw(scratch_folder, scratch_remove, 16, FTW_DEPTH | FTW_PHYS);
}

/* The path of a name in the folder; good until the eighth call after this one. */
static inline const char *scratch(const char *name)
{
    static char paths[8][512];
    static unsigned n;
    char *const path = paths[n++ % 8];
    snprintf(path, sizeof paths[0], "%s/%s", scratch_folder, name);
    return path;
}

/* Names in a folder, "." and ".." not counted. */
static inline int count_files(const char *folder)
{
    int n = -2;
    DIR *const dir = opendir(folder);
    assert_non_null(dir);
    while (readdir(dir) != NULL)
        n++;
    closedir(dir);
    return n;
}

static inline void put_file(const char *path, const void *bytes, size_t n)
{
    FILE *const file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static inline uint8_t data_byte(size_t i) { return (uint8_t)(i * 7 + 3); }

/* A safetensors file of this header and `data` bytes of data_byte behind it. */
static inline void put_model_n(const char *path, const char *json, size_t length, size_t data)
{
    uint8_t *const bytes = malloc(8 + length + data);
    assert_non_null(bytes);
    for (size_t i = 0; i < 8; i++)
        bytes[i] = (uint8_t)((uint64_t)length >> 8 * i);
    memcpy(bytes + 8, json, length);
    for (size_t i = 0; i < data; i++)
        bytes[8 + length + i] = data_byte(i);
    put_file(path, bytes, 8 + length + data);
    free(bytes);
}

static inline void put_model(const char *path, const char *json, size_t data)
{
    put_model_n(path, json, strlen(json), data);
}

static inline struct vcl_model *open_model(const char *path)
{
    struct vcl_model *model;
    struct vcl_error error = { 0 };
    if (vcl_model_open(path, NULL, &model, &error) != VCL_OK)
        fail_msg("%s", error.text);
    return model;
}

/* Opening must fail with this status and with these words. */
static inline void refuse_model(const char *path, const struct vcl_model_options *options,
                                enum vcl_status status, const char *says)
{
    struct vcl_model *model;
    struct vcl_error error = { 0 };
    const enum vcl_status got = vcl_model_open(path, options, &model, &error);
    if (got == VCL_OK)
        fail_msg("%s was accepted", path);
    assert_null(model);
    if (got != status || error.status != status || strstr(error.text, says) == NULL)
        fail_msg("status %d, wanted %d; \"%s\" should say \"%s\"", got, status, error.text, says);
}

#endif
