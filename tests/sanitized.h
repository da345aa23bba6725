/* sanitized.h - SANITIZED: under a sanitizer, which has allocators of its own and takes its time; and how
 * often a test does a thing. */
#ifndef VCL_TEST_SANITIZED_H
#define VCL_TEST_SANITIZED_H

#include <stdlib.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

/* `make check-long` sets VCLLM_LONG and gets the most; else fewer under a sanitizer, which looks for accesses
 * rather than for values, and is some five times as slow. */
static inline int vcl_how_many(int sanitized, int plain, int most)
{
#ifdef SANITIZED
    (void)plain;
    const int usual = sanitized;
#else
    (void)sanitized;
    const int usual = plain;
#endif
    return getenv("VCLLM_LONG") ? most : usual;
}

#endif
