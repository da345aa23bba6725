#!/usr/bin/python3
"""check_documents.py - the documents, held against the files and against each other.

    check_documents.py [ROOT]         a line per fault; exit status 1 if there is one
    check_documents.py --map [ROOT]   prints docs/map.md, from what every file says of itself in its opening

Faults it would catch: prose too wide to read in a terminal; a design that has grown beyond an hour's reading; a source
file that the map does not name, or one in the map that is gone; a link that leads nowhere; eight steps that are
numbered in one way in docs/design.md and in another in tile.c, in a step's own file or in docs/format.md; a picture
drawn from other figures than docs/results.md has; bytes in docs/format.md that the golden vector does not have.
"""
import hashlib
import os
import re
import subprocess
import sys

WIDTH, DESIGN_LINES, STEPS = 100, 250, 8
CODEC = "src/codec"
EXAMPLE = "tests/vectors/tensor-mean.frame"
SEVERAL = ("tile.c", "tensor.c", "tables.c", "frame.c", "lavc.c")     # have a part in several
MAPPED = (".c", ".h", ".py", ".sh")

# The folders of the map, in the order in which a newcomer meets them, and what each is.
FOLDERS = (
    ("include", "The public headers: the manual of the C library. Everything outside src/ sees these alone."),
    ("src", "The library's own front."),
    ("src/base", "Floor 0, on libc alone: what every floor above needs."),
    ("src/kernels", "Floor 1: every hot loop, in portable C, which is the definition, and by CPU level."),
    ("src/kernels/x86", "The same loops with AVX2 and AVX-512: a header for each level, and files that fill the templates."),
    ("src/codec", "Floor 2: tensors to frames and back. tile.c is the file to read first."),
    ("src/kv", "Floor 3: pages of KV caches, on the codec. kv_page.c is the file to read first."),
    ("src/io", "Model files, on base only: safetensors, folders of shards, writing whole or not at all."),
    ("src/video", "The module that knows libavcodec, loaded at run time, and the core's side of it."),
    ("lm/common", "What the runtime's rooms share: faults and JSON fields."),
    ("lm/net", "The network: weights, forward pass, cache, sampling. forward.c is the file to read first."),
    ("lm/text", "Text to tokens and back, as tokenizer.json says."),
    ("lm/eval", "Perplexity and multiple choice."),
    ("lm/allot", "Where a model's bits go."),
    ("lm/cache", "How a model's KV cache is coded: learned from its own text. learn.c is the file to read first."),
    ("lm/merge", "Other weights of the same model: norms and rotations merged in."),
    ("pack/front", "Whole models: what libvcllm_pack offers, on pack's rooms and the runtime."),
    ("pack/common", "What the rooms of pack share: one long call with its hooks and faults, texts, the loop over tensors."),
    ("pack/layout", "What a compressed or restored file holds, and the values of any tensor."),
    ("pack/folder", "Folders of shards: opened, checked, written whole or not at all."),
    ("pack/convert", "Tensors of a GGUF file as the checkpoint has them that it was made from."),
    ("pack/policy", "What is done with each tensor of a model, and why."),
    ("pack/jobs", "Compress, decompress, verify: a model in, a model out."),
    ("cli", "The command line: a verb is a file; the others are what verbs share."),
    ("python/vcllm", "The Python package, by ctypes on the public headers."),
    ("bench", "What prints the figures of docs/results.md."),
    ("fuzz", "Fuzzers and their seeds."),
    ("tests", "Tests by stage, a second decoder, and the checks of this house."),
    ("tests/cli", "Tests of the command line."),
    ("examples", "What `make demo` runs."),
    ("packaging", "Scripts behind the Makefile, and what other builds find the library by."),
    ("tools", "Programs that print source."))

# What else there is: files, and folders of which a line says enough.
OTHERS = {
    "README.md": "The first page; \"Where to read on\" there says what each document is",
    "NEWS.md": "What is new, for users", "CONTRIBUTING.md": "How to change something", "LICENSE": "Apache-2.0",
    "docs/": "The documents, and README's picture", "models/": "The sample model and a text",
    "Makefile": "The usual commands, thin over CMake", "CMakeLists.txt": "The build and the installation",
    "tests/CMakeLists.txt": "Which tests there are and how they run",
    "tests/lsan.supp": "Leaks of libx265, which are not ours",
    "tests/questions.jsonl": "Questions of multiple choice for `vcllm eval`",
    "tests/vectors/": "Golden vectors: frames written once, which must decode to the same values for ever",
    "packaging/vcllm.pc.in": "How pkg-config finds an installed library",
    "packaging/vcllm_pack.pc.in": "And the library for whole models",
    "packaging/vcllmConfig.cmake.in": "How CMake finds one",
    "packaging/bundle.cmake": "What a wheel holds besides our own libraries: those that they need, and licences",
    "python/pyproject.toml": "How pip installs the package",
    ".ci/run": "What runs on every commit", ".clang-format": "How C is laid out", ".gitignore": "What builds leave"}


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8") as file:
        return file.read()


