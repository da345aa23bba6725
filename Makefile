# The usual commands, thin over CMake.  `make demo` and `make check` install what is missing (make deps) and build.

BUILD ?= build
JOBS ?= $(shell nproc)
CMAKE_FLAGS ?=
PREFIX ?= /usr/local

# What the library, the tool and the tests need, all in Debian 12.
PACKAGES = gcc make cmake pkg-config libjansson-dev libxxhash-dev libavcodec-dev libavutil-dev libcmocka-dev \
           ffmpeg python3 python3-numpy python3-xxhash

.PHONY: all deps demo check check-long sanitize bench install clean

all: $(BUILD)/stamp
	@cmake --build $(BUILD) -j $(JOBS)

$(BUILD)/stamp: | deps
	@cmake -S . -B $(BUILD) -DCMAKE_INSTALL_PREFIX=$(PREFIX) $(CMAKE_FLAGS) > $(BUILD)-cmake.log 2>&1 \
	    || { cat $(BUILD)-cmake.log; exit 1; }
	@rm -f $(BUILD)-cmake.log && touch $@

deps:
	@sh packaging/deps.sh $(PACKAGES)

demo: all
	@sh examples/demo.sh $(BUILD)/vcllm

# Warnings are errors here; everything runs once more under AddressSanitizer and UndefinedBehaviorSanitizer.
check: CMAKE_FLAGS += -DVCLLM_WERROR=ON
check: all
	@sh packaging/check.sh $(BUILD) $(JOBS)

check-long: check
	@VCLLM_LONG=1 sh packaging/check.sh $(BUILD) $(JOBS)

bench: all
	@sh bench/bench.sh $(BUILD)/vcllm

install: all
	@cmake --install $(BUILD)

clean:
	rm -rf build build-*
