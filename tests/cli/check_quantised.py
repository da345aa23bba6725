"""What is exact without being asked: what quantised weights are read by, vectors of any rank, routers."""
import json
import os
import random

import stfile
from case import FAST, Case

Q = "model.layers.0.self_attn.q_proj."
E = "model.layers.0.mlp.experts."


class Quantised(Case):
    """Catches: scales, zero points and codebooks that lose bits, and with them all weights that they scale."""

    def tensor(self, name, dtype, *shape):
        data = random.Random(name).randbytes(stfile.count(shape) * stfile.BITS[dtype] // 8)
        return (name, dtype, list(shape), data)

    def plan(self, tensors, config=None, *options, more=()):
        """The action for each tensor and why."""
        os.makedirs(self.path("model"), exist_ok=True)
        tensors = [t if isinstance(t[-1], bytes) else self.tensor(*t) for t in tensors]
        stfile.write(self.path("model", "model.safetensors"), tensors)
        for name in self.files("model"):
            if name.endswith(".json"):
                os.unlink(self.path("model", name))
        if config is not None:
            self.write("model/config.json", json.dumps(config).encode())
        for name in more:
            self.write(f"model/{name}", b"{}")
        plan, _ = self.run_json("compress", self.path("model"), "-o", self.path("out"), "--dry-run", *FAST,
                                "--allocate", "fixed", *options)
        return {t["name"]: t["action"] for t in plan["tensors"]}

    def floats(self, *names):
        return [stfile.normal(name, [128, 64], i, dtype="F16") for i, name in enumerate(names)]

    def check(self, exact, *args, lossy=(), **more):
        actions = self.plan(*args, **more)
        for name, action in actions.items():
            self.assertEqual(action, "lossy" if name in lossy else "exact", name)
        self.assertLessEqual(set(exact) | set(lossy), set(actions))

    LAYOUTS = [
        [(Q + "W_q", "U8", 2048, 32), Q + "scale", Q + "zero"],                         # HQQ
        [(Q + "_weight_qdata", "I8", 128, 64), Q + "_weight_scale"],                    # torchao
        [(Q + "weight._data", "I8", 128, 64), Q + "weight._scale"],                     # quanto
        [(Q + "codes", "I16", 512, 8, 1), Q + "codebooks", Q + "scales"],               # AQLM
        [(Q + "indices", "I32", 1, 64, 8), Q + "centroids.weight"],                     # VPTQ
        [(Q + "weight", "U32", 128, 8), Q + "scales", Q + "biases"],                    # MLX
        [(Q + "qweight", "I32", 8, 128), Q + "scales", Q + "g_idx"],                    # GPTQ
        [(Q + "weight_packed", "I32", 128, 8), Q + "weight_scale", Q + "bias"],         # compressed-tensors
        [(Q + "weight", "F8_E4M3", 128, 64), Q + "weight_scale_inv"],                   # DeepSeek
        [(E + "gate_up_proj", "F8_E4M3", 8, 64, 16), E + "gate_up_proj_scale_inv"],     # fused experts
        [(E + "down_proj_blocks", "U8", 8, 64, 16), E + "down_proj_scales"],            # MXFP4
    ]

    def test_layouts(self):
        """By names and dtypes alone, as in a file without a config.json."""
        other = ["model.layers.0.mlp.up_proj.weight", "scale", "model.scale", "model.layers.1.self_attn.q_proj.scale"]
        for packed, *names in self.LAYOUTS:
            with self.subTest(packed[0]):
                self.check(names, [packed, *self.floats(*names, *other)], lossy=other)

    def test_a_model_that_says_so(self):
        """Then a module with one packed tensor is packed as a whole, whatever its tensors are called."""
        odd = [Q + "table", E + "gate_up_proj_bias"]
        other = ["model.layers.1.mlp.up_proj.weight", Q + "x.y", "model.embed"]
        tensors = [(Q + "codes", "I16", 512, 8), (E + "gate_up_proj_blocks", "U8", 8, 64, 16),
                   ("model.mask", "BOOL", 64, 64), *self.floats(*odd, *other)]
        for config in [{"quantization_config": {"quant_method": "x"}}, {"compression_config": {"format": "x"}},
                       {"text_config": {"quantization_config": {}}}]:
            self.check(odd, tensors, config, lossy=other)
        for name in ["quantize_config.json", "hf_quant_config.json"]:
            self.check(odd, tensors, {}, lossy=other, more=[name])
        self.check([], tensors, {"quantization_config": None}, lossy=odd + other)

    def test_rules_override(self):
        tensors = [self.LAYOUTS[0][0], *self.floats(Q + "scale", Q + "zero")]
        self.check([], tensors, {"quantization_config": {}}, "--rule", r"\.scale$=6", lossy=[Q + "scale"])

    def test_vectors_of_any_rank(self):
        shapes = {"a": (8192, 1), "b": (1, 8192), "c": (1, 1, 8192), "d": (8192, 1, 1, 1)}
        tensors = [stfile.normal(name, shape, 1) for name, shape in shapes.items()]
        self.check(shapes, [*tensors, stfile.normal("m", (2, 4096), 1), stfile.normal("n", (64, 1, 64), 1)],
                   lossy=["m", "n"])

    def test_routers(self):
        """By the number of experts and the name together."""
        name = "model.layers.0.%s.weight"
        routers = [name % part for part in ["mlp.gate", "block_sparse_moe.gate", "ffn.router.layer", "router"]]
        other = [name % part for part in ["mlp.gate_proj", "mlp.up", "mlp.investigate"]]
        tensors = self.floats(*routers, *other)
        for config in [{"num_experts": 128}, {"num_local_experts": 128}, {"text_config": {"n_routed_experts": 128}},
                       {"ffn_config": {"moe_num_experts": 128}}]:
            self.check(routers, tensors, config, lossy=other)
        for config in [{}, {"num_experts": 64}, {"num_experts": "128"}, None]:
            self.check([], tensors, config, lossy=routers + other)
