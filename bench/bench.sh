#!/bin/sh
# Rate, error and speed of every codec and preset, on N(0,1), Laplace, the sample model and, where VCLLM_DATA names the
# folder of docs/data.md, on its matrices.  Usage: bench.sh PATH-TO-vcllm [OPTIONS OF vcllm bench]
set -e
vcllm=$1
shift
set -- "$@" models/tiny-llama/model.safetensors
if [ -n "$VCLLM_DATA" ]; then
    set -- "$@" "$VCLLM_DATA"/weights/*.safetensors "$VCLLM_DATA"/encoder/*.safetensors
else
    echo "VCLLM_DATA is not set: without the real models of docs/data.md" >&2
fi
exec "$vcllm" bench "$@"
