#!/usr/bin/python3
"""test_tokenizer_json.py - tokenizer.json files with a BPE of characters, as SentencePiece makes them, and added tokens.

Faults it would catch: a space or a prefix put where other tokenizers put none, an added token found in the wrong text or
with the wrong white space, bytes and unknown characters out of order, a normal form that is not Unicode's, a part of the file that is passed
over in silence.
The tokens written here are those of the package `tokenizers` 0.22; where it is installed, random texts are compared, too.
"""
import json
import os
import random
import subprocess
import unicodedata
import unittest

from driver import ROOT, Case

PROBE = os.environ.get("VCLLM_PROBE", str(ROOT / "build" / "probe"))
SPACE = "\u2581"

PREPEND = {"type": "Prepend", "prepend": SPACE}
REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
LLAMA = {"type": "Sequence", "normalizers": [PREPEND, REPLACE]}
DECODER = {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
                                            {"type": "ByteFallback"}, {"type": "Fuse"},
                                            {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}
START = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                                                  {"Sequence": {"id": "A", "type_id": 0}}],
         "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
         "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}}
LETTERS = SPACE + "abcdehilmnorstw,."
MERGES = [(SPACE, "t"), ("h", "e"), (SPACE + "t", "he"), ("i", "n"), (SPACE, SPACE), (SPACE, "a"), ("l", "o"), ("lo", "w"),
          ("s", SPACE)]


def added(number, content, **more):
    return {"id": number, "content": content, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
            "special": True, **more}


def make(fallback=True, pairs=False, tokens=(), **more):
    """0 to 2 <unk> <s> </s>, then 256 bytes with fallback, LETTERS, what MERGES make, and tokens (content: flags)."""
    vocab = {}
    for word in ["<unk>", "<s>", "</s>", *(f"<0x{b:02X}>" for b in range(256 * fallback)), *LETTERS, *(a + b for a, b in MERGES)]:
        vocab[word] = len(vocab)
    first = [added(i, t) for i, t in enumerate(("<unk>", "<s>", "</s>"))]
    others = [added(len(vocab) + i, t, **flags) for i, (t, flags) in enumerate(dict(tokens).items())]
    model = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
             "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": fallback, "ignore_merges": False, "vocab": vocab,
             "merges": [list(m) if pairs else " ".join(m) for m in MERGES]}
    parts = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": first + others, "normalizer": LLAMA,
             "pre_tokenizer": None, "post_processor": START, "decoder": DECODER, "model": model}
    for name, value in more.items():
        (model if name in model else parts)[name] = value
    return parts


def without(*words):
    return {w: i for w, i in make()["model"]["vocab"].items() if w not in words}


