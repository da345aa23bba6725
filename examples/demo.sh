#!/bin/sh
# Compresses the sample model to 2 bits per value, verifies it, brings it back and compares; then what it is still worth.
# Usage: demo.sh PATH-TO-vcllm
set -e
vcllm=$1
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

step() {
    echo
    echo "\$ vcllm $*"
    "$vcllm" "$@"
}
step compress models/tiny-llama -o "$out/small" --bits 2
step verify "$out/small"
step decompress "$out/small" -o "$out/back"
echo
echo "\$ vcllm compare models/tiny-llama $out/back     # last line"
"$vcllm" compare models/tiny-llama "$out/back" | tail -n 1

size() { cat "$1"/*.safetensors | wc -c; }
before=$(size models/tiny-llama) after=$(size "$out/small")
echo
echo "models/tiny-llama: $before bytes, compressed: $after bytes, $(awk "BEGIN { printf \"%.2f\", $before / $after }") times smaller"
step eval "$out/small" --text models/demo.txt --baseline models/tiny-llama
step run "$out/small" -p 'It was a dark and' --tokens 60
