#!/usr/bin/python3
"""check_arrows.py - checks that the house keeps its order: who may see whom, from the #include lines; rooms inside the
codec, pack and the runtime; one file of a name, one struct, union or enum of a tag.

    check_arrows.py [ROOT]        a line per fault; exit status 1 if there is one
"""
import os
import re
import sys

# Area of a file, by the longest matching prefix of its path.
AREAS = {"include/": "include", "src/base/": "base", "src/kernels/": "kernels", "src/codec/": "codec", "src/kv/": "kv", "src/io/": "io",
         "src/video/": "video", "src/video/lavc": "lavc", "src/video/loader": "loader",
         "src/vcllm": "vcllm.c", "src/context": "vcllm.c", "pack/": "pack",
         "pack/front/": "front", "cli/": "cli", "mpi/": "mpi", "lm/": "lm", "bench/": "bench", "fuzz/": "fuzz",
         "examples/": "examples", "tests/": "tests"}

INSIDE = {"include", "base", "kernels", "codec", "kv", "io", "video", "lavc", "loader"}

# What an area may include, besides itself.  "video" is video.h, the table through which the module is reached.
SEES = {"include": set(),
        "base": {"include"},
        "kernels": {"include", "base"},
        "codec": {"include", "base", "kernels", "video"},
        "kv": {"include", "base", "kernels", "codec", "video"},
        "io": {"include", "base"},
        "video": {"include"},
        "lavc": {"include", "video"},
        "loader": {"include", "base", "video"},
        "vcllm.c": {"include", "base", "kernels", "codec", "kv", "video", "loader"},
        "pack": {"include"},
        "front": {"include", "pack", "lm"},
        "cli": {"include", "pack", "front", "lm"},
        "mpi": {"include"},
        "lm": {"include"},
        "bench": {"include"},
        "examples": {"include"},
        "fuzz": INSIDE | {"lm"},
        "tests": INSIDE | {"pack", "front", "cli", "mpi", "lm", "fuzz"}}

# The codec's rooms, lowest first.  A file sees the rooms below its own, and of its own room only itself, so that stages
# do not know each other; who encodes shares encoder.h and may.
ROOMS = ({"env", "plan", "rans", "rate"},                                                              # shared ground
         {"rotate", "transform", "scale", "model", "model_cdf", "trellis", "lanes", "picture",         # stages
          "levels", "palette", "multiples", "segment", "snap", "plane"},                                                  # and of lossless
         {"lossless"},
         {"frame"},
         {"tables", "estimate"},
         {"tensor"},
         {"tile"},
         {"walk", "matrix", "recipe"},
         {"decode", "product"},
         {"encoder", "encode", "passes", "analyse", "search_tensor", "search_video", "learn_tensor", "shape_points", "floor"})

# Within a room: a trellis weighs paths by the model's costs; a model has its tables beside it; palette and multiples
# are the two kinds of levels.
NEIGHBOURS = {("trellis", "model"), ("model", "model_cdf"), ("palette", "levels"), ("multiples", "levels"),
              ("multiples", "segment"), ("multiples", "snap"), ("snap", "segment"), ("segment", "levels")}

# The runtime's rooms are its folders; what each sees besides itself.
LM_ROOMS = {"common": set(),
            "net": {"common"},
            "text": {"common"},
            "eval": {"common", "net", "text"},
            "allot": {"common", "net", "text", "eval"},
            "merge": {"common", "net"},
            "cache": {"common", "net", "allot"}}

# And those of pack.
PACK_ROOMS = {"common": set(),
              "layout": {"common"},
              "folder": {"common"},
              "convert": {"common"},
              "policy": {"common", "layout", "folder"},
              "jobs": {"common", "layout", "folder", "policy"}}

# Two levels of CPU have a type each of the same name, from which a template takes the one or the other.
LEVELS = re.compile(r"_(avx2|avx512)\.[ch]$")

