#!/usr/bin/python3
"""seeds_text.py FOLDER - inputs to start fuzz_text from: configurations, small tokenizers with a text, with questions,
and importance matrices."""
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests"))
from test_imatrix import write_gguf, write_older  # noqa: E402
from test_run import LLAMA3, MERGES, SHAPES, make_config, make_gpt2, make_neox, make_tokenizer  # noqa: E402
from test_tokenizer_json import REPLACE, STRIPPED, added, form, make, metaspace, without  # noqa: E402
import numpy  # noqa: E402

folder = pathlib.Path(sys.argv[1])
folder.mkdir(parents=True, exist_ok=True)
rng = numpy.random.default_rng(1)
configs = [make_config(SHAPES[0]), make_config(SHAPES[1], rope_scaling=LLAMA3, eos_token_id=[1, 2], sliding_window=16),
           make_config(SHAPES[2], rope_parameters={"rope_type": "linear", "factor": 2.0}), make_gpt2(rng)[0], make_neox(rng)[0],
           make_neox(rng, rope_parameters={"rope_theta": 700, "partial_rotary_factor": 0.34})[0],
           make_config(SHAPES[0], model_type="mistral", sliding_window=4, layer_types=["sliding_attention"])]
small = make(fallback=False, tokens=STRIPPED)
tokenizers = [small, make(False, True, normalizer=None, pre_tokenizer=metaspace("first", split=True)), make(False, normalizer=REPLACE),
              make(), make_tokenizer(MERGES, ["<end>"]),
              make(normalizer=form("NFC")), make(False, tokens={"e\u0301": {"normalized": True}}, normalizer=form("NFKD", REPLACE)),
              make(False, tokens={"dow": {"normalized": True}}, ignore_merges=True, fuse_unk=False),
              make(vocab=without("<0xC3>"), unk_token=None),
              make_tokenizer() | {"added_tokens": [added(9999, "<s>")]}]
question = json.dumps({"context": "the", "choices": [" low", " sin"], "answer": 1}).encode()
texts = ["the low</s> sin \u00e9 <a> dow".encode(), question + b"\n\n" + question, b"s s  <l>\xff", "e\u0301<s>\u0338\u1112\u1161\ufdfa\u0323".encode()]
inputs = [b"\1" + json.dumps(c).encode() for c in configs]
sums = {"blk.0.attn_q.weight": numpy.arange(9.0), "output.weight": numpy.ones(5), "blk.11.ffn_up.weight": numpy.ones(3)}
inputs += [b"\3" + write(sums) for write in (write_gguf, write_older)]
inputs += [b"\2" + json.dumps(t).encode() + b"\0" + text for t in tokenizers for text in texts]
for number, data in enumerate(inputs):
    (folder / f"text-{number:02}").write_bytes(data)