def is_ours(path):
    """Of files that git does not know: what lies where the project's do, and no model that somebody made here."""
    is_source = path.endswith(MAPPED) and os.path.dirname(path) in dict(FOLDERS)
    return is_source or path in OTHERS or path.startswith("docs/")


def project_files(root):
    """What git knows, and what belongs there; without git, what belongs there."""
    def ask(*words):
        found = subprocess.run(["git", "-C", root, "ls-files", *words], capture_output=True, text=True, check=False)
        return found.stdout.splitlines()

    known, others = ask(), ask("--others", "--exclude-standard")
    if not known:
        others = [os.path.relpath(os.path.join(folder, name), root)
                  for folder, _, names in os.walk(root) for name in names]
    found = set(known) | set(filter(is_ours, others))
    return sorted(path for path in found if os.path.exists(os.path.join(root, path)))


# ---- prose ----------------------------------------------------------------------------------------------------------

def prose(text):
    """Lines of a document, numbered, that are neither a table's nor code."""
    fenced = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced and not line.lstrip().startswith("|"):
            yield number, line


def width_faults(root, path):
    for number, line in prose(read(root, path)):
        if len(line) > WIDTH and " " in line.strip():
            yield f"{path}:{number}: {len(line)} columns, more than {WIDTH}"


def link_faults(root, path):
    text = read(root, path)
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", text):
        if "://" not in target and not os.path.exists(os.path.join(root, os.path.dirname(path), target)):
            yield f"{path}: links to {target}, which is not there"
    for target, heading in re.findall(r"(docs/\w+\.md),\s+\"([^\"]+)\"", text):
        if not any(found.startswith(" ".join(heading.split())) for found in headings(read(root, target))):
            yield f"{path}: {target} has no \"{heading}\""


def headings(text):
    """Headings, and what begins a paragraph in bold: **Canonical header.**"""
    return re.findall(r"^#+ (.*)$", text, re.M) + re.findall(r"^\*\*([^*]+)\*\*", text, re.M)


# ---- the map --------------------------------------------------------------------------------------------------------

def mapped(root):
    """Files that have a line of their own in the table of their folder, and the others that have none of theirs."""
    for path in project_files(root):
        if path.endswith(MAPPED) and os.path.dirname(path) in dict(FOLDERS):
            yield path
        elif path not in OTHERS and not path.startswith(tuple(other for other in OTHERS if other.endswith("/"))):
            yield path


def opening(root, path):
    """The first sentence of what a file says of itself, without its name."""
    text = re.sub(r"^#!.*\n", "", read(root, path)).lstrip()
    if text.startswith("/*"):
        text = text[2:text.index("*/")]
    elif text.startswith('"""'):
        text = text[3:text.index('"""', 3)]
    elif text.startswith("#"):
        text = " ".join(line[1:] for line in text[:text.find("\n\n")].splitlines() if line.startswith("#"))
    else:
        return ""
    text = re.sub(r"\s+", " ", re.sub(r"^[ \t]*\*+[ \t]?", "", text.split("\n\n")[0].split("\n *\n")[0], flags=re.M))
    text = re.sub(r"^\s*[\w./]+\.\w+ (FOLDER )?- ", "", text).strip()
    text = re.split(r"(?<=\w[.)])\s+(?=[A-Z])", text, maxsplit=1)[0].rstrip(".")
    text = text.replace("THE FILE TO READ FIRST", "").rstrip(" :.").replace("|", "\\|")
    return text


def print_map(root):
    print("# The map of the files\n")
    print("Every file, and what it is for. `tests/check_documents.py --map` prints this page from the files'\n"
          "own openings; as a test it fails where the page misses a file. [design.md](design.md) says which\n"
          "floor may see which.\n")
    paths = list(mapped(root))
    for folder, what in FOLDERS:
        here = [os.path.basename(path) for path in paths if os.path.dirname(path) == folder]
        if not here:
            continue
        print(f"## {folder}/\n\n{what}\n\n| file | what it is |\n|---|---|")
        for name in here:
            stem, end = os.path.splitext(name)
            if end == ".h" and stem + ".c" in here:
                continue
            names = f"{name}, {stem}.h" if stem + ".h" in here and end == ".c" else name
            # Headers say what there is for others, and .c files how it is done; in src/codec both say what.
            telling = name if folder == CODEC else names.split(", ")[-1]
            print(f"| {names} | {opening(root, os.path.join(folder, telling))} |")
        print()
    print("## Other files\n\n| file | what it is |\n|---|---|")
    print("\n".join(f"| {path} | {what} |" for path, what in OTHERS.items()))


