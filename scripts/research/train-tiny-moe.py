"""Trains tiny-moe, a small mixture of experts, and writes it as ONNX.

    python scripts/research/train-tiny-moe.py --texts FOLDER --tokenizer tokenizer.json --minutes 25 --output FOLDER

FOLDER of texts: one .txt for each register; every register gets the same number of windows. Needs torch, tokenizers, numpy, onnx.

The model has the architecture of `granitemoeshared` in transformers with all multipliers 1: the router takes the softmax over
the experts that it chose, beside a shared expert without a gate. The graph is the one that onnxruntime-genai's builder writes:
GroupQueryAttention, com.microsoft.MoE, float16.
"""

import argparse
import json
import math
import pathlib
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

VOCABULARY, HIDDEN, BLOCKS, HEADS, KV_HEADS, HEAD = 2048, 128, 6, 4, 2, 32
EXPERTS, CHOSEN, WIDTH, CONTEXT, POSITIONS = 16, 2, 80, 256, 512
EPSILON, THETA = 1e-5, 10000.0
BALANCE = 0.01  # weight of the load-balancing loss (Switch Transformers, arXiv 2101.03961)


def rms(x, gain):
    return F.rms_norm(x, (x.shape[-1],), gain, EPSILON)


def rotary(positions):
    angles = torch.arange(positions)[:, None] / THETA ** (torch.arange(0, HEAD, 2) / HEAD)
    return angles.cos(), angles.sin()


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


def matrix(*dims):
    return nn.Parameter(torch.randn(*dims) / math.sqrt(dims[-1]))


