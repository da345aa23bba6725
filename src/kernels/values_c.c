/* values_c.c - the loops over values in portable C. */
#define KERNEL(name) vcl_##name##_c
#define TARGET
#include "kernels/values_template.h"
