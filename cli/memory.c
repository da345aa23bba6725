/* memory.c - what the system says of memory. */
#include "cli.h"

/* The first line of the file that the format reads a number of KiB from, in bytes; 0: none. */
static uint64_t read_figure(const char *path, const char *format)
{
    FILE *file = fopen(path, "r");
    char line[256];
    unsigned long long kib = 0;
    while (file && fgets(line, sizeof line, file))
        if (sscanf(line, format, &kib) == 1)
            break;
    if (file)
        fclose(file);
    return (uint64_t)kib * 1024;
}

/* Not getrusage's figure, which begins with what the program had that started this one. */
uint64_t vcl_memory_peak(void) { return read_figure("/proc/self/status", "VmHWM: %llu kB"); }

uint64_t vcl_memory_free(void) { return read_figure("/proc/meminfo", "MemAvailable: %llu kB"); }
