/* Random tensors with random parameters through the fuzzer's properties (fuzz/fuzz_roundtrip.c): whatever
 * vcllm.h promises of a frame holds, at every level of CPU and with more threads.  Fewer under sanitizers, where
 * the fuzzer takes up from here. */
#include "random.h"
#include "sanitized.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>

#include <cmocka.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Fault: a promise broken for some dtype, shape, value or parameter.  What is said on stderr tells which. */
static void promises_hold(void **unused)
{
    (void)unused;
    const int count = vcl_how_many(8, 120, 400);
    for (uint64_t seed = 1; seed <= (uint64_t)count; seed++) {
        uint64_t state = seed * 0x9E3779B97F4A7C15 + 1;
        uint8_t bytes[160];
        for (size_t i = 0; i < sizeof bytes; i++)
            bytes[i] = (uint8_t)(random_bits(&state) >> 32);
        LLVMFuzzerTestOneInput(bytes, seed % 4 == 0 ? sizeof bytes : seed % 4 == 1 ? 45 : 36);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(promises_hold) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