def metaspace(scheme, **more):
    return {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": scheme, "split": False, **more}


def size(tokenizer):
    return 1 + max([*tokenizer["model"]["vocab"].values(), *(t["id"] for t in tokenizer["added_tokens"])])


class TokenizerCase(Case):
    def probe(self, what, tokenizer, texts=()):
        self.write("tokenizer.json", json.dumps(tokenizer).encode())
        return subprocess.run([PROBE, what, self.folder, str(size(tokenizer))], capture_output=True,
                              input=b"".join(t.encode() + b"\0" for t in texts))

    def tokens(self, tokenizer, texts):
        run = self.probe("tokens", tokenizer, texts)
        self.assertEqual(run.returncode, 0, run.stderr.decode())
        lines = run.stdout.decode().splitlines()
        if any(line.startswith("!") for line in lines):
            self.fail(lines)
        return [list(map(int, line.split())) for line in lines]

    def words(self, tokenizer, text):
        """Tokens by name, without the <s> before them."""
        names = {i: w for w, i in tokenizer["model"]["vocab"].items()}
        names |= {t["id"]: t["content"] for t in tokenizer["added_tokens"]}
        found, = self.tokens(tokenizer, [text])
        self.assertEqual(found[0], 1)
        return [names[i].replace(SPACE, "_") for i in found[1:]]


STRIPPED = {"<a>": {"lstrip": True, "rstrip": True}, "<l>": {"lstrip": True}, "<r>": {"rstrip": True}}


class Encoding(TokenizerCase):
    def test_numbers(self):
        self.assertEqual(self.tokens(make(), ["the low sin", "\u00e9", "", "\u20ac"]),
                         [[1, 279, 259, 284, 259, 272, 280], [1, 259, 198, 172], [1], [1, 259, 229, 133, 175]])
        self.assertEqual(self.tokens(make(pairs=True), ["the low"]), [[1, 279, 259, 284]])

    def check(self, cases):
        for tokenizer, text, *words in cases:
            with self.subTest(text=text, words=words):
                self.assertEqual(self.words(tokenizer, text), words)

    def test_spaces(self):
        self.check([(make(), " ", "__"), (make(), "  the", "__", "_the"), (make(), "the</s>the </s> a", "_the", "</s>", "_the",
                                                                            "_", "</s>", "__", "a")])

    def test_metaspace(self):
        text = "the</s>the </s> a"
        spaces = {s: make(normalizer=None, pre_tokenizer=metaspace(s)) for s in ("always", "first", "never")}
        self.check([(spaces["always"], text, "_the", "</s>", "_the", "_", "</s>", "_a"),
                    (spaces["first"], text, "_the", "</s>", "t", "he", "_", "</s>", "_a"),
                    (spaces["first"], "</s>the", "</s>", "t", "he"),
                    (spaces["never"], "the</s> the", "t", "he", "</s>", "_the"),
                    (spaces["always"], " a", "_a"), (spaces["always"], "s s", "_", "s_", "s"),
                    (make(normalizer=None, pre_tokenizer=metaspace("always", split=True)), "s s", "_", "s", "_", "s"),
                    (make(normalizer=None, pre_tokenizer=metaspace("never", add_prefix_space=False)), "a", "a")])

    def test_unknown(self):
        self.check([(make(fallback=False), "a\u20ac\u00e9b\u00e9", "_a", "<unk>", "b", "<unk>"),
                    (make(fallback=False, fuse_unk=False), "a\u20ac\u00e9b", "_a", "<unk>", "<unk>", "b")])

    def test_left_out(self):
        """Without unk_token; a character falls back to its bytes only if all of them have a token."""
        self.check([(make(fallback=False, unk_token=None), "a\u20ac\u00e9b", "_a", "b"),
                    (make(fallback=False, unk_token=None), "l\u20aco\u00e9w", "_", "low"),
                    (make(vocab=without("<0xA9>")), "\u00e8l\u00e9\u00e9o", "_", "<0xC3>", "<0xA8>", "l", "<unk>", "o"),
                    (make(vocab=without("<0xA9>"), fuse_unk=False), "\u00e9\u00e9", "_", "<unk>", "<unk>"),
                    (make(vocab=without("<0xA9>"), unk_token=None), "l\u00e9\u00e9o", "_", "lo")])

    def test_white_space_around_added(self):
        tokenizer = make(tokens=STRIPPED)
        self.check([(tokenizer, "a \u00a0<a>\u3000the", "_a", "<a>", "_the"),
                    (tokenizer, "a <l> a <r> a", "_a", "<l>", "__", "a", "_", "<r>", "_a")])

    def test_added_in_normalized_text(self):
        for normalized, words in ((True, ["dow", "dow", "dow", "d", "o", "w"]),
                                  (False, ["dow", "__", "dow", "__", "dow", "dow"])):
            tokenizer = make(tokens={"dow": {"normalized": normalized}})
            self.assertEqual(self.words(tokenizer, "dow dow dowdow"), words)
        self.check([(make(tokens={"<x": {"normalized": True}, "x>": {}}, normalizer=None), "<x>", "<0x3C>", "x>"),
                    (make(tokens={"<x": {}, "<x>": {}}), "<x><x", "<x>", "<x")])

    def test_whole_words(self):
        tokenizer = make(ignore_merges=True, normalizer=None, pre_tokenizer=metaspace("always", split=True))
        tokenizer["model"]["vocab"][SPACE + "sin"] = size(tokenizer)
        self.check([(tokenizer, "sin a", "_sin", "_a")])

    def test_long_text(self):
        """A text of one word: nothing squared."""
        text = "the low sin " * 50000
        self.assertEqual(len(self.tokens(make(), [text])[0]), 2 + 50000 * 6)

    def test_growth(self):
        tokenizer = make(normalizer={"type": "Replace", "pattern": {"String": "a"}, "content": "b" * 60})
        run = self.probe("tokens", tokenizer, ["a" * 1000])
        self.assertIn(b"! grows to 60000 bytes by the tokenizer's steps, more than 17024", run.stdout)


def form(name, *others):
    return {"type": "Sequence", "normalizers": [{"type": name}, *others]} if others else {"type": name}


class Normalizing(TokenizerCase):
    """Against Python's unicodedata.  What a text becomes is read back from the bytes of its tokens."""

    FORMS = ("NFC", "NFD", "NFKC", "NFKD")

    def normalized(self, normalizer, texts):
        tokenizer = make(normalizer=normalizer, post_processor=None, merges=[])
        names = {i: bytes([i - 3]) if 3 <= i < 259 else w.encode() for w, i in tokenizer["model"]["vocab"].items()}
        return [b"".join(names[i] for i in found).decode() for found in self.tokens(tokenizer, texts)]

    def check(self, name, texts):
        for text, found in zip(texts, self.normalized(form(name), texts)):
            self.assertEqual(found, unicodedata.normalize(name, text), f"{name} {text!a}")

    def test_known(self):
        self.assertEqual(self.normalized(form("NFC"), ["e\u0301 a\u0323\u0302 \u212b \u1112\u1161\u11ab \u0958 \ufb01"]),
                         ["\u00e9 \u1ead \u00c5 \ud55c \u0915\u093c \ufb01"])
        self.assertEqual(self.normalized(form("NFD"), ["\u1ead\ud55c\u212b"]), ["a\u0323\u0302\u1112\u1161\u11abA\u030a"])
        self.assertEqual(self.normalized(form("NFKC"), ["\ufb01 \u2460 \uff21\u030a \u00a8"]), ["fi 1 \u00c5  \u0308"])
        self.assertEqual(self.normalized(form("NFKD"), ["\u1e9b\u0323"]), ["s\u0323\u0307"])

    def test_every_character(self):
        characters = [chr(c) for c in range(1, 0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
        for name in self.FORMS:
            self.check(name, ["\n".join(characters)])

    def test_random(self):
        rng = random.Random(5)
        alphabet = [chr(c) for c in range(0x20, 0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
        marks = [c for c in alphabet if unicodedata.combining(c)]
        moving = [c for c in alphabet if not all(unicodedata.is_normalized(name, c) for name in self.FORMS)]
        kinds = ["abcAOeos<>= ", marks, moving, alphabet, [chr(c) for c in range(0x1100, 0x1200)],
                 [chr(c) for c in (0x300, 0x301, 0x308, 0x323, 0x327, 0x338, 0x345, 0x5b0, 0x93c, 0x3099)]]
        texts = ["".join(rng.choice(rng.choice(kinds)) for _ in range(rng.randrange(1, 30))) for _ in range(8000)]
        for name in self.FORMS:
            self.check(name, texts)

    def test_many_marks(self):
        """Nothing squared."""
        found, = self.normalized(form("NFC"), ["a" + "\u0300\u0316" * 200000])
        self.assertEqual(found, "\u00e0" + "\u0316" * 200000 + "\u0300" * 199999)

    def test_among_other_steps(self):
        later, sooner = {**REPLACE, "content": "e"}, {**REPLACE, "pattern": {"String": "x"}, "content": "e"}
        self.assertEqual(self.normalized(form("NFC", later), [" \u0301"]), ["e\u0301"])
        self.assertEqual(self.normalized({"type": "Sequence", "normalizers": [sooner, form("NFC")]}, ["x\u0301"]), ["\u00e9"])

    def test_growth(self):
        longest = "\ufdfa" * 1000  # one character of 3 bytes, 18 of 33
        self.assertEqual(self.normalized(form("NFKD"), [longest]), [unicodedata.normalize("NFKD", longest)])
        steps = [{**REPLACE, "pattern": {"String": "aaaaa"}, "content": "\ufdfa" * 20}, form("NFKD")]
        run = self.probe("tokens", make(normalizer={"type": "Sequence", "normalizers": steps}), ["a" * 1000])
        self.assertIn(b"! grows beyond 17024 bytes by the tokenizer's steps", run.stdout)

    def test_added(self):
        """Not normalized: cut out of the text as it is, so that no mark joins them; normalized: as the text is."""
        def words(text, **more):
            return self.words(make(normalizer=form("NFC"), tokens={"<\u212b>": more, "e\u0301": more}), text)
        slashed, alone = [f"<0x{b:02X}>" for b in "\u226f".encode()], [f"<0x{b:02X}>" for b in "\u0338".encode()]
        self.assertEqual(words("<\u212b>\u0338 e\u0301", normalized=False), ["<\u212b>", *alone, "<0x20>", "e\u0301"])
        self.assertEqual(words("<\u00c5>\u00e9", normalized=False), [f"<0x{b:02X}>" for b in "<\u00c5>\u00e9".encode()])
        self.assertEqual(words("<A\u030a>\u00e9e\u0301", normalized=True), ["<\u212b>", "e\u0301", "e\u0301"])
        self.assertEqual(words("<\u00c5>\u0338", normalized=True), ["<0x3C>", "<0xC3>", "<0x85>", *slashed])
        self.assertEqual(words("</s>\u0338e\u0301", normalized=True), ["</s>", *alone, "e\u0301"])


class Printing(TokenizerCase):
    def pieces(self, tokenizer):
        run = self.probe("bytes", tokenizer)
        self.assertEqual(run.returncode, 0, run.stderr.decode())
        return [bytes.fromhex(line) for line in run.stdout.decode().splitlines()]

    def test_pieces(self):
        pieces = self.pieces(make(tokens={"<a>": {}, SPACE + "b": {"special": False}}))
        self.assertEqual(pieces[:3], [b"", b"", b""])
        self.assertEqual(pieces[3:259], [bytes([b]) for b in range(256)])
        self.assertEqual(pieces[277:], [b" t", b"he", b" the", b"in", b"  ", b" a", b"lo", b"low", b"s ", b"",
                                        (SPACE + "b").encode()])

    def test_metaspace(self):
        self.assertEqual(self.pieces(make(decoder={"type": "Metaspace", "replacement": SPACE}))[279], b" the")


class Refused(TokenizerCase):
    def test_by_name(self):
        cases = [("normalizer.type' is \"Lowercase\"", {"normalizer": {"type": "Lowercase"}}),
                 ("normalizer.pattern' is {\"Regex\":\" \"}", {"normalizer": {**REPLACE, "pattern": {"Regex": " "}}}),
                 ("normalizer.pattern' is no text", {"normalizer": {**REPLACE, "pattern": {"String": ""}}}),
                 ("normalizer.content' is missing", {"normalizer": {**REPLACE, "content": None}}),
                 ("normalizer.normalizers' is no list", {"normalizer": {"type": "Sequence"}}),
                 ("normalizer.type' comes after 8", {"normalizer": {"type": "Sequence", "normalizers": 9 * [PREPEND]}}),
                 ("more than 64 bytes", {"normalizer": {**PREPEND, "prepend": "x" * 65}}),
                 ("pre_tokenizer.type' is \"Whitespace\"", {"pre_tokenizer": {"type": "Whitespace"}}),
                 ("pre_tokenizer.replacement' is no single", {"pre_tokenizer": metaspace("always", replacement="__")}),
                 ("pre_tokenizer.prepend_scheme' is \"last\"", {"pre_tokenizer": metaspace("last")}),
                 ("pre_tokenizer.prepend_scheme' is \"first\"", {"pre_tokenizer": metaspace("first")}),
                 ("pre_tokenizer.type' is Metaspace behind", {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                     {"type": "Digits"}, metaspace("always")]}}),
                 ("pre_tokenizer.type' puts a prefix behind", {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                     {"type": "Digits"}, {"type": "ByteLevel", "add_prefix_space": True}]}}),
                 ("pre_tokenizer.type' comes behind ByteLevel", {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                     {"type": "ByteLevel", "add_prefix_space": False}, {"type": "Digits"}]}}),
                 ("decoder' is missing", {"decoder": None}),
                 ("decoder.type' is \"WordPiece\"", {"decoder": {"type": "WordPiece"}}),
                 ("decoder.type' is \"Strip\"", {"decoder": {"type": "Strip", "content": " ", "start": 1, "stop": 0}}),
                 ("post_processor.type' is \"BertProcessing\"", {"post_processor": {"type": "BertProcessing"}}),
                 ("model.dropout' is 0.1", {"dropout": 0.1}),
                 ("model.unk_token' is no token of model.vocab", {"byte_fallback": False, "unk_token": "<none>"}),
                 ("model.unk_token' is no token of model.vocab", {"vocab": without("<0x41>"), "unk_token": "<none>"}),
                 ("merges[0] is no pair", {"merges": ["a b c"]}),
                 ("added_tokens.single_word' is true", {"added_tokens": [added(0, "<unk>", single_word=True)]}),
                 ("added_tokens.id' is not the token's number", {"added_tokens": [added(1, "<unk>")]}),
                 ("added_tokens.id' is there twice", {"added_tokens": [added(290, "x"), added(290, "y")]}),
                 ("added_tokens.content' is empty once normalized", {"added_tokens": [added(290, "x", normalized=True)],
                                                                     "normalizer": {**REPLACE, "pattern": {"String": "x"},
                                                                                    "content": ""}})]
        for words, change in cases:
            with self.subTest(words=words, change=change):
                run = self.probe("bytes", make(**{"post_processor": None, **change}))
                self.assertEqual((run.returncode, run.stdout), (1, b""))
                self.assertIn(words, run.stderr.decode())
                self.assertIn("tokenizer.json: ", run.stderr.decode())


