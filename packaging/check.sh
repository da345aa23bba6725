#!/bin/sh
# All tests of a build, then the same under sanitizers.  Usage: check.sh BUILD JOBS
set -e
build=$1 jobs=$2
export VCLLM_LONG
run() { (cd "$1" && ctest -j "$jobs" --output-on-failure); }

run "$build"
cmake -S . -B "$build-sanitize" -DVCLLM_WERROR=ON -DVCLLM_SANITIZE=address,undefined -DCMAKE_BUILD_TYPE=RelWithDebInfo >/dev/null
cmake --build "$build-sanitize" -j "$jobs" >/dev/null
run "$build-sanitize"
