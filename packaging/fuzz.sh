#!/bin/sh
# Every fuzzer of fuzz/ for some seconds, with libFuzzer and sanitizers, from the golden vectors or from seeds.py's
# inputs on.  What they find stays in BUILD/corpus, what crashes them in BUILD.  Without clang and its runtime it only says so.
# Usage: fuzz.sh BUILD JOBS SECONDS
set -e
build=$1 jobs=$2 seconds=$3

works() {
    echo 'int LLVMFuzzerTestOneInput(const char *data, unsigned long size) { return !data && size; }' |
        clang -fsanitize=fuzzer,address,undefined -x c - -o /dev/null 2>/dev/null
}
if ! works; then
    echo "fuzzing skipped: no clang with libFuzzer (make check-long installs it)"
    exit 0
fi
cmake -S . -B "$build" -DCMAKE_C_COMPILER=clang -DVCLLM_FUZZ=ON \
    -DVCLLM_SANITIZE=address,undefined,float-cast-overflow \
    -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBUILD_TESTING=OFF >/dev/null
cmake --build "$build" -j "$jobs" --target fuzzers >/dev/null

LSAN_OPTIONS=suppressions=$PWD/tests/lsan.supp:print_suppressions=0 VCLLM_MODULE_DIR=$build
export LSAN_OPTIONS VCLLM_MODULE_DIR
python3 fuzz/seeds.py "$build/seeds"
/usr/bin/python3 -B fuzz/seeds_text.py "$build/seeds-text"
/usr/bin/python3 -B fuzz/seeds_gguf.py "$build/seeds-gguf"
python3 -B fuzz/seeds_recipe.py "$build/seeds-recipe"
python3 -B fuzz/seeds_kv.py "$build/seeds-kv"

# Usage: fuzz NAME
fuzz() {
    seeds=tests/vectors
    [ "$1" = fuzz_roundtrip ] && seeds=$build/seeds
    [ "$1" = fuzz_text ] && seeds=$build/seeds-text
    [ "$1" = fuzz_gguf ] && seeds=$build/seeds-gguf
    [ "$1" = fuzz_recipe ] && seeds=$build/seeds-recipe
    [ "$1" = fuzz_kv ] && seeds=$build/seeds-kv
    mkdir -p "$build/corpus/$1"
    rm -f "$build/passed-$1"
    if "$build/$1" -max_total_time="$seconds" -timeout=60 -artifact_prefix="$build/" "$build/corpus/$1" "$seeds" \
        >"$build/log-$1" 2>&1; then
        touch "$build/passed-$1"
    fi
}

# As many side by side as there are jobs; those of a batch end together.
batch=""
wait_for_batch() {
    wait
    for name in $batch; do
        echo "$name: $seconds seconds"
        [ -e "$build/passed-$name" ] || { tail -n 60 "$build/log-$name"; exit 1; }
        tail -n 1 "$build/log-$name"
    done
    batch=""
}
for fuzzer in "$build"/fuzz_*; do
    name=$(basename "$fuzzer")
    fuzz "$name" &
    batch="$batch $name"
    [ "$(echo $batch | wc -w)" -lt "$jobs" ] || wait_for_batch
done
wait_for_batch
