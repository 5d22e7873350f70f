"""Writes a mixture of experts of gpt-oss-20b's sizes with random 4-bit weights, to measure what pruning one takes.

    python scripts/research/make-large-moe.py --tokenizer examples/models/tiny-moe --output FOLDER [--layers 2] [--experts 32]

The graph is the one that onnxruntime-genai's builder writes: GroupQueryAttention in float32, and QMoE with a scale for each block of 32. The
tokenizer is a small one, and so are the embeddings. Needs numpy and onnx.
"""

import argparse
import json
import pathlib
import shutil

import numpy as np
import onnx
from onnx import TensorProto, helper

HIDDEN, WIDTH, HEADS, KV_HEADS, HEAD, CHOSEN, BLOCK = 2880, 2880, 64, 8, 64, 4, 32
VOCABULARY, POSITIONS, EPSILON, THETA = 2048, 4096, 1e-5, 150000.0


class Writer:
    """Weights go to the file of external data as soon as they are made."""

    def __init__(self, folder):
        self.data = open(folder / "model.onnx.data", "wb")
        self.random = np.random.default_rng(1)
        self.weights, self.nodes = [], []

    def keep(self, name, values):
        tensor = TensorProto(name=name, dims=values.shape, data_location=TensorProto.EXTERNAL)
        tensor.data_type = helper.np_dtype_to_tensor_dtype(values.dtype)
        place = {"location": "model.onnx.data", "offset": self.data.tell(), "length": values.nbytes}
        for key, value in place.items():
            tensor.external_data.add(key=key, value=str(value))
        self.data.write(values.tobytes())
        self.weights.append(tensor)
        return name

    def normal(self, name, *dims, spread):
        return self.keep(name, (self.random.standard_normal(dims, dtype=np.float32) * spread).astype(np.float32))

    def ints(self, name, *values):
        self.weights.append(helper.make_tensor(name, TensorProto.INT64, [len(values)], values))
        return name

    def op(self, kind, inputs, output, domain="", outputs=None, **attributes):
        self.nodes.append(helper.make_node(kind, inputs, outputs or [output], name=f"{output}/{kind}", domain=domain, **attributes))
        return output

    def packed(self, name, experts, rows, columns):
        """Codes and scales of [experts, rows, columns]; the middle level is 8."""
        shape = (experts, rows, columns // 2)
        codes = self.keep(f"{name}.qweight", self.random.integers(0, 256, shape, dtype=np.uint8))
        spread = 1 / (np.sqrt(columns) * 4.6)
        scales = spread * (0.8 + 0.4 * self.random.random((experts, rows, columns // BLOCK), dtype=np.float32))
        return codes, self.keep(f"{name}.scales", scales.astype(np.float32))


def write(folder, layers, experts):
    w = Writer(folder)
    angles = np.arange(POSITIONS)[:, None] / THETA ** (np.arange(0, HEAD, 2) / HEAD)
    w.keep("cos_cache", np.cos(angles).astype(np.float32)), w.keep("sin_cache", np.sin(angles).astype(np.float32))
    one = w.ints("one", 1)
    lengths = w.op("Sub", [w.op("ReduceSum", ["attention_mask", one], "/mask/sum", keepdims=1), one], "/mask/less")
    lengths = w.op("Cast", [lengths], "/mask/lengths", to=TensorProto.INT32)
    total = w.op("Gather", [w.op("Shape", ["attention_mask"], "/mask/shape"), w.ints("axis", 1)], "/mask/total/long", axis=0)
    total = w.op("Cast", [w.op("Squeeze", [total], "/mask/total/scalar")], "/mask/total", to=TensorProto.INT32)
    x = w.op("Gather", [w.normal("model.embed_tokens.weight", VOCABULARY, HIDDEN, spread=1.0), "input_ids"], "/embed")
    values = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch_size", length]) for name, length in (("input_ids", "sequence_length"), ("attention_mask", "total_sequence_length"))]
    results = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch_size", "sequence_length", VOCABULARY])]
    caches = lambda name, length: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch_size", KV_HEADS, length, HEAD])  # noqa: E731
    norm = lambda x, name: w.op("SimplifiedLayerNormalization", [x, w.keep(f"{name}.weight", np.ones(HIDDEN, np.float32))], f"/{name}", axis=-1, epsilon=EPSILON, stash_type=1)  # noqa: E731
    for layer in range(layers):
        name = f"model.layers.{layer}"
        qkv = w.normal(f"{name}.attn.qkv_proj.weight", HIDDEN, (HEADS + 2 * KV_HEADS) * HEAD, spread=HIDDEN**-0.5)
        qkv = w.op("MatMul", [norm(x, f"{name}.input_layernorm"), qkv], f"/{name}/qkv")
        past = [f"past_key_values.{layer}.{part}" for part in ("key", "value")]
        present = [f"present.{layer}.{part}" for part in ("key", "value")]
        attended = f"/{name}/attention"
        w.op(
            "GroupQueryAttention", [qkv, "", "", *past, lengths, total, "cos_cache", "sin_cache"], attended, domain="com.microsoft",
            outputs=[attended, *present], num_heads=HEADS, kv_num_heads=KV_HEADS, scale=HEAD**-0.5, do_rotary=1, rotary_interleaved=0, local_window_size=-1,
        )
        out = w.normal(f"{name}.attn.o_proj.weight", HEADS * HEAD, HIDDEN, spread=(HEADS * HEAD) ** -0.5)
        x = w.op("Add", [x, w.op("MatMul", [attended, out], f"/{name}/out")], f"/{name}/attended")
        normed = norm(x, f"{name}.post_attention_layernorm")
        router = w.normal(f"{name}.moe.router.weight", HIDDEN, experts, spread=HIDDEN**-0.5)
        scores = w.op("Reshape", [w.op("MatMul", [normed, router], f"/{name}/router"), w.ints(f"{name}.scores", -1, experts)], f"/{name}/scores")
        first, first_scales = w.packed(f"{name}.moe.experts.gate_up_proj", experts, 2 * WIDTH, HIDDEN)
        second, second_scales = w.packed(f"{name}.moe.experts.down_proj", experts, HIDDEN, WIDTH)
        mixed = w.op(
            "QMoE", [normed, scores, first, first_scales, "", second, second_scales, ""], f"/{name}/moe", domain="com.microsoft",
            k=CHOSEN, expert_weight_bits=4, block_size=BLOCK, normalize_routing_weights=1, activation_type="swiglu", swiglu_fusion=1,
            activation_alpha=1.702, activation_beta=1.0, swiglu_limit=7.0, use_sparse_mixer=0,
        )
        x = w.op("Add", [x, mixed], f"/{name}/mixed")
        values += [caches(entry, "past_sequence_length") for entry in past]
        results += [caches(entry, "total_sequence_length") for entry in present]
    w.op("MatMul", [norm(x, "model.norm"), w.normal("lm_head.weight", HIDDEN, VOCABULARY, spread=HIDDEN**-0.5)], "logits")
    w.data.close()
    graph = helper.make_graph(w.nodes, "large-moe", values, results, w.weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)])
    model.ir_version = 10
    onnx.save(model, folder / "model.onnx")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--experts", type=int, default=32)
    asked = parser.parse_args()
    output = pathlib.Path(asked.output)
    (output / "onnx").mkdir(parents=True, exist_ok=True)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(pathlib.Path(asked.tokenizer) / name, output / name)
    write(output / "onnx", asked.layers, asked.experts)
    config = {
        "architectures": ["GptOssForCausalLM"], "model_type": "gpt_oss", "vocab_size": VOCABULARY, "hidden_size": HIDDEN, "intermediate_size": WIDTH,
        "num_hidden_layers": asked.layers, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD,
        "num_local_experts": asked.experts, "num_experts_per_tok": CHOSEN, "max_position_embeddings": POSITIONS, "rms_norm_eps": EPSILON,
        "rope_theta": THETA, "tie_word_embeddings": False, "bos_token_id": 0, "eos_token_id": 0,
    }
    (output / "config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    main()
