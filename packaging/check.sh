#!/bin/sh
# All tests of a build, the same under AddressSanitizer and UndefinedBehaviorSanitizer, those with threads under
# ThreadSanitizer (with VCLLM_LONG all in C), the fuzzers, and what they found once more under MemorySanitizer; with
# VCLLM_LONG, how much of the codec they run.  Without it the label "plain" is left out where sanitizers are.
# Usage: check.sh BUILD JOBS FUZZ-SECONDS
set -e
build=$1 jobs=$2 seconds=$3
run() { (cd "$1" && ctest -j "$jobs" --output-on-failure -R "$2" -LE "${3:-none}"); }
compile() {
    cmake -S . -B "$1" -DVCLLM_WERROR=ON -DVCLLM_SANITIZE="$2" -DCMAKE_BUILD_TYPE=RelWithDebInfo >/dev/null
    cmake --build "$1" -j "$jobs" >/dev/null
}

run "$build" .
compile "$build-sanitize" address,undefined,float-cast-overflow
left_out=plain
[ -z "$VCLLM_LONG" ] || left_out=
run "$build-sanitize" . "$left_out"
compile "$build-thread" thread
threaded='^test_(base|frame|model|run_py|writer)$'
[ -z "$VCLLM_LONG" ] || threaded='^test_(base|frame|lossless|model|roundtrip|run_py|safetensors|stages|trellis|writer)$'
run "$build-thread" "$threaded"
sh packaging/fuzz.sh "$build-fuzz" "$jobs" "$seconds"
sh packaging/memory.sh "$build" "$jobs"
[ -z "$VCLLM_LONG" ] || sh packaging/coverage.sh "$build" "$jobs" fuzz
