/* A library built otherwise than it must be: this program has its own copies of the tensor codec's loops, compiled
 * with -ffp-contract=fast (tests/CMakeLists.txt), in place of the library's. */
#include "base/cpu.h"
#include "kernels/kernels.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

/* What the copies were compiled for, and the machine has. */
static int can_fuse(void)
{
#if defined(__x86_64__)
    return __builtin_cpu_supports("fma");
#else
    return 1;
#endif
}

static enum vcl_status create_at(enum vcl_cpu_level level)
{
    struct vcl_context *ctx = NULL;
    setenv("VCLLM_CPU", vcl_cpu_name(level), 1);
    const enum vcl_status status = vcl_context_create(NULL, &ctx);
    assert_true(status == VCL_OK ? ctx != NULL : ctx == NULL);
    vcl_context_destroy(ctx);
    return status;
}

/* Fault: a build without -ffp-contract=off works and writes other bytes, at some level of CPU. */
static void fused_loops_are_refused(void **unused)
{
    (void)unused;
    if (!can_fuse())
        skip();
    for (int level = VCL_CPU_C; level <= (int)vcl_cpu_detect(); level++) {
        assert_false(vcl_kernels_for((enum vcl_cpu_level)level)->rounds_products());
        assert_int_equal(create_at((enum vcl_cpu_level)level), VCL_E_BUILD);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(fused_loops_are_refused) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
