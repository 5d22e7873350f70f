"""Prunes a model with onnxsim, to compare with: `python scripts/research/onnxsim-prune.py MODEL_FOLDER OUT_FOLDER [SPARSITY]`.

Needs `pip install onnxsim==0.8.1`. Writes a folder with the same files, whose model went through `apply_structured_pruning`, and prints
its parameters. `npm run sizes` measures such a folder as any other model.
"""

import math
import shutil
import sys
from pathlib import Path

import onnx
import onnxsim


def parameters(model: onnx.ModelProto) -> int:
    return sum(math.prod(weight.dims) for weight in model.graph.initializer)


def main(source: Path, target: Path, sparsity: float) -> None:
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.onnx", "*.onnx_data"))
    [file] = source.glob("**/*.onnx")
    dense = onnx.load(file)
    before = parameters(dense)
    pruned = onnxsim.apply_structured_pruning(dense, sparsity=sparsity)
    out = target / file.relative_to(source)
    out.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(pruned, out, save_as_external_data=True, location=f"{file.name}_data")
    print(f"{before} parameters, {parameters(pruned)} after pruning {sparsity:.0%}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]) if len(sys.argv) > 3 else 0.3)
