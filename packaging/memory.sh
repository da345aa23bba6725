#!/bin/sh
# The fuzzers' seeds and what is in BUILD-fuzz/corpus once more under MemorySanitizer: base, kernels and codec read nothing
# that nobody wrote.  xxHash is compiled in, for the library was not built for it.  Without clang it only says so.
# Usage: memory.sh BUILD JOBS
set -e
build=$1-memory jobs=$2 inputs=$1-fuzz

if ! echo 'int LLVMFuzzerTestOneInput(const char *data, unsigned long size) { return !data && size; }' |
    clang -fsanitize=fuzzer,memory -x c - -o /dev/null 2>/dev/null; then
    echo "MemorySanitizer skipped: no clang with it (make check-long installs it)"
    exit 0
fi
cmake -S . -B "$build" -DCMAKE_C_COMPILER=clang -DVCLLM_FUZZ=ON -DVCLLM_SANITIZE=memory -DCMAKE_C_FLAGS=-DXXH_INLINE_ALL \
    -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBUILD_TESTING=OFF >/dev/null
cmake --build "$build" -j "$jobs" --target fuzz_frame fuzz_roundtrip >/dev/null
python3 fuzz/seeds.py "$build/seeds"

# Usage: replay NAME
replay() {
    mkdir -p "$inputs/corpus/$1"
    rm -f "$build/passed-$1"
    if VCLLM_MODULE_DIR=/nonexistent "$build/$1" -runs=0 -artifact_prefix="$build/" "$inputs/corpus/$1" \
        "$build/seeds" tests/vectors >"$build/log-$1" 2>&1; then
        touch "$build/passed-$1"
    fi
}
for name in fuzz_frame fuzz_roundtrip; do
    echo "$name under MemorySanitizer"
    replay "$name" &
done
wait
for name in fuzz_frame fuzz_roundtrip; do
    [ -e "$build/passed-$name" ] || { tail -n 60 "$build/log-$name"; exit 1; }
done