# Libraries that only some areas may know; libc is open to all.
LIBRARIES = {re.compile(r"libav|libsw"): {"lavc"},
             re.compile(r"dlfcn\.h"): {"loader", "lavc"},
             re.compile(r"jansson\.h"): {"io", "pack", "cli", "lm", "bench", "tests"},
             re.compile(r"pcre2\.h"): {"lm", "pack"},
             re.compile(r"utf8proc\.h"): {"lm"},
             re.compile(r"xxhash\.h"): {"base", "cli", "tests"},
             re.compile(r"mpi\.h"): {"mpi", "tests"},
             re.compile(r"cmocka\.h"): {"tests"}}

TAG = re.compile(r"\b(?:struct|union|enum)\s+(\w+)\s*\{")
COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', re.M)


def area_of(path):
    prefix = max((prefix for prefix in AREAS if path.startswith(prefix)), key=len, default=None)
    return AREAS.get(prefix)


def source_files(root):
    """Paths from root of the C and Python files of the project's own folders."""
    for top in ("include", "src", "pack", "cli", "mpi", "lm", "bench", "fuzz", "examples", "tests", "python"):
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in sorted(names):
                if name.endswith((".c", ".h", ".py")):
                    yield os.path.relpath(os.path.join(folder, name), root)


def resolve(root, path, included):
    """The project's file that an #include "..." means, None if there is none."""
    for folder in (os.path.dirname(path), "include", "src", "pack", "lm"):
        candidate = os.path.normpath(os.path.join(folder, included))
        if os.path.isfile(os.path.join(root, candidate)):
            return candidate
    return None


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        return file.read()


def library_faults(area, included):
    for pattern, areas in LIBRARIES.items():
        if pattern.match(included) and area not in areas:
            yield f"{area} may not include <{included}>"


def room_of(path):
    """The number of the codec's room that a file is in, None for a file in no room."""
    name = os.path.splitext(os.path.basename(path))[0]
    return next((number for number, names in enumerate(ROOMS) if name in names), None)


def room_faults(path, target):
    """Of a file of the codec that includes another."""
    names = tuple(os.path.splitext(os.path.basename(p))[0] for p in (path, target))
    here, there = room_of(path), room_of(target)
    if None in (here, there):
        yield f"{names[here is not None]} is in no room of the codec: see ROOMS"
    elif there > here or (there == here < len(ROOMS) - 1 and names[0] != names[1] and names not in NEIGHBOURS):
        yield f"{names[0]} may not include {target}, a room {'above' if there > here else 'beside'} it"


def folder_faults(path, target, rooms):
    """Of a file of an area whose rooms are its folders that includes another."""
    area, here = path.split("/")[:2]
    there = target.split("/")[1]
    if here not in rooms:
        yield f"{here} is no room of {area}: see {area.upper()}_ROOMS"
    elif there != here and there not in rooms[here]:
        yield f"{area}/{here} may not include {target}"


def include_faults(path, text, root):
    area = area_of(path)
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
            elif area == area_of(target) == "codec":
                yield from room_faults(path, target)
            elif area == area_of(target) and area in ("lm", "pack"):
                yield from folder_faults(path, target, LM_ROOMS if area == "lm" else PACK_ROOMS)


def tag_faults(texts):
    """A tag is defined once in the tree: two types of one name compile in silence when they are mixed up."""
    seen = {}
    for path, text in texts.items():
        for tag in TAG.findall(COMMENT.sub("", text)):
            first = seen.setdefault(tag, path)
            are_levels = first != path and LEVELS.sub("", first) == LEVELS.sub("", path)
            if seen.get((tag, path)) or first != path and not are_levels:
                yield f"{path}: defines {tag}, as {first} does"
            seen[tag, path] = True


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
    texts = {path: read(root, path) for path in paths if path.endswith((".c", ".h"))}
    faults = list(name_faults(paths)) + list(tag_faults(texts))
    for path, text in texts.items():
        faults += [f"{path}: {fault}" for fault in include_faults(path, text, root)]
    print("\n".join(faults) if faults else f"arrows: {len(paths)} files, no fault")
    sys.exit(1 if faults or not paths else 0)


if __name__ == "__main__":
    main()
