/* grown.c - what a caller compiled against an older or newer header gives and gets. */
#include "grown.h"

#include <string.h>

enum { MOST = 4096 }; /* no struct is larger: such a size has never been written to */

static size_t size_of(const void *given)
{
    size_t size;
    memcpy(&size, given, sizeof size);
    return size > sizeof size && size <= MOST ? size : 0;
}

int vcl_grown_take(const void *given, void *ours, size_t known)
{
    const size_t size = size_of(given);
    for (size_t i = known; i < size; i++)
        if (((const unsigned char *)given)[i] != 0)
            return 0;
    memcpy(ours, given, size < known ? size : known);
    memcpy(ours, &known, sizeof known);
    return size > 0;
}

int vcl_grown_give(const void *ours, size_t known, void *theirs)
{
    const size_t size = size_of(theirs);
    if (!size)
        return 0;
    memset(theirs, 0, size);
    memcpy(theirs, ours, size < known ? size : known);
    memcpy(theirs, &size, sizeof size);
    return 1;
}

void vcl_grown_init(const void *defaults, size_t known, void *theirs, size_t size)
{
    if (size < sizeof size)
        return;
    memcpy(theirs, &size, sizeof size);
    vcl_grown_give(defaults, known, theirs);
}
