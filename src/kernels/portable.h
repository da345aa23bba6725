/* portable.h - what the templates' files in portable C begin with: names and attributes. */
#ifndef VCL_PORTABLE_H
#define VCL_PORTABLE_H

#define KERNEL(name) vcl_##name##_c
#define TARGET
#define INLINE static inline __attribute__((always_inline))

#endif
