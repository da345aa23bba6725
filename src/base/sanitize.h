/* sanitize.h - what sanitizers cannot know of blocks that the library hands out itself; nothing without
 * them. */
#ifndef VCL_SANITIZE_H
#define VCL_SANITIZE_H

#include <stddef.h>

#if defined(__has_feature)
#define VCL_HAS_SANITIZER(name) __has_feature(name)
#else
#define VCL_HAS_SANITIZER(name) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || VCL_HAS_SANITIZER(address_sanitizer)
#include <sanitizer/asan_interface.h>
/* Nobody may touch these bytes; and again everybody may. */
static inline void vcl_poison(void *bytes, size_t n) { __asan_poison_memory_region(bytes, n); }
static inline void vcl_unpoison(void *bytes, size_t n) { __asan_unpoison_memory_region(bytes, n); }
#elif VCL_HAS_SANITIZER(memory_sanitizer)
#include <sanitizer/msan_interface.h>
static inline void vcl_poison(void *bytes, size_t n) { __msan_poison(bytes, n); }
/* Nothing has been written there. */
static inline void vcl_unpoison(void *bytes, size_t n) { __msan_poison(bytes, n); }
#else
static inline void vcl_poison(void *bytes, size_t n) { (void)bytes, (void)n; }
static inline void vcl_unpoison(void *bytes, size_t n) { (void)bytes, (void)n; }
#endif

#endif