class Block(nn.Module):
    """All matrices are [.., out, in]; gate and up of an expert lie one after the other."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = (nn.Parameter(torch.ones(HIDDEN)) for _ in range(2))
        self.qkv = matrix((HEADS + 2 * KV_HEADS) * HEAD, HIDDEN)
        self.out = matrix(HIDDEN, HEADS * HEAD)
        self.router = matrix(EXPERTS, HIDDEN)
        self.first = matrix(EXPERTS, 2 * WIDTH, HIDDEN)
        self.second = matrix(EXPERTS, HIDDEN, WIDTH)
        self.shared_first = matrix(2 * WIDTH, HIDDEN)
        self.shared_second = matrix(HIDDEN, WIDTH)

    def attend(self, x, cos, sin):
        batch, length, _ = x.shape
        heads = (x @ self.qkv.T).view(batch, length, HEADS + 2 * KV_HEADS, HEAD).transpose(1, 2)
        q, k, v = heads.split([HEADS, KV_HEADS, KV_HEADS], dim=1)
        q, k = (rotate(y, cos[:length], sin[:length]) for y in (q, k))
        k, v = (y.repeat_interleave(HEADS // KV_HEADS, dim=1) for y in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return y.transpose(1, 2).reshape(batch, length, HEADS * HEAD) @ self.out.T

    def mix(self, x):
        logits = x @ self.router.T
        best, chosen = logits.topk(CHOSEN, dim=-1)
        shares = best.softmax(dim=-1).flatten()
        chosen = chosen.flatten()
        counts = torch.bincount(chosen, minlength=EXPERTS)
        balance = EXPERTS * (logits.softmax(dim=-1).mean(0) * counts / chosen.numel()).sum()
        order = chosen.argsort()
        tokens = order // CHOSEN
        made = []
        for expert, rows in enumerate(x[tokens].split(counts.tolist())):
            gate, up = (rows @ self.first[expert].T).chunk(2, dim=-1)
            made.append((F.silu(gate) * up) @ self.second[expert].T)
        mixed = torch.zeros_like(x).index_add(0, tokens, torch.cat(made) * shares[order, None])
        gate, up = (x @ self.shared_first.T).chunk(2, dim=-1)
        return mixed + (F.silu(gate) * up) @ self.shared_second.T, balance

    def forward(self, x, cos, sin):
        x = x + self.attend(rms(x, self.norm1), cos, sin)
        mixed, balance = self.mix(rms(x, self.norm2).reshape(-1, HIDDEN))
        return x + mixed.view_as(x), balance


class TinyMoe(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Parameter(0.5 * torch.randn(VOCABULARY, HIDDEN) / math.sqrt(HIDDEN))
        self.blocks = nn.ModuleList(Block() for _ in range(BLOCKS))
        self.norm = nn.Parameter(torch.ones(HIDDEN))
        for block in self.blocks:
            for weight in (block.out, block.second, block.shared_second):
                weight.data /= math.sqrt(2 * BLOCKS)
            block.router.data *= 0.3

    def forward(self, ids):
        cos, sin = rotary(POSITIONS)
        x, balance = self.embed[ids], 0.0
        for block in self.blocks:
            x, added = block(x, cos, sin)
            balance = balance + added / BLOCKS
        return rms(x, self.norm) @ self.embed.T, balance


def read_registers(folder, tokenizer):
    registers = {}
    for path in sorted(pathlib.Path(folder).glob("*.txt")):
        text = path.read_text(encoding="utf-8", errors="ignore")
        parts = [text[at : at + 100_000] for at in range(0, len(text), 100_000)]
        ids = [np.array([0] + part.ids, dtype=np.int64) for part in tokenizer.encode_batch(parts)]
        registers[path.stem] = torch.from_numpy(np.concatenate(ids))
        print(path.stem, len(registers[path.stem]), "tokens", flush=True)
    return registers


def train(model, registers, minutes, batch, rate):
    names = list(registers)
    held = {name: ids[-8 * CONTEXT - 1 :] for name, ids in registers.items()}
    data = {name: ids[: -8 * CONTEXT - 1] for name, ids in registers.items()}
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    optimiser = torch.optim.AdamW([{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}], lr=rate, betas=(0.9, 0.95))
    started, step, tokens = time.time(), 0, 0
    while True:
        part = (time.time() - started) / (60 * minutes)
        if part >= 1:
            break
        scale = min(1, (step + 1) / 100) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * part)))
        for group in optimiser.param_groups:
            group["lr"] = rate * scale
        rows = []
        for at in range(batch):
            ids = data[names[(step * batch + at) % len(names)]]
            start = int(torch.randint(len(ids) - CONTEXT - 1, (1,)))
            rows.append(ids[start : start + CONTEXT + 1])
        ids = torch.stack(rows)
        logits, balance = model(ids[:, :-1])
        loss = F.cross_entropy(logits.reshape(-1, VOCABULARY), ids[:, 1:].reshape(-1))
        optimiser.zero_grad()
        (loss + BALANCE * balance).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step, tokens = step + 1, tokens + ids[:, 1:].numel()
        if step % 20 == 0:
            print(f"step {step}: {tokens} tokens, {time.time() - started:.0f} s, loss {loss.item():.3f}, balance {balance.item():.3f}", flush=True)
    model.eval()
    with torch.no_grad():
        for name, ids in held.items():
            rows = ids[: 8 * CONTEXT].view(8, CONTEXT)
            logits, _ = model(rows[:, :-1])
            loss = F.cross_entropy(logits.reshape(-1, VOCABULARY), rows[:, 1:].reshape(-1))
            print(f"held out {name}: {loss.item():.3f}", flush=True)
    return {"steps": step, "tokens": tokens}


def write_onnx(model, path):
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes, weights = [], []

    def weight(name, values):
        weights.append(numpy_helper.from_array(np.ascontiguousarray(values.detach().numpy().astype(np.float16)), name))
        return name

    def op(kind, inputs, name, outputs=1, domain="", **attributes):
        names = [f"{name}/output_{at}" for at in range(outputs)]
        nodes.append(helper.make_node(kind, inputs, names, name=name, domain=domain, **attributes))
        return names if outputs > 1 else names[0]

    def ints(name, *values):
        weights.append(numpy_helper.from_array(np.array(values, dtype=np.int64), name))
        return name

    def linear(x, name, matrix):
        return op("MatMul", [x, weight(f"{name}.weight", matrix.T)], f"/{name}/MatMul")

    def norm(x, name, gain):
        return op("SimplifiedLayerNormalization", [x, weight(f"{name}.weight", gain)], f"/{name}", epsilon=EPSILON, axis=-1, stash_type=1)

    def swiglu(x, name, first, second):
        gate, up = first.chunk(2, dim=0)
        gate, up = linear(x, f"{name}.gate_proj", gate), linear(x, f"{name}.up_proj", up)
        active = op("Mul", [gate, op("Sigmoid", [gate], f"/{name}/Sigmoid")], f"/{name}/act")
        return linear(op("Mul", [active, up], f"/{name}/Mul"), f"{name}.down_proj", second)

    cos, sin = rotary(POSITIONS)
    weight("cos_cache", cos), weight("sin_cache", sin)
    one = ints("one", 1)
    lengths = op("Sub", [op("ReduceSum", ["attention_mask", one], "/mask/ReduceSum", keepdims=1), one], "/mask/Sub")
    lengths = op("Cast", [lengths], "/mask/lengths", to=TensorProto.INT32)
    total = op("Gather", [op("Shape", ["attention_mask"], "/mask/Shape"), ints("axis", 1)], "/mask/Gather", axis=0)
    total = op("Cast", [op("Squeeze", [total], "/mask/Squeeze")], "/mask/total", to=TensorProto.INT32)
    x = op("Gather", [weight("embed_tokens.weight", model.embed), "input_ids"], "/embed_tokens/Gather")
    caches, presents = [], []
    for at, block in enumerate(model.blocks):
        name = f"layers.{at}"
        normed = norm(x, f"{name}.input_layernorm", block.norm1)
        qkv = linear(normed, f"{name}.attn.qkv_proj", block.qkv)
        past, present = ([f"{kind}.{at}.{part}" for part in ("key", "value")] for kind in ("past_key_values", "present"))
        attended = f"/{name}/attn/output"
        nodes.append(
            helper.make_node(
                "GroupQueryAttention", [qkv, "", "", *past, lengths, total, "cos_cache", "sin_cache"], [attended, *present],
                name=f"/{name}/attn/GroupQueryAttention", domain="com.microsoft",
                num_heads=HEADS, kv_num_heads=KV_HEADS, scale=HEAD**-0.5, do_rotary=1, rotary_interleaved=0, local_window_size=-1,
            )
        )
        x = op("Add", [x, linear(attended, f"{name}.attn.o_proj", block.out)], f"/{name}/Add")
        normed = norm(x, f"{name}.post_attention_layernorm", block.norm2)
        scores = op("Reshape", [linear(normed, f"{name}.moe.router", block.router), ints(f"{name}.moe.scores", -1, EXPERTS)], f"/{name}/moe/Reshape")
        # swiglu_fusion 1: gate and up of a channel lie side by side.
        gate, up = block.first.chunk(2, dim=1)
        first = torch.stack([gate, up], dim=2).reshape(EXPERTS, 2 * WIDTH, HIDDEN)
        mixed = op(
            "MoE", [normed, scores, weight(f"{name}.moe.fc1.weight", first), "", weight(f"{name}.moe.fc2.weight", block.second)],
            f"/{name}/moe/MoE", domain="com.microsoft", k=CHOSEN, normalize_routing_weights=1,
            activation_type="swiglu", swiglu_fusion=1, activation_alpha=1.0, activation_beta=0.0, swiglu_limit=65504.0,
        )
        shared = swiglu(normed, f"{name}.shared_expert", block.shared_first, block.shared_second)
        x = op("Add", [x, op("Add", [mixed, shared], f"/{name}/moe/Add")], f"/{name}/Add_1")
        caches += past
        presents += present
    x = norm(x, "norm", model.norm)
    head = op("Transpose", ["embed_tokens.weight"], "/lm_head/Transpose", perm=[1, 0])
    nodes.append(helper.make_node("MatMul", [x, head], ["logits"], name="/lm_head/MatMul"))
    value = helper.make_tensor_value_info
    half, integer = TensorProto.FLOAT16, TensorProto.INT64
    dims = ["batch_size", KV_HEADS, "past_sequence_length", HEAD]
    graph = helper.make_graph(
        nodes, "tiny-moe",
        [value("input_ids", integer, ["batch_size", "sequence_length"]), value("attention_mask", integer, ["batch_size", "total_sequence_length"])]
        + [value(name, half, dims) for name in caches],
        [value("logits", half, ["batch_size", "sequence_length", VOCABULARY])]
        + [value(name, half, ["batch_size", KV_HEADS, "total_sequence_length", HEAD]) for name in presents],
        weights,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)])
    made.ir_version = 10
    onnx.save(made, path)


CONFIG = {
    "architectures": ["GraniteMoeSharedForCausalLM"], "model_type": "granitemoeshared", "vocab_size": VOCABULARY,
    "hidden_size": HIDDEN, "intermediate_size": WIDTH, "shared_intermediate_size": WIDTH, "num_hidden_layers": BLOCKS,
    "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "num_local_experts": EXPERTS, "num_experts_per_tok": CHOSEN,
    "hidden_act": "silu", "max_position_embeddings": POSITIONS, "rms_norm_eps": EPSILON, "rope_theta": THETA,
    "attention_multiplier": HEAD**-0.5, "embedding_multiplier": 1.0, "logits_scaling": 1.0, "residual_multiplier": 1.0,
    "tie_word_embeddings": True, "bos_token_id": 0, "eos_token_id": 0, "torch_dtype": "float16",
}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", required=True)
    parser.add_argument("--tokenizer", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--start", help="model.pt of an earlier run, to go on from")
    asked = parser.parse_args()
    from tokenizers import Tokenizer

    torch.manual_seed(8 if asked.start else 7)
    torch.set_num_threads(asked.threads)
    model = TinyMoe()
    if asked.start:
        model.load_state_dict(torch.load(asked.start))
    print(sum(p.numel() for p in model.parameters()), "parameters", flush=True)
    trained = train(model, read_registers(asked.texts, Tokenizer.from_file(asked.tokenizer)), asked.minutes, asked.batch, asked.rate)
    print(trained, flush=True)
    output = pathlib.Path(asked.output)
    (output / "onnx").mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), output / "model.pt")
    write_onnx(model, output / "onnx" / "model.onnx")
    (output / "config.json").write_text(json.dumps(CONFIG, indent=2) + "\n")


if __name__ == "__main__":
    main()