class Compared(TokenizerCase):
    """Random files and texts."""

    BITS = [" ", "  ", "\n", "\u00e9", "\u20ac", "\U0001f600", "\u00a0", "\u3000", "\t", SPACE, "the", " low", "<s>", "</s>",
            "<unk>", "<a>", "<l>", "<r>", "dow", "in", "s ", ".", "12", "\u0301", "<0x41>"]

    def random_tokenizer(self, rng):
        chosen = {t: {"normalized": rng.random() < 0.5, **STRIPPED.get(t, {})} for t in [*STRIPPED, "dow", "12", "the "]
                  if rng.random() < 0.6}
        normalizer = rng.choice([None, LLAMA, REPLACE, PREPEND, *map(form, Normalizing.FORMS), form("NFC", REPLACE)])
        schemes = ["always", "never"] + ["first"] * (normalizer is None)
        pre_tokenizer = rng.choice([None, metaspace(rng.choice(schemes), split=rng.random() < 0.5)])
        made = make(rng.random() < 0.5, rng.random() < 0.5, chosen, normalizer=normalizer, pre_tokenizer=pre_tokenizer,
                    post_processor=rng.choice([None, START]), ignore_merges=rng.random() < 0.3, fuse_unk=rng.random() < 0.5,
                    unk_token=rng.choice(["<unk>", None]))
        gone = [f"<0x{byte:02X}>" for byte in rng.choice([(), (), (0xA9, 0x82), (0xC2, 0xF0)])]
        made["model"]["vocab"] = {"gone" + w if w in gone else w: i for w, i in made["model"]["vocab"].items()}
        if gone:
            made["model"]["unk_token"] = None    # tokenizers puts it behind the bytes of what follows
        return made

    def random_bytes(self, rng):
        """Words of bytes, some of which have no letter."""
        letters = {b: chr(b) if 33 <= b <= 126 or b >= 161 and b != 173 else None for b in range(256)}
        others = [b for b in letters if not letters[b]]
        letters |= {b: chr(256 + i) for i, b in enumerate(others)}
        gone = rng.choice([(), (0xC0, 0xC1, *range(0xF1, 256)), (0xC3, 0xA9, 0xF0, 0x82), others])
        vocab = {f"gone{b}" if b in gone else letter: b for b, letter in letters.items()}
        merges = [m for m in ("t h", "th e", "l o", "lo w", "i n") if all(p in vocab or len(p) > 1 for p in m.split())]
        vocab |= {word: 256 + i for i, word in enumerate([m.replace(" ", "") for m in merges] + ["<unk>"])}
        chosen = [added(len(vocab) + i, t) for i, t in enumerate(("<s>", "</s>", "<a>")[:rng.randrange(4)])]
        return make(vocab=vocab, merges=merges, normalizer=None, post_processor=None, byte_fallback=False, added_tokens=chosen,
                    pre_tokenizer={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
                    decoder={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
                    ignore_merges=rng.random() < 0.3, fuse_unk=rng.random() < 0.5, unk_token=rng.choice(["<unk>", None]))

    def test_tokenizers(self):
        try:
            import tokenizers
        except ImportError:
            self.skipTest("the Python package tokenizers is not installed")
        rng = random.Random(11)
        for number in range(60):
            tokenizer = self.random_bytes(rng) if number % 3 == 0 else self.random_tokenizer(rng)
            texts = ["".join(rng.choices(self.BITS, k=rng.randrange(1, 12))) for _ in range(40)]
            found = self.tokens(tokenizer, texts)
            reference = tokenizers.Tokenizer.from_file(str(self.folder / "tokenizer.json"))
            for text, tokens, encoding in zip(texts, found, reference.encode_batch(texts)):
                self.assertEqual(tokens, encoding.ids, f"{text!r}\n{tokenizer}")


if __name__ == "__main__":
    unittest.main()
