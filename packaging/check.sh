#!/bin/sh
# All tests of a build, the same under sanitizers, then the fuzzers.  Usage: check.sh BUILD JOBS FUZZ-SECONDS
set -e
build=$1 jobs=$2 seconds=$3
run() { (cd "$1" && ctest -j "$jobs" --output-on-failure); }

run "$build"
cmake -S . -B "$build-sanitize" -DVCLLM_WERROR=ON -DVCLLM_SANITIZE=address,undefined,float-cast-overflow \
    -DCMAKE_BUILD_TYPE=RelWithDebInfo >/dev/null
cmake --build "$build-sanitize" -j "$jobs" >/dev/null
run "$build-sanitize"
sh packaging/fuzz.sh "$build-fuzz" "$jobs" "$seconds"
