"""Compares the REAP scores of tiny-moe with those of llm-compressor's `REAPSaliencyTracker`.

    npx tsx scripts/research/expert-reap.ts examples/models/tiny-moe --calibration train.txt --experts 12 --out reap.json
    python scripts/research/expert-reap.py examples/models/tiny-moe/onnx/model.onnx reap.json

The model is computed in PyTorch in float32 (train-tiny-moe.py), with the weights of the ONNX file. Needs torch, onnx and llmcompressor 0.14.
"""

import argparse
import importlib.util
import json
import pathlib

import onnx
import torch
import torch.nn.functional as F
from llmcompressor.modifiers.pruning.reap.utils import REAPSaliencyTracker

place = pathlib.Path(__file__).with_name("train-tiny-moe.py")
spec = importlib.util.spec_from_file_location("train_tiny_moe", place)
tiny = importlib.util.module_from_spec(spec)
spec.loader.exec_module(tiny)


def read_weights(path):
    model = tiny.TinyMoe()
    found = {t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in onnx.load(path).graph.initializer}
    weights = {name: values.float() for name, values in found.items() if values.is_floating_point()}

    def put(parameter, values):
        assert parameter.shape == values.shape, (parameter.shape, values.shape)
        parameter.data.copy_(values)

    # The file's angles are in half precision.
    tiny.rotary = lambda positions: (weights["cos_cache"], weights["sin_cache"])
    put(model.embed, weights["embed_tokens.weight"])
    put(model.norm, weights["norm.weight"])
    for at, block in enumerate(model.blocks):
        of = lambda name: weights[f"layers.{at}.{name}"]  # noqa: E731
        put(block.norm1, of("input_layernorm.weight"))
        put(block.norm2, of("post_attention_layernorm.weight"))
        put(block.qkv, of("attn.qkv_proj.weight").T)
        put(block.out, of("attn.o_proj.weight").T)
        put(block.router, of("moe.router.weight").T)
        # Gate and up lie side by side, channel by channel.
        first = of("moe.fc1.weight")
        put(block.first, torch.cat([first[:, 0::2], first[:, 1::2]], dim=1))
        put(block.second, of("moe.fc2.weight"))
        put(block.shared_first, torch.cat([of("shared_expert.gate_proj.weight").T, of("shared_expert.up_proj.weight").T]))
        put(block.shared_second, of("shared_expert.down_proj.weight").T)
    return model.eval()


def track(block, tracker):
    """Has a block's mixture tell its tracker what it does."""
    mix = block.mix

    def watched(x):
        best, chosen = (x @ block.router.T).topk(tiny.CHOSEN, dim=-1)
        norms = {}
        for expert in range(tiny.EXPERTS):
            # In the order of the slots, as llm-compressor's experts get their tokens.
            _, tokens = torch.where(chosen.T == expert)
            gate, up = (x[tokens] @ block.first[expert].T).chunk(2, dim=-1)
            norms[expert] = ((F.silu(gate) * up) @ block.second[expert].T).norm(dim=-1)
        tracker.update(chosen, best.softmax(dim=-1), norms)
        return mix(x)

    block.mix = watched


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("scores")
    asked = parser.parse_args()
    ours = json.loads(pathlib.Path(asked.scores).read_text())
    torch.set_num_threads(1)
    model = read_weights(asked.model)
    trackers = [REAPSaliencyTracker(tiny.EXPERTS) for _ in model.blocks]
    for block, tracker in zip(model.blocks, trackers):
        track(block, tracker)
    with torch.no_grad():
        for window in ours["windows"]:
            model(torch.tensor([window]))
    same = True
    for tracker, mixture in zip(trackers, ours["mixtures"]):
        reference = tracker.mean_saliency
        found = torch.tensor(mixture["scores"], dtype=torch.float64)
        error = ((found - reference).abs() / reference).max().item()
        kept = tracker.compute_retained_experts(len(mixture["removed"]), None, None).tolist()
        removed = sorted(set(range(tiny.EXPERTS)) - set(kept))
        same = same and removed == sorted(mixture["removed"])
        print(f"block {mixture['block']}: scores differ by {error:.1e} at most, removed {removed} and {sorted(mixture['removed'])}")
    print("the same experts are removed" if same else "other experts are removed")


if __name__ == "__main__":
    main()
