#!/bin/sh
# All tests of a build, the same under AddressSanitizer and UndefinedBehaviorSanitizer, those with threads under
# ThreadSanitizer (with VCLLM_LONG all in C), the fuzzers, and what they found once more under MemorySanitizer; with
# VCLLM_LONG, how much of the codec they run.  Without it the labels "long" and, under sanitizers, "plain" are left out.
# Usage: check.sh BUILD JOBS FUZZ-SECONDS
set -e
build=$1 jobs=$2 seconds=$3
run() { (cd "$1" && ctest -j "$jobs" --output-on-failure -R "$2" -LE "$3"); }

# Usage: compile BUILD SANITIZERS TARGET...
compile() {
    cmake -S . -B "$1" -DVCLLM_WERROR=ON -DVCLLM_SANITIZE="$2" -DCMAKE_BUILD_TYPE=RelWithDebInfo >/dev/null
    folder=$1
    shift 2
    cmake --build "$folder" -j "$jobs" --target "$@" >/dev/null
}

long=long plain='long|plain' threaded='backward pool frame_threads frame_contexts model pack writer threads_py'
if [ -n "$VCLLM_LONG" ]; then
    long=none plain=none threaded='backward base cache frame lossless model pack pool roundtrip safetensors stages trellis writer run_py'
fi
run "$build" . "$long"
compile "$build-sanitize" address,undefined,float-cast-overflow all
run "$build-sanitize" . "$plain"
compile "$build-thread" thread cli probe $(for name in $threaded; do echo "test_$name"; done |
    sed '/_py$/d; s/_threads$//; /_contexts$/d')
run "$build-thread" "^test_($(echo "$threaded" | tr ' ' '|'))\$" "$long"
sh packaging/fuzz.sh "$build-fuzz" "$jobs" "$seconds"
sh packaging/memory.sh "$build" "$jobs"
[ -z "$VCLLM_LONG" ] || sh packaging/coverage.sh "$build" "$jobs" fuzz
