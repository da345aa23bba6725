/* feedback_c.c - the search with error feedback in portable C. */
#define KERNEL(name) vcl_##name##_c
#define TARGET
#include "kernels/feedback_template.h"