def map_faults(root):
    text = read(root, "docs/map.md")
    named = {}
    for part in re.split(r"^## ", text, flags=re.M)[1:]:
        folder = part.split("\n", 1)[0].rstrip("/")
        for cell in re.findall(r"^\| ([^|]+) \|", part, re.M):
            if folder in dict(FOLDERS):
                named.update((f"{folder}/{name}", 1) for name in cell.split(", ") if "." in name)
    known = dict.fromkeys(mapped(root))
    yield from (f"{path}: not in docs/map.md (tests/check_documents.py --map prints it)" for path in known
                if path not in named)
    yield from (f"docs/map.md: names {path}, which is not there" for path in named if path not in known)
    yield from (f"docs/map.md: does not name {path}" for path in OTHERS if f"| {path} |" not in text)


# ---- steps, figures, bytes ------------------------------------------------------------------------------------------

def steps_of(text):
    """Number and name, as `1 plan:` in a comment's lines or `1. **plan**` in a document's."""
    return re.findall(r"^(?: \* | ?)([1-8])(?: |\. \*\*)(\w+(?: \w+)?)(?::|\*\*)", text, re.M)


def step_faults(root):
    wanted = steps_of(read(root, "docs/design.md"))
    if [int(number) for number, _ in wanted] != list(range(1, STEPS + 1)):
        yield f"docs/design.md: its steps are {wanted}"
    for path in ("src/codec/tile.c", "docs/format.md"):
        if steps_of(read(root, path)) != wanted:
            yield f"{path}: its steps are {steps_of(read(root, path))}, not docs/design.md's"
    names = dict(wanted)
    claimed = set()
    for path in mapped(root):
        found = path.startswith(CODEC) and re.match(r"/\* (\w+\.\w) - step (\d)(?:, \w+)?: ", read(root, path))
        if found and found.group(2) not in names:
            yield f"{path}: there is no step {found.group(2)}"
        elif found:
            claimed.add((found.group(1), found.group(2)))
    files = re.findall(r"^([1-8])\. \*\*(?:.|\n)*?Files: ((?:.|\n)*?)\.$", read(root, "docs/design.md"), re.M)
    if len(files) != STEPS:
        yield "docs/design.md: not every step names its files"
    for number, line in files:
        for name in re.findall(r"\w+\.c", line):
            if name not in SEVERAL and (name, number) not in claimed:
                yield f"docs/design.md: step {number} names {name}, whose opening does not say so"


def figure_faults(root):
    """The SVG holds the hash of the rows that it was drawn from (bench/figure.py)."""
    sys.path.insert(0, os.path.join(root, "bench"))
    import figure
    rows = figure.source(read(root, "docs/results.md"))
    if hashlib.sha256(rows.encode()).hexdigest() not in read(root, "docs/perplexity.svg"):
        yield "docs/perplexity.svg: drawn from other figures than docs/results.md has; run bench/figure.py"


def example_faults(root):
    """The worked example of docs/format.md: offsets and bytes, as `  24  06 00 ...`, are the golden vector's."""
    with open(os.path.join(root, EXAMPLE), "rb") as file:
        frame = file.read()
    text = read(root, "docs/format.md")
    lines = re.findall(r"^\| (\d+) \| `([0-9a-f ]+)(?: …)?` \|", text, re.M)
    if EXAMPLE not in text or len(lines) < 10:
        yield f"docs/format.md: has no worked example of {EXAMPLE}"
    for offset, octets in lines:
        told = bytes.fromhex(octets)
        if frame[int(offset):int(offset) + len(told)] != told:
            yield f"docs/format.md: at byte {offset} of {EXAMPLE} is not {octets}"


def main():
    words = [word for word in sys.argv[1:] if word != "--map"]
    root = words[0] if words else os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if "--map" in sys.argv:
        print_map(root)
        return
    documents = [path for path in project_files(root) if path.endswith(".md")]
    faults = [fault for path in documents for check in (width_faults, link_faults) for fault in check(root, path)]
    if len(read(root, "docs/design.md").splitlines()) > DESIGN_LINES:
        faults.append(f"docs/design.md: more than {DESIGN_LINES} lines")
    for check in (map_faults, step_faults, figure_faults, example_faults):
        faults += check(root)
    print("\n".join(faults) if faults else f"documents: {len(documents)} documents, no fault")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
