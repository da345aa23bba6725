#!/usr/bin/python3
"""check_arrows.py - checks from the #include lines that the house keeps its floors: who may see whom.

    check_arrows.py [ROOT]        a line per fault; exit status 1 if there is one
"""
import os
import re
import sys

# Area of a file, by the longest matching prefix of its path.
AREAS = {"include/": "include", "src/base/": "base", "src/kernels/": "kernels", "src/codec/": "codec", "src/io/": "io",
         "src/video/": "video", "src/video/lavc": "lavc", "src/video/loader": "loader",
         "src/vcllm.c": "vcllm.c", "cli/": "cli", "mpi/": "mpi", "run/": "run", "bench/": "bench", "fuzz/": "fuzz",
         "examples/": "examples", "tests/": "tests"}

INSIDE = {"include", "base", "kernels", "codec", "io", "video", "lavc", "loader"}

# What an area may include, besides itself.  "video" is video.h, the table through which the module is reached.
SEES = {"include": set(),
        "base": {"include"},
        "kernels": {"include", "base"},
        "codec": {"include", "base", "kernels", "video"},
        "io": {"include", "base"},
        "video": {"include"},
        "lavc": {"include", "video"},
        "loader": {"include", "base", "video"},
        "vcllm.c": {"include", "base", "kernels", "codec", "video", "loader"},
        "cli": {"include", "run"},
        "mpi": {"include"},
        "run": {"include"},
        "bench": {"include"},
        "examples": {"include"},
        "fuzz": INSIDE | {"run"},
        "tests": INSIDE | {"cli", "mpi", "run", "fuzz"}}

# Libraries that only some areas may know; libc is open to all.
LIBRARIES = {re.compile(r"libav|libsw"): {"lavc"},
             re.compile(r"dlfcn\.h"): {"loader", "lavc"},
             re.compile(r"jansson\.h"): {"io", "cli", "run", "bench", "tests"},
             re.compile(r"pcre2\.h"): {"run", "cli"},
             re.compile(r"utf8proc\.h"): {"run"},
             re.compile(r"xxhash\.h"): {"base", "cli", "tests"},
             re.compile(r"mpi\.h"): {"mpi", "tests"},
             re.compile(r"cmocka\.h"): {"tests"}}

INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def area_of(path):
    prefix = max((prefix for prefix in AREAS if path.startswith(prefix)), key=len, default=None)
    return AREAS.get(prefix)


def source_files(root):
    """Paths from root of the C and Python files of the project's own folders."""
    for top in ("include", "src", "cli", "mpi", "run", "bench", "fuzz", "examples", "tests", "python"):
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                if name.endswith((".c", ".h", ".py")):
                    yield os.path.relpath(os.path.join(folder, name), root)


def resolve(root, path, included):
    """The project's file that an #include "..." means, None if there is none."""
    for folder in (os.path.dirname(path), "include", "src", "run"):
        candidate = os.path.normpath(os.path.join(folder, included))
        if os.path.isfile(os.path.join(root, candidate)):
            return candidate
    return None


def library_faults(area, included):
    for pattern, areas in LIBRARIES.items():
        if pattern.match(included) and area not in areas:
            yield f"{area} may not include <{included}>"


def include_faults(root, path):
    area = area_of(path)
    with open(os.path.join(root, path), encoding="utf-8") as file:
        text = file.read()
    for bracket, included in INCLUDE.findall(text):
        if included.endswith(".c"):
            yield f"includes {included}"
        elif bracket == "<":
            yield from library_faults(area, included)
        else:
            target = resolve(root, path, included)
            if target is None:
                yield f"includes {included}, which is no file of the project"
            elif area_of(target) != area and area_of(target) not in SEES[area]:
                yield f"{area} may not include {target}"


def name_faults(paths):
    """File names are unique, so that one names one file."""
    seen = {}
    for path in paths:
        name = os.path.basename(path)
        if name in seen and name != "__init__.py":
            yield f"{path}: same name as {seen[name]}"
        seen[name] = path


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    paths = list(source_files(root))
    faults = list(name_faults(paths))
    for path in paths:
        if path.endswith((".c", ".h")):
            faults += [f"{path}: {fault}" for fault in include_faults(root, path)]
    print("\n".join(faults) if faults else f"arrows: {len(paths)} files, no fault")
    sys.exit(1 if faults or not paths else 0)


if __name__ == "__main__":
    main()
