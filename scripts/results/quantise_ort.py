"""Quantises a model folder by ONNX Runtime's own tools, to compare with: quantise_ort.py FOLDER OUT {q4|q8}

q4 is MatMulNBitsQuantizer with blocks of 32 and zero points, q8 is quantize_dynamic, both with their defaults otherwise.
"""
import os
import shutil
import sys

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

folder, out, form = sys.argv[1:4]
source, target = os.path.join(folder, "onnx/model.onnx"), os.path.join(out, "onnx/model.onnx")
os.makedirs(os.path.dirname(target), exist_ok=True)
for name in os.listdir(folder):
    if name.endswith(".json"):
        shutil.copy(os.path.join(folder, name), os.path.join(out, name))
if form == "q4":
    quantizer = MatMulNBitsQuantizer(onnx.load(source), block_size=32, is_symmetric=False)
    quantizer.process()
    quantizer.model.save_model_to_file(target, use_external_data_format=False)
else:
    quantize_dynamic(source, target, weight_type=QuantType.QUInt8)
print(f"{form}: {os.path.getsize(target)} bytes")
