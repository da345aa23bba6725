#!/bin/sh
# Lines of src/codec that run: under the fuzzers' inputs of BUILD-fuzz, and under these and all tests; with "fuzz" only
# the first.  Without clang and llvm it only says so.  Usage: coverage.sh BUILD JOBS [fuzz]
set -e
build=$1 jobs=$2 what=$3

for tool in clang llvm-cov llvm-profdata; do
    command -v $tool >/dev/null || { echo "coverage skipped: no $tool (make coverage installs it)"; exit 0; }
done

# Per file: lines that run of those there are.  Usage: report PROFILE OBJECT...
report() {
    profile=$1; shift
    objects=$1; shift
    for object; do objects="$objects -object $object"; done
    llvm-cov report $objects -instr-profile="$profile" src/codec |
        awk '$1 ~ /[.][ch]$/ || $1 == "TOTAL" { printf "    %-18s %6d of %6d lines  %6s\n", $1, $8 - $9, $8, $10 }' | sort
}

# Usage: compile BUILD TARGET OPTION
compile() {
    cmake -S . -B "$1" -DCMAKE_C_COMPILER=clang -DVCLLM_COVERAGE=ON -DCMAKE_BUILD_TYPE=RelWithDebInfo "$3" >/dev/null
    cmake --build "$1" -j "$jobs" --target "$2" >/dev/null
    rm -rf "$1/profiles"
}

fuzz=$build-coverage-fuzz
compile "$fuzz" fuzzers -DVCLLM_FUZZ=ON
python3 fuzz/seeds.py "$fuzz/seeds"
for fuzzer in "$fuzz"/fuzz_*; do
    name=$(basename "$fuzzer")
    mkdir -p "$build-fuzz/corpus/$name"
    LLVM_PROFILE_FILE="$fuzz/profiles/$name.profraw" VCLLM_MODULE_DIR=/nonexistent "$fuzzer" -runs=0 \
        "$build-fuzz/corpus/$name" "$fuzz/seeds" tests/vectors >/dev/null 2>&1
done
llvm-profdata merge -o "$fuzz/profile" "$fuzz"/profiles/*.profraw
echo "src/codec under the fuzzers' inputs:"
report "$fuzz/profile" "$fuzz"/fuzz_*
[ "$what" = fuzz ] && exit 0

tests=$build-coverage
compile "$tests" all -DVCLLM_FUZZ=OFF
# The command line's tests run it as other users, who cannot write profiles; they add nothing here.
(cd "$tests" && LLVM_PROFILE_FILE="$PWD/profiles/%4m.profraw" ctest -j "$jobs" -E cli --output-on-failure >log) ||
    { cat "$tests/log"; exit 1; }
llvm-profdata merge -o "$tests/profile" "$fuzz"/profiles/*.profraw $(find "$tests/profiles" -name '*.profraw')
echo "src/codec under the fuzzers' inputs and the tests:"
report "$tests/profile" "$fuzz"/fuzz_* "$tests"/test_* "$tests"/libvcllm.so "$tests"/vcllm
