/* sanitized.h - SANITIZED: under a sanitizer, which has allocators of its own and takes its time. */
#ifndef VCL_TEST_SANITIZED_H
#define VCL_TEST_SANITIZED_H

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#endif

#endif
