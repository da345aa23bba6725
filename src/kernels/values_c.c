/* values_c.c - the loops over values in portable C. */
#include "kernels/portable.h"

#include "kernels/values_template.h"
