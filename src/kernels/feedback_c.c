/* feedback_c.c - the search with error feedback in portable C. */
#include "kernels/portable.h"

#include "kernels/feedback_template.h"
